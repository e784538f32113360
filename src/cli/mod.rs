//! The command line: one file a subcommand.
//!
//! Exit codes: 0 done, 1 failed, 2 wrong command line or configuration.

mod alone;
mod binds;
mod check;
mod completions;
mod config;
mod db;
mod deploy;
mod dlq;
mod events;
mod figures;
mod import;
mod logging;
mod new;
mod output;
mod pipelines;
mod policy;
mod records;
mod repl;
mod run;
mod runners;
mod scripts;
mod sources;
mod test;
mod users;
mod version;

use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::bail;
use clap::{Parser, Subcommand};
use masterchief_contract::{Clock, Matching};

use crate::bot;
use crate::config::{Config, Secrets, load};
use crate::executors;
use crate::journal::{self, Journal};

/// What went wrong with the command line or the configuration.
const WRONG_INPUT: u8 = 2;

/// An Eggdrop-style ChatOps bot for IRC. Without a command it runs, with a console on the terminal.
#[derive(Debug, Parser)]
#[command(name = "masterchief", version, propagate_version = true)]
struct Cli {
    #[command(flatten)]
    common: Common,
    #[command(subcommand)]
    command: Option<Command>,
}

/// What every command takes.
#[derive(Clone, Debug, clap::Args)]
struct Common {
    /// A project folder, a folder with `global/config.yaml` in it, or one file
    #[arg(long, short, global = true, value_name = "PATH", env = "MASTERCHIEF_CONFIG")]
    config: Option<PathBuf>,
    /// The environment, a file in `config/environments`
    #[arg(long, short, global = true, value_name = "NAME", env = "MASTERCHIEF_ENV")]
    env: Option<String>,
    /// Prints for programs
    #[arg(long, global = true)]
    json: bool,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Runs the bot
    Run(run::Args),
    /// Makes a new project: a folder with a configuration, a script and its test
    New(new::Args),
    /// Checks the configuration and the scripts without connecting
    Check(check::Args),
    /// Runs the scripts' tests
    Test(test::Args),
    /// Tries scripts on the terminal; a saved script is loaded at once
    Repl(repl::Args),
    /// Lists and changes the people the bot knows
    Users(users::Args),
    /// Tries and shows who may what where
    Policy(policy::Args),
    /// Lists the scripts
    Scripts(scripts::Args),
    /// Lists the binds, or the kinds of bind
    Binds(binds::Args),
    /// Shows what is read from outside, and how that is going
    Sources(sources::Args),
    /// Lists, shows and replays what came from outside
    Events(events::Args),
    /// Looks after events that were given up
    Dlq(dlq::Args),
    /// Starts a deployment and shows how it goes
    Deploy(deploy::Args),
    /// Looks at runs, and acts on them
    Runs(deploy::RunsArgs),
    /// Lists who does stages that name a runner: labels, slots, and how it went
    Runners,
    /// Checks and shows pipelines
    Pipelines(pipelines::Args),
    /// Looks after the databases
    Db(db::Args),
    /// Shows the configuration, and where each value comes from
    Config(config::Args),
    /// Looks at the incident log
    Audit(pipelines::AuditArgs),
    /// Looks after one command of a stage; the bot starts it by itself
    #[command(name = "__step", hide = true)]
    Step {
        /// The folder of the step
        folder: PathBuf,
    },
    /// Tells the version
    Version(version::Args),
    /// Prints a completion script for a shell
    Completions(completions::Args),
}

/// Why a command did not do what it was asked. It has been told already where it is only an exit code.
type Done = anyhow::Result<ExitCode>;

