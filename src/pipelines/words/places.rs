//! What is said about places: locks, freezes and windows.

use super::format::{cut, minutes, moment, quiet, span, utc};
use super::wanted;
use crate::pipelines::model::Rules;
use crate::pipelines::run::{Millis, Run};
use crate::pipelines::window;
use crate::store::runs::{FreezeRow, LockRow};

/// After a rollback: the place is locked.
pub fn rolled_back_lock(run: &Run) -> String {
    format!(
        " {} is now LOCKED (rolled back by {}). Incident notes: !log {} <text>. Unlock when fixed: !unlock {}",
        run.place(),
        run.asker.called(),
        run.app,
        run.place()
    )
}

/// A place is locked; who asks may wait behind it.
pub fn locked(lock: &LockRow, now: Millis, queue: Option<i64>) -> String {
    let left = lock.until.map(|until| format!(" ({} left)", span(until - now))).unwrap_or_default();
    let queue = queue.map(|number| format!(" Queue behind it: !queue {number}.")).unwrap_or_default();
    format!(
        "{} is locked by {} since {}{left}: {}.{queue} Owners may: !unlock {}",
        lock.place,
        quiet(&lock.handle),
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
pub fn lock_ends(lock: &LockRow, left: Millis) -> String {
    // One or two seconds late is still ten minutes.
    let left = (left + 30_000) / 60_000 * 60_000;
    let left = if left > 0 { minutes(left) } else { "less than a minute".to_owned() };
    format!("{}: {}'s lock ends in {left}. Extend: !lock {} +1h", lock.place, lock.handle, lock.place)
}

/// A lock ended by itself.
pub fn lock_over(lock: &LockRow) -> String {
    format!("{}: {}'s lock is over ({}).", lock.place, lock.handle, cut(&lock.reason, 120))
}

/// A lock was taken away.
pub fn unlocked(lock: &LockRow, by: &str, reason: &str, told: bool, next: Option<(i64, &str)>) -> String {
    let holder = quiet(&lock.handle);
    let was = if lock.handle == by { String::new() } else { format!(" (was {holder}'s): {}", cut(reason, 150)) };
    let told = match told {
        _ if lock.handle == by || lock.handle == "bot" => String::new(),
        true => format!(". {holder} has been told"),
        false => format!(". {holder} is not here to be told"),
    };
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
    format!("that is {}'s lock. Break it with a reason: !unlock! {} <why>", quiet(&lock.handle), lock.place)
}

/// A place is frozen, or no window is open.
pub fn closed(env: &str, why: &str, until: Option<Millis>, asked: &str, rules: &Rules, now: Millis) -> String {
    let until_text = until.map(|until| format!(" until {}", moment(until, now))).unwrap_or_default();
    let plain = |at: Millis| moment(at, now).trim_end_matches(" UTC").to_owned();
    let window = until.and_then(|until| window::after(&rules.windows, utc(until)));
    let next = window
        .map(|(from, to)| format!(" Next window: {}-{}.", plain(from.timestamp_millis()), to.format("%H:%M")))
        .unwrap_or_default();
    let open = window.map(|(from, _)| from.timestamp_millis()).or(until);
    let book = open.map(|at| format!(" !at {} deploy {asked} books it;", plain(at))).unwrap_or_default();
    let approvals =
        rules.emergency.as_ref().map(|approvals| format!(", then {}", wanted(approvals))).unwrap_or_default();
    format!("{env} is frozen{until_text} ({why}).{next}{book} emergency: !deploy! {asked} <reason>{approvals}")
}

/// A calendar that a rule names was not read yet.
pub fn calendar_unread(path: &dyn std::fmt::Display) -> String {
    format!("{path} is not read yet")
}

/// A window opened for runs that waited.
pub fn window_open(env: &str, until: Millis, now: Millis, booked: &[String]) -> String {
    let until = moment(until, now);
    format!("{env} window open until {}. Booked: {}.", until.trim_end_matches(" UTC"), booked.join(", "))
}

/// A freeze is over.
pub fn thawed(row: &FreezeRow) -> String {
    format!("The freeze of {} is over ({}).", row.scope, cut(&row.reason, 120))
}

/// A freeze.
pub fn frozen(row: &FreezeRow, was: Option<&FreezeRow>, now: Millis) -> String {
    let until = |row: &FreezeRow| row.until.map(|until| format!(" until {}", moment(until, now))).unwrap_or_default();
    let was = was.map(|was| format!(" (was {}'s{}: {})", quiet(&was.handle), until(was), cut(&was.reason, 120)));
    format!("{} frozen by {}{}: {}{}.", frozen_what(row), row.handle, until(row), row.reason, was.unwrap_or_default())
}

fn frozen_what(row: &FreezeRow) -> &str {
    if row.scope == "*" { "everything" } else { &row.scope }
}

/// Somebody else froze it for longer.
pub fn frozen_longer(row: &FreezeRow, now: Millis) -> String {
    let until = row.until.map_or("until it is thawed".to_owned(), |until| format!("until {}", moment(until, now)));
    let (what, by, reason) = (frozen_what(row), quiet(&row.handle), cut(&row.reason, 200));
    format!("{what} is frozen by {by} {until} ({reason}), which is longer. Thaw it first: !thaw {}", row.scope)
}
