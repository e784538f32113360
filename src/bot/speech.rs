//! Words on their way to a network: put on account, kept within the channel's budget, said again after a restart.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use arc_swap::ArcSwapOption;
use humantime_serde::re::humantime::format_duration;
use masterchief_contract::{Action, Cause, Class, How, Kind, Mark, Receipt, Refused};
use tokio::time::Instant;

use super::budget::{Budgets, Share};
use super::ledger::{Learning, Ledger, QUEUED, how_name, how_named};
use crate::executors::unguessable;
use crate::irc::{AGAIN, Around, Known, Network, Words, lines_of};
use crate::store::SaidRow;

/// What the bot says. Cheap to clone; all clones are the same.
#[derive(Clone)]
pub(crate) struct Speech {
    pub(crate) ledger: Ledger,
    budgets: Arc<Mutex<Budgets>>,
    /// Where the gateway is reached, as in `https://bot.example`; nothing where there is none.
    pub(crate) gateway: Arc<ArcSwapOption<String>>,
}

/// Words for one target, and what is to be known of them.
struct Piece<'a> {
    network: &'a Network,
    target: &'a str,
    how: How,
    tags: &'a [(String, String)],
    class: Class,
    /// How long they are worth saying, and whether somebody has said so.
    worth: Duration,
    strictly: bool,
    cause: Option<&'a Cause>,
}

impl Speech {
    pub(super) fn new(ledger: Ledger) -> Speech {
        Speech { ledger, budgets: Arc::default(), gateway: Arc::default() }
    }

    /// Does an action on a network. Words are put on account; where `wait` is set, it is waited until it is known what became of them.
    pub(super) async fn perform(&self, network: &Network, action: Action, wait: bool) -> Result<Receipt, Refused> {
        let action = as_words(action);
        match action.bare() {
            Action::Say { .. } => self.say(network, action, wait).await,
            Action::Send { command, .. } if is_words(command) => self.verbatim(network, action, wait).await,
            _ => self.command(network, action).await,
        }
    }

    async fn say(&self, network: &Network, action: Action, wait: bool) -> Result<Receipt, Refused> {
        let Action::Say { target, text, how, reply, .. } = action.bare() else { return Ok(Receipt::default()) };
        let Mark { class, expires, cause, here } = action.mark();
        let class = class.unwrap_or(if *reply { Class::Reply } else { Class::Chatter });
        let text = text.replace('\u{1}', "");
        let text = self.ledger.hide(&text);
        let lines: Vec<&str> = lines_of(&text).collect();
        if lines.is_empty() {
            return Ok(Receipt::default());
        }
        let tags = action.clone().untagged().0;
        let worth = expires.unwrap_or(class.worth());
        let strictly = expires.is_some();
        let piece = Piece { network, target, how: *how, tags: &tags, class, worth, strictly, cause: cause.as_deref() };
        let share = self.share(&piece, lines.len(), here);
        if share.left_out > 0 {
            let (lines, were) = if share.left_out == 1 { ("line", "was") } else { ("lines", "were") };
            let text = format!("({} {lines} {were} left out: more than this channel is told at once)", share.left_out);
            self.put(&Piece { how: How::Say, tags: &[], ..piece }, &[&text]).await?;
        }
        let (now, rest) = lines.split_at(share.fit.min(lines.len()));
        let said = if now.is_empty() { None } else { Some(self.begin(&piece, now, wait).await?) };
        let elsewhere = if rest.is_empty() { Receipt::default() } else { self.overflow(&piece, rest, &share).await? };
        let Some((mut last, learning)) = said else { return Ok(elsewhere) };
        for learned in learning {
            last = learned.await.map_err(|_| Refused::new("the bot is going down"))??;
        }
        Ok(last)
    }

    /// How much of so many lines a channel bears now; all of them, at the cost of others, where they mean nothing elsewhere.
    fn share(&self, piece: &Piece<'_>, lines: usize, here: bool) -> Share {
        let all = Share { fit: lines, ..Share::default() };
        if piece.class == Class::Page || !piece.target.starts_with(['#', '&', '+', '!']) {
            return all;
        }
        let budget = piece.network.budget();
        let reached = self.gateway.load().as_deref().is_some_and(|url| !budget.lenient || is_for_others(url));
        if budget.lenient && !reached && asker(piece).is_none() {
            return all;
        }
        let page = || unguessable().ok().filter(|_| reached);
        let channel = format!("{}/{}", piece.network.name(), piece.target.to_ascii_lowercase());
        let mut budgets = self.budgets.lock().unwrap_or_else(PoisonError::into_inner);
        if here {
            budgets.said(&channel, lines, budget, Instant::now());
            return all;
        }
        budgets.spend(&channel, lines, budget, Instant::now(), page)
    }

