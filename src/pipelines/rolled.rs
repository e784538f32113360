//! What came of runs by the hour and by the day, as it is told.

use chrono::DateTime;
use serde::Serialize;

use super::run::Millis;
use super::words;
use crate::store::runs::{RollupRow, Runs, RunsError, Span};

/// What came of the runs of a place that ended within an hour or a day.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Rolled {
    /// When that began.
    pub at: Millis,
    /// The app.
    pub app: String,
    /// The environment.
    pub environment: String,
    /// How many ended.
    pub ended: i64,
    /// How many of them went well.
    pub succeeded: i64,
    /// How many of them did not, or were undone.
    pub failed: i64,
    /// How many were called off.
    pub aborted: i64,
    /// The share of those that went well, of those that did or did not: 0 to 1.
    pub pass_rate: Option<f64>,
    /// How long one waited until it began, on average, in milliseconds.
    pub waited: Option<Millis>,
    /// How long one ran, on average, in milliseconds.
    pub ran: Option<Millis>,
}

impl Rolled {
    fn of(row: RollupRow) -> Rolled {
        let judged = row.succeeded + row.failed;
        let mean = |sum: i64| (row.began > 0).then(|| sum / row.began);
        Rolled {
            aborted: row.ended - judged,
            pass_rate: (judged > 0).then(|| row.succeeded as f64 / judged as f64),
            waited: mean(row.waited),
            ran: mean(row.ran),
            at: row.at,
            app: row.app,
            environment: row.env,
            ended: row.ended,
            succeeded: row.succeeded,
            failed: row.failed,
        }
    }

    /// The cells of a table whose head is [`Rolled::HEAD`].
    pub fn cells(&self) -> Vec<String> {
        let at = DateTime::from_timestamp_millis(self.at).unwrap_or_default().format("%F %H:%M");
        let time = |time: Option<Millis>| time.map_or("-".to_owned(), words::span);
        let rate = self.pass_rate.map_or("-".to_owned(), |rate| format!("{:.0}%", 100.0 * rate));
        let counts = [self.ended, self.succeeded, self.failed, self.aborted].map(|count| count.to_string());
        let mut out = vec![at.to_string(), format!("{}/{}", self.app, self.environment)];
        out.extend(counts);
        out.extend([rate, time(self.waited), time(self.ran)]);
        out
    }

    /// What the cells are.
    pub const HEAD: [&str; 9] = ["from", "place", "ended", "ok", "failed", "aborted", "pass", "waited", "ran"];
}

/// What came of runs since then, the newest first: of one app, or of all.
pub async fn rolled(runs: &Runs, span: Span, app: Option<&str>, since: Millis) -> Result<Vec<Rolled>, RunsError> {
    Ok(runs.rollups(span, app, since).await?.into_iter().map(Rolled::of).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_share_that_went_well_leaves_out_what_was_called_off() {
        let row =
            RollupRow { ended: 5, succeeded: 3, failed: 1, began: 4, waited: 8000, ran: 240_000, ..Default::default() };
        let told = Rolled::of(row);
        assert_eq!((told.aborted, told.pass_rate, told.waited), (1, Some(0.75), Some(2000)));
        assert_eq!(told.cells()[2..], ["5", "3", "1", "1", "75%", "2s", "1m"]);
        assert_eq!(Rolled::of(RollupRow::default()).cells()[6..], ["-", "-", "-"]);
    }
}
