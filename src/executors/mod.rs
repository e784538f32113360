//! What reaches outside: HTTP and commands for handlers, and the executors, which do the work of a pipeline's stages.
//!
//! A new executor is a file here and a row in `EXECUTORS`.

mod account;
mod ansible;
mod ansible_recap;
mod apart;
mod cgroup;
mod ci;
mod class;
mod classify;
mod collect;
mod coverage;
mod disk;
mod docker;
mod git;
mod gitname;
mod health;
mod http;
mod image;
mod jenkins;
mod junit;
mod kept;
mod known;
mod kubernetes;
mod local;
mod log;
mod mail;
mod mask;
mod probe;
mod process;
mod promql;
mod registry;
mod report;
mod repository;
mod scan;
mod settings;
mod shape;
mod shell;
mod step;
mod supervise;
mod terraform;
mod terraform_files;
mod terraform_left;
mod terraform_settings;
mod terraform_ui;
mod verify;
mod workbench;

use std::collections::BTreeMap;
use std::sync::Arc;

use masterchief_contract::Future;

pub use account::Account;
pub use apart::apart;
pub use cgroup::Cgroup;
pub use class::{Class, Failure};
pub use classify::{classify, suggest};
pub use collect::{Artifact, artifacts, matching, open as open_regular};
pub use coverage::coverage;
pub use http::{NetHttp, Request, Response};
pub use junit::{Tests, junit};
pub use kept::{TOKEN, forget_given, forget_secrets, given, keep_given, step_token, unguessable};
pub use known::Known;
pub use local::{Command, LocalShell, Output};
pub use log::{LOG, OWN, StepLog, ends, log_parts, tail};
pub use mail::{Mail, is_address};
pub use mask::{MaskStream, Masker};
pub use process::{Ask, Job, JobEnd, Out, Supervisor, end_jobs};
pub use repository::{Changes, Commit, Resolved, changes, mirror, resolve, tag};
pub use settings::{Cluster, Forge, ForgeKind, Jenkins, Prometheus, Registry, Settings};
pub use shape::hide_shapes;
pub use shell::{left_outputs, scrub};
pub use step::{About, End, Executor, Hands, Keeper, Limits, Step};
pub use supervise::main as supervise;

/// Makes an executor.
type Make = fn(&Settings) -> Arc<dyn Executor>;

/// The executors, by the key a stage has for them.
const EXECUTORS: &[(&str, Make)] = &[
    ("ansible", ansible::make),
    ("ci", ci::make),
    ("docker", docker::make),
    ("git", git::make),
    ("health", health::make_health),
    ("http", health::make_call),
    ("jenkins", jenkins::make),
    ("kubernetes", kubernetes::make),
    ("scan", scan::make),
    ("shell", shell::make),
    ("terraform", terraform::make),
    ("verify", verify::make),
];

/// The executors by name.
pub type Executors = BTreeMap<String, Arc<dyn Executor>>;

/// All of them.
pub fn executors(settings: &Settings) -> Executors {
    EXECUTORS.iter().map(|(name, make)| ((*name).to_owned(), make(settings))).collect()
}

/// Why something outside was not done.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct ExecFault(pub String);

/// Makes HTTP requests.
pub trait Http: Send + Sync + 'static {
    /// Sends a request to one of `hosts` and reads the answer, both within the request's time. Redirects are
    /// followed to the same hosts only.
    fn request(&self, request: Request, hosts: Vec<String>) -> Future<Result<Response, ExecFault>>;
}

/// Runs commands.
pub trait Shell: Send + Sync + 'static {
    /// Runs a command and waits for it. There is no shell between: arguments are passed as they are.
    fn run(&self, command: Command) -> Future<Result<Output, ExecFault>>;
}
