//! What the incident log says by itself of runs and places, and why stages failed that no executor did. A line a sentence.

use std::fmt::{Debug, Display};

use super::sentences::sentences;

/// What goes out where nobody said which.
pub const NEWEST: &str = "the newest";

sentences! {
    // Of runs, in the log.
    log_started(number: Display, what: Display, skipping: Display) = "run {number} {what} started{skipping}";
    log_ok(number: Display, what: Display) = "deploy {number} {what} ok";
    log_nothing_out(number: Display, what: Display) = "deploy {number} {what}: nothing went out";
    log_ended(number: Display, what: Display, state: Display) = "deploy {number} {what} {state}";
    log_failed(number: Display, what: Display, stage: Display) = "deploy {number} {what} failed in {stage}";
    log_given_up(number: Display, state: Display, by: Display) = "run {number} {state} by {by}";
    log_approved(number: Display, wanted: Display) = "run {number} approved ({wanted})";
    log_promoted(number: Display, stages: Display) = "run {number}: {stages} promoted";
    log_paused(number: Display, why: Display) = "run {number} paused: {why}";
    log_goes_on(number: Display) = "run {number} goes on";
    log_passed_window(number: Display, why: Display) = "run {number} does not wait for its window: {why}";
    log_passed_stage(number: Display, stage: Display, why: Display) = "run {number}: {stage} passed: {why}";
    log_undone(number: Display, what: Display) = "rollback {number} to {what} ok";
    log_not_undone(number: Display) = "rollback {number} failed";
    log_undo_aborted(number: Display, by: Display) = "rollback {number} aborted by {by}";
    log_rejected(number: Display, why: Display) = "run {number} rejected: {why}";
    log_did_not_begin(number: Display, names: Display) = "run {number} did not begin: {names}";
    log_unreadable(what: Display, number: Display, version: Display) = "{what} {number} {version} ended: its pipeline cannot be read any more";
    // Why runs and stages changed, in their events.
    cause_asked(origin: Display) = "asked for ({origin})";
    cause_parent(number: Display) = "run {number}";
    cause_paused(by: Display) = "paused by {by}";
    cause_approval() = "people have to agree";
    cause_expired() = "nobody answered in time, or its turn never came";
    cause_again() = "its turn comes again";
    cause_run_is(state: Display) = "the run is {state}";
    cause_skipped() = "what it needs did not come, or its condition does not hold";
    // Of places, in the log.
    log_locked(why: Display) = "locked: {why}";
    log_lock_lasts() = "the lock lasts longer";
    log_unlocked(whose: Display, why: Display) = "unlocked ({whose}'s): {why}";
    log_unlocked_own() = "unlocked";
    log_lock_over(whose: Display) = "{whose}'s lock is over";
    log_frozen(why: Display) = "frozen: {why}";
    log_thawed() = "thawed";
    log_freeze_over() = "the freeze is over";
    log_called_off(what: Display, at: Display) = "{what} at {at} was called off";
    // Why a lock is there.
    why_rolled_back(by: Display) = "rolled back by {by}";
    why_stage_locks(why: Display, number: Display) = "{why} (run {number})";
    // How stages ended that people and clocks do.
    nobody_agreed() = "nobody agreed in time; ask again with !retry";
    nobody_has_to_agree() = "nobody has to agree";
    is_locked_now(place: Display) = "{place} is locked";
    was_not_locked(place: Display) = "{place} was not locked by this run";
    is_open_again(place: Display) = "{place} is open again";
    waits_for(pool: Display) = "waits for {pool}";
    waits_for_holders(pool: Display, held: Display) = "waits for {pool}, held by {held}";
    passed_by(who: Display, why: Display) = "passed by {who}: {why}";
    was_rejected(by: Display) = "rejected by {by}";
    outside_its_window() = "outside its window";
    nothing_to_do() = "nothing to do";
    its_turn() = "its turn";
    its_last_stages() = "its last stages";
    says(why: Display, who: Display) = "{why}, says {who}";
    // Of who is before others.
    which_runs_there(number: Display) = "run {number}, which runs there";
    in_stage(stage: Display) = " in {stage}";
    ahead_runs(number: Display, who: Display, doing: Display, left: Display) = "{number} by {who}{doing}{left}";
    ahead_next(number: Display, who: Display) = "{number} by {who} next";
    ahead_lock(who: Display) = "locked by {who}";
    waiting(app: Display, version: Display, who: Display) = "{app} {version} ({who})";
    version_to(app: Display, version: Display, env: Display) = "{app} {version} to {env}";
    asked(app: Display, reference: Display, env: Display) = "{app}{reference} to {env}";
    it_opens(at: Display) = "; it opens {at}";
    line_of(file: Display, line: Display) = "{file} line {line}";
    or_did_you_mean(close: Display) = "; did you mean {close}?";
    // Of runners.
    no_runner_came(waited: Display) = "no runner came in time: it {waited}";
    restarted_while(line: Display) = "the bot was restarted while it ran, and {line}";
    // Of what a stage gave.
    gave_no(name: Display, path: Display) = "outputs.{name}: it gave no {path}";
    gate_untold(fault: Display) = "the gate cannot be told: {fault}";
    gate_fails(gate: Display) = "the gate does not hold: {gate}";
    tests_failed(passed: Display, failed: Display, names: Display) = "{passed} passed, {failed} failed: {names}";
    only_old(glob: Debug) = "{glob:?} finds only what was there before this attempt; let the command write its report anew";
    not_taken_in() = "what it left could not be taken in; its fault is in the bot's log";
    no_executor(name: Display) = "there is no executor {name}";
    going_down() = "the bot is going down";
    // Of steps that were ended.
    fell_over(stage: Display) = "{stage} fell over; its fault is in the bot's log";
    took_too_long(stage: Display, time: Display, last: Display) = "{stage} took longer than its {time}{last}";
    said_last(words: Display) = ", last: {words}";
    said_nothing(stage: Display, time: Display) = "{stage} said nothing for {time}";
    did_not_end(stage: Display) = "{stage} did not end when it was told to; look what is left of it";
    // Of lists and matrices.
    no_list(name: Display, path: Display, last: Display) = "matrix.{name}: {{{path}}} is no list; let its stage write {last}=[\"a\", \"b\"]";
    too_many(count: Display, most: Display) = "this makes {count} instances; at most {most} are run";
    // What people agree to.
    plan_of(stages: Display, skipping: Display) = "Plan: {stages}{skipping}";
    and_then_said(first: Display, then: Display) = "{first}. {then}";
    plan_is(plan: Display) = "Plan: {plan}";
    stage_is(stage: Display) = "Stage: {stage}";
}
