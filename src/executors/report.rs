//! Reports that a stage leaves, read with bounds: their texts, and what is in XML.

use std::io::Read;
use std::path::{Path, PathBuf};

use quick_xml::escape::resolve_predefined_entity;
use quick_xml::events::{BytesStart, Event};
use quick_xml::{Reader, XmlVersion};

use super::collect::open;

/// The longest report that is read, in bytes.
const REPORT_MAX: u64 = 64 << 20;
/// All reports of a stage together, in bytes.
const REPORTS_MAX: u64 = 256 << 20;
/// The deepest nesting of elements that is believed.
const DEPTH_MAX: usize = 200;

/// The texts of reports, bounded.
pub(super) fn reports(files: &[PathBuf], what: &str) -> Result<Vec<(PathBuf, String)>, String> {
    if files.is_empty() {
        return Err(format!("there is no {what}; did the stage write it somewhere else?"));
    }
    let mut left = REPORTS_MAX;
    let mut texts = Vec::new();
    for path in files {
        let most = left.min(REPORT_MAX);
        let mut bytes = Vec::new();
        let file = open(path).map_err(|fault| format!("{} cannot be read: {fault}", name(path)))?;
        let read = file.take(most + 1).read_to_end(&mut bytes);
        read.map_err(|fault| format!("{} cannot be read: {fault}", name(path)))?;
        if bytes.len() as u64 > most {
            return Err(format!("{} is longer than {most} bytes, too long for a {what}", name(path)));
        }
        left -= bytes.len() as u64;
        let text = String::from_utf8_lossy(&bytes);
        texts.push((path.clone(), text.trim_start_matches('\u{feff}').to_owned()));
    }
    Ok(texts)
}

/// A file as it is called in faults: with the folder it is in.
pub(super) fn name(path: &Path) -> String {
    let parts: Vec<_> = path.components().rev().take(2).map(|part| part.as_os_str().to_string_lossy()).collect();
    parts.into_iter().rev().filter(|part| part != "/").collect::<Vec<_>>().join("/")
}

/// What is met in a document.
pub(super) enum Mark<'a> {
    /// An element begins. How many are around it, its name without a prefix, its attributes.
    Open(usize, &'a str, &'a BytesStart<'a>),
    /// Text in an element.
    Text(&'a str),
    /// An element ends.
    Close(&'a str),
}

/// Walks through a document and gives the name of its root. Entities of its own are refused: no report needs them, and they can be
/// made to grow without bounds.
pub(super) fn walk(
    path: &Path,
    text: &str,
    mut see: impl FnMut(Mark<'_>) -> Result<(), String>,
) -> Result<String, String> {
    let mut reader = Reader::from_str(text);
    let mut root = String::new();
    let mut depth = 0_usize;
    loop {
        let event = reader.read_event();
        let here = reader.buffer_position();
        let broken = |at: u64, what: &str| {
            let before = text.as_bytes().iter().take(usize::try_from(at).unwrap_or(usize::MAX));
            let line = before.filter(|byte| **byte == b'\n').count() + 1;
            format!("{} cannot be read, line {line}: {what}", name(path))
        };
        match event.map_err(|fault| broken(reader.error_position(), &fault.to_string()))? {
            Event::Start(tag) => {
                if depth == 0 && !root.is_empty() {
                    return Err(broken(here, "there is a second root"));
                }
                if root.is_empty() {
                    tag.local_name().as_ref().clone_into(&mut root);
                }
                see(Mark::Open(depth, tag.local_name().as_ref(), &tag)).map_err(|fault| broken(here, &fault))?;
                depth += 1;
                if depth > DEPTH_MAX {
                    return Err(broken(here, "elements are nested too deeply"));
                }
            }
            Event::Empty(tag) => {
                if root.is_empty() {
                    tag.local_name().as_ref().clone_into(&mut root);
                }
                see(Mark::Open(depth, tag.local_name().as_ref(), &tag)).map_err(|fault| broken(here, &fault))?;
                see(Mark::Close(tag.local_name().as_ref())).map_err(|fault| broken(here, &fault))?;
            }
            Event::End(tag) => {
                depth = depth.saturating_sub(1);
                see(Mark::Close(tag.local_name().as_ref())).map_err(|fault| broken(here, &fault))?;
            }
            Event::Text(said) => see(Mark::Text(&said)).map_err(|fault| broken(here, &fault))?,
            Event::CData(said) => see(Mark::Text(&said)).map_err(|fault| broken(here, &fault))?,
            Event::GeneralRef(entity) => {
                let known = match entity.resolve_char_ref() {
                    Ok(Some(letter)) => Some(letter.to_string()),
                    Ok(None) => resolve_predefined_entity(&entity).map(str::to_owned),
                    Err(fault) => return Err(broken(here, &fault.to_string())),
                };
                let Some(known) = known else { return Err(broken(here, "it uses an entity of its own")) };
                see(Mark::Text(&known)).map_err(|fault| broken(here, &fault))?;
            }
            Event::DocType(kind) if kind.contains("<!ENTITY") => {
                return Err(broken(here, "it defines entities, which are not read"));
            }
            Event::Eof if root.is_empty() => return Err(broken(here, "there is no element in it")),
            Event::Eof if depth > 0 => return Err(broken(here, "it ends in the middle")),
            Event::Eof => return Ok(root),
            Event::DocType(_) | Event::Comment(_) | Event::Decl(_) | Event::PI(_) => {}
        }
    }
}

/// An attribute as text, its entities resolved; one that cannot be read is not there.
pub(super) fn attribute(tag: &BytesStart<'_>, name: &str) -> Option<String> {
    let mut all = tag.attributes();
    // The check for twins takes quadratic time.
    let found = all.with_checks(false).flatten().find(|attribute| attribute.key.as_ref() == name)?;
    Some(found.normalized_value(XmlVersion::Implicit1_0).ok()?.into_owned())
}

/// A number in an attribute; Surefire writes `1,234.5`.
pub(super) fn number(tag: &BytesStart<'_>, name: &str) -> Option<f64> {
    let number: f64 = attribute(tag, name)?.replace(',', "").trim().parse().ok()?;
    (number.is_finite() && number >= 0.0).then_some(number)
}
