//! The engine: what becomes of runs. It is asked, it decides, it writes down, and only then anything happens.
//!
//! Everything here is pure but for the clock it is told: what is to be written gathers in `puts` and rows that changed, what is to
//! happen in `effects`. Whoever drives it writes the one durably before doing the other (`drive.rs`).

mod approvals;
mod ask;
mod begin;
mod checks;
mod digest;
mod due;
mod facts;
mod finish;
mod live;
mod load;
mod people;
mod places;
mod preview;
mod progress;
mod risk;
mod rows;
mod runners;
mod say;
mod skip;
mod split;
mod stages;
mod standstill;
mod told;
mod turn;
mod unreadable;
mod waits;

use std::collections::{BTreeMap, BTreeSet, HashMap, VecDeque};
use std::path::PathBuf;
use std::sync::Arc;

use serde_json::{Value, json};

use super::announce::{NOTICE, Progress};
use super::around::Around;
use super::calendars::{Calendars, named};
use super::catalog::Catalog;
use super::model::{Pipeline, Rules};
use super::pools::Pools;
use super::run::{Millis, Run, StageRun};
use super::runners::{Roster, Settings as RunnerSettings};
use super::settings::Settings;
use super::state::{RunState, StageState};
use crate::executors::{Class, Failure};
use crate::predict::{History, PreRun};
use crate::store::runs::{BookingRow, DeploymentRow, EventRow, FreezeRow, IncidentRow, LockRow, Put};

use rows::{attempt_row, cause_of_run, cause_of_stage, code, run_facts, run_row, stage_row};

pub use ask::{Allows, Answer, Ask, Asked, May, Prepared, Reply};
pub use preview::Preview;
pub use risk::Foretold;
pub(super) use risk::PAST;
pub(super) use rows::incident_hash;
pub(super) use runners::is_lost;
pub(super) use skip::{asked_there, named_channels, permitted};
pub use told::News;
pub(super) use told::{Effect, Ended, Msg, Order};

/// A run in memory.
pub(super) struct Live {
    pub(super) run: Run,
    pub(super) pipeline: Arc<Pipeline>,
    pub(super) stages: Vec<StageRun>,
    /// The instances of each stage of the pipeline.
    pub(super) of: Vec<Vec<usize>>,
    /// For each stage of the pipeline: how many of those it needs have not ended.
    unmet: Vec<usize>,
    /// For each: how many instances have not ended.
    left: Vec<usize>,
    /// What needs what here: in a rollback the other way round.
    feeds: Vec<Vec<usize>>,
    /// Stages whose turn it is to be looked at.
    fresh: VecDeque<usize>,
    /// Instances at which something is due.
    timed: BTreeSet<usize>,
    /// Stages whose turn has come: pending instances may begin.
    opened: Vec<bool>,
    /// Instances that have not ended, without those of `finally`.
    open: usize,
    /// Instances of `finally` that have not ended.
    last: usize,
    finally_begun: bool,
    progress: Progress,
    /// The newest notes of attempts that run.
    notes: HashMap<usize, Value>,
    /// When the attempt that runs began.
    begun: HashMap<usize, Millis>,
    /// Whether others are being asked whether it may begin.
    looking: bool,
    /// Why its pipeline cannot be read any more, if it cannot: another one stands in for it.
    unreadable: Option<String>,
}

