//! A file read row by row, in bounded memory: however long the file, one row is held at a time.

use std::fs::File;
use std::io::{self, BufRead, BufReader, Read, Seek, SeekFrom};

use super::limited::{Limited, too_long};
use csv::{ByteRecord, Reader, ReaderBuilder, StringRecord};
use masterchief_contract::Value;
use quick_xml::events::Event;
use serde_json::Map;

use super::mask::{FileMask, Format};
use super::xml;

/// The longest row, in bytes.
const ROW_MAX: u64 = 16 << 20;

/// What reading a row gives.
pub(super) enum Next {
    /// A row as text and as a value.
    Row(String, Value),
    /// A row that cannot be understood, as far as it was read, and why. Reading goes on behind it.
    Bad(Vec<u8>, String),
    /// The rest of the file cannot be understood.
    Broken(String),
    /// There is no more.
    End,
}

/// The rows of a file.
pub(super) enum Rows {
    Csv { reader: Box<Reader<Limited<File>>>, headers: Option<StringRecord> },
    Lines { reader: BufReader<File>, json: bool, number: u64 },
    Array { reader: BufReader<File>, at: u64, begun: bool },
    Xml { reader: Box<quick_xml::Reader<BufReader<Limited<File>>>>, row: Option<String>, depth: usize },
    Whole(std::vec::IntoIter<Value>),
}

impl Rows {
    /// The rows of a file, from its beginning.
    pub(super) fn open(file: File, format: Format, mask: &FileMask) -> io::Result<Result<Rows, String>> {
        let mut file = file;
        skip_mark(&mut file)?;
        Ok(Ok(match format {
            Format::Csv => {
                let mut reader = csv_reader(Limited::new(file, ROW_MAX), mask);
                match csv_headers(&mut reader, mask) {
                    Ok(headers) => Rows::Csv { reader: Box::new(reader), headers },
                    Err(fault) => return Ok(Err(fault)),
                }
            }
            Format::Text | Format::Ndjson => {
                Rows::Lines { reader: BufReader::new(file), json: format == Format::Ndjson, number: 0 }
            }
            Format::Json => Rows::Array { reader: BufReader::new(file), at: 0, begun: false },
            Format::Xml => {
                let reader = Box::new(quick_xml::Reader::from_reader(BufReader::new(Limited::new(file, ROW_MAX))));
                Rows::Xml { reader, row: mask.row.clone(), depth: 0 }
            }
            Format::Yaml => {
                let mut bytes = Vec::new();
                file.take(ROW_MAX + 1).read_to_end(&mut bytes)?;
                if bytes.len() as u64 > ROW_MAX {
                    return Ok(Err(format!("a YAML file has at most {ROW_MAX} bytes")));
                }
                let text = match String::from_utf8(bytes) {
                    Ok(text) => text,
                    Err(fault) => return Ok(Err(fault.to_string())),
                };
                match super::document::yaml(&text) {
                    Ok(Value::Array(list)) => Rows::Whole(list.into_iter()),
                    Ok(_) => return Ok(Err("rows of a YAML file are the items of a list at its top".to_owned())),
                    Err(fault) => return Ok(Err(fault)),
                }
            }
        }))
    }

    /// The next row.
    pub(super) fn next(&mut self) -> io::Result<Next> {
        match self {
            Rows::Csv { reader, headers } => csv_next(reader, headers.as_ref()),
            Rows::Lines { reader, json, number } => line_next(reader, *json, number),
            Rows::Array { reader, at, begun } => array_next(reader, at, begun),
            Rows::Xml { reader, row, depth } => Ok(xml_next(reader, row.as_deref(), depth)),
            Rows::Whole(items) => Ok(items.next().map_or(Next::End, |value| Next::Row(value.to_string(), value))),
        }
    }
}

/// A byte order mark says nothing.
fn skip_mark(file: &mut File) -> io::Result<()> {
    let mut mark = [0; 3];
    let count = file.read(&mut mark)?;
    let skip = if mark[..count] == *b"\xEF\xBB\xBF" { 3 } else { 0 };
    file.seek(SeekFrom::Start(skip)).map(drop)
}

