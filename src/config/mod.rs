//! The configuration: three levels, deeply merged, strict. Each room owns its block; no room knows this one.
//!
//! 1. `config/global/config.yaml`
//! 2. `config/environments/ENV.yaml`, chosen by `--env` or `MASTERCHIEF_ENV`
//! 3. `config/scripts/NAME.yaml`, a script's own block, which it sees as `bot.config`

mod shown;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::Duration;

use masterchief_contract::{Secret, closest};
use serde::Deserialize;
use serde_json::Value;

use crate::yaml::{self, Node};
use crate::{dispatch, executors, gateway, irc, journal, lua, mesh, partyline, pipelines, users};

pub use crate::yaml::{ConfigFault, Secrets, Spot};
pub use shown::{Shown, shown};

/// Everything that can be configured.
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Config {
    /// The networks, by a name of one's own. It stands in accounts (`libera/alice`) and targets (`libera/#ops`).
    pub networks: BTreeMap<String, irc::Settings>,
    /// The folder for records. Relative paths begin at the project's folder.
    pub data: PathBuf,
    /// Roles, and what a hostmask grants.
    pub users: users::Settings,
    /// Scripts and their limits.
    pub scripts: Scripts,
    /// Where services post webhooks.
    pub gateway: gateway::Settings,
    /// Where operators come in: IRC clients, telnet, pages.
    pub partyline: partyline::Settings,
    /// Other bots, Eggdrops among them.
    pub mesh: mesh::Settings,
    /// What is kept of what comes from outside, and how much.
    pub journal: journal::Settings,
    /// How sources are read.
    pub sources: masterchief_bindings::Settings,
    /// Pipelines and what their stages share.
    pub pipelines: pipelines::Settings,
    /// What this bot does of stages that name a runner, and for whom.
    pub runner: pipelines::RunnerSettings,
    /// Where Jenkins, registries and clusters are.
    pub executors: executors::Settings,
    /// How people and calls are treated.
    pub replies: Replies,
    /// What is logged.
    pub log: Log,
    /// Where this came from.
    #[serde(skip)]
    pub source: Source,
    /// Every secret in it, so that none is ever said.
    #[serde(skip)]
    pub secrets: Vec<Secret>,
}

/// Where scripts are and what they may use up.
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Scripts {
    /// Their folder.
    pub folder: PathBuf,
    /// The limits of each.
    pub limits: lua::Settings,
    /// A block for each script, by file name without `.lua`.
    pub settings: BTreeMap<String, Value>,
}

/// How people and calls are treated.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Replies {
    /// How long a call may take unless its bind says otherwise.
    #[serde(with = "humantime_serde")]
    pub timeout: Duration,
    /// Whether a `pub` is skipped when a `pubm` matched, Eggdrop's `exclusive-binds`.
    pub exclusive_binds: bool,
    /// Whether commands of those that the network marks as bots are taken.
    pub answer_bots: bool,
    /// Whether who has the flag `d` or `k`, and no `p`, may give commands that are for everybody, Eggdrop's `allow-dk-cmds`.
    pub allow_dk_cmds: bool,
    /// Whether a person who is refused is told what is missing.
    pub tell_denied: bool,
    /// How long shutdown waits for running calls.
    #[serde(with = "humantime_serde")]
    pub grace: Duration,
    /// Whether CTCP VERSION, PING, TIME, SOURCE and CLIENTINFO are answered.
    pub ctcp: bool,
    /// What counts as a flood.
    pub floods: dispatch::FloodSettings,
}

/// What is logged.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Log {
    /// For people or for programs.
    pub format: LogFormat,
    /// As `RUST_LOG`, which wins: `info`, `masterchief=debug,warn`.
    pub level: Option<String>,
}

/// How a line of the log looks.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum LogFormat {
    /// For people.
    #[default]
    Text,
    /// A JSON object a line.
    Json,
}

/// Where a configuration came from.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Source {
    /// The folder that relative paths begin at.
    pub project: PathBuf,
    /// The files that were read, or would be if they were there: what to watch.
    pub files: Vec<PathBuf>,
    /// The table of who may what, which need not be there: `policy.yaml` beside them.
    pub policy: PathBuf,
    /// Whether any of them was there.
    pub found: bool,
}

