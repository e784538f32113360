//! Runners across the mesh: stages of this bot that other bots do (`home`), stages of other bots that this one does (`host`),
//! and who offers what (`asking`).

mod asking;
mod home;
mod host;
mod reading;
mod wire;
mod work;

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::{Arc, Mutex};

use arc_swap::ArcSwap;
use masterchief_contract::{Clock, Future, Shutdown};
use tokio::sync::{Notify, watch};

use crate::executors::{End, Executors, Hands, Supervisor};
use crate::mesh::{Call, Mesh};
use crate::pipelines::{Elsewhere, Errand, Pipelines, RunnerSettings};
use host::Host;

/// What runners are opened with.
pub(super) struct Opening {
    pub(super) settings: RunnerSettings,
    pub(super) executors: Executors,
    pub(super) supervisor: Supervisor,
    /// Where errands of other bots work.
    pub(super) folder: PathBuf,
    /// Where it is kept who was ever a runner; nowhere without one.
    pub(super) data: Option<PathBuf>,
    pub(super) clock: Clock,
}

/// The runners of a bot. Cheap to clone; all clones are the same.
#[derive(Clone)]
pub(crate) struct Runners {
    shared: Arc<Shared>,
}

/// What all that has to do with runners shares.
struct Shared {
    settings: ArcSwap<RunnerSettings>,
    /// The mesh, once it is known whether there is one.
    mesh: watch::Sender<Option<Option<Mesh>>>,
    data: Option<PathBuf>,
    clock: Clock,
    /// What we offer is another thing now.
    changed: Notify,
    /// By runner, what its records are called: others are no longer the same runner.
    instances: Mutex<BTreeMap<String, String>>,
    host: Host,
}

impl Runners {
    pub(super) fn new(opening: Opening) -> Runners {
        let Opening { settings, executors, supervisor, folder, data, clock } = opening;
        let host = Host::new(executors, supervisor, folder);
        let (mesh, settings) = (watch::Sender::new(None), ArcSwap::from_pointee(settings));
        let (changed, instances) = (Notify::new(), Mutex::default());
        Runners { shared: Arc::new(Shared { settings, mesh, data, clock, changed, instances, host }) }
    }

    /// Takes another configuration. What is under way goes on.
    pub(super) fn configure(&self, settings: RunnerSettings) {
        self.shared.settings.store(Arc::new(settings));
        self.shared.changed.notify_one();
    }

    /// Follows who offers what until shutdown, and takes up again what was done here for others.
    pub(super) async fn follow(self, pipelines: Pipelines, mesh: Option<Mesh>, shutdown: Shutdown) {
        self.shared.mesh.send_replace(Some(mesh.clone()));
        self.shared.host.take_up(&self.shared).await;
        asking::follow(self.shared, pipelines, mesh, shutdown).await;
    }

    /// Answers another bot.
    pub(super) async fn answer(&self, call: &Call, mesh: &Mesh) -> Result<String, String> {
        let (me, from) = (mesh.name(), &call.from);
        if !self.shared.settings.load().accepts(from.as_str()) {
            return Err(format!("{me} does no work for {from}; its runner.accept_from names for whom it does"));
        }
        let sealed = mesh.view().way_to(from).is_some_and(|link| link.peer.encrypted);
        if !call.proven || !sealed {
            return Err(format!(
                "{me} does no work for {from}, because others could speak in its name: link the two with TLS, or trust the bots between"
            ));
        }
        self.shared.host.answer(&self.shared, call).await
    }
}

impl Elsewhere for Runners {
    fn run(&self, errand: Errand, hands: Hands) -> Future<End> {
        let shared = Arc::clone(&self.shared);
        Box::pin(home::run(shared, errand, hands))
    }
}
