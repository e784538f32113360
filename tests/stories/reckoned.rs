//! What came of an hour of chaos, and whether it is as it should be.

use std::collections::{BTreeMap, BTreeSet};

/// What came of a run.
#[derive(Debug, Default)]
pub(crate) struct Told {
    /// What may be deployed: somebody who may has asked for it, on a line that was said whole and live.
    pub(crate) may: BTreeSet<u64>,
    /// What must have been deployed: besides, the bot could know who it was, and answered a PING after it.
    pub(crate) must: BTreeSet<u64>,
    /// How often each was confirmed: in the channel, or to who asked where that is told no more just then.
    pub(crate) confirmed: BTreeMap<u64, usize>,
    /// Confirmations that were cut off in the middle.
    pub(crate) cut: usize,
    /// Those that a server had when it died, and passed on to nobody.
    pub(crate) swallowed: BTreeSet<u64>,
    /// How often each page was heard: as it is, and marked as one that was perhaps said before.
    pub(crate) pages: BTreeMap<u64, (usize, usize)>,
    /// Pages that a server had when it died.
    pub(crate) swallowed_pages: usize,
    pub(crate) connections: u64,
}

/// What stands before words that may have been said already.
pub(crate) const AGAIN: &str = "(perhaps said before) ";

/// The number in words such as `deployed <7>`, or `None` in it where they are not whole.
pub(crate) fn numbered(line: &str, before: &str) -> Option<Option<u64>> {
    let (_, text) = line.split_once(before)?;
    Some(text.strip_suffix('>').and_then(|number| number.parse().ok()))
}

/// Whether what was done, and said of it, is what people may, and no more.
pub(crate) fn judge(told: &Told, ran: &[u64], refused: u64, seed: u64) {
    let at = format!("MASTERCHIEF_SEED={seed}");
    let once: BTreeSet<u64> = ran.iter().copied().collect();
    assert_eq!(once.len(), ran.len(), "something was done twice: {ran:?}; {at}");
    let wrong: Vec<_> = once.difference(&told.may).collect();
    assert!(wrong.is_empty(), "done for somebody who may not, or by a line that is none: {wrong:?}; {at}");
    let ignored: Vec<_> = told.must.difference(&once).collect();
    assert!(ignored.is_empty(), "asked for by who may, and not done: {ignored:?}; {at}");
    let unheard = |number: &&u64| !told.confirmed.contains_key(number) && !told.swallowed.contains(number);
    let lost: Vec<_> = once.iter().filter(unheard).collect();
    assert!(lost.len() <= told.cut && told.cut as u64 <= refused, "done without a word: {lost:?}, {told:?}; {at}");
    let twice: Vec<_> = told.confirmed.iter().filter(|(_, times)| **times > 1).collect();
    assert!(twice.is_empty(), "said twice: {twice:?}; {at}");
    println!(
        "an hour: {} connections, {} deploys of {} that might and {} that had to; {} confirmed, {} cut off",
        told.connections,
        once.len(),
        told.may.len(),
        told.must.len(),
        told.confirmed.len(),
        told.cut
    );
}

/// Each page was heard, once as it is or marked at least once; never twice as if it were new.
pub(crate) fn judge_pages(told: &Told, pages: u64, seed: u64) {
    let at = format!("MASTERCHIEF_SEED={seed}");
    let unheard: Vec<_> = (0..pages).filter(|number| !told.pages.contains_key(number)).collect();
    assert!(unheard.is_empty(), "pages that nobody heard: {unheard:?} of {pages}; {at}");
    let twice: Vec<_> = told.pages.iter().filter(|(_, (plain, _))| *plain > 1).collect();
    assert!(twice.is_empty(), "pages said again as if they were new: {twice:?}; {at}");
    let marked = told.pages.values().filter(|(_, marked)| *marked > 0).count();
    println!("         {pages} pages, each heard; {marked} marked, {} died with a server", told.swallowed_pages);
}
