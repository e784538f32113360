//! The work of stages, acted on a clock that costs no time.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use masterchief::contract::Future;
use masterchief::executors::{Class, End, Executor, Failure, Hands, Step};
use serde_json::Value;

/// Acts the work of a stage: `{takes: 2m, summary: …, outputs: {…}, fails: N, class: …, line: …, world: […], tells: […]}`. The first N
/// attempts fail. What was done is remembered.
#[derive(Clone, Default)]
pub(crate) struct Acted {
    done: Arc<Mutex<Vec<String>>>,
}

impl Acted {
    pub(crate) fn done(&self) -> Vec<String> {
        self.done.lock().unwrap().clone()
    }

    fn act(&self, step: Step, hands: Hands, undo: bool) -> Future<End> {
        let done = Arc::clone(&self.done);
        Box::pin(async move {
            let text = |key: &str| step.settings.get(key).and_then(Value::as_str).map(str::to_owned);
            let takes = text(if undo { "undo" } else { "takes" }).unwrap_or("1s".to_owned());
            let takes: Duration = humantime(&takes);
            let tells: Vec<&str> =
                step.settings["tells"].as_array().into_iter().flatten().filter_map(Value::as_str).collect();
            let parts = tells.len() as u32 + 1;
            for part in 0..parts {
                if let Some(words) = tells.get(part as usize) {
                    hands.tell(*words);
                }
                if hands.pause(takes / parts).await {
                    return End::Stopped;
                }
            }
            done.lock().unwrap().push(format!("{}{}#{}", if undo { "undid " } else { "" }, step.stage, step.attempt));
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

fn humantime(text: &str) -> Duration {
    let unit = if text.ends_with('m') { 60 } else { 1 };
    Duration::from_secs(text.trim_end_matches(['s', 'm']).parse::<u64>().unwrap() * unit)
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
