//! A handler takes an event and gives an outcome, or one of two sorts of failure.

use std::error::Error as StdError;
use std::time::Duration;

use crate::Event;
use crate::action::Future;

/// What a handler gives back when nothing failed.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Outcome {
    /// Nothing to say.
    #[default]
    Nothing,
    /// Lines for where the event came from.
    Reply(Vec<String>),
    /// Eggdrop's 1: what it does is in the kind's [`crate::Returns`].
    Stop,
    /// As if this bind had not matched.
    Pass,
}

/// Why a handler failed.
#[derive(Debug, thiserror::Error)]
pub enum HandlerError {
    /// Words for the person; nothing is logged as a fault.
    #[error("{0}")]
    User(String),
    /// A fault for the operators; the person sees `error e-7F3K` and no more.
    #[error("{0}")]
    Internal(#[source] Box<dyn StdError + Send + Sync>),
    /// An event from the journal is to be tried again after this time, or after the bind's back-off. For other events
    /// as [`HandlerError::Internal`].
    #[error("{reason}")]
    Retry {
        /// When, if not after the bind's back-off.
        after: Option<Duration>,
        /// Why.
        reason: String,
    },
    /// An event from the journal can never be handled: it is a dead letter at once. For other events as
    /// [`HandlerError::Internal`].
    #[error("{0}")]
    Dead(String),
}

impl HandlerError {
    /// A fault for the operators from anything that prints.
    pub fn internal(fault: impl Into<Box<dyn StdError + Send + Sync>>) -> HandlerError {
        HandlerError::Internal(fault.into())
    }
}

/// A failure with words for the person: `return Err(user_error("no such app"))`.
pub fn user_error(text: impl Into<String>) -> HandlerError {
    HandlerError::User(text.into())
}

/// An outcome, or a failure.
pub type HandlerResult = Result<Outcome, HandlerError>;

/// Something that events are given to.
pub trait Handler: Send + Sync + 'static {
    /// Handles one event. The part before the first wait decides about [`Outcome::Stop`].
    fn call(&self, event: Event) -> Future<HandlerResult>;

    /// Who wrote it, for logs and `binds`: `deploy.lua:12`, or `rust`.
    fn origin(&self) -> String {
        "rust".to_owned()
    }

    /// Which version of it this is, for `!why`; empty where it is the program's.
    fn version(&self) -> String {
        String::new()
    }
}

impl<F, Fut, R> Handler for F
where
    F: Fn(Event) -> Fut + Send + Sync + 'static,
    Fut: std::future::Future<Output = R> + Send + 'static,
    R: IntoOutcome,
{
    fn call(&self, event: Event) -> Future<HandlerResult> {
        let answer = self(event);
        Box::pin(async move { answer.await.into_outcome() })
    }
}

/// What a Rust handler may return. The same meanings as in Lua.
#[diagnostic::on_unimplemented(
    message = "a handler cannot return `{Self}`",
    note = "return (), &str, String, Vec<String>, Outcome, an Option of these, or a Result of these with HandlerError"
)]
pub trait IntoOutcome {
    /// The outcome.
    fn into_outcome(self) -> HandlerResult;
}

impl IntoOutcome for () {
    fn into_outcome(self) -> HandlerResult {
        Ok(Outcome::Nothing)
    }
}

impl IntoOutcome for Outcome {
    fn into_outcome(self) -> HandlerResult {
        Ok(self)
    }
}

impl IntoOutcome for &str {
    fn into_outcome(self) -> HandlerResult {
        Ok(Outcome::Reply(vec![self.to_owned()]))
    }
}

impl IntoOutcome for String {
    fn into_outcome(self) -> HandlerResult {
        Ok(Outcome::Reply(vec![self]))
    }
}

impl IntoOutcome for Vec<String> {
    fn into_outcome(self) -> HandlerResult {
        Ok(Outcome::Reply(self))
    }
}

impl<T: IntoOutcome> IntoOutcome for Option<T> {
    fn into_outcome(self) -> HandlerResult {
        self.map_or(Ok(Outcome::Nothing), IntoOutcome::into_outcome)
    }
}

impl<T: IntoOutcome, E: Into<HandlerError>> IntoOutcome for Result<T, E> {
    fn into_outcome(self) -> HandlerResult {
        self.map_err(Into::into)?.into_outcome()
    }
}

impl From<std::io::Error> for HandlerError {
    fn from(fault: std::io::Error) -> HandlerError {
        HandlerError::internal(fault)
    }
}

impl From<Box<dyn StdError + Send + Sync>> for HandlerError {
    fn from(fault: Box<dyn StdError + Send + Sync>) -> HandlerError {
        HandlerError::Internal(fault)
    }
}

impl From<crate::Refused> for HandlerError {
    fn from(fault: crate::Refused) -> HandlerError {
        HandlerError::internal(fault)
    }
}
