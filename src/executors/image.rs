//! Images: what a stage says about one, what tools tell of it, and what their complaints mean.
//!
//! Facts: the grammar of names and tags in the OCI distribution specification 1.1; buildah-push(1), buildah-inspect(1).

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::LazyLock;

use regex::Regex;
use serde::Deserialize;
use serde_json::Value;

use super::class::{Class, Failure};
use super::shell::is_below;
use super::step::Step;

/// So many tags can be pushed at once: each is a job with a name of its own.
pub(super) const TAGS_MAX: usize = 12;
/// A tag.
static TAG: LazyLock<Option<Regex>> = LazyLock::new(|| Regex::new(r"^[A-Za-z0-9_][A-Za-z0-9._-]{0,127}$").ok());
/// A name without a host: parts of small letters and digits.
static NAME: LazyLock<Option<Regex>> = LazyLock::new(|| {
    let part = r"[a-z0-9]+(?:(?:\.|_|__|-+)[a-z0-9]+)*";
    Regex::new(&format!("^{part}(?:/{part})*$")).ok()
});
/// Variables of the tools themselves; a build argument of such a name would change how they work.
const OWN: &[&str] = &["PATH", "HOME", "TMPDIR", "LC_ALL"];
const OWN_BEGIN: &[&str] =
    &["LD_", "DOCKER_", "BUILDAH_", "STORAGE_", "CONTAINERS_", "REGISTRY_", "XDG_", "MASTERCHIEF_"];

/// What a stage says.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Written {
    build: Option<String>,
    file: Option<String>,
    #[serde(default)]
    args: BTreeMap<String, Value>,
    image: Option<String>,
    #[serde(default)]
    tags: Vec<Value>,
    registry: Option<String>,
    push: Option<Push>,
}

#[derive(Debug, Deserialize)]
#[serde(untagged)]
enum Push {
    Whether(bool),
    Of(String),
}

/// The same, read.
#[derive(Debug)]
pub(super) struct Order {
    /// The folder to build in, below the workspace.
    pub(super) build: Option<String>,
    file: Option<String>,
    /// Build arguments.
    pub(super) args: BTreeMap<String, String>,
    /// A name without a host and a tag.
    pub(super) image: Option<String>,
    tags: Vec<String>,
    /// The registry, by its name in the configuration.
    pub(super) registry: Option<String>,
    push: Option<Push>,
}

/// Reads what a stage says: the key of a fault and a sentence.
pub(super) fn read(settings: &Value) -> Result<Order, (&'static str, String)> {
    let Written { build, file, args, image, tags, registry, push } =
        serde_json::from_value(settings.clone()).map_err(|fault| {
            ("", format!("{fault}; write a map with build or push, and image, tags, registry, file, args"))
        })?;
    let plain = |value: Value| match value {
        Value::String(text) => Some(text),
        Value::Number(_) | Value::Bool(_) => Some(value.to_string()),
        _ => None,
    };
    let tags: Option<Vec<String>> = tags.into_iter().map(plain).collect();
    let tags = tags.ok_or_else(|| ("tags", "a tag is a word or a number".to_owned()))?;
    let args: Option<BTreeMap<String, String>> =
        args.into_iter().map(|(name, value)| Some((name, plain(value)?))).collect();
    let args = args.ok_or_else(|| ("args", "an argument is a text or a number".to_owned()))?;
    let order = Order { build, file, args, image, tags, registry, push };
    order.check().map_or(Ok(order), Err)
}