impl Default for Config {
    fn default() -> Config {
        Config {
            networks: BTreeMap::new(),
            data: PathBuf::from("data"),
            users: users::Settings::default(),
            scripts: Scripts::default(),
            gateway: gateway::Settings::default(),
            partyline: partyline::Settings::default(),
            mesh: mesh::Settings::default(),
            journal: journal::Settings::default(),
            sources: masterchief_bindings::Settings::default(),
            pipelines: pipelines::Settings::default(),
            runner: pipelines::RunnerSettings::default(),
            executors: executors::Settings::default(),
            replies: Replies::default(),
            log: Log::default(),
            source: Source::default(),
            secrets: Vec::new(),
        }
    }
}

impl Default for Scripts {
    fn default() -> Scripts {
        Scripts { folder: PathBuf::from("scripts"), limits: lua::Settings::default(), settings: BTreeMap::new() }
    }
}

impl Default for Replies {
    fn default() -> Replies {
        Replies {
            timeout: Duration::from_secs(60),
            exclusive_binds: false,
            answer_bots: false,
            allow_dk_cmds: true,
            tell_denied: true,
            grace: Duration::from_secs(2),
            ctcp: true,
            floods: dispatch::FloodSettings::default(),
        }
    }
}

/// Reads the configuration at `path`: a file, a folder with `global/` in it, or a project with `config/` in it. Without
/// a path the project is the current folder, and need not have any.
///
/// All faults that can be found at once are given.
pub fn load(path: Option<&Path>, environment: Option<&str>, secrets: Secrets) -> Result<Config, Vec<ConfigFault>> {
    let levels = levels(path, environment).map_err(|fault| vec![fault])?;
    let (tree, found) = merged(&levels).map_err(|fault| vec![fault])?;
    let mut config = understand(tree, &levels.project, secrets)?;
    let mut files = levels.files;
    files.extend(levels.scripts.into_iter().map(|(_, file)| file));
    files.push(levels.policy.clone());
    config.source = Source { project: levels.project, files, policy: levels.policy, found };
    Ok(config)
}

/// The levels as one tree, as they are written, and whether any of them was there.
fn merged(levels: &Levels) -> Result<(Node, bool), ConfigFault> {
    let mut tree = Node::empty(&levels.project);
    let mut found = false;
    for file in &levels.files {
        let Some(node) = read_file(file)? else { continue };
        tree = tree.merged(node);
        found = true;
    }
    for (name, file) in &levels.scripts {
        let Some(node) = read_file(file)? else { continue };
        tree = tree.put(&["scripts", "settings", name], node);
    }
    Ok((tree, found))
}

/// Reads one text as a whole configuration; `file` is its name in faults, and paths begin at its folder.
pub fn parse(file: &Path, text: &str) -> Result<Config, Vec<ConfigFault>> {
    let tree = Node::parse(file, text).map_err(|fault| vec![fault])?;
    understand(tree, file.parent().unwrap_or(Path::new(".")), Secrets::Needed)
}

/// A merged tree as a configuration.
fn understand(tree: Node, project: &Path, secrets: Secrets) -> Result<Config, Vec<ConfigFault>> {
    let tree = tree.filled(project, secrets).map_err(|fault| vec![fault])?;
    let mut config: Config = yaml::read(&tree).map_err(|fault| vec![fault])?;
    config.secrets = shown::secrets(&tree);
    let mut faults = check(&config, &tree);
    let named = config.scripts.folder != Scripts::default().folder;
    if named && !project.join(&config.scripts.folder).is_dir() {
        let spot = tree.spot_of(&["scripts", "folder"]);
        faults
            .push(ConfigFault::at(&spot, format!("scripts.folder: {} is no folder", config.scripts.folder.display())));
    }
    if !faults.is_empty() {
        return Err(faults);
    }
    place(&mut config, project);
    Ok(config)
}

/// The files of a configuration.
struct Levels {
    project: PathBuf,
    files: Vec<PathBuf>,
    scripts: Vec<(String, PathBuf)>,
    policy: PathBuf,
}

/// The file with the table of who may what.
const POLICY: &str = "policy.yaml";

