//! `masterchief pipelines`: what the files say, checked and drawn; and `masterchief audit`: whether the incident log is whole.

use std::process::ExitCode;

use anyhow::bail;
use clap::Subcommand;
use serde_json::json;

use super::{Common, Done, output, records, runners, runtime};
use crate::bot::stage_executors;
use crate::config::{Config, Secrets};
use crate::pipelines::{Catalog, Pipeline, Run, WORDS, page, verify_incidents};
use crate::store::Store;
use crate::store::runs::Which;

/// So many runs tell how long runs take.
const STATS: u32 = 200;

/// Checks and shows pipelines.
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Reads all files and says everything that is wrong, with line and column
    Check,
    /// Lists them
    List,
    /// The words of the channel, and which other ways each is to be had
    Words {
        /// As a page for people: what `docs/verbs.md` holds
        #[arg(long)]
        markdown: bool,
    },
    /// Shows one: its stages in order, as a tree, or as a graph
    Show {
        /// What it ships
        app: String,
        /// For graphviz
        #[arg(long)]
        dot: bool,
        /// Drawn with letters: what comes after what
        #[arg(long, conflicts_with = "dot")]
        tree: bool,
    },
    /// Tells how long the stages and runs of one take, and how long runs wait for their turn
    Stats {
        /// What it ships
        app: String,
    },
    /// Says what would make one faster, by how long its stages took
    Advise {
        /// What it ships
        app: String,
    },
}

/// Looks at the incident log.
#[derive(Debug, clap::Args)]
pub(super) struct AuditArgs {
    #[command(subcommand)]
    command: AuditCommand,
}

#[derive(Debug, Subcommand)]
enum AuditCommand {
    /// Whether every line is as it was written, here and in what other bots told of theirs
    Verify,
    /// Forgets what a bot told of its log, so that it is told anew
    Forget {
        /// The bot
        bot: String,
    },
}

pub(super) fn run(common: &Common, args: &Args) -> Done {
    if let Command::Words { markdown } = args.command {
        return list_words(common, markdown);
    }
    let config = match common.config(Secrets::Spare) {
        Ok(config) => config,
        Err(code) => return Ok(code),
    };
    let (catalog, faults) = Catalog::read(&config.pipelines.folder, &stage_executors(&config.executors, None));
    faults.iter().for_each(|fault| output::fault(&fault.to_string()));
    match &args.command {
        Command::Check => {
            let count = catalog.all().count();
            runners::unheard(&config, &catalog).iter().for_each(|text| output::warning(text));
            if !faults.is_empty() {
                return Ok(ExitCode::FAILURE);
            }
            output::line(&format!("all good: {}", output::count(count, "pipeline")))?;
        }
        // It needs no configuration: it was done above.
        Command::Words { .. } => {}
        Command::List => {
            for pipeline in catalog.all() {
                let envs: Vec<&str> = pipeline.policy.environments.iter().map(|(env, _)| env.as_str()).collect();
                output::line(&format!("{} ({}): {}", pipeline.app, envs.join(", "), pipeline.description))?;
            }
        }
        Command::Show { app, dot, tree } => {
            let pipeline = catalog.get(app).map_err(anyhow::Error::msg)?;
            match (dot, tree, common.json) {
                (true, ..) => output::line(&graphviz(&pipeline))?,
                (false, true, _) => output::line(&pipeline.tree().join("\n"))?,
                (false, false, true) => output::line(&as_json(&pipeline))?,
                (false, false, false) => in_order(&pipeline)?,
            }
        }
        Command::Stats { app } => {
            let runs = runtime()?.block_on(records::look(&config))?;
            let (times, waits, rows) = runtime()?.block_on(async {
                let which = Which { app: Some(app.clone()), limit: STATS, ..Which::default() };
                anyhow::Ok((runs.times(app).await?, runs.waits(app).await?, runs.runs(which).await?))
            })?;
            let rows: Vec<Run> = rows.iter().filter_map(|row| serde_json::from_str(&row.detail).ok()).collect();
            let told = crate::pipelines::stats(times, waits, &rows);
            if common.json {
                output::json(&told)?;
                return Ok(ExitCode::SUCCESS);
            }
            for (stage, times) in &told.stages {
                output::line(&format!("{stage}: {times}"))?;
            }
            for (what, times) in [("runs waited for a turn", told.waited), ("runs took", told.ran)] {
                output::line(&times.map_or(format!("{what}: nothing began yet"), |times| format!("{what}: {times}")))?;
            }
        }
        Command::Advise { app } => {
            let pipeline = catalog.get(app).map_err(anyhow::Error::msg)?;
            let runs = runtime()?.block_on(records::look(&config))?;
            let times = runtime()?.block_on(runs.times(app))?;
            for line in crate::pipelines::advice(&pipeline, times) {
                output::line(&line)?;
            }
        }
    }
    Ok(ExitCode::SUCCESS)
}

