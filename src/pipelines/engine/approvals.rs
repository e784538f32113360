//! People agree or do not: to a run, to a stage, to what was planned.

use super::Engine;
use super::ask::{Answer, May, Reply};
use super::finish::no_run;
use crate::pipelines::model::{Approvals, Wait};
use crate::pipelines::refusal::Refusal;
use crate::pipelines::run::Asker;
use crate::pipelines::state::{RunState, StageState};
use crate::pipelines::words;
use crate::store::runs::{ApprovalRow, Put};

impl Engine {
    /// `!approve 130 5d1f`.
    pub(super) fn approve(&mut self, number: i64, code: &str, who: &Asker, may: &May) -> Answer {
        let (at, approvals, wanted) = self.asked_for(number, code)?;
        let (asker, created) = (self.run_of(number)?.run.asker.clone(), self.run_of(number)?.run.created);
        if !may.vouched || who.handle == "*" {
            return Err(Refusal::denied(words::LOG_IN_TO_APPROVE));
        }
        if approvals.not_requester && asker.handle == "*" {
            return Err(Refusal::denied(words::nobody_knows_who_asked(number)));
        }
        if approvals.not_requester && (who.handle == asker.handle || who.shares_account(&asker)) {
            return Err(Refusal::denied(words::own_approval(number)));
        }
        if !may.known_since(created) {
            return Err(Refusal::denied(words::touched(&who.handle, number)));
        }
        self.may_approve(number, &approvals, who, may)?;
        if !code.eq_ignore_ascii_case(&wanted) {
            // Whoever is told the code need not look.
            return Err(match code {
                "" => Refusal::wrong(words::name_the_code(number)),
                _ => Refusal::conflict(words::other_code(number)),
            });
        }
        let row = ApprovalRow {
            run: number,
            code: wanted.clone(),
            handle: who.handle.clone(),
            yes: true,
            reason: String::new(),
            at: self.now,
        };
        let Some(live) = self.runs.get_mut(&number) else { return Err(no_run(number)) };
        let list = at.map_or(&mut live.run.approvals, |at| &mut live.stages[at].approvals);
        if list.contains(&who.handle) {
            return Err(Refusal::conflict(words::approved_already(number)));
        }
        list.push(who.handle.clone());
        let left = approvals.count.saturating_sub(list.len());
        self.puts.push(Put::Approval(row));
        self.dirty_runs.insert(number);
        let Some(live) = self.runs.get(&number) else { return Err(no_run(number)) };
        let (app, env) = (live.run.app.clone(), live.run.env.clone());
        let line = words::approved(&live.run, &who.handle, who.account.as_deref(), left);
        if left == 0 && at.is_none() {
            self.say_with_next(number, line);
        } else {
            self.say(number, "start", &line);
        }
        self.incident(&who.handle, (&app, &env), Some(number), &words::log_approved(number, wanted), None);
        if let Some(at) = at {
            self.dirty_stages.insert((number, at));
        }
        if left == 0 {
            match at {
                None => {
                    self.enqueue(number);
                    self.say_unsaid(number);
                }
                Some(at) => self.agreed(number, at, &who.handle),
            }
        }
        Ok(Reply::about(number, Vec::new()))
    }

    /// All who have to agree to a stage have: it is done, or what was planned is.
    fn agreed(&mut self, number: i64, at: usize, by: &str) {
        let Some(live) = self.runs.get(&number) else { return };
        let planned = live.stages[at].outputs.contains_key("plan_file");
        if planned {
            self.stage_to(number, at, StageState::Ready, by);
            self.again_stage(number, at);
        } else {
            self.stage_to(number, at, StageState::Succeeded, by);
        }
        self.advance(number);
    }

