//! XML as values: an element is an object of its attributes (`@name`), its children by name and its text (`#text`); one
//! that has only text is that text; one that stands there more than once is a list.

use std::io::BufRead;

use masterchief_contract::Value;
use quick_xml::Reader;
use quick_xml::events::{BytesStart, Event};
use serde_json::Map;

/// Elements inside elements at most.
const DEPTH: usize = 128;

/// A whole document: `{root: ...}`.
pub(super) fn document(text: &str) -> Result<Value, String> {
    let mut reader = Reader::from_reader(text.as_bytes());
    let mut buffer = Vec::new();
    loop {
        let at = reader.buffer_position();
        match reader.read_event_into(&mut buffer).map_err(|fault| format!("byte {at}: {fault}"))? {
            Event::Start(start) => {
                let (name, start) = (name(&start), start.into_owned());
                let value = element(&mut reader, &start, 0)?;
                return Ok(Value::Object(Map::from_iter([(name, value)])));
            }
            Event::Empty(start) => {
                return Ok(Value::Object(Map::from_iter([(name(&start), attributes(&start)?)])));
            }
            Event::Eof => return Err("there is no element in it".to_owned()),
            _ => {}
        }
        buffer.clear();
    }
}

/// An element's own name, without a namespace's prefix.
pub(super) fn name(start: &BytesStart<'_>) -> String {
    start.local_name().as_ref().to_owned()
}

fn put(into: &mut Map<String, Value>, name: String, value: Value) {
    match into.get_mut(&name) {
        None => {
            into.insert(name, value);
        }
        Some(Value::Array(list)) => list.push(value),
        Some(one) => *one = Value::Array(vec![one.take(), value]),
    }
}

pub(super) fn attributes(start: &BytesStart<'_>) -> Result<Value, String> {
    let mut out = Map::new();
    for attribute in start.attributes() {
        let attribute = attribute.map_err(|fault| fault.to_string())?;
        let name = attribute.key.as_ref().to_owned();
        let value = quick_xml::escape::unescape(&attribute.value).map_err(|fault| fault.to_string())?.into_owned();
        out.insert(format!("@{name}"), Value::String(value));
    }
    Ok(if out.is_empty() { Value::String(String::new()) } else { Value::Object(out) })
}

/// What an element holds; its start was read.
pub(super) fn element<R: BufRead>(
    reader: &mut Reader<R>,
    start: &BytesStart<'_>,
    depth: usize,
) -> Result<Value, String> {
    if depth >= DEPTH {
        return Err(format!("byte {}: elements stand more than {DEPTH} deep in each other", reader.buffer_position()));
    }
    let mut out = match attributes(start)? {
        Value::Object(map) => map,
        _ => Map::new(),
    };
    let mut text = String::new();
    let mut buffer = Vec::new();
    loop {
        let at = reader.buffer_position();
        let wrong = |fault: &dyn std::fmt::Display| format!("byte {at}: {fault}");
        match reader.read_event_into(&mut buffer).map_err(|fault| wrong(&fault))? {
            Event::Start(start) => {
                let (name, start) = (name(&start), start.into_owned());
                let value = element(reader, &start, depth + 1)?;
                put(&mut out, name, value);
            }
            Event::Empty(start) => put(&mut out, name(&start), attributes(&start)?),
            Event::Text(part) => {
                text.push_str(&quick_xml::escape::unescape(&part).map_err(|fault| wrong(&fault))?);
            }
            Event::GeneralRef(entity) => {
                let entity = format!("&{};", &*entity);
                text.push_str(&quick_xml::escape::unescape(&entity).map_err(|fault| wrong(&fault))?);
            }
            Event::CData(part) => text.push_str(&part),
            Event::End(_) => break,
            Event::Eof => return Err(wrong(&"the file ends inside an element")),
            _ => {}
        }
        buffer.clear();
    }
    let text = text.trim();
    if out.is_empty() {
        return Ok(Value::String(text.to_owned()));
    }
    if !text.is_empty() {
        out.insert("#text".to_owned(), Value::String(text.to_owned()));
    }
    Ok(Value::Object(out))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn elements_attributes_text_and_lists_become_values() {
        let text = r#"<?xml version="1.0"?><!-- c --><r a="1 &amp; 2"><x>one</x><x>t&lt;wo</x><y b="c">z</y><e/><![CDATA[<raw>]]></r>"#;
        assert_eq!(
            document(text).unwrap(),
            json!({"r": {"@a": "1 & 2", "x": ["one", "t<wo"], "y": {"@b": "c", "#text": "z"}, "e": "", "#text": "<raw>"}})
        );
    }

    #[test]
    fn what_is_no_xml_is_refused_with_its_place() {
        for bad in ["", "text", "<a><b></a>", "<a>", "<a>&nope;</a>"] {
            assert!(document(bad).is_err(), "{bad}");
        }
        assert!(document(&"<a>".repeat(1000)).unwrap_err().contains("deep"));
    }
}