    /// What a channel does not bear: on a page, else to whoever asked, else nowhere, and the channel is told once.
    async fn overflow(&self, piece: &Piece<'_>, rest: &[&str], share: &Share) -> Result<Receipt, Refused> {
        let keep = piece.network.budget().keep;
        // Told with the first of them: a handler that speaks line by line may have more to say.
        let more = if rest.len() == 1 { "more".to_owned() } else { format!("{} more lines", rest.len()) };
        let here = Piece { how: How::Say, tags: &[], ..*piece };
        if let Some((page, gateway)) = share.page.as_ref().zip(self.gateway.load_full()) {
            let until = self.ledger.now() + i64::try_from(keep.as_millis()).unwrap_or(i64::MAX / 4);
            let row = SaidRow {
                page: Some(page.clone()),
                until,
                ..self.row(piece, "paged", "more than the channel is told at once")
            };
            let first = self.ledger.begin(&row, rest).await;
            if share.tell {
                let text = format!("{more}: {gateway}/said/{page} (for {})", format_duration(keep));
                return self.put(&here, &[&text]).await;
            }
            return Ok(Receipt { line: first, ..Receipt::default() });
        }
        if let Some(nick) = asker(piece) {
            self.told(piece);
            if share.tell {
                self.put(&here, &[&format!("{more}, in private to {nick}")]).await?;
            }
            return self.put(&Piece { target: nick, ..*piece }, rest).await;
        }
        let first =
            self.ledger.begin(&self.row(piece, "left out", "more than the channel is told at once"), rest).await;
        if share.tell {
            self.told(piece);
            self.put(&here, &[&format!("({more} left out: more than this channel is told at once)")]).await?;
        }
        Ok(Receipt { line: first, ..Receipt::default() })
    }

    /// The channel has been told of what was left out.
    fn told(&self, piece: &Piece<'_>) {
        let channel = format!("{}/{}", piece.network.name(), piece.target.to_ascii_lowercase());
        self.budgets.lock().unwrap_or_else(PoisonError::into_inner).told(&channel);
    }

    /// Lines on account and into the queue.
    async fn put(&self, piece: &Piece<'_>, lines: &[&str]) -> Result<Receipt, Refused> {
        self.begin(piece, lines, false).await.map(|(receipt, _)| receipt)
    }

    /// The same, with what will be learned of each line where somebody waits for it.
    async fn begin(&self, piece: &Piece<'_>, lines: &[&str], wait: bool) -> Result<(Receipt, Vec<Learning>), Refused> {
        let own = is_of_out(piece.cause);
        let (passed, dropped) = if own { (lines.to_vec(), None) } else { self.sift(piece, lines).await };
        let lines = passed.as_slice();
        // Who waits to hear whether all of it was said hears that it was not.
        let refused = dropped.filter(|_| wait);
        if lines.is_empty() {
            return refused.map_or(Ok((Receipt::default(), Vec::new())), Err);
        }
        let first = self.ledger.begin(&self.row(piece, QUEUED, ""), lines).await;
        if own {
            self.ledger.hush(first, lines.len());
        }
        let learning = if wait { self.ledger.learn(first, lines.len()) } else { Vec::new() };
        let words = Words {
            target: piece.target,
            text: &lines.join("\n"),
            how: piece.how,
            tags: piece.tags,
            class: piece.class,
            until: piece.strictly.then(|| Instant::now() + piece.worth),
            worth: Some(Instant::now() + piece.worth),
            first,
        };
        if let Err(refused) = piece.network.say(&words).await {
            self.ledger.refused(first, lines.len(), &refused);
            return Err(refused);
        }
        let receipt = Receipt { line: first + lines.len() as u64 - 1, ..Receipt::default() };
        refused.map_or(Ok((receipt, learning)), Err)
    }

    /// The lines that no bind drops; those that one does are on account as such.
    async fn sift<'a>(&self, piece: &Piece<'_>, lines: &[&'a str]) -> (Vec<&'a str>, Option<Refused>) {
        let (network, mut passed, mut last) = (piece.network.name(), Vec::with_capacity(lines.len()), None);
        let command = if piece.how == How::Notice { "NOTICE" } else { "PRIVMSG" };
        let asked = lines.iter().map(|line| {
            self.ledger.dropped(network, piece.class, move || format!("{command} {} :{line}", piece.target))
        });
        // The whole piece waits once, not each line of it behind the one before.
        for (line, by) in lines.iter().zip(futures_util::future::join_all(asked).await) {
            let Some(by) = by else {
                passed.push(*line);
                continue;
            };
            let refused = dropped(&by);
            self.ledger.begin(&self.row(piece, "failed", &refused.message), &[line]).await;
            last = Some(refused);
        }
        (passed, last)
    }

