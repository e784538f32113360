//! `luau`: a stage whose work a script does, or a Rust handler: `luau: {call: verify_orders, args: {days: 3}}` calls the bind of kind `step`
//! with that mask.

use std::sync::Arc;

use masterchief_contract::{BindId, Call, Event, EventData, Future, HandlerError, Outcome, Outlet, Who};
use serde::Deserialize;
use serde_json::{Map, Value};

use crate::dispatch::BindTable;
use crate::executors::{self, Class, End, Executor, Executors, Hands, Step};
use crate::pipelines::STEP;

/// The ways to do the work of a stage, with the one of scripts: found in `table`, which only a bot that runs has.
pub(crate) fn stage_executors(
    settings: &executors::Settings,
    table: Option<(BindTable, Arc<dyn Outlet>)>,
) -> Executors {
    let mut all = executors::executors(settings);
    all.insert("luau".to_owned(), Arc::new(LuaStep { table }));
    all
}

struct LuaStep {
    table: Option<(BindTable, Arc<dyn Outlet>)>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Settings {
    call: String,
    #[serde(default)]
    args: Map<String, Value>,
}

fn read(settings: &Value) -> Result<Settings, String> {
    serde_json::from_value(settings.clone())
        .map_err(|_| "write {call: NAME, args: {…}}, and bind the kind step with that name".to_owned())
}

impl Executor for LuaStep {
    fn check(&self, settings: &Value) -> Vec<(String, String)> {
        read(settings).err().map(|fault| (String::new(), fault)).into_iter().collect()
    }

    fn run(&self, step: Step, hands: Hands) -> Future<End> {
        let table = self.table.clone();
        Box::pin(async move {
            let settings = match read(&step.settings) {
                Ok(settings) => settings,
                Err(fault) => return End::failed(Class::Config, format!("luau: {fault}")),
            };
            let Some((table, outlet)) = table else {
                return End::failed(Class::Config, "no bot runs here, so no script does");
            };
            let Some(bind) = table.serving(STEP, &settings.call) else {
                let line = format!(
                    "no script binds the step {:?}: bot.bind(\"step\", \"-|-\", {:?}, function(ev) … end)",
                    settings.call, settings.call
                );
                return End::failed(Class::Config, line);
            };
            let event = event(&step, settings, bind.id, Arc::clone(&bind.mask), outlet);
            tokio::select! {
                result = bind.handler.call(event) => match result {
                    Ok(Outcome::Reply(lines)) => told(lines, &hands),
                    Ok(_) => End::done(),
                    Err(fault) => failed(fault, &hands),
                },
                () = hands.stopping() => End::Stopped,
            }
        })
    }
}

fn event(step: &Step, settings: Settings, bind: BindId, mask: Arc<str>, outlet: Arc<dyn Outlet>) -> Event {
    let mut data = EventData::new(&[STEP], chrono::Utc::now());
    data.fields = vec![
        ("run", Value::from(step.run)),
        ("stage", Value::from(step.stage.clone())),
        ("try", Value::from(step.attempt)),
        ("workspace", Value::from(step.workspace.display().to_string())),
        ("data", Value::Object(settings.args)),
    ];
    let who = Who::default();
    let trace = Arc::from(step.marker());
    Event::new(data).for_call(Call {
        bind,
        kind: STEP,
        mask,
        who,
        text_at: 0,
        args: Default::default(),
        trace,
        outlet,
        to: None,
        delivery: None,
    })
}

/// Lines `name=value` are outputs; the first other line is what is said of the stage, and all are logged.
fn told(lines: Vec<String>, hands: &Hands) -> End {
    let (mut outputs, mut summary) = (Map::new(), String::new());
    for line in lines {
        hands.log.line(&line);
        let named = line
            .split_once('=')
            .filter(|(name, _)| !name.is_empty() && name.chars().all(|c| c.is_alphanumeric() || c == '_'));
        match named {
            Some((name, value)) => {
                let read = serde_json::from_str(value).ok().filter(|value: &Value| !value.is_string());
                outputs.insert(name.to_owned(), read.unwrap_or_else(|| Value::from(value)));
            }
            None if summary.is_empty() => summary = line,
            None => {}
        }
    }
    End::Done { outputs, summary }
}

fn failed(fault: HandlerError, hands: &Hands) -> End {
    let (class, line) = match fault {
        HandlerError::User(text) => (Class::Unknown, text),
        HandlerError::Retry { reason, .. } => (Class::Network, reason),
        HandlerError::Dead(reason) => (Class::Config, reason),
        HandlerError::Internal(fault) => {
            hands.log.line(&fault.to_string());
            (Class::Unknown, "the script failed; the log of the stage has its error".to_owned())
        }
    };
    End::failed(class, line)
}