impl Order {
    /// What can be told before texts in braces are filled in.
    fn check(&self) -> Option<(&'static str, String)> {
        let known = |text: &&String| !text.contains('{');
        if self.build.is_none() && self.push_of().is_none() {
            return Some(("", "say what to build (build: .) or what to push (push: NAME)".to_owned()));
        }
        if self.build.is_some() && self.push_of().is_some_and(|of| Some(of) != self.image.as_deref()) {
            return Some((
                "push",
                "beside build, write push: true; another image is pushed in a stage of its own".to_owned(),
            ));
        }
        if self.build.is_some() && self.image.is_none() {
            return Some(("image", "name the image that is built".to_owned()));
        }
        if self.pushes() && self.registry.is_none() {
            return Some(("registry", "say where to push, one of executors.registries".to_owned()));
        }
        let paths = [("build", &self.build), ("file", &self.file)];
        if let Some((key, path)) = paths
            .into_iter()
            .find_map(|(key, path)| path.as_ref().filter(known).filter(|path| !is_below(path)).map(|path| (key, path)))
        {
            return Some((key, format!("{path:?} leaves the workspace; name a path in it, without ..")));
        }
        if let Some(name) = self.image.as_ref().filter(known).filter(|name| !fits(&NAME, name)) {
            return Some((
                "image",
                format!("{name:?} is no name of an image; write it in small letters, without host and tag"),
            ));
        }
        if let Some(tag) = self.tags.iter().filter(known).find(|tag| !fits(&TAG, tag)) {
            return Some(("tags", format!("{tag:?} is no tag; write letters, digits, dots, _ and -, at most 128")));
        }
        if self.tags.len() > TAGS_MAX {
            return Some(("tags", format!("more than {TAGS_MAX} tags; push some of them in another stage")));
        }
        let own =
            |name: &&String| OWN.contains(&name.as_str()) || OWN_BEGIN.iter().any(|begin| name.starts_with(begin));
        let word = |name: &String| name.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_') && !name.is_empty();
        if let Some(name) = self.args.keys().find(|name| own(name) || !word(name)) {
            return Some(("args", format!("{name:?} cannot be a build argument; call it otherwise")));
        }
        if self.push_of().is_some_and(|of| of.is_empty() || of.starts_with('-') || of.contains(char::is_whitespace)) {
            return Some(("push", "name the image to push, NAME:TAG or its id".to_owned()));
        }
        None
    }

    /// The same for what is in no braces any more.
    pub(super) fn known(&self) -> Result<(), Failure> {
        let braces = self.tags.iter().chain(&self.image).chain(&self.build).chain(&self.file);
        match braces.into_iter().find(|text| text.contains('{')) {
            Some(text) => Err(Failure::new(Class::Config, format!("docker: nothing was put in for {text}"))),
            None => Ok(()),
        }
    }

    /// The tags; the number of the run where none is written.
    pub(super) fn tags(&self, run: u64) -> Vec<String> {
        let mut tags = if self.tags.is_empty() { vec![run.to_string()] } else { self.tags.clone() };
        let mut seen = std::collections::HashSet::new();
        tags.retain(|tag| seen.insert(tag.clone()));
        tags
    }

    /// The image that is to be pushed, if it is named.
    pub(super) fn push_of(&self) -> Option<&str> {
        match &self.push {
            Some(Push::Of(name)) => Some(name),
            _ => None,
        }
    }

    /// Whether something is pushed.
    pub(super) fn pushes(&self) -> bool {
        matches!(self.push, Some(Push::Of(_) | Push::Whether(true)))
    }

    /// The folder to build in and its Dockerfile, both in the workspace and there.
    pub(super) fn sources(&self, step: &Step) -> Result<(PathBuf, PathBuf), Failure> {
        let config = |line: String| Failure::new(Class::Config, format!("docker: {line}"));
        let build = self.build.as_deref().unwrap_or(".");
        let inside = |path: &Path| {
            let (real, root) = (path.canonicalize().ok()?, step.workspace.canonicalize().ok()?);
            real.starts_with(root).then_some(real)
        };
        let context = inside(&step.workspace.join(build)).filter(|path| path.is_dir());
        let context = context
            .ok_or_else(|| config(format!("build: there is no folder {build} in the workspace; check it out first")))?;
        let names = match &self.file {
            Some(file) => vec![file.as_str()],
            None => vec!["Dockerfile", "Containerfile"],
        };
        let file = names.iter().find_map(|name| inside(&context.join(name)).filter(|path| path.is_file()));
        let file = file.ok_or_else(|| {
            config(format!("there is no {} in {build}; write one, or name it with file", names.join(" and no ")))
        })?;
        Ok((context, file))
    }
}

fn fits(grammar: &LazyLock<Option<Regex>>, text: &str) -> bool {
    text.len() <= 255 && grammar.as_ref().is_some_and(|grammar| grammar.is_match(text))
}

