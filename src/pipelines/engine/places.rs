//! What people say to places: locks, freezes, the incident log, bookings.

use super::Engine;
use super::ask::{Answer, Ask, Asked, May, Prepared, Reply};
use super::skip::{asked_where, known_requester, left_out};
use crate::pipelines::may::{rules, settle};
use crate::pipelines::refusal::Refusal;
use crate::pipelines::request::sealed;
use crate::pipelines::run::{Asker, Millis, Run, shown};
use crate::pipelines::state::RunState;
use crate::pipelines::words;
use crate::store::runs::{BookingRow, FreezeRow, IncidentRow, LockRow, Put};
use serde_json::json;

/// The app, the environment and a few words of something that is booked.
fn booked_what(row: &BookingRow) -> (String, String, String) {
    let detail: serde_json::Value = serde_json::from_str(&row.detail).unwrap_or_default();
    let text = |key: &str| detail.get(key).and_then(serde_json::Value::as_str).unwrap_or_default().to_owned();
    let (app, env, version) = (text("app"), text("env"), shown(&text("version"), &text("sha")));
    let version = if text("version").is_empty() && !text("ref").is_empty() { text("ref") } else { version };
    let what = words::version_to(&app, version, &env);
    (app, env, what)
}

/// What was booked begins so much later at most: nobody expects it after that.
const LATE: Millis = 15 * 60_000;
/// How far ahead somebody may book.
const BOOK_MOST: Millis = 366 * 86_400_000;

impl Engine {
    /// `!lock shop/prod 2h why`.
    pub(super) fn lock(&mut self, place: &str, time: Option<Millis>, why: &str, who: &Asker, may: &May) -> Answer {
        let (app, env) = self.known_place(place)?;
        let pipeline = self.catalog.get(&app)?;
        self.may_deploy(&pipeline, &env, who, may)?;
        if why.trim().is_empty() {
            return Err(Refusal::wrong(words::why_lock(place)));
        }
        if let Some(lock) = self.locks.get(place) {
            return Err(Refusal::conflict(words::locked(lock, self.now, None)));
        }
        let lock = LockRow {
            place: place.to_owned(),
            handle: who.handle.clone(),
            reason: words::cut(why, 400),
            since: self.now,
            until: time.map(|time| self.now.saturating_add(time)),
            rollback: false,
            said_in: who.place.clone(),
            run: None,
            warned: None,
        };
        // Nothing may have run there yet.
        self.puts.push(Put::Place { app: app.clone(), repo: pipeline.repo.clone(), env: env.clone() });
        self.puts.push(Put::Lock(lock.clone()));
        self.locks.insert(place.to_owned(), lock.clone());
        self.incident(&who.handle, (&app, &env), None, &words::log_locked(why), None);
        let waits =
            |run: &Run| matches!(run.state, RunState::Queued | RunState::AwaitingWindow) && run.place() == place;
        let waiting = self.runs.values().filter(|live| waits(&live.run)).count();
        Ok(self.loud(place, words::lock_made(&lock, self.now, waiting), who))
    }

    /// What became of a place: answered where it was said, and told wherever one hears of that place.
    fn loud(&mut self, scope: &str, line: String, who: &Asker) -> Reply {
        // In a channel the answer is for all who are there.
        let here: Vec<String> = who.channel().map(str::to_owned).into_iter().collect();
        self.say_place(scope, &line, None, &here);
        Reply { public: vec![line], ..Reply::default() }
    }

    /// `!lock shop/prod +1h`.
    pub(super) fn extend(&mut self, place: &str, time: Millis, who: &Asker, may: &May) -> Answer {
        let (app, env) = self.known_place(place)?;
        let pipeline = self.catalog.get(&app)?;
        self.may_deploy(&pipeline, &env, who, may)?;
        let now = self.now;
        let Some(lock) = self.locks.get_mut(place) else {
            return Err(Refusal::conflict(words::not_locked(place)));
        };
        if lock.handle != who.handle {
            return Err(Refusal::conflict(words::not_your_lock(lock)));
        }
        if lock.until.is_none() {
            return Err(Refusal::conflict(words::lock_without_end(place)));
        }
        lock.until = Some(lock.until.unwrap_or(now).saturating_add(time));
        let lock = lock.clone();
        self.puts.push(Put::Lock(lock.clone()));
        self.incident(&who.handle, (&app, &env), None, &words::log_lock_lasts(), None);
        Ok(self.loud(place, words::lock_made(&lock, self.now, 0), who))
    }

