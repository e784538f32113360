//! `masterchief deploy` and `masterchief runs`: the words of the channel from a shell. The bot that runs on the data folder does it;
//! if none runs, `deploy` begins one for as long as it takes.
//!
//! Exit codes: 0 it went well, 1 it failed, 2 what was asked for makes no sense, 3 it waits for somebody, 4 detached; refused because
//! 5 somebody may not, 6 there is no such app, run or place, 7 it does not go with how things are, 75 not now (try again later).

use std::io::{IsTerminal, Write};
use std::path::Path;
use std::process::ExitCode;

use anyhow::bail;
use clap::Subcommand;
use serde_json::Value;
use tokio::signal::unix::{SignalKind, signal};

use super::{Common, Done, WRONG_INPUT, figures, logging, output, runtime};
use crate::bot::Bot;
use crate::bot::control::{Request, ask};
use crate::config::{Config, Secrets};
use crate::executors::tail;
use crate::pipelines::{RefusalKind, Run, RunState, StageRun, chosen, deployments, open_artifact, step_folder, words};
use crate::store::runs::{ArtifactRow, OutboxRow, Runs, Which};

/// It waits for somebody: a yes, an approval, its turn.
const WAITS: u8 = 3;
/// Lines of a log.
const LINES: usize = 1000;
/// It goes on without us.
const DETACHED: u8 = 4;

/// The exit code for a refusal, by its kind.
fn refused(kind: Option<RefusalKind>) -> ExitCode {
    match kind {
        Some(RefusalKind::Wrong) => ExitCode::from(WRONG_INPUT),
        Some(RefusalKind::Denied) => ExitCode::from(5),
        Some(RefusalKind::Unknown) => ExitCode::from(6),
        Some(RefusalKind::Conflict) => ExitCode::from(7),
        // As sysexits(3) has it: a failure that passes.
        Some(RefusalKind::Busy) => ExitCode::from(75),
        Some(RefusalKind::Broken) | None => ExitCode::FAILURE,
    }
}

/// Starts a deployment and shows how it goes.
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// As in the channel: APP[/REF] [to ENV] [name=value] [--skip STAGE]
    #[arg(required = true, trailing_var_arg = true, allow_hyphen_values = true)]
    words: Vec<String>,
    /// Says yes to what is understood
    #[arg(long, short)]
    yes: bool,
    /// Does not wait for its end
    #[arg(long, short)]
    detach: bool,
}

/// Looks at runs, and acts on them.
#[derive(Debug, clap::Args)]
pub(super) struct RunsArgs {
    #[command(subcommand)]
    command: RunsCommand,
}

#[derive(Debug, Subcommand)]
enum RunsCommand {
    /// Lists the newest
    List {
        /// Only of this app
        app: Option<String>,
        /// How many
        #[arg(long, default_value_t = 20)]
        last: u32,
    },
    /// Lists the newest deployments: what went where, what was there before, who did it and what came of it
    Deployments {
        /// Only of this app
        app: Option<String>,
        /// Only there
        environment: Option<String>,
        /// How many
        #[arg(long, default_value_t = 20)]
        last: u32,
    },
    /// Lists what was pushed to registries
    Images {
        /// Only to this repository, with the host of its registry
        repository: Option<String>,
        /// How many
        #[arg(long, default_value_t = 20)]
        last: u32,
    },
    /// Tells what came of them, by the day or by the hour
    Figures(figures::Args),
    /// Shows what was said of one, where, when, and of which event
    Notices {
        /// Its number
        run: i64,
    },
    /// Shows one
    Show {
        /// Its number
        run: i64,
    },
    /// Shows what happened in one, in order
    Events {
        /// Its number
        run: i64,
    },
    /// Shows how one goes until it ends
    Follow {
        /// Its number
        run: i64,
    },
    /// The end of a stage's log
    Logs {
        /// Its number
        run: i64,
        /// The stage; the one that failed, runs or ran last if none is named
        stage: Option<String>,
    },
    /// Lists the files that were kept of one, or copies one of them to standard output
    Artifacts {
        /// Its number
        run: i64,
        /// The file: STAGE/PATH, as it is listed
        file: Option<String>,
    },
    /// Any word of the channel: yes, abort, retry, rollback, approve, lock, unlock, freeze, who, dora…
    #[command(external_subcommand)]
    Word(Vec<String>),
}

