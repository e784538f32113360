//! The mask of a file: `/data/**/*.csv rows on=create settle=2s then=move:/data/done`.

use std::path::{Path, PathBuf};
use std::time::Duration;

use masterchief_contract::MaskFault;

use crate::mask::{duration, words};
use crate::paths::Pattern;

/// How long a file must be left alone before it is read.
const SETTLE: Duration = Duration::from_millis(500);

/// What a mask says.
#[derive(Clone, Debug)]
pub(super) struct FileMask {
    pub(super) pattern: Pattern,
    pub(super) on: On,
    /// One event a row.
    pub(super) rows: bool,
    /// The element that is a row of an XML file; the children of the root where none is named.
    pub(super) row: Option<String>,
    pub(super) settle: Duration,
    pub(super) format: Option<Format>,
    pub(super) then: Then,
    /// Whether files that are there before the first start are read.
    pub(super) existing: bool,
    /// The separator of a CSV file.
    pub(super) separator: u8,
    /// Whether a CSV file's first row names the columns.
    pub(super) headers: bool,
    text: String,
}

/// What makes an event.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum On {
    Create,
    Change,
    Both,
    Delete,
}

/// How a file is read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Format {
    Csv,
    Json,
    Ndjson,
    Yaml,
    Xml,
    Text,
}

/// What becomes of a file that is read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Then {
    Keep,
    Delete,
    Move(PathBuf),
}

impl Format {
    const NAMES: &str = "csv, json, ndjson, yaml, xml, text";

    pub(super) fn named(name: &str) -> Option<Format> {
        Some(match name {
            "csv" | "tsv" => Format::Csv,
            "json" => Format::Json,
            "ndjson" | "jsonl" => Format::Ndjson,
            "yaml" | "yml" => Format::Yaml,
            "xml" => Format::Xml,
            "text" | "txt" => Format::Text,
            _ => return None,
        })
    }

    /// By the end of the name; text where that says nothing.
    pub(super) fn of(path: &Path) -> Format {
        let extension = path.extension().map(|end| end.to_string_lossy().to_ascii_lowercase());
        extension.as_deref().and_then(Format::named).unwrap_or(Format::Text)
    }

    pub(super) fn name(self) -> &'static str {
        match self {
            Format::Csv => "csv",
            Format::Json => "json",
            Format::Ndjson => "ndjson",
            Format::Yaml => "yaml",
            Format::Xml => "xml",
            Format::Text => "text",
        }
    }
}

impl FileMask {
    pub(super) fn parse(mask: &str) -> Result<FileMask, MaskFault> {
        let words = words(mask)?;
        let Some((path, rest)) = words.split_first() else {
            return Err(MaskFault::at(mask, 0, "name a file or a pattern, as in \"/data/*.json\""));
        };
        let pattern = Pattern::parse(&path.text).map_err(|fault| MaskFault::at(mask, path.at, fault))?;
        let mut out = FileMask {
            pattern,
            on: On::Both,
            rows: false,
            row: None,
            settle: SETTLE,
            format: None,
            then: Then::Keep,
            existing: true,
            separator: if path.text.ends_with(".tsv") { b'\t' } else { b',' },
            headers: true,
            text: mask.trim().to_owned(),
        };
        for word in rest {
            out.option(&word.text).map_err(|fault| MaskFault::at(mask, word.at, fault))?;
        }
        if let Then::Move(folder) = &out.then
            && out
                .pattern
                .is_match(&folder.join("x").with_extension(Path::new(&path.text).extension().unwrap_or_default()))
        {
            return Err(MaskFault::at(
                mask,
                0,
                "a file that is moved there is found again; move it out of the pattern's reach",
            ));
        }
        Ok(out)
    }

    fn option(&mut self, word: &str) -> Result<(), String> {
        let (name, value) = word.split_once('=').unwrap_or((word, ""));
        let yes = |value: &str| match value {
            "yes" | "true" | "1" | "" => Ok(true),
            "no" | "false" | "0" => Ok(false),
            _ => Err(format!("{name} is yes or no")),
        };
        match name {
            "rows" => self.rows = yes(value)?,
            "row" if !value.is_empty() => (self.rows, self.row) = (true, Some(value.to_owned())),
            "headers" => self.headers = yes(value)?,
            "existing" => self.existing = yes(value)?,
            "settle" => self.settle = duration(value).ok_or("settle is a time, as in settle=2s")?,
            "format" => {
                let format = Format::named(value)
                    .ok_or_else(|| format!("there is no format {value:?}; there are {}", Format::NAMES))?;
                self.format = Some(format);
            }
            "on" => {
                self.on = match value {
                    "create" => On::Create,
                    "change" => On::Change,
                    "both" => On::Both,
                    "delete" => On::Delete,
                    _ => return Err("on is create, change, both or delete".to_owned()),
                }
            }
            "sep" => {
                self.separator = match value.as_bytes() {
                    b"tab" => b'\t',
                    [one] if one.is_ascii() => *one,
                    _ => return Err("sep is one character, or tab".to_owned()),
                }
            }
            "then" => {
                self.then = match value.split_once(':').unwrap_or((value, "")) {
                    ("keep", "") => Then::Keep,
                    ("delete", "") => Then::Delete,
                    ("move", folder) if folder.starts_with('/') => Then::Move(PathBuf::from(folder)),
                    _ => return Err("then is keep, delete or move:/FOLDER".to_owned()),
                }
            }
            _ => {
                return Err(format!(
                    "there is no option {name:?}; there are on, rows, row, format, settle, then, existing, sep, headers"
                ));
            }
        }
        Ok(())
    }

    /// Each mask is a stream of its own: what one moves away, another cannot read.
    pub(super) fn stream(&self) -> String {
        format!("file:{}", self.text)
    }

    pub(super) fn format_of(&self, path: &Path) -> Format {
        self.format.unwrap_or_else(|| Format::of(path))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn masks_are_read_and_what_cannot_work_is_refused_with_its_place() {
        let mask = FileMask::parse("/data/**/*.csv rows sep=; settle=2s then=move:/done on=create headers=no").unwrap();
        assert_eq!((mask.rows, mask.separator, mask.settle, mask.on), (true, b';', Duration::from_secs(2), On::Create));
        assert_eq!(mask.then, Then::Move(PathBuf::from("/done")));
        assert_eq!(mask.format_of(Path::new("/data/a/b.csv")), Format::Csv);
        assert_eq!(FileMask::parse("/data/*.json").unwrap().stream(), "file:/data/*.json");
        assert_eq!(
            FileMask::parse(&FileMask::parse("'/a b/*.xml' row=item").unwrap().text).unwrap().row.as_deref(),
            Some("item")
        );
        for (mask, column) in [
            ("", 1),
            ("data.json", 1),
            ("/d then=move:done", 4),
            ("/d/*.csv then=move:/d", 1),
            ("/d on=never", 4),
            ("/d  wat", 5),
        ] {
            let fault = FileMask::parse(mask).unwrap_err();
            assert_eq!(fault.column, column, "{mask}: {fault}");
        }
    }
}
