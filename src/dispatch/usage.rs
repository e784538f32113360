//! The grammar of a command's arguments, as in `<app> [env:staging|prod=staging] [--force]`.
//!
//! - `<name>` must be there, `[name]` may; `[name=default]` is the default's when it is not.
//! - `name:TYPE` is `text` (one word, or in quotes), `int`, `number`, `bool`, `duration` (`90s`, `1h30m`), `nick`,
//!   `channel`, or a choice `a|b|c`.
//! - `<name...>` takes the rest of the line as it is. It stands last.
//! - `[--name]` is a switch, `[--name=TYPE]` an option with a value; `[--name=TYPE=default]` has a default.
//!
//! In a line, words are parted by blanks; `"…"` and `'…'` keep them together, `\` takes the next character as it is
//! (not within `'…'`), and after `--` nothing is an option. A word may hold `:` and `=`.

use std::collections::BTreeSet;
use std::fmt;
use std::time::Duration;

use masterchief_contract::{Args, Value, closest};

/// Arguments a command may have.
const ARGS_MAX: usize = 32;

/// The arguments of a command.
#[derive(Clone, Debug, PartialEq)]
pub struct Usage {
    text: String,
    places: Vec<Arg>,
    options: Vec<Arg>,
}

#[derive(Clone, Debug, PartialEq)]
struct Arg {
    name: String,
    takes: Takes,
    required: bool,
    default: Option<Value>,
}

#[derive(Clone, Debug, PartialEq)]
enum Takes {
    Text,
    Int,
    Number,
    Bool,
    Duration,
    Nick,
    Channel,
    Choice(Vec<String>),
    Rest,
    /// A switch takes nothing.
    Nothing,
}

/// What is wrong with a usage, and where.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("column {column}: {message}")]
pub struct UsageFault {
    /// Characters from 1.
    pub column: usize,
    /// What is wrong and what to write instead.
    pub message: String,
}

/// What is wrong with a line that a person typed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{message}")]
pub struct UsageError {
    message: String,
    usage: String,
}

impl UsageError {
    /// For the person: what is wrong and how it is written. `word` is the command.
    pub fn for_person(&self, word: &str) -> String {
        let usage = if self.usage.is_empty() { "no arguments" } else { &self.usage };
        let end = if self.message.ends_with('?') { "" } else { "." };
        format!("{}{end} Usage: {word} {usage}", self.message)
    }
}

impl Usage {
    /// Reads a usage.
    pub fn parse(text: &str) -> Result<Usage, UsageFault> {
        let mut usage = Usage { text: text.trim().to_owned(), places: Vec::new(), options: Vec::new() };
        let mut names = BTreeSet::new();
        for (column, part) in parts(text)? {
            let fault = |message: String| UsageFault { column, message };
            let arg = Arg::parse(&part).map_err(fault)?;
            if !names.insert(arg.name.clone()) {
                return Err(fault(format!("{} stands there twice", arg.name)));
            }
            if names.len() > ARGS_MAX {
                return Err(fault(format!("more than {ARGS_MAX} arguments")));
            }
            if part.inner.starts_with("--") {
                usage.options.push(arg);
                continue;
            }
            if let Some(before) = usage.places.last() {
                if before.takes == Takes::Rest {
                    return Err(fault(format!("{} takes the rest of the line, so nothing can follow it", before.name)));
                }
                if arg.required && !before.required {
                    return Err(fault(format!(
                        "{} must be there but {} before it may be missing",
                        arg.name, before.name
                    )));
                }
            }
            usage.places.push(arg);
        }
        Ok(usage)
    }

