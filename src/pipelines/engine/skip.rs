//! What may be left out of a run, where it may be asked for, and by whom where others have to agree.

use serde_json::{Map, Value};

use super::ask::{May, Prepared};
use super::same_place;
use crate::pipelines::expr::Facts;
use crate::pipelines::may::{has_flags, settle};
use crate::pipelines::model::{Approvals, Pipeline, Rules, Skip, Stage, Wait};
use crate::pipelines::refusal::Refusal;
use crate::pipelines::run::{Asker, Run};
use crate::pipelines::words::{self, cut};
use crate::users::FlagMask;

/// The stages that are left out, if that may be.
pub(super) fn left_out(pipeline: &Pipeline, prepared: &Prepared, may: &May) -> Result<Vec<String>, Refusal> {
    for name in prepared.skip.iter().chain(&prepared.only) {
        match pipeline.stage(name) {
            Some(stage) if stage.finally && prepared.skip.contains(name) => {
                return Err(Refusal::conflict(words::done_in_any_case(name)));
            }
            Some(_) => {}
            None => {
                let names = pipeline.stages.iter().map(|stage| stage.name.as_str());
                let close = masterchief_contract::closest(name, names);
                let hint = close.map(words::or_did_you_mean).unwrap_or_default();
                return Err(Refusal::unknown(words::no_stage(&pipeline.app, name, hint)));
            }
        }
    }
    let wanted = |name: &String| prepared.only.is_empty() || prepared.only.contains(name);
    let out = |stage: &&Stage| !stage.finally && (prepared.skip.contains(&stage.name) || !wanted(&stage.name));
    pipeline.stages.iter().filter(out).map(|stage| may_skip(stage, may).map(|()| stage.name.clone())).collect()
}

/// Whether somebody may leave out a stage, or go on although it failed.
pub(super) fn may_skip(stage: &Stage, may: &May) -> Result<(), Refusal> {
    let name = &stage.name;
    match &stage.skip {
        Skip::Never => Err(Refusal::conflict(words::decided_by_people(name))),
        Skip::Flags(flags) if may.has(flags.as_ref()) => Ok(()),
        Skip::Flags(flags) => Err(Refusal::denied(words::may_not_leave_out(name, flag_of(flags.as_ref())))),
    }
}

/// The flag that is needed everywhere, as people write it.
pub(super) fn flag_of(flags: Option<&FlagMask>) -> String {
    flags.map(ToString::to_string).unwrap_or_default().split('|').next().unwrap_or("").to_owned()
}

/// Parameters that need a flag and are not what they usually are.
pub(super) fn guarded(pipeline: &Pipeline, params: &Map<String, Value>) -> Vec<String> {
    let needs = pipeline.params.iter().filter(|param| param.needs_flag.is_some());
    let set = needs.filter_map(|param| Some((&param.name, params.get(&param.name)?, param.default.as_ref())));
    let set = set.filter(|(_, value, default)| Some(*value) != *default);
    let text = |value: &Value| value.as_str().map_or_else(|| value.to_string(), str::to_owned);
    set.map(|(name, value, _)| format!("{name}={}", cut(&text(value), 40))).collect()
}

/// Whether somebody may ask for this where they are, as far as that can be told without asking anybody else.
pub(in crate::pipelines) fn permitted(
    pipeline: &Pipeline,
    prepared: &Prepared,
    who: &Asker,
    may: &May,
) -> Result<(), Refusal> {
    let (_, env) = settle(pipeline, prepared, may)?;
    has_flags(pipeline, &env, may)?;
    asked_where(pipeline, prepared, who)?;
    left_out(pipeline, prepared, may).map(drop)
}

/// Whether a pipeline may be asked for in words where somebody is. One that names channels is asked for there.
pub(super) fn asked_where(pipeline: &Pipeline, prepared: &Prepared, who: &Asker) -> Result<(), Refusal> {
    let Some(place) = who.channel().filter(|_| who.origin == "irc" && !prepared.unattended) else { return Ok(()) };
    if asked_there(pipeline, place) {
        return Ok(());
    }
    let named = named_channels(pipeline).join(", ");
    Err(Refusal::denied(words::ask_there(&pipeline.app, named)))
}

/// The channels that a pipeline names to be asked for in; none is any of them.
pub(in crate::pipelines) fn named_channels(pipeline: &Pipeline) -> Vec<&str> {
    let words = || pipeline.triggers.iter().filter(|trigger| trigger.kind == "pub");
    if words().any(|trigger| trigger.mask.trim().is_empty()) {
        return Vec::new();
    }
    words().flat_map(|trigger| trigger.mask.split_whitespace()).collect()
}

/// Whether a pipeline may be asked for in a channel.
pub(in crate::pipelines) fn asked_there(pipeline: &Pipeline, place: &str) -> bool {
    let named = named_channels(pipeline);
    named.is_empty() || named.iter().any(|channel| same_place(channel, place))
}

/// The approvals that a run needs before it begins, if it needs any.
pub(super) fn asks(run: &Run, rules: &Rules, facts: &Facts) -> Option<Approvals> {
    rules.asks(run.reason.as_deref()).cloned().filter(|approvals| {
        // A condition that cannot be told asks them.
        run.reason.is_some() || approvals.when.as_ref().is_none_or(|when| when.holds(facts).unwrap_or(true))
    })
}

/// Whether it is known who asks where somebody else has to agree: else they could agree to it themselves under another name.
pub(super) fn known_requester(
    pipeline: &Pipeline,
    asks: Option<&Approvals>,
    who: &Asker,
    may: &May,
) -> Result<(), Refusal> {
    let stages = pipeline.stages.iter().filter_map(|stage| match &stage.wait {
        Some(Wait::Approve(approvals)) if approvals.when.is_none() => Some(approvals),
        _ => None,
    });
    let other = asks.into_iter().chain(stages).any(|approvals| approvals.not_requester);
    if !other || who.origin != "irc" || may.vouched && who.handle != "*" {
        return Ok(());
    }
    Err(Refusal::denied(words::LOG_IN_FOR_APPROVAL))
}