    /// Words that are sent as they stand: a CTCP, or for several at once. They are on account like all others.
    async fn verbatim(&self, network: &Network, action: Action, wait: bool) -> Result<Receipt, Refused> {
        let Mark { class, cause, .. } = action.mark();
        let (tags, bare) = action.untagged();
        let Action::Send { command, params, .. } = bare else { return Ok(Receipt::default()) };
        let (target, text) = (params.first().map_or("", String::as_str), params.get(1).map_or("", String::as_str));
        let how = if command.eq_ignore_ascii_case("NOTICE") { How::Notice } else { How::Say };
        let class = class.unwrap_or(Class::Reply);
        let cause = cause.as_deref();
        let piece = Piece { network, target, how, tags: &tags, class, worth: class.worth(), strictly: false, cause };
        let bare = text.replace('\u{1}', "");
        let shown = self.ledger.hide(&bare);
        let own = is_of_out(cause);
        let (passed, dropped) = if own { (vec![&*shown], None) } else { self.sift(&piece, &[&*shown]).await };
        if passed.is_empty() {
            return dropped.filter(|_| wait).map_or(Ok(Receipt::default()), Err);
        }
        let line = self.ledger.begin(&self.row(&piece, QUEUED, ""), &[&*shown]).await;
        if own {
            self.ledger.hush(line, 1);
        }
        let learning = if wait { self.ledger.learn(line, 1) } else { Vec::new() };
        if let Err(refused) = network.send(&command, &params, &tags, Known { line, hush: own }).await {
            self.ledger.refused(line, 1, &refused);
            return Err(refused);
        }
        let mut receipt = Receipt { line, ..Receipt::default() };
        for learned in learning {
            receipt = learned.await.map_err(|_| Refused::new("the bot is going down"))??;
        }
        Ok(receipt)
    }

    /// What is no words: told before it is done, and not done where a bind drops it.
    async fn command(&self, network: &Network, action: Action) -> Result<Receipt, Refused> {
        let own = is_of_out(action.mark().cause.as_deref());
        if !own && let Some(by) = self.ledger.dropped(network.name(), Class::Reply, || line_of(action.bare())).await {
            return Err(dropped(&by));
        }
        if own && let (tags, Action::Send { command, params, .. }) = action.clone().untagged() {
            network.send(&command, &params, &tags, Known { line: 0, hush: true }).await?;
            return Ok(Receipt::default());
        }
        network.perform(action).await.map(|()| Receipt::default())
    }

    fn row(&self, piece: &Piece<'_>, state: &str, reason: &str) -> SaidRow {
        let now = self.ledger.now();
        let cause =
            piece.cause.map(|cause| Cause { words: self.ledger.hide(&cause.words).into_owned(), ..cause.clone() });
        SaidRow {
            network: piece.network.name().to_owned(),
            target: piece.target.to_owned(),
            how: how_name(piece.how).to_owned(),
            class: piece.class.name().to_owned(),
            state: state.to_owned(),
            at: now,
            until: now.saturating_add(i64::try_from(piece.worth.as_millis()).unwrap_or(i64::MAX / 4)),
            changed: now,
            reason: reason.to_owned(),
            // It has no values that JSON cannot hold.
            cause: cause.map_or(String::new(), |cause| serde_json::to_string(&cause).unwrap_or_default()),
            ..SaidRow::default()
        }
    }

    /// Says what the process before this one did not come to say: what is still worth it, marked where it may have been said.
    pub(crate) async fn resume(self, network: Network) {
        let (sure, unsure) = self.ledger.left(network.name());
        let now = self.ledger.now();
        let mut left_out: Vec<SaidRow> = Vec::new();
        let mut again: Vec<(SaidRow, bool)> = Vec::new();
        for (row, marked) in sure.into_iter().map(|row| (row, false)).chain(unsure.into_iter().map(|row| (row, true))) {
            let class = Class::named(&row.class).unwrap_or(Class::Chatter);
            // What is worth little is rather not said than twice.
            let twice = marked && class >= Class::Progress;
            if row.until <= now || twice { left_out.push(row) } else { again.push((row, marked)) }
        }
        again.sort_by_key(|(row, _)| row.id);
        for (row, marked) in again {
            let text = if marked { format!("{AGAIN}{}", row.text) } else { row.text.clone() };
            let (id, left) = (row.id as u64, u64::try_from(row.until - now).unwrap_or(0));
            let words = Words {
                target: &row.target,
                text: &text,
                how: how_named(&row.how),
                tags: &[],
                class: Class::named(&row.class).unwrap_or(Class::Chatter),
                until: None,
                worth: Some(Instant::now() + Duration::from_millis(left)),
                first: id,
            };
            if let Err(refused) = network.say(&words).await {
                self.ledger.refused(id, 1, &refused);
            }
        }
        self.digest(&network, left_out).await;
    }

