//! `masterchief run`: the bot, until it is told to stop.

use std::io::IsTerminal;
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use masterchief_contract::Shutdown;
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::mpsc;

use super::{Common, Done, logging, output, runtime};
use crate::bot::{self, Bot, Builder, Started, Wish};
use crate::config::{self, Config, Secrets};
use crate::partyline::{self, Console, LiveLog};

/// The scripts that ship with the bot, for a project that has none.
const SHIPPED: &[(&str, &str)] = &[
    ("alarms.lua", include_str!("../../scripts/alarms.lua")),
    ("announce.lua", include_str!("../../scripts/announce.lua")),
    ("ci.lua", include_str!("../../scripts/ci.lua")),
    ("deploys.lua", include_str!("../../scripts/deploys.lua")),
    ("errors.lua", include_str!("../../scripts/errors.lua")),
    ("reports.lua", include_str!("../../scripts/reports.lua")),
    ("rows.lua", include_str!("../../scripts/rows.lua")),
    ("statuspage.lua", include_str!("../../scripts/statuspage.lua")),
    ("hello.lua", include_str!("../../scripts/hello.lua")),
    ("ops.lua", include_str!("../../scripts/ops.lua")),
    ("remind.lua", include_str!("../../scripts/remind.lua")),
    ("status.lua", include_str!("../../scripts/status.lua")),
];
/// Where they are put, under the data folder.
const SHIPPED_FOLDER: &str = "shipped-scripts";
/// How long an orderly stop may take, whatever is configured as grace.
const STOP: Duration = Duration::from_secs(60);

/// Runs the bot.
#[derive(Debug, Default, clap::Args)]
pub(super) struct Args {
    /// The project to run
    project: Option<PathBuf>,
    /// No console, even on a terminal
    #[arg(long)]
    no_console: bool,
}

pub(super) fn run(common: &Common, args: &Args) -> Done {
    let mut config = match common.config_at(args.project.as_deref(), Secrets::Needed) {
        Ok(config) => config,
        Err(code) => return Ok(code),
    };
    // A bot without a network is there for its console, piped input too; one with networks may be a service.
    let alone = config.networks.is_empty();
    let console = !args.no_console && (alone || std::io::stdin().is_terminal());
    logging::hide(&config.secrets);
    let live = logging::start(&config.log, if console { logging::CONSOLE } else { "info" });
    bring_scripts(&mut config)?;
    runtime()?.block_on(serve(common, args, config, live, console, alone))
}

/// Whether somebody else may come to this bot than whoever writes to its console.
fn is_reachable(config: &Config) -> bool {
    let listens = [config.partyline.listen, config.partyline.tls_listen, config.gateway.listen];
    !config.networks.is_empty() || config.mesh.name.is_some() || listens.iter().any(Option::is_some)
}

async fn serve(common: &Common, args: &Args, mut config: Config, live: LiveLog, console: bool, alone: bool) -> Done {
    // As a service the console ends before anything begins.
    let stays = is_reachable(&config) && !(alone && std::io::stdin().is_terminal());
    if alone && config.partyline.listen.is_none() && config.partyline.tls_listen.is_none() {
        config.partyline = partyline::usual(&config.partyline);
    }
    let mut builder = Bot::builder().configured(&config).live_log(live);
    if console {
        builder = builder.console(Console::stdout());
    }
    // Before anything is connected: whoever is told to end while it starts ends in order as well.
    let (mut hangup, mut ends) = (signal(SignalKind::hangup())?, Ends::heard()?);
    let (started, told) = starting(builder, &mut ends).await?;
    if console && std::io::stdin().is_terminal() {
        output::line("masterchief is here. Type !help, or !hello; /msg WORDS speaks in private. End with Ctrl-D.")?;
    }
    if console {
        tell_partyline(&started)?;
    }
    tracing::info!(version = env!("CARGO_PKG_VERSION"), networks = config.networks.len(), "Started");
    let (stopper, shutdown) = Shutdown::new();
    let (again, mut reload) = mpsc::channel(1);
    let watching = tokio::spawn(watch_config(config.source.files.clone(), again, shutdown));
    let path = args.project.as_deref().or(common.config.as_deref());
    let files = Files { path, environment: common.env.as_deref() };
    // Who was told already serves nobody.
    if !told {
        serving(&started, &files, stays, (&mut hangup, &mut ends, &mut reload)).await;
    }
    tracing::info!("Stopping");
    stopper.stop();
    // It only waits for the files; a panic in it is no reason not to stop.
    let _ = watching.await;
    let Some(started) = Arc::into_inner(started) else { return Ok(ExitCode::SUCCESS) };
    tokio::select! {
        () = started.stop("") => {}
        _ = ends.told() => anyhow::bail!("told to stop twice: stopped at once"),
        () = tokio::time::sleep(STOP) => anyhow::bail!("not stopped within {} s: stopped at once", STOP.as_secs()),
    }
    Ok(ExitCode::SUCCESS)
}

/// Where the configuration is read from.
struct Files<'a> {
    path: Option<&'a std::path::Path>,
    environment: Option<&'a str>,
}

