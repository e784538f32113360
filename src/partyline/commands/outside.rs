//! `.sources`, `.events`, `.audit`, `.runs`, `.locks`, `.pipelines`, `.runners`, and words of pipelines: what comes from outside and what is shipped.

use chrono::DateTime;
use masterchief_contract::{Event, EventData, HandlerError, Kind, user_error};

use super::{Asked, Command, sorry};
use crate::pipelines::words;
use crate::store::runs::Which;

/// Rows that are listed if no number is given, and at most.
const ROWS: (i64, i64) = (10, 50);

pub(super) static COMMANDS: &[Command] = &[
    row!(Anywhere, "sources", "m", "", "Shows what is read from outside, and how that is going", sources),
    row!(Anywhere, "events", "m", "[count:int]", "Lists the newest events from outside", events),
    row!(Anywhere, "audit", "m", "[count:int]", "Lists who did what, and who was refused", audit),
    row!(Anywhere, "runs", "-", "[count:int]", "Lists the newest runs", runs),
    row!(Anywhere, "locks", "-", "", "Lists the places that are locked", locks),
    row!(Anywhere, "run", "-", "<words...>", "Shows a run, as !run does", run),
    row!(Anywhere, "pipelines", "-", "[app]", "Lists the pipelines, or draws one: what comes after what", pipelines),
    row!(Anywhere, "runners", "-", "", "Lists who does stages that name a runner, as !runners does", runners),
    row!(Anywhere, "deploy", "-", "<words...>", "Starts a deployment, as !deploy does", deploy),
    // In private on networks its word has this name, too.
    row!(Here, "dlq", "m", "[words...]", "Looks after dead letters, as !dlq does: list, show, retry, drop", dlq),
];

/// What has its own word of this name on networks.
pub(super) const TAKEN: &str = "dlq";

/// Words of the bot that stand under another name among the commands.
const SAID: [(&str, &str); 3] = [("run", RUN), ("deploy", DEPLOY), ("dlq", DLQ)];
const RUN: &str = "!run";
const DEPLOY: &str = "!deploy";
const DLQ: &str = "!dlq";

type Lines = Result<Vec<String>, HandlerError>;

/// What is meant by a command that is nothing but a word of the bot: `!run 3` by `run 3`.
pub fn word_for(command: &str) -> Option<String> {
    let (typed, rest) = command.split_once(' ').unwrap_or((command, ""));
    let (_, word) = SAID.iter().find(|(name, _)| name.eq_ignore_ascii_case(typed))?;
    Some(format!("{word} {rest}").trim_end().to_owned())
}

fn count(asked: &Asked) -> usize {
    let count = asked.event.arg("count").and_then(|count| count.as_i64()).unwrap_or(ROWS.0);
    usize::try_from(count.clamp(1, ROWS.1)).unwrap_or(1)
}

async fn sources(asked: &Asked) -> Lines {
    let rows = asked.desk.host.sources();
    if rows.is_empty() {
        return Ok(vec!["Nothing is read from outside.".to_owned()]);
    }
    let row = |one: &crate::journal::FeedRow| {
        let lag = one.lag.map(|lag| format!(", {lag} {} wait", one.lag_unit)).unwrap_or_default();
        let at = one.last_error_at.map(|at| format!(" ({})", at.format("%F %T"))).unwrap_or_default();
        let error = match (&one.error, &one.last_error) {
            (Some(error), last) => {
                let at = if Some(error) == last.as_ref() { at.as_str() } else { "" };
                format!("; fault: {error}{at}")
            }
            (None, Some(last)) => format!("; over: {last}{at}"),
            (None, None) => String::new(),
        };
        format!(
            "{} {}: {}, {} events, {:.1}/s{lag}, {} dropped{error}",
            one.kind, one.stream, one.state, one.events, one.rate, one.dropped
        )
    };
    Ok(rows.iter().map(row).collect())
}

async fn events(asked: &Asked) -> Lines {
    let rows = asked.desk.journal.newest("", count(asked)).await.map_err(HandlerError::internal)?;
    let row = |row: &crate::journal::EventRow| {
        let text: String = row.event.text.chars().take(100).collect();
        format!("{} {} {} {text}", row.event.id, row.event.at.format("%F %T"), row.stream)
    };
    Ok(if rows.is_empty() { vec!["Nothing came yet.".to_owned()] } else { rows.iter().map(row).collect() })
}

