//! Everything the bot says about runs, one named function a message. Each line stands alone: it has the run, the app and the
//! environment, and where it waits for somebody it ends with what to type and by when.

pub use super::format::{about, cut, moment, quiet, span};
use super::format::{commits, list, minutes, utc, with_commit};
use super::looks::Places;
use super::model::{Approvals, RollbackMode, Rules};
use super::run::{Commit, Millis, Run, RunKind, StageRun, shown};
use super::state::{RunState, StageState};
use crate::executors::Failure;
use crate::store::runs::{FreezeRow, IncidentRow, LockRow, RunRow};

/// The longest text in a line, in characters: with its prefix it still fits into one line of IRC.
const LINE: usize = 380;

/// What is about to happen: `shop -> prod: v2 (9f3c1e2) replaces v1 (b77a010), 6 commits by ana. Plan: test, build. ~11 min.`
pub fn plan(run: &Run, stages: &[String], eta: Option<Millis>, rules: &Rules) -> String {
    let mut text = format!("{} -> {}: {}", run.app, run.env, with_commit(&run.version, &run.sha));
    match &run.before {
        Some(before) if before.sha == run.sha && before.version == run.version => text.push_str(" again"),
        Some(before) => text.push_str(&format!(" replaces {}", with_commit(&before.version, &before.sha))),
        None => text.push_str(" is the first there"),
    }
    text.push_str(&commits(run));
    text.push('.');
    if rules.max_commits.is_some_and(|most| run.commit_count > most) {
        text.push_str(&format!(" More than {} commits.", rules.max_commits.unwrap_or(0)));
    }
    text.push_str(&format!(" Plan: {}.", list(stages, 8)));
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
    let by = &run.asker.handle;
    if run.kind == RunKind::Rollback {
        let parent = run.parent.map(|parent| format!(" (run {parent})")).unwrap_or_default();
        let from = run
            .before
            .as_ref()
            .map(|before| format!("{} -> ", shown(&before.version, &before.sha)))
            .unwrap_or_default();
        return format!(
            "[{}] rollback {} {} {from}{} started by {by}{parent}{link}",
            run.number,
            run.app,
            run.env,
            run.shown()
        );
    }
    let reason = run.reason.as_ref().map(|reason| format!(" (override: {})", cut(reason, 120))).unwrap_or_default();
    format!("[{}] {} {} -> {} started by {by}{reason}.{link}", run.number, run.app, run.shown(), run.env)
}

/// How a stage went, within a line of several: `test ok 2m10s (412 passed)`.
pub fn stage(stage: &StageRun) -> String {
    let took = match (stage.started, stage.ended) {
        (Some(from), Some(to)) => format!(" {}", span(to - from)),
        _ => String::new(),
    };
    let attempt = if stage.attempt > 1 { format!(" on attempt {}", stage.attempt) } else { String::new() };
    let summary = if stage.summary.is_empty() { String::new() } else { format!(" ({})", cut(&stage.summary, 120)) };
    match stage.state {
        StageState::Succeeded => format!("{} ok{attempt}{took}{summary}", stage.name),
        StageState::Skipped => format!("{} skipped", stage.name),
        StageState::Cancelled => format!("{} cancelled", stage.name),
        _ if stage.forgiven => format!("{} FAILED{took}, and the run goes on", stage.name),
        _ => format!("{} FAILED{took}", stage.name),
    }
}

/// Several of them.
pub fn stages(number: i64, parts: &[String]) -> String {
    let mut text = format!("[{number}] ");
    for (at, part) in parts.iter().enumerate() {
        let more = format!(" | +{} more", parts.len() - at);
        if at > 0 && text.len() + part.len() + more.len() > LINE {
            text.push_str(&more);
            break;
        }
        if at > 0 {
            text.push_str(" | ");
        }
        text.push_str(part);
    }
    text
}

/// A stage is tried again: `test: attempt 2/4 in 8s (class network: registry timed out)`.
pub fn retrying(stage: &StageRun, of: u32, wait: Millis, failure: &Failure) -> String {
    format!(
        "{}: attempt {}/{of} in {} (class {}: {})",
        stage.name,
        stage.attempt + 1,
        span(wait),
        failure.class.name().replace('_', "-"),
        cut(&failure.line, 100)
    )
}

/// How a stage is doing.
pub fn doing(stage: &str, words: &str) -> String {
    format!("{stage}: {}", cut(words, 200))
}

