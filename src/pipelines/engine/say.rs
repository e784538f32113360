//! What is said about runs: few lines, each of which stands alone. A run of so many stages says two lines more than it has
//! stages, and never more: what finds no room is said with the next line that has to be.

use masterchief_contract::split_place;

use super::{Effect, Engine, Live, run_facts, same_place};
use crate::pipelines::announce::NOTICE;
use crate::pipelines::run::{Millis, RunKind};
use crate::pipelines::state::RunState;
use crate::pipelines::words;
use crate::store::runs::{OutboxRow, Put};

/// How often it is told that a trigger does not get what it asks for.
const REFUSED: Millis = 3_600_000;
/// The most bytes of a line: with its prefix it still fits into one line of IRC.
const LINE: usize = 400;
/// The class of lines about locks, freezes and windows.
const LOCK: &str = "lock";

/// One more place, unless it is there by another name.
fn add_place(targets: &mut Vec<String>, place: &str) {
    if !targets.iter().any(|target| same_place(target, place)) {
        targets.push(place.to_owned());
    }
}

impl Live {
    /// How many lines may still be said of it.
    pub(super) fn room(&self) -> usize {
        let said = self.run.lines.saturating_sub(self.run.spared) as usize;
        (self.stages.len() + 2).saturating_sub(said)
    }

    /// Whether only its beginning and its end are told, and what fails: nobody had to confirm it.
    fn briefly(&self) -> bool {
        let confirmed = || self.pipeline.rules(&self.run.env).is_none_or(|rules| rules.confirm);
        !self.pipeline.announce.progress.unwrap_or_else(confirmed)
    }

    /// Whether nobody waits for it: of what the clock starts only trouble and its end is told.
    fn by_the_clock(&self) -> bool {
        self.run.asker.origin == "time"
    }
}

impl Engine {
    /// What happened to a run: said if there is room beside its last line, else with the next line.
    pub(super) fn say(&mut self, number: i64, class: &str, text: &str) {
        let Some(live) = self.runs.get_mut(&number).filter(|live| !live.by_the_clock()) else { return };
        if live.room() > 1 {
            return self.must_say(number, class, text);
        }
        live.run.unsaid.push(text.to_owned());
        self.dirty_runs.insert(number);
    }

    /// What happened and is sure to be followed by another line: said with that.
    pub(super) fn say_with_next(&mut self, number: i64, text: String) {
        if let Some(live) = self.runs.get_mut(&number) {
            live.run.unsaid.push(text);
            self.dirty_runs.insert(number);
        }
    }

    /// What waits for another line is said, if none came.
    pub(super) fn say_unsaid(&mut self, number: i64) {
        let Some(live) = self.runs.get_mut(&number).filter(|live| live.room() > 1) else { return };
        if let Some(last) = live.run.unsaid.pop() {
            self.must_say(number, "start", &last);
        }
    }

    /// How a run goes: said if there is room, else not at all.
    pub(super) fn say_passing(&mut self, number: i64, class: &str, text: &str) {
        let Some(live) = self.runs.get(&number) else { return };
        if live.room() > 1 && (class == "failed" || !live.by_the_clock() && !live.briefly()) {
            self.must_say(number, class, text);
        }
    }

    /// The last lines of a run, with what waited to be said in front; together they fit what a run may say.
    pub(super) fn say_end(&mut self, number: i64, rest: Option<String>, class: &str, lines: Vec<String>) {
        let Some(live) = self.runs.get_mut(&number) else { return };
        if live.by_the_clock() && live.run.state == RunState::Succeeded && !self.recovers(number) {
            return;
        }
        let Some(live) = self.runs.get_mut(&number) else { return };
        let (room, several) = (live.room(), live.stages.len() > 1);
        // What went well on the way is left out before what decides.
        if let Some(rest) = rest.filter(|_| room > lines.len() && several) {
            self.say_passing(number, "progress", &rest);
        }
        for line in words::fewer(number, lines, room) {
            self.must_say(number, class, &line);
        }
    }

    /// Whether the run before it in the same place failed.
    fn recovers(&self, number: i64) -> bool {
        let Some(live) = self.runs.get(&number) else { return false };
        let place = live.run.place();
        let before = self.runs.range(..number).rev().map(|(_, live)| &live.run);
        let before = before.filter(|run| run.place() == place).find(|run| run.state.ended());
        before.is_some_and(|run| run.state != RunState::Succeeded)
    }

    /// A line about a run, to all places where it is talked about, with what found no room before.
    pub(super) fn must_say(&mut self, number: i64, class: &str, text: &str) {
        let asker = self.to_whom(number);
        let Some(live) = self.runs.get_mut(&number) else { return };
        live.run.lines += 1;
        let text = words::folded(number, &std::mem::take(&mut live.run.unsaid), text);
        let line = live.run.lines;
        self.dirty_runs.insert(number);
        for target in self.hearers(number, class) {
            let dedupe = format!("{number}:{line}:{target}");
            let own = match class {
                "failed" => words::uncalled(&text, asker.as_deref(), &self.around.nicks(&target)),
                _ => text.clone(),
            };
            self.outbox(number, dedupe, target, &own, class == "progress");
        }
    }

