//! The decision: event, table and person to calls. Pure, and the only place where it is made.

use std::sync::Arc;

use masterchief_contract::{CaseMap, EventData, Kind, KindSpec, Matching, Returns, wild_match};

use super::bind::Bind;
use super::table::Index;
use crate::users::Standing;

/// A handler to call.
#[derive(Clone, Debug)]
pub struct Step {
    /// Its bind.
    pub bind: Arc<Bind>,
    /// Older binds of the same word, to be called in turn while the handler passes.
    pub fallbacks: Vec<Arc<Bind>>,
    /// The kind it matched as.
    pub kind: Kind,
    /// Where the handler's text begins.
    pub text_at: usize,
    /// What its stopping means.
    pub returns: Returns,
}

/// A bind that matched and may not be run by this person.
#[derive(Clone, Debug)]
pub struct Denied {
    /// Which.
    pub bind: Arc<Bind>,
    /// Whether the person asked for it by name and should hear why not.
    pub told: bool,
    /// Whether it is for everybody but who has the flag `d` or `k`.
    pub kept_out: bool,
}

/// What is to be done about an event.
#[derive(Clone, Debug, Default)]
pub struct Decision {
    /// Calls, in order.
    pub steps: Vec<Step>,
    /// Denials, for the audit.
    pub denied: Vec<Denied>,
}

/// What a bot may differ in about decisions.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Policy {
    /// A command is skipped when a mask of the same line matched: Eggdrop's `exclusive-binds`.
    pub exclusive_binds: bool,
    /// Commands of those that the network marks as bots are taken too. Two bots that answer each other never end.
    pub answer_bots: bool,
    /// Who has the flag `d` or `k` gives no commands: Eggdrop's `allow-dk-cmds 0`.
    pub refuse_dk: bool,
}

/// Decides about one event.
pub fn decide(index: &Index, event: &EventData, standing: &Standing, policy: Policy) -> Decision {
    let mut decision = Decision::default();
    for kind in event.kinds {
        let command = matches!(*kind, Kind::Pub | Kind::Msg);
        let out = |spec: &KindSpec| policy.refuse_dk && is_command(spec) && standing.is_kept_out(event, spec.flags);
        let by_bot = event.actor.as_ref().is_some_and(|actor| actor.bot) && !policy.answer_bots;
        if command && (by_bot || policy.exclusive_binds && !decision.steps.is_empty()) {
            continue;
        }
        if let Some(id) = event.bind {
            if let Some(bind) = index.named.get(&id).filter(|bind| bind.kind() == *kind) {
                decision.add(vec![Arc::clone(bind)], 0, event, standing, &out);
            }
            continue;
        }
        if let Some(words) = index.words.get(kind)
            && let Some((word, text_at)) = first_word(&event.text)
            && let Some(binds) = words.get(CaseMap::Rfc1459.fold(word).as_str())
        {
            let same = |bind: &&Arc<Bind>| bind.words().any(|name| event.casemap.eq(name, word));
            decision.add(binds.iter().filter(same).cloned().collect(), text_at, event, standing, &out);
        }
        if let Some(binds) = index.masks.get(kind) {
            decision.add_masks(binds, event, standing);
        }
    }
    decision
}

impl Decision {
    /// Every bind whose mask meets the subject.
    fn add_masks(&mut self, binds: &[Arc<Bind>], event: &EventData, standing: &Standing) {
        let Some(spec) = binds.first().map(|bind| bind.spec) else {
            return;
        };
        let subject = (spec.subject)(event);
        for (at, bind) in binds.iter().enumerate() {
            if !meets(spec, &bind.mask, &subject, event.casemap) {
                continue;
            }
            let same = |other: &&Arc<Bind>| CaseMap::Rfc1459.eq(&other.mask, &bind.mask);
            if spec.stackable {
                self.add(vec![Arc::clone(bind)], 0, event, standing, &|_| false);
            } else if !binds.iter().take(at).any(|other| same(&other)) {
                // The newest of a mask serves; different masks all do.
                self.add(binds.iter().skip(at).filter(same).cloned().collect(), 0, event, standing, &|_| false);
            }
        }
    }