/// A run went well.
pub fn live(run: &Run, path: &[String]) -> String {
    let took = span(run.finished.unwrap_or(run.created) - run.started.unwrap_or(run.created));
    if run.kind == RunKind::Rollback {
        return format!("[{}] {} {} is live again on {} after {took}.", run.number, run.app, run.shown(), run.env);
    }
    let path = if path.len() > 1 { format!(", critical path {}", path.join(">")) } else { String::new() };
    format!(
        "[{}] {} {} is live on {}. {took}{path}. Undo: !rollback {} {}",
        run.number,
        run.app,
        run.shown(),
        run.env,
        run.app,
        run.env
    )
}

/// After a rollback: the place is locked.
pub fn rolled_back_lock(run: &Run) -> String {
    format!(
        " {} is now LOCKED (rolled back by {}). Incident notes: !log {} <text>. Unlock when fixed: !unlock {}",
        run.place(),
        run.asker.handle,
        run.app,
        run.place()
    )
}

/// A run failed: what, why, what the world looks like, and what one may do. At most three lines.
pub fn failed(
    run: &Run,
    stage: Option<&StageRun>,
    rules: Option<&Rules>,
    target: Option<&str>,
    suggestion: &str,
) -> Vec<String> {
    let took = span(run.finished.unwrap_or(run.created) - run.started.unwrap_or(run.created));
    let what = if run.kind == RunKind::Rollback {
        format!("rollback {} {}", run.app, run.env)
    } else {
        format!("{} {} -> {}", run.app, run.shown(), run.env)
    };
    let n = run.number;
    let Some(stage) = stage else {
        let why = match run.ending {
            Some(RunState::TimedOut) => "it took longer than it may",
            _ => "no stage says why",
        };
        return vec![format!("[{n}] {what} FAILED after {took}: {why}. {}: !retry {n} | leave.", run.asker.nick)];
    };
    let failure = stage.failure.clone().unwrap_or_default();
    let retried =
        if stage.retries > 0 { format!("given up after {} attempts", stage.attempt) } else { "not retried".to_owned() };
    let class = failure.class.name().replace('_', "-");
    let hint = if suggestion.is_empty() { String::new() } else { format!("; {suggestion}") };
    let first = if failure.world.is_empty() { String::new() } else { format!(": {}", cut(&failure.line, 160)) };
    let mut lines =
        vec![format!("[{n}] {what} FAILED in {} after {took}{first} (class: {class}; {retried}{hint}).", stage.name)];
    let decisive = failure.world.first().unwrap_or(&failure.line);
    if !decisive.is_empty() {
        lines.push(format!("[{n}] | {}", cut(decisive, LINE - 20)));
    }
    let world = failure.world.get(1).map(|world| format!("{} ", cut(world, 150))).unwrap_or_default();
    let mut choices = Vec::new();
    if let Some(target) = target {
        choices.push(format!("!rollback {n} (to {target})"));
    }
    choices.push(format!("!retry {n} {}", stage.name));
    choices.push(format!("!tail {n}"));
    choices.push("leave".to_owned());
    let rollback = rules.map(|rules| rules.rollback).unwrap_or_default();
    let by_itself = match (rollback.mode, rollback.auto_after, target) {
        (RollbackMode::Auto, _, Some(_)) => " I roll back now.".to_owned(),
        (RollbackMode::Offer, Some(after), Some(_)) => {
            format!(" I roll back by myself in {}.", minutes(after.as_millis() as Millis))
        }
        _ => String::new(),
    };
    lines.push(format!("[{n}] {world}{}: {}.{by_itself}", run.asker.nick, choices.join(" | ")));
    lines
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

/// People have to agree.
pub fn needs_approval(run: &Run, approvals: &Approvals, plan: &str, code: &str, until: Millis, now: Millis) -> String {
    let from = if approvals.from.is_empty() { "who may deploy there".to_owned() } else { approvals.from.join(" or ") };
    let but = if approvals.not_requester { format!(", not {}", run.asker.handle) } else { String::new() };
    let count = if approvals.count == 1 { "1 approval".to_owned() } else { format!("{} approvals", approvals.count) };
    let n = run.number;
    let plan = if plan.is_empty() { String::new() } else { format!(" {}.", plan.trim_end_matches('.')) };
    format!(
        "[{n}] {} {} -> {} by {} needs {count} from {from}{but}.{plan} !approve {n} {code} | !reject {n} <why> | expires {}",
        run.app,
        run.shown(),
        run.env,
        run.asker.handle,
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

/// It is a run's turn, and what it was asked for on is not there any more.
pub fn your_turn(run: &Run, was: &str, between: i64, count: u64) -> String {
    let is = run.before.as_ref().map(|before| shown(&before.version, &before.sha)).unwrap_or_default();
    let diff = if count > 0 { format!(": diff is {count} commits") } else { String::new() };
    format!(
        "[{}] {}: your turn. {was} is now {is} ({between} went in between){diff}. !yes {} within 5 min or I pass to the next.",
        run.number, run.asker.nick, run.number
    )
}

/// Nobody answered when it was their turn.
pub fn passed(run: &Run) -> String {
    format!("[{}] {} did not answer; passed. Re-queue: !again {}", run.number, run.asker.nick, run.number)
}

/// A place is locked; who asks may wait behind it.
pub fn locked(lock: &LockRow, now: Millis, queue: Option<i64>) -> String {
    let left = lock.until.map(|until| format!(" ({} left)", span(until - now))).unwrap_or_default();
    let queue = queue.map(|number| format!(" Queue behind it: !queue {number}.")).unwrap_or_default();
    format!(
        "{} is locked by {} since {}{left}: {}.{queue} Owners may: !unlock {}",
        lock.place,
        lock.handle,
        moment(lock.since, now).trim_end_matches(" UTC"),
        lock.reason,
        lock.place
    )
}

/// A lock was made.
pub fn lock_made(lock: &LockRow, now: Millis, waiting: usize) -> String {
    let until = lock.until.map(|until| format!(" until {}", moment(until, now))).unwrap_or_default();
    let waiting = match waiting {
        0 => String::new(),
        1 => " (1 queued run waits)".to_owned(),
        more => format!(" ({more} queued runs wait)"),
    };
    format!("{} locked by {}{until}: {}.{waiting}", lock.place, lock.handle, lock.reason)
}

/// A lock ends soon.
pub fn lock_ends(lock: &LockRow) -> String {
    format!("{}: {}'s lock ends in 10 min. Extend: !lock {} +1h", lock.place, lock.handle, lock.place)
}

/// A lock ended by itself.
pub fn lock_over(lock: &LockRow) -> String {
    format!("{}: {}'s lock is over ({}).", lock.place, lock.handle, cut(&lock.reason, 120))
}

/// A lock was taken away.
pub fn unlocked(lock: &LockRow, by: &str, reason: &str, next: Option<(i64, &str)>) -> String {
    let was = if lock.handle == by { String::new() } else { format!(" (was {}'s): {}", lock.handle, cut(reason, 150)) };
    let told = if lock.handle == by { String::new() } else { format!(". {} has been told", lock.handle) };
    let next = next
        .map(|(number, who)| format!(". Starting {number} for {who} in 30 s, \"!abort {number}\" to stop"))
        .unwrap_or_default();
    format!("{} unlocked by {by}{was}{told}{next}.", lock.place)
}

/// To whose lock was broken.
pub fn lock_broken(lock: &LockRow, by: &str, reason: &str) -> String {
    format!("{by} took your lock away from {}: {}", lock.place, cut(reason, 200))
}

/// A lock is somebody else's.
pub fn not_your_lock(lock: &LockRow) -> String {
    format!("that is {}'s lock. Break it with a reason: !unlock! {} <why>", lock.handle, lock.place)
}

/// A place is frozen, or no window is open.
pub fn closed(env: &str, why: &str, until: Option<Millis>, asked: &str, now: Millis) -> String {
    let until_text = until.map(|until| format!(" until {}", moment(until, now))).unwrap_or_default();
    let book =
        until.map(|until| format!(" !at {} deploy {asked} books it;", utc(until).format("%H:%M"))).unwrap_or_default();
    format!("{env} is frozen{until_text} ({why}).{book} emergency: !deploy! {asked} <reason>")
}

/// A window opened for runs that waited.
pub fn window_open(env: &str, until: Millis, now: Millis, booked: &[String]) -> String {
    format!("{env} window open until {}. Booked: {}.", moment(until, now), booked.join(", "))
}

/// A stage failed and somebody decides.
pub fn held(run: &Run, stage: &StageRun, after: Millis) -> String {
    let line = stage.failure.as_ref().map(|failure| cut(&failure.line, 180)).unwrap_or_default();
    let n = run.number;
    format!(
        "[{n}] {} {} held: {line}. !promote {n} | !abort {n}. Auto-abort in {}.",
        run.app,
        stage.name,
        minutes(after)
    )
}

/// The bot died while a stage ran, and nobody knows how far it came.
pub fn unsure(run: &Run, stage: &StageRun, why: &str) -> String {
    let n = run.number;
    format!(
        "[{n}] {} {} needs you: {}. !retry {n} {} | !promote {n} (it is done) | !abort {n}",
        run.app,
        stage.name,
        cut(why, 200),
        stage.name
    )
}

/// After the bot was away.
pub fn away(run: &Run, doing: &str, away: Millis) -> String {
    format!("[{}] {} {} -> {} still in {doing}, I was away {}", run.number, run.app, run.shown(), run.env, span(away))
}

/// What is where: one app in all its environments.
pub fn who(app: &str, rows: &Places, now: Millis) -> String {
    let mut parts = Vec::new();
    for (env, live, locked, running) in rows {
        let mut text = match live {
            Some((live, run)) => {
                let kind = if run.kind == "rollback" { ", rollback" } else { "" };
                let version = shown(&live.version, &live.sha);
                format!("{env} {version} by {} {} ago ({}{kind})", quiet(&run.requester), span(now - live.at), live.run)
            }
            None => format!("{env} nothing"),
        };
        if *locked {
            text.push_str(" LOCKED");
        }
        if let Some((number, version)) = running {
            text.push_str(&format!(", {version} running ({number})"));
        }
        parts.push(text);
    }
    format!("{app}: {}", parts.join(" | "))
}

/// One run in a list: `118 v2.41.0 ana 07:12 ok 10m48s`.
pub fn run_row(row: &RunRow, run: &Run, now: Millis) -> String {
    let at = moment(row.created, now);
    let at = at.trim_end_matches(" UTC");
    let took = row.started.zip(row.finished).map(|(from, to)| format!(" {}", span(to - from))).unwrap_or_default();
    let how = match run.state {
        RunState::Succeeded => format!("ok{took}"),
        RunState::Failed | RunState::TimedOut => {
            format!("FAILED {}", run.failed.as_deref().unwrap_or("")).trim_end().to_owned()
        }
        RunState::RolledBack => format!("FAILED {}, rolled back", run.failed.as_deref().unwrap_or("")),
        state => state.name().replace('_', " "),
    };
    let what = if run.kind == RunKind::Rollback { format!("rollback->{}", run.shown()) } else { run.shown() };
    format!("{} {what} {} {at} {how}", row.number, quiet(&row.requester))
}

/// A run in detail.
pub fn run(run: &Run, stages: &[StageRun], eta: Option<Millis>, now: Millis) -> Vec<String> {
    let mut head = format!(
        "[{}] {} {} -> {}: {}, by {} {} ago",
        run.number,
        run.app,
        run.shown(),
        run.env,
        run.state.name().replace('_', " "),
        quiet(&run.asker.handle),
        span(now - run.created)
    );
    if let Some(eta) = eta.filter(|_| run.state.active()) {
        head.push_str(&format!(", {} left", about(eta)));
    }
    let parts: Vec<String> = stages
        .iter()
        .map(|one| match one.state {
            state if state.ended() => stage(one),
            StageState::Running => format!("{} running {}", one.name, span(now - one.started.unwrap_or(now))),
            state => format!("{} {}", one.name, state.name().replace('_', " ")),
        })
        .collect();
    let mut out = vec![head];
    if !parts.is_empty() {
        out.push(self::stages(run.number, &parts));
    }
    out
}

/// The commits of a run.
pub fn diff(run: &Run) -> Vec<String> {
    if run.commits.is_empty() {
        return vec![format!(
            "[{}] no commits are known between {} and {}",
            run.number,
            run.before.as_ref().map_or("nothing", |before| before.version.as_str()),
            run.shown()
        )];
    }
    let line = |commit: &Commit| {
        format!(
            "{} {}: {}",
            commit.sha.chars().take(7).collect::<String>(),
            quiet(&commit.author),
            cut(&commit.subject, 200)
        )
    };
    let mut out: Vec<String> = run.commits.iter().take(8).map(line).collect();
    let more = run.commit_count.saturating_sub(out.len() as u64);
    if more > 0 {
        out.push(format!("and {more} more"));
    }
    out
}

/// A line of the incident log.
pub fn incident(row: &IncidentRow) -> String {
    format!("L-{} {} {} {}", row.id, utc(row.at).format("%H:%M"), quiet(&row.handle), cut(&row.text, 100))
}

/// A freeze.
pub fn frozen(row: &FreezeRow, now: Millis) -> String {
    let until = row.until.map(|until| format!(" until {}", moment(until, now))).unwrap_or_default();
    let scope = if row.scope == "*" { "everything" } else { &row.scope };
    format!("{scope} frozen by {}{until}: {}.", row.handle, row.reason)
}

/// Somebody may not do something: what they may, what is needed, whom to ask.
pub fn may_not(handle: &str, app: &str, env: &str, may: &[String], flags: &str, ask: &[String]) -> String {
    let ask = if ask.is_empty() {
        "ask an owner".to_owned()
    } else {
        format!("ask {}", list(&ask.iter().map(|name| quiet(name)).collect::<Vec<_>>(), 3))
    };
    let who = if handle == "*" { "I do not know you: log in to services. " } else { "" };
    if may.is_empty() {
        return format!("{who}you may not deploy {app} to {env} (needs flag {flags}; {ask}).");
    }
    format!("{who}you may deploy {app} to {}, not to {env} (needs flag {flags}; {ask}).", may.join(", "))
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
