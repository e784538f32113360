//! Who may come in although others may not: kept, and on the lists of channels where a server has such lists.

use std::sync::{MutexGuard, PoisonError};

use masterchief_contract::{CaseMap, split_place};

use super::{PASSES, Warden, to_json};
use crate::dispatch::Pass;
use crate::store::StoreError;

impl Warden {
    /// Who may come in although others may not, the oldest first.
    pub(crate) fn passes(&self) -> Vec<Pass> {
        self.let_in().clone()
    }

    /// Keeps one, replacing the one of that sort, mask and place.
    pub(crate) async fn pass(&self, pass: Pass) -> Result<(), StoreError> {
        self.inner.store.kv_set(PASSES, &pass_key(&pass), &to_json(&pass)?, None).await?;
        {
            let mut passes = self.let_in();
            passes.retain(|old| !old.is(pass.sort, pass.place.as_deref(), &pass.mask));
            passes.push(pass.clone());
        }
        self.lists('+', &pass);
        Ok(())
    }

    /// Forgets one.
    pub(crate) async fn unpass(&self, pass: &Pass) -> Result<(), StoreError> {
        self.inner.store.kv_delete(PASSES, &pass_key(pass)).await?;
        let mut passes = self.let_in();
        passes.retain(|old| !old.is(pass.sort, pass.place.as_deref(), &pass.mask));
        drop(passes);
        self.lists('-', pass);
        Ok(())
    }

    /// The networks that one is for and that have no such list.
    pub(crate) fn without_list(&self, pass: &Pass) -> Vec<String> {
        let networks = self.inner.outbox.networks().into_iter();
        let lacks = networks.filter(|network| {
            let here = pass.place.as_deref().is_none_or(|place| split_place(place).0 == network.name());
            here && network.status().connected && !network.is_list(pass.sort.letter())
        });
        lacks.map(|network| network.name().to_owned()).collect()
    }

    /// Puts one on the lists of channels, or takes it off. Not every server has such lists; what we do ourselves goes by it all the same.
    fn lists(&self, sign: char, pass: &Pass) {
        let letter = pass.sort.letter();
        for (name, channel) in self.places(|place| pass.counts_in(place)) {
            if self.inner.outbox.network(&name).is_some_and(|network| network.is_list(letter)) {
                self.mode(&name, &channel, &format!("{sign}{letter}"), &pass.mask);
            }
        }
    }

    /// Whether no ban keeps somebody out of a place.
    pub(super) fn is_exempt(&self, place: &str, source: &str, casemap: CaseMap) -> bool {
        let passes = self.let_in();
        passes.iter().any(|pass| pass.exempts(place, source, casemap))
    }

    fn let_in(&self) -> MutexGuard<'_, Vec<Pass>> {
        self.inner.passes.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn pass_key(pass: &Pass) -> String {
    let place = pass.place.as_deref().unwrap_or("*");
    format!("{} {place} {}", pass.sort.letter(), CaseMap::Rfc1459.fold(&pass.mask))
}
