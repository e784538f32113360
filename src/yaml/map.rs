//! The parts of a map by name: a list in the order of the names. Most maps have a few names only, and a file of stages has ten thousand
//! such maps; a tree of each takes ten times the room.

use super::tree::{Node, Spot};

/// A name, where it stands, and what stands under it.
pub type Entry = (String, (Spot, Node));

/// Parts by name, each name once.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Map {
    entries: Vec<Entry>,
}

impl Map {
    /// One without parts.
    pub fn new() -> Map {
        Map::default()
    }

    /// One of these parts; none where a name stands twice.
    pub(super) fn of(mut entries: Vec<Entry>) -> Option<Map> {
        entries.sort_unstable_by(|(one, _), (other, _)| one.cmp(other));
        let once = entries.windows(2).all(|pair| pair[0].0 != pair[1].0);
        once.then_some(Map { entries })
    }

    /// How many parts there are.
    pub fn len(&self) -> usize {
        self.entries.len()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    /// The part of a name, with the place of the name.
    pub fn get(&self, name: &str) -> Option<&(Spot, Node)> {
        let at = self.find(name).ok()?;
        self.entries.get(at).map(|(_, part)| part)
    }

    /// Takes a part out.
    pub fn remove(&mut self, name: &str) -> Option<(Spot, Node)> {
        let at = self.find(name).ok()?;
        Some(self.entries.remove(at).1)
    }

    /// Puts a part in, instead of one of the same name.
    pub fn insert(&mut self, name: String, part: (Spot, Node)) {
        match self.find(&name) {
            Ok(at) => self.entries[at].1 = part,
            Err(at) => self.entries.insert(at, (name, part)),
        }
    }

    /// The parts in the order of their names.
    pub fn iter(&self) -> std::slice::Iter<'_, Entry> {
        self.entries.iter()
    }

    fn find(&self, name: &str) -> Result<usize, usize> {
        self.entries.binary_search_by(|(known, _)| known.as_str().cmp(name))
    }
}

impl IntoIterator for Map {
    type Item = Entry;
    type IntoIter = std::vec::IntoIter<Entry>;

    fn into_iter(self) -> Self::IntoIter {
        self.entries.into_iter()
    }
}

impl<'a> IntoIterator for &'a Map {
    type Item = &'a Entry;
    type IntoIter = std::slice::Iter<'a, Entry>;

    fn into_iter(self) -> Self::IntoIter {
        self.iter()
    }
}

/// Of parts of one name the last one counts.
impl FromIterator<Entry> for Map {
    fn from_iter<I: IntoIterator<Item = Entry>>(parts: I) -> Map {
        let mut entries: Vec<Entry> = parts.into_iter().collect();
        entries.sort_by(|(one, _), (other, _)| one.cmp(other));
        entries.dedup_by(|later, earlier| {
            let same = later.0 == earlier.0;
            if same {
                std::mem::swap(later, earlier);
            }
            same
        });
        Map { entries }
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;
    use std::sync::Arc;

    use super::super::tree::What;
    use super::*;

    fn entry(name: &str, value: i64) -> Entry {
        let spot = Spot { file: Arc::from(Path::new("x")), line: 1, column: 1 };
        (name.to_owned(), (spot.clone(), Node { spot, what: What::Int(value) }))
    }

    fn told(map: &Map) -> Vec<(&str, &What)> {
        map.iter().map(|(name, (_, node))| (name.as_str(), &node.what)).collect()
    }

    #[test]
    fn parts_are_found_by_their_names_and_each_name_stands_once() {
        let mut map = Map::of(vec![entry("b", 2), entry("c", 3), entry("a", 1)]).unwrap();
        assert_eq!(told(&map), [("a", &What::Int(1)), ("b", &What::Int(2)), ("c", &What::Int(3))]);
        assert_eq!(map.get("b").map(|(_, node)| &node.what), Some(&What::Int(2)));
        assert_eq!(map.get("d"), None);
        let (name, part) = entry("b", 5);
        map.insert(name, part);
        let (name, part) = entry("aa", 7);
        map.insert(name, part);
        assert!(map.remove("a").is_some() && map.remove("a").is_none());
        assert_eq!(told(&map), [("aa", &What::Int(7)), ("b", &What::Int(5)), ("c", &What::Int(3))]);
        assert_eq!(Map::of(vec![entry("a", 1), entry("b", 2), entry("a", 3)]), None);
        let last: Map = [entry("a", 1), entry("b", 2), entry("a", 3), entry("a", 4)].into_iter().collect();
        assert_eq!(told(&last), [("a", &What::Int(4)), ("b", &What::Int(2))]);
    }
}
