//! Which kinds of bind there are.

use std::collections::BTreeMap;

use masterchief_contract::{Kind, KindSpec};

/// The kinds of a bot, from the lists of its rooms.
#[derive(Debug)]
pub struct Kinds {
    by_name: BTreeMap<&'static str, &'static KindSpec>,
}

impl Kinds {
    /// The kinds of these lists. Of a name that stands in two lists the last counts.
    pub fn new(lists: &[&'static [KindSpec]]) -> Kinds {
        let rows = lists.iter().flat_map(|list| list.iter());
        Kinds { by_name: rows.map(|spec| (spec.kind.name(), spec)).collect() }
    }

    /// The same with more rows.
    pub fn with(&self, more: &'static [KindSpec]) -> Kinds {
        let mut by_name = self.by_name.clone();
        by_name.extend(more.iter().map(|spec| (spec.kind.name(), spec)));
        Kinds { by_name }
    }

    /// The row of a kind.
    pub fn get(&self, name: &str) -> Option<&'static KindSpec> {
        self.by_name.get(name).copied()
    }

    /// The row of a kind that is known to exist.
    pub fn spec(&self, kind: Kind) -> Option<&'static KindSpec> {
        self.get(kind.name())
    }

    /// All rows, by name.
    pub fn all(&self) -> impl Iterator<Item = &'static KindSpec> + use<'_> {
        self.by_name.values().copied()
    }
}
