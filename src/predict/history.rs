//! What is known of the runs of one app before another begins, and the learning from each that ends.

use std::collections::BTreeMap;

use super::model::{Forecast, INPUTS, Model};
use super::score::{Report, Scores};

/// Runs that have to have ended before anything is foretold.
const ENOUGH: usize = 30;
/// Runs that a person's own rate is worth as much as the usual one.
const OWN: f64 = 5.0;

/// What is known of a run before it begins. Only what had ended when it was asked for went into it.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct PreRun {
    /// The share of runs of the app that failed.
    usual: f64,
    /// Whether the last one in this place failed.
    last: bool,
    /// Failures in a row there.
    streak: u32,
    /// The share that failed there lately: an average that forgets.
    lately: f64,
    /// The same over a longer time, of the whole app.
    long: f64,
    /// Who asks, and how many of their runs here there were and failed.
    who: (String, u32, u32),
    /// Commits that go out.
    commits: u64,
    /// Files they change, where that is known.
    files: usize,
    /// What of them usually breaks things: `migrations`, `infra`, a lock file.
    touches: Option<&'static str>,
    /// Whether it is night or a weekend, in UTC.
    late: bool,
}

impl PreRun {
    pub(super) fn inputs(&self) -> [f64; INPUTS] {
        let (_, runs, failed) = &self.who;
        let own = (f64::from(*failed) + OWN * self.usual) / (f64::from(*runs) + OWN) - self.usual;
        let yes = |truth: bool| f64::from(u8::from(truth));
        [
            1.0,
            yes(self.last),
            f64::from(self.streak.min(5)) / 5.0,
            self.lately,
            self.long,
            2.0 * own,
            yes(*runs == 0),
            (1.0 + self.commits as f64).log2() / 6.0,
            (1.0 + self.files as f64).log2() / 8.0,
            yes(self.touches.is_some()),
            yes(self.late),
        ]
    }

    /// An input in words, if it speaks for itself.
    pub(super) fn words(&self, at: usize) -> Option<String> {
        let (who, runs, failed) = &self.who;
        let runs_failed = |count: u32| {
            if count == 1 {
                "the last run here failed".to_owned()
            } else {
                format!("the last {count} runs here failed")
            }
        };
        Some(match at {
            1 | 2 if self.streak > 0 => runs_failed(self.streak),
            3 if self.lately > 0.0 => format!("{:.0}% of the runs here failed lately", 100.0 * self.lately),
            4 if self.long > 0.0 => format!("{:.0}% of all runs of it failed", 100.0 * self.long),
            5 if *failed > 0 => format!("{failed} of {runs} runs by {who} failed"),
            6 if *runs == 0 => format!("first deploy by {who} here"),
            7 if self.commits > 0 => format!("{} commits", self.commits),
            8 if self.files > 0 => format!("{} files changed", self.files),
            9 => format!("touches {}", self.touches?),
            10 if self.late => "night or weekend".to_owned(),
            _ => return None,
        })
    }
}

/// How a run ended.
#[derive(Clone, Debug, PartialEq)]
pub struct Outcome {
    /// What had been known of it.
    pub known: PreRun,
    /// What had been foretold, 0 to 1.
    pub risk: f64,
    /// Where it went.
    pub env: String,
    /// Who had asked.
    pub who: String,
    /// Whether it failed.
    pub failed: bool,
}

/// A place of the app, or a person in it.
#[derive(Clone, Debug, Default, PartialEq)]
struct Place {
    last: bool,
    streak: u32,
    lately: Option<f64>,
}

/// The runs of one app: what they tell of the next.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct History {
    model: Model,
    scores: Scores,
    places: BTreeMap<String, Place>,
    people: BTreeMap<(String, String), (u32, u32)>,
    long: Option<f64>,
    runs: u32,
    failed: u32,
}

impl History {
    /// What is known of a run that is asked for now: where to, by whom, with so many commits that change these files.
    pub fn before(&self, (env, who): (&str, &str), commits: u64, files: Option<&[String]>, at: i64) -> PreRun {
        let usual = self.usual();
        let place = self.places.get(env).cloned().unwrap_or_default();
        let (runs, failed) = self.people.get(&(env.to_owned(), who.to_owned())).copied().unwrap_or_default();
        let hour = (at / 3_600_000).rem_euclid(24);
        // 1970-01-01 was a Thursday.
        let weekday = (at / 86_400_000 + 3).rem_euclid(7);
        PreRun {
            usual,
            last: place.last,
            streak: place.streak,
            lately: place.lately.unwrap_or(usual),
            long: self.long.unwrap_or(usual),
            who: (who.to_owned(), runs, failed),
            commits,
            files: files.map_or(0, <[String]>::len),
            touches: files.and_then(risky),
            late: weekday >= 5 || !(6..20).contains(&hour),
        }
    }

