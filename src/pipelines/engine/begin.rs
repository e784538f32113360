//! A run is asked for: who may, what is understood, what has to be said before it begins.

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;

use serde_json::{Map, Value, json};

use super::ask::{Answer, May, Prepared, Reply};
use super::preview::plan_code;
use super::progress::with_share;
use super::skip::{asked_where, asks, guarded, known_requester, left_out};
use super::{Effect, Engine, Live, code, run_facts};
use crate::pipelines::announce::{COALESCE, NOTICE, Progress};
use crate::pipelines::graph::Graph;
use crate::pipelines::matrix::instances;
use crate::pipelines::may::{rules, settle};
use crate::pipelines::model::{Approvals, Check, OnBusy, Pipeline, Rules, Stage};
use crate::pipelines::outside::Checked;
use crate::pipelines::refusal::Refusal;
use crate::pipelines::request::sealed;
use crate::pipelines::run::{Asker, Before, Millis, Run, RunKind, StageRun};
use crate::pipelines::state::{RunState, StageState};
use crate::pipelines::{template, words};
use crate::store::runs::{DeploymentRow, PipelineRow, Put};

/// What is said of a stage that somebody left out.
const LEFT_OUT: &str = "left out";
/// How long a run that met a lock can be queued behind it.
const DRAFT: Millis = 10 * 60_000;

impl Engine {
    /// A new run.
    pub(super) fn deploy(&mut self, prepared: Prepared, who: Asker, may: &May) -> Answer {
        let (pipeline, rules, mut run) = self.considered(&prepared, who, may)?;
        if let Some(same) = self.same(&pipeline, &mut run, &prepared) {
            return Ok(Reply::about(same, vec![words::asked_already(same)]));
        }
        if prepared.shown.as_ref().is_some_and(|shown| *shown != plan_code(&run)) {
            return Err(Refusal::conflict(words::not_as_shown(run.place())));
        }
        self.busy(&pipeline, &run)?;
        self.admit(run, pipeline, &prepared, &rules)
    }

    /// What a run would be, if it may be: all that its rules ask for holds now.
    pub(super) fn considered(
        &mut self,
        prepared: &Prepared,
        who: Asker,
        may: &May,
    ) -> Result<(Arc<Pipeline>, Rules, Run), Refusal> {
        let pipeline = self.catalog.get(&prepared.app)?;
        let (mut params, env) = settle(&pipeline, prepared, may)?;
        let given = sealed(&pipeline.params, &mut params);
        let rules = rules(&pipeline, &env)?.clone();
        self.may_deploy(&pipeline, &env, &who, may)?;
        if prepared.reason.is_some() && who.origin == "irc" && !may.vouched {
            return Err(Refusal::denied(words::LOG_IN_TO_OVERRIDE));
        }
        asked_where(&pipeline, prepared, &who)?;
        let skipped = left_out(&pipeline, prepared, may)?;
        let guarded = guarded(&pipeline, &params);
        let mut run = Run { skipped, guarded, given, ..self.new_run(&pipeline, &env, prepared, params, who) };
        let facts = run_facts(&run);
        known_requester(&pipeline, asks(&run, &rules, &facts).as_ref(), &run.asker, may)?;
        for check in &rules.checks {
            let Check::Holds(check) = check else { continue };
            match check.holds(&facts) {
                Ok(true) => {}
                // What cannot be told does not hold, and may be overridden like that.
                _ if run.reason.is_some() => {}
                Ok(false) => return Err(Refusal::conflict(words::check_fails(run.place(), check.text()))),
                Err(fault) => {
                    return Err(Refusal::conflict(words::check_untold(run.place(), fault)));
                }
            }
        }
        let faults = |check: &Checked| Some((check.name.clone(), check.fault.clone()?));
        let faults: Vec<(String, String)> = prepared.checks.iter().filter_map(faults).collect();
        if run.reason.is_none() && !faults.is_empty() {
            return Err(Refusal::conflict(words::unchecked(&run.place(), &faults, &asked_words(&run))));
        }
        run.checked = prepared.checked.filter(|_| faults.is_empty());
        if run.reason.is_none()
            && let Some((why, until)) = self.closed(&run, &rules, &pipeline)
        {
            return Err(Refusal::conflict(words::closed(&env, &why, until, &asked_words(&run), &rules, self.now)));
        }
        Ok((pipeline, rules, run))
    }