/// Runs the command line of this process.
pub fn main() -> ExitCode {
    // Under whatever name: commands of stages are started by this program, not by another that is found somewhere.
    executors::Supervisor::is_this_program();
    let Cli { common, command } = Cli::parse();
    let done = match command.unwrap_or(Command::Run(run::Args::default())) {
        Command::Run(args) => run::run(&common, &args),
        Command::New(args) => new::run(&common, &args),
        Command::Check(args) => check::run(&common, &args),
        Command::Test(args) => test::run(&common, &args),
        Command::Repl(args) => repl::run(&common, &args),
        Command::Users(args) => users::run(&common, args),
        Command::Policy(args) => policy::run(&common, &args),
        Command::Scripts(args) => scripts::run(&common, &args),
        Command::Binds(args) => binds::run(&common, &args),
        Command::Sources(args) => sources::run(&common, args),
        Command::Events(args) => events::run(&common, args),
        Command::Dlq(args) => dlq::run(&common, args),
        Command::Deploy(args) => deploy::run(&common, &args),
        Command::Runs(args) => deploy::runs(&common, args),
        Command::Runners => runners::run(&common),
        Command::Pipelines(args) => pipelines::run(&common, &args),
        Command::Db(args) => db::run(&common, &args),
        Command::Config(args) => config::run(&common, &args),
        Command::Audit(args) => pipelines::audit(&common, &args),
        Command::Step { folder } => Ok(executors::supervise(&folder)),
        Command::Version(args) => version::run(&common, &args),
        Command::Completions(args) => completions::run(&args),
    };
    match done {
        Ok(code) => code,
        Err(fault) => {
            // The reader of our output may have gone; then there is nobody to tell.
            let gone =
                fault.downcast_ref::<std::io::Error>().is_some_and(|io| io.kind() == std::io::ErrorKind::BrokenPipe);
            if !gone {
                output::fault(&format!("{fault:#}"));
            }
            ExitCode::FAILURE
        }
    }
}

impl Common {
    /// The configuration; its faults are told and become the exit code.
    fn config(&self, secrets: Secrets) -> Result<Config, ExitCode> {
        self.config_at(None, secrets)
    }

    /// The configuration of a project named on the command line, else the one of `--config`.
    fn config_at(&self, project: Option<&std::path::Path>, secrets: Secrets) -> Result<Config, ExitCode> {
        let path = project.or(self.config.as_deref());
        load(path, self.env.as_deref(), secrets).map_err(|faults| {
            faults.iter().for_each(|fault| output::fault(&fault.to_string()));
            ExitCode::from(WRONG_INPUT)
        })
    }

    /// Does something with the configuration and the journal of the bot that runs, or ran, with it.
    fn with_journal(&self, work: impl AsyncFnOnce(Config, Journal) -> Done) -> Done {
        let config = match self.config(Secrets::Spare) {
            Ok(config) => config,
            Err(code) => return Ok(code),
        };
        let path = config.data.join(bot::JOURNAL);
        if !path.is_file() {
            bail!("{} is not there: no bot has run here yet; name the project, as in --config PATH", path.display());
        }
        let kinds = bot::kinds();
        let journalled = kinds.all().filter(|spec| spec.matching == Matching::Journal);
        runtime()?.block_on(async {
            let journal = journal::peek(&path, journalled, Clock::system())?;
            work(config, journal).await
        })
    }
}

/// The number of an event, as it is typed.
fn event_number(text: &str) -> Result<u64, String> {
    let number = text.parse::<i64>().ok().and_then(|number| u64::try_from(number).ok());
    number.ok_or_else(|| "events have numbers such as 7; `masterchief events list` shows them".to_owned())
}

/// The number of a dead letter, as it is typed.
fn letter_number(text: &str) -> Result<i64, String> {
    let number = text.parse().ok().filter(|number| *number != i64::MIN);
    number.ok_or_else(|| {
        "dead letters have numbers such as 3, or -7 for one that is held; `masterchief dlq list` shows them".to_owned()
    })
}

/// A runtime for a command.
fn runtime() -> std::io::Result<tokio::runtime::Runtime> {
    tokio::runtime::Builder::new_multi_thread().enable_all().build()
}
