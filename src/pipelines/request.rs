//! What somebody asks for, in words or in a map, and whether it fits.

use std::collections::BTreeMap;

use masterchief_contract::Secret;
use serde_json::{Map, Value};

use super::model::{Param, Takes};
use super::words;

/// What `!deploy` was told: `app[/ref] [to env] [--skip stage] [name=value...]`.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct DeployWords {
    /// The app.
    pub app: String,
    /// The branch, tag or commit.
    pub reference: Option<String>,
    /// The environment.
    pub environment: Option<String>,
    /// Parameters as they were typed.
    pub params: Vec<(String, String)>,
    /// Stages to leave out.
    pub skip: Vec<String>,
    /// Only these stages.
    pub only: Vec<String>,
    /// What is left, for `!deploy!` the reason.
    pub rest: String,
}

impl DeployWords {
    /// Reads the words after `!deploy`. With `reason` all after the place is the reason.
    pub fn parse(text: &str, reason: bool) -> Result<DeployWords, String> {
        let mut words = text.split_whitespace().peekable();
        let first = words.next().ok_or_else(words::how_to_deploy)?;
        let (app, reference) = match first.split_once('/') {
            Some((app, reference)) => (app, Some(reference.to_owned())),
            None => (first, None),
        };
        if app.is_empty() || reference.as_deref() == Some("") {
            return Err(words::how_to_deploy());
        }
        let mut out = DeployWords { app: app.to_owned(), reference, ..DeployWords::default() };
        if words.peek().is_some_and(|word| matches!(*word, "to" | "in" | "on")) {
            words.next();
            out.environment = Some(words.next().ok_or_else(words::how_to_deploy)?.to_owned());
        }
        let mut rest: Vec<&str> = Vec::new();
        while let Some(word) = words.next() {
            let list =
                |text: &str| text.split(',').filter(|name| !name.is_empty()).map(str::to_owned).collect::<Vec<_>>();
            match word {
                "--skip" => out.skip.extend(list(words.next().ok_or_else(|| words::names_a_stage(word))?)),
                "--only" => out.only.extend(list(words.next().ok_or_else(|| words::names_a_stage(word))?)),
                _ if rest.is_empty() && word.split_once('=').is_some_and(|(name, _)| !name.is_empty()) => {
                    let (name, value) = word.split_once('=').unwrap_or_default();
                    out.params.push((name.to_owned(), value.to_owned()));
                }
                _ => rest.push(word),
            }
        }
        out.rest = rest.join(" ");
        if !reason && !out.rest.is_empty() {
            return Err(words::not_understood(out.rest, words::how_to_deploy()));
        }
        Ok(out)
    }
}

/// What stands where a secret was given.
pub(super) const SEALED: &str = "***";

/// Takes what is secret out of parameters; that it was given stands in its place.
pub(super) fn sealed(all: &[Param], params: &mut Map<String, Value>) -> BTreeMap<String, Secret> {
    let mut given = BTreeMap::new();
    for param in all.iter().filter(|param| param.secret) {
        let Some(value) = params.get_mut(&param.name) else { continue };
        if let Value::String(text) = std::mem::replace(value, SEALED.into()) {
            given.insert(param.name.clone(), Secret::new(text));
        }
    }
    given
}

/// Whether a value fits a parameter; what is wrong otherwise.
pub(super) fn fits(param: &Param, value: &Value) -> Result<(), String> {
    let text = |value: &Value| value.as_str().map(str::to_owned).ok_or_else(|| words::is_a_text(&param.name));
    match &param.takes {
        Takes::Choice(of) => {
            let text = text(value)?;
            if of.contains(&text) { Ok(()) } else { Err(words::is_one_of(&param.name, of.join(", "), text)) }
        }
        Takes::Text(form) => {
            let text = text(value)?;
            let meets = |form: &String| regex::Regex::new(form).is_ok_and(|form| form.is_match(&text));
            if form.as_ref().is_none_or(meets) && !text.contains(char::is_control) {
                return Ok(());
            }
            let text = if param.secret { SEALED } else { text.as_str() };
            Err(words::looks_like(&param.name, form.clone().unwrap_or_else(words::one_line), text))
        }
        Takes::Ref => {
            let text = text(value)?;
            let bad = |c: char| c.is_whitespace() || c.is_control() || "~^:?*[\\".contains(c);
            if text.is_empty()
                || text.starts_with('-')
                || text.contains("..")
                || text.chars().any(bad)
                || text.len() > 200
            {
                return Err(words::no_reference(text));
            }
            Ok(())
        }
        Takes::Bool if value.is_boolean() => Ok(()),
        Takes::Int if value.is_i64() => Ok(()),
        Takes::Number if value.is_number() => Ok(()),
        Takes::Bool => Err(words::is_true_or_false(&param.name)),
        Takes::Int => Err(words::is_a_whole_number(&param.name)),
        Takes::Number => Err(words::is_a_number(&param.name)),
    }
}

