//! The mask of a log: `/var/log/app.log json level=error ~timeout`.

use std::sync::Arc;

use masterchief_contract::{EventData, Filter, MaskFault, Value};
use regex::Regex;

use super::parse::{NAMES, Parser};
use crate::gap;
use crate::mask::{Cmp, Word, quoted, words};
use crate::paths::Pattern;

/// The severities of syslog, worst first (RFC 5424, table 2).
const SEVERITIES: [&str; 8] = ["emerg", "alert", "crit", "err", "warning", "notice", "info", "debug"];

/// What a mask names, and what of it.
#[derive(Debug)]
pub(super) struct LogMask {
    pub(super) place: Place,
    pub(super) format: Option<String>,
    pub(super) multi: Option<String>,
    /// Whether it wants what is lost, and not the lines.
    gap: bool,
    filters: Vec<Test>,
}

/// What is read.
#[derive(Debug)]
pub(super) enum Place {
    Path(Pattern),
    /// What the listener receives.
    Syslog,
}

/// What a line has to fulfil.
#[derive(Clone, Debug)]
enum Test {
    Matches(Regex),
    Field(String, Cmp, String),
    /// At least this bad: an index into [`SEVERITIES`].
    Severity(usize),
}

impl LogMask {
    pub(super) fn parse(mask: &str) -> Result<LogMask, MaskFault> {
        // Everything behind ` ~` is one pattern, blanks too.
        let (head, pattern) = match mask.find(" ~") {
            Some(at) => (&mask[..at], Some((at + 2, &mask[at + 2..]))),
            None => (mask, None),
        };
        let words = words(head)?;
        let Some((place, rest)) = words.split_first() else {
            return Err(MaskFault::at(mask, 0, "name a log, as in \"/var/log/app.log\", or \"syslog\""));
        };
        let mut filters = Vec::new();
        let place = match place.text.strip_prefix("syslog") {
            Some(selector) if selector.is_empty() || selector.starts_with(':') => {
                filters.extend(selected(mask, place.at, selector)?);
                Place::Syslog
            }
            _ => Place::Path(Pattern::parse(&place.text).map_err(|fault| MaskFault::at(mask, place.at, fault))?),
        };
        let mut out = LogMask { place, format: None, multi: None, gap: false, filters };
        for word in rest {
            out.option(mask, word)?;
        }
        if let Some((at, text)) = pattern {
            let pattern = Regex::new(text).map_err(|fault| {
                let why = fault.to_string();
                let why = why.lines().last().unwrap_or("it cannot be read").trim_start_matches("error: ").to_owned();
                MaskFault::at(mask, at, format!("this is no regular expression: {why}"))
            })?;
            out.filters.push(Test::Matches(pattern));
        }
        Ok(out)
    }

    fn option(&mut self, mask: &str, word: &Word) -> Result<(), MaskFault> {
        let wrong = |message: String| Err(MaskFault::at(mask, word.at, message));
        let known = |name: &str| Parser::named(name).is_some();
        if word.text == gap::GAP {
            if matches!(self.place, Place::Syslog) {
                return wrong("what is lost of syslog is counted, and no event".to_owned());
            }
            self.gap = true;
            return Ok(());
        }
        if known(&word.text) {
            self.format = Some(word.text.clone());
            return Ok(());
        }
        let sign = word.text.find(['=', '<', '>', '!']);
        let Some((at, (cmp, length))) = sign.and_then(|at| Some((at, Cmp::at_start(&word.text[at..])?))) else {
            return wrong(format!(
                "{:?} is no option; write a format ({NAMES}), multi=NAME, FIELD=VALUE, gap or ~PATTERN",
                word.text
            ));
        };
        let (name, value) = (&word.text[..at], &word.text[at + length..]);
        if name.is_empty() || value.is_empty() {
            return wrong("write FIELD=VALUE, as in level=error or status>=500".to_owned());
        }
        match name {
            "format" if known(value) => self.format = Some(value.to_owned()),
            "format" => return wrong(format!("there is no format {value:?}; there are {NAMES}")),
            "multi" => self.multi = Some(value.to_owned()),
            name => self.filters.push(Test::Field(name.to_owned(), cmp, value.to_owned())),
        }
        Ok(())
    }

    /// The stream: what is read and how, without what is wanted of it.
    pub(super) fn stream(&self) -> String {
        let mut out = match &self.place {
            Place::Syslog => "log:syslog".to_owned(),
            Place::Path(pattern) => format!("log:{}", quoted(&pattern.to_string())),
        };
        if let Some(format) = &self.format {
            out.push_str(&format!(" format={format}"));
        }
        if let Some(multi) = &self.multi {
            out.push_str(&format!(" multi={}", quoted(multi)));
        }
        out
    }

    pub(super) fn filter(&self) -> Option<Filter> {
        let (filters, wanted) = (self.filters.clone(), self.gap);
        Some(Arc::new(move |event: &EventData| {
            gap::is_of(event) == wanted && filters.iter().all(|test| test.holds(event))
        }))
    }
}

