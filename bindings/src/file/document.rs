//! A file read as a whole.

use masterchief_contract::{EVENT_BYTES, Value, size_of};

use super::mask::{FileMask, Format};
use super::xml;

/// YAML 1.2: `no` is a word.
pub(super) fn yaml(text: &str) -> Result<Value, String> {
    let strict = serde_saphyr::options! { strict_booleans: true };
    serde_saphyr::from_str_with_options(text, strict).map_err(|fault| fault.to_string())
}

/// What a whole file says. A fault says where it is.
pub(super) fn parse(format: Format, text: &str, mask: &FileMask) -> Result<Value, String> {
    match format {
        Format::Text => Ok(Value::Null),
        Format::Json => serde_json::from_str(text).map_err(|fault| fault.to_string()),
        Format::Yaml => yaml(text),
        Format::Ndjson => {
            let lines = text.lines().enumerate().filter(|(_, line)| !line.trim().is_empty());
            let values = lines.map(|(at, line)| {
                serde_json::from_str(line)
                    .map_err(|fault| format!("line {}, column {}: {fault}", at + 1, fault.column()))
            });
            values.collect::<Result<Vec<Value>, String>>().map(Value::Array)
        }
        Format::Csv => {
            let mut reader = super::rows::csv_reader(text.as_bytes(), mask);
            let headers = super::rows::csv_headers(&mut reader, mask)?;
            let (mut rows, mut bytes) = (Vec::new(), 0);
            for record in reader.records() {
                let row = super::rows::csv_row(&record.map_err(|fault| fault.to_string())?, headers.as_ref());
                // Each row names the columns again: a small file may be very much.
                bytes += size_of(&row);
                if bytes > EVENT_BYTES {
                    return Err(format!("its rows are more than {EVENT_BYTES} bytes as one value; bind it with rows"));
                }
                rows.push(row);
            }
            Ok(Value::Array(rows))
        }
        Format::Xml => xml::document(text),
    }
}