    /// Reads the arguments in a line.
    pub fn read(&self, line: &str) -> Result<Args, UsageError> {
        let error = |message: String| UsageError { message, usage: self.text.clone() };
        let mut args = Args::new();
        let mut places = self.places.iter();
        let mut rest = line.trim();
        let mut only_places = false;
        while !rest.is_empty() {
            let option = rest.starts_with("--") && !only_places;
            if !option {
                let Some(place) = places.next() else {
                    let (extra, _) = word(rest).map_err(error)?;
                    return Err(error(format!("{extra:?} is one argument too many")));
                };
                let (value, after) =
                    if place.takes == Takes::Rest { (rest.to_owned(), "") } else { word(rest).map_err(error)? };
                args.insert(place.name.clone(), place.value(&value).map_err(error)?);
                rest = after;
                continue;
            }
            let (text, after) = word(rest).map_err(error)?;
            rest = after;
            if text == "--" {
                only_places = true;
                continue;
            }
            let (name, value) = text.split_once('=').map_or((text.as_str(), None), |(name, value)| (name, Some(value)));
            let option = self.option(name).map_err(error)?;
            let value = match (&option.takes, value) {
                (Takes::Nothing, None) => Value::Bool(true),
                (Takes::Nothing, Some(_)) => return Err(error(format!("{name} takes no value"))),
                (_, Some(value)) => option.value(value).map_err(error)?,
                (_, None) if rest.is_empty() => return Err(error(format!("{name} needs a value"))),
                (_, None) => {
                    let (value, after) = word(rest).map_err(error)?;
                    rest = after;
                    option.value(&value).map_err(error)?
                }
            };
            args.insert(option.name.clone(), value);
        }
        if let Some(missing) = places.find(|place| place.required) {
            return Err(error(format!("{} is missing", missing.name)));
        }
        for arg in self.places.iter().chain(&self.options) {
            if let (false, Some(default)) = (args.contains_key(&arg.name), &arg.default) {
                args.insert(arg.name.clone(), default.clone());
            }
        }
        Ok(args)
    }

    fn option(&self, name: &str) -> Result<&Arg, String> {
        let bare = name.trim_start_matches('-');
        if let Some(found) = self.options.iter().find(|option| option.name == bare) {
            return Ok(found);
        }
        match closest(bare, self.options.iter().map(|option| option.name.as_str())) {
            Some(close) => Err(format!("there is no option {name}; did you mean --{close}?")),
            None => Err(format!("there is no option {name}")),
        }
    }
}

impl fmt::Display for Usage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

/// `<inner>` or `[inner]`.
struct Part {
    inner: String,
    required: bool,
}

/// The bracketed parts of a usage with their columns.
fn parts(text: &str) -> Result<Vec<(usize, Part)>, UsageFault> {
    let mut out = Vec::new();
    let mut chars = text.chars().enumerate().peekable();
    while let Some((at, open)) = chars.next() {
        let fault = |message: &str| Err(UsageFault { column: at + 1, message: message.to_owned() });
        let close = match open {
            c if c.is_whitespace() => continue,
            '<' => '>',
            '[' => ']',
            _ => return fault("an argument is written <name> if it must be there and [name] if it may"),
        };
        let mut inner = String::new();
        loop {
            match chars.next() {
                Some((_, c)) if c == close => break,
                Some((_, c)) => inner.push(c),
                None => return fault(&format!("this bracket is not closed: {close} is missing")),
            }
        }
        out.push((at + 1, Part { inner, required: open == '<' }));
    }
    Ok(out)
}

impl Arg {
    fn parse(part: &Part) -> Result<Arg, String> {
        let inner = part.inner.as_str();
        if let Some(option) = inner.strip_prefix("--") {
            if part.required {
                return Err(format!("an option may be missing: write [{inner}]"));
            }
            let mut pieces = option.splitn(3, '=');
            let name = checked_name(pieces.next().unwrap_or(""))?;
            let Some(takes) = pieces.next() else {
                return Ok(Arg { name, takes: Takes::Nothing, required: false, default: Some(Value::Bool(false)) });
            };
            return Arg::typed(name, Takes::parse(takes)?, false, pieces.next());
        }
        let (head, default) = inner.split_once('=').map_or((inner, None), |(head, default)| (head, Some(default)));
        if part.required && default.is_some() {
            return Err(format!("what must be there needs no default: write [{inner}]"));
        }
        if let Some(name) = head.strip_suffix("...") {
            return Arg::typed(checked_name(name)?, Takes::Rest, part.required, default);
        }
        let (name, takes) = match head.split_once(':') {
            Some((name, takes)) => (name, Takes::parse(takes)?),
            None => (head, Takes::Text),
        };
        Arg::typed(checked_name(name)?, takes, part.required, default)
    }

