//! Pipelines: what a file says, what a run does, who may what. The engine is pure; [`Pipelines`] is the handle that drives it.

mod announce;
mod calendar;
mod catalog;
mod collect;
mod drive;
mod engine;
mod expr;
mod figures;
mod file;
mod format;
mod graph;
mod handle;
mod kinds;
mod model;
mod pools;
mod prepare;
mod request;
mod run;
mod settings;
mod state;
mod steps;
mod template;
mod window;
pub mod words;

pub use catalog::Catalog;
pub use engine::{Answer, Ask, Asked, May, News, Prepared, Reply};
pub use figures::advice;
pub use handle::{Opening, Pipelines, Places, Present, chosen, verify_incidents};
pub use kinds::{KIND, KINDS};
pub use model::{Pipeline, Stage, Trigger};
pub use request::{DeployWords, typed};
pub use run::{Asker, Millis, Run, StageRun};
pub use settings::Settings;
pub use state::{RunState, StageState};
pub use steps::step_folder;
pub use template::fill_all;
