//! How likely a deployment is to fail, foretold from what was known before it began. Pure: who asks brings the history.
//!
//! An online logistic model (AdaGrad, a little shrinking) learns from each run once it has ended. What it foretold is scored
//! against two simple guesses, the usual rate and the outcome before; where it is no better than these, it says so.

mod history;
mod model;
mod score;

pub use history::{History, Outcome, Past, PreRun, replay};
pub use model::Forecast;
pub use score::Report;