fn levels(path: Option<&Path>, environment: Option<&str>) -> Result<Levels, ConfigFault> {
    let fault = |message: String| ConfigFault { spot: None, message };
    let given = path.unwrap_or(Path::new("."));
    if path.is_some() && !given.exists() {
        return Err(fault(format!("{}: there is no such file or folder", given.display())));
    }
    if given.extension().is_some_and(|extension| extension == "lua") {
        return Err(fault(format!("{} is a script; name its project, the folder above its folder", given.display())));
    }
    if given.is_file() {
        let project = given.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."));
        let (project, files) = (project.to_owned(), vec![given.to_owned()]);
        return Ok(Levels { policy: project.join(POLICY), project, files, scripts: Vec::new() });
    }
    let is_config = given.join("global").is_dir();
    let folder = if is_config { given.to_owned() } else { given.join("config") };
    let project = match given.parent() {
        Some(parent) if is_config && !parent.as_os_str().is_empty() => parent.to_owned(),
        _ if is_config => PathBuf::from("."),
        _ => given.to_owned(),
    };
    let mut files = vec![folder.join("global/config.yaml")];
    if let Some(name) = environment {
        let file = folder.join("environments").join(format!("{name}.yaml"));
        if !file.is_file() {
            return Err(fault(format!("there is no environment {name}: {} is missing", file.display())));
        }
        files.push(file);
    }
    let mut scripts = Vec::new();
    for entry in std::fs::read_dir(folder.join("scripts")).into_iter().flatten().flatten() {
        let file = entry.path();
        if file.extension().is_some_and(|extension| extension == "yaml") {
            let name = file.file_stem().unwrap_or_default().to_string_lossy().into_owned();
            scripts.push((name, file));
        }
    }
    scripts.sort();
    Ok(Levels { project, files, scripts, policy: folder.join(POLICY) })
}

fn read_file(file: &Path) -> Result<Option<Node>, ConfigFault> {
    match std::fs::read_to_string(file) {
        Ok(text) => Node::parse(file, &text).map(Some),
        Err(fault) if fault.kind() == std::io::ErrorKind::NotFound => Ok(None),
        Err(fault) => Err(ConfigFault { spot: None, message: format!("{}: {fault}", file.display()) }),
    }
}

/// What is wrong beyond the grammar, with its place.
fn check(config: &Config, tree: &Node) -> Vec<ConfigFault> {
    let mut faults = Vec::new();
    for (name, settings) in &config.networks {
        let own = [partyline::NETWORK, partyline::HANDLE, mesh::NETWORK];
        if name.is_empty() || own.contains(&name.as_str()) || name.contains(['/', ' ', ',']) {
            let spot = tree.spot_of(&["networks", name]);
            faults.push(ConfigFault::at(
                &spot,
                format!("{name:?} cannot name a network: one word without /, and not `partyline`, `console` or `mesh`"),
            ));
        }
        for (key, message) in settings.faults() {
            let spot = tree.spot_of(&["networks", name, key]);
            faults.push(ConfigFault::at(&spot, format!("networks.{name}.{key}: {message}")));
        }
    }
    if let Err((key, fault)) = config.users.check() {
        let path: Vec<&str> = std::iter::once("users").chain(key.split('.')).collect();
        faults.push(ConfigFault::at(&tree.spot_of(&path), format!("users.{key}, {fault}")));
    }
    if config.scripts.limits.memory < 1 << 20 {
        let spot = tree.spot_of(&["scripts", "limits", "memory"]);
        faults.push(ConfigFault::at(&spot, "scripts.limits.memory: a script needs at least 1048576 bytes"));
    }
    if let Some(fault) = config.log.level.as_deref().and_then(level_fault) {
        faults.push(ConfigFault::at(&tree.spot_of(&["log", "level"]), format!("log.level: {fault}")));
    }
    for (path, message) in config.gateway.faults() {
        let path: Vec<&str> = path.iter().map(String::as_str).filter(|part| !part.is_empty()).collect();
        let spot = tree.spot_of(&[&["gateway"], path.as_slice()].concat());
        faults.push(ConfigFault::at(&spot, format!("gateway.{}: {message}", path.join("."))));
    }
    for (key, message) in config.partyline.faults() {
        faults.push(ConfigFault::at(&tree.spot_of(&["partyline", key]), format!("partyline.{key}: {message}")));
    }
    for (path, message) in config.mesh.faults() {
        let path: Vec<&str> = path.iter().map(String::as_str).filter(|part| !part.is_empty()).collect();
        let spot = tree.spot_of(&[&["mesh"], path.as_slice()].concat());
        faults.push(ConfigFault::at(&spot, format!("mesh.{}: {message}", path.join("."))));
    }
    for (path, message) in ports(config) {
        faults.push(ConfigFault::at(&tree.spot_of(&path), message));
    }
    for (key, message) in config.journal.faults() {
        faults.push(ConfigFault::at(&tree.spot_of(&["journal", key]), format!("journal.{key}: {message}")));
    }
    for (key, message) in config.pipelines.faults() {
        faults.push(ConfigFault::at(&tree.spot_of(&["pipelines", key]), format!("pipelines.{key}: {message}")));
    }
    for (key, message) in config.runner.faults() {
        faults.push(ConfigFault::at(&tree.spot_of(&["runner", key]), format!("runner.{key}: {message}")));
    }
    if config.replies.timeout.is_zero() {
        faults.push(ConfigFault::at(
            &tree.spot_of(&["replies", "timeout"]),
            "replies.timeout: must be longer than nothing",
        ));
    }
    faults
}