/// All runs that are open, and all that decides about them.
pub(super) struct Engine {
    pub(super) settings: Settings,
    pub(super) catalog: Arc<Catalog>,
    pub(super) runs: BTreeMap<i64, Live>,
    pub(super) locks: BTreeMap<String, LockRow>,
    pub(super) freezes: BTreeMap<String, FreezeRow>,
    pub(super) bookings: BTreeMap<i64, BookingRow>,
    last_booking: i64,
    /// What is live, by app and environment.
    pub(super) live: HashMap<(String, String), DeploymentRow>,
    /// Medians of how long stages take, in milliseconds, by app and name.
    pub(super) times: HashMap<String, HashMap<String, f64>>,
    /// What the runs of each app tell of the next.
    histories: HashMap<String, History>,
    /// What was known of runs that have not ended, and what was foretold of them.
    foretold: HashMap<i64, (PreRun, f64)>,
    pools: Pools<(i64, usize)>,
    /// Who does stages that say what their runner must have.
    runners: Roster,
    /// What is configured of this bot as a runner.
    pub(super) own: RunnerSettings,
    /// Runs in the records that this version cannot read.
    pub(super) unreadable: BTreeSet<i64>,
    pub(super) last_run: i64,
    /// When it began, and after which run.
    pub(super) begun: (Millis, i64),
    /// Whether the bot fell before that: then what it said last may not have been heard.
    pub(super) fell: bool,
    last_incident: IncidentRow,
    /// When it was told last that a trigger does not get what it asks for.
    refused: HashMap<String, Millis>,
    /// The calendars that rules name, as they were read last, and when it is looked whether they changed.
    pub(super) calendars: Calendars,
    calendars_at: Millis,
    /// When it is told next what ran unsaid; nothing where that was not looked at yet.
    digest_at: Option<Millis>,
    pub(super) now: Millis,
    pub(super) puts: Vec<Put>,
    dirty_runs: BTreeSet<i64>,
    dirty_stages: BTreeSet<(i64, usize)>,
    pub(super) effects: Vec<Effect>,
    chance: fn() -> f64,
    around: Arc<dyn Around>,
}

impl Engine {
    pub(super) fn new(
        settings: Settings,
        catalog: Arc<Catalog>,
        chance: fn() -> f64,
        around: Arc<dyn Around>,
    ) -> Engine {
        Engine {
            pools: Pools::new(settings.sizes()),
            runners: Roster::default(),
            own: RunnerSettings::default(),
            settings,
            runs: BTreeMap::new(),
            locks: BTreeMap::new(),
            freezes: BTreeMap::new(),
            bookings: BTreeMap::new(),
            last_booking: 0,
            live: HashMap::new(),
            times: HashMap::new(),
            histories: HashMap::new(),
            foretold: HashMap::new(),
            unreadable: BTreeSet::new(),
            last_run: 0,
            begun: (0, 0),
            fell: false,
            last_incident: IncidentRow::default(),
            refused: HashMap::new(),
            calendars: catalog.calendars.clone(),
            calendars_at: 0,
            digest_at: None,
            now: 0,
            puts: Vec::new(),
            dirty_runs: BTreeSet::new(),
            dirty_stages: BTreeSet::new(),
            effects: Vec::new(),
            chance,
            around,
            catalog,
        }
    }

    /// The calendars that are asked about: of what can be asked for, and of what waits.
    pub(super) fn calendar_files(&self) -> BTreeSet<PathBuf> {
        named(self.catalog.all().chain(self.runs.values().map(|live| &live.pipeline)))
    }

    /// Has it looked, beside the runs, whether calendars changed.
    fn look_at_calendars(&mut self) {
        if self.calendars_at > self.now {
            return;
        }
        self.calendars_at = self.now + CALENDARS;
        let files = self.calendar_files();
        if !files.is_empty() {
            self.effects.push(Effect::Calendars(self.calendars.clone(), files));
        }
    }

    /// When that is next, where there are any.
    fn calendars_due(&self) -> Option<Millis> {
        Some(self.calendars_at).filter(|_| self.calendars.any())
    }

