//! How a link begins, as two machines that read lines and say what to do: the one who calls, and the one who answers.
//! They do no input and output.
//!
//! The password never crosses the wire: who answers gives a challenge, who calls gives the MD5 of challenge and password, as
//! every Eggdrop since 1.3 does. A peer that asks for the password itself gets nothing.

mod answerer;
mod caller;

use masterchief_contract::Secret;
use md5::{Digest, Md5};

use super::name::{BotName, HANDLE_MAX};

pub use answerer::{Answerer, Known};
pub use caller::Caller;

/// The version we say we are: Eggdrop 1.8.4, with an end that no Eggdrop has, so that we know each other across the net. Below
/// 1.2.99 a peer would speak the old dialect.
pub const NUMBER: u32 = 1_080_499;
/// The oldest that speaks short lines.
const OLDEST: u32 = 1_029_900;
/// The shortest handles there are, those of Eggdrop 1.6.
const HANDLE_MIN: u32 = 9;
/// What our banner and version hold, so that we know each other.
pub const MARK: &str = "MasterChief";

/// What to do next.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Step {
    /// Write this, line breaks included.
    Send(String),
    /// Begin TLS, as the client; nothing may have been read beyond the last line.
    BeginTls,
    /// Begin TLS, as the server.
    AcceptTls,
    /// Somebody says who they are: tell what is known of them with [`Answerer::known`].
    WhoIs(BotName),
    /// The other side has made a password for this link.
    Learn(Secret),
    /// We have made a password for this link.
    Made(Secret),
    /// The link is up.
    Up(PeerVersion),
    /// It is over.
    Fail(LoginFault),
}

/// What the other side is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PeerVersion {
    /// As a number: 1080404 is 1.8.4.4.
    pub number: u32,
    /// The longest handle it takes, in bytes.
    pub handlen: u32,
    /// In words.
    pub about: String,
}

impl PeerVersion {
    /// Whether it is one of us.
    pub fn is_ours(&self) -> bool {
        self.about.starts_with(MARK)
    }

    /// Reads what stands behind `version `.
    fn parse(text: &str) -> Option<PeerVersion> {
        let mut words = text.splitn(3, ' ');
        let number = words.next()?.parse().ok()?;
        let handlen = words.next()?.parse().ok()?;
        Some(PeerVersion { number, handlen, about: words.next().unwrap_or("").to_owned() })
    }

    /// Whether we can speak with it, when we have said that our handles have `said` bytes.
    fn check(&self, said: Option<u32>) -> Result<(), LoginFault> {
        if self.number < OLDEST {
            return Err(LoginFault::TooOld(self.number));
        }
        let good = match said {
            Some(said) => self.handlen == said,
            None => (HANDLE_MIN..=HANDLE_MAX as u32).contains(&self.handlen),
        };
        if good { Ok(()) } else { Err(LoginFault::HandleLength { theirs: self.handlen }) }
    }
}

/// Why there is no link.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum LoginFault {
    /// It asks for the password itself.
    #[error(
        "the other side asks for the password without a challenge and got nothing; is that an Eggdrop older than 1.3, or somebody else?"
    )]
    NoChallenge,
    /// The line is in clear and must not be.
    #[error("this link is not encrypted; use its TLS port, or say `insecure: true` for this bot")]
    NotEncrypted,
    /// Our password is not its password.
    #[error("the password is wrong; set the same one on both sides, or forget it on both and link anew")]
    BadPassword,
    /// It has a password for us, and we have none.
    #[error("the other side has a password for us and we have none for it; set it, or let them forget theirs")]
    NoPassword,
    /// It does not know us.
    #[error("the other side does not know us; add this bot there")]
    NoAccess,
    /// It says goodbye, with its words.
    #[error("the other side refuses: {0}")]
    Refused(String),
    /// A version that speaks another dialect.
    #[error("version {0} speaks a dialect that is not spoken here; 1.3 is the oldest")]
    TooOld(u32),
    /// Handles of another length.
    #[error("its handles have {theirs} bytes, which cannot be agreed on; {HANDLE_MIN} to {HANDLE_MAX} can")]
    HandleLength {
        /// What it said.
        theirs: u32,
    },
    /// Somebody we have no record of.
    #[error("{0} is no bot that is known here")]
    Stranger(String),
    /// Our own name.
    #[error("somebody calls with our own name")]
    OurName,
    /// A line where another belongs.
    #[error("{0:?} is not what belongs here")]
    Unexpected(String),
    /// There is a link with it.
    #[error("it is linked already")]
    Duplicate,
    /// No password, and none may be made.
    #[error("{0} has no password here; set one, or allow a first link with `first_link: true`")]
    NotPaired(String),
    /// It may not link.
    #[error("{0} is rejected here")]
    Rejected(String),
}

/// What a challenge is answered with: MD5 over challenge and password, in hex.
pub fn digest(challenge: &str, password: &Secret) -> String {
    let sum = Md5::new().chain_update(challenge).chain_update(password.reveal()).finalize();
    sum.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// The line that says what we are.
fn version_line(handlen: u32, about: &str) -> String {
    format!("version {NUMBER} {handlen} {about}\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_digest_is_the_one_that_a_real_eggdrop_sent() {
        let password = Secret::new("d32h39adg34qqc9");
        assert_eq!(digest("<53a36b00f451@HubBot>", &password), "2798b8f10c0584cdfca45b0163f00fc6");
    }
}
