//! What a server's bytes become, decided about as the street does: for tests that feed a bot anything.

use std::sync::Arc;

use masterchief_contract::{BindOptions, Event, Handler, Kind, Matching, Outcome};
use tokio::time::Instant;

use super::kinds;
use crate::dispatch::{BindTable, FloodSettings, Floods, NewBind, Policy, Spared, decide};
use crate::users::{Book, User};

/// Who may deploy.
const WHO: &str = "alice";
/// What only they may.
const WHAT: &str = "!deploy";

/// Decides about each event it is given, with a bind of every kind of IRC.
///
/// # Panics
///
/// When somebody gets to do what they may not.
pub fn judged() -> impl FnMut(&Event) {
    let kinds = kinds();
    let handler: Arc<dyn Handler> = Arc::new(|_: Event| async { Outcome::Nothing });
    let bind = |kind: &str, flags: &str, mask: &str| {
        NewBind::parse(&kinds, kind, flags, mask, BindOptions::default(), Arc::clone(&handler))
            .expect("examples of masks are good masks")
    };
    let mut binds = Vec::new();
    for spec in crate::irc::KINDS {
        binds.push(bind(spec.kind.name(), "-|-", spec.example));
        if spec.matching == Matching::Mask {
            binds.push(bind(spec.kind.name(), "-|-", "*"));
        }
    }
    binds.extend([Kind::Pub, Kind::Msg].map(|kind| bind(kind.name(), "D|-", WHAT)));
    let table = BindTable::new();
    table.replace("judged", binds);
    let book = Book::new();
    let user = User::with_account(WHO, "net", WHO, "D").expect("a handle and a flag");
    book.put(user).expect("the first in the book");
    let (mut floods, settings) = (Floods::default(), FloodSettings::default());
    move |event| {
        floods.judge(&settings, event, Spared::Nothing, Instant::now());
        let standing = book.recognise(event.actor.as_ref(), &event.network, event.casemap);
        let decision = decide(&table.index(), event, &standing, Policy::default());
        for step in decision.steps.iter().filter(|step| &*step.bind.mask == WHAT) {
            let account = event.actor.as_ref().and_then(|actor| actor.account.as_deref()).unwrap_or("");
            assert!(account.eq_ignore_ascii_case(WHO), "{account:?} deploys by {:?} {}", step.kind, event.text());
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::{Duration, Instant};

    use super::super::bent;
    use super::super::chance::{Dice, number, seed};
    use super::*;
    use crate::irc::{Inbound, Said, on_paused_time};

    /// Lines of real servers, one each.
    const CORPUS: &str = include_str!(concat!(env!("CARGO_MANIFEST_DIR"), "/fuzz/inbound.txt"));
    /// What most connections begin with, so that what follows goes deep.
    const WELCOME: &str = ":s CAP * LS :batch message-tags server-time account-tag account-notify extended-join \
                           echo-message labeled-response multi-prefix draft/multiline=max-bytes=4096\r\n:s CAP * ACK :batch message-tags server-time \
                           account-tag account-notify extended-join echo-message labeled-response multi-prefix \
                           draft/multiline\r\n\
                           :s 001 chief :Welcome chief!c@host\r\n:s 005 chief CHANTYPES=# CASEMAPPING=rfc1459 \
                           PREFIX=(qaohv)~&@%+ STATUSMSG=@+ CHANMODES=b,k,l,imnt WHOX MONITOR=9 CHATHISTORY=9 :x\r\n\
                           :s 422 chief :No MOTD\r\n:chief!c@host JOIN #ops * :x\r\n\
                           :s 353 chief = #ops :@alice!a@alice.test bob!b@bob.test chief!c@host\r\n\
                           :s 366 chief #ops :End\r\n";
    /// Cases where no number is asked for.
    const CASES: u64 = if cfg!(debug_assertions) { 4_000 } else { 100_000 };
    /// More that is kept would be a leak: about twice what full memories of ids, batches and splits take.
    const HELD_MAX: usize = 192 << 20;

    /// What a server says in one case.
    fn case(dice: &mut Dice, corpus: &[&str]) -> Said {
        if dice.one_in(200) {
            return Said::Silence(Duration::from_millis(dice.below(70_000) as u64));
        }
        let mut bytes = Vec::new();
        for _ in 0..1 + dice.below(6) {
            bytes.extend(bent::line(dice, corpus));
            let end = *dice.of(&["\r\n", "\r\n", "\r\n", "\n", "\r\n\r\n", ""]);
            bytes.extend_from_slice(end.as_bytes());
        }
        let piece = if dice.one_in(4) { 1 + dice.below(40) } else { 16 * 1024 };
        Said::Bytes(bytes, piece)
    }

    /// `MASTERCHIEF_FUZZ=10000000 cargo test --release --lib whatever_chance -- --nocapture`; `MASTERCHIEF_SEED` repeats a run.
    #[test]
    fn whatever_chance_makes_of_a_servers_words_is_borne_and_nobody_gets_to_do_what_they_may_not() {
        let (cases, seed) = (number("MASTERCHIEF_FUZZ").unwrap_or(CASES), seed());
        let corpus: Vec<&str> = CORPUS.lines().collect();
        let (start, mut connections, mut most) = (Instant::now(), 0_u64, 0);
        on_paused_time(async {
            let (mut dice, mut judge, mut bot) = (Dice::new(seed), judged(), Inbound::new());
            let mut done = 0;
            while done < cases {
                let mut left = (cases - done).min(1 + dice.below(2000) as u64);
                let mut welcome = (!dice.one_in(8)).then(|| Said::Bytes(WELCOME.as_bytes().to_vec(), 16 * 1024));
                let says = || {
                    if let Some(said) = welcome.take() {
                        return Some(said);
                    }
                    left = left.checked_sub(1)?;
                    Some(case(&mut dice, &corpus))
                };
                let (times, held) = bot.connection(says, &mut judge).await;
                (done, connections, most) = (done + times, connections + 1, most.max(held));
                assert!(held < HELD_MAX, "{held} bytes are kept after {done} cases: MASTERCHIEF_SEED={seed}");
            }
        });
        let took = start.elapsed().as_secs_f64();
        let rate = cases as f64 / took;
        println!(
            "{cases} cases over {connections} connections in {took:.1} s: {rate:.0} a second; at most {most} bytes kept"
        );
    }
}
