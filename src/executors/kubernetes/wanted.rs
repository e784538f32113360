//! What a stage says under `kubernetes`: read strictly, and refused with the path of the key.

use std::collections::BTreeMap;
use std::time::Duration;

use serde::Deserialize;
use serde_json::Value;

/// The longest name of an object (RFC 1123 subdomain).
const NAME_MAX: usize = 253;
/// The longest reference of an image we pass on.
const IMAGE_MAX: usize = 1024;

/// The settings of a stage, checked.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Wanted {
    /// The name of a cluster among `executors.kubernetes`.
    pub(super) context: String,
    /// The deployment.
    pub(super) deployment: String,
    /// The image of its one container, or of `container`.
    #[serde(default)]
    image: Option<String>,
    /// Images by container, also of init containers.
    #[serde(default)]
    images: BTreeMap<String, String>,
    /// Which container gets `image`.
    #[serde(default)]
    container: Option<String>,
    /// Where the deployment is; the cluster's namespace where it is left out.
    #[serde(default)]
    pub(super) namespace: Option<String>,
    /// How long a rollout may make no progress; what the deployment says where it is left out.
    #[serde(default)]
    progress_deadline: Option<String>,
    /// How many percent of the pods `DEPLOYMENT-canary` gets.
    #[serde(default)]
    weight: Option<Value>,
    /// Goes back instead: `true` for the revision before, or the number of one.
    #[serde(default)]
    undo: Option<Value>,
}

/// Which way a stage goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Way {
    /// To new images.
    Forth,
    /// Back, to the revision before or to this one.
    Back(Option<u64>),
}

/// A fault: the path of the key, and a sentence.
pub(super) type Refusal = (String, String);

fn refuse<T>(key: &str, sentence: impl Into<String>) -> Result<T, Refusal> {
    Err((key.to_owned(), sentence.into()))
}

impl Wanted {
    /// Reads settings whose braces are all filled in.
    pub(super) fn read(settings: &Value) -> Result<Wanted, Refusal> {
        let wanted = Wanted::parse(settings)?;
        wanted.faults().into_iter().next().map_or(Ok(wanted), Err)
    }

    /// All that is wrong with settings that may still hold braces.
    pub(super) fn check(settings: &Value) -> Vec<Refusal> {
        if settings == "undo" {
            return Vec::new();
        }
        match Wanted::parse(settings) {
            Err(refusal) => vec![refusal],
            Ok(wanted) => {
                let known = |key: &str| {
                    let open = |value: &Value| value.as_str().is_some_and(|text| text.contains('{'));
                    settings.pointer(&format!("/{}", key.replace('.', "/"))).is_some_and(open)
                };
                wanted.faults().into_iter().filter(|(key, _)| !known(key)).collect()
            }
        }
    }

    fn parse(settings: &Value) -> Result<Wanted, Refusal> {
        if !settings.is_object() {
            return refuse("", "write a map with context, deployment and image");
        }
        serde_json::from_value(settings.clone()).or_else(|fault| refuse("", fault.to_string()))
    }

    fn faults(&self) -> Vec<Refusal> {
        let mut checks = vec![
            name("deployment", &self.deployment),
            self.namespace.as_deref().map_or(Ok(()), |text| name("namespace", text)),
            self.container.as_deref().map_or(Ok(()), |text| name("container", text)),
            self.image.as_deref().map_or(Ok(()), |text| image("image", text)),
            self.weight().map(drop),
            self.deadline().map(drop),
            self.way().map(drop),
        ];
        if self.context.is_empty() {
            checks.push(refuse("context", "name a cluster of executors.kubernetes"));
        }
        if self.image.is_some() != self.images.is_empty() && self.way() == Ok(Way::Forth) {
            checks.push(refuse("image", "write either image, or images with one for each container"));
        }
        checks.extend(self.images.iter().map(|(container, text)| image(&format!("images.{container}"), text)));
        checks.into_iter().filter_map(Result::err).collect()
    }

    /// Which way it goes.
    pub(super) fn way(&self) -> Result<Way, Refusal> {
        match &self.undo {
            None | Some(Value::Null | Value::Bool(false)) => Ok(Way::Forth),
            Some(Value::Bool(true)) => Ok(Way::Back(None)),
            Some(value) => match number(value).filter(|number| *number > 0) {
                Some(number) => Ok(Way::Back(Some(number))),
                None => refuse("undo", "write true, or the number of a revision"),
            },
        }
    }

    /// How many percent a canary gets.
    pub(super) fn weight(&self) -> Result<Option<u64>, Refusal> {
        let Some(value) = &self.weight else { return Ok(None) };
        match number(value).filter(|number| *number <= 100) {
            Some(number) => Ok(Some(number)),
            None => refuse("weight", "write a number of percent from 0 to 100"),
        }
    }