/// The name of an image without host, tag and digest; `None` for a bare id.
pub(super) fn base_name(source: &str, address: Option<&str>) -> Option<String> {
    let id = source.strip_prefix("sha256:").unwrap_or(source);
    if id.len() >= 12 && id.bytes().all(|byte| byte.is_ascii_hexdigit()) {
        return None;
    }
    let name = source.split('@').next().unwrap_or(source);
    let name = match name.rsplit_once(':') {
        Some((name, tag)) if !tag.contains('/') => name,
        _ => name,
    };
    if let Some(rest) = address.and_then(|address| name.strip_prefix(address)?.strip_prefix('/')) {
        return fits(&NAME, rest).then(|| rest.to_owned());
    }
    let rest = match name.split_once('/') {
        Some((host, rest)) if host == "localhost" || host.contains(['.', ':']) => rest,
        _ => name,
    };
    fits(&NAME, rest).then(|| rest.to_owned())
}

/// The host in the name of an image, if it has one.
pub(super) fn host(source: &str) -> Option<&str> {
    let (host, _) = source.split_once('/')?;
    (host != "localhost" && host.contains(['.', ':'])).then_some(host)
}

/// What is known of an image.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Image {
    /// `sha256:...` of its configuration.
    pub(super) id: String,
    /// Bytes of its layers, unpacked, as they lie here.
    pub(super) size: u64,
}

impl Image {
    /// Reads `ID SIZE` of docker, or `ID MANIFEST` of buildah.
    pub(super) fn read(said: &str) -> Option<Image> {
        let (id, rest) = said.trim().split_once(' ')?;
        let id = if id.starts_with("sha256:") { id.to_owned() } else { format!("sha256:{id}") };
        let size = match serde_json::from_str::<Value>(rest.trim()).ok()? {
            Value::Number(size) => size.as_u64()?,
            manifest => {
                let of = |part: &Value| part.get("size").and_then(Value::as_u64).unwrap_or(0);
                let layers = manifest.get("layers")?.as_array()?.iter().map(of);
                layers.fold(manifest.get("config").map_or(0, of), u64::saturating_add)
            }
        };
        Some(Image { id, size })
    }
}

/// A size for people: `4.2 MiB`.
pub(super) fn bytes(size: u64) -> String {
    #[expect(clippy::cast_precision_loss, reason = "one digit behind the point is shown")]
    let mut value = size as f64;
    for unit in ["bytes", "KiB", "MiB", "GiB"] {
        if value < 1024.0 {
            return if unit == "bytes" { format!("{size} {unit}") } else { format!("{value:.1} {unit}") };
        }
        value /= 1024.0;
    }
    format!("{value:.1} TiB")
}

