//! The rooms that stand on the ground: sources, pipelines, the mesh.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::{Arc, OnceLock};

use masterchief_bindings::{Settings as SourceSettings, webhook};
use masterchief_contract::{Inlet, Kind, Meter, Outlet, Shutdown, Stopper};
use tokio::sync::watch;
use tokio::task::JoinHandle;

use super::{Ground, passing_folder};
use crate::bot::builder::Builder;
use crate::bot::deliver::{Deliveries, WantedStream};
use crate::bot::ingest::{Feeds, Ingest, Makers};
use crate::bot::luastep::stage_executors;
use crate::bot::policy::Policy;
use crate::bot::runners::{self, Runners};
use crate::bot::{RUNS, StartError, deploys, mesh};
use crate::gateway::Door;
use crate::mesh::{Mesh, RELAY, RELAYED};
use crate::pipelines::{Opening, Pipelines};
use crate::store::runs::Runs;

/// The folder under the data folder where the work of others is done.
const ERRANDS: &str = "errands";

/// The mesh, if there is one.
pub(in crate::bot) struct Meshed {
    pub(in crate::bot) mesh: Option<Mesh>,
    /// Ends it.
    pub(in crate::bot) end: Stopper,
    pub(in crate::bot) tasks: Vec<JoinHandle<()>>,
    /// Where events of other bots come in.
    pub(in crate::bot) door: Option<Door>,
    /// Who does stages elsewhere, and what is done here for others.
    pub(in crate::bot) runners: Runners,
    /// What people of other bots must not break, once it is known.
    policy: Arc<OnceLock<Policy>>,
}

impl Meshed {
    /// From now on nobody is taken over from another bot who breaks the policy.
    pub(super) fn guard(&self, policy: &Policy) {
        // Told once, at the start.
        let _ = self.policy.set(policy.clone());
    }
}

/// What is read from outside, and by whom.
pub(super) struct Reading {
    pub(super) makers: Makers,
    pub(super) settings: watch::Receiver<Arc<SourceSettings>>,
    pub(super) data: Option<PathBuf>,
    /// Whether there is a gateway.
    pub(super) listens: bool,
    /// Where events of other bots come in, if there is a mesh.
    pub(super) relayed: Option<Door>,
}

impl Ground {
    /// What will read the sources, and the door that posts come through.
    pub(super) fn ingest(&self, reading: Reading) -> (Ingest, Feeds, Door) {
        let Reading { mut makers, settings, data, listens, relayed } = reading;
        let (feeds, door) = (Feeds::default(), Door::reviving());
        let mut always = Vec::new();
        if listens {
            let door = door.clone();
            makers.own.insert(Kind::Webhook, Arc::new(move |_: &str, meter: &Arc<Meter>| Ok(door.source(meter))));
            always.push(WantedStream { kind: Kind::Webhook, stream: Arc::from(webhook::STREAM) });
        }
        if let Some(door) = relayed {
            makers.own.insert(RELAY, Arc::new(move |_: &str, meter: &Arc<Meter>| Ok(door.source(meter))));
            always.push(WantedStream { kind: RELAY, stream: Arc::from(RELAYED) });
        }
        let clock = self.calls.clock.clone();
        let calls = Arc::clone(&self.calls);
        let ingest = Ingest {
            always,
            deliveries: Deliveries::new(self.table.clone(), self.journal.clone(), calls, clock.clone()),
            journal: self.journal.clone(),
            makers,
            settings,
            rules: Arc::clone(&self.rules),
            feeds: feeds.clone(),
            clock,
            data,
            running: BTreeMap::new(),
        };
        (ingest, feeds, door)
    }

    /// The pipelines, with what ran before taken up again.
    pub(super) async fn pipelines(
        &self,
        builder: &Builder,
        shutdown: Shutdown,
    ) -> Result<(Pipelines, JoinHandle<()>, Runners), StartError> {
        let outlet: Arc<dyn Outlet> = Arc::new(self.outbox.clone());
        let mut all = stage_executors(&builder.executors, Some((self.table.clone(), outlet)));
        all.extend(builder.own_executors.clone());
        let folder = match &builder.data {
            Some(data) => data.join(RUNS),
            None => passing_folder()?,
        };
        // Commands have another folder than we to begin in.
        let folder = std::path::absolute(&folder).unwrap_or(folder);
        let file = builder.data.as_ref().map(|data| data.join(format!("{RUNS}.db")));
        let at = builder.pipelines.records.at(file.as_deref())?;
        at.is_all(file.as_deref())?;
        let runners = Runners::new(runners::Opening {
            settings: builder.runner.clone(),
            executors: all.clone(),
            supervisor: builder.supervisor.clone(),
            folder: folder.with_file_name(ERRANDS),
            data: builder.data.clone(),
            clock: builder.clock.clone(),
        });
        let opening = Opening {
            runs: Runs::begin(&at).await?,
            settings: builder.pipelines.clone(),
            executors: all,
            folder,
            project: builder.project.clone(),
            outlet: Arc::new(self.outbox.clone()),
            clock: builder.clock.clone(),
            supervisor: builder.supervisor.clone(),
            around: Arc::new(deploys::Surroundings {
                outbox: self.outbox.clone(),
                book: self.book.clone(),
                audit: self.audit.clone(),
                journal: self.journal.clone(),
                store: self.store.clone(),
                clock: builder.clock.clone(),
            }),
            elsewhere: Arc::new(runners.clone()),
        };
        let (pipelines, task, faults) = Pipelines::open(opening, shutdown).await?;
        for fault in faults {
            tracing::error!(%fault, "A pipeline cannot be read; the others are there");
        }
        Ok((pipelines, task, runners))
    }

    /// The mesh, if one is configured. It ends after the street, so that handlers can still send.
    pub(super) async fn mesh(
        &self,
        builder: &Builder,
        inlet: &Inlet,
        pipelines: &Pipelines,
        runners: &Runners,
    ) -> Result<Meshed, StartError> {
        let ((end, shutdown), door) = (Shutdown::new(), Door::default());
        let policy = Arc::<OnceLock<Policy>>::default();
        let around = mesh::Around {
            settings: builder.mesh.clone(),
            store: self.store.clone(),
            data: builder.data.clone(),
            clock: builder.clock.clone(),
            book: self.book.clone(),
            table: self.table.clone(),
            inlet: inlet.clone(),
            calls: Arc::clone(&self.calls),
            outbox: self.outbox.clone(),
            party: self.party.clone(),
            door: door.clone(),
            runners: runners.clone(),
            pipelines: pipelines.clone(),
            policy: Arc::clone(&policy),
        };
        let (mesh, tasks) = mesh::open(around, shutdown).await?.unzip();
        if let Some(mesh) = &mesh {
            mesh::Relays::of(&builder.kinds, &self.table, mesh, &builder.mesh.relay)?.bind(&self.table);
            self.gate.spare(mesh);
            mesh::bind_need(&builder.kinds, &self.table, mesh, &self.outbox)?;
        }
        let door = mesh.is_some().then_some(door);
        Ok(Meshed { mesh, end, tasks: tasks.unwrap_or_default(), door, runners: runners.clone(), policy })
    }
}