    /// Takes in what is told.
    pub(super) fn take(&mut self, msg: Msg) {
        match msg {
            Msg::Ask(asked, to) => {
                let answer = self.ask(*asked);
                self.effects.push(Effect::Answer(to, answer));
            }
            Msg::Ended(ended) => self.step_ended(*ended),
            Msg::Note(run, stage, attempt, note, to) => {
                if let Some(live) = self.runs.get_mut(&run) {
                    let name = live.stages.get(stage).map(|stage| stage.name.clone()).unwrap_or_default();
                    self.puts.push(Put::Note(run, name, i64::from(attempt), note.to_string()));
                    live.notes.insert(stage, note);
                }
                self.effects.push(Effect::Noted(to));
            }
            Msg::Began(run, stage, attempt) => self.began(run, stage, attempt),
            Msg::Validating(run, stage, attempt, note) => self.validating(run, stage, attempt, note),
            Msg::Doing(run, stage, text) => self.doing(run, stage, &text),
            Msg::Told(run, stage, text) => {
                let at = self.runs.get(&run).and_then(|live| live.stages.iter().position(|one| one.name == stage));
                if let Some(at) = at {
                    self.doing(run, at, &text);
                }
            }
            Msg::Back(network, away) => self.back(&network, away),
            Msg::Gone(network, nick) => self.gone(&network, &nick),
            Msg::Lost(network, nick) => self.lost(&network, &nick),
            Msg::Redacted(network, msgid) => self.redacted(&network, &msgid),
            Msg::Found(who) => self.found(&who),
            Msg::Left(run, to) => {
                // Whoever asked may have gone.
                let _ = to.send(self.left(run));
            }
            Msg::Predict(app, env, who, to) => {
                // Whoever asked may have gone.
                let _ = to.send(self.would_foretell(&app, &env, &who));
            }
            Msg::Preview(prepared, who, to) => {
                // As above.
                let _ = to.send(self.preview(&prepared, who.0, &who.1));
            }
            Msg::Slots(to) => {
                // Whoever asked may have gone.
                let _ = to.send(self.slots());
            }
            // As above.
            Msg::Booked(to) => drop(to.send(self.all_booked())),
            Msg::Pools(to) => {
                // As above.
                let _ = to.send(self.pools.rows());
            }
            Msg::Offered(own, offers) => {
                self.own = *own;
                self.offered(offers);
            }
            Msg::Runners(to) => {
                // As above.
                let _ = to.send((self.runner_rows(), self.runners.held_here()));
            }
            Msg::Checked(run, checks) => self.checked(run, &checks),
            Msg::Calendars(calendars) => {
                self.calendars = *calendars;
                self.next_everywhere();
            }
            Msg::Configure(catalog, settings) => self.configure(catalog, *settings),
        }
    }

    /// Other pipelines and settings, from now on.
    fn configure(&mut self, catalog: Arc<Catalog>, settings: Settings) {
        self.calendars = catalog.calendars.clone();
        self.calendars_at = 0;
        self.pools.resize(settings.sizes());
        self.catalog = catalog;
        self.settings = settings;
        self.digest_at = None;
        self.grant();
    }

    /// What is to be written, and what is to happen after that.
    pub(super) fn drain(&mut self) -> (Vec<Put>, Vec<Effect>) {
        self.forget_given();
        let mut puts = Vec::new();
        let late = std::mem::take(&mut self.puts);
        let (first, late): (Vec<Put>, Vec<Put>) =
            late.into_iter().partition(|put| matches!(put, Put::Place { .. } | Put::Pipeline(_)));
        puts.extend(first);
        for number in std::mem::take(&mut self.dirty_runs) {
            puts.extend(self.runs.get(&number).map(|live| Put::Run(run_row(&live.run))));
        }
        for (number, stage) in std::mem::take(&mut self.dirty_stages) {
            let found = self.runs.get(&number).and_then(|live| live.stages.get(stage));
            puts.extend(found.map(|stage| Put::Stage(stage_row(number, stage))));
        }
        puts.extend(late);
        let effects = std::mem::take(&mut self.effects);
        self.forget();
        (puts, effects)
    }

    /// Lets go of runs that ended and of which nothing is due any more.
    fn forget(&mut self) {
        let live_now: BTreeSet<i64> = self.live.values().map(|row| row.run).collect();
        let over = |live: &Live| {
            let ended = live.run.state.ended() && live.run.undo_at.is_none() && !live_now.contains(&live.run.number);
            ended && live.run.finished.is_some_and(|at| at + KEEP < self.now)
        };
        let gone: Vec<i64> = self.runs.iter().filter(|(_, live)| over(live)).map(|(number, _)| *number).collect();
        for number in gone {
            let was = self.runs.remove(&number).map(|live| live.run.state);
            self.foretold.remove(&number);
            // Nobody can try it again any more.
            if was != Some(RunState::Succeeded) {
                self.effects.push(Effect::Tidy(number, true));
            }
        }
    }

    fn pipeline_rules(&self, number: i64) -> Option<&Rules> {
        let live = self.runs.get(&number)?;
        live.pipeline.rules(&live.run.env)
    }

