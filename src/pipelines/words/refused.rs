//! What is said to one person who asked for something: mostly why it is not done, and what to do instead. A line a sentence.

use std::fmt::{Debug, Display};

use super::sentences::sentences;

/// Sentences in which nothing is filled in.
macro_rules! plain {
    ($($name:ident = $text:literal;)*) => {
        $(
            #[doc = concat!("```text\n", $text, "\n```")]
            pub const $name: &str = $text;
        )*
    };
}

plain! {
    WHY_OVERRIDE = "say why: !deploy! APP to ENV <why>";
    AMEND = "write !log amend L-12 <text>";
    LOG_IN_TO_APPROVE = "log in to services first: only somebody I know can approve";
    LOG_IN = "log in to services first";
    LOG_IN_TO_OVERRIDE = "log in to services first: who overrides a rule stands by it";
    LOG_IN_TO_BREAK = "log in to services first: who breaks a lock stands by it";
    LOG_IN_TO_LOG = "log in to services first: the log says who wrote";
    TOO_FAR_AHEAD = "that is more than a year ahead; name a time before that";
    LOG_IN_FOR_APPROVAL = "somebody else has to agree to it, so log in to services first, then ask again";
    TAKEN_OVER = "another bot has these runs now: ask that one, and stop one of the two";
    GOING_DOWN = "the bot is going down; ask again in a minute";
    MAY_DEPLOY_NOTHING = "this token may deploy nothing, so it does not tell of images either";
    NO_NOTIFICATION = "this is no notification of a registry: {\"events\": [...]}";
    CANNOT_BE_READ = "it cannot be read";
    NOBODY_VOUCHES = "nobody vouches for them";
}