/// Ports that are claimed twice: the path of the later key, and a sentence.
fn ports(config: &Config) -> Vec<(Vec<&'static str>, String)> {
    let (syslog, statsd) = (config.sources.syslog.as_ref(), config.sources.statsd.as_ref());
    let claims = [
        (true, vec!["gateway", "listen"], config.gateway.listen),
        (true, vec!["partyline", "listen"], config.partyline.listen),
        (true, vec!["partyline", "tls_listen"], config.partyline.tls_listen),
        (true, vec!["mesh", "listen"], config.mesh.listen),
        (true, vec!["mesh", "listen_tls"], config.mesh.listen_tls),
        (true, vec!["sources", "syslog", "tcp"], syslog.and_then(|syslog| syslog.tcp)),
        (true, vec!["sources", "statsd", "tcp"], statsd.and_then(|statsd| statsd.tcp)),
        (false, vec!["sources", "syslog", "udp"], syslog.and_then(|syslog| syslog.udp)),
        (false, vec!["sources", "statsd", "udp"], statsd.and_then(|statsd| statsd.udp)),
    ];
    let mut faults = Vec::new();
    for (at, (tcp, path, address)) in claims.iter().enumerate() {
        let Some(address) = address.filter(|address| address.port() != 0) else { continue };
        let meets = |other: std::net::SocketAddr| {
            let same = other.ip() == address.ip() || other.ip().is_unspecified() || address.ip().is_unspecified();
            same && other.port() == address.port()
        };
        let other = claims[..at].iter().find(|(kind, _, other)| kind == tcp && other.is_some_and(meets));
        if let Some((_, other, _)) = other {
            faults
                .push((path.clone(), format!("{}: {address} is taken by {} already", path.join("."), other.join("."))));
        }
    }
    faults
}

/// What is wrong with a log level such as `info`, or `masterchief=debug,warn`.
fn level_fault(text: &str) -> Option<String> {
    const LEVELS: [&str; 6] = ["off", "error", "warn", "info", "debug", "trace"];
    let levels = text.split(',').map(|part| part.rsplit('=').next().unwrap_or(part).trim());
    let wrong = levels.into_iter().find(|level| !LEVELS.contains(&level.to_ascii_lowercase().as_str()))?;
    Some(match closest(wrong, LEVELS.into_iter()) {
        Some(close) => format!("{wrong:?} is no level; did you mean {close}?"),
        None => format!("{wrong:?} is no level; there are {}", LEVELS.join(", ")),
    })
}