    /// What is foretold of it.
    pub fn foretell(&self, known: &PreRun) -> Forecast {
        let risk = self.model.risk(&known.inputs());
        let (reasons, alike) = (self.model.reasons(known), self.scores.alike(risk));
        Forecast { risk, usual: self.usual(), reasons, alike }
    }

    /// Takes in how a run ended: what was foretold of it is scored, then learned from.
    pub fn ended(&mut self, outcome: &Outcome) {
        let Outcome { known, risk, env, who, failed } = outcome;
        let place = self.places.entry(env.clone()).or_default();
        self.scores.add(*risk, known.usual, known.last, *failed);
        self.model.learn(&known.inputs(), *failed);
        let now = f64::from(u8::from(*failed));
        let forgets = |before: Option<f64>, share: f64| Some(before.unwrap_or(0.0) * (1.0 - share) + now * share);
        place.last = *failed;
        place.streak = if *failed { place.streak + 1 } else { 0 };
        place.lately = forgets(place.lately, 0.3);
        self.long = forgets(self.long, 0.1);
        let own = self.people.entry((env.clone(), who.clone())).or_default();
        *own = (own.0 + 1, own.1 + u32::from(*failed));
        self.runs += 1;
        self.failed += u32::from(*failed);
    }

    /// How well it foretold so far.
    pub fn report(&self) -> Report {
        self.scores.report(self.runs, self.failed)
    }

    /// Whether enough is known for a forecast.
    pub fn enough(&self) -> bool {
        self.runs as usize >= ENOUGH
    }

    fn usual(&self) -> f64 {
        if self.runs == 0 { 0.0 } else { f64::from(self.failed) / f64::from(self.runs) }
    }
}

/// What among changed files usually breaks things.
fn risky(files: &[String]) -> Option<&'static str> {
    const SIGNS: [(&str, &str); 6] = [
        ("migration", "migrations"),
        ("infra/", "infra"),
        ("terraform/", "infra"),
        (".tf", "infra"),
        ("Cargo.lock", "a lock file"),
        ("lock.json", "a lock file"),
    ];
    SIGNS.into_iter().find(|(sign, _)| files.iter().any(|file| file.contains(sign))).map(|(_, words)| words)
}

/// A run of the past, as it is replayed.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Past {
    /// Its number.
    pub run: i64,
    /// Where it went.
    pub env: String,
    /// Who asked.
    pub who: String,
    /// Commits that went out.
    pub commits: u64,
    /// Files they changed, where that is known.
    pub files: Option<Vec<String>>,
    /// When it was asked for.
    pub asked: i64,
    /// When it ended and whether it failed; nothing where it goes on, or was called off.
    pub ended: Option<(i64, bool)>,
}

