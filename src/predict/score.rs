//! How good forecasts were, beside two guesses that cost nothing: the usual rate, and that it goes as it did before.

use std::collections::VecDeque;

/// So many of the newest forecasts count.
const WINDOW: usize = 200;
/// With fewer nobody can tell whether they are of use.
const FEW: usize = 30;
/// A forecast that counts as saying that it fails.
const HALF: f64 = 0.5;
/// Parts into which forecasts are sorted, to see whether so many failed as was foretold.
const BINS: usize = 10;

/// How well an app's runs were foretold.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Report {
    /// Runs that ended.
    pub runs: u32,
    /// Those that failed.
    pub failed: u32,
    /// Forecasts that count: the newest two hundred.
    pub count: usize,
    /// The mean squared fault: 0 is perfect.
    pub brier: f64,
    /// That of the better one of the two guesses.
    pub guess: f64,
    /// The share that was right, if more than a half counts as a failure foretold.
    pub accuracy: f64,
    /// How far what was foretold is from what came, on average: expected calibration error.
    pub calibration: f64,
}

impl Report {
    /// Whether forecasts are better than the guesses.
    pub fn useful(&self) -> bool {
        self.count >= FEW && self.brier < self.guess
    }
}

/// A forecast, and what came.
#[derive(Clone, Debug, PartialEq)]
struct Told {
    risk: f64,
    /// The usual rate at that time.
    usual: f64,
    /// Whether the one before had failed: 0 or 1.
    last: f64,
    /// Whether it failed: 0 or 1.
    failed: f64,
}

/// The newest forecasts and what came.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct Scores {
    newest: VecDeque<Told>,
}

impl Scores {
    pub(super) fn add(&mut self, risk: f64, usual: f64, last: bool, failed: bool) {
        if self.newest.len() == WINDOW {
            self.newest.pop_front();
        }
        let came = |truth: bool| f64::from(u8::from(truth));
        self.newest.push_back(Told { risk, usual, last: came(last), failed: came(failed) });
    }

    /// Of the forecasts like this one, within the same tenth: how many failed, and how many there were.
    pub(super) fn alike(&self, risk: f64) -> (u32, u32) {
        let same = self.newest.iter().filter(|told| bin(told.risk) == bin(risk));
        same.fold((0, 0), |(failed, count), told| (failed + u32::from(told.failed > HALF), count + 1))
    }

    pub(super) fn report(&self, runs: u32, failed: u32) -> Report {
        let count = self.newest.len();
        let mean = |of: fn(&Told) -> f64| self.newest.iter().map(of).sum::<f64>() / count.max(1) as f64;
        let mut bins = [(0.0, 0.0); BINS];
        for told in &self.newest {
            let (foretold, came) = &mut bins[bin(told.risk)];
            (*foretold, *came) = (*foretold + told.risk, *came + told.failed);
        }
        let usual = mean(|told| (told.usual - told.failed).powi(2));
        let before = mean(|told| (told.last - told.failed).powi(2));
        Report {
            runs,
            failed,
            count,
            brier: mean(|told| (told.risk - told.failed).powi(2)),
            guess: usual.min(before),
            accuracy: mean(|told| f64::from(u8::from((told.risk > HALF) == (told.failed > HALF)))),
            calibration: bins.iter().map(|(told, came): &(f64, f64)| (told - came).abs()).sum::<f64>()
                / count.max(1) as f64,
        }
    }
}

fn bin(risk: f64) -> usize {
    ((risk * BINS as f64) as usize).min(BINS - 1)
}