    /// What people have to agree to now: the stage, if it is one, who may, and the code. Of several stages that wait it is the one with
    /// this code, else the first.
    fn asked_for(&self, number: i64, code: &str) -> Result<(Option<usize>, Approvals, String), Refusal> {
        let live = self.run_of(number)?;
        let rules = live.pipeline.rules(&live.run.env).and_then(|rules| rules.asks(live.run.overrides()).cloned());
        if live.run.state == RunState::AwaitingApproval {
            let approvals = rules.ok_or_else(|| Refusal::conflict(words::needs_no_approval(number)))?;
            return Ok((None, approvals, live.run.code.clone()));
        }
        let waits = |at: &usize| live.stages[*at].state == StageState::Waiting && !live.stages[*at].code.is_empty();
        let waiting: Vec<usize> = (0..live.stages.len()).filter(waits).collect();
        let named = waiting.iter().find(|at| live.stages[**at].code.eq_ignore_ascii_case(code));
        let Some(at) = named.or(waiting.first()).copied() else {
            return Err(Refusal::conflict(words::waits_for_no_approval(
                number,
                live.run.state.name().replace('_', " "),
            )));
        };
        let approvals = match &live.pipeline.stages[live.stages[at].spec].wait {
            Some(Wait::Approve(approvals)) => approvals.clone(),
            _ => rules.unwrap_or(Approvals {
                count: 1,
                from: Vec::new(),
                not_requester: true,
                expires: std::time::Duration::from_secs(1800),
                when: None,
            }),
        };
        Ok((Some(at), approvals, live.stages[at].code.clone()))
    }

    /// How many stages of a run wait for people.
    fn waiting(&self, number: i64) -> usize {
        let Some(live) = self.runs.get(&number) else { return 0 };
        live.stages.iter().filter(|one| one.state == StageState::Waiting && !one.code.is_empty()).count()
    }

    fn may_approve(&self, number: i64, approvals: &Approvals, who: &Asker, may: &May) -> Result<(), Refusal> {
        self.reaches(number, may)?;
        let live = self.run_of(number)?;
        // Who may no more since it was asked for may not here either.
        let now = self.rules_now(live).and_then(|(_, rules)| rules.asks(live.run.overrides()).cloned());
        let now = now.filter(|now| live.run.state == RunState::AwaitingApproval && !now.from.is_empty());
        if let Some(now) = now.filter(|now| now.from != approvals.from) {
            self.may_be_of(number, &now, who, may)?;
        }
        self.may_be_of(number, approvals, who, may)
    }

    /// Whether somebody is one of those who are asked to approve.
    fn may_be_of(&self, number: i64, approvals: &Approvals, who: &Asker, may: &May) -> Result<(), Refusal> {
        if approvals.from.is_empty() {
            return self.may_act(number, who, may);
        }
        if approvals.from.iter().any(|name| may.is_named(name, &who.handle, &self.settings.groups)) {
            return Ok(());
        }
        Err(Refusal::denied(words::not_among(number, words::either(&approvals.from))))
    }

    /// Whether the token somebody speaks through may act on a run.
    pub(super) fn reaches(&self, number: i64, may: &May) -> Result<(), Refusal> {
        let live = self.run_of(number)?;
        let then = live.pipeline.rules(&live.run.env).and_then(|rules| rules.flags);
        let now = self.rules_now(live).and_then(|(_, rules)| rules.flags);
        if may.reaches(then.as_ref()) && may.reaches(now.as_ref()) {
            return Ok(());
        }
        Err(Refusal::denied(words::token_may_not_act(live.run.place())))
    }

    /// `!reject 130 why`.
    pub(super) fn reject(&mut self, number: i64, why: &str, who: &Asker, may: &May) -> Answer {
        // Where several stages wait, the code says which.
        let (first, rest) = why.split_once(' ').unwrap_or((why, ""));
        let (at, approvals, code) = self.asked_for(number, first)?;
        let why = if first.eq_ignore_ascii_case(&code) {
            rest
        } else if self.waiting(number) > 1 {
            return Err(Refusal::wrong(words::which_stage_is_rejected(number)));
        } else {
            why
        };
        if !may.vouched {
            return Err(Refusal::denied(words::LOG_IN));
        }
        self.may_approve(number, &approvals, who, may)?;
        if why.trim().is_empty() {
            return Err(Refusal::wrong(words::why_reject(number)));
        }
        let row = ApprovalRow {
            run: number,
            code,
            handle: who.handle.clone(),
            yes: false,
            reason: why.to_owned(),
            at: self.now,
        };
        self.puts.push(Put::Approval(row));
        let by = format!("{}: {}", who.handle, words::cut(why, 150));
        let place = (self.run_of(number)?.run.app.clone(), self.run_of(number)?.run.env.clone());
        let text = words::log_rejected(number, words::cut(why, 400));
        self.incident(&who.handle, (&place.0, &place.1), Some(number), &text, None);
        match at {
            None => self.end_waiting(number, RunState::Rejected, &by),
            Some(at) => {
                self.fail(number, at, super::failure(crate::executors::Class::Cancelled, words::was_rejected(&by)));
                self.advance(number);
            }
        }
        Ok(Reply::about(number, Vec::new()))
    }
}