    /// The newest of these, with the others behind it. `out` says whether who it is gives no commands that are for everybody.
    fn add(
        &mut self,
        binds: Vec<Arc<Bind>>,
        text_at: usize,
        event: &EventData,
        standing: &Standing,
        out: &dyn Fn(&KindSpec) -> bool,
    ) {
        let mut may = Vec::with_capacity(binds.len());
        for (at, bind) in binds.into_iter().enumerate() {
            let scope = bind.spec.flags;
            if bind.flags.is_open() && out(bind.spec) {
                if at == 0 {
                    self.denied.push(Denied { bind, told: false, kept_out: true });
                    return;
                }
            } else if standing.allows(&bind.flags, scope, &event.network, event.chan.as_deref(), event.casemap) {
                may.push(bind);
            } else if at == 0 {
                // The one that serves is denied: an older one with other flags is no way around it.
                let told = bind.spec.matching == Matching::Word;
                self.denied.push(Denied { bind, told, kept_out: false });
                return;
            }
        }
        let mut may = may.into_iter();
        let Some(bind) = may.next() else { return };
        let (kind, returns) = (bind.kind(), bind.spec.returns);
        self.steps.push(Step { bind, fallbacks: may.collect(), kind, text_at, returns });
    }
}

/// Whether people give commands by binds of this kind.
fn is_command(spec: &KindSpec) -> bool {
    spec.returns == Returns::Log
}

/// The first word of a line and where the text after it begins. A line that begins with a blank has none.
fn first_word(text: &str) -> Option<(&str, usize)> {
    let end = text.find(char::is_whitespace).unwrap_or(text.len());
    if end == 0 {
        return None;
    }
    let rest = &text[end..];
    Some((&text[..end], end + rest.len() - rest.trim_start().len()))
}

/// Whether a mask meets a subject.
fn meets(spec: &KindSpec, mask: &str, subject: &str, casemap: CaseMap) -> bool {
    if spec.matching != Matching::ModeMask {
        return wild_match(mask, subject, casemap);
    }
    // The mode keeps its case: +o is not +O.
    let Some((chan, mode)) = subject.rsplit_once(' ') else {
        return false;
    };
    match mask.rsplit_once(' ') {
        Some((chan_mask, mode_mask)) => wild_match(chan_mask, chan, casemap) && meets_cased(mode_mask, mode),
        None => wild_match(mask, subject, casemap),
    }
}

/// A mode mask against `+o`: `*`, `?` and `\`, with case.
fn meets_cased(mask: &str, mode: &str) -> bool {
    let (mask, mode): (Vec<char>, Vec<char>) = (mask.chars().collect(), mode.chars().collect());
    fn at(mask: &[char], mode: &[char]) -> bool {
        match (mask.first(), mode.first()) {
            (None, None) => true,
            (Some('*'), _) => at(&mask[1..], mode) || (!mode.is_empty() && at(mask, &mode[1..])),
            (Some('?' | '%'), Some(_)) => at(&mask[1..], &mode[1..]),
            (Some('\\'), Some(_)) => mask.get(1) == mode.first() && at(&mask[2..], &mode[1..]),
            (Some(want), Some(got)) => want == got && at(&mask[1..], &mode[1..]),
            _ => false,
        }
    }
    // A mode has two characters, so this is short whatever the mask.
    mode.len() <= 4 && at(&mask, &mode)
}

#[cfg(test)]
mod tests {
    use chrono::{DateTime, Utc};
    use masterchief_contract::{Actor, BindOptions, Event, Handler, Outcome};

    use super::*;
    use crate::dispatch::{BindFault, BindTable, Kinds, NewBind};
    use crate::users::{Book, User};

    fn handler() -> Arc<dyn Handler> {
        Arc::new(|_: Event| async { Outcome::Nothing })
    }

    fn kinds() -> Kinds {
        Kinds::new(&[crate::irc::KINDS])
    }

    fn new(kind: &str, flags: &str, mask: &str) -> Result<NewBind, BindFault> {
        NewBind::parse(&kinds(), kind, flags, mask, BindOptions::default(), handler())
    }

    fn table(binds: &[(&str, &str, &str)]) -> BindTable {
        let table = BindTable::new();
        for (kind, flags, mask) in binds {
            table.bind("rust", new(kind, flags, mask).unwrap());
        }
        table
    }

    fn said(text: &str) -> EventData {
        let mut event = EventData::new(&[Kind::Pubm, Kind::Pub], DateTime::<Utc>::UNIX_EPOCH);
        event.network = Arc::from("net");
        event.chan = Some(Arc::from("#ops"));
        event.text = text.to_owned();
        event.actor = Some(Actor { nick: "alice".to_owned(), account: Some("alice".to_owned()), ..Actor::default() });
        event
    }

    fn outcome(table: &BindTable, event: &EventData, book: &Book) -> (Vec<String>, Vec<String>) {
        let standing = book.recognise(event.actor.as_ref(), &event.network, event.casemap);
        let decision = decide(&table.index(), event, &standing, Policy::default());
        let show = |bind: &Bind| format!("{} {}", bind.kind(), bind.mask);
        (
            decision.steps.iter().map(|step| show(&step.bind)).collect(),
            decision.denied.iter().map(|denied| show(&denied.bind)).collect(),
        )
    }