    fn typed(name: String, takes: Takes, required: bool, default: Option<&str>) -> Result<Arg, String> {
        let mut arg = Arg { name, takes, required, default: None };
        if let Some(default) = default {
            arg.default = Some(arg.value(default).map_err(|message| format!("the default is wrong: {message}"))?);
        }
        Ok(arg)
    }

    /// A word as a value of the argument's type.
    fn value(&self, text: &str) -> Result<Value, String> {
        let name = &self.name;
        let wrong = |what: &str| format!("{name} is {what}, not {text:?}");
        match &self.takes {
            Takes::Text | Takes::Rest => Ok(Value::from(text)),
            Takes::Int => text.parse::<i64>().map(Value::from).map_err(|_| wrong("a whole number")),
            Takes::Number => match text.parse::<f64>() {
                Ok(number) if number.is_finite() => Ok(Value::from(number)),
                _ => Err(wrong("a number")),
            },
            Takes::Bool => match text.to_ascii_lowercase().as_str() {
                "yes" | "true" | "on" | "1" => Ok(Value::Bool(true)),
                "no" | "false" | "off" | "0" => Ok(Value::Bool(false)),
                _ => Err(wrong("yes or no")),
            },
            Takes::Duration => {
                let time: Duration = humantime_serde::re::humantime::parse_duration(text)
                    .map_err(|_| wrong("a time such as 90s or 1h30m"))?;
                Ok(Value::from(time.as_secs_f64()))
            }
            Takes::Nick if text.contains(|c: char| c.is_whitespace() || "#,:!@".contains(c)) => Err(wrong("a nick")),
            Takes::Channel if !text.starts_with(['#', '&', '+', '!']) || text.contains([' ', ',']) => {
                Err(wrong("a channel such as #ops"))
            }
            Takes::Nick | Takes::Channel => Ok(Value::from(text)),
            Takes::Choice(choices) => match choices.iter().find(|choice| choice.eq_ignore_ascii_case(text)) {
                Some(choice) => Ok(Value::from(choice.as_str())),
                None => Err(match closest(text, choices.iter().map(String::as_str)) {
                    Some(close) => format!("{}; did you mean {close}?", wrong(&choices.join(" or "))),
                    None => wrong(&choices.join(" or ")),
                }),
            },
            Takes::Nothing => Err(format!("{name} takes no value")),
        }
    }
}

impl Takes {
    fn parse(text: &str) -> Result<Takes, String> {
        Ok(match text {
            "text" | "string" => Takes::Text,
            "int" => Takes::Int,
            "number" => Takes::Number,
            "bool" => Takes::Bool,
            "duration" => Takes::Duration,
            "nick" => Takes::Nick,
            "channel" => Takes::Channel,
            choices if choices.contains('|') => {
                let choices: Vec<String> = choices.split('|').map(str::to_owned).collect();
                if choices.iter().any(String::is_empty) {
                    return Err(format!("{text:?} has an empty choice"));
                }
                Takes::Choice(choices)
            }
            other => {
                let types = ["text", "int", "number", "bool", "duration", "nick", "channel"];
                return Err(match closest(other, types.into_iter()) {
                    Some(close) => format!("there is no type {other:?}; did you mean {close}?"),
                    None => {
                        format!("there is no type {other:?}; there are {} and choices such as a|b", types.join(", "))
                    }
                });
            }
        })
    }
}

fn checked_name(name: &str) -> Result<String, String> {
    let good = name.starts_with(|c: char| c.is_ascii_lowercase())
        && name.chars().all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || matches!(c, '_' | '-'));
    if good { Ok(name.to_owned()) } else { Err(format!("{name:?} is not a name: small letters, digits, _ and -")) }
}