/// Relative paths begin at the project.
fn place(config: &mut Config, project: &Path) {
    config.data = project.join(&config.data);
    config.scripts.folder = project.join(&config.scripts.folder);
    for path in [&mut config.partyline.cert, &mut config.partyline.key].into_iter().flatten() {
        *path = project.join(&*path);
    }
    config.pipelines.folder = project.join(&config.pipelines.folder);
    for path in [&mut config.mesh.cert, &mut config.mesh.key].into_iter().flatten() {
        *path = project.join(&*path);
    }
    for cluster in config.executors.kubernetes.values_mut() {
        if let Some(path) = &mut cluster.kubeconfig {
            *path = project.join(&*path);
        }
    }
    for settings in config.networks.values_mut() {
        let tls = &mut settings.tls;
        for path in [&mut tls.ca, &mut tls.cert, &mut tls.key].into_iter().flatten() {
            *path = project.join(&*path);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn project(files: &[(&str, &str)]) -> tempfile::TempDir {
        let dir = tempfile::tempdir().unwrap();
        for (name, text) in files {
            let path = dir.path().join(name);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(path, text).unwrap();
        }
        dir
    }

    fn faults(text: &str) -> Vec<String> {
        let dir = project(&[("config/global/config.yaml", text)]);
        let faults = load(Some(dir.path()), None, Secrets::Needed).map(|_| ()).unwrap_err();
        let prefix = format!("{}/config/global/", dir.path().display());
        faults.iter().map(|fault| fault.to_string().replace(&prefix, "")).collect()
    }

    #[test]
    fn three_levels_are_merged_deeply_and_the_later_wins() {
        let dir = project(&[
            (
                "config/global/config.yaml",
                "networks:\n  libera:\n    servers: [\"irc.libera.chat:6697\"]\n    nick: chief\n    channels: [\"#ops\"]\nscripts:\n  settings:\n    deploy: {apps: [web], dry: true}\n",
            ),
            (
                "config/environments/production.yaml",
                "networks:\n  libera:\n    nick: master\n    channels: [\"#prod\", {name: \"#x\", key: k}]\n",
            ),
            ("config/scripts/deploy.yaml", "dry: false\n"),
        ]);
        let config = load(Some(dir.path()), Some("production"), Secrets::Needed).unwrap();
        let libera = &config.networks["libera"];
        assert_eq!((libera.nick.as_str(), libera.channels.len(), libera.servers.len()), ("master", 2, 1));
        assert_eq!(config.scripts.settings["deploy"], serde_json::json!({"apps": ["web"], "dry": false}));
        assert_eq!(config.data, dir.path().join("data"));
        let same = load(Some(&dir.path().join("config")), None, Secrets::Needed).unwrap();
        assert_eq!((same.networks["libera"].nick.as_str(), same.source.project), ("chief", dir.path().to_owned()));
        let missing = load(Some(dir.path()), Some("qa"), Secrets::Needed).unwrap_err();
        assert!(missing[0].message.contains("no environment qa"));
    }

    #[test]
    fn a_port_that_is_claimed_twice_and_a_route_that_lets_anybody_in_are_told() {
        let told =
            faults("gateway: {listen: 127.0.0.1:8125}\nsources: {statsd: {tcp: 0.0.0.0:8125, udp: 0.0.0.0:8125}}\n");
        assert_eq!(told, ["config.yaml:2:20: sources.statsd.tcp: 0.0.0.0:8125 is taken by gateway.listen already"]);
        let told = faults("gateway:\n  routes:\n    github: {}\n");
        assert!(told[0].starts_with("config.yaml:3:") && told[0].contains("insecure: true"), "{told:?}");
        let told = faults("journal: {max_bytes: 5}\n");
        assert!(told[0].contains("journal.max_bytes"), "{told:?}");
    }

    #[test]
    fn a_fault_is_told_with_file_line_column_and_what_was_meant() {
        let servers = "    servers: [\"h:1\"]\n";
        assert_eq!(
            faults(&format!("networks:\n  a:\n{servers}    chanels: []\n")),
            ["config.yaml:4:5: there is no key \"chanels\"; did you mean \"channels\"?"]
        );
        assert_eq!(
            faults("network: {}\n"),
            ["config.yaml:1:1: there is no key \"network\"; did you mean \"networks\"?"]
        );
        assert!(
            faults(&format!("networks:\n  a:\n{servers}    nick: 007\n"))[0]
                .starts_with("config.yaml:4:11: this is a text")
        );
        assert!(
            faults("networks:\n  a:\n    servers: [\"h:99999\"]\n")[0]
                .starts_with("config.yaml:3:15: \"h:99999\" is not a server")
        );
        assert!(faults("networks: [\n")[0].starts_with("config.yaml:"));
        assert_eq!(
            faults("log: {format: jsno}\n"),
            ["config.yaml:1:15: \"jsno\" is none of the choices; did you mean \"json\"?"]
        );
        assert!(faults("data: a\ndata: b\n")[0].contains("config.yaml:"));
        assert_eq!(
            faults("replies: {timeout: soon}\n"),
            ["config.yaml:1:20: string \"soon\" is not a time such as 10s or 1h30m"]
        );
        assert!(
            faults("log: {level: verbose}\n")[0].starts_with("config.yaml:1:7: log.level: \"verbose\" is no level")
        );
        assert!(faults("scripts: {folder: script}\n")[0].starts_with("config.yaml:1:11: scripts.folder: script is no"));
        let unquoted = &faults("networks: {a: {servers: [\"h\"], channels: [#ops]}}\n")[0];
        assert!(unquoted.contains("written in quotes") && !unquoted.contains("line 1"), "{unquoted}");
    }

    #[test]
    fn all_faults_beyond_the_grammar_are_told_at_once() {
        let told = faults("networks:\n  a:\n    servers: []\n    nick: 9x\nusers:\n  roles: {ops: \"o1\"}\n");
        assert_eq!(told.len(), 3, "{told:?}");
        assert!(told[0].starts_with("config.yaml:3:5: networks.a.servers:"));
        assert!(told[2].starts_with("config.yaml:6:11: users.roles.ops, column 2"), "{}", told[2]);
    }

    #[test]
    fn secrets_come_from_the_environment_and_from_files_and_are_never_shown() {
        let text = "networks:\n  a:\n    servers: [\"h\"]\n    password: \"${file:secret.txt}\"\n    nick: \"${file:bad.txt}\"\n";
        let dir = project(&[("config/global/config.yaml", text), ("secret.txt", "hunter2\n"), ("bad.txt", "chief")]);
        let config = load(Some(dir.path()), None, Secrets::Needed).unwrap();
        assert_eq!(config.networks["a"].password.as_ref().unwrap().reveal(), "hunter2");
        assert!(!format!("{config:?}").contains("hunter2"));
        let servers = project(&[
            ("config/global/config.yaml", "networks: {a: {servers: [\"${file:s}\"]}}\n"),
            ("s", "hunter2:x"),
        ]);
        let fault = load(Some(servers.path()), None, Secrets::Needed).unwrap_err()[0].to_string();
        assert!(!fault.contains("hunter2"), "{fault}");
        assert!(faults("data: \"${env:MASTERCHIEF_NO_SUCH}\"\n")[0].contains("no variable MASTERCHIEF_NO_SUCH"));
        assert!(faults("data: \"${vault:x}\"\n")[0].contains("there is no ${vault:...}"));
    }

    #[test]
    fn the_example_and_the_new_projects_files_are_good() {
        let example = include_str!("../../config/example.yaml").replace("${env:SECRET_KEY}", "key");
        let dir = project(&[
            ("example.yaml", &example),
            ("new/config/global/config.yaml", include_str!("../../config/new/config.yaml")),
            ("new/config/environments/production.yaml", include_str!("../../config/new/production.yaml")),
        ]);
        let config = load(Some(&dir.path().join("example.yaml")), None, Secrets::Needed).unwrap();
        let defaults = Config::default();
        assert_eq!((config.replies, config.scripts.limits), (defaults.replies, defaults.scripts.limits));
        assert_eq!(
            load(Some(&dir.path().join("new")), Some("production"), Secrets::Needed).unwrap().log.format,
            LogFormat::Json
        );
    }

    #[test]
    fn no_configuration_is_a_configuration() {
        let dir = project(&[]);
        let config = load(Some(dir.path()), None, Secrets::Needed).unwrap();
        assert!(config.networks.is_empty() && !config.source.found);
        assert!(load(Some(&dir.path().join("nothing")), None, Secrets::Needed).is_err());
    }
}