    /// Brings a run into another state: the state, the event and the news are written together. Whether it may go there.
    fn to(&mut self, number: i64, next: RunState, actor: &str) -> bool {
        let Some(live) = self.runs.get_mut(&number) else { return false };
        let from = live.run.state;
        if !from.may(next) {
            let way = (from.name(), next.name());
            tracing::error!(run = number, ?way, "A run cannot go that way; it stays as it is");
            return false;
        }
        live.run.state = next;
        live.run.away = None;
        // The time that a run may take goes on while it waits for somebody.
        live.run.due = live.run.deadline.filter(|_| next == RunState::Running);
        if next.ended() && live.run.finished.is_none() {
            live.run.finished = Some(self.now);
        }
        let cause = cause_of_run(&live.run, &live.stages);
        if next.ended() && !live.run.keeps && live.pipeline.params.iter().any(|param| param.secret) {
            self.effects.push(Effect::Forget(number));
        }
        self.dirty_runs.insert(number);
        self.event(number, "run", actor, None, json!({"from": from.name(), "to": next.name(), "cause": cause}));
        true
    }

    /// Brings a stage into another state.
    fn stage_to(&mut self, number: i64, stage: usize, next: StageState, actor: &str) {
        let Some(live) = self.runs.get_mut(&number) else { return };
        let Some(one) = live.stages.get_mut(stage) else { return };
        let from = one.state;
        if !from.may(next) {
            tracing::error!(run = number, stage = %one.name, from = from.name(), to = next.name(), "A stage cannot go that way; it stays as it is");
            return;
        }
        one.state = next;
        one.due = None;
        if next == StageState::Ready && one.started.is_none() {
            one.ready = Some(self.now);
        }
        live.timed.remove(&stage);
        if next.ended() {
            one.ended = Some(self.now);
        }
        let name = one.name.clone();
        self.dirty_stages.insert((number, stage));
        // What never began is told by its row alone.
        if !(from == StageState::Pending && next == StageState::Ready) {
            let one = &live.stages[stage];
            let cause = cause_of_stage(one, live.run.ending);
            let (from, to) = (from.name(), next.name());
            let data = Changed { stage: &name, from, to, attempt: one.attempt, cause };
            self.event(number, "stage", actor, Some(stage), data);
        }
        if next.ended() {
            self.stage_over(number, stage);
        }
    }

    fn event(
        &mut self,
        number: i64,
        kind: &'static str,
        actor: &str,
        stage: Option<usize>,
        data: impl serde::Serialize,
    ) {
        let Some(live) = self.runs.get_mut(&number) else { return };
        live.run.seq += 1;
        let row = EventRow {
            run: number,
            seq: live.run.seq,
            at: self.now,
            kind: kind.to_owned(),
            actor: actor.to_owned(),
            data: serde_json::to_string(&data).unwrap_or_default(),
        };
        self.puts.push(Put::Event(row));
        let news = live.news(kind, stage);
        self.effects.push(Effect::News(news));
    }

    /// A line in the incident log, chained to the one before.
    fn incident(
        &mut self,
        handle: &str,
        place: (&str, &str),
        run: Option<i64>,
        text: &str,
        amends: Option<i64>,
    ) -> i64 {
        let mut row = IncidentRow {
            id: self.last_incident.id + 1,
            at: self.now,
            handle: handle.to_owned(),
            app: place.0.to_owned(),
            env: place.1.to_owned(),
            run,
            amends,
            text: text.to_owned(),
            prev: self.last_incident.hash.clone(),
            hash: String::new(),
        };
        row.hash = incident_hash(&row);
        self.puts.push(Put::Incident(row.clone()));
        self.last_incident = row;
        self.last_incident.id
    }
}

/// What the event of a stage that changed tells. There are several of each stage, so no tree is made of it first.
#[derive(serde::Serialize)]
struct Changed<'c> {
    stage: &'c str,
    from: &'c str,
    to: &'c str,
    attempt: u32,
    cause: Option<String>,
}

/// How often it is looked whether calendars changed.
const CALENDARS: Millis = 10_000;
/// Runs that ended are kept in memory so long: they may be undone or tried again, and a key counts so long at most.
pub(super) const KEEP: Millis = 86_400_000;

/// Whether two names mean the same place; one may leave out the network.
pub(in crate::pipelines) fn same_place(a: &str, b: &str) -> bool {
    let plain = |place| masterchief_contract::split_place(str::trim_start_matches(place, NOTICE));
    let (a, b) = (plain(a), plain(b));
    a.1.eq_ignore_ascii_case(b.1) && (a.0 == b.0 || a.0.is_empty() || b.0.is_empty())
}

fn failure(class: Class, line: impl Into<String>) -> Failure {
    Failure::new(class, line)
}