async fn audit(asked: &Asked) -> Lines {
    let count = u32::try_from(count(asked)).unwrap_or(1);
    let rows = asked.desk.store.audit_recent(count).await.map_err(HandlerError::internal)?;
    let row = |row: &crate::store::AuditRow| {
        let who = row.handle.as_deref().unwrap_or(&row.actor);
        format!("{} {} {who} {} {} {}", row.at.format("%F %T"), row.action, row.kind, row.mask, row.detail)
    };
    Ok(if rows.is_empty() {
        vec!["Nobody has done anything yet that is written down.".to_owned()]
    } else {
        rows.iter().rev().map(row).collect()
    })
}

async fn runs(asked: &Asked) -> Lines {
    let limit = u32::try_from(count(asked)).unwrap_or(1);
    let rows = asked.desk.pipelines.records().runs(Which { limit, ..Which::default() }).await;
    let rows = rows.map_err(HandlerError::internal)?;
    let row = |row: &crate::store::runs::RunRow| {
        let at = DateTime::from_timestamp_millis(row.created).unwrap_or_default();
        format!(
            "{} {}/{} {} {} by {}, {}",
            row.number,
            row.app,
            row.env,
            row.kind,
            row.state,
            row.requester,
            at.format("%F %T")
        )
    };
    Ok(if rows.is_empty() { vec!["Nothing has run yet.".to_owned()] } else { rows.iter().map(row).collect() })
}

async fn locks(asked: &Asked) -> Lines {
    let catalog = asked.desk.pipelines.catalog();
    let mut lines = Vec::new();
    for pipeline in catalog.all() {
        for (env, _) in &pipeline.policy.environments {
            let place = format!("{}/{env}", pipeline.app);
            let found = asked.desk.pipelines.records().lock(&place).await.map_err(HandlerError::internal)?;
            lines.extend(found.map(|lock| format!("{place} is locked by {}: {}", lock.handle, lock.reason)));
        }
    }
    Ok(if lines.is_empty() { vec!["Nothing is locked.".to_owned()] } else { lines })
}

async fn runners(asked: &Asked) -> Lines {
    let pipelines = &asked.desk.pipelines;
    Ok(words::runners(&pipelines.runners().await.0, pipelines.now()))
}

async fn pipelines(asked: &Asked) -> Lines {
    let catalog = asked.desk.pipelines.catalog();
    let app = asked.arg("app");
    if !app.is_empty() {
        return Ok(catalog.get(app).map_err(|refusal| user_error(refusal.text))?.tree());
    }
    let one = |pipeline: &std::sync::Arc<crate::pipelines::Pipeline>| {
        let envs: Vec<&str> = pipeline.policy.environments.iter().map(|(env, _)| env.as_str()).collect();
        format!("{} ({}): {}", pipeline.app, envs.join(", "), pipeline.description)
    };
    let lines: Vec<String> = catalog.all().map(one).collect();
    Ok(if lines.is_empty() { vec!["There are no pipelines.".to_owned()] } else { lines })
}

async fn run(asked: &Asked) -> Lines {
    say(asked, RUN).await
}

async fn deploy(asked: &Asked) -> Lines {
    say(asked, DEPLOY).await
}

async fn dlq(asked: &Asked) -> Lines {
    say(asked, DLQ).await
}

/// Says a word to the bot in the name of who asks: who may, and what comes of it, is that word's.
async fn say(asked: &Asked, word: &str) -> Lines {
    if asked.desk.table.serving(Kind::Msg, word).is_none() {
        return sorry(format!("there is no {word} in this bot: it has no pipelines"));
    }
    let mut event = EventData::new(&[Kind::Msg], asked.event.at);
    event.network = asked.event.network.clone();
    event.casemap = asked.event.casemap;
    event.actor.clone_from(&asked.event.actor);
    event.text = format!("{word} {}", asked.arg("words")).trim_end().to_owned();
    asked.desk.party.pass_on(Event::new(event)).await.map_err(user_error)?;
    Ok(Vec::new())
}