    /// `!unlock shop/prod`, `!unlock! shop/prod why`.
    pub(super) fn unlock(&mut self, place: &str, why: Option<&str>, who: &Asker, may: &May) -> Answer {
        let (app, env) = self.known_place(place)?;
        let pipeline = self.catalog.get(&app)?;
        self.may_deploy(&pipeline, &env, who, may)?;
        let Some(lock) = self.locks.get(place).cloned() else {
            return Err(Refusal::conflict(words::not_locked(place)));
        };
        let own = lock.handle == who.handle || lock.handle == "bot";
        match why.map(str::trim) {
            None if !own => return Err(Refusal::conflict(words::not_your_lock(&lock))),
            Some("") => return Err(Refusal::wrong(words::why_break(place))),
            Some(_) if !own && who.origin == "irc" && !may.vouched => {
                return Err(Refusal::denied(words::LOG_IN_TO_BREAK));
            }
            _ => {}
        }
        self.locks.remove(place);
        self.puts.push(Put::Unlock(place.to_owned()));
        let why = why.unwrap_or("").trim();
        self.incident(&who.handle, (&app, &env), None, &words::log_unlocked(&lock.handle, why), None);
        let next = self.after_lock(place);
        let other = Some(&lock.handle).filter(|_| !own).and_then(|handle| self.around.find(handle));
        let told = other.is_some();
        if let Some((network, nick)) = other {
            let other = Asker { place: format!("{network}/{nick}"), nick, ..Asker::default() };
            self.tell(&other, words::lock_broken(&lock, &who.handle, why));
        }
        let next = next.as_ref().map(|(number, who)| (*number, who.as_str()));
        let line = words::unlocked(&lock, &who.handle, why, told, next);
        Ok(self.loud(place, line, who))
    }

    /// `!freeze prod until why`.
    pub(super) fn freeze(&mut self, scope: &str, until: Option<Millis>, why: &str, who: &Asker, may: &May) -> Answer {
        self.may_scope(scope, who, may)?;
        if why.trim().is_empty() {
            return Err(Refusal::wrong(words::why_freeze(scope)));
        }
        let lasts = |until: Option<Millis>| until.unwrap_or(Millis::MAX);
        let was = self.freezes.get(scope).filter(|was| was.handle != who.handle).cloned();
        if let Some(was) = was.as_ref().filter(|was| lasts(was.until) > lasts(until)) {
            return Err(Refusal::conflict(words::frozen_longer(was, self.now)));
        }
        let row = FreezeRow {
            scope: scope.to_owned(),
            handle: who.handle.clone(),
            reason: words::cut(why, 400),
            since: self.now,
            until,
        };
        self.puts.push(Put::Freeze(row.clone()));
        self.freezes.insert(scope.to_owned(), row.clone());
        let (app, env) = scope.split_once('/').unwrap_or(("", scope));
        self.incident(&who.handle, (app, env), None, &words::log_frozen(why), None);
        Ok(self.loud(scope, words::frozen(&row, was.as_ref(), self.now), who))
    }

    /// `!thaw prod`.
    pub(super) fn thaw(&mut self, scope: &str, who: &Asker, may: &May) -> Answer {
        self.may_scope(scope, who, may)?;
        if self.freezes.remove(scope).is_none() {
            return Err(Refusal::conflict(words::not_frozen(scope)));
        }
        self.puts.push(Put::Thaw(scope.to_owned()));
        let (app, env) = scope.split_once('/').unwrap_or(("", scope));
        self.incident(&who.handle, (app, env), None, &words::log_thawed(), None);
        let reply = self.loud(scope, words::open_again(scope, &who.handle), who);
        self.next_everywhere();
        Ok(reply)
    }

    /// Whether somebody may freeze a scope: they must be able to deploy to all of it.
    pub(super) fn may_scope(&self, scope: &str, who: &Asker, may: &May) -> Result<(), Refusal> {
        let meets = |app: &str, env: &str| scope == "*" || scope == env || scope == format!("{app}/{env}");
        let mut any = false;
        for pipeline in self.catalog.all() {
            for (env, _) in pipeline.policy.environments.iter().filter(|(env, _)| meets(&pipeline.app, env)) {
                any = true;
                self.may_deploy(pipeline, env, who, may)?;
            }
        }
        if any { Ok(()) } else { Err(Refusal::unknown(words::no_scope(scope))) }
    }

