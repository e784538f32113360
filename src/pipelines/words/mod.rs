//! Everything the bot says about runs and places, one named function a message. Each line stands alone: it has the run, the app and the
//! environment, and where it waits for somebody it ends with what to type and by when.

mod asides;
mod format;
mod given;
mod logged;
mod looks;
mod places;
mod refused;
mod risk;
mod runners;
mod sentences;
mod standstill;

pub use asides::{
    being_copied, copy_fell, fewer, folded, found, gone, looking, lost, nobody_undoes, not_started, skipping,
    taken_back, touched, unchecked,
};
pub use format::{about, cut, fitted, hushed, moment, quiet, span};
pub use given::*;
pub use logged::*;
pub use looks::*;
pub use places::*;
pub use refused::*;
pub use risk::predicted;
pub use runners::runners;
pub(in crate::pipelines) use runners::{elsewhere, lacks_runner, waits_for_runner};
pub use standstill::*;

use super::model::{Approvals, RollbackMode, Rules};
use super::outside::Checked;
use super::run::{Before, Millis, Run, RunKind, StageRun, shown};
use super::state::{RunState, StageState};
use crate::executors::Failure;
use asides::checked;
use format::{commits, list, minutes, with_commit};

/// The longest text in a line, in bytes: with its prefix it still fits into one line of IRC.
pub(super) const LINE: usize = 380;

/// What is about to happen: `shop -> prod: v2 (9f3c1e2) replaces v1 (b77a010), 6 commits by ana. Plan: test, build. ~11 min.`
pub fn plan(run: &Run, stages: &[String], eta: Option<Millis>, rules: &Rules, checks: &[Checked]) -> String {
    let mut text = format!("{} -> {}: {}", run.app, run.env, with_commit(&run.version, &run.sha));
    match &run.before {
        Some(before) if before.sha == run.sha && before.version == run.version => text.push_str(" again"),
        Some(before) => text.push_str(&format!(" replaces {}", with_commit(&before.version, &before.sha))),
        None => text.push_str(" is the first there"),
    }
    text.push_str(&commits(run));
    text.push('.');
    if let Some(most) = rules.max_commits.filter(|most| run.commit_count > *most) {
        text.push_str(&format!(" More than {most} {}.", if most == 1 { "commit" } else { "commits" }));
    }
    text.push_str(&checked(checks));
    text.push_str(&risk::risk(run));
    text.push_str(&format!(" Plan: {}{}.", list(stages, 8), skipping(run)));
    if let Some(eta) = eta {
        text.push_str(&format!(" {}.", about(eta)));
    }
    text
}

/// The requester has to say yes.
pub fn confirm(number: i64, within: Millis, commits: bool) -> String {
    let diff = if commits { format!(", \"!diff {number}\" for the commits") } else { String::new() };
    format!("say \"!yes {number}\" within {} to start{diff}.", minutes(within))
}

/// A run begins.
pub fn started(run: &Run, link: Option<&str>) -> String {
    let link = link.map(|link| format!(" Log: {link}/r/{}", run.number)).unwrap_or_default();
    let by = run.asker.called();
    if run.kind == RunKind::Rollback {
        let parent = run.parent.map(|parent| format!(" (run {parent})")).unwrap_or_default();
        let from = run
            .before
            .as_ref()
            .map(|before| format!("{} -> ", shown(&before.version, &before.sha)))
            .unwrap_or_default();
        return format!(
            "[{}] rollback {} {} {from}{} started by {by}{parent}",
            run.number,
            run.app,
            run.env,
            run.shown()
        );
    }
    let reason = run.overrides().map(|reason| format!(" (override: {})", cut(reason, 120))).unwrap_or_default();
    let skipping = skipping(run);
    let onto = run.onto.as_ref().map(|onto| format!(" {onto}.")).unwrap_or_default();
    format!(
        "[{}] {} {} -> {} started by {by}{reason}{skipping}.{link}{onto}",
        run.number,
        run.app,
        run.shown(),
        run.env
    )
}

