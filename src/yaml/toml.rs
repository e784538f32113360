//! TOML, into the same tree: whoever prefers it writes the same keys, and is told of the same faults at the same kind of place.

use std::ops::Range;
use std::path::Path;
use std::sync::Arc;

use toml_edit::{Document, Item, TableLike, Value};

use super::tree::{ConfigFault, Node, Spot, What};

/// Reads a file's text.
pub(super) fn read(file: &Path, text: &str) -> Result<Node, ConfigFault> {
    let ends = text.match_indices('\n').map(|(at, _)| at + 1);
    let places = Places { file: Arc::from(file), text, lines: std::iter::once(0).chain(ends).collect() };
    let start = places.spot(Some(0..0), None);
    let document = Document::parse(text).map_err(|fault| {
        let message = fault.message().lines().next().unwrap_or("this is no TOML").to_owned();
        ConfigFault { spot: Some(places.spot(fault.span(), Some(&start))), message }
    })?;
    Ok(Node { what: places.table(document.as_table(), &start), spot: start })
}

/// Where the parts of a text stand.
struct Places<'t> {
    file: Arc<Path>,
    text: &'t str,
    /// Where each line begins.
    lines: Vec<usize>,
}

impl Places<'_> {
    /// The line and the column of a part; those of what it belongs to where it has none of its own.
    fn spot(&self, span: Option<Range<usize>>, of: Option<&Spot>) -> Spot {
        let file = Arc::clone(&self.file);
        let Some(at) = span.map(|span| span.start.min(self.text.len())) else {
            return of.cloned().unwrap_or(Spot { file, line: 1, column: 1 });
        };
        let line = self.lines.partition_point(|begins| *begins <= at);
        let before = self.text.get(self.lines[line - 1]..at).unwrap_or_default();
        Spot { file, line: line as u64, column: before.chars().count() as u64 + 1 }
    }

    fn table(&self, table: &dyn TableLike, of: &Spot) -> What {
        let parts = table.iter().filter_map(|(name, item)| {
            let spot = self.spot(table.key(name).and_then(|key| key.span()), Some(of));
            let node = self.item(item, &spot)?;
            Some((name.to_owned(), (spot, node)))
        });
        What::Map(parts.collect())
    }

    fn item(&self, item: &Item, of: &Spot) -> Option<Node> {
        let spot = self.spot(item.span(), Some(of));
        let what = match item {
            Item::None => return None,
            Item::Value(value) => return Some(self.value(value, of)),
            Item::Table(table) => self.table(table, &spot),
            Item::ArrayOfTables(list) => {
                let one = |table: &toml_edit::Table| {
                    let spot = self.spot(table.span(), Some(of));
                    Node { what: self.table(table, &spot), spot }
                };
                What::List(list.iter().map(one).collect())
            }
        };
        Some(Node { spot, what })
    }

    fn value(&self, value: &Value, of: &Spot) -> Node {
        let spot = self.spot(value.span(), Some(of));
        let what = match value {
            Value::String(text) => What::Text(text.value().clone()),
            Value::Integer(number) => What::Int(*number.value()),
            Value::Float(number) => What::Number(*number.value()),
            Value::Boolean(truth) => What::Bool(*truth.value()),
            Value::Datetime(moment) => What::Text(moment.value().to_string()),
            Value::Array(list) => What::List(list.iter().map(|one| self.value(one, &spot)).collect()),
            Value::InlineTable(table) => self.table(table, &spot),
        };
        Node { spot, what }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_part_of_a_toml_file_knows_where_it_stands() {
        let text = "app = \"shop\"\n[stages.test]\nshell = [\"make\", \"täst\"]\ntimeout = \"5m\"\nretry = { times = 3 }\n[[triggers]]\nx = 1.5\n";
        let node = read(Path::new("shop.toml"), text).unwrap();
        let at = |path: &[&str]| {
            let spot = node.spot_of(path);
            (spot.line, spot.column)
        };
        assert_eq!((at(&["app"]), at(&["stages", "test", "timeout"])), ((1, 1), (4, 1)));
        assert_eq!(at(&["stages", "test", "retry", "times"]), (5, 11));
        let What::Map(map) = &node.what else { panic!("no map") };
        let What::List(list) = &map.get("triggers").unwrap().1.what else { panic!("no list") };
        let What::Map(one) = &list[0].what else { panic!("no map") };
        assert_eq!(one.get("x").unwrap().1.what, What::Number(1.5));
    }

    #[test]
    fn what_is_no_toml_is_told_with_its_place() {
        let fault = read(Path::new("shop.toml"), "app = \"shop\"\napp = \"again\"\n").unwrap_err();
        let spot = fault.spot.as_ref().unwrap();
        assert_eq!((spot.line, spot.column), (2, 1), "{fault}");
        let fault = read(Path::new("shop.toml"), "x = 1\ny = ?\n").unwrap_err();
        assert!(fault.to_string().starts_with("shop.toml:2:5: "), "{fault}");
    }
}
