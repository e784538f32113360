//! The bind table: who has bound what, and the index that decisions are made by.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use arc_swap::ArcSwap;
use foldhash::fast::FixedState;
use masterchief_contract::{BindId, Bound, CaseMap, FlagScope, Kind, Matching, Wanted};
use tokio::sync::watch;

use super::bind::{Bind, NewBind};
use crate::users::FlagMask;

/// The table. Cheap to clone; all clones are the same one. Reading takes no lock.
#[derive(Clone, Debug)]
pub struct BindTable {
    inner: Arc<Inner>,
}

#[derive(Debug)]
struct Inner {
    rows: Mutex<Rows>,
    index: ArcSwap<Index>,
    bound: watch::Sender<Arc<[Bound]>>,
    changes: watch::Sender<u64>,
}

#[derive(Clone, Debug, Default)]
struct Rows {
    last_id: u64,
    /// Owners in the order in which they first bound something. A reload keeps the place.
    owners: Vec<Arc<str>>,
    /// The binds of each owner, oldest first.
    binds: HashMap<Arc<str>, Vec<Arc<Bind>>>,
}

/// A table at one moment, arranged for deciding. The newest bind comes first everywhere, as in Eggdrop.
#[derive(Debug, Default)]
pub struct Index {
    /// By kind and folded word.
    pub(super) words: HashMap<Kind, HashMap<String, Vec<Arc<Bind>>, FixedState>, FixedState>,
    /// By kind, for those that are matched one by one.
    pub(super) masks: HashMap<Kind, Vec<Arc<Bind>>, FixedState>,
    /// By number, for those that their source names.
    pub(super) named: HashMap<BindId, Arc<Bind>>,
}

/// A bind for people to read.
#[derive(Clone, Debug)]
pub struct BindRow {
    /// Its number.
    pub id: BindId,
    /// Its kind.
    pub kind: Kind,
    /// Its mask.
    pub mask: Arc<str>,
    /// What it asks of the person.
    pub flags: FlagMask,
    /// Whose flags count.
    pub scope: FlagScope,
    /// The grammar of its arguments.
    pub usage: Option<String>,
    /// One sentence.
    pub help: Option<String>,
    /// Other words.
    pub aliases: Vec<String>,
    /// Whether a newer bind of the same word serves instead.
    pub shadowed: bool,
    /// How often it was called.
    pub hits: u64,
    /// Who wrote its handler.
    pub origin: String,
    /// Whose it is.
    pub owner: Arc<str>,
}

impl Default for BindTable {
    fn default() -> BindTable {
        BindTable::new()
    }
}

impl BindTable {
    /// An empty table.
    pub fn new() -> BindTable {
        let bound = watch::Sender::new(Arc::from([]));
        BindTable {
            inner: Arc::new(Inner {
                rows: Mutex::default(),
                index: ArcSwap::default(),
                bound,
                changes: watch::Sender::new(0),
            }),
        }
    }

    /// Adds a bind.
    pub fn bind(&self, owner: &str, new: NewBind) -> BindId {
        let mut rows = self.lock();
        let id = rows.add(owner, new);
        self.publish(&rows);
        id
    }

    /// Takes a bind away; whether it was there.
    pub fn unbind(&self, id: BindId) -> bool {
        let mut rows = self.lock();
        let before = rows.count();
        rows.binds.values_mut().for_each(|binds| binds.retain(|bind| bind.id != id));
        self.publish(&rows);
        rows.count() < before
    }

    /// Replaces all binds of an owner at once: no event sees some of the old and some of the new. The owner keeps its
    /// place among the others.
    pub fn replace(&self, owner: &str, new: Vec<NewBind>) -> Vec<BindId> {
        let mut rows = self.lock();
        rows.binds.remove(owner);
        let ids = new.into_iter().map(|bind| rows.add(owner, bind)).collect();
        self.publish(&rows);
        ids
    }

    /// What the table would be if the binds of an owner were replaced by these.
    pub fn with(&self, owner: &str, new: Vec<NewBind>) -> Index {
        let mut rows = self.lock().clone();
        rows.binds.remove(owner);
        for bind in new {
            rows.add(owner, bind);
        }
        rows.index()
    }

    /// What the table would be with one more bind of an owner.
    pub fn with_one(&self, owner: &str, new: NewBind) -> Index {
        let mut rows = self.lock().clone();
        rows.add(owner, new);
        rows.index()
    }

    /// What the table would be without a bind.
    pub fn without(&self, id: BindId) -> Index {
        let mut rows = self.lock().clone();
        rows.binds.values_mut().for_each(|binds| binds.retain(|bind| bind.id != id));
        rows.index()
    }

    /// Removes everything.
    pub fn clear(&self) {
        let mut rows = self.lock();
        rows.binds.clear();
        rows.owners.clear();
        self.publish(&rows);
    }

    /// Removes an owner with all its binds.
    pub fn remove(&self, owner: &str) {
        let mut rows = self.lock();
        rows.binds.remove(owner);
        rows.owners.retain(|name| &**name != owner);
        self.publish(&rows);
    }

    /// The table as it is now.
    pub fn index(&self) -> arc_swap::Guard<Arc<Index>> {
        self.inner.index.load()
    }

    /// The binds that sources serve, as they change.
    pub fn bound(&self) -> watch::Receiver<Arc<[Bound]>> {
        self.inner.bound.subscribe()
    }

