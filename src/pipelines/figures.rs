//! What many runs tell together.

use super::drive::medians;
use super::model::Pipeline;
use super::run::{Millis, Run, RunKind};
use super::state::RunState;
use super::words;
use serde::Serialize;
use std::collections::{BTreeMap, HashMap};

/// What would make a pipeline faster, by how long its stages took.
pub fn advice(pipeline: &Pipeline, times: Vec<(String, i64)>) -> Vec<String> {
    let times = medians(times);
    let of = |name: &str| {
        let prefix = format!("{name}[");
        times
            .iter()
            .filter(|(known, _)| *known == name || known.starts_with(&prefix))
            .map(|(_, time)| *time)
            .fold(0.0, f64::max)
    };
    let all: Vec<f64> = pipeline.stages.iter().map(|stage| of(&stage.name)).collect();
    let (path, total) = pipeline.graph.critical(&all);
    if total == 0.0 {
        return vec![format!("{} has not run yet, so there is nothing to go by", pipeline.app)];
    }
    let names: Vec<&str> = path.iter().map(|at| pipeline.stages[*at].name.as_str()).collect();
    let mut out = vec![format!("the critical path is {} ({})", names.join(" > "), words::span(total as Millis))];
    if let Some(longest) = path.iter().max_by(|a, b| all[**a].total_cmp(&all[**b])) {
        let stage = &pipeline.stages[*longest];
        out.push(format!(
            "{} takes the most of it: {} of {}",
            stage.name,
            words::span(all[*longest] as Millis),
            words::span(total as Millis)
        ));
    }
    for pair in path.windows(2) {
        let (before, after) = (&pipeline.stages[pair[0]], &pipeline.stages[pair[1]]);
        let asks =
            after.actions.iter().any(|action| action.settings.to_string().contains(&format!("{{{}.", before.name)));
        if !asks && after.when.is_none() && before.gate.is_none() {
            out.push(format!(
                "{} uses nothing that {} gives; if it may run beside it, take it out of its `needs`",
                after.name, before.name
            ));
        }
    }
    out
}

/// How long something took, over what is known of it. In milliseconds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Times {
    /// How often.
    pub count: usize,
    /// Half of them took no longer.
    pub p50: Millis,
    /// Nineteen of twenty took no longer.
    pub p95: Millis,
    /// The newest.
    pub last: Millis,
}

impl Times {
    /// Of times with the newest first.
    fn of(times: &[Millis]) -> Option<Times> {
        let last = *times.first()?;
        let mut sorted = times.to_vec();
        sorted.sort_unstable();
        // The smallest that so many are not above.
        let at = |percent: usize| sorted[(sorted.len() * percent).div_ceil(100).max(1) - 1];
        Some(Times { count: sorted.len(), p50: at(50), p95: at(95), last })
    }
}

impl std::fmt::Display for Times {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let [p50, p95, last] = [self.p50, self.p95, self.last].map(words::span);
        write!(f, "p50 {p50}, p95 {p95}, last {last} ({} times)", self.count)
    }
}

/// How long a stage takes once it has begun, and how long it waits for its turn before that.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct StageTimes {
    /// From its beginning to its end.
    #[serde(flatten)]
    pub ran: Times,
    /// From the end of what it needs to its beginning: for slots, processors, memory.
    pub waited: Option<Times>,
}

impl std::fmt::Display for StageTimes {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}", self.ran)?;
        match self.waited.filter(|waited| waited.p95 >= 1000) {
            Some(Times { p50, p95, last, .. }) => {
                let [p50, p95, last] = [p50, p95, last].map(words::span);
                write!(f, "; waited for its turn: p50 {p50}, p95 {p95}, last {last}")
            }
            None => write!(f, "; it does not wait"),
        }
    }
}

/// How long the stages of an app take, how long its runs do, and how long they wait for their turn before that.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Stats {
    /// The stages that went well, by name.
    pub stages: BTreeMap<String, StageTimes>,
    /// From the moment a run may begin until it does.
    pub waited: Option<Times>,
    /// From there to its end.
    pub ran: Option<Times>,
}

/// How long things take: of stages by name and time, how long they waited by name, and of runs, the newest first.
pub fn stats(times: Vec<(String, i64)>, waits: Vec<(String, i64)>, runs: &[Run]) -> Stats {
    let by_name = |rows: Vec<(String, i64)>| {
        let mut out: BTreeMap<String, Vec<Millis>> = BTreeMap::new();
        rows.into_iter().for_each(|(name, time)| out.entry(name).or_default().push(time));
        out
    };
    let (stages, waits) = (by_name(times), by_name(waits));
    let of = |name: &str, times: &[Millis]| {
        Some(StageTimes { ran: Times::of(times)?, waited: waits.get(name).and_then(|times| Times::of(times)) })
    };
    let began: Vec<&Run> = runs.iter().filter(|run| run.started.is_some()).collect();
    let waited = |run: &&Run| Some((run.started? - run.queued.unwrap_or(run.created)).max(0));
    let ran = |run: &&Run| Some((run.finished? - run.started?).max(0));
    Stats {
        stages: stages.iter().filter_map(|(name, times)| Some((name.clone(), of(name, times)?))).collect(),
        waited: Times::of(&began.iter().filter_map(waited).collect::<Vec<_>>()),
        ran: Times::of(&began.iter().filter_map(ran).collect::<Vec<_>>()),
    }
}