pub(super) fn csv_reader<R: Read>(from: R, mask: &FileMask) -> Reader<R> {
    ReaderBuilder::new().delimiter(mask.separator).has_headers(mask.headers).from_reader(from)
}

pub(super) fn csv_headers<R: Read>(reader: &mut Reader<R>, mask: &FileMask) -> Result<Option<StringRecord>, String> {
    if !mask.headers {
        return Ok(None);
    }
    reader.headers().cloned().map(Some).map_err(|fault| fault.to_string())
}

/// An object by column names, or a list.
pub(super) fn csv_row(record: &StringRecord, headers: Option<&StringRecord>) -> Value {
    match headers {
        None => Value::Array(record.iter().map(Value::from).collect()),
        Some(headers) => Value::Object(
            headers.iter().zip(record).map(|(name, cell)| (name.to_owned(), Value::from(cell))).collect::<Map<_, _>>(),
        ),
    }
}

fn csv_next(reader: &mut Reader<Limited<File>>, headers: Option<&StringRecord>) -> io::Result<Next> {
    let mut raw = ByteRecord::new();
    let line = reader.position().line();
    reader.get_mut().again();
    let read = reader.read_byte_record(&mut raw);
    let bytes = || raw.iter().collect::<Vec<_>>().join(&b","[..]);
    match read {
        Ok(false) => Ok(Next::End),
        Ok(true) => {
            let record = match StringRecord::from_byte_record(raw.clone()) {
                Ok(record) => record,
                Err(fault) => {
                    let line = raw.position().map_or(0, csv::Position::line);
                    return Ok(Next::Bad(bytes(), format!("line {line}: {fault}")));
                }
            };
            let value = csv_row(&record, headers);
            let cells: Vec<&str> = record.iter().collect();
            Ok(Next::Row(cells.join(","), value))
        }
        Err(fault) => match fault.into_kind() {
            csv::ErrorKind::Io(fault) if too_long(&fault) => Ok(Next::Broken(format!(
                "line {line}: the row that begins here has more than {ROW_MAX} bytes; is a quote not closed?"
            ))),
            csv::ErrorKind::Io(fault) => Err(fault),
            kind => Ok(Next::Bad(bytes(), csv_fault(&kind))),
        },
    }
}

fn csv_fault(kind: &csv::ErrorKind) -> String {
    let line = |pos: &Option<csv::Position>| pos.as_ref().map_or(0, csv::Position::line);
    match kind {
        csv::ErrorKind::UnequalLengths { pos, expected_len, len } => {
            format!("line {}: it has {len} cells, and the others have {expected_len}", line(pos))
        }
        csv::ErrorKind::Utf8 { pos, err } => format!("line {}: {err}", line(pos)),
        other => format!("{other:?}"),
    }
}

fn line_next(reader: &mut BufReader<File>, json: bool, number: &mut u64) -> io::Result<Next> {
    loop {
        let mut bytes = Vec::new();
        if (&mut *reader).take(ROW_MAX + 1).read_until(b'\n', &mut bytes)? == 0 {
            return Ok(Next::End);
        }
        *number += 1;
        if bytes.len() as u64 > ROW_MAX && bytes.last() != Some(&b'\n') {
            pass_line(reader)?;
            let reason = format!("line {number}: it has more than {ROW_MAX} bytes, which is the most that a row has");
            return Ok(Next::Bad(bytes, reason));
        }
        while matches!(bytes.last(), Some(b'\n' | b'\r')) {
            bytes.pop();
        }
        if json && bytes.iter().all(u8::is_ascii_whitespace) {
            continue;
        }
        let text = match String::from_utf8(bytes) {
            Ok(text) => text,
            Err(fault) => {
                let reason = format!("line {number}: {fault}");
                return Ok(Next::Bad(fault.into_bytes(), reason));
            }
        };
        if !json {
            return Ok(Next::Row(text, Value::Null));
        }
        return Ok(match serde_json::from_str(&text) {
            Ok(value) => Next::Row(text, value),
            Err(fault) => Next::Bad(text.into_bytes(), format!("line {number}, column {}: {fault}", fault.column())),
        });
    }
}

