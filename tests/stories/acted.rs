//! The work of stages, acted on a clock that costs no time.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use chrono::{DateTime, Utc};
use masterchief::contract::{Clock, Future};
use masterchief::executors::{Class, End, Executor, Failure, Hands, Step};
use serde_json::Value;

/// Until when each stage that is under way takes its time, on a clock that moves by hand.
type UnderWay = Arc<Mutex<BTreeMap<(u64, String), DateTime<Utc>>>>;

/// Acts the work of a stage: `{takes: 2m, summary: …, outputs: {…}, fails: N, class: …, line: …, world: […], tells: […]}`. The first N
/// attempts fail; `takes` may be a list, by attempts, and `silent` is how long nothing is told of it. What was done is remembered.
#[derive(Clone, Default)]
pub(crate) struct Acted {
    done: Arc<Mutex<Vec<String>>>,
    /// The clock by which it takes its time, if that is not tokio's.
    clock: Option<Clock>,
    under_way: UnderWay,
    /// How many stages are at work, and the most that ever were at once.
    at_once: Arc<Mutex<(usize, usize)>>,
}

/// One is at work as long as this lives.
struct AtWork(Arc<Mutex<(usize, usize)>>);

impl AtWork {
    fn begins(count: &Arc<Mutex<(usize, usize)>>) -> AtWork {
        let mut now = count.lock().unwrap();
        now.0 += 1;
        now.1 = now.1.max(now.0);
        AtWork(Arc::clone(count))
    }
}

impl Drop for AtWork {
    fn drop(&mut self) {
        self.0.lock().unwrap().0 -= 1;
    }
}

impl Acted {
    /// The most stages that were at work at once.
    pub(crate) fn most_at_once(&self) -> usize {
        self.at_once.lock().unwrap().1
    }

    /// Work that takes its time on a clock that moves by hand.
    pub(crate) fn on(clock: &Clock) -> Acted {
        Acted { clock: Some(clock.clone()), ..Acted::default() }
    }

    pub(crate) fn done(&self) -> Vec<String> {
        self.done.lock().unwrap().clone()
    }

    /// Whether a stage of a run waits for its clock to be put on.
    pub(crate) fn takes_its_time(&self, run: i64, stage: &str) -> bool {
        let key = (run.unsigned_abs(), stage.to_owned());
        let due = self.under_way.lock().unwrap().get(&key).copied();
        due.is_some_and(|due| self.clock.as_ref().is_some_and(|clock| clock.now() < due))
    }

    /// When the next of what is under way has taken its time.
    pub(crate) fn next(&self) -> Option<DateTime<Utc>> {
        self.under_way.lock().unwrap().values().min().copied()
    }

    /// Takes its time; whether it was told to stop.
    async fn waits(&self, step: &Step, hands: &Hands, time: Duration) -> bool {
        let Some(clock) = &self.clock else { return hands.pause(time).await };
        let (due, key) = (clock.now() + time, (step.run, step.stage.clone()));
        self.under_way.lock().unwrap().insert(key.clone(), due);
        let mut stopped = false;
        while !stopped && clock.now() < due {
            stopped = hands.pause(Duration::from_millis(2)).await;
        }
        self.under_way.lock().unwrap().remove(&key);
        stopped
    }

    fn act(&self, step: Step, hands: Hands, undo: bool) -> Future<End> {
        let own = self.clone();
        Box::pin(async move {
            let _at_work = AtWork::begins(&own.at_once);
            let text = |key: &str| step.settings.get(key).and_then(Value::as_str).map(str::to_owned);
            let times = step.settings.get("takes").and_then(Value::as_array).cloned().unwrap_or_default();
            let of_attempt = times.get(step.attempt as usize - 1).and_then(Value::as_str).map(str::to_owned);
            let takes = of_attempt.or_else(|| text(if undo { "undo" } else { "takes" })).unwrap_or("1s".to_owned());
            let takes: Duration = humantime(&takes);
            let tells: Vec<&str> =
                step.settings["tells"].as_array().into_iter().flatten().filter_map(Value::as_str).collect();
            let silent = text("silent").map_or(Duration::ZERO, |text| humantime(&text));
            if !silent.is_zero() && own.waits(&step, &hands, silent).await {
                return End::Stopped;
            }
            let takes = takes.saturating_sub(silent);
            let parts = tells.len() as u32 + 1;
            for part in 0..parts {
                if let Some(words) = tells.get(part as usize) {
                    hands.tell(*words);
                }
                if own.waits(&step, &hands, takes / parts).await {
                    return End::Stopped;
                }
            }
            let did = format!("{}{}#{}", if undo { "undid " } else { "" }, step.stage, step.attempt);
            own.done.lock().unwrap().push(did);
            if u64::from(step.attempt) <= step.settings["fails"].as_u64().unwrap_or(0) && !undo {
                let class = text("class").and_then(|name| Class::named(&name)).unwrap_or_default();
                let world = step.settings["world"].as_array().into_iter().flatten().filter_map(Value::as_str);
                let world = world.map(str::to_owned).collect();
                return End::Failed(Failure { class, line: text("line").unwrap_or_default(), exit: Some(1), world });
            }
            let outputs = step.settings["outputs"].as_object().cloned().unwrap_or_default();
            End::Done { outputs, summary: text("summary").unwrap_or_default() }
        })
    }
}

/// A time as people write it: `90s`, `2m10s`, `1h`.
pub(crate) fn humantime(text: &str) -> Duration {
    let (mut seconds, mut number) = (0, 0);
    for letter in text.chars() {
        let unit = match letter {
            's' => 1,
            'm' => 60,
            'h' => 3600,
            digit => {
                number = number * 10 + u64::from(digit.to_digit(10).unwrap_or_else(|| panic!("{text} is no time")));
                continue;
            }
        };
        seconds += unit * std::mem::take(&mut number);
    }
    Duration::from_secs(seconds)
}

impl Executor for Acted {
    fn check(&self, _: &Value) -> Vec<(String, String)> {
        Vec::new()
    }

    fn run(&self, step: Step, hands: Hands) -> Future<End> {
        self.act(step, hands, false)
    }

    fn runs_elsewhere(&self) -> bool {
        true
    }

    fn undoes(&self) -> bool {
        true
    }

    fn undo(&self, step: Step, hands: Hands) -> Future<End> {
        self.act(step, hands, true)
    }
}