    /// `!log shop words`.
    pub(super) fn log(&mut self, app: &str, env: &str, text: &str, who: &Asker, may: &May) -> Answer {
        let pipeline = self.catalog.get(app)?;
        if !may.vouched {
            return Err(Refusal::denied(words::LOG_IN_TO_LOG));
        }
        let mut flags = pipeline.policy.environments.iter().map(|(_, rules)| rules.flags.as_ref());
        if !flags.any(|flags| may.reaches(flags)) {
            return Err(Refusal::denied(words::token_may_not_write(app)));
        }
        if text.trim().is_empty() {
            return Err(Refusal::wrong(words::what_happened(app)));
        }
        let id = self.incident(&who.handle, (app, env), None, &words::cut(text, 1000), None);
        let link = self.settings.link.as_ref().map(|link| format!(" {link}/log/L-{id}")).unwrap_or_default();
        Ok(Reply::lines(vec![words::logged(id, link)]))
    }

    /// `!log amend L-902 words`: the old text is kept.
    pub(super) fn amend(&mut self, row: &IncidentRow, text: &str, who: &Asker, may: &May) -> Answer {
        if !may.vouched {
            return Err(Refusal::denied(words::LOG_IN_TO_LOG));
        }
        if text.trim().is_empty() {
            return Err(Refusal::wrong(words::what_to_amend(row.id)));
        }
        if row.handle != who.handle {
            let pipeline = self.catalog.get(&row.app)?;
            let envs = pipeline.policy.environments.iter().filter(|(env, _)| row.env.is_empty() || *env == row.env);
            if !envs.into_iter().any(|(_, rules)| may.has(rules.flags.as_ref())) {
                return Err(Refusal::denied(words::line_is_anothers(row.id, &row.handle)));
            }
        }
        let (app, env) = (row.app.as_str(), row.env.as_str());
        self.incident(&who.handle, (app, env), row.run, &words::cut(text, 1000), Some(row.id));
        Ok(Reply::lines(vec![words::amended(row.id)]))
    }

    /// `!at 08:00 deploy shop to prod`.
    pub(super) fn book(&mut self, at: Millis, prepared: &Prepared, who: &Asker, may: &May) -> Answer {
        let pipeline = self.catalog.get(&prepared.app)?;
        let env = prepared.environment.clone().unwrap_or_default();
        self.may_deploy(&pipeline, &env, who, may)?;
        // What is wrong with it is told now, not at night.
        let (mut params, _) = settle(&pipeline, prepared, may)?;
        if let Some(name) = sealed(&pipeline.params, &mut params).into_keys().next() {
            return Err(Refusal::conflict(words::not_kept_for_later(name)));
        }
        if at > self.now.saturating_add(BOOK_MOST) {
            return Err(Refusal::wrong(words::TOO_FAR_AHEAD));
        }
        if let Some((why, until)) = self.closed_at(&env, rules(&pipeline, &env)?, &pipeline, at) {
            let open = until.map(|until| words::it_opens(words::moment(until, self.now))).unwrap_or_default();
            return Err(Refusal::conflict(words::closed_then(env, why, open)));
        }
        known_requester(&pipeline, rules(&pipeline, &env)?.asks(None), who, may)?;
        asked_where(&pipeline, prepared, who)?;
        left_out(&pipeline, prepared, may)?;
        // What somebody was told to call off by is never another's.
        self.last_booking += 1;
        let id = self.last_booking;
        let detail = json!({
            "app": prepared.app, "env": env, "ref": prepared.reference, "sha": prepared.sha, "version": prepared.version,
            "params": prepared.params, "skip": prepared.skip, "only": prepared.only, "who": who,
            "commits": prepared.commits, "commit_count": prepared.commit_count, "first_commit": prepared.first_commit,
            "files": prepared.files, "onto": self.live_there(&prepared.app, &env),
        });
        let row = BookingRow { id, at, handle: who.handle.clone(), detail: detail.to_string() };
        self.puts.push(Put::Booking(row.clone()));
        self.bookings.insert(id, row);
        let at = words::moment(at, self.now);
        Ok(Reply::lines(vec![words::booked(&prepared.app, env, at, id)]))
    }

