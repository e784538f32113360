//! What a handler asks to be done. Nothing has a private way to a channel: all of it goes through an outlet.

use std::pin::Pin;
use std::sync::Arc;

use crate::{Actor, Cause, Mark, Receipt};

/// A boxed future that may be sent between threads.
pub type Future<T> = Pin<Box<dyn std::future::Future<Output = T> + Send>>;

/// How words are said.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum How {
    /// PRIVMSG.
    Say,
    /// NOTICE, which no well-behaved bot answers.
    Notice,
    /// A CTCP ACTION.
    Act,
}

/// Something to be done. An empty network means the only one there is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Action {
    /// Say words to a channel or a person. Line breaks make several lines; long lines are split.
    Say {
        /// The network's name in the configuration.
        network: String,
        /// A channel or a nick.
        target: String,
        /// The words.
        text: String,
        /// As a message, a notice or an action.
        how: How,
        /// Whether somebody waits for it. Who waits is served before who does not.
        reply: bool,
    },
    /// Join a channel and stay in it over reconnects.
    Join {
        /// The network's name in the configuration.
        network: String,
        /// The channel.
        channel: String,
        /// Its key.
        key: Option<String>,
    },
    /// Leave a channel and do not come back.
    Part {
        /// The network's name in the configuration.
        network: String,
        /// The channel.
        channel: String,
        /// Words for those who stay.
        reason: String,
    },
    /// Send any other command; the parameters are composed safely.
    Send {
        /// The network's name in the configuration.
        network: String,
        /// Letters only, such as `TOPIC`.
        command: String,
        /// Its parameters; only the last may hold blanks.
        params: Vec<String>,
    },
    /// The same with message tags for other clients, such as `+reply`. A network without tags leaves them out.
    Tagged {
        /// Names, which begin with `+`, and values.
        tags: Vec<(String, String)>,
        /// What is done.
        action: Box<Action>,
    },
    /// The same, with what is to be known of the words beside them.
    Marked {
        /// How urgent they are, how long they are worth saying, why they are said.
        mark: Mark,
        /// What is done.
        action: Box<Action>,
    },
    /// Answer whoever posted a webhook, where its route waits for that.
    Answer {
        /// The event's number.
        event: u64,
        /// The status of HTTP, 200 to 599.
        status: u16,
        /// The type of the body.
        content_type: String,
        /// The body.
        body: Vec<u8>,
    },
}

impl Action {
    /// The action itself and the tags around it.
    pub fn untagged(self) -> (Vec<(String, String)>, Action) {
        match self {
            Action::Tagged { mut tags, action } => {
                let (more, action) = action.untagged();
                tags.extend(more);
                (tags, action)
            }
            Action::Marked { action, .. } => action.untagged(),
            action => (Vec::new(), action),
        }
    }

    /// The action itself.
    pub fn bare(&self) -> &Action {
        match self {
            Action::Tagged { action, .. } | Action::Marked { action, .. } => action.bare(),
            action => action,
        }
    }

    /// What is to be known of the words; of two marks the inner one counts, which is nearer to whoever speaks.
    pub fn mark(&self) -> Mark {
        match self {
            Action::Tagged { action, .. } => action.mark(),
            Action::Marked { mark, action } => {
                let inner = action.mark();
                Mark {
                    class: inner.class.or(mark.class),
                    expires: inner.expires.or(mark.expires),
                    cause: inner.cause.or_else(|| mark.cause.clone()),
                    here: inner.here || mark.here,
                }
            }
            _ => Mark::default(),
        }
    }

    /// The same action with a mark around it.
    pub fn marked(self, mark: Mark) -> Action {
        Action::Marked { mark, action: Box::new(self) }
    }

    /// The same action, and why it is done.
    pub fn because(self, cause: Arc<Cause>) -> Action {
        self.marked(Mark { cause: Some(cause), ..Mark::default() })
    }
}

/// Why an action was not taken, with what to do next.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{message}")]
pub struct Refused {
    /// One sentence.
    pub message: String,
    /// What the server calls it (`404`, `401`, `EXPIRED`), where it was a server that refused.
    pub code: Option<Box<str>>,
}

impl Refused {
    /// A refusal with its reason.
    pub fn new(message: impl Into<String>) -> Refused {
        Refused { message: message.into(), code: None }
    }

    /// The same with the server's code for it.
    pub fn coded(self, code: &str) -> Refused {
        Refused { code: Some(Box::from(code)), ..self }
    }
}

/// Where actions go.
pub trait Outlet: Send + Sync + 'static {
    /// Takes an action. Ready once it is queued; it waits while the queue is full, which is the back-pressure.
    fn perform(&self, action: Action) -> Future<Result<(), Refused>>;

    /// Takes an action that says something, and waits until it is known what became of the words. What the server refuses is an
    /// error. An outlet that cannot know says so by a receipt without a line.
    fn deliver(&self, action: Action) -> Future<Result<Receipt, Refused>> {
        let taken = self.perform(action);
        Box::pin(async move { taken.await.map(|()| Receipt::default()) })
    }

    /// Who somebody of a network is at this moment: nobody where they are gone; as they were, where nobody can know.
    fn now(&self, network: &str, then: &Actor) -> Option<Actor> {
        let _ = network;
        Some(then.clone())
    }
}