    /// A run that may be: it gets its number, and begins or says what it waits for.
    fn admit(&mut self, mut run: Run, pipeline: Arc<Pipeline>, prepared: &Prepared, rules: &Rules) -> Answer {
        self.last_run += 1;
        run.number = self.last_run;
        let number = run.number;
        let stages = instances(&pipeline);
        run.code = code(&json!([number, run.sha, run.params, run.pipeline, run.env, run.skipped]));
        let eta = self.eta(&run, &pipeline);
        let plan = words::plan(&run, &planned(&run, &pipeline), eta, rules, &prepared.checks);
        let lock = self.locks.get(&run.place()).cloned().filter(|_| run.reason.is_none());
        let has_commits = !run.commits.is_empty() || run.commits_unknown();
        let confirm = rules.confirm && !prepared.unattended;
        // Who asks with a token of theirs, where no yes is wanted, need not say that it waits.
        let by_itself = prepared.unattended || run.asker.person && !rules.confirm;
        let given = std::mem::take(&mut run.given);
        run.keeps = !given.is_empty();
        self.open(run, pipeline, stages);
        if !given.is_empty() {
            self.effects.push(Effect::Keep(number, given));
        }
        if let Some(lock) = lock {
            self.due_in(number, DRAFT);
            let line = words::locked(&lock, self.now, Some(number));
            // What nobody waits for waits by itself.
            if by_itself {
                self.go_on(number);
            }
            return Ok(Reply::about(number, vec![line]));
        }
        if confirm {
            self.to(number, RunState::AwaitingConfirm, "bot");
            let within = self.settings.confirm.as_millis() as Millis;
            self.due_in(number, within);
            let ask = words::confirm(number, within, has_commits);
            return Ok(Reply { run: Some(number), lines: vec![ask], public: vec![plan] });
        }
        self.go_on(number);
        Ok(Reply::about(number, Vec::new()))
    }

    /// What comes after the yes: people agree if they have to, then it waits for its turn.
    pub(super) fn go_on(&mut self, number: i64) {
        let Some(live) = self.runs.get(&number) else { return };
        let facts = run_facts(&live.run);
        let approvals = live.pipeline.rules(&live.run.env).and_then(|rules| asks(&live.run, rules, &facts));
        match approvals {
            Some(approvals) => self.await_approval(number, &approvals),
            None => self.enqueue(number),
        }
    }

    fn new_run(
        &mut self,
        pipeline: &Pipeline,
        env: &str,
        prepared: &Prepared,
        params: Map<String, Value>,
        who: Asker,
    ) -> Run {
        let live = self.live.get(&(pipeline.app.clone(), env.to_owned()));
        let reference =
            prepared.reference.clone().or_else(|| Some(params.get("ref")?.as_str()?.to_owned())).unwrap_or_default();
        let version = if prepared.version.is_empty() { reference.clone() } else { prepared.version.clone() };
        let mut run = Run {
            // The one it will have, if it is admitted.
            number: self.last_run + 1,
            pipeline: pipeline.hash.clone(),
            app: pipeline.app.clone(),
            env: env.to_owned(),
            kind: RunKind::Deploy,
            version,
            reference,
            sha: prepared.sha.clone(),
            before: live.map(before),
            commits: prepared.commits.clone(),
            commit_count: prepared.commit_count,
            first_commit: prepared.first_commit,
            files: prepared.files.clone(),
            params,
            event: prepared.event.clone(),
            reason: prepared.reason.clone(),
            asker: who,
            created: self.now,
            unattended: prepared.unattended,
            ..Run::default()
        };
        run.places = places(pipeline, &run);
        run.group =
            template::fill(&pipeline.policy.concurrency.group, &run_facts(&run)).unwrap_or_else(|_| run.place());
        self.foretell(&mut run);
        run
    }