    /// `!unbook B-3`: for who booked it, and for those who may deploy there.
    pub(super) fn unbook(&mut self, id: i64, who: &Asker, may: &May) -> Answer {
        let row = self.bookings.get(&id).cloned();
        let row = row.ok_or_else(|| words::not_booked(id))?;
        let (app, env, what) = booked_what(&row);
        if row.handle != who.handle || !may.vouched {
            let pipeline = self.catalog.get(&app)?;
            self.may_deploy(&pipeline, &env, who, may)?;
        }
        self.bookings.remove(&id);
        self.puts.push(Put::Unbook(id));
        let at = words::moment(row.at, self.now);
        self.incident(&who.handle, (&app, &env), None, &words::log_called_off(&what, &at), None);
        let by = words::quiet(&row.handle);
        Ok(Reply { public: vec![words::unbooked(id, what, at, by)], ..Reply::default() })
    }

    /// What is booked, the next first.
    pub(super) fn all_booked(&self) -> Vec<String> {
        let mut rows: Vec<&BookingRow> = self.bookings.values().collect();
        rows.sort_by_key(|row| (row.at, row.id));
        let line = |row: &&BookingRow| {
            let (at, by) = (words::moment(row.at, self.now), words::quiet(&row.handle));
            words::booking(row.id, booked_what(row).2, at, by)
        };
        rows.iter().map(line).collect()
    }

    /// A run that was booked is asked for by the one who booked it, whose flags were good then.
    pub(super) fn booked(&mut self, id: i64) {
        let Some(row) = self.bookings.remove(&id) else { return };
        self.puts.push(Put::Unbook(id));
        let detail: serde_json::Value = serde_json::from_str(&row.detail).unwrap_or_default();
        let text = |key: &str| detail.get(key).and_then(serde_json::Value::as_str).map(str::to_owned);
        let list = |key: &str| -> Vec<String> {
            let names = detail.get(key).and_then(serde_json::Value::as_array).into_iter().flatten();
            names.filter_map(|name| name.as_str().map(str::to_owned)).collect()
        };
        let who: Asker = detail.get("who").and_then(|who| serde_json::from_value(who.clone()).ok()).unwrap_or_default();
        let (app, env, what) = booked_what(&row);
        if self.now - row.at > LATE {
            let (at, by) = (words::moment(row.at, self.now), words::quiet(&row.handle));
            return self.not_begun((&app, &env), &who, words::booked_too_late(id, what, at, by));
        }
        // What goes out is known as it was shown, unless something else went there meanwhile.
        let onto = detail.get("onto").cloned().unwrap_or_default();
        let same = !onto.is_null() && onto == json!(self.live_there(&app, &env));
        let known = |key: &str| detail.get(key).filter(|_| same).cloned().unwrap_or_default();
        let prepared = Prepared {
            commits: serde_json::from_value(known("commits")).unwrap_or_default(),
            commit_count: known("commit_count").as_u64().unwrap_or_default(),
            first_commit: known("first_commit").as_i64(),
            files: serde_json::from_value(known("files")).unwrap_or_default(),
            app: app.clone(),
            environment: Some(env.clone()),
            reference: text("ref"),
            sha: text("sha").unwrap_or_default(),
            version: text("version").unwrap_or_default(),
            params: detail.get("params").and_then(|params| params.as_object().cloned()).unwrap_or_default(),
            skip: list("skip"),
            only: list("only"),
            unattended: true,
            ..Prepared::default()
        };
        // Flags that were taken away meanwhile do not count any more.
        let may = self.around.may(&who);
        let answer = self.ask(Asked { ask: Ask::Deploy(Box::new(prepared)), who: who.clone(), may });
        if let Err(fault) = answer {
            let by = words::quiet(&row.handle);
            self.not_begun((&app, &env), &who, words::booked_in_vain(id, what, by, fault));
        }
    }

    /// What was booked does not begin: who booked it hears why, wherever they are, and so does everybody who hears of that place.
    fn not_begun(&mut self, (app, env): (&str, &str), who: &Asker, line: String) {
        self.incident("bot", (app, env), None, &line, None);
        self.tell(who, line.clone());
        self.say_place(&format!("{app}/{env}"), &line, None, std::slice::from_ref(&who.place));
    }

    /// The run that is live there; 0 where none is.
    fn live_there(&self, app: &str, env: &str) -> i64 {
        self.live.get(&(app.to_owned(), env.to_owned())).map_or(0, |row| row.run)
    }
}
