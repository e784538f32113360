//! The parameters of a Jenkins job: what it takes is read from it before it is asked to build, and all else is refused.

use reqwest::Url;
use serde::Deserialize;
use serde_json::{Map, Value};

/// What has to be read of a job.
pub(super) const TREE: &str =
    "buildable,property[parameterDefinitions[name,type,choices,defaultParameterValue[value]]]";
/// The parameter that tells our builds from others.
pub(super) const MARKER: &str = "MC_RUN_ID";
/// The parameter with the token of a build.
pub(super) const TOKEN: &str = "MC_TOKEN";
/// So many names are shown.
const NAMES_MAX: usize = 12;

/// A parameter as a job declares it.
#[derive(Clone, Debug, PartialEq, Deserialize)]
pub(super) struct Definition {
    pub(super) name: String,
    #[serde(rename = "type", default)]
    kind: Option<String>,
    #[serde(default)]
    choices: Option<Vec<String>>,
}

impl Definition {
    /// Whether Jenkins hides what it holds (hudson.model.PasswordParameterDefinition, and the plugin Mask Passwords' own). Any other
    /// is shown to everybody who may look at the build, and is kept with it.
    pub(super) fn hides(&self) -> bool {
        matches!(self.kind.as_deref(), Some("PasswordParameterDefinition" | "NonStoredPasswordParameterDefinition"))
    }
}

/// The parameters that a job declares.
pub(super) fn definitions(job: &Value) -> Vec<Definition> {
    let properties = job["property"].as_array().map_or(&[][..], Vec::as_slice);
    let lists = properties.iter().filter_map(|property| property["parameterDefinitions"].as_array());
    lists.flatten().filter_map(|one| serde_json::from_value(one.clone()).ok()).collect()
}

/// The texts to send, in the order they are written, or a sentence that says which cannot be sent. A `null` is left
/// out, so that the default of the job counts.
pub(super) fn texts(given: &Map<String, Value>, known: &[Definition]) -> Result<Vec<(String, String)>, String> {
    let mut out = Vec::new();
    for (name, value) in given {
        let Some(definition) = known.iter().find(|one| one.name == *name) else { return Err(unknown(name, known)) };
        let text = match value {
            Value::Null => continue,
            Value::String(text) => text.clone(),
            Value::Bool(_) | Value::Number(_) => value.to_string(),
            Value::Array(_) | Value::Object(_) => return Err(format!("{name} is a list or a map; write a text")),
        };
        fits(definition, &text)?;
        out.push((name.clone(), text));
    }
    Ok(out)
}

fn fits(definition: &Definition, text: &str) -> Result<(), String> {
    let name = &definition.name;
    match definition.kind.as_deref().unwrap_or_default() {
        "BooleanParameterDefinition" if !matches!(text, "true" | "false") => {
            Err(format!("{name} is true or false, and not {}", quoted(definition, text)))
        }
        "FileParameterDefinition" => Err(format!("{name} is a file; files cannot be sent")),
        _ => match &definition.choices {
            Some(choices) if !choices.iter().any(|choice| choice == text) => {
                let names: Vec<&str> = choices.iter().map(String::as_str).collect();
                Err(format!("{name} is one of {}, and not {}", listed(&names), quoted(definition, text)))
            }
            _ => Ok(()),
        },
    }
}

/// A value in a sentence; never one that is a password.
fn quoted(definition: &Definition, text: &str) -> String {
    if definition.hides() { "***".to_owned() } else { super::client::short(&format!("{text:?}")) }
}

fn unknown(name: &str, known: &[Definition]) -> String {
    let names: Vec<&str> =
        known.iter().map(|one| one.name.as_str()).filter(|name| ![MARKER, TOKEN].contains(name)).collect();
    if names.is_empty() {
        return format!("it has no parameter {name}: it takes none");
    }
    let near = names.iter().map(|one| (distance(name, one), *one)).min().filter(|(far, _)| *far <= 2);
    let near = near.map_or(String::new(), |(_, near)| format!("; did you mean {near}?"));
    format!("it has no parameter {name}, only {}{near}", listed(&names))
}

