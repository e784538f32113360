//! Saying what a bot is before it runs.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwap;
use masterchief_bindings::stream::Publish;
use masterchief_contract::{BindOptions, Clock, Handler, Kind, KindSpec, Secret};
use serde_json::Value;

use super::fakenet::{FakeDial, FakeNet};
use super::ingest::{Makers, SourceMaker, SourceWrap};
use super::{StartError, Started, policy};
use crate::config;
use crate::dispatch::{BindFault, FloodSettings, Kinds, NewBind, Policy};
use crate::executors::{self, Executor, Executors, Supervisor};
use crate::executors::{Http, LocalShell, NetHttp, Shell};
use crate::irc::{self, Dial, NetDial};
use crate::lua::{self, Placement, ScriptSettings};
use crate::partyline::{self, Console, LiveLog};
use crate::users;
use crate::{gateway, journal, mesh, pipelines};

/// The owner of binds made in Rust.
pub(crate) const RUST: &str = "rust";

/// What a bot will be. Made by [`super::Bot::builder`].
pub struct Builder {
    pub(crate) kinds: Arc<Kinds>,
    pub(crate) binds: Vec<NewBind>,
    pub(crate) networks: BTreeMap<String, irc::Settings>,
    pub(crate) dial: Arc<dyn Dial>,
    pub(crate) clock: Clock,
    pub(crate) data: Option<PathBuf>,
    pub(crate) users: users::Settings,
    pub(crate) limits: lua::Settings,
    pub(crate) scripts: Option<PathBuf>,
    pub(crate) only_script: Option<PathBuf>,
    pub(crate) blocks: BTreeMap<String, Value>,
    pub(crate) placement: Placement,
    pub(crate) console: Option<Console>,
    pub(crate) live: Option<LiveLog>,
    pub(crate) rules: Rules,
    pub(crate) http: Arc<dyn Http>,
    pub(crate) shell: Arc<dyn Shell>,
    /// Instead of the brokers of the configuration.
    pub(crate) streams: Option<Arc<dyn Publish>>,
    pub(crate) journal: journal::Settings,
    pub(crate) sources: masterchief_bindings::Settings,
    pub(crate) makers: Makers,
    pub(crate) gateway: gateway::Settings,
    pub(crate) partyline: partyline::Settings,
    pub(crate) mesh: mesh::Settings,
    pub(crate) pipelines: pipelines::Settings,
    pub(crate) runner: pipelines::RunnerSettings,
    pub(crate) executors: executors::Settings,
    /// The table of who may what.
    pub(crate) policy: policy::Settings,
    /// Beside those of the bot, or instead of them.
    pub(crate) own_executors: Executors,
    pub(crate) supervisor: Supervisor,
    /// Where relative paths begin.
    pub(crate) project: PathBuf,
    /// What is never said.
    pub(crate) secrets: Vec<Secret>,
}

/// How the street treats people and calls.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rules {
    /// How long a call may take unless its bind says otherwise.
    pub timeout: Duration,
    /// What decisions differ in.
    pub policy: Policy,
    /// Whether a person who is refused is told what is missing.
    pub tell_denied: bool,
    /// How long shutdown waits for running calls.
    pub grace: Duration,
    /// What counts as a flood. A bot that is configured counts by Eggdrop's figures; one that is built counts nothing without them.
    pub floods: Option<FloodSettings>,
    /// Whether CTCP VERSION, PING, TIME, SOURCE and CLIENTINFO are answered.
    pub answer_ctcp: bool,
}

impl Default for Rules {
    fn default() -> Rules {
        Rules {
            timeout: Duration::from_secs(60),
            policy: Policy::default(),
            tell_denied: true,
            grace: Duration::from_secs(2),
            floods: None,
            answer_ctcp: true,
        }
    }
}

impl Builder {
    pub(crate) fn new() -> Builder {
        Builder {
            kinds: Arc::new(super::kinds()),
            binds: Vec::new(),
            networks: BTreeMap::new(),
            dial: Arc::new(NetDial),
            clock: Clock::system(),
            data: None,
            users: users::Settings::default(),
            limits: lua::Settings::default(),
            scripts: None,
            only_script: None,
            blocks: BTreeMap::new(),
            placement: Placement::Thread,
            console: None,
            live: None,
            rules: Rules::default(),
            http: Arc::new(NetHttp),
            shell: Arc::new(LocalShell),
            streams: None,
            journal: journal::Settings::default(),
            sources: masterchief_bindings::Settings::default(),
            makers: Makers { shipped: true, ..Makers::default() },
            gateway: gateway::Settings::default(),
            partyline: partyline::Settings::default(),
            mesh: mesh::Settings::default(),
            pipelines: pipelines::Settings { folder: PathBuf::new(), ..pipelines::Settings::default() },
            runner: pipelines::RunnerSettings::default(),
            executors: executors::Settings::default(),
            policy: policy::Settings::default(),
            own_executors: Executors::new(),
            supervisor: Supervisor::found(),
            project: PathBuf::from("."),
            secrets: Vec::new(),
        }
    }