pub(super) fn run(common: &Common, args: &Args) -> Done {
    let config = match common.config(Secrets::Needed) {
        Ok(config) => config,
        Err(code) => return Ok(code),
    };
    let mut given = args.words.clone();
    // Options may stand after the words too.
    let mut flag = |names: [&str; 2]| {
        let before = given.len();
        given.retain(|word| !names.contains(&word.as_str()));
        given.len() < before
    };
    let (yes, detach) = (flag(["--yes", "-y"]) || args.yes, flag(["--detach", "-d"]) || args.detach);
    let request = Request { word: "deploy".to_owned(), text: given.join(" "), follow: !detach, run: None };
    runtime()?.block_on(with_bot(common, &config, request, yes))
}

pub(super) fn runs(common: &Common, args: RunsArgs) -> Done {
    let config = match common.config(Secrets::Spare) {
        Ok(config) => config,
        Err(code) => return Ok(code),
    };
    let word = |word: &str, text: String, run: Option<i64>| Request {
        word: word.to_owned(),
        text,
        follow: run.is_some(),
        run,
    };
    match args.command {
        RunsCommand::List { app, last } => records(common, &config, async |runs| list(common, runs, app, last).await),
        RunsCommand::Deployments { app, environment, last } => records(common, &config, async |runs| {
            let which = Which { app, env: environment, limit: last, ..Which::default() };
            shipped(common, runs, which).await
        }),
        RunsCommand::Figures(args) => {
            records(common, &config, async |runs| figures::figures(common, runs, &args).await)
        }
        RunsCommand::Images { repository, last } => {
            records(common, &config, async |runs| figures::images(common, runs, repository.as_deref(), last).await)
        }
        RunsCommand::Notices { run } => records(common, &config, async |runs| notices(common, runs, run).await),
        RunsCommand::Show { run } => records(common, &config, async |runs| show(common, runs, run).await),
        RunsCommand::Events { run } => records(common, &config, async |runs| events(runs, run).await),
        RunsCommand::Follow { run } => follow(common, &config, run),
        RunsCommand::Logs { run, stage } => {
            records(common, &config, async |runs| logs(&config, runs, run, stage.as_deref()).await)
        }
        RunsCommand::Artifacts { run, file } => records(common, &config, async |runs| match &file {
            None => artifacts(common, runs, run).await,
            Some(file) => artifact(&config, runs, run, file).await,
        }),
        RunsCommand::Word(words) => {
            let (first, rest) = words.split_first().map_or(("", &[][..]), |(first, rest)| (first.as_str(), rest));
            runtime()?.block_on(with_running(common, &config, word(first, rest.join(" "), None)))
        }
    }
}

/// Shows how a run goes; one that is over is shown as it is.
fn follow(common: &Common, config: &Config, run: i64) -> Done {
    let over = records(common, config, async |runs| {
        let row = runs.run(run).await?.map(|(row, _)| row).filter(|row| row.ended);
        let Some(row) = row else { return Ok(ExitCode::from(WAITS)) };
        let shown = show(common, runs, run).await?;
        Ok(if row.state == RunState::Succeeded.name() { shown } else { ExitCode::FAILURE })
    })?;
    if over != ExitCode::from(WAITS) {
        return Ok(over);
    }
    let request = Request { word: "run".to_owned(), text: run.to_string(), follow: true, run: Some(run) };
    runtime()?.block_on(with_running(common, config, request))
}

/// Asks the bot that runs.
async fn with_running(common: &Common, config: &Config, request: Request) -> Done {
    match converse(common, &config.data, request, false).await? {
        Some(code) => Ok(code),
        None => bail!(
            "no bot runs on {}; start it with masterchief run, and it goes on with what was begun",
            config.data.display()
        ),
    }
}

