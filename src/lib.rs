//! MasterChief: an Eggdrop-style ChatOps bot framework for IRC.
//!
//! The shape of the house is in ARCHITECTURE.md. The rooms below import only downward; `tests/floors.rs` holds it.

pub mod bot;
pub mod cli;
pub mod config;
pub mod dispatch;
pub mod executors;
pub mod gateway;
pub mod irc;
pub mod journal;
pub mod lua;
pub mod mesh;
pub mod partyline;
pub mod pipelines;
pub mod predict;
pub mod store;
pub mod users;
pub mod yaml;

pub use masterchief_contract as contract;