/// What a complaint of buildah or docker means, if it is a known one.
pub(super) fn refused(text: &str, registry: &str) -> Option<Failure> {
    const SIGNS: &[(Class, &[&str], &str)] = &[
        (
            Class::Auth,
            &[
                "unauthorized",
                "authentication required",
                "authorization failed",
                "invalid username/password",
                "no basic auth credentials",
                "requested access to the resource is denied",
            ],
            "lets us not in; see its user and password in executors.registries",
        ),
        (Class::Quota, &["toomanyrequests", "429 Too Many Requests"], "has had too many requests; try again later"),
        (
            Class::Config,
            &["server gave HTTP response to HTTPS client"],
            "speaks HTTP and no TLS; write insecure: true for it in executors.registries",
        ),
        (
            Class::Network,
            &["x509:", "certificate signed by unknown"],
            "shows no certificate that is trusted; see its certificate and ours",
        ),
        (
            Class::Network,
            &["no such host", "server misbehaving"],
            "is at a host that nobody knows; see the name and the DNS",
        ),
        (
            Class::Network,
            &[
                "connection refused",
                "i/o timeout",
                "no route to host",
                "network is unreachable",
                "connection reset",
                "TLS handshake timeout",
                "unexpected EOF",
            ],
            "cannot be reached; see whether it is up",
        ),
        (Class::DiskFull, &["no space left on device"], ""),
        (Class::Config, &["Cannot connect to the Docker daemon"], ""),
    ];
    let (class, sign, sentence) = SIGNS.iter().find_map(|(class, signs, sentence)| {
        signs.iter().find(|sign| text.contains(*sign)).map(|sign| (*class, *sign, *sentence))
    })?;
    let line = match (class, sentence) {
        (Class::DiskFull, _) => "the image does not fit on this disk; make room".to_owned(),
        (_, "") => format!("docker does not work here ({sign}); start its daemon, or install buildah"),
        _ => format!("the registry {registry} {sentence}"),
    };
    Some(Failure::new(class, line))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn what_can_never_be_built_or_pushed_is_refused_with_its_key() {
        let key = |settings: Value| read(&settings).err().map(|(key, _)| key);
        assert_eq!(
            key(json!({"build": ".", "image": "team/shop", "tags": [7, "latest", "{environment}-latest"]})),
            None
        );
        assert_eq!(key(json!({"push": "{build.image}", "tags": ["a"], "registry": "hub"})), None);
        assert_eq!(key(json!({"image": "shop"})), Some(""));
        assert_eq!(key(json!("shop")), Some(""));
        assert_eq!(key(json!({"build": "."})), Some("image"));
        assert_eq!(key(json!({"build": "..", "image": "shop"})), Some("build"));
        assert_eq!(key(json!({"build": ".", "file": "/etc/passwd", "image": "shop"})), Some("file"));
        assert_eq!(key(json!({"build": ".", "image": "Shop"})), Some("image"));
        assert_eq!(key(json!({"build": ".", "image": "shop", "tags": ["a b"]})), Some("tags"));
        assert_eq!(key(json!({"build": ".", "image": "shop", "tags": ["-x"]})), Some("tags"));
        assert_eq!(key(json!({"build": ".", "image": "shop", "tags": [{"a": 1}]})), Some("tags"));
        assert_eq!(key(json!({"build": ".", "image": "shop", "args": {"PATH": "/tmp"}})), Some("args"));
        assert_eq!(key(json!({"build": ".", "image": "shop", "args": {"A B": "1"}})), Some("args"));
        assert_eq!(key(json!({"build": ".", "image": "shop", "push": true})), Some("registry"));
        assert_eq!(key(json!({"push": "--all", "registry": "hub"})), Some("push"));
    }

    #[test]
    fn the_name_of_an_image_is_what_is_between_its_host_and_its_tag() {
        let name = |source: &str| base_name(source, Some("hub.example:5000/team"));
        assert_eq!(name("hub.example:5000/team/shop:7").as_deref(), Some("shop"));
        assert_eq!(name("other.example/x/shop@sha256:00").as_deref(), Some("x/shop"));
        assert_eq!(name("localhost:5000/shop").as_deref(), Some("shop"));
        assert_eq!(name("team/shop:7").as_deref(), Some("team/shop"));
        assert_eq!(
            (host("hub.example:5000/team/shop"), host("team/shop"), host("localhost/shop")),
            (Some("hub.example:5000"), None, None)
        );
        assert_eq!((name("cfa75e579ce1"), name("sha256:cfa75e579ce1ce12"), name("A B")), (None, None, None));
    }

    #[test]
    fn size_and_id_are_read_from_both_tools_and_nonsense_is_none() {
        let manifest = r#"cfa7 {"schemaVersion":2,"config":{"size":494},"layers":[{"size":2048},{"size":null},{}]}"#;
        assert_eq!(Image::read(manifest), Some(Image { id: "sha256:cfa7".to_owned(), size: 2542 }));
        assert_eq!(Image::read("sha256:cfa7 1234\n"), Some(Image { id: "sha256:cfa7".to_owned(), size: 1234 }));
        assert_eq!(
            (Image::read(""), Image::read("x y"), Image::read("x {}"), Image::read("x -1")),
            (None, None, None, None)
        );
        assert_eq!((bytes(100), bytes(4_404_019)), ("100 bytes".to_owned(), "4.2 MiB".to_owned()));
    }

    #[test]
    fn complaints_have_a_class_and_a_sentence() {
        let class = |text: &str| refused(text, "hub").map(|failure| failure.class);
        assert_eq!(class("Error: writing blob: unauthorized: authentication required"), Some(Class::Auth));
        assert_eq!(class("dial tcp 127.0.0.1:1: connect: connection refused"), Some(Class::Network));
        assert_eq!(class("http: server gave HTTP response to HTTPS client"), Some(Class::Config));
        assert_eq!(class("Cannot connect to the Docker daemon at unix:///var/run/docker.sock"), Some(Class::Config));
        assert_eq!(class("make: *** [all] Error 1"), None);
    }
}