    /// The places that hear lines of this class about a run.
    pub(super) fn hearers(&self, number: i64, class: &str) -> Vec<String> {
        let Some(live) = self.runs.get(&number) else { return Vec::new() };
        let facts = run_facts(&live.run);
        let announce = &live.pipeline.announce.places;
        let hears = |place: &&String| {
            let rule = announce.iter().find(|rule| same_place(&rule.target, place));
            let asked_here = same_place(&live.run.asker.place, place);
            rule.is_none_or(|rule| {
                let news = rule.only.is_empty() || rule.only.iter().any(|only| only == class) || asked_here;
                news && rule.when.as_ref().is_none_or(|when| when.holds(&facts).unwrap_or(false))
            })
        };
        live.run.places.iter().filter(hears).cloned().collect()
    }

    /// By which nick somebody is called about a run: who asked for it, and for what the bot undoes by itself who asked for that. Nobody
    /// is called where a program asked.
    pub(super) fn to_whom(&self, number: i64) -> Option<String> {
        let run = &self.runs.get(&number)?.run;
        let by_itself = run.kind == RunKind::Rollback && run.asker.handle == "bot";
        let asker = match run.parent.filter(|_| by_itself) {
            Some(parent) => &self.runs.get(&parent)?.run.asker,
            None => &run.asker,
        };
        if asker.place.is_empty() {
            return self.around.find(&asker.handle).map(|(_, nick)| nick);
        }
        Some(asker.nick.clone())
    }

    /// Where one hears of locks, freezes and windows: where its apps are announced, and where everything is. A scope is `app/environment`,
    /// an environment, or `*`.
    pub(super) fn ears(&self, scope: &str) -> Vec<String> {
        let mut targets: Vec<String> = Vec::new();
        for pipeline in self.catalog.all() {
            for (env, _) in &pipeline.policy.environments {
                if scope != "*" && scope != env && scope != format!("{}/{env}", pipeline.app) {
                    continue;
                }
                let facts = [("app", &pipeline.app), ("environment", env)];
                let facts = facts.into_iter().map(|(name, value)| (name.to_owned(), value.clone().into())).collect();
                for place in &pipeline.announce.places {
                    let news = place.only.is_empty() || place.only.iter().any(|only| only == LOCK);
                    if news && place.when.as_ref().is_none_or(|when| when.holds(&facts).unwrap_or(false)) {
                        add_place(&mut targets, &place.target);
                    }
                }
            }
        }
        self.settings.channels.iter().for_each(|target| add_place(&mut targets, target));
        targets
    }

    /// What became of a place is told wherever that is wanted, and in `more`, but where they know already.
    pub(super) fn say_place(&mut self, scope: &str, text: &str, more: Option<&str>, but: &[String]) {
        let mut targets = self.ears(scope);
        more.filter(|more| !more.is_empty()).into_iter().for_each(|more| add_place(&mut targets, more));
        targets.retain(|target| !but.iter().any(|place| same_place(place, target)));
        // Several lines of one moment are several lines.
        let key = format!("place {scope}:{}:{}", self.now, self.last_incident.id);
        for target in targets {
            self.outbox(0, format!("{key}:{target}"), target, text, false);
        }
    }

    /// What a trigger asked for and did not get, where its runs are talked about; the same once an hour at most.
    pub(super) fn tell_refused(&mut self, (app, env): (&str, &str), origin: &str, fault: &str) {
        let Ok(pipeline) = self.catalog.get(app) else { return };
        if pipeline.triggers.iter().all(|trigger| trigger.kind != origin) {
            return;
        }
        let key = format!("refused:{app}/{env}:{origin}");
        let now = self.now;
        self.refused.retain(|_, at| *at + REFUSED > now);
        if self.refused.contains_key(&key) {
            return;
        }
        self.refused.insert(key.clone(), now);
        let facts = [("app", app), ("environment", env)];
        let facts = facts.into_iter().map(|(name, value)| (name.to_owned(), value.into())).collect();
        let text = words::not_started(app, env, origin, fault);
        for place in &pipeline.announce.places {
            let news = place.only.is_empty() || place.only.iter().any(|only| only == "failed");
            if news && place.when.as_ref().is_none_or(|when| when.holds(&facts).unwrap_or(false)) {
                self.outbox(0, format!("{key}:{now}:{}", place.target), place.target.clone(), &text, false);
            }
        }
    }

    /// How a run goes, to the places of a network that is back.
    pub(super) fn say_back(&mut self, number: i64, network: &str, text: &str) {
        // What ended is told once more at most, and has no line left.
        let room = |live: &&Live| live.run.state.ended() || live.room() > 1;
        let Some(live) = self.runs.get(&number).filter(room) else { return };
        // A place without a network is on the only one there is.
        let there = |place: &&String| {
            let (name, _) = split_place(place.trim_start_matches(NOTICE));
            name == network || name.is_empty()
        };
        let places = live.run.places.iter().filter(there);
        let there: Vec<String> = places.cloned().collect();
        if there.is_empty() {
            return;
        }
        if let Some(live) = self.runs.get_mut(&number).filter(|live| !live.run.state.ended()) {
            live.run.lines += 1;
            self.dirty_runs.insert(number);
        }
        for target in there {
            self.outbox(number, format!("{number}:back {}:{target}", self.now), target, text, true);
        }
    }

    pub(super) fn outbox(&mut self, run: i64, dedupe: String, target: String, text: &str, passing: bool) {
        let text = words::fitted(text, LINE);
        let row = OutboxRow {
            dedupe: dedupe.clone(),
            run,
            event: self.runs.get(&run).map(|live| live.run.seq),
            target: target.clone(),
            text: text.clone(),
            at: self.now,
            sent: None,
        };
        self.puts.push(Put::Outbox(row));
        self.effects.push(Effect::Say { run, dedupe, target, text, passing });
    }
}