fn listed(names: &[&str]) -> String {
    let shown: Vec<String> = names.iter().take(NAMES_MAX).map(|name| super::client::short(name)).collect();
    let more = names.len().saturating_sub(NAMES_MAX);
    if more > 0 { format!("{} and {more} more", shown.join(", ")) } else { shown.join(", ") }
}

/// How many letters have to be changed, added or left out, capitals aside.
fn distance(one: &str, other: &str) -> usize {
    let other: Vec<char> = other.to_lowercase().chars().collect();
    let mut row: Vec<usize> = (0..=other.len()).collect();
    for (at, letter) in one.to_lowercase().chars().enumerate() {
        let mut before = row[0];
        row[0] = at + 1;
        for (place, theirs) in other.iter().enumerate() {
            let changed = before + usize::from(letter != *theirs);
            before = row[place + 1];
            row[place + 1] = changed.min(before + 1).min(row[place] + 1);
        }
    }
    row[other.len()]
}

/// A form of these fields, as a browser sends it.
pub(super) fn form(fields: &[(String, String)]) -> String {
    let Ok(mut url) = Url::parse("http://form.invalid/") else { return String::new() };
    url.query_pairs_mut().extend_pairs(fields);
    url.query().unwrap_or_default().to_owned()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn known() -> Vec<Definition> {
        definitions(&json!({"property": [{"_class": "x"}, null, {"parameterDefinitions": [
            {"name": "TAG", "type": "StringParameterDefinition", "defaultParameterValue": null},
            {"name": "ENV", "type": "ChoiceParameterDefinition", "choices": ["dev", "prod"]},
            {"name": "DRY", "type": "BooleanParameterDefinition"},
            {"name": "FILE", "type": "FileParameterDefinition"},
            {"type": "without a name"},
            {"name": "MC_RUN_ID", "type": "StringParameterDefinition"},
        ]}]}))
    }

    fn sent(given: Value) -> Result<Vec<(String, String)>, String> {
        let Value::Object(given) = given else { panic!() };
        texts(&given, &known())
    }

    #[test]
    fn numbers_and_truths_are_sent_as_text_and_null_is_left_to_the_job() {
        let good = sent(json!({"TAG": 7, "DRY": true, "ENV": null})).unwrap();
        assert_eq!(good, [("TAG".to_owned(), "7".to_owned()), ("DRY".to_owned(), "true".to_owned())]);
        assert_eq!(form(&[("A B".to_owned(), "ü&=\n".to_owned())]), "A+B=%C3%BC%26%3D%0A");
    }

    #[test]
    fn what_a_job_does_not_take_is_named_with_what_it_takes() {
        assert_eq!(
            sent(json!({"TAGG": 7})).unwrap_err(),
            "it has no parameter TAGG, only TAG, ENV, DRY, FILE; did you mean TAG?"
        );
        assert_eq!(sent(json!({"weather": 7})).unwrap_err(), "it has no parameter weather, only TAG, ENV, DRY, FILE");
        assert_eq!(sent(json!({"ENV": "moon"})).unwrap_err(), "ENV is one of dev, prod, and not \"moon\"");
        assert_eq!(sent(json!({"DRY": "yes"})).unwrap_err(), "DRY is true or false, and not \"yes\"");
        assert_eq!(sent(json!({"TAG": [1]})).unwrap_err(), "TAG is a list or a map; write a text");
        assert!(sent(json!({"FILE": "x"})).unwrap_err().contains("cannot be sent"));
        assert!(unknown("X", &[]).contains("it takes none"));
    }

    #[test]
    fn what_is_no_description_of_a_job_declares_nothing() {
        for odd in [json!(null), json!([]), json!({"property": {}}), json!({"property": [{"parameterDefinitions": 7}]})]
        {
            assert_eq!(definitions(&odd), []);
        }
    }
}
