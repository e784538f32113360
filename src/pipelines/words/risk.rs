//! What is said of how likely a run is to fail.

use super::format::list;
use crate::pipelines::engine::Foretold;
use crate::pipelines::run::{Risk, Run};

/// From here on it is said why.
const HIGH: f64 = 0.3;

/// In the line that asks for a yes: ` Risk 12% (usual 9%).`; nothing where it could not be foretold so far.
pub(super) fn risk(run: &Run) -> String {
    run.risk.as_ref().filter(|risk| risk.useful).map(|risk| format!(" {}", told(risk))).unwrap_or_default()
}

fn told(risk: &Risk) -> String {
    let head = format!("Risk {} (usual {})", percent(risk.risk), percent(risk.usual));
    if risk.risk < HIGH && risk.risk < 2.0 * risk.usual || risk.reasons.is_empty() {
        return format!("{head}.");
    }
    let alike = match risk.alike {
        (_, 0) => String::new(),
        (failed, count) => format!(" {failed} of {count} such runs failed."),
    };
    format!("{head}: {}.{alike}", list(&risk.reasons, 3))
}

/// `!predict`: what is foretold, and how good that was so far.
pub fn predicted(told_of: &Foretold) -> Vec<String> {
    let (app, report) = (&told_of.app, &told_of.report);
    let Some(risk) = &told_of.risk else {
        return vec![format!("Risk: not enough history ({} runs of {app}, {} failed).", report.runs, report.failed)];
    };
    let head = match risk.useful {
        true => format!("{app} -> {}: {}", told_of.environment, told(risk)),
        false => format!(
            "Risk: no useful prediction for {app} (checked on {} runs); {} of {} failed.",
            report.count, report.failed, report.runs
        ),
    };
    let how = format!(
        "forecasts of the last {} runs of {app}: Brier {:.3} (a guess: {:.3}), {} right, off by {} on average",
        report.count,
        report.brier,
        report.guess,
        percent(report.accuracy),
        percent(report.calibration)
    );
    vec![head, how]
}

fn percent(share: f64) -> String {
    format!("{:.0}%", 100.0 * share)
}