/// How a stage went, within a line of several: `test ok 2m10s (412 passed)`.
pub fn stage(stage: &StageRun) -> String {
    let took = match (stage.started, stage.ended) {
        (Some(from), Some(to)) => format!(" {}", span(to - from)),
        _ => String::new(),
    };
    let attempt = if stage.attempt > 1 { format!(" on attempt {}", stage.attempt) } else { String::new() };
    let there = stage.runner.as_ref().filter(|host| !host.here && stage.attempt > 0);
    let there = there.map(|host| format!(" on {}", host.name)).unwrap_or_default();
    let summary = if stage.summary.is_empty() { String::new() } else { format!(" ({})", cut(&stage.summary, 120)) };
    match stage.state {
        StageState::Succeeded => format!("{} ok{attempt}{there}{took}{summary}", stage.name),
        StageState::Skipped => format!("{} skipped", stage.name),
        StageState::Cancelled => format!("{} cancelled", stage.name),
        _ => {
            let why = stage.failure.as_ref().map(|failure| {
                format!(" (class {}: {})", failure.class.name().replace('_', "-"), cut(&failure.line, 100))
            });
            let on = if stage.forgiven { ", and the run goes on" } else { "" };
            format!("{} {}{there}{took}{}{on}", stage.name, failing(stage), why.unwrap_or_default())
        }
    }
}

/// The word for what is wrong with a stage: it failed, or what it did does not prove good.
fn failing(stage: &StageRun) -> &'static str {
    if stage.state == StageState::Faulty { "FAULTY" } else { "FAILED" }
}

/// Several of them.
pub fn stages(number: i64, parts: &[String]) -> String {
    format!("[{number}] {}", listed(parts))
}

/// A stage is tried again: `test: attempt 2/4 in 8 s (class network: registry timed out)`.
pub fn retrying(stage: &StageRun, of: u32, wait: Millis, failure: &Failure) -> String {
    format!(
        "{}: attempt {}/{of} in {} (class {}: {})",
        stage.name,
        stage.attempt + 1,
        minutes(wait),
        failure.class.name().replace('_', "-"),
        cut(&failure.line, 100)
    )
}

/// How a stage is doing: `canary 10%: errors 0.2% (base 0.2%), 5 min left; then rollout.`
pub fn doing(stage: &str, words: &str, then: &[String]) -> String {
    let then = if then.is_empty() { String::new() } else { format!("; then {}.", list(then, 3)) };
    format!("{stage}: {}{then}", cut(words, 200))
}

/// A run went well; `undo` is whether it can be undone.
pub fn live(run: &Run, path: &[String], undo: bool) -> String {
    let took = span(run.finished.unwrap_or(run.created) - run.started.unwrap_or(run.created));
    if run.kind == RunKind::Rollback {
        return format!("[{}] {} {} is live again on {} after {took}.", run.number, run.app, run.shown(), run.env);
    }
    let path = if path.len() > 1 { format!(", critical path {}", path.join(">")) } else { String::new() };
    let undo = if undo { format!(" Undo: !rollback {} {}", run.app, run.env) } else { String::new() };
    format!("[{}] {} {} is live on {}. {took}{path}.{undo}", run.number, run.app, run.shown(), run.env)
}

