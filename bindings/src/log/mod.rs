//! `log`: lines of files that are followed, and syslog that is received.

mod generation;
mod lines;
mod listen;
mod mask;
mod parse;
mod remembered;
mod rotation;
mod tail;

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use masterchief_contract::{EventData, FlagScope, Kind, KindSpec, Matching, Meter, Returns, Source, Wanted};
use regex::Regex;
use serde::Deserialize;

use crate::Settings;
use lines::{Multiline, Rule};
use mask::{LogMask, Place};
use parse::{NAMES, Parser};
use tail::{Tail, TailOptions};

/// The row.
pub static KINDS: &[KindSpec] = &[KindSpec {
    kind: Kind::Log,
    matching: Matching::Journal,
    flags: FlagScope::Nobody,
    stackable: true,
    returns: Returns::Ignored,
    subject: line,
    check: |mask| LogMask::parse(mask).map(drop),
    fields: &["path", "offset", "data", "cut", "peer"],
    about: "a line is written to a log, or received as syslog; `data` is what the line says",
    example: "/var/log/app.log ~ERROR|FATAL",
    wants: Some(|mask| {
        let mask = LogMask::parse(mask)?;
        Ok(Wanted { stream: mask.stream().into(), filter: mask.filter() })
    }),
}];

fn line(event: &EventData) -> Cow<'_, str> {
    Cow::Borrowed(&event.text)
}

/// How the logs that a path or a pattern names are read.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct LogSettings {
    /// The path as it stands in masks.
    pub path: String,
    /// How lines are read: text, syslog, json, logfmt, nginx, apache; or `pattern`.
    pub format: Option<String>,
    /// A regular expression; its named groups become fields.
    pub pattern: Option<String>,
    /// How lines belong together: `indent`, `java`, or a name under `multiline`.
    pub multi: Option<String>,
    /// Whether a log that is there before the first start is read from its `start` or its `end`.
    #[serde(default)]
    pub from: From,
    /// The longest line, in bytes; longer ones are cut.
    pub longest: Option<usize>,
}

/// Where reading begins.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum From {
    /// With what is written from now on.
    #[default]
    End,
    /// With what is there.
    Start,
}

/// How lines belong together. One of `start` and `continue`.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct MultilineSettings {
    /// A line that matches begins a group.
    pub start: Option<String>,
    /// A line that matches belongs to the one before it.
    pub r#continue: Option<String>,
    /// How long a group waits for more.
    #[serde(default = "two_seconds", with = "humantime_serde")]
    pub wait: Duration,
}

/// Where syslog is received.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SyslogSettings {
    /// UDP: best effort by nature.
    pub udp: Option<SocketAddr>,
    /// TCP, lines or counted octets.
    pub tcp: Option<SocketAddr>,
}

/// A line is cut at this length, in bytes.
const LONGEST: usize = 256 << 10;
/// How long a group of lines waits for more.
const WAIT: Duration = Duration::from_secs(2);

fn two_seconds() -> Duration {
    WAIT
}

/// The source of a stream, or why there is none.
pub(crate) fn source(settings: &Settings, stream: &str, meter: &Arc<Meter>) -> Result<Box<dyn Source>, String> {
    let text = stream.strip_prefix("log:").unwrap_or(stream);
    let mask = LogMask::parse(text).map_err(|fault| fault.to_string())?;
    let pattern = match mask.place {
        Place::Syslog => return listen::source(settings.syslog.as_ref(), meter),
        Place::Path(pattern) => pattern,
    };
    let path = pattern.to_string();
    let configured = settings.logs.iter().find(|log| log.path == path);
    let format = mask.format.as_deref().or(configured.and_then(|log| log.format.as_deref()));
    let parser = match (configured.and_then(|log| log.pattern.as_deref()), format) {
        (Some(text), _) => {
            let pattern = Regex::new(text).map_err(|fault| format!("the pattern of {path}: {fault}"))?;
            Parser::Regex(Box::new(pattern))
        }
        (None, Some(name)) => {
            Parser::named(name).ok_or_else(|| format!("there is no format {name:?}; there are {NAMES}"))?
        }
        (None, None) => Parser::None,
    };
    let multi = mask.multi.as_deref().or(configured.and_then(|log| log.multi.as_deref()));
    Ok(Box::new(Tail::new(
        TailOptions {
            pattern,
            from_start: configured.is_some_and(|log| log.from == From::Start),
            multiline: multi.map(|name| multiline(&settings.multiline, name)).transpose()?,
            parser,
            longest: configured.and_then(|log| log.longest).unwrap_or(LONGEST),
        },
        Arc::clone(meter),
    )))
}

/// A rule by its name.
fn multiline(configured: &BTreeMap<String, MultilineSettings>, name: &str) -> Result<Multiline, String> {
    let pattern = |text: &str| regex::bytes::Regex::new(text).map_err(|fault| format!("multiline.{name}: {fault}"));
    if let Some(settings) = configured.get(name) {
        let rule = match (&settings.start, &settings.r#continue) {
            (Some(start), None) => Rule::Start(pattern(start)?),
            (None, Some(more)) => Rule::Continue(pattern(more)?),
            _ => return Err(format!("multiline.{name}: say either start or continue")),
        };
        return Ok(Multiline { rule, wait: settings.wait });
    }
    let rule = match name {
        "indent" => Rule::Continue(pattern(r"^\s")?),
        "java" => Rule::Continue(pattern(r"^(\s|Caused by:|Suppressed:|\.\.\. \d+ more)")?),
        _ => {
            return Err(format!(
                "there is no multiline {name:?}; there are indent, java, and those under sources.multiline"
            ));
        }
    };
    Ok(Multiline { rule, wait: WAIT })
}

/// Any bytes as a log, for the fuzzer: whole or in pieces the lines are the same, and each is understood or not.
#[cfg(fuzzing)]
pub fn fuzz(bytes: &[u8], cut: usize) {
    let multi = multiline(&BTreeMap::new(), "java").ok();
    for multi in [None, multi.as_ref()] {
        let (mut whole, mut pieces) = (Vec::new(), Vec::new());
        let mut lines = lines::Lines::new(0, 200);
        lines.feed(bytes, multi, &mut whole);
        lines.flush(multi, &mut whole);
        let mut lines = lines::Lines::new(0, 200);
        let (one, two) = bytes.split_at(cut.min(bytes.len()));
        lines.feed(one, multi, &mut pieces);
        lines.feed(two, multi, &mut pieces);
        lines.flush(multi, &mut pieces);
        if bytes.split(|byte| *byte == b'\n').all(|line| line.len() <= 200) {
            assert_eq!(whole, pieces);
        }
        for line in whole {
            for name in parse::NAMES.split(", ") {
                if let Some(parser) = parse::Parser::named(name) {
                    let _ = parse::inbound(line.clone(), &parser);
                }
            }
        }
    }
}