/// The first word of a line, unquoted, and what follows its blanks.
fn word(line: &str) -> Result<(String, &str), String> {
    let mut out = String::new();
    let mut quote = None;
    let mut chars = line.char_indices();
    while let Some((at, c)) = chars.next() {
        match (c, quote) {
            ('\\', None | Some('"')) => out.push(chars.next().map_or('\\', |(_, next)| next)),
            (c, Some(open)) if c == open => quote = None,
            ('"' | '\'', None) if at == 0 || out.ends_with('=') => quote = Some(c),
            (c, None) if c.is_whitespace() => return Ok((out, line[at..].trim_start())),
            (c, _) => out.push(c),
        }
    }
    match quote {
        None => Ok((out, "")),
        Some(open) => Err(format!("the quote {open} is not closed")),
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::json;

    use super::*;

    const DEPLOY: &str = "<app> [env:staging|prod=staging] [--force] [--count=int=1] [note...]";

    fn read(usage: &str, line: &str) -> Result<Value, String> {
        let usage = Usage::parse(usage).unwrap();
        usage.read(line).map(|args| json!(args)).map_err(|error| error.for_person("!x"))
    }

    #[test]
    fn arguments_are_typed_and_have_defaults() {
        assert_eq!(
            read(DEPLOY, "web prod --force"),
            Ok(json!({"app": "web", "env": "prod", "force": true, "count": 1}))
        );
        assert_eq!(
            read(DEPLOY, "--count 3 web PROD to  the moon"),
            Ok(json!({"app": "web", "env": "prod", "force": false, "count": 3, "note": "to  the moon"}))
        );
        let typed = "<a:int> <b:number> <c:bool> <d:duration> <e:nick> <f:channel>";
        assert_eq!(
            read(typed, "-5 2.5 yes 1h30m alice #ops"),
            Ok(json!({"a": -5, "b": 2.5, "c": true, "d": 5400.0, "e": "alice", "f": "#ops"}))
        );
    }

    #[test]
    fn quotes_keep_words_together_and_values_may_hold_anything() {
        let usage = "<a> [b] [--c=text]";
        assert_eq!(read(usage, r#""two words" k=v:w"#), Ok(json!({"a": "two words", "b": "k=v:w"})));
        assert_eq!(read(usage, r#"it's --c="x y""#), Ok(json!({"a": "it's", "c": "x y"})));
        assert_eq!(read(usage, r#"'single \' "a \" b""#), Ok(json!({"a": "single \\", "b": "a \" b"})));
        assert_eq!(read(usage, "-- --c"), Ok(json!({"a": "--c"})));
        assert_eq!(read(usage, r"a\ b"), Ok(json!({"a": "a b"})));
        assert!(read(usage, "\"open").unwrap_err().contains("not closed"));
        assert_eq!(read(usage, "\"\""), Ok(json!({"a": ""})));
    }

    #[test]
    fn a_wrong_line_is_told_with_what_to_write() {
        let told = |line: &str| read("<app> [env:staging|prod] [--force]", line).unwrap_err();
        assert_eq!(told(""), "app is missing. Usage: !x <app> [env:staging|prod] [--force]");
        assert!(told("web prdo").starts_with("env is staging or prod, not \"prdo\"; did you mean prod?"));
        assert!(told("web --forse").starts_with("there is no option --forse; did you mean --force?"));
        assert!(told("web prod extra").starts_with("\"extra\" is one argument too many"));
        assert!(told("web --force=yes").starts_with("--force takes no value"));
        assert!(read("<n:int>", "many").unwrap_err().starts_with("n is a whole number, not \"many\""));
        assert!(read("", "x").unwrap_err().contains("no arguments"));
    }

    #[test]
    fn a_wrong_usage_is_refused_with_its_place() {
        let column = |usage: &str| Usage::parse(usage).unwrap_err().column;
        assert_eq!(column("app"), 1);
        assert_eq!(column("<app> [env"), 7);
        assert_eq!(column("<app> <app>"), 7);
        assert_eq!(column("[a] <b>"), 5);
        assert_eq!(column("<a...> [b]"), 8);
        assert_eq!(column("<a:strin>"), 1);
        assert_eq!(column("[a:int=x]"), 1);
        assert_eq!(column("<--force>"), 1);
    }

    proptest! {
        #[test]
        fn any_text_is_a_usage_or_a_fault_and_any_line_is_read_or_refused(usage in any::<String>(), line in any::<String>()) {
            if let Ok(usage) = Usage::parse(&usage) {
                let _ = usage.read(&line);
            }
            let _ = Usage::parse(DEPLOY).unwrap().read(&line);
        }

        #[test]
        fn a_quoted_text_comes_back_as_it_was(text in "[^\u{0}]{0,20}") {
            let quoted = format!("\"{}\"", text.replace('\\', "\\\\").replace('"', "\\\""));
            prop_assert_eq!(read("<a>", &quoted), Ok(json!({"a": text})));
        }
    }
}