/// Asks the bot that runs; if none does, begins one without networks and sources, and asks that.
async fn with_bot(common: &Common, config: &Config, request: Request, yes: bool) -> Done {
    if let Some(code) = converse(common, &config.data, request.clone(), yes).await? {
        return Ok(code);
    }
    logging::hide(&config.secrets);
    logging::start(&config.log, "warn");
    let alone = Config { networks: Default::default(), gateway: Default::default(), ..config.clone() };
    let started = Bot::builder().configured(&alone).without_scripts().start().await?;
    let code = converse(common, &config.data, request, yes).await;
    let seen = super::alone::undone(common, config, &started).await;
    // Others may have asked the bot that we began.
    started.nobody_asks().await;
    started.stop("").await;
    seen?;
    match code? {
        Some(code) => Ok(code),
        None => {
            bail!("{}: the bot that was begun there does not answer; look at the data folder", config.data.display())
        }
    }
}

/// One request and all that follows from it. `None` if no bot runs there.
pub(super) async fn converse(
    common: &Common,
    data: &Path,
    mut request: Request,
    yes: bool,
) -> anyhow::Result<Option<ExitCode>> {
    let mut interrupt = signal(SignalKind::interrupt())?;
    loop {
        let mut run = request.run;
        let mut show = |value: Value| {
            if let Some(number) = value.pointer("/news/run").and_then(Value::as_i64) {
                run = Some(number);
            }
            told(common, &value)
        };
        let mut fault = None;
        let answer = tokio::select! {
            answer = ask(data, &request, |value| if let Err(broken) = show(value) { fault = Some(broken) }) => answer?,
            _ = interrupt.recv() => return leave(data, run).await.map(Some),
        };
        if let Some(fault) = fault {
            return Err(fault.into());
        }
        let Some(answer) = answer else { return Ok(None) };
        let (end, number) = (answer["end"].as_str().unwrap_or(""), answer["run"].as_i64());
        if let Some(line) = answer["line"].as_str() {
            output::fault(line);
        }
        let state = serde_json::from_value::<RunState>(Value::from(end)).ok();
        if let Some(number) = number.filter(|_| !request.follow && request.word == "deploy" && end == "done") {
            output::line(&format!("run {number} is begun; masterchief runs follow {number} shows how it goes"))?;
        }
        let Some(number) = number.filter(|_| state.is_some()) else {
            let kind = serde_json::from_value(answer["kind"].clone()).ok();
            return Ok(Some(if end == "done" { ExitCode::SUCCESS } else { refused(kind) }));
        };
        match state {
            Some(RunState::AwaitingConfirm) if request.word == "deploy" && (yes || agrees(number)?) => {
                request = Request { word: "yes".to_owned(), text: number.to_string(), follow: true, run: Some(number) };
            }
            Some(RunState::AwaitingConfirm) if request.word == "deploy" => {
                let drop = Request { word: "drop".to_owned(), text: number.to_string(), ..Request::default() };
                ask(data, &drop, |_| ()).await?;
                output::fault("not started: nobody is there to say yes; add --yes");
                return Ok(Some(ExitCode::from(WAITS)));
            }
            // What was undone is not live.
            Some(RunState::Succeeded) => return Ok(Some(ExitCode::SUCCESS)),
            Some(state) if state.ended() => return Ok(Some(ExitCode::FAILURE)),
            _ => return Ok(Some(ExitCode::from(WAITS))),
        }
    }
}

/// Prints one line of an answer.
fn told(common: &Common, value: &Value) -> std::io::Result<()> {
    if common.json {
        return output::line(&value.to_string());
    }
    if let Some(line) = value["line"].as_str() {
        return output::line(line);
    }
    let news = &value["news"];
    let text = news["text"].as_str().unwrap_or("");
    let state = news["state"].as_str().unwrap_or("").replace('_', " ");
    match news["kind"].as_str() {
        Some("run") => output::line(&format!(
            "[{}] {} {} {state}",
            news["run"],
            news["app"].as_str().unwrap_or(""),
            news["env"].as_str().unwrap_or("")
        )),
        _ if !text.is_empty() => match news["line"].as_str() {
            Some(why) if !why.is_empty() => output::line(&format!(
                "[{0}] {text}: {why}\n[{0}] its log: masterchief runs logs {0} {1}",
                news["run"],
                news["stage"].as_str().unwrap_or("")
            )),
            _ => output::line(&format!("[{}] {text}", news["run"])),
        },
        _ => Ok(()),
    }
}