/// A run failed: what, why, what the world looks like, and what one may do. At most three lines.
pub fn failed(
    run: &Run,
    stage: Option<&StageRun>,
    rules: Option<&Rules>,
    target: Option<&str>,
    (suggestion, standing, to): (&str, &str, Option<&str>),
) -> Vec<String> {
    let to = to.map(|nick| format!("{nick}: ")).unwrap_or_default();
    let took = span(run.finished.unwrap_or(run.created) - run.started.unwrap_or(run.created));
    let what = if run.kind == RunKind::Rollback {
        format!("rollback {} {}", run.app, run.env)
    } else {
        format!("{} {} -> {}", run.app, run.shown(), run.env)
    };
    let n = run.number;
    let (offers, by_itself) = (offers(run, stage, target), by_itself(rules, target));
    let Some(stage) = stage else {
        let why = match run.ending {
            Some(RunState::TimedOut) => "it took longer than it may",
            _ => "no stage says why",
        };
        return vec![format!("[{n}] {what} FAILED after {took}: {why}."), format!("[{n}] {to}{offers}.{by_itself}")];
    };
    let failure = stage.failure.clone().unwrap_or_default();
    let retried =
        if stage.retries > 0 { format!("given up after {} attempts", stage.attempt) } else { "not retried".to_owned() };
    let class = failure.class.name().replace('_', "-");
    let hint = if suggestion.is_empty() { String::new() } else { format!("; {suggestion}") };
    let first = if failure.world.is_empty() { String::new() } else { format!(": {}", cut(&failure.line, 160)) };
    let mut lines = vec![format!(
        "[{n}] {what} {} in {} after {took}{first} (class: {class}; {retried}{hint}).",
        failing(stage),
        stage.name
    )];
    let decisive = failure.world.first().unwrap_or(&failure.line);
    if !decisive.is_empty() {
        lines.push(format!("[{n}] | {}", cut(decisive, LINE - 20)));
    }
    let world = failure.world.get(1).map_or_else(|| standing.to_owned(), |world| cut(world, 150));
    let world = if world.is_empty() { world } else { format!("{world} ") };
    lines.push(format!("[{n}] {world}{to}{offers}.{by_itself}"));
    lines
}

/// A line about a failure for people among whom there are these nicks: words of a log call none of them, and what is said to
/// the one who asked stays as it is.
pub fn uncalled(line: &str, asker: Option<&str>, nicks: &[String]) -> String {
    let said = asker.and_then(|asker| line.find(&format!("{asker}: "))).unwrap_or(line.len());
    format!("{}{}", hushed(&line[..said], nicks), &line[said..])
}

/// How things stand where nothing of a run went out: what was there before is there still.
pub fn standing(run: &Run) -> String {
    match &run.before {
        Some(before) => format!("{} still has {}.", run.env, shown(&before.version, &before.sha)),
        None => "Nothing went out yet.".to_owned(),
    }
}

/// What one may do about a run that failed.
fn offers(run: &Run, stage: Option<&StageRun>, target: Option<&str>) -> String {
    let n = run.number;
    let mut offers = Vec::new();
    if let Some(target) = target {
        offers.push(format!("!rollback {n} (to {target})"));
    }
    let stage = stage.map(|stage| format!(" {}", stage.name)).unwrap_or_default();
    offers.push(format!("!retry {n}{stage}"));
    offers.push(format!("!tail {n}"));
    offers.push("leave".to_owned());
    offers.join(" | ")
}

/// What happens to a run that failed if nobody does anything.
fn by_itself(rules: Option<&Rules>, target: Option<&str>) -> String {
    let rollback = rules.map(|rules| rules.rollback).unwrap_or_default();
    match (rollback.mode, rollback.auto_after, target) {
        (RollbackMode::Auto, _, Some(_)) => " I roll back now.".to_owned(),
        (RollbackMode::Offer, Some(after), Some(_)) => {
            format!(" I roll back by myself in {}.", minutes(after.as_millis() as Millis))
        }
        _ => String::new(),
    }
}

/// A run ended without having done its work.
pub fn ended(run: &Run, by: &str) -> String {
    let what = format!("[{}] {} {} -> {}", run.number, run.app, run.shown(), run.env);
    match run.state {
        RunState::Cancelled => format!("{what} aborted by {by}."),
        RunState::Rejected => format!("{what} rejected by {by}."),
        RunState::Expired => format!("{what} expired: nobody answered in time. Ask again: !again {}", run.number),
        RunState::TimedOut => format!("{what} stopped: it took longer than it may."),
        _ => format!("{what} is {}.", run.state.name().replace('_', " ")),
    }
}