/// Reads to the end of a line and keeps nothing of it.
fn pass_line(reader: &mut BufReader<File>) -> io::Result<()> {
    loop {
        let here = reader.fill_buf()?;
        let (end, length) = (here.iter().position(|byte| *byte == b'\n'), here.len());
        reader.consume(end.map_or(length, |end| end + 1));
        if end.is_some() || length == 0 {
            return Ok(());
        }
    }
}

/// The next byte that is no white space, not taken.
fn peek(reader: &mut BufReader<File>, at: &mut u64) -> io::Result<Option<u8>> {
    loop {
        match reader.fill_buf()?.first() {
            Some(byte) if byte.is_ascii_whitespace() => {
                reader.consume(1);
                *at += 1;
            }
            byte => return Ok(byte.copied()),
        }
    }
}

/// The items of a list at the top of a JSON file: found by counting brackets, then read each by itself.
fn array_next(reader: &mut BufReader<File>, at: &mut u64, begun: &mut bool) -> io::Result<Next> {
    let broken = |at: u64, what: &str| Ok(Next::Broken(format!("byte {at}: {what}")));
    let take = |reader: &mut BufReader<File>, at: &mut u64| {
        reader.consume(1);
        *at += 1;
    };
    if !*begun {
        if peek(reader, at)? != Some(b'[') {
            return broken(*at, "rows of a JSON file are the items of a list at its top");
        }
        take(reader, at);
        *begun = true;
    } else {
        match peek(reader, at)? {
            Some(b',') => take(reader, at),
            Some(b']') => {}
            Some(_) => return broken(*at, "there is no comma between two items"),
            None => return broken(*at, "the list is not closed"),
        }
    }
    let start = match peek(reader, at)? {
        Some(b']') => return Ok(Next::End),
        Some(_) => *at,
        None => return broken(*at, "the list is not closed"),
    };
    let mut item = Vec::new();
    let (mut depth, mut text, mut escaped) = (0_u32, false, false);
    loop {
        let Some(byte) = reader.fill_buf()?.first().copied() else {
            return broken(*at, "the file ends inside an item");
        };
        match byte {
            _ if escaped => escaped = false,
            b'\\' if text => escaped = true,
            b'"' => text = !text,
            _ if text => {}
            b'{' | b'[' => depth += 1,
            b'}' | b']' if depth > 0 => depth -= 1,
            b',' | b']' => break,
            _ => {}
        }
        item.push(byte);
        take(reader, at);
        if item.len() as u64 > ROW_MAX {
            return broken(start, "an item is too long");
        }
    }
    Ok(match serde_json::from_slice(&item) {
        Ok(value) => Next::Row(String::from_utf8_lossy(&item).trim_end().to_owned(), value),
        Err(fault) => Next::Bad(item, format!("the item at byte {start}: {fault}")),
    })
}