/// The words, and what each does.
fn list_words(common: &Common, markdown: bool) -> Done {
    if markdown {
        output::line(page().trim_end())?;
    } else if common.json {
        let rows = WORDS.iter().map(|(word, usage, does, _)| json!({"word": word, "usage": usage, "does": does}));
        output::json(&rows.collect::<Vec<_>>())?;
    } else {
        for (word, usage, does, _) in WORDS {
            output::line(&format!("{word} {usage}: {does}"))?;
        }
    }
    Ok(ExitCode::SUCCESS)
}

pub(super) fn audit(common: &Common, args: &AuditArgs) -> Done {
    let config = match common.config(Secrets::Spare) {
        Ok(config) => config,
        Err(code) => return Ok(code),
    };
    match &args.command {
        AuditCommand::Verify => verify(&config),
        AuditCommand::Forget { bot } => forget(&config, bot),
    }
}

fn forget(config: &Config, bot: &str) -> Done {
    let people = config.data.join(crate::bot::PEOPLE);
    if !people.is_file() {
        bail!("{} is not there: no bot told anything here yet", people.display());
    }
    let known = runtime()?.block_on(async {
        let store = Store::open(&people).await?;
        let known = crate::bot::forget_told(&store, bot).await?;
        store.close().await;
        anyhow::Ok(known)
    })?;
    if !known {
        bail!("nothing is kept here of the incident log of {bot}; masterchief audit verify lists whose is");
    }
    output::line(&format!("forgotten: {bot} tells its log anew, signed with the key that it has now"))?;
    Ok(ExitCode::SUCCESS)
}

fn verify(config: &Config) -> Done {
    let people = config.data.join(crate::bot::PEOPLE);
    let (verified, told) = runtime()?.block_on(async {
        let (mut anchor, mut told) = (None, Vec::new());
        if people.is_file() {
            let store = Store::look(&people).await?;
            anchor = store.anchor(crate::bot::ANCHOR).await?;
            told = crate::bot::verify_told(&store).await?;
        }
        anyhow::Ok((verify_incidents(&records::look(config).await?, anchor.as_ref()).await?, told))
    })?;
    let mut code = ExitCode::SUCCESS;
    match verified {
        Ok(count) => output::line(&format!("{count} lines, each as it was written"))?,
        Err(tampered) => {
            output::fault(&tampered.to_string());
            code = ExitCode::FAILURE;
        }
    }
    for kept in told {
        if kept.faults.is_empty() {
            output::line(&format!("{}: {} lines, each as it told them", kept.origin, kept.lines))?;
        }
        for fault in kept.faults {
            output::fault(&format!("{}: {fault}", kept.origin));
            code = ExitCode::FAILURE;
        }
    }
    Ok(code)
}

fn needs(pipeline: &Pipeline, at: usize) -> Vec<&str> {
    pipeline.stages[at].needs.iter().map(|need| pipeline.stages[need.stage].name.as_str()).collect()
}

fn in_order(pipeline: &Pipeline) -> std::io::Result<()> {
    output::line(&format!("{}: {}", pipeline.app, pipeline.description))?;
    for at in pipeline.graph.order() {
        let stage = &pipeline.stages[at];
        let does = stage.actions.iter().map(|action| action.executor.as_str()).collect::<Vec<_>>().join(", ");
        let needs = needs(pipeline, at);
        let after = if needs.is_empty() { String::new() } else { format!(" after {}", needs.join(", ")) };
        let last = if stage.finally { " (in any case)" } else { "" };
        output::line(&format!("  {}: {}{after}{last}", stage.name, if does.is_empty() { "waits" } else { &does }))?;
    }
    Ok(())
}

fn graphviz(pipeline: &Pipeline) -> String {
    let mut out = format!("digraph {:?} {{\n", pipeline.app);
    for (at, stage) in pipeline.stages.iter().enumerate() {
        out.push_str(&format!("  {:?};\n", stage.name));
        for need in needs(pipeline, at) {
            out.push_str(&format!("  {need:?} -> {:?};\n", stage.name));
        }
    }
    out.push('}');
    out
}

fn as_json(pipeline: &Pipeline) -> String {
    let stage = |at: usize| {
        let stage = &pipeline.stages[at];
        let does: Vec<&str> = stage.actions.iter().map(|action| action.executor.as_str()).collect();
        json!({"name": stage.name, "line": stage.line, "needs": needs(pipeline, at), "does": does, "finally": stage.finally,
            "when": stage.when.as_ref().map(|when| when.text().to_owned())})
    };
    let stages: Vec<_> = (0..pipeline.stages.len()).map(stage).collect();
    let envs: Vec<&str> = pipeline.policy.environments.iter().map(|(env, _)| env.as_str()).collect();
    json!({"app": pipeline.app, "hash": pipeline.hash, "description": pipeline.description, "environments": envs, "stages": stages}).to_string()
}