    /// A run that was asked for with the same key, if there is one.
    fn same(&mut self, pipeline: &Pipeline, run: &mut Run, prepared: &Prepared) -> Option<i64> {
        let own = pipeline.policy.idempotency.as_ref();
        let filled = own
            .and_then(|(key, window)| Some((template::fill(key, &run_facts(run)).ok()?, window.as_millis() as Millis)));
        // A retry by hand is meant; only programs repeat themselves.
        let by_program = prepared.unattended && !prepared.again;
        let keys: Vec<(String, Millis)> = prepared
            .key
            .clone()
            .map(|key| (key, 86_400_000))
            .into_iter()
            .chain(filled.filter(|_| by_program))
            .collect();
        for (key, window) in keys {
            let key = format!("{}:{key}", pipeline.app);
            let now = self.now;
            let known = self.runs.values_mut().find(|live| {
                live.run.keys.contains(&key) && live.run.created + window > now && live.run.state != RunState::Failed
            });
            if let Some(live) = known {
                // Whoever asked with other keys asked for this run.
                live.run.keys.append(&mut run.keys);
                self.dirty_runs.insert(live.run.number);
                return Some(live.run.number);
            }
            run.keys.push(key);
        }
        None
    }

    /// Whether its group takes one more.
    pub(super) fn busy(&self, pipeline: &Pipeline, run: &Run) -> Result<(), Refusal> {
        let rules = &pipeline.policy.concurrency;
        let same =
            |live: &&Live| live.run.group == run.group && !live.run.state.ended() && live.run.state != RunState::Draft;
        let holder = self.runs.values().filter(same).find(|live| live.run.state.active());
        // Who has not said yes holds nobody up.
        let waits = |run: &Run| !run.state.active() && (run.state != RunState::AwaitingConfirm || run.queued.is_some());
        let waiting = self.runs.values().filter(same).filter(|live| waits(&live.run)).count();
        if let (OnBusy::Reject, Some(holder)) = (rules.on_busy, holder) {
            return Err(Refusal::conflict(words::is_busy(run.place(), holder.run.number, holder.run.asker.called())));
        }
        if waiting >= rules.max_queued && rules.on_busy == OnBusy::Queue {
            return Err(Refusal::busy(words::queue_is_full(waiting, run.place(), &run.app)));
        }
        Ok(())
    }

    /// Takes a run into the books.
    pub(super) fn open(&mut self, run: Run, pipeline: Arc<Pipeline>, stages: Vec<StageRun>) {
        let number = run.number;
        self.puts.push(Put::Place { app: run.app.clone(), repo: pipeline.repo.clone(), env: run.env.clone() });
        self.puts.push(Put::Pipeline(PipelineRow {
            hash: pipeline.hash.clone(),
            name: match pipeline.file.extension().filter(|end| *end == "toml") {
                Some(_) => format!("{}.toml", pipeline.name),
                None => pipeline.name.clone(),
            },
            app: pipeline.app.clone(),
            source: pipeline.source.to_string(),
            created: self.now,
        }));
        let mut live = Live::new(run, pipeline, stages);
        for at in 0..live.stages.len() {
            if live.run.skipped.contains(&live.pipeline.stages[live.stages[at].spec].name) {
                // Left out by somebody who may: what needs it goes on as if it were done.
                live.stages[at].forgiven = true;
                live.stages[at].summary = LEFT_OUT.to_owned();
            }
        }
        self.dirty_runs.insert(number);
        self.dirty_stages.extend((0..live.stages.len()).map(|stage| (number, stage)));
        self.runs.insert(number, live);
        let Some(live) = self.runs.get(&number) else { return };
        let (who, origin) = (live.run.asker.handle.clone(), live.run.asker.origin.clone());
        let cause = live.run.parent.map_or_else(|| words::cause_asked(origin), words::cause_parent);
        let mut data = json!({"from": "", "to": "draft", "cause": cause});
        if let Some(risk) = &live.run.risk {
            // Events are never changed: what was foretold stays as it was.
            data["risk"] = json!(risk);
        }
        self.event(number, "run", &who, None, data);
    }