    /// Binds a handler. The flags and the mask are checked here, with the column of a fault.
    pub fn bind(self, kind: Kind, flags: &str, mask: &str, handler: impl Handler) -> Result<Builder, BindFault> {
        self.bind_with(kind, flags, mask, BindOptions::default(), handler)
    }

    /// Binds a handler with options: a usage, a cooldown, a zone…
    pub fn bind_with(
        mut self,
        kind: Kind,
        flags: &str,
        mask: &str,
        options: BindOptions,
        handler: impl Handler,
    ) -> Result<Builder, BindFault> {
        let handler = Arc::new(handler);
        self.binds.push(NewBind::parse(&self.kinds, kind.name(), flags, mask, options, handler)?);
        Ok(self)
    }

    /// Takes everything a configuration says.
    pub fn configured(mut self, config: &config::Config) -> Builder {
        self.networks = config.networks.clone();
        self.data = Some(config.data.clone());
        self.users = config.users.clone();
        self.limits = config.scripts.limits;
        self.scripts = Some(config.scripts.folder.clone());
        self.blocks = config.scripts.settings.clone();
        self.rules = rules(config);
        self.journal = config.journal.clone();
        self.sources = config.sources.clone();
        self.gateway = config.gateway.clone();
        self.partyline = config.partyline.clone();
        self.mesh = config.mesh.clone();
        self.pipelines = config.pipelines.clone();
        self.runner = config.runner.clone();
        self.executors = config.executors.clone();
        self.project = config.source.project.clone();
        self.policy = policy::Settings::of(config);
        self.secrets = config.secrets.clone();
        self
    }

    /// Holds this table of who may what against the bot before it begins, and against everything it is reloaded to.
    pub fn policy(mut self, settings: policy::Settings) -> Builder {
        self.policy = settings;
        self
    }

    /// What must never be said: wherever it stands in a line, `***` is said instead.
    pub fn secrets(mut self, secrets: impl IntoIterator<Item = Secret>) -> Builder {
        self.secrets.extend(secrets);
        self
    }

    /// Opens the gateway, where services post webhooks.
    pub fn gateway(mut self, settings: gateway::Settings) -> Builder {
        self.gateway = settings;
        self
    }

    /// Opens the partyline, where operators come in.
    pub fn partyline(mut self, settings: partyline::Settings) -> Builder {
        self.partyline = settings;
        self
    }

    /// Links with other bots.
    pub fn mesh(mut self, settings: mesh::Settings) -> Builder {
        self.mesh = settings;
        self
    }

    /// Reads pipelines from a folder, with what their stages share.
    pub fn pipelines(mut self, settings: pipelines::Settings) -> Builder {
        self.pipelines = settings;
        self
    }

    /// Makes the bot a runner of stages that say what their runner must have.
    pub fn runner(mut self, settings: pipelines::RunnerSettings) -> Builder {
        self.runner = settings;
        self
    }

    /// Adds a way to do the work of stages, or replaces one of the bot's.
    pub fn executor(mut self, name: &str, executor: impl Executor) -> Builder {
        self.own_executors.insert(name.to_owned(), Arc::new(executor));
        self
    }

    /// Where Jenkins, registries and clusters are.
    pub fn executor_settings(mut self, settings: executors::Settings) -> Builder {
        self.executors = settings;
        self
    }

    /// Where the program is that looks after the commands of stages: `masterchief` itself.
    pub fn supervisor(mut self, program: &Path) -> Builder {
        self.supervisor = Supervisor::at(program);
        self
    }

    /// Changes what the journal keeps, and when it is full.
    pub fn journal(mut self, settings: journal::Settings) -> Builder {
        self.journal = settings;
        self
    }

    /// Changes how sources are read.
    pub fn sources(mut self, settings: masterchief_bindings::Settings) -> Builder {
        self.sources = settings;
        self
    }

    /// Reads the streams of a kind with a source of one's own.
    pub fn source(mut self, kind: Kind, maker: SourceMaker) -> Builder {
        self.makers.own.insert(kind, maker);
        self
    }

    /// Puts something around each source: for tests of what happens when one fails.
    pub fn wrap_sources(mut self, wrap: SourceWrap) -> Builder {
        self.makers.wrap = Some(wrap);
        self
    }

    /// Adds kinds that live outside the bot. Their binds are made after this.
    pub fn kinds(mut self, more: &'static [KindSpec]) -> Builder {
        self.kinds = Arc::new(self.kinds.with(more));
        self
    }

    /// Loads no scripts and reads nothing from outside: for a command that needs the pipelines alone.
    pub(crate) fn without_scripts(mut self) -> Builder {
        self.scripts = None;
        self.without_sources()
    }

    /// Reads nothing from outside: what is bound is only bound.
    pub(crate) fn without_sources(mut self) -> Builder {
        self.makers = Makers::default();
        self.gateway.listen = None;
        self.partyline = partyline::Settings::default();
        self.mesh = mesh::Settings::default();
        self
    }