    /// One line for each place about what was left out.
    async fn digest(&self, network: &Network, left_out: Vec<SaidRow>) {
        let mut places: Vec<(String, usize, String)> = Vec::new();
        for row in left_out {
            self.ledger.fate(row.id as u64, crate::irc::Fate::Expired);
            match places.iter_mut().find(|(target, ..)| target.eq_ignore_ascii_case(&row.target)) {
                Some((_, count, newest)) => (*count, *newest) = (*count + 1, row.text),
                None => places.push((row.target, 1, row.text)),
            }
        }
        for (target, count, newest) in places {
            let (lines, were) = if count == 1 { ("line", "was") } else { ("lines", "were") };
            let text = format!("({count} {lines} from before I went down {were} left out; the newest: {newest})");
            let class = Class::Reply;
            let piece = Piece {
                network,
                target: &target,
                how: How::Say,
                tags: &[],
                class,
                worth: class.worth(),
                strictly: false,
                cause: None,
            };
            if let Err(refused) = self.put(&piece, &[&text]).await {
                tracing::debug!(%refused, "What was left out could not be told");
            }
        }
    }
}

/// A command that is words is words: in the channel's budget, awaited and asked about like all others. What only a command can be
/// (a CTCP, a list of targets) stays one.
fn as_words(action: Action) -> Action {
    let Action::Send { network, command, params } = action.bare() else { return action };
    let [target, text] = params.as_slice() else { return action };
    let notice = command.eq_ignore_ascii_case("NOTICE");
    let acted = text.strip_prefix("\u{1}ACTION ").filter(|_| !notice);
    let (text, how) = match acted {
        Some(acted) => (acted.trim_end_matches('\u{1}'), How::Act),
        None => (text.as_str(), if notice { How::Notice } else { How::Say }),
    };
    if !is_words(command) || text.contains('\u{1}') || target.contains(',') {
        return action;
    }
    let (network, target, text) = (network.clone(), target.clone(), text.to_owned());
    let mark = action.mark();
    let mark = Mark { class: mark.class.or(Some(Class::Reply)), ..mark };
    let (tags, _) = action.untagged();
    let say = Action::Say { network, target, text, how, reply: true };
    let say = if tags.is_empty() { say } else { Action::Tagged { tags, action: Box::new(say) } };
    say.marked(mark)
}

fn is_words(command: &str) -> bool {
    command.eq_ignore_ascii_case("PRIVMSG") || command.eq_ignore_ascii_case("NOTICE")
}

/// What binds of kind `out` do makes no event of that kind.
fn is_of_out(cause: Option<&Cause>) -> bool {
    cause.is_some_and(|cause| cause.kind == Kind::Out.name())
}

fn dropped(by: &str) -> Refused {
    Refused::new(format!("dropped by a bind of kind out, {by}")).coded("DROPPED")
}

/// A command as it will leave, without the key of a channel.
fn line_of(action: &Action) -> String {
    match action {
        Action::Join { channel, .. } => format!("JOIN {channel}"),
        Action::Part { channel, reason, .. } => format!("PART {channel} :{reason}"),
        Action::Send { command, params, .. } => match params.split_last() {
            Some((last, rest)) if last.is_empty() || last.contains(' ') || last.starts_with(':') => {
                [command.as_str()].into_iter().chain(rest.iter().map(String::as_str)).collect::<Vec<_>>().join(" ")
                    + " :"
                    + last
            }
            _ => [command.as_str()].into_iter().chain(params.iter().map(String::as_str)).collect::<Vec<_>>().join(" "),
        },
        _ => String::new(),
    }
}

/// Who asked for it, where it is an answer.
fn asker<'a>(piece: &Piece<'a>) -> Option<&'a str> {
    let cause = piece.cause.filter(|_| piece.class == Class::Reply)?;
    cause.by.split('!').next().filter(|nick| !nick.is_empty())
}

/// Whether others than this machine can follow a link there.
fn is_for_others(url: &str) -> bool {
    let host = url.split_once("://").map_or(url, |(_, rest)| rest);
    !["127.", "localhost", "[::1]", "0.0.0.0", "[::]"].iter().any(|own| host.starts_with(own))
}