    /// People have to agree before it goes on.
    pub(super) fn await_approval(&mut self, number: i64, approvals: &Approvals) {
        self.to(number, RunState::AwaitingApproval, "bot");
        let until = self.now + approvals.expires.as_millis() as Millis;
        self.due_at(number, until);
        let Some(live) = self.runs.get(&number) else { return };
        let plan = words::plan_of(planned(&live.run, &live.pipeline).join(", "), words::skipping(&live.run));
        let plan = live.run.onto.as_ref().map_or(plan.clone(), |onto| words::and_then_said(onto, plan));
        let line = words::needs_approval(&live.run, approvals, &plan, &live.run.code, until, self.now);
        self.must_say(number, "start", &line);
    }

    pub(super) fn due_in(&mut self, number: i64, time: Millis) {
        self.due_at(number, self.now + time);
    }

    pub(super) fn due_at(&mut self, number: i64, at: Millis) {
        if let Some(live) = self.runs.get_mut(&number) {
            live.run.due = Some(at);
            self.dirty_runs.insert(number);
        }
    }

    /// How long a pipeline takes, by how long its stages took.
    pub(super) fn eta(&self, run: &Run, pipeline: &Pipeline) -> Option<Millis> {
        let times = self.times.get(&run.app)?;
        let of = |stage: &Stage| {
            if run.skipped.contains(&stage.name) {
                return 0.0;
            }
            let prefix = format!("{}[", stage.name);
            let own = times
                .iter()
                .filter(|(name, _)| **name == stage.name || name.starts_with(&prefix))
                .map(|(_, time)| *time);
            own.fold(0.0, f64::max)
        };
        let all: Vec<f64> = pipeline.stages.iter().map(of).collect();
        let total = pipeline.graph.critical(&all).1;
        (total > 0.0).then_some(total as Millis)
    }

    /// A line for one person, where they are.
    pub(super) fn tell(&mut self, who: &Asker, text: String) {
        if !who.place.is_empty() {
            self.effects.push(Effect::Tell { place: who.place.clone(), nick: who.nick.clone(), text });
        }
    }
}

/// The stages that are to be done, but for those that are done in any case.
pub(super) fn planned(run: &Run, pipeline: &Pipeline) -> Vec<String> {
    let wanted = |stage: &&Stage| !stage.finally && !run.skipped.contains(&stage.name);
    pipeline.stages.iter().filter(wanted).map(|stage| with_share(&stage.name, stage)).collect()
}

/// How it would be asked for again.
pub(super) fn asked_words(run: &Run) -> String {
    let reference = if run.reference.is_empty()
        || run.params.get("ref").and_then(Value::as_str) == Some("main") && run.reference == "main"
    {
        String::new()
    } else {
        format!("/{}", run.reference)
    };
    words::asked(&run.app, reference, &run.env)
}

pub(super) fn before(row: &DeploymentRow) -> Before {
    Before {
        run: row.run,
        version: row.version.clone(),
        sha: row.sha.clone(),
        outputs: serde_json::from_str(&row.outputs).unwrap_or_default(),
    }
}

/// Where a run is talked about: where the pipeline says, and where it was asked for.
pub(super) fn places(pipeline: &Pipeline, run: &Run) -> Vec<String> {
    let mut places: Vec<String> = pipeline.announce.places.iter().map(|place| place.target.clone()).collect();
    if let Some(asked) = run.asker.channel() {
        match places.iter_mut().find(|place| super::same_place(place, asked)) {
            // It is told there already, as it is wanted.
            Some(place) if place.starts_with(NOTICE) => {}
            // The one with the network is the better name.
            Some(place) => *place = asked.to_owned(),
            None => places.push(asked.to_owned()),
        }
    } else if !run.asker.place.is_empty() {
        places.push(run.asker.place.clone());
    }
    places
}