/// Lives through what was, in the order in which it happened. Gives what is known of those runs that have not ended.
pub fn replay(past: &[Past]) -> (History, BTreeMap<i64, (PreRun, f64)>) {
    let mut moments: Vec<(i64, bool, &Past)> = Vec::new();
    for run in past {
        moments.push((run.asked, false, run));
        moments.extend(run.ended.map(|(at, _)| (at, true, run)));
    }
    // What ended at the very moment had ended before.
    moments.sort_by_key(|(at, ends, run)| (*at, !*ends, run.run));
    let (mut history, mut open) = (History::default(), BTreeMap::new());
    for (at, ends, run) in moments {
        if !ends {
            let known = history.before((&run.env, &run.who), run.commits, run.files.as_deref(), at);
            let risk = history.foretell(&known).risk;
            open.insert(run.run, (known, risk));
        } else if let (Some((known, risk)), Some((_, failed))) = (open.remove(&run.run), run.ended) {
            history.ended(&Outcome { known, risk, env: run.env.clone(), who: run.who.clone(), failed });
        }
    }
    (history, open)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Chance that is the same every time.
    struct Dice(u64);

    impl Dice {
        fn roll(&mut self) -> f64 {
            self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            (self.0 >> 11) as f64 / (1_u64 << 53) as f64
        }
    }

    /// Runs of a project that is well or broken for a while, or of one where all is chance.
    fn project(seed: u64, count: i64, sticky: bool) -> Vec<Past> {
        let mut dice = Dice(seed);
        let (mut broken, mut runs) = (false, Vec::new());
        for run in 0..count {
            if dice.roll() < 0.08 {
                broken = !broken;
            }
            let migrates = dice.roll() < 0.1;
            let chance =
                if !sticky { 0.3 } else { (if broken { 0.85_f64 } else { 0.08 }) + if migrates { 0.1 } else { 0.0 } };
            let asked = run * 7_200_000;
            let files = if migrates { vec!["db/migrations/7.sql".to_owned()] } else { Vec::new() };
            let past = Past {
                run,
                env: "prod".to_owned(),
                who: "ana".to_owned(),
                commits: 1 + (dice.roll() * 9.0) as u64,
                files: Some(files),
                asked,
                ended: Some((asked + 600_000, dice.roll() < chance)),
            };
            runs.push(past);
        }
        runs
    }

    /// What one would foretell who knows how such a project comes about, but sees no more of it than everybody does.
    fn at_best(runs: &[Past]) -> Vec<f64> {
        let mut broken = 0.0_f64;
        let told = |run: &Past| {
            broken = broken * 0.92 + (1.0 - broken) * 0.08;
            let more = if run.files.as_ref().is_some_and(|files| !files.is_empty()) { 0.1 } else { 0.0 };
            let (bad, good) = (0.85 + more, 0.08 + more);
            let risk = broken * bad + (1.0 - broken) * good;
            broken = if run.ended.unwrap().1 { broken * bad / risk } else { broken * (1.0 - bad) / (1.0 - risk) };
            risk
        };
        runs.iter().map(told).collect()
    }

    #[test]
    fn a_project_that_breaks_for_a_while_is_foretold_better_than_by_either_guess() {
        let runs = project(7, 600, true);
        let (history, open) = replay(&runs);
        let report = history.report();
        assert!(report.useful() && open.is_empty(), "{report:#?}");
        let told = at_best(&runs);
        let best = told[400..].iter().zip(&runs[400..]).map(|(told, run)| {
            let failed = f64::from(u8::from(run.ended.unwrap().1));
            (told - failed).powi(2)
        });
        let best = best.sum::<f64>() / 200.0;
        assert!(report.brier < best * 1.25, "at best {best}: {report:#?}");
        assert!(report.calibration < 0.15, "{report:#?}");
    }

    #[test]
    fn what_is_chance_alone_is_said_to_be_of_no_use_or_hardly_any() {
        let useful = (1..=10).filter(|seed| replay(&project(*seed, 400, false)).0.report().useful()).count();
        assert!(useful <= 3, "{useful} of 10 projects of pure chance are said to be foreseeable");
        for seed in 1..=10 {
            let report = replay(&project(seed, 400, false)).0.report();
            let skill = 1.0 - report.brier / report.guess;
            assert!(skill.abs() < 0.12, "{report:#?}");
        }
    }

    #[test]
    fn the_same_past_gives_the_same_forecast_to_the_last_bit_and_nothing_of_the_time_after_is_in_it() {
        let runs = project(3, 200, true);
        assert_eq!(replay(&runs).0, replay(&runs).0);
        // The last run is asked for before the one before it ends.
        let mut early = runs[..100].to_vec();
        early[99].asked = early[98].asked + 1;
        early[99].ended = None;
        let (_, open) = replay(&early);
        let mut other = early.clone();
        other[98].ended = other[98].ended.map(|(at, failed)| (at, !failed));
        assert_eq!(replay(&other).1, open, "how it ends is not known yet");
    }

    #[test]
    fn little_is_known_of_few_runs_and_reasons_are_what_speaks_for_a_failure() {
        let runs = project(5, 20, true);
        assert!(!replay(&runs).0.enough());
        let past: Vec<Past> = (0..120)
            .map(|run| Past {
                run,
                env: "prod".to_owned(),
                who: "ana".to_owned(),
                asked: run * 86_400_000,
                ended: Some((run * 86_400_000 + 1, run % 12 < 5)),
                ..Past::default()
            })
            .collect();
        let (history, _) = replay(&past[..113]);
        let files = vec!["db/migrations/1.sql".to_owned()];
        let known = history.before(("prod", "kim"), 0, Some(&files), 113 * 86_400_000);
        let forecast = history.foretell(&known);
        assert!(forecast.risk > forecast.usual, "{forecast:#?}");
        assert!(forecast.reasons[0].starts_with("the last 5 runs here failed"), "{forecast:#?}");
        assert!(forecast.reasons.len() <= 3);
    }
}
