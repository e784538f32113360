//! `file`: files that are created or change, as a whole or row by row.

mod document;
mod limited;
mod mask;
mod rows;
mod seen;
mod source;
mod xml;

use std::borrow::Cow;
use std::sync::Arc;

use masterchief_contract::{EventData, FlagScope, Kind, KindSpec, Matching, Meter, Returns, Source, Wanted};

use crate::Settings;
use crate::overlap::overlap;
use mask::{FileMask, Then};

/// The row.
pub static KINDS: &[KindSpec] = &[KindSpec {
    kind: Kind::File,
    matching: Matching::Journal,
    flags: FlagScope::Nobody,
    stackable: true,
    returns: Returns::Ignored,
    subject: path,
    check: |mask| FileMask::parse(mask).map(drop),
    fields: &["path", "name", "event", "size", "sha256", "format", "data", "row", "last"],
    about: "a file is created or changes; `data` is what it holds, or with `rows` one row of it",
    example: "/data/*.json",
    wants: Some(|mask| FileMask::parse(mask).map(|mask| Wanted::all(mask.stream()))),
}];

fn path(event: &EventData) -> Cow<'_, str> {
    Cow::Borrowed(event.field_str("path"))
}

/// Whether two masks may read the same files and one of them puts them away, so that the other may not find them.
pub fn collide(one: &str, other: &str) -> bool {
    match (FileMask::parse(one), FileMask::parse(other)) {
        // One and the same is one stream, which both binds hear.
        (Ok(one), Ok(other)) if one.stream() != other.stream() => {
            [&one.then, &other.then].into_iter().any(|then| *then != Then::Keep)
                && overlap(&one.pattern.to_string(), &other.pattern.to_string())
        }
        _ => false,
    }
}

/// Whether a mask puts away files whose lines a log's mask reads.
pub(crate) fn takes_log(file: &str, log: &str) -> bool {
    match (FileMask::parse(file), crate::log::path_of(log)) {
        (Ok(file), Some(path)) => file.then != Then::Keep && overlap(&file.pattern.to_string(), &path),
        _ => false,
    }
}

/// The source of a stream, or why there is none.
pub(crate) fn source(_: &Settings, stream: &str, meter: &Arc<Meter>) -> Result<Box<dyn Source>, String> {
    let mask = FileMask::parse(stream.strip_prefix("file:").unwrap_or(stream)).map_err(|fault| fault.to_string())?;
    Ok(Box::new(source::Files::new(mask, Arc::clone(meter))))
}

/// Any text as a file of any format, for the fuzzer.
#[cfg(fuzzing)]
pub fn fuzz(text: &str) {
    for format in ["csv", "csv headers=no sep=tab", "json", "ndjson", "yaml", "xml", "text"] {
        let mask = FileMask::parse(&format!("/x format={format}"));
        let Ok(mask) = mask else { unreachable!("the mask is good") };
        let _ = document::parse(mask.format_of(std::path::Path::new("/x")), text, &mask);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn two_masks_collide_if_one_of_them_puts_away_what_the_other_reads() {
        assert!(collide("/data/*.json", "/data/*.json rows then=delete"));
        assert!(collide("\"/data/*.json\" then=move:/done", "/data/*.json"));
        assert!(!collide("/data/*.json", "/data/*.json rows"));
        assert!(!collide("/data/*.json then=delete", "/data/*.csv"));
        assert!(collide("/data/**/*.json then=delete", "/data/in/orders-*"), "patterns need not be equal");
        assert!(!collide("/data/*.json then=delete", "/data/*.json then=delete"), "that is one stream");
    }

    #[test]
    fn a_file_that_is_put_away_is_no_log() {
        use masterchief_contract::Kind;
        let (moved, kept) = ((Kind::File, "/var/log/*.log then=move:/done"), (Kind::File, "/var/log/*.log"));
        let log = (Kind::Log, "/var/log/app.log json ~error");
        let none = Settings::default();
        assert!(crate::collision(&none, moved, log).is_some() && crate::collision(&none, log, moved).is_some());
        assert!(crate::collision(&none, kept, log).is_none());
        assert!(crate::collision(&none, moved, (Kind::Log, "syslog:auth.err")).is_none());
    }
}