    #[test]
    fn masks_come_before_commands_and_the_newest_first() {
        let table = table(&[
            ("pub", "-", "!hello"),
            ("pubm", "-", "* *hello*"),
            ("pubm", "-", "#OPS *"),
            ("pubm", "-", "#dev *"),
            ("pub", "-", "!HELLO"),
        ]);
        let (steps, denied) = outcome(&table, &said("!hello world"), &Book::new());
        assert_eq!((steps, denied), (vec!["pubm #OPS *".into(), "pubm * *hello*".into(), "pub !HELLO".into()], vec![]));
        assert_eq!(table.rows().iter().filter(|row| row.shadowed).count(), 1);
    }

    #[test]
    fn only_the_whole_first_word_is_a_command_and_its_text_follows() {
        let table = table(&[("pub", "-", "!hello")]);
        let text = |line: &str| {
            let event = said(line);
            let decision = decide(&table.index(), &event, &Standing::default(), Policy::default());
            decision.steps.first().map(|step| event.text[step.text_at..].to_owned())
        };
        assert_eq!(text("!hello"), Some(String::new()));
        assert_eq!(text("!HELLO   big world "), Some("big world ".to_owned()));
        assert_eq!(text("!hell"), None);
        assert_eq!(text("!hello!"), None);
        assert_eq!(text(" !hello"), None);
        assert_eq!(text(""), None);
    }

    #[test]
    fn a_denied_newest_bind_is_not_gone_around() {
        let table = table(&[("pub", "-", "!deploy"), ("pub", "D", "!deploy")]);
        let event = said("!deploy web");
        assert_eq!(outcome(&table, &event, &Book::new()), (vec![], vec!["pub !deploy".to_owned()]));
        let book = Book::new();
        book.put(User::with_account("alice", "net", "alice", "D").unwrap()).unwrap();
        assert_eq!(outcome(&table, &event, &book).0, ["pub !deploy"]);
    }

    #[test]
    fn of_masks_that_do_not_stack_the_newest_of_each_serves_and_the_others_stand_behind_it() {
        let kinds = Kinds::new(&[crate::mesh::KINDS]);
        let table = BindTable::new();
        for mask in ["alice", "al*", "ALICE", "bob"] {
            table.bind("rust", NewBind::parse(&kinds, "note", "-", mask, BindOptions::default(), handler()).unwrap());
        }
        let mut event = EventData::new(&[crate::mesh::NOTE], DateTime::<Utc>::UNIX_EPOCH);
        event.fields = vec![("to", "alice".into())];
        let steps = decide(&table.index(), &event, &Standing::default(), Policy::default()).steps;
        let shown: Vec<_> = steps.iter().map(|step| (&*step.bind.mask, step.fallbacks.len())).collect();
        assert_eq!(shown, [("ALICE", 1), ("al*", 0)]);
    }

    #[test]
    fn exclusive_binds_leave_the_command_out_when_a_mask_matched() {
        let table = table(&[("pub", "-", "!hello"), ("pubm", "-", "* !hello*")]);
        let decision = decide(
            &table.index(),
            &said("!hello"),
            &Standing::default(),
            Policy { exclusive_binds: true, ..Policy::default() },
        );
        assert_eq!(decision.steps.len(), 1);
        assert_eq!(decision.steps[0].kind, Kind::Pubm);
    }

    #[test]
    fn a_bot_commands_nobody_but_is_heard() {
        let table = table(&[("pub", "-", "!hello"), ("pubm", "-", "* !hello*")]);
        let mut event = said("!hello");
        event.actor = Some(Actor { bot: true, ..Actor::default() });
        assert_eq!(outcome(&table, &event, &Book::new()).0, ["pubm * !hello*"]);
        let policy = Policy { answer_bots: true, ..Policy::default() };
        assert_eq!(decide(&table.index(), &event, &Standing::default(), policy).steps.len(), 2);
    }