    /// The progress deadline in seconds.
    pub(super) fn deadline(&self) -> Result<Option<u64>, Refusal> {
        let Some(text) = &self.progress_deadline else { return Ok(None) };
        let read = humantime_serde::deserialize::<Duration, _>(Value::from(text.as_str()));
        match read.ok().filter(|time| (1..=86_400).contains(&time.as_secs())) {
            Some(time) => Ok(Some(time.as_secs())),
            None => refuse("progress_deadline", "write a time from 1s to 24h, such as 3m"),
        }
    }

    /// The deployment that is changed: a canary's where there is a weight.
    pub(super) fn target(&self) -> String {
        let canary = if self.weight.is_some() { "-canary" } else { "" };
        format!("{}{canary}", self.deployment)
    }

    /// The image for each container of these, in their order. `plain` are the containers, `init` those that run before.
    pub(super) fn images(&self, plain: &[String], init: &[String]) -> Result<Vec<(String, String)>, Refusal> {
        let listed = plain.join(", ");
        if let Some(image) = &self.image {
            let container = match (&self.container, plain) {
                (Some(name), _) if plain.contains(name) => name,
                (Some(name), _) => {
                    return refuse("container", format!("there is no container {name}; there are {listed}"));
                }
                (None, [only]) => only,
                (None, _) => return refuse("container", format!("say which container gets the image: {listed}")),
            };
            return Ok(vec![(container.clone(), image.clone())]);
        }
        let missing = self.images.keys().find(|name| !plain.contains(name) && !init.contains(name));
        match missing {
            Some(name) => refuse("images", format!("there is no container {name}; there are {listed}")),
            None => Ok(self.images.clone().into_iter().collect()),
        }
    }
}

fn number(value: &Value) -> Option<u64> {
    value.as_u64().or_else(|| value.as_str()?.trim().parse().ok())
}

/// A name as Kubernetes has them; nothing else may come near an argument.
fn name(key: &str, text: &str) -> Result<(), Refusal> {
    let inner = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || b"-.".contains(&byte);
    let ends = !text.starts_with(['-', '.']) && !text.ends_with(['-', '.']);
    if !text.is_empty() && text.len() <= NAME_MAX && text.bytes().all(inner) && ends {
        return Ok(());
    }
    refuse(key, format!("{text:?} is no name in Kubernetes; use lower-case letters, digits and -"))
}

fn image(key: &str, text: &str) -> Result<(), Refusal> {
    if !text.is_empty() && text.len() <= IMAGE_MAX && text.bytes().all(|byte| byte.is_ascii_graphic()) {
        return Ok(());
    }
    refuse(key, format!("{text:?} is no image; write registry/name:tag"))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn faults(settings: Value) -> Vec<String> {
        Wanted::check(&settings).into_iter().map(|(key, fault)| format!("{key}: {fault}")).collect()
    }

    #[test]
    fn what_can_never_work_is_refused_with_its_key_and_braces_are_waited_for() {
        let good = json!({"context": "{environment}", "deployment": "shop", "image": "{build.image}", "weight": "{n}"});
        assert_eq!(faults(good), Vec::<String>::new());
        assert_eq!(faults(json!("undo")), Vec::<String>::new());
        let bad = |key: &str, value: Value| {
            let mut settings = json!({"context": "prod", "deployment": "shop", "image": "shop:7"});
            settings[key] = value;
            faults(settings).join("\n")
        };
        assert!(bad("deployment", json!("--all")).starts_with("deployment: "));
        assert!(bad("namespace", json!("a b")).starts_with("namespace: "));
        assert!(bad("image", json!("shop: 7")).starts_with("image: "));
        assert!(bad("weight", json!(101)).starts_with("weight: "));
        assert!(bad("progress_deadline", json!("soon")).starts_with("progress_deadline: "));
        assert!(bad("undo", json!("yes")).starts_with("undo: "));
        assert!(bad("images", json!({"shop": "shop:8"})).contains("either image"));
        assert!(bad("replicas", json!(3)).contains("unknown field"));
        assert!(faults(json!({"context": "prod", "deployment": "shop"}))[0].contains("either image"));
        assert!(faults(json!(["shop"]))[0].contains("write a map"));
    }

    #[test]
    fn an_image_finds_its_container_or_says_which_there_are() {
        let read = |more: Value| {
            let mut settings = json!({"context": "prod", "deployment": "shop"});
            settings.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
            Wanted::read(&settings).unwrap()
        };
        let (one, two) = (["shop".to_owned()], ["shop".to_owned(), "proxy".to_owned()]);
        let image = |name: &str| Ok(vec![(name.to_owned(), "shop:7".to_owned())]);
        assert_eq!(read(json!({"image": "shop:7"})).images(&one, &[]), image("shop"));
        assert_eq!(read(json!({"image": "shop:7", "container": "proxy"})).images(&two, &[]), image("proxy"));
        assert_eq!(read(json!({"images": {"init": "shop:7"}})).images(&two, &["init".to_owned()]), image("init"));
        assert!(read(json!({"image": "shop:7"})).images(&two, &[]).unwrap_err().1.contains("shop, proxy"));
        assert!(read(json!({"images": {"db": "shop:7"}})).images(&two, &[]).unwrap_err().1.contains("no container db"));
    }
}
