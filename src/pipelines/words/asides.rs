//! What is said beside the rest: what was left out, who is gone, what had time to spare; and lines that share one.

use super::LINE;
use super::format::{cut, fitted, list, span};
use crate::pipelines::outside::Checked;
use crate::pipelines::run::{Millis, Run, StageRun};

/// What is not as usual, behind other words: `, skipping test, scan`, `, with skip_tests=true`.
pub fn skipping(run: &Run) -> String {
    let some = |word: &str, names: &[String]| {
        if names.is_empty() { String::new() } else { format!(", {word} {}", list(names, 8)) }
    };
    format!("{}{}", some("skipping", &run.skipped), some("with", &run.guarded))
}

/// What others said who were asked: ` Checks: ci/unit ok, error_rate FAILED (overridden).`
pub(super) fn checked(checks: &[Checked]) -> String {
    let one = |check: &Checked| match &check.fault {
        None => format!("{} ok", check.name),
        Some(_) => format!("{} FAILED (overridden)", check.name),
    };
    let all: Vec<String> = checks.iter().map(one).collect();
    if all.is_empty() { String::new() } else { format!(" Checks: {}.", list(&all, 4)) }
}

/// Why a run may not begin: checks that do not hold, and the ways out.
pub fn unchecked(place: &str, faults: &[(String, String)], asked: &str) -> String {
    let one = |(name, why): &(String, String)| {
        if why.contains(name.as_str()) { cut(why, 160) } else { cut(&format!("{name}: {why}"), 160) }
    };
    let all: Vec<String> = faults.iter().map(one).collect();
    let what = if all.len() == 1 { "a check does not hold" } else { "checks do not hold" };
    format!("{place}: {what}: {}. Mend it and ask again, or override: !deploy! {asked} <reason>", list(&all, 2))
}

/// A line with what found no room of its own before it. The line itself is never cut.
pub fn folded(number: i64, before: &[String], line: &str) -> String {
    let mark = format!("[{number}] ");
    let plain = |line: &str| line.strip_prefix(&mark).unwrap_or(line).to_owned();
    let before: Vec<String> = before.iter().map(|line| plain(line)).collect();
    let room = LINE.saturating_sub(line.len());
    if before.is_empty() || room < 20 {
        return line.to_owned();
    }
    format!("{mark}{} {}", fitted(&before.join(" "), room), plain(line))
}

/// The last lines of a run as fewer lines: what happened and what one may do stay, what is between goes first.
pub fn fewer(number: i64, lines: Vec<String>, most: usize) -> Vec<String> {
    match lines.as_slice() {
        lines if lines.len() <= most.max(1) => lines.to_vec(),
        [what, between, choices] if most == 2 => {
            let mark = format!("[{number}] ");
            let between = between.strip_prefix(&mark).unwrap_or(between);
            let room = LINE.saturating_sub(what.len()).max(20);
            vec![format!("{what} {}", fitted(between, room)), choices.clone()]
        }
        [what, .., choices] => vec![folded(number, std::slice::from_ref(what), choices)],
        _ => lines,
    }
}

/// A bot that was begun for one deployment goes, and would have undone it later.
pub fn nobody_undoes(number: i64, at: Millis, now: Millis) -> String {
    format!(
        "run {number} is rolled back by itself in {} by a bot that runs then: start masterchief run",
        span(at - now)
    )
}

/// What is asked for is not refused, and takes its time.
pub fn looking(app: &str) -> String {
    format!("looking at the repository of {app} and at what its rules ask for; a moment.")
}

/// The first copy of a large repository is not there yet.
pub fn being_copied(app: &str) -> String {
    format!("the repository of {app} is still being copied, which goes on by itself: ask again in some minutes")
}

/// What copied a repository fell over.
pub fn copy_fell(app: &str) -> String {
    format!("the repository of {app} was not copied; the fault is in the bot's log")
}

/// A trigger asked for a run, and it may not be.
pub fn not_started(app: &str, env: &str, origin: &str, fault: &str) -> String {
    let to = if env.is_empty() { String::new() } else { format!(" -> {env}") };
    format!("{app}{to} was not started by its trigger ({origin}): {fault}")
}

/// To somebody whose record was made or changed after a run was asked for.
pub fn touched(handle: &str, number: i64) -> String {
    format!(
        "what {handle} is known by was changed after run {number} was asked for: somebody else has to say it, or ask anew: !again {number}"
    )
}

/// Who has to say yes was lost in a netsplit.
pub fn lost(run: &Run) -> String {
    let (number, nick) = (run.number, &run.asker.nick);
    format!(
        "[{number}] {nick} was lost in a netsplit: the time for a yes stands still for up to 10 min, until they are back."
    )
}

/// They are back.
pub fn found(run: &Run, left: Millis) -> String {
    let (number, nick) = (run.number, &run.asker.nick);
    format!("[{number}] {nick} is back, with {} left to say \"!yes {number}\".", span(left))
}

/// Who had to say yes is not there any more.
pub fn gone(run: &Run) -> String {
    format!(
        "[{}] {} {} -> {} is off: {} left before saying yes. Ask again: !again {}",
        run.number,
        run.app,
        run.shown(),
        run.env,
        run.asker.nick,
        run.number
    )
}

/// Who asked has taken it back.
pub fn taken_back(run: &Run) -> String {
    format!(
        "[{}] {} {} -> {} is off: {}'s words were taken back before anybody said yes.",
        run.number,
        run.app,
        run.shown(),
        run.env,
        run.asker.nick
    )
}

/// How much longer a stage could have taken without the run taking longer.
pub(super) fn spare(stage: &StageRun) -> String {
    stage.slack.map(|slack| format!(", {} to spare", span(slack))).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_takes_others_in_front_and_is_never_cut_itself() {
        let before = ["[7] approved by lee. Starting.".to_owned()];
        assert_eq!(folded(7, &before, "[7] shop v2 is live."), "[7] approved by lee. Starting. shop v2 is live.");
        let long = format!("[7] {}", "x".repeat(360));
        assert_eq!(folded(7, &before, &long), long);
    }

    #[test]
    fn what_is_folded_is_measured_in_bytes_as_the_line_is() {
        let before = ["[7] ".to_owned() + &"é".repeat(300)];
        let line = folded(7, &before, &format!("[7] {}", "x".repeat(100)));
        assert!(line.len() <= LINE + 5 && line.ends_with(&"x".repeat(100)), "{} {line}", line.len());
        let lines =
            vec![format!("[7] {}", "é".repeat(100)), format!("[7] | {}", "é".repeat(200)), "[7] !retry 7".to_owned()];
        let fewer = fewer(7, lines, 2);
        assert!(fewer[0].len() <= LINE + 5, "{}", fewer[0].len());
    }

    #[test]
    fn three_lines_become_two_or_one_and_keep_what_happened_and_what_one_may_do() {
        let lines = || ["[7] it FAILED.", "[7] | no disk", "[7] ana: !retry 7"].map(str::to_owned).to_vec();
        assert_eq!(fewer(7, lines(), 3), lines());
        assert_eq!(fewer(7, lines(), 2), ["[7] it FAILED. | no disk", "[7] ana: !retry 7"]);
        for most in [0, 1] {
            assert_eq!(fewer(7, lines(), most), ["[7] it FAILED. ana: !retry 7"]);
        }
    }
}
