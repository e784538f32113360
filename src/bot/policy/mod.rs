//! Policy as tested data: a table of who may do what where, held against binds, people and pipelines. What breaks it is not taken.

mod judge;
mod table;

use std::path::PathBuf;
use std::sync::Arc;

use arc_swap::ArcSwap;

use judge::Judge;
pub use table::Table;

use crate::config::{Config, ConfigFault};
use crate::dispatch::{BindTable, Index};
use crate::pipelines::Pipelines;
use crate::users::{Book, User};

/// A table that does not hold, or cannot be read: the rows with their places.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the policy does not hold, so nothing is changed (`masterchief policy test` tries it):\n{}", lines(.0))]
pub struct Broken(pub Vec<ConfigFault>);

fn lines(faults: &[ConfigFault]) -> String {
    faults.iter().map(|fault| format!("  {fault}")).collect::<Vec<_>>().join("\n")
}

/// Which table there is, and for which networks.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Settings {
    /// The file, which need not be there.
    pub file: Option<PathBuf>,
    /// The networks that may be named.
    pub networks: Vec<String>,
}

impl Settings {
    /// Of a configuration.
    pub fn of(config: &Config) -> Settings {
        let file = Some(config.source.policy.clone()).filter(|file| !file.as_os_str().is_empty());
        Settings { file, networks: config.networks.keys().cloned().collect() }
    }

    /// The table; an empty one where there is no file.
    fn table(&self) -> Result<Table, Broken> {
        match self.file.as_ref().filter(|file| file.exists()) {
            Some(file) => Table::read(file).map_err(Broken),
            None => Ok(Table::default()),
        }
    }
}

/// The policy of a running bot. Cheap to clone; all clones are the same.
#[derive(Clone)]
pub(crate) struct Policy {
    taken: Arc<ArcSwap<Taken>>,
    binds: BindTable,
    book: Book,
    pipelines: Pipelines,
}

/// The table as it was read: what is being written in the file counts when it is taken.
struct Taken {
    networks: Vec<String>,
    table: Table,
}

impl Policy {
    /// Reads the table.
    pub(crate) fn open(
        settings: Settings,
        binds: &BindTable,
        book: &Book,
        pipelines: &Pipelines,
    ) -> Result<Policy, Broken> {
        let taken = Taken { table: settings.table()?, networks: settings.networks };
        let taken = Arc::new(ArcSwap::from_pointee(taken));
        Ok(Policy { taken, binds: binds.clone(), book: book.clone(), pipelines: pipelines.clone() })
    }

    /// Whether the table holds as everything is now.
    pub(crate) fn holds(&self) -> Result<(), Broken> {
        broken(self.faults_with(&self.binds.index(), &self.book))
    }

    /// Whether these binds break nothing that holds now.
    pub(crate) fn holds_for(&self, index: &Index) -> Result<(), Broken> {
        self.no_worse(self.faults_with(index, &self.book))
    }

    /// Whether this record breaks nothing that holds now.
    pub(crate) fn holds_for_user(&self, user: &User) -> Result<(), Broken> {
        self.holds_after(|book| put(book, user))
    }

    /// Whether these records, beside the others that there are but for those that are gone, break nothing that holds now.
    pub(crate) fn holds_beside(&self, users: &[User], gone: &[String]) -> Result<(), Broken> {
        self.holds_after(|book| book.exchange(gone, users))
    }

    /// Whether nothing breaks that holds now without this record, or with another in its place.
    pub(crate) fn holds_without(&self, handle: &str, instead: Option<&User>) -> Result<(), Broken> {
        self.holds_after(|book| {
            book.remove(handle);
            instead.into_iter().for_each(|user| put(book, user));
        })
    }

    /// Whether these people break nothing that holds now.
    pub(crate) fn holds_for_people(&self, users: Vec<User>) -> Result<(), Broken> {
        self.holds_after(|book| book.fill(users))
    }

    fn holds_after(&self, change: impl FnOnce(&Book)) -> Result<(), Broken> {
        if self.taken.load().table.rows.is_empty() {
            return Ok(());
        }
        let book = self.book.apart();
        change(&book);
        self.no_worse(self.faults_with(&self.binds.index(), &book))
    }

    /// Takes the table of another configuration, if it holds with that.
    pub(crate) fn take(&self, config: &Config) -> Result<(), Broken> {
        let settings = Settings::of(config);
        let taken = Taken { table: settings.table()?, networks: settings.networks };
        let book = self.book.apart();
        // Flags that cannot be read were refused with the configuration.
        let _ = book.configure(&config.users);
        let (catalog, index) = (self.pipelines.catalog_of(&config.pipelines), self.binds.index());
        let groups = config.pipelines.groups.clone();
        let judge = Judge { networks: &taken.networks, index: &index, book: &book, catalog: &catalog, groups };
        broken(judge.faults(&taken.table))?;
        self.taken.store(Arc::new(taken));
        Ok(())
    }

    /// What breaks a table, as everything is now.
    pub(crate) fn faults(&self, table: &Table) -> Vec<ConfigFault> {
        self.judged(&self.binds.index(), &self.book, |judge| judge.faults(table))
    }

    /// The policy for people to read: who may what, then the rows of a table and whether they hold.
    pub(crate) fn lines(&self, table: &Table) -> Vec<String> {
        let mut lines = judge::commands(&self.binds, &self.book);
        lines.extend(judge::places(&self.pipelines.catalog(), &self.book));
        lines.extend(self.judged(&self.binds.index(), &self.book, |judge| judge.lines(table)));
        lines
    }

    /// The same with the table that was taken.
    pub(crate) fn shown(&self) -> Vec<String> {
        self.lines(&self.taken.load().table)
    }

    fn faults_with(&self, index: &Index, book: &Book) -> Vec<ConfigFault> {
        self.judged(index, book, |judge| judge.faults(&self.taken.load().table))
    }

    /// What is broken already is no reason to refuse what has nothing to do with it, or mends a part of it.
    fn no_worse(&self, mut faults: Vec<ConfigFault>) -> Result<(), Broken> {
        if !faults.is_empty() {
            let before = self.faults_with(&self.binds.index(), &self.book);
            faults.retain(|fault| !before.contains(fault));
        }
        broken(faults)
    }

    fn judged<T>(&self, index: &Index, book: &Book, of: impl Fn(&Judge<'_>) -> T) -> T {
        let (taken, catalog) = (self.taken.load(), self.pipelines.catalog());
        let groups = self.pipelines.settings().groups.clone();
        of(&Judge { networks: &taken.networks, index, book, catalog: &catalog, groups })
    }
}

/// What cannot be written is refused by the book itself.
fn put(book: &Book, user: &User) {
    let _ = book.put(user.clone());
}

fn broken(faults: Vec<ConfigFault>) -> Result<(), Broken> {
    if faults.is_empty() { Ok(()) } else { Err(Broken(faults)) }
}
