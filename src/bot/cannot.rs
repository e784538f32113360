//! Why a bot does not start.

use std::path::PathBuf;

use super::people::PeopleError;
use super::policy::Broken;
use crate::dispatch::BindFault;
use crate::gateway::GatewayError;
use crate::irc::StsFault;
use crate::journal::JournalError;
use crate::lua::LoadError;
use crate::mesh::MeshFault;
use crate::partyline::PartylineError;
use crate::store::StoreError;
use crate::store::runs::RunsError;
use crate::users::FlagFault;

/// Why a bot does not start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// The records cannot be opened.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The data folder cannot be used.
    #[error("the data folder {}: {reason}", folder.display())]
    Data {
        /// Which.
        folder: PathBuf,
        /// Why.
        reason: String,
    },
    /// The users cannot be read.
    #[error(transparent)]
    People(#[from] PeopleError),
    /// A role or the hostmask flags are wrong.
    #[error("users.{key}, {fault}")]
    Flags {
        /// The key in the configuration.
        key: String,
        /// What is wrong.
        fault: FlagFault,
    },
    /// The table of who may what does not hold.
    #[error(transparent)]
    Policy(#[from] Broken),
    /// A bind of the bot's own.
    #[error(transparent)]
    Bind(#[from] BindFault),
    /// The journal cannot be opened.
    #[error(transparent)]
    Journal(#[from] JournalError),
    /// The records of runs cannot be opened.
    #[error(transparent)]
    Runs(#[from] RunsError),
    /// It cannot be read which servers demand TLS.
    #[error(transparent)]
    Sts(#[from] StsFault),
    /// The gateway's port cannot be opened.
    #[error(transparent)]
    Gateway(#[from] GatewayError),
    /// The partyline's port cannot be opened.
    #[error(transparent)]
    Partyline(#[from] PartylineError),
    /// The mesh cannot be opened.
    #[error(transparent)]
    Mesh(#[from] MeshFault),
    /// People cannot be shared.
    #[error("mesh.bots: {0}")]
    Shared(String),
    /// A script that a test needs.
    #[error(transparent)]
    Script(#[from] LoadError),
    /// A network that a test needs.
    #[error("network {network}: {reason}")]
    Network {
        /// Which.
        network: String,
        /// What happened.
        reason: String,
    },
}
