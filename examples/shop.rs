//! A complete shop, shipped, broken and rolled back, with nothing but a shell.
//!
//!     cargo run --example shop
//!
//! The project is `examples/shop`: its pipeline, the commands of its stages and a script. `masterchief run examples/shop` lets you do
//! the same on a console.

use std::path::Path;
use std::process::ExitCode;

use masterchief::bot::Bot;
use masterchief::config::{self, Secrets};
use masterchief::partyline::{CHANNEL, Console, NETWORK};
use masterchief::pipelines::{Ask, Asked, Asker, DeployWords, May, Reply, RunState};

fn main() -> anyhow::Result<ExitCode> {
    // The bot starts this program again to look after each command, so that a command outlives the bot.
    let args: Vec<String> = std::env::args().collect();
    if let [_, word, folder] = args.as_slice()
        && word == "__step"
    {
        return Ok(masterchief::executors::supervise(Path::new(folder)));
    }
    let runtime = tokio::runtime::Runtime::new()?;
    let done = runtime.block_on(shop());
    // The console still waits for input.
    runtime.shutdown_background();
    done.map(|()| ExitCode::SUCCESS)
}

async fn shop() -> anyhow::Result<()> {
    // A copy, so that what is shipped and logged here is gone afterwards.
    let project = tempfile::tempdir()?;
    copy(Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/examples/shop")), project.path())?;
    let config =
        config::load(Some(project.path()), None, Secrets::Spare).map_err(|faults| anyhow::anyhow!("{faults:?}"))?;
    let console = Console::new(Box::new(std::io::stdout()), "ana");
    let bot = Bot::builder().configured(&config).console(console).supervisor(&std::env::current_exe()?).start().await?;
    let pipelines = bot.pipelines().clone();
    let ana = Asker {
        handle: "ana".to_owned(),
        nick: "ana".to_owned(),
        place: format!("{NETWORK}/{CHANNEL}"),
        origin: "irc".to_owned(),
        ..Asker::default()
    };
    let ask = async |typed: String, ask: Ask| -> anyhow::Result<i64> {
        println!("<ana> {typed}");
        let Reply { run, lines, public } =
            pipelines.ask(Asked { ask, who: ana.clone(), may: May::all() }).await.map_err(anyhow::Error::msg)?;
        public.into_iter().chain(lines).for_each(|line| println!("<chief> {line}"));
        run.ok_or_else(|| anyhow::anyhow!("no run was made"))
    };
    for (version, wanted) in [("v1", RunState::Succeeded), ("v2", RunState::Failed)] {
        let typed = format!("shop/{version} to prod");
        let words = DeployWords::parse(&typed, false).map_err(anyhow::Error::msg)?;
        let prepared =
            pipelines.prepare(words, Default::default(), (&ana, &May::all())).await.map_err(anyhow::Error::msg)?;
        let run = ask(format!("!deploy {typed}"), Ask::Deploy(Box::new(prepared))).await?;
        ask(format!("!yes {run}"), Ask::Yes(run)).await?;
        let ended = pipelines.ended(run).await?;
        anyhow::ensure!(ended.is_some_and(|(run, _)| run.state == wanted), "{version} did not end as it should");
        if wanted == RunState::Failed {
            let undo = ask(format!("!rollback {run}"), Ask::Rollback(run)).await?;
            let ended = pipelines.ended(undo).await?;
            anyhow::ensure!(ended.is_some_and(|(run, _)| run.state == RunState::Succeeded), "the rollback failed");
        }
    }
    let live = std::fs::read_to_string(project.path().join("live/prod/image"))?;
    anyhow::ensure!(live == "shop v1\n", "{live:?} is live instead of v1");
    println!("live on prod: {live}");
    bot.stop("").await;
    Ok(())
}

fn copy(from: &Path, to: &Path) -> std::io::Result<()> {
    std::fs::create_dir_all(to)?;
    for entry in std::fs::read_dir(from)? {
        let entry = entry?;
        let target = to.join(entry.file_name());
        if entry.file_type()?.is_dir() {
            copy(&entry.path(), &target)?
        } else {
            std::fs::copy(entry.path(), target).map(|_| ())?
        }
    }
    Ok(())
}