    #[test]
    fn who_has_d_or_k_gives_no_commands_where_that_is_configured() {
        let table = table(&[("pub", "-", "!hello"), ("pub", "o", "!up"), ("pubm", "-", "* *")]);
        let policy = Policy { refuse_dk: true, ..Policy::default() };
        let steps = |flags: &str, channels: &[(&str, &str)], word: &str, policy: Policy| {
            let book = Book::new();
            let mut user = User::with_account("alice", "net", "alice", flags).unwrap();
            user.channels = channels
                .iter()
                .map(|(chan, flags)| ((*chan).to_owned(), crate::users::FlagSet::parse(flags).unwrap()))
                .collect();
            book.put(user).unwrap();
            let event = said(word);
            let standing = book.recognise(event.actor.as_ref(), &event.network, event.casemap);
            let decision = decide(&table.index(), &event, &standing, policy);
            // What is only listened to goes on.
            assert!(decision.steps.iter().any(|step| step.kind == Kind::Pubm));
            decision.steps.iter().filter(|step| step.kind == Kind::Pub).count()
        };
        for flags in ["d", "k"] {
            assert_eq!(steps(flags, &[], "!hello", policy), 0);
            assert_eq!(steps("f", &[("#ops", flags)], "!hello", policy), 0);
            assert_eq!(steps("f", &[("#dev", flags)], "!hello", policy), 1, "it is held elsewhere");
            assert_eq!(steps(&format!("p{flags}"), &[], "!hello", policy), 1);
            assert_eq!(steps(flags, &[], "!hello", Policy::default()), 1);
        }
        assert_eq!(steps("ok", &[], "!up", policy), 1, "a command that asks for flags is not for everybody");
        let event = said("!hello");
        assert_eq!(
            decide(&table.index(), &event, &Standing::default(), policy).steps.len(),
            2,
            "a stranger has no flags"
        );
    }

    #[test]
    fn where_global_flags_are_asked_for_those_of_a_channel_do_not_count() {
        let table = table(&[("chghost", "o", "* *")]);
        let steps = |flags: &str, here: &str| {
            let book = Book::new();
            let mut user = User::with_account("alice", "net", "alice", flags).unwrap();
            user.channels.insert("#ops".to_owned(), crate::users::FlagSet::parse(here).unwrap());
            book.put(user).unwrap();
            let mut event = said("");
            event.kinds = &[Kind::Chghost];
            outcome(&table, &event, &book).0.len()
        };
        assert_eq!((steps("f", "o"), steps("o", "f"), steps("f", "f")), (0, 1, 0));
    }

    #[test]
    fn names_fold_as_the_network_does() {
        let table = table(&[("pub", "-", "!a[")]);
        let mut event = said("!A{");
        assert_eq!(outcome(&table, &event, &Book::new()).0.len(), 1);
        event.casemap = CaseMap::Ascii;
        assert_eq!(outcome(&table, &event, &Book::new()).0.len(), 0);
    }

    #[test]
    fn modes_keep_their_case() {
        let table = table(&[("mode", "-", "#ops +o"), ("mode", "-", "* -?"), ("mode", "-", "*")]);
        let masks = |mode: &str| {
            let mut event = said("");
            event.kinds = &[Kind::Mode];
            event.fields = vec![("mode", mode.into())];
            outcome(&table, &event, &Book::new()).0
        };
        assert_eq!(masks("+o"), ["mode *", "mode #ops +o"]);
        assert_eq!(masks("+O"), ["mode *"]);
        assert_eq!(masks("-v"), ["mode *", "mode * -?"]);
    }

    #[test]
    fn a_reload_keeps_its_place_and_swaps_at_once() {
        let table = table(&[]);
        table.replace("a.lua", vec![new("pub", "-", "!x").unwrap()]);
        table.replace("b.lua", vec![new("pub", "-", "!x").unwrap()]);
        table.replace("a.lua", vec![new("pub", "-", "!x").unwrap(), new("pub", "-", "!y").unwrap()]);
        let owner = |row: crate::dispatch::BindRow| format!("{} {}", row.owner, row.mask);
        assert_eq!(table.rows().into_iter().map(owner).collect::<Vec<_>>(), ["b.lua !x", "a.lua !y", "a.lua !x"]);
        table.remove("b.lua");
        assert_eq!(table.rows().len(), 2);
    }

    #[test]
    fn a_bad_bind_is_told_with_its_place() {
        let told = |kind, flags, mask| new(kind, flags, mask).unwrap_err().to_string();
        assert_eq!(told("pubb", "-", "!x"), "kind: there is no kind \"pubb\"; did you mean \"pub\"?");
        assert!(told("pub", "m|1", "!x").starts_with("flags \"m|1\", column 3:"));
        assert!(told("pub", "-", "!x y").starts_with("mask \"!x y\", column 3:"));
        assert!(told("raw", "n", "001").contains("write \"-|-\""));
        assert!(told("chghost", "n|o", "* *").contains("in front of the bar"));
        let options = BindOptions { tz: Some("Mars".to_owned()), ..BindOptions::default() };
        assert!(NewBind::parse(&kinds(), "pub", "-", "!x", options, handler()).is_err());
    }
}
