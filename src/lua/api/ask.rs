//! `ev:ask(question, {timeout=, choices=})`: asks whoever is behind an event, where it happened, and waits for the answer.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use masterchief_contract::{How, Mark};
use mlua::{Lua, Table};

use super::super::asks::{Question, Why};
use super::super::event;
use super::super::value::{self, Options};
use super::{effect, vm};

/// How long there is for an answer where nothing is said.
const USUALLY: Duration = Duration::from_secs(120);
/// The shortest and the longest there may be. A question is said in its channel whatever that bears, so not as often as one likes.
const SHORTEST: Duration = Duration::from_secs(1);
const LONGEST: Duration = Duration::from_secs(3600);
/// Answers to choose from.
const CHOICES_MAX: usize = 20;

/// Gives the answer; or nothing, and why: `timeout`, `gone`, `busy`, `reloaded` or `redacted`. A choice is given as the script wrote it.
pub(in super::super) async fn ask(
    lua: Lua,
    (ev, question, options): (mlua::Value, String, Option<Table>),
) -> mlua::Result<(Option<String>, Option<&'static str>)> {
    let event = event::of(&ev, "ask")?;
    effect(&lua, "ev:ask")?;
    let fault = |what: String| mlua::Error::runtime(format!("ev:ask: {what}"));
    let vm = vm(&lua)?;
    if vm.current().dry {
        return Err(fault("nobody is asked anything in a dry replay".to_owned()));
    }
    if event.actor.is_none() {
        return Err(fault(format!("nobody stands behind a {} event who could answer", event.kind())));
    }
    let mut options = Options::new("ev:ask", options);
    let timeout = options.take::<mlua::Value>("timeout")?;
    let timeout = timeout.map_or(Ok(USUALLY), |time| value::duration("timeout", &time))?;
    let choices = options.list("choices")?;
    options.done()?;
    if !(SHORTEST..=LONGEST).contains(&timeout) {
        return Err(fault(format!("timeout is between {} and {} s", SHORTEST.as_secs(), LONGEST.as_secs())));
    }
    if choices.len() > CHOICES_MAX || choices.iter().any(|choice| choice.trim().is_empty() || choice.trim() != choice) {
        return Err(fault(format!("choices are up to {CHOICES_MAX} words without blanks around them")));
    }
    if vm.retired.load(Ordering::Relaxed) {
        return Ok((None, Some(Why::Reloaded.name())));
    }
    let line = if choices.is_empty() { question } else { format!("{question} ({})", choices.join("/")) };
    let own = vm.services.world.nick(&event.network).unwrap_or_default();
    let asks = vm.services.asks.clone();
    // Before it is said, so that no answer comes too soon.
    let waiting = match asks.open(Question { owner: Arc::as_ptr(&vm) as usize, own, choices, timeout, event: &event }) {
        Ok(waiting) => waiting,
        Err(why) => return Ok((None, Some(why.name()))),
    };
    // What waits for an answer must not hold the script itself.
    drop(vm);
    let line = if event.chan().is_some() { format!("{}: {line}", event.nick()) } else { line };
    let action = event.answer(line, How::Say).map_err(mlua::Error::external)?;
    let here = Mark { expires: Some(timeout), here: true, ..Mark::default() };
    event.perform(action.marked(here)).await.map_err(mlua::Error::external)?;
    Ok(match waiting.answer().await {
        Ok(answer) => (Some(answer), None),
        Err(why) => (None, Some(why.name())),
    })
}