/// Somebody stopped what undoes a run: nobody knows without looking how much of it is undone.
pub fn undo_aborted(run: &Run, by: &str) -> String {
    let n = run.number;
    let was = run.before.as_ref().map(|before| shown(&before.version, &before.sha)).unwrap_or_default();
    let took = span(run.finished.unwrap_or(run.created) - run.started.unwrap_or(run.created));
    let anew = run.parent.map(|parent| format!(" | anew: !rollback {parent}")).unwrap_or_default();
    format!(
        "[{n}] rollback {} {} {was} -> {} aborted by {by} after {took}; {} may have some of either. Go on: !retry {n}{anew}",
        run.app,
        run.env,
        run.shown(),
        run.env
    )
}

/// A run that was stopped may be undone.
pub fn undo_rest(run: &Run) -> String {
    format!(" Undo what it did: !rollback {}", run.number)
}

/// What was promised to be undone cannot be.
pub fn not_undone(number: i64, why: &str) -> String {
    format!("[{number}] I cannot roll back by myself: {why}")
}

/// People have to agree.
pub fn needs_approval(run: &Run, approvals: &Approvals, plan: &str, code: &str, until: Millis, now: Millis) -> String {
    let but = if approvals.not_requester { format!(", not {}", run.asker.called()) } else { String::new() };
    let wanted = wanted(approvals);
    let n = run.number;
    // The code and the commands are never cut.
    let plan = if plan.is_empty() { String::new() } else { format!(" {}.", cut(plan.trim_end_matches('.'), 160)) };
    format!(
        "[{n}] {} {} -> {} by {} needs {wanted}{but}.{plan} !approve {n} {code} | !reject {n} <why> | expires {}",
        run.app,
        run.shown(),
        run.env,
        run.asker.called(),
        moment(until, now).trim_end_matches(" UTC")
    )
}

/// Somebody agreed.
pub fn approved(run: &Run, by: &str, account: Option<&str>, left: usize) -> String {
    let how = match account {
        Some(account) => format!(" (identified as {account}, via services)"),
        None => " (logged in)".to_owned(),
    };
    match left {
        0 => format!("[{}] approved by {by}{how}. Starting.", run.number),
        _ => format!("[{}] approved by {by}{how}. {left} more needed.", run.number),
    }
}

/// A run waits for its turn.
pub fn queued(run: &Run, place: usize, ahead: &[String]) -> String {
    let ahead = if ahead.is_empty() { String::new() } else { format!(" ({})", ahead.join(", ")) };
    format!(
        "[{}] queued for {}, place {place}{ahead}. !queue {}, !drop {}",
        run.number,
        run.place(),
        run.app,
        run.number
    )
}

/// What was live: its commit, and where there is none its version.
fn base(before: Option<&Before>) -> String {
    let told = |before: &Before| match before.sha.is_empty() {
        true => shown(&before.version, &before.sha),
        false => shown("", &before.sha),
    };
    before.map_or("nothing".to_owned(), told)
}

/// A run begins on something else than was there when it was asked for, and nobody has to say yes to that.
pub fn went_between(was: Option<&Before>, is: Option<&Before>) -> String {
    format!("{} is now {} ({} went in between)", base(was), base(is), is.map_or(0, |is| is.run))
}

/// It is a run's turn, and what it was asked for on is not there any more.
pub fn your_turn(run: &Run, was: Option<&Before>, between: i64, count: u64) -> String {
    let (was, is) = (base(was), base(run.before.as_ref()));
    let diff = match count {
        0 => String::new(),
        1 => ": diff is 1 commit".to_owned(),
        count => format!(": diff is {count} commits"),
    };
    format!(
        "[{}] {}: your turn. {was} is now {is} ({between} went in between){diff}. !yes {} within 5 min or I pass to the next.",
        run.number, run.asker.nick, run.number
    )
}