/// The stages with instances that one waits for, through those that have none.
fn nearest(spec: usize, needs: &[Vec<usize>], of: &[Vec<usize>]) -> Vec<usize> {
    let (mut found, mut seen) = (Vec::new(), vec![spec]);
    let mut left = needs[spec].clone();
    while let Some(one) = left.pop() {
        if !of[one].is_empty() {
            if !found.contains(&one) {
                found.push(one);
            }
        } else if !seen.contains(&one) {
            seen.push(one);
            left.extend(&needs[one]);
        }
    }
    found
}

impl Live {
    /// A run with its stages, none of which has begun.
    pub(super) fn new(run: Run, pipeline: Arc<Pipeline>, stages: Vec<StageRun>) -> Live {
        let specs = pipeline.stages.len();
        let reverse = stages.first().is_some_and(|stage| stage.undo);
        let mut of = vec![Vec::new(); specs];
        for (at, stage) in stages.iter().enumerate() {
            of[stage.spec].push(at);
        }
        let needs = if reverse { &pipeline.graph.feeds } else { &pipeline.graph.needs };
        // Stages that have no instance here pass on what they wait for.
        let needs: Vec<Vec<usize>> = (0..specs).map(|spec| nearest(spec, needs, &of)).collect();
        let unmet = needs.iter().map(Vec::len).collect();
        let feeds = Graph::new(needs).feeds;
        let left =
            of.iter().map(|all: &Vec<usize>| all.iter().filter(|at| !stages[**at].state.ended()).count()).collect();
        let finally = |at: &StageRun| pipeline.stages[at.spec].finally;
        let open = stages.iter().filter(|stage| !finally(stage) && !stage.state.ended()).count();
        let last = stages.iter().filter(|stage| finally(stage) && !stage.state.ended()).count();
        let timed = (0..stages.len()).filter(|at| stages[*at].due.is_some()).collect();
        let coalesce = pipeline.announce.coalesce.map_or(COALESCE, |time| time.as_millis() as Millis);
        let progress = Progress::new(coalesce);
        Live {
            run,
            pipeline,
            stages,
            of,
            unmet,
            left,
            feeds,
            fresh: VecDeque::new(),
            timed,
            opened: vec![false; specs],
            open,
            last,
            finally_begun: false,
            progress,
            notes: HashMap::new(),
            begun: HashMap::new(),
            looking: false,
            unreadable: None,
        }
    }

    /// Counts anew what has ended, after stages were reset or added; gives every stage whose turn may have come.
    pub(super) fn recount(&mut self) {
        let fresh =
            Live::new(std::mem::take(&mut self.run), Arc::clone(&self.pipeline), std::mem::take(&mut self.stages));
        let (progress, notes, begun) =
            (std::mem::take(&mut self.progress), std::mem::take(&mut self.notes), std::mem::take(&mut self.begun));
        let (finally_begun, unreadable) = (self.finally_begun, self.unreadable.take());
        *self = Live { progress, notes, begun, finally_begun, unreadable, ..fresh };
        for spec in 0..self.of.len() {
            if self.left[spec] == 0 && !self.of[spec].is_empty() {
                for next in self.feeds[spec].clone() {
                    self.unmet[next] = self.unmet[next].saturating_sub(1);
                }
            }
        }
        let pending = |at: &usize| self.stages[*at].state == StageState::Pending;
        let turn = |spec: &usize| {
            let last = self.pipeline.stages[*spec].finally;
            self.unmet[*spec] == 0 && (!last || self.finally_begun) && self.of[*spec].iter().any(pending)
        };
        self.fresh = (0..self.of.len()).filter(turn).collect();
    }
}