/// `:daemon`, `:auth.err`, `:*.warning`.
fn selected(mask: &str, at: usize, selector: &str) -> Result<Vec<Test>, MaskFault> {
    let mut tests = Vec::new();
    let Some(text) = selector.strip_prefix(':') else { return Ok(tests) };
    let (facility, severity) =
        text.split_once('.').map_or((text, None), |(facility, severity)| (facility, Some(severity)));
    if facility.is_empty() {
        return Err(MaskFault::at(mask, at + 7, "name a facility, as in syslog:daemon, or syslog:*.err"));
    }
    if facility != "*" {
        tests.push(Test::Field("facility".to_owned(), Cmp::Equal, facility.to_owned()));
    }
    if let Some(severity) = severity {
        let index = SEVERITIES.iter().position(|name| *name == severity).ok_or_else(|| {
            MaskFault::at(
                mask,
                at + 8 + facility.len(),
                format!("there is no severity {severity:?}; there are {}", SEVERITIES.join(", ")),
            )
        })?;
        tests.push(Test::Severity(index));
    }
    Ok(tests)
}

impl Test {
    fn holds(&self, event: &EventData) -> bool {
        let field = |name: &str| event.field("data").and_then(|data| data.get(name)).or_else(|| event.field(name));
        match self {
            Test::Matches(pattern) => pattern.is_match(&event.text),
            Test::Field(name, cmp, value) => match field(name) {
                Some(found) => cmp.holds_for(found, value),
                None => *cmp == Cmp::NotEqual,
            },
            Test::Severity(worst) => field("severity")
                .and_then(Value::as_str)
                .and_then(|severity| SEVERITIES.iter().position(|name| *name == severity))
                .is_some_and(|index| index <= *worst),
        }
    }
}

#[cfg(test)]
mod tests {
    use chrono::Utc;
    use serde_json::json;

    use super::*;

    fn event(text: &str, data: Value) -> EventData {
        let mut event = EventData::new(&[masterchief_contract::Kind::Log], Utc::now());
        event.text = text.to_owned();
        event.fields = vec![("data", data)];
        event
    }

    fn wants(mask: &str, text: &str, data: Value) -> bool {
        let mask = LogMask::parse(mask).unwrap();
        mask.filter().is_none_or(|filter| filter(&event(text, data)))
    }

    #[test]
    fn masks_say_what_is_read_and_what_of_it() {
        let stream = |mask: &str| LogMask::parse(mask).unwrap().stream();
        assert_eq!(stream("/var/log/app.log"), "log:/var/log/app.log");
        assert_eq!(stream("/var/log/app.log ~ERROR|FATAL"), "log:/var/log/app.log");
        assert_eq!(
            stream("/var/log/*.log json level=error multi=java ~a b"),
            "log:/var/log/*.log format=json multi=java"
        );
        assert_eq!(stream("'/my logs/a.log' nginx status>=500"), "log:\"/my logs/a.log\" format=nginx");
        assert_eq!(stream("syslog:auth.err ~sudo"), "log:syslog");
        // What is read can be read again from the stream's name.
        for mask in ["\"/my logs/a.log\" format=nginx", "\"/it's.log\" multi=\"x y\""] {
            assert_eq!(stream(mask), format!("log:{mask}"));
        }
    }

    #[test]
    fn lines_are_filtered_by_pattern_field_and_severity() {
        assert!(wants("/l ~ERROR|FATAL", "a FATAL one", json!({})));
        assert!(!wants("/l ~ERROR|FATAL", "fine", json!({})));
        assert!(wants("/l nginx status>=500 path=/a", "x", json!({"status": 503, "path": "/a"})));
        assert!(!wants("/l nginx status>=500", "x", json!({"status": 404})));
        assert!(!wants("/l nginx status>=500", "x", json!({})));
        assert!(wants("/l level!=debug", "x", json!({})));
        assert!(wants("syslog:daemon.warning", "x", json!({"facility": "daemon", "severity": "err"})));
        assert!(!wants("syslog:daemon.warning", "x", json!({"facility": "daemon", "severity": "info"})));
        assert!(!wants("syslog:*.err", "x", json!({})));
    }

    #[test]
    fn what_is_lost_goes_to_whoever_asks_for_it_and_is_no_line() {
        let mut lost = event("app.log was cut before it was read", Value::Null);
        lost.fields.push(("gap", json!({"bytes": 7})));
        let wants = |mask: &str, event: &EventData| LogMask::parse(mask).unwrap().filter().unwrap()(event);
        let line = event("gap=7", json!({"gap": 7}));
        assert_eq!([&lost, &line].map(|event| wants("/l", event)), [false, true]);
        assert_eq!([&lost, &line].map(|event| wants("/l json gap", event)), [true, false]);
        assert_eq!(LogMask::parse("/l json gap").unwrap().stream(), "log:/l format=json", "one source reads for both");
    }

    #[test]
    fn what_cannot_work_is_refused_with_its_place() {
        for (mask, column) in [
            ("", 1),
            ("app.log", 1),
            ("/l ~(", 5),
            ("/l nonsense", 4),
            ("/l format=xls", 4),
            ("/l =x", 4),
            ("syslog:", 8),
            ("syslog:auth.worse", 13),
            ("/l 'open", 4),
            ("syslog gap", 8),
        ] {
            let fault = LogMask::parse(mask).unwrap_err();
            assert_eq!(fault.column, column, "{mask}: {fault}");
        }
    }
}