/// Nobody answered when it was their turn.
pub fn passed(run: &Run) -> String {
    format!("[{}] {} did not answer; passed. Re-queue: !again {}", run.number, run.asker.nick, run.number)
}

/// Who has to agree: `2 approvals from @oncall`.
pub fn wanted(approvals: &Approvals) -> String {
    let from = if approvals.from.is_empty() { "who may deploy there".to_owned() } else { either(&approvals.from) };
    let count = if approvals.count == 1 { "1 approval".to_owned() } else { format!("{} approvals", approvals.count) };
    format!("{count} from {from}")
}

/// The same, and who not.
pub fn wanted_but(approvals: &Approvals, asker: &str) -> String {
    let but = if approvals.not_requester { format!(", not {asker}") } else { String::new() };
    format!("{}{but}", wanted(approvals))
}

/// One of several.
pub fn either(names: &[String]) -> String {
    names.join(" or ")
}

/// A stage failed and somebody decides; `after` is when it is aborted if nobody does, where it stands still for nothing else.
pub fn held(run: &Run, stage: &StageRun, called: &str, after: Option<Millis>) -> String {
    let line = stage.failure.as_ref().map(|failure| cut(&failure.line, 180)).unwrap_or_default();
    let n = run.number;
    let end = match (after, &run.paused) {
        (Some(after), _) => format!("Auto-abort in {}.", minutes(after)),
        (None, Some(halt)) => format!("Paused by {}: it waits for !resume {n} first.", quiet(&halt.by)),
        (None, None) => "Nothing happens by itself.".to_owned(),
    };
    format!("[{n}] {} {called} held: {line}. !promote {n} | !abort {n}. {end}", run.app)
}

/// The bot died while a stage ran, and nobody knows how far it came.
pub fn unsure(run: &Run, stage: &StageRun, why: &str) -> String {
    let n = run.number;
    let begin = format!("[{n}] {} {} needs you: ", run.app, stage.name);
    // What was held before it had a clock, which decides nothing now.
    let clock =
        if run.state == RunState::Paused && run.due.is_some() { ". Nothing happens by itself any more" } else { "" };
    let end = format!(". !retry {n} {} | !promote {n} (it is done) | !abort {n}{clock}", stage.name);
    // What to type is never cut.
    let room = LINE.saturating_sub(begin.len() + end.len()).max(40);
    format!("{begin}{}{end}", fitted(why, room))
}

/// After the bot was away.
pub fn away(run: &Run, doing: &str, away: Millis) -> String {
    format!("[{}] {} {} -> {} still in {doing}, I was away {}", run.number, run.app, run.shown(), run.env, span(away))
}

/// After the bot was started anew.
pub fn anew(run: &Run, doing: &str) -> String {
    format!("[{}] {} {} -> {} still in {doing}; I was started anew", run.number, run.app, run.shown(), run.env)
}

/// A run ended, and then the bot fell.
pub fn ended_before(run: &Run) -> String {
    let state = run.state.name().replace('_', " ");
    format!("[{}] {} {} -> {} {state}, just before I was started anew", run.number, run.app, run.shown(), run.env)
}

/// What nobody has to be told twice: parts of a list in one line, as many as fit, and how many are left.
pub fn listed(parts: &[String]) -> String {
    let mut text = String::new();
    for (at, part) in parts.iter().enumerate() {
        let more = format!(" | +{} more", parts.len() - at);
        if at > 0 && text.len() + part.len() + more.len() > LINE {
            return text + &more;
        }
        if at > 0 {
            text.push_str(" | ");
        }
        text.push_str(part);
    }
    text
}