    /// One of those binds, by its number.
    pub fn named(&self, id: BindId) -> Option<Arc<Bind>> {
        self.index().named.get(&id).cloned()
    }

    /// The bind of a kind that serves this mask, for kinds that are asked for by name.
    pub fn serving(&self, kind: Kind, mask: &str) -> Option<Arc<Bind>> {
        let rows = self.lock();
        rows.newest_first().find(|bind| bind.kind() == kind && *bind.mask == *mask).cloned()
    }

    /// The binds that are served from the journal, each with what it wants read.
    pub fn wanted(&self) -> Vec<(Bound, Arc<Bind>, Wanted)> {
        let bound = self.inner.bound.borrow().clone();
        let mut out = Vec::new();
        for bound in bound.iter() {
            let Some(bind) = self.named(bound.bind).filter(|bind| bind.spec().matching == Matching::Journal) else {
                continue;
            };
            match bind.spec().wants.map(|wants| wants(&bind.mask)) {
                Some(Ok(wanted)) => out.push((bound.clone(), bind, wanted)),
                _ => tracing::error!(mask = %bind.mask, "A mask that was good when it was bound is not"),
            }
        }
        out
    }

    /// A number that changes with the table.
    pub fn changes(&self) -> watch::Receiver<u64> {
        self.inner.changes.subscribe()
    }

    /// Whether there is a bind of one of these kinds.
    pub fn has_any(&self, kinds: &[Kind]) -> bool {
        let index = self.index();
        kinds.iter().any(|kind| index.masks.contains_key(kind) || index.words.contains_key(kind))
    }

    /// The masks of all binds of a kind.
    pub fn masks(&self, kind: Kind) -> Vec<Arc<str>> {
        let rows = self.lock();
        rows.newest_first().filter(|bind| bind.kind() == kind).map(|bind| Arc::clone(&bind.mask)).collect()
    }

    /// All binds, newest owner and newest bind first.
    pub fn rows(&self) -> Vec<BindRow> {
        let rows = self.lock();
        let mut seen: Vec<(Kind, String)> = Vec::new();
        let mut out = Vec::new();
        for bind in rows.newest_first() {
            let key = (bind.kind(), CaseMap::Rfc1459.fold(&bind.mask));
            let shadowed = !bind.spec.stackable && seen.contains(&key);
            seen.push(key);
            out.push(BindRow {
                id: bind.id,
                kind: bind.kind(),
                mask: Arc::clone(&bind.mask),
                flags: bind.flags,
                scope: bind.spec.flags,
                usage: bind.options.usage.clone(),
                help: bind.options.help.clone(),
                aliases: bind.options.aliases.clone(),
                shadowed,
                hits: bind.hits(),
                origin: bind.origin(),
                owner: Arc::clone(&bind.owner),
            });
        }
        out
    }

    fn publish(&self, rows: &Rows) {
        self.inner.index.store(Arc::new(rows.index()));
        let bound: Arc<[Bound]> = rows.bound().into();
        self.inner.bound.send_if_modified(|now| {
            let changed = *now != bound;
            *now = bound;
            changed
        });
        self.inner.changes.send_modify(|number| *number += 1);
    }

    fn lock(&self) -> MutexGuard<'_, Rows> {
        self.inner.rows.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Rows {
    fn add(&mut self, owner: &str, new: NewBind) -> BindId {
        self.last_id += 1;
        let id = BindId(self.last_id);
        let owner = match self.owners.iter().find(|name| &***name == owner) {
            Some(name) => Arc::clone(name),
            None => {
                let name: Arc<str> = Arc::from(owner);
                self.owners.push(Arc::clone(&name));
                name
            }
        };
        let bind = Arc::new(Bind::new(id, &owner, new));
        self.binds.entry(owner).or_default().push(bind);
        id
    }

    fn count(&self) -> usize {
        self.binds.values().map(Vec::len).sum()
    }

    fn newest_first(&self) -> impl Iterator<Item = &Arc<Bind>> {
        self.owners.iter().rev().filter_map(|owner| self.binds.get(owner)).flat_map(|binds| binds.iter().rev())
    }

    fn index(&self) -> Index {
        let mut index = Index::default();
        for bind in self.newest_first() {
            match bind.spec.matching {
                Matching::Word => {
                    let words = index.words.entry(bind.kind()).or_default();
                    for word in bind.words() {
                        // The widest folding finds every candidate; the network's own decides among them.
                        let row = words.entry(CaseMap::Rfc1459.fold(word)).or_default();
                        // An alias may fold to the mask.
                        if row.last().is_none_or(|last: &Arc<Bind>| last.id != bind.id) {
                            row.push(Arc::clone(bind));
                        }
                    }
                }
                Matching::Mask | Matching::ModeMask => {
                    index.masks.entry(bind.kind()).or_default().push(Arc::clone(bind));
                }
                Matching::Named | Matching::Journal => {
                    index.named.insert(bind.id, Arc::clone(bind));
                }
            }
        }
        index
    }

    fn bound(&self) -> Vec<Bound> {
        let named =
            self.newest_first().filter(|bind| matches!(bind.spec.matching, Matching::Named | Matching::Journal));
        let bound = named.map(|bind| Bound {
            bind: bind.id,
            kind: bind.kind(),
            mask: Arc::clone(&bind.mask),
            options: bind.options.clone(),
            key: Arc::from(format!("{} {} {}", bind.kind(), bind.mask, bind.owner)),
        });
        bound.collect()
    }
}