/// Until the bot is to end: by a signal, an operator, or the end of the console unless it `stays` without one.
async fn serving(
    started: &Started,
    files: &Files<'_>,
    stays: bool,
    (hangup, ends, reload): (&mut Signal, &mut Ends, &mut mpsc::Receiver<()>),
) {
    let mut wishes = started.wishes();
    // Asked once: whoever waits for it must not begin again with every reload.
    let ended = started.console_ended();
    tokio::pin!(ended);
    let (mut done, mut over) = (false, false);
    while !over {
        tokio::select! {
            name = ends.told() => over = !started.signalled(name).await,
            () = &mut ended, if !done => {
                (done, over) = (true, !stays);
                if over && !std::io::stdin().is_terminal() {
                    tracing::warn!("The input has ended, and this bot with it; `run --no-console` goes on without");
                }
            }
            _ = hangup.recv() => {
                if !started.signalled("sighup").await {
                    let _logged = reconfigure(started, files).await;
                    started.reload_scripts().await;
                }
            }
            Ok(()) = wishes.changed() => {
                let (number, wish) = *wishes.borrow_and_update();
                match wish {
                    Wish::Rehash => started.rehashed(number, reconfigure(started, files).await),
                    Wish::End => over = true,
                    Wish::None => {}
                }
            }
            Some(()) = reload.recv() => {
                let _logged = reconfigure(started, files).await;
            }
        }
    }
}

/// Starts the bot; also gives whether it was told to end meanwhile.
async fn starting(builder: Builder, ends: &mut Ends) -> anyhow::Result<(Arc<Started>, bool)> {
    let starting = builder.start();
    tokio::pin!(starting);
    let mut told: Option<&'static str> = None;
    loop {
        tokio::select! {
            started = &mut starting => {
                let started = Arc::new(started?);
                let over = match told {
                    Some(name) => !started.signalled(name).await,
                    None => false,
                };
                return Ok((started, over));
            }
            name = ends.told() => {
                if told.replace(name).is_some() {
                    anyhow::bail!("told to stop twice: stopped at once");
                }
            }
        }
    }
}

/// The signals that end the process.
struct Ends {
    terminate: Signal,
    interrupt: Signal,
    quit: Signal,
}

impl Ends {
    /// From now on none of them ends it at once.
    fn heard() -> std::io::Result<Ends> {
        Ok(Ends {
            terminate: signal(SignalKind::terminate())?,
            interrupt: signal(SignalKind::interrupt())?,
            quit: signal(SignalKind::quit())?,
        })
    }

    /// Ready when one of them comes; its name.
    async fn told(&mut self) -> &'static str {
        tokio::select! {
            _ = self.terminate.recv() => "sigterm",
            _ = self.interrupt.recv() => "sigint",
            _ = self.quit.recv() => "sigquit",
        }
    }
}

/// Tells the person at the terminal how others come in.
fn tell_partyline(started: &Started) -> std::io::Result<()> {
    let (plain, tls) = started.partyline_at();
    if let Some(at) = plain.or(tls) {
        let password = match started.partyline_password() {
            Some(password) => format!("server password {}", password.reveal()),
            None => "server password HANDLE:PASSWORD".to_owned(),
        };
        output::line(&format!("IRC clients come in at {at}, {password}; the bot is in #ops. TLS on the same port."))?;
    }
    Ok(())
}

/// Takes the configuration that is there now, and gives what of it does not count yet; or logs why not, and gives that. A bad one leaves
/// everything as it is.
async fn reconfigure(started: &Started, files: &Files<'_>) -> Result<Vec<String>, Vec<String>> {
    let faults: Vec<String> = match config::load(files.path, files.environment, Secrets::Needed) {
        Err(faults) => faults.iter().map(ToString::to_string).collect(),
        Ok(config) => match started.reconfigure(&config).await {
            Err(fault) => vec![fault.to_string()],
            Ok(told) => {
                logging::hide(&config.secrets);
                tracing::info!("Configuration reloaded; data, scripts.folder and log count from the next start");
                return Ok(told);
            }
        },
    };
    for fault in &faults {
        tracing::error!(%fault, "The configuration is not taken; the one before stays");
    }
    Err(faults)
}

async fn watch_config(files: Vec<PathBuf>, again: mpsc::Sender<()>, shutdown: Shutdown) {
    let mut folders: Vec<PathBuf> = files.iter().filter_map(|file| file.parent()).map(PathBuf::from).collect();
    folders.sort();
    folders.dedup();
    let changed = move |_| {
        let again = again.clone();
        async move {
            // Full means that a reload is already due.
            let _ = again.try_send(());
        }
    };
    bot::watch(folders, move || files.clone(), changed, shutdown).await;
}

/// Puts the shipped scripts under the data folder if the project has no folder for scripts.
pub(super) fn bring_scripts(config: &mut Config) -> std::io::Result<()> {
    let ours = config.source.project.join("scripts");
    if config.scripts.folder != ours || ours.is_dir() {
        return Ok(());
    }
    let folder = config.data.join(SHIPPED_FOLDER);
    std::fs::create_dir_all(&folder)?;
    for (name, text) in SHIPPED {
        std::fs::write(folder.join(name), text)?;
    }
    config.scripts.folder = folder;
    Ok(())
}
