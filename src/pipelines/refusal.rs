//! Why something that was asked for was not done: words for people, and of which kind it is for programs.

use crate::store::runs::RunsError;

/// Of which kind a refusal is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Kind {
    /// Who asks may not.
    Denied,
    /// There is no such app, run or place.
    Unknown,
    /// It does not go with how things are: a run that is over, a lock, a freeze.
    Conflict,
    /// Not now; the same may be done in a while.
    Busy,
    /// What was asked for makes no sense, or something of it is missing.
    Wrong,
    /// The bot itself is in trouble.
    Broken,
}

/// Why it was not done.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refusal {
    /// Of which kind it is.
    pub kind: Kind,
    /// A sentence that says what to do.
    pub text: String,
}

impl Kind {
    /// Its name, as programs read it.
    pub fn name(self) -> &'static str {
        match self {
            Kind::Denied => "denied",
            Kind::Unknown => "unknown",
            Kind::Conflict => "conflict",
            Kind::Busy => "busy",
            Kind::Wrong => "wrong",
            Kind::Broken => "broken",
        }
    }
}

impl Refusal {
    /// Who asks may not.
    pub fn denied(text: impl Into<String>) -> Refusal {
        Refusal { kind: Kind::Denied, text: text.into() }
    }

    /// There is no such thing.
    pub fn unknown(text: impl Into<String>) -> Refusal {
        Refusal { kind: Kind::Unknown, text: text.into() }
    }

    /// It does not go with how things are.
    pub fn conflict(text: impl Into<String>) -> Refusal {
        Refusal { kind: Kind::Conflict, text: text.into() }
    }

    /// Not now.
    pub fn busy(text: impl Into<String>) -> Refusal {
        Refusal { kind: Kind::Busy, text: text.into() }
    }

    /// It makes no sense as it was asked.
    pub fn wrong(text: impl Into<String>) -> Refusal {
        Refusal { kind: Kind::Wrong, text: text.into() }
    }
}

impl std::fmt::Display for Refusal {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.text)
    }
}

impl std::error::Error for Refusal {}

/// What reads words says only what is wrong with them.
impl From<String> for Refusal {
    fn from(text: String) -> Refusal {
        Refusal::wrong(text)
    }
}

impl From<Refusal> for String {
    fn from(refusal: Refusal) -> String {
        refusal.text
    }
}

impl From<RunsError> for Refusal {
    fn from(fault: RunsError) -> Refusal {
        Refusal { kind: Kind::Broken, text: super::words::records_are_away(fault) }
    }
}