/// A value as it was typed, as the parameter wants it.
pub fn typed(param: &Param, text: &str) -> Value {
    match param.takes {
        Takes::Bool => match text {
            "yes" | "true" | "on" | "1" => Value::Bool(true),
            "no" | "false" | "off" | "0" => Value::Bool(false),
            _ => Value::from(text),
        },
        Takes::Int | Takes::Number => {
            let read = serde_json::from_str::<Value>(text).ok().filter(Value::is_number);
            read.unwrap_or_else(|| Value::from(text))
        }
        _ => Value::from(text),
    }
}

/// All parameters of a run: what was given, and defaults for the rest. Names that nobody knows are refused.
pub(super) fn settle(params: &[Param], given: &Map<String, Value>) -> Result<Map<String, Value>, String> {
    let mut out = Map::new();
    for name in given.keys() {
        if params.iter().all(|param| param.name != *name) && name != "environment" && name != "ref" {
            let close = masterchief_contract::closest(name, params.iter().map(|param| param.name.as_str()));
            let hint = match close {
                Some(close) => words::may_mean(close),
                None => {
                    words::params_are(params.iter().map(|param| param.name.as_str()).collect::<Vec<_>>().join(", "))
                }
            };
            return Err(words::no_parameter(name, hint));
        }
    }
    for param in params {
        // What is asked for again does not know what was secret then.
        let sealed = |value: &&Value| param.secret && **value == SEALED;
        let value = given.get(&param.name).filter(|value| !sealed(value)).or(param.default.as_ref());
        match value {
            Some(value) => {
                fits(param, value)?;
                out.insert(param.name.clone(), value.clone());
            }
            None if param.optional || param.name == "environment" || param.name == "ref" => {}
            None => return Err(words::is_missing(&param.name)),
        }
    }
    for name in ["environment", "ref"] {
        if let Some(value) = given.get(name).filter(|_| !out.contains_key(name)) {
            out.insert(name.to_owned(), value.clone());
        }
    }
    Ok(out)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn the_words_of_a_deployment_are_read_in_the_order_people_type_them() {
        let words = DeployWords::parse("shop/fix-cart to prod skip_tests=yes --skip scan,lint", false).unwrap();
        assert_eq!(
            (words.app.as_str(), words.reference.as_deref(), words.environment.as_deref()),
            ("shop", Some("fix-cart"), Some("prod"))
        );
        assert_eq!(words.params, [("skip_tests".to_owned(), "yes".to_owned())]);
        assert_eq!(words.skip, ["scan", "lint"]);
        assert_eq!(DeployWords::parse("shop/feature/x", false).unwrap().reference.as_deref(), Some("feature/x"));
        assert_eq!(DeployWords::parse("shop to prod the shop is down", true).unwrap().rest, "the shop is down");
        for bad in ["", "shop to", "/x", "shop/", "shop prod", "shop to prod now please"] {
            assert!(DeployWords::parse(bad, false).is_err(), "{bad}");
        }
    }

    #[test]
    fn parameters_are_typed_checked_and_filled_up() {
        let param = |name: &str, takes| Param {
            name: name.to_owned(),
            takes,
            default: None,
            optional: false,
            needs_flag: None,
            secret: false,
        };
        let params = [
            Param {
                default: Some(json!("staging")),
                ..param("environment", Takes::Choice(vec!["staging".into(), "prod".into()]))
            },
            Param { optional: true, ..param("tag", Takes::Text(Some("^v[0-9.]+$".into()))) },
            Param { default: Some(json!(false)), ..param("skip_tests", Takes::Bool) },
            param("count", Takes::Int),
            Param { secret: true, optional: true, ..param("key", Takes::Text(Some("^k-".into()))) },
        ];
        let settle = |given: Value| settle(&params, given.as_object().unwrap());
        let all = settle(json!({"count": 3, "environment": "prod"})).unwrap();
        assert_eq!(json!(all), json!({"environment": "prod", "skip_tests": false, "count": 3}));
        assert!(settle(json!({})).unwrap_err().contains("count is missing"));
        assert!(settle(json!({"count": 3, "tag": "latest"})).unwrap_err().contains("^v[0-9.]+$"));
        assert!(settle(json!({"coumt": 3})).unwrap_err().contains("did you mean count?"));
        assert!(settle(json!({"count": 3, "environment": "pord"})).is_err());
        let mut all = settle(json!({"count": 3, "key": "k-hunter2"})).unwrap();
        let given = sealed(&params, &mut all);
        assert_eq!((&all["key"], given["key"].reveal()), (&json!(SEALED), "k-hunter2"));
        assert!(settle(json!({"count": 3, "key": SEALED})).unwrap().get("key").is_none(), "it is not known any more");
        let fault = settle(json!({"count": 3, "key": "hunter2"})).unwrap_err();
        assert!(fault.contains("^k-") && !fault.contains("hunter2"), "{fault}");
        assert_eq!(typed(&params[2], "yes"), json!(true));
        for bad in ["-x", "a b", "a..b", "x^", ""] {
            assert!(fits(&param("ref", Takes::Ref), &json!(bad)).is_err(), "{bad}");
        }
    }
}
