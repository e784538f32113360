//! Times, lists and names as people read them.

use chrono::{DateTime, TimeZone, Utc};

use crate::pipelines::run::{Millis, Run, shown};

/// A time span as people say it: `8s`, `2m10s`, `1h20m`, `3d`.
pub fn span(millis: Millis) -> String {
    let seconds = (millis.max(0) + 500) / 1000;
    match seconds {
        0..60 => format!("{seconds}s"),
        60..3600 if seconds % 60 == 0 => format!("{}m", seconds / 60),
        60..3600 => format!("{}m{:02}s", seconds / 60, seconds % 60),
        3600..86400 if (seconds % 3600) / 60 == 0 => format!("{}h", seconds / 3600),
        3600..86400 => format!("{}h{:02}m", seconds / 3600, (seconds % 3600) / 60),
        _ => format!("{}d", seconds / 86400),
    }
}

/// A rough time span: `~4 min`.
pub fn about(millis: Millis) -> String {
    match millis {
        i64::MIN..50_000 => format!("~{}s", (millis / 1000).max(1)),
        _ => format!("~{} min", (millis + 30_000) / 60_000),
    }
}

/// A moment as people say it: `14:05 UTC` today, `Mon 08:00 UTC` this week, else the date.
pub fn moment(at: Millis, now: Millis) -> String {
    let (at, now) = (utc(at), utc(now));
    let days = (at.date_naive() - now.date_naive()).num_days();
    match days {
        0 => at.format("%H:%M UTC").to_string(),
        1..7 => at.format("%a %H:%M UTC").to_string(),
        _ => at.format("%F %H:%M UTC").to_string(),
    }
}

pub(super) fn utc(at: Millis) -> DateTime<Utc> {
    Utc.timestamp_millis_opt(at).single().unwrap_or_default()
}

/// The first characters of a text, on one line.
pub fn cut(text: &str, most: usize) -> String {
    let flat: String = text.chars().map(|c| if c.is_control() { ' ' } else { c }).collect();
    if flat.chars().count() <= most {
        return flat;
    }
    flat.chars().take(most.saturating_sub(2)).chain("..".chars()).collect()
}

/// A text of which nothing is a name that somebody here has: each such word is made quiet.
pub fn hushed(text: &str, nicks: &[String]) -> String {
    let named = |word: &str| nicks.iter().any(|nick| nick.eq_ignore_ascii_case(word));
    let part_of_name = |c: char| c.is_alphanumeric() || "_-[]\\`^{}|".contains(c);
    let mut out = String::with_capacity(text.len());
    let mut rest = text;
    while !rest.is_empty() {
        let word = rest.find(|c| !part_of_name(c)).unwrap_or(rest.len());
        let (name, after) = rest.split_at(word);
        out.push_str(&if named(name) { quiet(name) } else { name.to_owned() });
        let gap = after.find(part_of_name).unwrap_or(after.len());
        out.push_str(&after[..gap]);
        rest = &after[gap..];
    }
    out
}

/// The beginning of a text that has so many bytes at most, on one line.
pub fn fitted(text: &str, most: usize) -> String {
    let flat: String = text.chars().map(|c| if c.is_control() { ' ' } else { c }).collect();
    if flat.len() <= most {
        return flat;
    }
    let end = (0..=most.saturating_sub(2)).rev().find(|at| flat.is_char_boundary(*at)).unwrap_or(0);
    format!("{}..", &flat[..end])
}

pub(super) fn list(names: &[String], most: usize) -> String {
    let first: Vec<&str> = names.iter().take(most).map(String::as_str).collect();
    match names.len().saturating_sub(most) {
        0 => first.join(", "),
        more => format!("{}, +{more}", first.join(", ")),
    }
}

/// A name that clients do not take for a call: a zero-width space after its first letter.
pub fn quiet(name: &str) -> String {
    let mut letters = name.chars();
    match letters.next() {
        Some(first) if name.chars().count() > 1 => format!("{first}\u{200b}{}", letters.as_str()),
        _ => name.to_owned(),
    }
}

/// A time within a sentence: `8 s`, `2 min`, `1m30s`.
pub(super) fn minutes(millis: Millis) -> String {
    match (millis.max(0) + 500) / 1000 {
        seconds @ 1..60 => format!("{seconds} s"),
        _ if millis % 60_000 == 0 => format!("{} min", millis / 60_000),
        _ => span(millis),
    }
}

/// `6 commits by ana, raj, +1`; who is named is not highlighted.
pub(super) fn commits(run: &Run) -> String {
    if run.commits_unknown() {
        return ", commits not known yet".to_owned();
    }
    if run.commit_count == 0 {
        return String::new();
    }
    let mut authors: Vec<String> = Vec::new();
    for commit in &run.commits {
        let author = quiet(commit.author.split_whitespace().next().unwrap_or(""));
        if !authors.contains(&author) {
            authors.push(author);
        }
    }
    let count = if run.commit_count == 1 { "1 commit".to_owned() } else { format!("{} commits", run.commit_count) };
    // One commit has room for what it says.
    let only = run.commits.first().filter(|_| run.commit_count == 1).map(|commit| cut(&commit.subject, 60));
    let only = only.filter(|subject| !subject.is_empty()).map(|subject| format!(": {subject}")).unwrap_or_default();
    if authors.is_empty() { format!(", {count}{only}") } else { format!(", {count} by {}{only}", list(&authors, 2)) }
}

pub(super) fn with_commit(version: &str, sha: &str) -> String {
    let short: String = sha.chars().take(7).collect();
    match (version.is_empty(), short.is_empty()) {
        (false, false) if version != short => format!("{version} ({short})"),
        _ => shown(version, sha),
    }
}
