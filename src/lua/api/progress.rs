//! `ev:progress(what)`: how something goes, said where the event came from, in few lines: the newest wins.
//!
//! What it gives is told words with `step`, or handed to `pipeline.run` as `on_step`; `done` and `fail` say how it ended, at once.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use masterchief_contract::{Class, Event, How, Mark};
use mlua::{Lua, UserData, UserDataMethods};
use tokio::time::Instant;

use super::super::{event, value};
use super::effect;
use crate::pipelines::{News, StageState};

/// The shortest time between two lines, and before the first.
const APART: Duration = Duration::from_secs(20);

/// How something goes. Cheap to clone; all clones are the same.
#[derive(Clone)]
pub(in super::super) struct Progress {
    inner: Arc<Inner>,
}

struct Inner {
    event: Event,
    what: String,
    state: Mutex<State>,
}

struct State {
    last: Instant,
    /// Nothing more is said.
    over: bool,
}

impl Progress {
    /// What comes of a run.
    pub(super) async fn news(&self, news: &News) -> mlua::Result<()> {
        let Some(stage) = &news.stage else { return Ok(()) };
        if news.kind == "stage" && news.stage_state == Some(StageState::Starting) {
            // It runs in a moment, and that is what people want to hear.
            return Ok(());
        }
        let how = match news.kind {
            "doing" => news.text.clone(),
            _ => news.stage_state.map(|state| state.name().replace('_', " ")).unwrap_or_default(),
        };
        let (done, all) = news.done;
        self.step(&format!("{done}/{all}, {stage} {how}")).await
    }

    /// Says how it goes, if the last line is long enough ago.
    async fn step(&self, words: &str) -> mlua::Result<()> {
        {
            let mut state = self.inner.state.lock().unwrap_or_else(PoisonError::into_inner);
            if state.over || state.last.elapsed() < APART {
                return Ok(());
            }
            state.last = Instant::now();
        }
        self.say(words, Class::Progress).await
    }

    /// Says how it ended; once.
    async fn end(&self, how: &str, words: Option<String>) -> mlua::Result<()> {
        {
            let mut state = self.inner.state.lock().unwrap_or_else(PoisonError::into_inner);
            if std::mem::replace(&mut state.over, true) {
                return Ok(());
            }
        }
        let words = words.filter(|words| !words.is_empty()).map(|words| format!(", {words}")).unwrap_or_default();
        self.say(&format!("{how}{words}"), Class::Reply).await
    }

    async fn say(&self, words: &str, class: Class) -> mlua::Result<()> {
        let text = format!("{}: {words}", self.inner.what);
        let event = &self.inner.event;
        let mark = Mark { class: Some(class), ..Mark::default() };
        let action = event.answer(text, How::Say).map_err(mlua::Error::external)?.marked(mark);
        event.perform(action).await.map_err(mlua::Error::external)
    }
}

impl UserData for Progress {
    fn add_methods<M: UserDataMethods<Self>>(methods: &mut M) {
        methods.add_async_method("step", |lua, this, words: mlua::Value| async move {
            effect(&lua, "ev:progress")?;
            let words = value::text(&lua, "progress:step", words)?;
            this.step(&words).await
        });
        for (name, how) in [("done", "done"), ("fail", "FAILED")] {
            methods.add_async_method(name, move |lua, this, words: Option<String>| async move {
                effect(&lua, "ev:progress")?;
                this.end(how, words).await?;
                // As what a handler returns it is no further line, and it is true: `ok and p:done() or p:fail()`.
                lua.create_table()
            });
        }
    }
}

/// `ev:progress(what)`.
pub(in super::super) fn begin(_: &Lua, (ev, what): (mlua::Value, String)) -> mlua::Result<Progress> {
    let event = event::of(&ev, "progress")?;
    let state = Mutex::new(State { last: Instant::now(), over: false });
    Ok(Progress { inner: Arc::new(Inner { event, what, state }) })
}