/// How good a figure is, by the bands of the report of 2021.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Band {
    /// As the best.
    Elite,
    /// Better than most.
    High,
    /// As many.
    Medium,
    /// The rest.
    Low,
}

impl Band {
    /// The first band whose bound holds.
    fn of(holds: [bool; 3]) -> Band {
        match holds {
            [true, ..] => Band::Elite,
            [_, true, _] => Band::High,
            [.., true] => Band::Medium,
            _ => Band::Low,
        }
    }

    fn name(self) -> &'static str {
        match self {
            Band::Elite => "elite",
            Band::High => "high",
            Band::Medium => "medium",
            Band::Low => "low",
        }
    }
}

/// How often and how well an app is deployed. Times are medians in milliseconds; a figure that nothing tells of is `None`.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Dora {
    /// The app.
    pub app: String,
    /// Over so many days.
    pub days: f64,
    /// Deployments that went well.
    pub good: usize,
    /// Deployments that did not, or were undone.
    pub bad: usize,
    /// Those that went well, a day.
    pub per_day: f64,
    /// From the first commit that goes out, or from the request where no commit is known, until it is live.
    pub lead: Option<Millis>,
    /// The share of deployments that failed or were undone, 0 to 1.
    pub failure_rate: f64,
    /// From the end of what failed until the next that went well in the same place.
    pub restore: Option<Millis>,
    /// How long runs that went well took.
    pub build: Option<Millis>,
    /// The share of deployments that began and went well, 0 to 1; those that were called off count as well.
    pub pass_rate: Option<f64>,
    /// How good these are: frequency, lead time, change failure rate, time to restore.
    pub bands: [Option<Band>; 4],
}

impl std::fmt::Display for Dora {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        if self.good + self.bad == 0 {
            return write!(f, "{}: no deployment in {}", self.app, words::span((self.days * DAY as f64) as Millis));
        }
        let band = |at: usize| self.bands[at].map(|band| format!(" ({})", band.name())).unwrap_or_default();
        let time = |time: Option<Millis>| time.map_or("-".to_owned(), words::span);
        write!(
            f,
            "{}, {} days: {:.1} deployments a day{} ({} ok, {} failed), lead time {}{}, change failure rate {:.0}%{}, time to restore {}{}, build time {}",
            self.app,
            self.days.round(),
            self.per_day,
            band(0),
            self.good,
            self.bad,
            time(self.lead),
            band(1),
            100.0 * self.failure_rate,
            band(2),
            time(self.restore),
            band(3),
            time(self.build)
        )
    }
}

const HOUR: Millis = 3_600_000;
const DAY: Millis = 24 * HOUR;

/// The four figures, of runs with the newest first.
pub(super) fn dora(app: &str, runs: &[Run], since: Millis, now: Millis) -> Dora {
    let days = ((now - since) as f64 / DAY as f64).max(1.0);
    let deploys: Vec<&Run> =
        runs.iter().filter(|run| run.kind == RunKind::Deploy && run.started.is_some() && run.state.ended()).collect();
    let good: Vec<&Run> = deploys.iter().copied().filter(|run| run.state == RunState::Succeeded).collect();
    let bad = deploys.iter().filter(|run| missed(run)).count();
    let lead = median(good.iter().filter_map(|run| Some(run.finished? - first_commit(run).unwrap_or(run.created))));
    let build = median(good.iter().filter_map(|run| Some(run.finished? - run.started?)));
    let restore = median(restores(runs).into_iter());
    let per_day = good.len() as f64 / days;
    let failure_rate = bad as f64 / (good.len() + bad).max(1) as f64;
    let any = good.len() + bad > 0;
    let pass_rate = (!deploys.is_empty()).then(|| good.len() as f64 / deploys.len() as f64);
    let bands = [
        any.then(|| Band::of([per_day >= 1.0, per_day >= 1.0 / 30.0, per_day >= 1.0 / 182.0])),
        lead.map(|lead| Band::of([lead < HOUR, lead < 7 * DAY, lead < 182 * DAY])),
        any.then(|| Band::of([failure_rate <= 0.15, failure_rate <= 0.20, failure_rate <= 0.30])),
        restore.map(|time| Band::of([time < HOUR, time < DAY, time < 7 * DAY])),
    ];
    Dora {
        app: app.to_owned(),
        days,
        good: good.len(),
        bad,
        per_day,
        lead,
        failure_rate,
        restore,
        build,
        pass_rate,
        bands,
    }
}

fn missed(run: &Run) -> bool {
    matches!(run.state, RunState::Failed | RunState::TimedOut | RunState::RolledBack | RunState::RollbackFailed)
}

