//! A function of a script as a handler.

use std::sync::Arc;

use masterchief_contract::{Event, Future, Handler, HandlerError, HandlerResult};
use mlua::Function;
use tokio::sync::{mpsc, oneshot};

use super::script::Job;
use super::value::{Again, Fail, GiveUp};
use super::vm::Vm;

/// A function and where it stands.
pub(super) struct Entry {
    pub(super) function: Function,
    /// `deploy.lua:12`.
    pub(super) origin: Arc<str>,
}

/// Hands events to the script's own task.
pub(super) struct LuaHandler {
    entry: Arc<Entry>,
    jobs: Option<mpsc::Sender<Job>>,
    /// Of the script.
    version: Arc<str>,
}

impl LuaHandler {
    pub(super) fn new(vm: &Arc<Vm>, entry: Entry) -> LuaHandler {
        LuaHandler { entry: Arc::new(entry), jobs: vm.jobs.upgrade(), version: Arc::from(vm.version.as_str()) }
    }
}

impl Handler for LuaHandler {
    fn call(&self, event: Event) -> Future<HandlerResult> {
        let (answer, answered) = oneshot::channel();
        let job = Job::Call { entry: Arc::clone(&self.entry), event, answer };
        let jobs = self.jobs.clone();
        // Handed over here and now if there is room, so that calls begin in the order of events.
        let waiting = match jobs {
            None => Some(Err(gone())),
            Some(jobs) => match jobs.try_send(job) {
                Ok(()) => None,
                Err(mpsc::error::TrySendError::Full(job)) => Some(Ok((jobs, job))),
                Err(mpsc::error::TrySendError::Closed(_)) => Some(Err(gone())),
            },
        };
        Box::pin(async move {
            match waiting {
                None => {}
                Some(Ok((jobs, job))) => jobs.send(job).await.map_err(|_| gone())?,
                Some(Err(fault)) => return Err(fault),
            }
            answered.await.unwrap_or_else(|_| Err(gone()))
        })
    }

    fn origin(&self) -> String {
        self.entry.origin.to_string()
    }

    fn version(&self) -> String {
        self.version.to_string()
    }
}

fn gone() -> HandlerError {
    HandlerError::internal("the script has ended")
}

/// A script's failure: words for the person, what is to become of the event, or a fault for the operators.
pub(super) fn failure(fault: &mlua::Error) -> HandlerError {
    raised(fault).unwrap_or_else(|| HandlerError::internal(fault.to_string()))
}

/// What was raised on purpose.
fn raised(fault: &mlua::Error) -> Option<HandlerError> {
    match fault {
        mlua::Error::CallbackError { cause, .. } | mlua::Error::WithContext { cause, .. } => raised(cause),
        mlua::Error::ExternalError(inner) => {
            if let Some(Fail(words)) = inner.downcast_ref() {
                return Some(HandlerError::User(words.clone()));
            }
            if let Some(GiveUp(reason)) = inner.downcast_ref() {
                return Some(HandlerError::Dead(reason.clone()));
            }
            let Again { after, reason } = inner.downcast_ref()?;
            Some(HandlerError::Retry { after: *after, reason: reason.clone() })
        }
        _ => None,
    }
}