    /// Adds a network, with the settings that stand under its name in a configuration.
    pub fn network(mut self, name: &str, settings: irc::Settings) -> Builder {
        self.networks.insert(name.to_owned(), settings);
        self
    }

    /// Reaches the servers of its networks in another way than over the system's network: through memory, or a tunnel of one's own.
    pub fn dial(mut self, dial: impl Dial) -> Builder {
        self.dial = Arc::new(dial);
        self
    }

    /// Tells the time by another clock than the machine's.
    pub fn clock(mut self, clock: Clock) -> Builder {
        self.clock = clock;
        self
    }

    /// Keeps records (users, audit, kv) under this folder. Without it they end with the process.
    pub fn data(mut self, folder: &Path) -> Builder {
        self.data = Some(folder.to_owned());
        self
    }

    /// Loads the scripts of this folder and reloads them when they change.
    pub fn scripts(mut self, folder: &Path) -> Builder {
        self.scripts = Some(folder.to_owned());
        self
    }

    /// Loads this one script, and libraries from its folder.
    pub(crate) fn only_script(mut self, path: &Path) -> Builder {
        self.scripts = Some(path.parent().unwrap_or(Path::new(".")).to_owned());
        self.only_script = Some(path.to_owned());
        self
    }

    /// Changes how the street treats people and calls.
    pub fn rules(mut self, rules: Rules) -> Builder {
        self.rules = rules;
        self
    }

    /// Changes what a script may use up.
    pub fn limits(mut self, limits: lua::Settings) -> Builder {
        self.limits = limits;
        self
    }

    /// What scripts may use up and find in their blocks, as it is to be changed.
    pub(super) fn script_settings(&self) -> Arc<ArcSwap<ScriptSettings>> {
        Arc::new(ArcSwap::from_pointee(ScriptSettings { limits: self.limits, blocks: self.blocks.clone() }))
    }

    /// Changes roles and what a hostmask grants.
    pub fn users(mut self, users: users::Settings) -> Builder {
        self.users = users;
        self
    }

    /// Puts a console on the terminal: who sits there is on the partyline.
    pub fn console(mut self, console: Console) -> Builder {
        self.console = Some(console);
        self
    }

    /// Answers the scripts' requests and commands in place of the world.
    pub(crate) fn outside(mut self, http: Arc<dyn Http>, shell: Arc<dyn Shell>, streams: Arc<dyn Publish>) -> Builder {
        (self.http, self.shell, self.streams) = (http, shell, Some(streams));
        self
    }

    /// Puts the bot on a network in memory, alone in `channel`.
    pub(crate) fn on_fake_network(mut self, name: &str, channel: &str, net: FakeNet, clock: Clock) -> Builder {
        self.networks = BTreeMap::from([(name.to_owned(), FakeNet::settings(channel))]);
        self.dial = Arc::new(FakeDial(net));
        self.clock = clock;
        self.placement = Placement::Local;
        self.makers.shipped = false;
        self.data = None;
        self.console = None;
        self
    }

    /// Shows the log to those on the partyline who want to see it.
    pub fn live_log(mut self, lines: LiveLog) -> Builder {
        self.live = Some(lines);
        self
    }

    /// Starts it. The bot runs in tasks until [`Started::stop`].
    pub async fn start(self) -> Result<Started, StartError> {
        let started = Started::start(self).await?;
        started.tell("loaded");
        Ok(started)
    }
}

/// The rules in a configuration.
pub(crate) fn rules(config: &config::Config) -> Rules {
    Rules {
        timeout: config.replies.timeout,
        policy: Policy {
            exclusive_binds: config.replies.exclusive_binds,
            answer_bots: config.replies.answer_bots,
            refuse_dk: !config.replies.allow_dk_cmds,
        },
        tell_denied: config.replies.tell_denied,
        grace: config.replies.grace,
        floods: Some(config.replies.floods.clone()),
        answer_ctcp: config.replies.ctcp,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_file_says_under_replies_is_what_commands_go_by() {
        let of = |replies: &str| {
            let folder = tempfile::tempdir().unwrap();
            let file = folder.path().join("bot.yaml");
            std::fs::write(&file, format!("replies: {replies}\n")).unwrap();
            rules(&config::load(Some(&file), None, config::Secrets::Needed).unwrap())
        };
        let shown = |rules: Rules| {
            let Policy { exclusive_binds, answer_bots, refuse_dk } = rules.policy;
            [exclusive_binds, answer_bots, refuse_dk, rules.tell_denied, rules.answer_ctcp]
        };
        let embedded = [false, false, false, true, true];
        assert_eq!(shown(of("{}")), embedded);
        for (at, one) in
            ["exclusive_binds: true", "answer_bots: true", "allow_dk_cmds: false", "tell_denied: false", "ctcp: false"]
                .into_iter()
                .enumerate()
        {
            let mut other = embedded;
            other[at] = !other[at];
            assert_eq!(shown(of(&format!("{{{one}}}"))), other, "{one}");
        }
        let times = of("{timeout: 7s, grace: 9s}");
        assert_eq!((times.timeout.as_secs(), times.grace.as_secs()), (7, 9));
    }
}