sentences! {
    // Of files.
    cannot_be_read(app: Display, fault: Display) = "{app} cannot be read: {fault}";
    // Of approvals.
    nobody_knows_who_asked(number: Display) = "nobody knows who asked for {number}, so nobody is sure to be somebody else; ask again, logged in";
    own_approval(number: Display) = "the one who asked cannot approve {number}.";
    name_the_code(number: Display) = "name the code of what you agree to; !run {number} shows it";
    other_code(number: Display) = "that is not the code of what is shown now; !run {number} shows it";
    approved_already(number: Display) = "you approved {number} already";
    needs_no_approval(number: Display) = "run {number} needs no approval";
    waits_for_no_approval(number: Display, state: Display) = "run {number} waits for no approval; it is {state}";
    not_among(number: Display, from: Display) = "{number} needs somebody of {from}";
    token_may_not_act(place: Display) = "this token may not act on {place}: it lacks the flags for it";
    which_stage_is_rejected(number: Display) = "several stages of run {number} wait; say which: !reject {number} CODE <why>";
    why_reject(number: Display) = "say why: !reject {number} <why>";
    // Of asking for a run.
    check_untold(place: Display, fault: Display) = "{place}: a check cannot be told: {fault}; override with !deploy! and a reason";
    not_as_shown(place: Display) = "what would go to {place} is not what was shown any more; look at the plan again";
    check_fails(place: Display, check: Display) = "{place}: the check `{check}` does not hold; override with !deploy! and a reason";
    asked_already(same: Display) = "that is run {same} already (the same key within its time); !run {same}";
    is_busy(place: Display, run: Display, by: Display) = "{place} is busy with run {run} by {by}; wait for it, or !abort {run}";
    queue_is_full(waiting: Display, place: Display, app: Display) = "{waiting} runs wait for {place} already; !queue {app} shows them";
    // Of undoing.
    abort_first(number: Display) = "run {number} is under way: !abort {number} first";
    nothing_to_go_back_to(parent: Display) = "nothing was live before run {parent}, so there is nothing to go back to";
    undo_the_newer(newer: Display) = "run {newer} came after it and is live; undo that one: !rollback {newer}";
    wait_for_the_other(other: Display) = "run {other} is under way there; wait for it, or !abort {other}";
    rollback_of_rollback(parent: Display, app: Display, env: Display) = "run {parent} is a rollback itself; deploy what you want: !deploy {app}/VERSION to {env}";
    nothing_to_undo(parent: Display, state: Display) = "run {parent} is {state}, so there is nothing to undo";
    no_way_back(parent: Display, app: Display, version: Display, env: Display) = "no stage of run {parent} says how it is undone; deploy the old version: !deploy {app}/{version} to {env}";
    deploy_that_version(app: Display, version: Display, env: Display) = "to go to a version of your choice deploy it: !deploy {app}/{version} to {env}";
    nothing_live(app: Display, env: Display) = "nothing is live on {app}/{env}";
    too_long_ago(number: Display, app: Display, env: Display) = "run {number} is too long ago to be undone stage by stage; deploy the old version: !deploy {app}/VERSION to {env}, !deploys {app} {env} lists them";
    nothing_to_do_it_to(number: Display) = "there is no run {number} that this could be done to; !deploys APP ENV lists them";
    // Of acting on a run.
    waits_for_no_yes(number: Display, state: Display) = "run {number} waits for no yes; it is {state}";
    only_who_asked(who: Display, number: Display) = "only {who} can say yes to run {number}, logged in as then";
    left_as_it_is(number: Display) = "run {number} is left as it is; I will not roll it back by myself";
    is_over(number: Display, state: Display) = "run {number} is over: {state}";
    being_undone(number: Display) = "run {number} is being undone; stop that run instead";
    stopping(number: Display) = "stopping run {number}";
    did_not_fail(name: Display, number: Display, failed: Display) = "{name} did not fail in run {number}; these did: {failed}";
    nothing_failed(name: Display, number: Display) = "{name} did not fail in run {number}; nothing did";
    nothing_to_retry(number: Display, state: Display) = "run {number} is {state}, so there is nothing to try again";
    never_began(number: Display) = "run {number} never began; ask again: !again {number}";
    goes_on(number: Display) = "run {number} goes on";
    another_is_under_way(app: Display) = "another run is under way there; !queue {app}";
    newer_is_live(newer: Display, number: Display) = "run {newer} came after it and is live; deploy again: !again {number}";
    nothing_is_held(number: Display) = "nothing of run {number} is held";
    cannot_be_let_pass(stage: Display, n: Display) = "{stage} is decided by people or the clock and cannot be let pass; !retry {n} {stage} asks again, !abort {n} ends it";
    gate_does_not_hold(stage: Display, run: Display) = "the gate of {stage} does not hold, and you may not leave it out; !abort {run}, or ask an owner";
    is_anothers(number: Display, who: Display) = "run {number} is {who}'s";
    has_place(number: Display, place: Display, ahead: Display) = "run {number} has place {place} ({ahead})";
    is_next(number: Display, place: Display) = "run {number} has place {place}";
    // Of locks, freezes, the incident log and bookings.
    why_lock(place: Display) = "say why: !lock {place} 2h <why>";
    not_locked(place: Display) = "{place} is not locked";
    lock_without_end(place: Display) = "the lock of {place} has no end; end it with !unlock {place}";
    why_break(place: Display) = "say why: !unlock! {place} <why>";
    why_freeze(scope: Display) = "say why: !freeze {scope} 2d <why>";
    not_frozen(scope: Display) = "{scope} is not frozen";
    open_again(scope: Display, by: Display) = "{scope} is open again, says {by}.";
    no_scope(scope: Debug) = "{scope:?} is neither an environment nor APP/ENVIRONMENT nor *";
    token_may_not_write(app: Display) = "this token may not write about {app}: it lacks the flags for it";
    what_happened(app: Display) = "say what happened: !log {app} <text>";
    logged(id: Display, link: Display) = "logged L-{id}{link}";
    what_to_amend(id: Display) = "say what: !log amend L-{id} <text>";
    line_is_anothers(id: Display, who: Display) = "L-{id} is {who}'s; ask them, or write a line of your own";
    amended(id: Display) = "L-{id} amended (old text kept).";
    closed_then(env: Display, why: Display, open: Display) = "{env} is closed then ({why}){open}: book a time after that";
    booked(app: Display, env: Display, at: Display, id: Display) = "booked: {app} to {env} at {at} (B-{id}). Call it off: !unbook B-{id}";
    unbooked(id: Display, what: Display, at: Display, by: Display) = "B-{id} is off: {what} at {at} (booked by {by}).";
    // Of leaving stages out, and where an app is asked for.
    done_in_any_case(name: Display) = "{name} is done in any case, so it cannot be left out; ask without --skip {name}";
    no_stage(app: Display, name: Debug, hint: Display) = "{app} has no stage {name:?}{hint}";
    decided_by_people(name: Display) = "{name} cannot be left out: people or the clock decide there; ask without --skip or --only";
    may_not_pass(name: Display, flag: Display) = "you may not leave out {name} (needs flag {flag}); ask an owner";
    may_not_leave_out(name: Display, flag: Display) = "you may not leave out {name} (needs flag {flag}); ask without --skip or --only, or ask an owner";
    ask_there(app: Display, named: Display) = "{app} is deployed from {named}; ask there";
    // Of standing still and passing.
    paused_already(number: Display, by: Display) = "run {number} is paused by {by} already; !resume {number}";
    waits_anyway(number: Display) = "run {number} waits for a decision anyway: !promote {number} | !abort {number}";
    only_what_runs(number: Display, state: Display) = "run {number} is {state}; only what runs can be paused";
    nobody_paused(number: Display, state: Display) = "run {number} is {state}, and nobody paused it";
    which_stage_passes(number: Display, state: Display, names: Display) = "run {number} is {state}; several stages wait, name one: {names}";
    waits_for_no_time(number: Display, state: Display) = "run {number} is {state} and waits for no window, freeze or time; !run {number} shows what for";
    nothing_holds_it_up(number: Display, ahead: Display) = "no window or freeze holds run {number} up; it waits for {ahead}";
    // Of looking, and of programs.
    token_may_not_speak(place: Display) = "this token may not speak for {place}";
    no_environment_of(app: Display, env: Debug) = "{app} has no environment {env:?}; !apps lists them";
    nothing_has_begun(run: Display) = "no stage of run {run} has begun";
    has_logs_of(run: Display, names: Display) = "run {run} has logs of {names}";
    keeps_no_file(number: Display, path: Display, stage: Display) = "run {number} keeps no {path} of {stage}";
    run_has_no_stage(number: Display, stage: Display) = "run {number} has no stage {stage}";
    no_such_environment(env: Debug) = "no app has an environment {env:?}; !apps lists them";
    no_failures(app: Display) = "{app}: no attempt failed";
    failures(app: Display, stages: Display, classes: Display) = "{app}: {stages} | in all {classes}";
    // Of who may.
    may_not_set(param: Display, flags: Display) = "you may not set {param} (needs the flags {flags})";
    which_environment(app: Display, env: Debug, hint: Display) = "{app} has no environment {env:?}. {hint}";
    needs_flags(app: Display, env: Display, flags: Display) = "{app}/{env} needs the flags {flags}";
    nobody_is_asked(app: Display, env: Display) = "nobody is asked to agree to {app}/{env}";
    needs_one_of(app: Display, env: Display, from: Display) = "{app}/{env} needs somebody of {from}";
    // Of what a remote build tells.
    nothing_runs(run: Display) = "no stage of run {run} runs now";
    which_stage_runs(run: Display, names: Display) = "several stages of run {run} run now; name one as stage: {names}";
    // Of what there is.
    did_not_begin(number: Display, version: Display, why: Display) = "[{number}] {version} did not begin. {why}";
    not_booked(id: Display) = "nothing is booked as B-{id}; !booked lists what is";
    booking(id: Display, what: Display, at: Display, by: Display) = "B-{id} {what} at {at} by {by}";
    booked_in_vain(id: Display, what: Display, by: Display, fault: Display) = "{what} (B-{id}, booked by {by}) did not begin: {fault}";
    booked_too_late(id: Display, what: Display, at: Display, by: Display) = "{what} (B-{id}, booked by {by}) was due {at} while I was away, and does not begin any more; ask again if it is still wanted";
    why_pass(number: Display) = "say why, logged in: !skip! {number} <why>";
    where_to(app: Display, names: Display) = "say where to: !deploy {app} to {names}";
    there_are(names: Display) = "There are {names}";
    did_you_mean(close: Display) = "Did you mean {close}?";
    no_pipelines(app: Debug) = "no app {app:?}: there are no pipelines yet; put one into config/pipelines";
    no_app_of(app: Debug, names: Display) = "no app {app:?}. There are {names}";
    no_app_but(app: Debug, close: Display) = "no app {app:?}. Did you mean {close}?";
    no_place(place: Debug) = "{place:?} is no place; write APP/ENVIRONMENT, as in shop/prod";
    pool(pool: Display, used: Display, size: Display, held: Display, waiting: Display) = "{pool} {used}/{size} taken{held}, {waiting} wait";
    // Of words.
    written(usage: Display) = "write it with {usage}";
    no_time(text: Debug) = "{text:?} is no time; write +1h";
    no_incident(id: Display) = "there is no L-{id}; !sal APP shows the log";
    no_such_run(number: Display) = "there is no run {number}";
    no_environment(app: Display, env: Debug) = "{app} has no environment {env:?}";
    no_such_word(plain: Debug, close: Display) = "there is no {plain:?}{close}";
    place_behind_it(word: Display) = "write the place behind it, as in {word} shop/prod";
}
