//! The usual kind of file, read straight from the parser's events: no anchors, tags or merged keys, one document, and no fault. A file of
//! ten thousand stages is read in a quarter of the time. Everything else is left to `serde-saphyr`, which also words the faults.

use std::path::Path;
use std::sync::Arc;

use granit_parser::{Event, Parser, ScalarStyle, Span};

use super::map::{Entry, Map};
use super::tree::{NODES_MAX, Node, Spot, What, scalar};

/// Deeper files are left to the one that counts.
const DEPTH_MAX: usize = 64;
/// So are longer ones, in bytes.
const BYTES_MAX: usize = 32 << 20;

/// A list or a map that is not at its end.
enum Open {
    List(Spot, Vec<Node>),
    /// The map, and the key that waits for its value.
    Map(Spot, Vec<Entry>, Option<(String, Spot)>),
}

/// Reads a file, if it is of the usual kind.
pub(super) fn read(file: &Arc<Path>, text: &str) -> Option<Node> {
    if text.len() > BYTES_MAX {
        return None;
    }
    let at = |span: &Span| Spot {
        file: Arc::clone(file),
        line: span.start.line() as u64,
        column: span.start.col() as u64 + 1,
    };
    let mut open: Vec<Open> = Vec::new();
    let mut root = None;
    let (mut documents, mut events) = (0, 0);
    for next in Parser::new_from_str(text) {
        let (event, span) = next.ok()?;
        events += 1;
        if events > NODES_MAX {
            return None;
        }
        let node = match event {
            Event::StreamStart | Event::StreamEnd | Event::DocumentEnd => continue,
            Event::DocumentStart(_, None) if documents == 0 => {
                documents += 1;
                continue;
            }
            Event::SequenceStart(_, 0, None) if open.len() < DEPTH_MAX => {
                open.push(Open::List(at(&span), Vec::new()));
                continue;
            }
            Event::MappingStart(_, 0, None) if open.len() < DEPTH_MAX => {
                open.push(Open::Map(at(&span), Vec::new(), None));
                continue;
            }
            Event::SequenceEnd | Event::MappingEnd => match open.pop()? {
                Open::List(spot, list) => Node { spot, what: What::List(list) },
                Open::Map(spot, map, None) => Node { spot, what: What::Map(Map::of(map)?) },
                Open::Map(..) => return None,
            },
            Event::Scalar(value, style, 0, None) => {
                let quoted = style != ScalarStyle::Plain;
                if !quoted && value.contains(['\n', '\r']) {
                    return None;
                }
                if let Some(Open::Map(_, _, key @ None)) = open.last_mut() {
                    if !quoted && !is_word(&value) {
                        return None;
                    }
                    *key = Some((value.into_owned(), at(&span)));
                    continue;
                }
                let what = if quoted || is_word(&value) { What::Text(value.into_owned()) } else { scalar(&value)? };
                Node { spot: at(&span), what }
            }
            _ => return None,
        };
        match open.last_mut() {
            None => root = Some(node),
            Some(Open::List(_, list)) => list.push(node),
            Some(Open::Map(_, map, key)) => {
                let (key, spot) = key.take()?;
                map.push((key, (spot, node)));
            }
        }
    }
    root
}

/// Whether this is a text without a doubt: no number, no truth, nothing.
fn is_word(text: &str) -> bool {
    const NOT: &[&str] = &["true", "false", "yes", "no", "on", "off", "y", "n", "null", "nan", "inf", "infinity"];
    text.starts_with(char::is_alphabetic) && !NOT.iter().any(|not| text.eq_ignore_ascii_case(not))
}