/// Asks at the terminal; nobody there is no.
fn agrees(number: i64) -> std::io::Result<bool> {
    if !std::io::stdin().is_terminal() {
        return Ok(false);
    }
    print!("Start run {number}? [y/N] ");
    std::io::stdout().flush()?;
    let mut line = String::new();
    std::io::stdin().read_line(&mut line)?;
    Ok(matches!(line.trim(), "y" | "Y" | "yes"))
}

/// Ctrl-C: the run is stopped, or goes on without us.
async fn leave(data: &Path, run: Option<i64>) -> anyhow::Result<ExitCode> {
    let Some(run) = run else { return Ok(ExitCode::from(DETACHED)) };
    let stop = std::io::stdin().is_terminal() && {
        print!("\nRun {run}: a aborts it, anything else leaves it running: ");
        std::io::stdout().flush()?;
        let mut line = String::new();
        std::io::stdin().read_line(&mut line)?;
        line.trim() == "a"
    };
    if stop {
        let request = Request { word: "abort".to_owned(), text: run.to_string(), follow: true, run: Some(run) };
        ask(data, &request, |value| drop(output::line(value["line"].as_str().unwrap_or("")))).await?;
        return Ok(ExitCode::FAILURE);
    }
    output::line(&format!("run {run} goes on; masterchief runs follow {run}, masterchief runs abort {run}"))?;
    Ok(ExitCode::from(DETACHED))
}

/// Does something with the records of runs, whether or not a bot runs.
fn records(_: &Common, config: &Config, work: impl AsyncFnOnce(&Runs) -> Done) -> Done {
    runtime()?.block_on(async {
        let runs = super::records::look(config).await?;
        work(&runs).await
    })
}

async fn list(common: &Common, runs: &Runs, app: Option<String>, last: u32) -> Done {
    let rows = runs.runs(Which { app, limit: last, ..Which::default() }).await?;
    let now = chrono::Utc::now().timestamp_millis();
    for row in rows {
        if common.json {
            output::line(&row.detail)?;
        } else if let Ok(run) = serde_json::from_str(&row.detail) {
            output::line(&format!("{}/{} {}", row.app, row.env, words::run_row(&row, &run, now)))?;
        }
    }
    Ok(ExitCode::SUCCESS)
}

/// Deployments, a line each.
async fn shipped(common: &Common, runs: &Runs, which: Which) -> Done {
    let now = chrono::Utc::now().timestamp_millis();
    let rows = deployments(runs, which).await?;
    if common.json {
        output::json(&rows)?;
        return Ok(ExitCode::SUCCESS);
    }
    for row in &rows {
        output::line(&row.line(now))?;
    }
    Ok(ExitCode::SUCCESS)
}

/// What was said of a run.
async fn notices(common: &Common, runs: &Runs, number: i64) -> Done {
    if runs.run(number).await?.is_none() {
        bail!("there is no run {number}; masterchief runs list");
    }
    let rows = runs.notices(number).await?;
    if common.json {
        let row = |row: &OutboxRow| serde_json::json!({"key": row.dedupe, "event": row.event, "target": row.target, "text": row.text, "at": row.at, "sent": row.sent});
        output::json(&rows.iter().map(row).collect::<Vec<_>>())?;
        return Ok(ExitCode::SUCCESS);
    }
    let cells = |row: &OutboxRow| {
        let event = row.event.map_or("-".to_owned(), |event| event.to_string());
        let sent = row.sent.map_or("waits".to_owned(), |sent| words::moment(sent, sent));
        vec![row.dedupe.clone(), event, row.target.clone(), sent, row.text.clone()]
    };
    output::table(&["key", "event", "target", "sent", "text"], &rows.iter().map(cells).collect::<Vec<_>>())?;
    Ok(ExitCode::SUCCESS)
}