/// The next element that is a row: of the name that is asked for, else a child of the root.
fn xml_next(reader: &mut quick_xml::Reader<BufReader<Limited<File>>>, row: Option<&str>, depth: &mut usize) -> Next {
    let mut buffer = Vec::new();
    loop {
        let at = reader.buffer_position();
        reader.get_mut().get_mut().again();
        let event = match reader.read_event_into(&mut buffer) {
            Ok(event) => event,
            Err(fault) => return Next::Broken(format!("byte {at}: {fault}")),
        };
        let is_row = |start: &quick_xml::events::BytesStart<'_>, depth: usize| match row {
            Some(name) => xml::name(start) == name,
            None => depth == 1,
        };
        let value = match event {
            Event::Start(start) if is_row(&start, *depth) => {
                let start = start.into_owned();
                xml::element(reader, &start, *depth)
            }
            Event::Empty(start) if is_row(&start, *depth) => xml::attributes(&start),
            Event::Start(_) => {
                *depth += 1;
                buffer.clear();
                continue;
            }
            Event::End(_) => {
                *depth = depth.saturating_sub(1);
                buffer.clear();
                continue;
            }
            Event::Eof if *depth > 0 => return Next::Broken(format!("byte {at}: the file ends inside an element")),
            Event::Eof => return Next::End,
            _ => {
                buffer.clear();
                continue;
            }
        };
        return match value {
            Ok(value) => Next::Row(value.to_string(), value),
            Err(fault) => Next::Broken(fault),
        };
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write;
    use std::path::Path;

    use super::*;

    fn rows(name: &str, beginning: &str, line: &str, bytes: usize) -> (tempfile::TempDir, File, Rows) {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join(name);
        let mut file = File::create(&path).unwrap();
        file.write_all(beginning.as_bytes()).unwrap();
        file.write_all(line.repeat(bytes / line.len()).as_bytes()).unwrap();
        let mask = FileMask::parse(&format!("{} rows", path.display())).unwrap();
        let file = File::open(&path).unwrap();
        let same = file.try_clone().unwrap();
        (dir, same, Rows::open(file, Format::of(Path::new(name)), &mask).unwrap().unwrap())
    }

    #[test]
    fn a_quote_that_is_not_closed_does_not_make_the_rest_of_a_big_file_one_row() {
        let (_dir, mut file, mut rows) = rows("a.csv", "id,name\n1,one\n2,\"two\n", "3,three\n", 40 << 20);
        assert!(matches!(rows.next().unwrap(), Next::Row(text, _) if text == "1,one"));
        let Next::Broken(fault) = rows.next().unwrap() else { panic!("it is read as a row") };
        assert!(fault.starts_with("line 3: ") && fault.contains("is a quote not closed?"), "{fault}");
        // No more was read than is held of one row.
        assert!(file.stream_position().unwrap() < ROW_MAX + (1 << 20));
    }

    #[test]
    fn rows_that_are_many_are_no_row_that_is_long() {
        let (_dir, _, mut rows) = rows("a.csv", "id,name\n", "3,three and some more words\n", 20 << 20);
        let mut count = 0;
        while let Next::Row(..) = rows.next().unwrap() {
            count += 1;
        }
        assert!(count > 700_000, "{count}");
    }

    #[test]
    fn a_line_that_is_too_long_is_refused_whole_and_those_behind_it_are_rows() {
        for (name, line) in [("a.txt", "words "), ("a.ndjson", "[1],")] {
            let (_dir, _, mut rows) = self::rows(name, "1\n", line, 40 << 20);
            assert!(matches!(rows.next().unwrap(), Next::Row(text, _) if text == "1"));
            let Next::Bad(kept, fault) = rows.next().unwrap() else { panic!("it is read as a row") };
            assert!(fault.starts_with("line 2: it has more than 16777216 bytes"), "{fault}");
            assert!(kept.len() as u64 <= ROW_MAX + 1);
            assert!(matches!(rows.next().unwrap(), Next::End));
        }
        let line = format!("{}\n", "x".repeat((16 << 20) - 1));
        let text = format!("{line}{line}y\n");
        let (_dir, _, mut rows) = self::rows("a.txt", "", &text, text.len());
        for length in [(16 << 20) - 1, (16 << 20) - 1, 1] {
            assert!(matches!(rows.next().unwrap(), Next::Row(text, _) if text.len() == length));
        }
        let long = format!("{}\nshort\n", "x".repeat((16 << 20) + 2));
        let (_dir, _, mut rows) = self::rows("a.txt", "", &long, long.len());
        assert!(matches!(rows.next().unwrap(), Next::Bad(..)));
        assert!(matches!(rows.next().unwrap(), Next::Row(text, _) if text == "short"));
    }

    #[test]
    fn an_element_without_an_end_is_given_up() {
        let (_dir, mut file, mut rows) = rows("a.xml", "<all><row>1</row><row>", "words ", 40 << 20);
        assert!(matches!(rows.next().unwrap(), Next::Row(text, _) if text == "\"1\""));
        let Next::Broken(fault) = rows.next().unwrap() else { panic!("it is read as a row") };
        assert!(fault.contains("longer than"), "{fault}");
        assert!(file.stream_position().unwrap() < ROW_MAX + (1 << 20));
    }
}
