//! Luau scripts: each its own VM on its own thread, under limits, reloaded as a whole.

mod api;
mod asks;
mod called;
mod event;
mod handler;
mod limits;
mod script;
mod services;
mod settings;
mod testing;
mod value;
mod vm;

pub use asks::{Asks, Why};
pub use called::called;
pub use script::{LoadError, Placement, Script, ScriptStatus};
pub use services::{Guard, ScriptSettings, Services, World};
pub use settings::Settings;
pub use testing::{Bench, CaseResult, Deed, Person, TestBench, run_file};