async fn show(common: &Common, runs: &Runs, number: i64) -> Done {
    let Some((row, stages)) = runs.run(number).await? else { bail!("there is no run {number}; masterchief runs list") };
    if common.json {
        let run: Value = serde_json::from_str(&row.detail)?;
        let stages: Vec<Value> = stages.iter().filter_map(|stage| serde_json::from_str(&stage.detail).ok()).collect();
        output::line(&serde_json::json!({"run": run, "stages": stages}).to_string())?;
        return Ok(ExitCode::SUCCESS);
    }
    let run = serde_json::from_str(&row.detail)?;
    let stages: Vec<StageRun> = stages.iter().filter_map(|stage| serde_json::from_str(&stage.detail).ok()).collect();
    for line in words::run(&run, &stages, None, chrono::Utc::now().timestamp_millis()) {
        output::line(&line)?;
    }
    for stage in &stages {
        if let Some(failure) = stage.failure.as_ref().filter(|_| stage.state.bad()) {
            output::line(&format!("{}: {} ({})", stage.name, failure.line, failure.class.name()))?;
        }
    }
    Ok(ExitCode::SUCCESS)
}

/// The end of a stage's log, from the files.
async fn logs(config: &Config, runs: &Runs, number: i64, stage: Option<&str>) -> Done {
    let Some((row, stages)) = runs.run(number).await? else { bail!("there is no run {number}; masterchief runs list") };
    let run: Run = serde_json::from_str(&row.detail)?;
    let stages: Vec<StageRun> = stages.iter().filter_map(|stage| serde_json::from_str(&stage.detail).ok()).collect();
    let one = chosen(&run, &stages, stage).map_err(anyhow::Error::msg)?;
    let folder = step_folder(&config.data.join(crate::bot::RUNS), number, one);
    let lines = tail(&folder, LINES);
    if lines.is_empty() {
        let why = one.failure.as_ref().map_or("nothing was written", |failure| failure.line.as_str());
        output::fault(&format!("{} has no log: {why}", one.name));
    }
    for line in lines {
        output::line(&line)?;
    }
    Ok(ExitCode::SUCCESS)
}

/// The files that were kept of a run.
async fn artifacts(common: &Common, runs: &Runs, number: i64) -> Done {
    if runs.run(number).await?.is_none() {
        bail!("there is no run {number}; masterchief runs list");
    }
    let rows = runs.artifacts(number).await?;
    if common.json {
        let row = |row: &ArtifactRow| serde_json::json!({"stage": row.stage, "path": row.path, "bytes": row.bytes, "sha256": row.sha256});
        output::json(&rows.iter().map(row).collect::<Vec<_>>())?;
        return Ok(ExitCode::SUCCESS);
    }
    if rows.is_empty() {
        output::fault(&format!(
            "nothing was kept of run {number}; `collect: {{artifacts: [...]}}` in a stage keeps files"
        ));
    }
    for row in rows {
        output::line(&format!("{}/{}  {} bytes  {}", row.stage, row.path, row.bytes, row.sha256))?;
    }
    Ok(ExitCode::SUCCESS)
}

/// One of them, as it is.
async fn artifact(config: &Config, runs: &Runs, number: i64, file: &str) -> Done {
    let rows = runs.artifacts(number).await?;
    let Some(row) = rows.iter().find(|row| format!("{}/{}", row.stage, row.path) == file) else {
        bail!("run {number} keeps no {file}; masterchief runs artifacts {number} lists what it keeps");
    };
    let (_, stages) = runs.run(number).await?.unwrap_or_default();
    let mut stages = stages.iter().filter_map(|stage| serde_json::from_str::<StageRun>(&stage.detail).ok());
    let Some(one) = stages.find(|one| one.name == row.stage) else { bail!("run {number} has no stage {}", row.stage) };
    let folder = step_folder(&config.data.join(crate::bot::RUNS), number, &one);
    let mut from = open_artifact(&folder, row).map_err(anyhow::Error::msg)?;
    std::io::copy(&mut from, &mut std::io::stdout())?;
    Ok(ExitCode::SUCCESS)
}

async fn events(runs: &Runs, number: i64) -> Done {
    for row in runs.events(number).await? {
        let event = serde_json::json!({"seq": row.seq, "at": row.at, "kind": row.kind, "actor": row.actor, "data": serde_json::from_str::<Value>(&row.data)?});
        output::line(&event.to_string())?;
    }
    Ok(ExitCode::SUCCESS)
}
