//! What operators hear of a gift: what was taken and what was not, each in short.

use std::sync::PoisonError;

use super::{Plan, Takes};
use crate::mesh::{BotName, Gift};
use crate::pipelines::words::cut;
use crate::users::{HANDLE_MAX, User};

/// How many names are told in one line, and how much of them all, in characters.
const NAMED: usize = 10;
const TOLD: usize = 900;
/// Of how many handles it is kept that they were left alone. Of more it is said with a file only.
const ALONE: usize = 10_000;
/// Behind a file in which nobody is known by more than a hostmask: who reads that people have arrived would wait for them to be heard.
const BY_MASK: &str = "by a hostmask alone nobody has more than users.hostmask_flags; `.+host HANDLE NETWORK/ACCOUNT` makes somebody known";

/// What brings what was left out.
const ANEW: &str = "Once less is there, `.unlink BOT` and `.link BOT` take the file anew";

impl Takes {
    /// Tells operators what was taken and what was not.
    pub(super) fn tell(&self, bot: &BotName, gift: &Gift, plan: &Plan, bots: &[String]) {
        for line in self.lines(bot, gift, plan, bots) {
            tracing::info!(%bot, line, "People of an Eggdrop");
            self.inner.party.log('b', tracing::Level::INFO, &format!("{bot}: {line}"));
        }
    }

    /// Who is left alone and was not told of. A file is told whole, once a link; lines that change them come as fast as they are sent.
    fn left_alone(&self, bot: &BotName, gift: &Gift, plan: &Plan) -> Vec<String> {
        let mut told = self.inner.alone.lock().unwrap_or_else(PoisonError::into_inner);
        let mut news = |handle: &str| {
            let room = told.len() < ALONE;
            room && told.insert((bot.clone(), cut(&handle.to_ascii_lowercase(), HANDLE_MAX)))
        };
        let news = plan.alone.iter().filter(|(handle, _)| news(handle) || gift.file.is_some());
        news.map(|(handle, why)| format!("{handle} {why}")).collect()
    }

    pub(super) fn lines(&self, bot: &BotName, gift: &Gift, plan: &Plan, bots: &[String]) -> Vec<String> {
        let mut lines = Vec::new();
        let puts: Vec<String> = plan.puts.iter().map(|(user, words)| format!("{} ({words})", user.handle)).collect();
        let alone = self.left_alone(bot, gift, plan);
        if let Some(masks) = gift.file {
            lines.push(format!(
                "its user file is taken: {} new or with more, {} left alone, {} new bots; left out: {} flags, passwords and the like, {masks} \
                 bans and other masks",
                puts.len(),
                alone.len(),
                bots.len(),
                plan.left,
            ));
            let by_mask = |user: &User| user.accounts.is_empty() && user.certs.is_empty();
            if !puts.is_empty() && plan.puts.iter().all(|(user, _)| by_mask(user)) {
                lines.push(BY_MASK.to_owned());
            }
        }
        // Each of these once: then they are no longer that bot's.
        let parted: Vec<String> = plan.apart.iter().map(|(user, why)| format!("{} {why}", user.handle)).collect();
        let parts = "nothing more is taken for these";
        for (what, all) in [("taken", &puts), ("left alone", &alone), (parts, &parted), ("new bots", &bots.to_vec())] {
            if !all.is_empty() {
                lines.push(format!("{what}: {}", named(all)));
            }
        }
        if gift.full {
            lines.push(format!(
                "more is written down there than is taken; from here on new people are left out. {ANEW}"
            ));
        }
        let moved = |handle: &String| plan.moved.values().any(|old| old.eq_ignore_ascii_case(handle));
        let gone = gift.gone.iter().filter(|handle| !moved(handle));
        let less: Vec<String> = plan.less.iter().chain(gone).cloned().collect();
        let first = || self.inner.said.lock().unwrap_or_else(PoisonError::into_inner).insert(bot.clone());
        if !less.is_empty() && first() {
            lines.push(format!("what is removed there stays here, which is said once: {}", named(&less)));
        }
        lines
    }
}

/// Some of them, each in short: it is what others wrote, and is read by people, on IRC line by line.
pub(super) fn named(all: &[String]) -> String {
    let more = all.len().saturating_sub(NAMED);
    let each = TOLD / all.len().clamp(1, NAMED);
    let some = all.iter().take(NAMED).map(|one| cut(one, each)).collect::<Vec<_>>().join("; ");
    if more > 0 { format!("{some}; and {more} more") } else { some }
}
