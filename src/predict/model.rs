//! The model: what each thing that is known weighs, learned run by run.

use super::history::PreRun;

/// How much one outcome moves the weights at first.
const RATE: f64 = 0.3;
/// How much weights shrink with each outcome.
const SHRINK: f64 = 0.002;
/// What the constant, the outcome before, the average that forgets and the longer one weigh before anything is learned.
const FIRST: [(usize, f64); 4] = [(0, -2.0), (1, 0.8), (3, 2.0), (4, 1.0)];
/// Reasons that are told.
const REASONS: usize = 3;
/// What weighs less is no reason.
const LEAST: f64 = 0.08;
/// What is known before a run, with the constant.
pub(super) const INPUTS: usize = 11;

/// What is foretold of a run.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Forecast {
    /// How likely it is to fail, 0 to 1.
    pub risk: f64,
    /// How many of the runs before it failed, 0 to 1.
    pub usual: f64,
    /// What speaks most for that, the strongest first, three at most.
    pub reasons: Vec<String>,
    /// Of the runs of which the like was foretold: how many failed, and how many there were.
    pub alike: (u32, u32),
}

/// The weights of a family of runs.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Model {
    weights: [f64; INPUTS],
    /// What moved each so far, squared.
    moved: [f64; INPUTS],
}

impl Default for Model {
    /// It begins with what holds nearly everywhere: most runs go well, and what was broken a moment ago most likely still is.
    fn default() -> Model {
        let mut weights = [0.0; INPUTS];
        FIRST.into_iter().for_each(|(at, weight)| weights[at] = weight);
        Model { weights, moved: [1e-3; INPUTS] }
    }
}

impl Model {
    pub(super) fn risk(&self, inputs: &[f64; INPUTS]) -> f64 {
        let sum: f64 = self.weights.iter().zip(inputs).map(|(weight, input)| weight * input).sum();
        1.0 / (1.0 + (-sum).exp())
    }

    /// Takes in how a run ended.
    pub(super) fn learn(&mut self, inputs: &[f64; INPUTS], failed: bool) {
        let fault = self.risk(inputs) - f64::from(u8::from(failed));
        for (at, input) in inputs.iter().enumerate() {
            let shrink = if at == 0 { 0.0 } else { SHRINK * self.weights[at] };
            let slope = fault * input + shrink;
            self.moved[at] += slope * slope;
            self.weights[at] -= RATE * slope / self.moved[at].sqrt();
        }
    }

    /// What speaks for a failure, in words, the strongest first.
    pub(super) fn reasons(&self, known: &PreRun) -> Vec<String> {
        let inputs = known.inputs();
        let mut parts: Vec<(f64, String)> = (1..INPUTS)
            .map(|at| (self.weights[at] * inputs[at], at))
            .filter(|(part, _)| *part >= LEAST)
            .filter_map(|(part, at)| Some((part, known.words(at)?)))
            .collect();
        parts.sort_by(|a, b| b.0.total_cmp(&a.0));
        let mut out: Vec<String> = Vec::new();
        for (_, words) in parts {
            if out.len() < REASONS && !out.contains(&words) {
                out.push(words);
            }
        }
        out
    }
}
