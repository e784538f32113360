//! What stops a script that does not stop by itself: time, instructions, memory.

use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use mlua::{Lua, VmState};

use super::settings::Settings;

/// How many ticks pass between two looks at the clock, which costs more than a tick.
const LOOK_EVERY: u64 = 128;

/// A script went beyond a limit.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(super) enum Beyond {
    /// It computed too long without waiting.
    #[error(
        "stopped: it computed for {0:?} without waiting for anything; split the work, or raise scripts.limits.slice"
    )]
    Slice(Duration),
    /// It took too many instructions.
    #[error(
        "stopped: the call took more than {0} loop turns and function calls; raise scripts.limits.budget if it must"
    )]
    Budget(u64),
    /// It is being ended.
    #[error("stopped: the script is being replaced or removed")]
    Killed,
}

/// The limits of one VM, and how far the call that runs now has come. Only the VM's own task writes the latter.
#[derive(Debug)]
pub(super) struct Limits {
    slice: Duration,
    budget: u64,
    born: Instant,
    /// When the slice began, in nanoseconds since `born`.
    slice_began: AtomicU64,
    ticks: AtomicU64,
    killed: AtomicBool,
}

impl Limits {
    /// Puts the limits on a VM.
    pub(super) fn install(lua: &Lua, settings: &Settings) -> mlua::Result<Arc<Limits>> {
        lua.set_memory_limit(settings.memory)?;
        let limits = Arc::new(Limits {
            slice: settings.slice,
            budget: settings.budget,
            born: Instant::now(),
            slice_began: AtomicU64::new(0),
            ticks: AtomicU64::new(0),
            killed: AtomicBool::new(false),
        });
        lua.set_app_data(Arc::clone(&limits));
        let watched = Arc::clone(&limits);
        lua.set_interrupt(move |lua| match watched.tick() {
            None => Ok(VmState::Continue),
            // Raised again at every tick of this slice, so a pcall cannot swallow it.
            Some(beyond) => Err(mlua::Error::runtime(format!("{}{beyond}", place(lua)))),
        });
        Ok(limits)
    }

    fn tick(&self) -> Option<Beyond> {
        let ticks = self.ticks.load(Ordering::Relaxed) + 1;
        self.ticks.store(ticks, Ordering::Relaxed);
        if ticks > self.budget {
            return Some(Beyond::Budget(self.budget));
        }
        if ticks.is_multiple_of(LOOK_EVERY) || self.killed.load(Ordering::Relaxed) {
            if self.killed.load(Ordering::Relaxed) {
                return Some(Beyond::Killed);
            }
            let began = Duration::from_nanos(self.slice_began.load(Ordering::Relaxed));
            if self.born.elapsed().saturating_sub(began) > self.slice {
                // So that the next tick looks again.
                self.ticks.store(ticks + LOOK_EVERY - 1 - ticks % LOOK_EVERY, Ordering::Relaxed);
                return Some(Beyond::Slice(self.slice));
            }
        }
        None
    }

    /// Ends whatever runs, now and later.
    pub(super) fn kill(&self) {
        self.killed.store(true, Ordering::Relaxed);
    }

    fn begin(&self, used: u64) {
        self.slice_began.store(self.born.elapsed().as_nanos() as u64, Ordering::Relaxed);
        self.ticks.store(used, Ordering::Relaxed);
    }

    /// What ran for somebody else was stopped: whoever called it has a slice of their own. The budget is still for all of it.
    pub(super) fn another_slice(lua: &Lua) {
        if let Some(limits) = lua.app_data_ref::<Arc<Limits>>() {
            limits.begin(limits.used());
        }
    }

    fn used(&self) -> u64 {
        self.ticks.load(Ordering::Relaxed)
    }
}

/// Where the script is: `deploy.lua:12: `.
fn place(lua: &Lua) -> String {
    let at = |level| {
        lua.inspect_stack(level, |debug| Some((debug.source().short_src?.into_owned(), debug.current_line()?)))
            .flatten()
    };
    let found = (0..4).find_map(at);
    found.map(|(file, line)| format!("{file}:{line}: ")).unwrap_or_default()
}

/// A call under the limits: each poll is a slice, the budget is for all of them.
pub(super) struct Limited<F> {
    inner: F,
    limits: Arc<Limits>,
    used: u64,
}

impl<F> Limited<F> {
    pub(super) fn new(inner: F, limits: &Arc<Limits>) -> Limited<F> {
        Limited { inner, limits: Arc::clone(limits), used: 0 }
    }
}

impl<F: Future + Unpin> Future for Limited<F> {
    type Output = F::Output;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<F::Output> {
        self.limits.begin(self.used);
        let polled = Pin::new(&mut self.inner).poll(cx);
        self.used = self.limits.used();
        polled
    }
}