/// When the oldest commit that goes out with a run was made.
fn first_commit(run: &Run) -> Option<Millis> {
    // A clock that was wrong must not make a lead time negative.
    run.first_commit.filter(|at| *at <= run.created)
}

/// How long places were broken: each failure is over with the next good run of the same place, the newest first.
fn restores(runs: &[Run]) -> Vec<Millis> {
    let mut good: HashMap<String, Millis> = HashMap::new();
    let mut out = Vec::new();
    for run in runs {
        let Some(finished) = run.finished else { continue };
        if run.state == RunState::Succeeded {
            good.insert(run.place(), finished);
        } else if missed(run)
            && let Some(to) = good.get(&run.place())
        {
            out.push((to - finished).max(0));
        }
    }
    out
}

fn median(times: impl Iterator<Item = Millis>) -> Option<Millis> {
    let mut times: Vec<Millis> = times.collect();
    times.sort_unstable();
    times.get(times.len() / 2).copied()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A run that was asked for at this minute, took ten, and ended so; what went out was committed so long before.
    fn run(number: i64, minute: Millis, state: RunState, committed: Option<Millis>) -> Run {
        let created = minute * 60_000;
        Run {
            number,
            app: "shop".to_owned(),
            env: "prod".to_owned(),
            state,
            created,
            started: Some(created),
            finished: Some(created + 600_000),
            first_commit: committed.map(|before| created - before),
            ..Run::default()
        }
    }

    #[test]
    fn the_four_figures_are_those_of_the_rows_and_each_has_its_band() {
        use RunState::{Cancelled, Failed, RolledBack, Succeeded};
        let day = 24 * 60;
        // Two good ones and a bad one a day for two days; the newest first.
        let runs = vec![
            run(6, 2 * day, Cancelled, None),
            run(5, day + 200, Succeeded, Some(5 * HOUR)),
            run(4, day + 100, RolledBack, Some(HOUR)),
            run(3, day, Succeeded, Some(3 * HOUR)),
            run(2, 90, Succeeded, Some(2 * HOUR)),
            run(1, 60, Failed, None),
        ];
        let told = dora("shop", &runs, 0, 2 * DAY);
        assert_eq!((told.good, told.bad, told.per_day), (3, 2, 1.5));
        assert_eq!(told.lead, Some(3 * HOUR + 600_000), "from the first commit, not from the request");
        assert_eq!(told.restore, Some(100 * 60_000), "the longer one of 30 and 100 minutes");
        assert_eq!((told.build, told.failure_rate, told.pass_rate), (Some(600_000), 0.4, Some(0.5)));
        let bands = [Band::Elite, Band::High, Band::Low, Band::High];
        assert_eq!(told.bands, bands.map(Some));
        let line = told.to_string();
        assert_eq!(
            line,
            "shop, 2 days: 1.5 deployments a day (elite) (3 ok, 2 failed), lead time 3h10m (high), change failure rate 40% (low), time to restore 1h40m (high), build time 10m"
        );
    }

    #[test]
    fn stages_and_waiting_have_a_middle_and_an_end_apart_from_each_other() {
        let mut newest = run(2, 100, RunState::Succeeded, None);
        newest.queued = Some(newest.created - 40_000);
        let times = (1..=100).map(|n| ("test".to_owned(), n * 1000)).chain([("build".to_owned(), 5)]).collect();
        let waits = vec![("test".to_owned(), 7000), ("test".to_owned(), 3000)];
        let told = stats(times, waits, &[newest, run(1, 0, RunState::Failed, None), Run::default()]);
        assert_eq!(told.stages["test"].ran, Times { count: 100, p50: 50_000, p95: 95_000, last: 1000 });
        assert_eq!(told.stages["test"].waited, Some(Times { count: 2, p50: 3000, p95: 7000, last: 7000 }));
        let build = Times { count: 1, p50: 5, p95: 5, last: 5 };
        assert_eq!(told.stages["build"], StageTimes { ran: build, waited: None });
        assert!(
            told.stages["test"].to_string().ends_with("; waited for its turn: p50 3s, p95 7s, last 7s"),
            "{}",
            told.stages["test"]
        );
        assert_eq!(told.waited, Some(Times { count: 2, p50: 0, p95: 40_000, last: 40_000 }));
        assert_eq!(told.ran.map(|ran| ran.p50), Some(600_000));
        assert_eq!(stats(Vec::new(), Vec::new(), &[]), Stats::default());
    }

    #[test]
    fn what_nothing_tells_of_has_no_figure_and_a_request_without_commits_counts_from_the_request() {
        assert_eq!(dora("shop", &[], 0, 3 * DAY).to_string(), "shop: no deployment in 3d");
        let told = dora("shop", &[run(1, 0, RunState::Succeeded, None)], 0, 10 * DAY);
        assert_eq!((told.lead, told.restore, told.bands[3]), (Some(600_000), None, None));
        assert_eq!(told.bands[0], Some(Band::High));
    }
}