/// A run ends because this version of the program cannot read the pipeline it began with.
pub fn unreadable(run: &Run, why: &str) -> String {
    let n = run.number;
    let begin = format!(
        "[{n}] {} {} -> {} ended: this version of the bot cannot read the pipeline it began with",
        run.app,
        run.shown(),
        run.env
    );
    let end = format!(" !again {n} asks anew with the one there is now | !run {n}");
    // What to type is never cut.
    let room = LINE.saturating_sub(begin.len() + end.len()).max(40);
    format!("{begin} ({}).{end}", fitted(why, room))
}

/// Such a run is not tried again where it stopped.
pub fn cannot_go_on(number: i64, why: &str) -> String {
    let why = cut(why, 160);
    format!(
        "this version of the bot cannot read the pipeline that run {number} began with ({why}); !again {number} asks anew with the one there is now"
    )
}

/// Nothing of a run went out.
pub fn nothing_went_out(run: &Run) -> String {
    format!(
        "[{}] {} {} -> {}: nothing went out, every stage that would do so was skipped.",
        run.number,
        run.app,
        run.shown(),
        run.env
    )
}

/// What was held counts as done.
pub fn promoted(run: &Run, stages: &str, by: &str) -> String {
    format!("[{}] {} {} promoted by {by}, going on.", run.number, run.app, cut(stages, 200))
}

/// Somebody may not do something: what they may, what is needed, whom to ask.
/// `needed` is the flag, with the channel where it may be had too.
pub fn may_not(handle: &str, app: &str, env: &str, may: &[String], needed: &str, ask: &[String]) -> String {
    let ask = if ask.is_empty() {
        "ask an owner".to_owned()
    } else {
        format!("ask {}", list(&ask.iter().map(|name| quiet(name)).collect::<Vec<_>>(), 3))
    };
    let who = if handle == "*" { "I do not know you: log in to services. " } else { "" };
    if may.is_empty() {
        return format!("{who}you may not deploy {app} to {env} (needs flag {needed}; {ask}).");
    }
    format!("{who}you may deploy {app} to {}, not to {env} (needs flag {needed}; {ask}).", may.join(", "))
}

/// Somebody may not look at something where they are; `channels` is where everybody may.
pub fn may_not_look(handle: &str, what: &str, channels: &[&str]) -> String {
    let who = if handle == "*" { "I do not know you: log in to services. " } else { "" };
    let place = match channels {
        [] => "in a channel where it is deployed from".to_owned(),
        named => format!("in {}", named.join(", ")),
    };
    format!("{who}{what} is shown to who may deploy it, and {place}; ask there, or ask an owner.")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_told_as_people_tell_them() {
        let told: Vec<String> =
            [500, 58_000, 130_000, 4_800_000, 7_200_000, 300_000_000].into_iter().map(span).collect();
        assert_eq!(told, ["1s", "58s", "2m10s", "1h20m", "2h", "3d"]);
        assert_eq!((about(650_000), about(30_000)), ("~11 min".to_owned(), "~30s".to_owned()));
        assert_eq!((about(58_000), minutes(8_000)), ("~1 min".to_owned(), "8 s".to_owned()));
        // 2026-03-02T12:00Z, a Monday.
        let noon = 1_772_452_800_000;
        assert_eq!(moment(noon + 7_500_000, noon), "14:05 UTC");
        assert_eq!(moment(noon + 6 * 86_400_000, noon), "Sun 12:00 UTC");
    }

    #[test]
    fn a_long_text_is_cut_and_control_codes_never_pass() {
        assert_eq!(cut("a\u{3}4\nb", 10), "a 4 b");
        assert_eq!(cut("abcdefgh", 5), "abc..");
        assert_eq!(quiet("ana"), "a\u{200b}na");
        let parts: Vec<String> = (0..60).map(|n| format!("stage-{n} ok 1s")).collect();
        let line = stages(118, &parts);
        assert!(line.len() <= 400 && line.ends_with("more"), "{line}");
    }
}
