//! Who has another handle at the bot with which they came has it here too, with all that is known of them.

use std::collections::BTreeMap;

use super::{From, Plan, Takes, is_given_by};
use crate::mesh::Gift;
use crate::store::StoreError;
use crate::users::{Book, User};

impl Plan {
    /// The handle before of who has this one from now on.
    pub(super) fn was(&self, handle: &str) -> Option<&String> {
        self.moved.get(&handle.to_ascii_lowercase())
    }
}

impl Takes {
    /// The book with those renamed who may be, noted in the plan. A handle that is somebody's here, or that nobody may bring, is given to
    /// nobody: then it is as if somebody had gone there, and somebody else had come.
    pub(super) async fn moved(
        &self,
        from: &From<'_>,
        gift: &Gift,
        book: &Book,
        broken: &BTreeMap<String, String>,
        plan: &mut Plan,
    ) -> Result<Book, StoreError> {
        let book = if gift.renamed.is_empty() { book.clone() } else { book.apart() };
        for (old, new) in &gift.renamed {
            let key = new.to_ascii_lowercase();
            let Some(user) = book.get(old).filter(|user| is_given_by(user, from.bot)) else { continue };
            let nobodys = book.get(new).is_none() && !from.bots.contains(&key) && !book.is_named(&key);
            let gone = gift.gone.iter().any(|gone| gone.eq_ignore_ascii_case(new));
            let removed_here = !gone && self.seen(from.bot, new).await?.is_some();
            if !nobodys || removed_here || broken.contains_key(&key) || User::new(new).is_err() {
                continue;
            }
            if from.take.letters.are_below(&book, &user) {
                let why = format!("is {new} there now and stays {old} here, who holds more than {}", from.take.letters);
                plan.alone.push((user.handle.clone(), why));
                plan.stay.insert(key, user.handle.clone());
                continue;
            }
            if book.rename(old, User { handle: new.clone(), ..(*user).clone() }).is_ok() {
                plan.moved.insert(key, user.handle.clone());
            }
        }
        Ok(book)
    }

    /// Sessions of somebody who has another handle now go on under it.
    pub(super) fn follow(&self, plan: &Plan, user: &User) {
        if let Some(old) = plan.was(&user.handle) {
            self.inner.party.renamed(old, &user.handle);
        }
    }
}
