//! A bot and the world outside: its sources, its gateway, its journal.

use std::net::SocketAddr;
use std::sync::Arc;

use masterchief_bindings::stream::{Message, Publish, PublishFault};
use masterchief_bindings::webhook::STREAM;
use masterchief_contract::{Batch, Shutdown};
use tokio::sync::oneshot;

use super::StartError;
use super::replay::{self, Replayed};
use super::started::Started;
use super::vitals::BotVitals;
use crate::gateway::{self, Door, Gateway};
use crate::irc::Around;
use crate::journal::{FeedRow, Fixture, Journal, JournalError};

impl Started {
    /// Starts what binds want read. Called once the scripts are loaded, so that each bind has its place first.
    /// Last of all: what waited in the journal is handled at once, and may want to speak.
    pub(super) async fn start_ingest(&mut self, shutdown: Shutdown) {
        let Some(ingest) = self.ingest.take() else { return };
        let (ready, placed) = oneshot::channel();
        self.ingest_task = Some(tokio::spawn(ingest.run(self.table.bound(), ready, shutdown)));
        // It fails only if the task is gone, and then stopping says so.
        let _ = placed.await;
    }

    /// Opens the port, once there is somebody who takes what is posted.
    pub(super) async fn open_gateway(
        &mut self,
        settings: gateway::Settings,
        door: Door,
        shutdown: Shutdown,
    ) -> Result<(), StartError> {
        let Some(at) = settings.listen else { return Ok(()) };
        let vitals = BotVitals {
            journal: self.journal.clone(),
            feeds: self.feeds.clone(),
            outbox: self.outbox.clone(),
            table: self.table.clone(),
            store: self.store().clone(),
            pipelines: self.pipelines.clone(),
        };
        let ledger = self.outbox.speech.ledger.clone();
        let opening = gateway::Opening {
            door,
            answers: self.outbox.answers.clone(),
            full: self.journal.room(&Arc::from(STREAM)),
            vitals: Arc::new(vitals),
            pipelines: Some(self.pipelines.clone()),
            book: self.book.clone(),
            clock: self.clock.clone(),
            pages: self.pages(),
            store: Some(self.store().clone()),
            hide: Arc::new(move |text| ledger.hide(text).into_owned()),
        };
        let url = settings.url.clone();
        let gateway = Gateway::open(at, settings, opening, shutdown).await?;
        let url = url.unwrap_or_else(|| format!("http://{}", gateway.at()));
        self.outbox.speech.gateway.store(Some(Arc::new(url.trim_end_matches('/').to_owned())));
        self.gateway = Some(gateway);
        Ok(())
    }

    /// Publishes a message to a broker; ready once it is acknowledged. Gives the broker's own name for it.
    pub async fn publish(&self, message: Message) -> Result<String, PublishFault> {
        self.publishers.publish(message).await
    }

    /// Where the gateway listens, if it does.
    pub fn gateway_at(&self) -> Option<SocketAddr> {
        self.gateway.as_ref().map(Gateway::at)
    }

    /// What came from outside.
    pub fn journal(&self) -> &Journal {
        &self.journal
    }

    /// What its binds would do about an event of a journal.
    pub(crate) async fn dry_replay(
        &self,
        journal: &Journal,
        number: u64,
    ) -> Result<Option<Vec<Replayed>>, JournalError> {
        replay::dry(&self.calls, &self.table, journal, number).await
    }

    /// Lets something happen outside, without a source: for tests. Every stream of the kind that a bind wants gets it.
    pub async fn happens(&self, fixture: Fixture) -> Result<(), String> {
        let mut streams: Vec<Arc<str>> = Vec::new();
        let mut found = None;
        for (_, bind, wanted) in self.table.wanted() {
            if bind.kind().name() == fixture.kind {
                found = Some(bind.spec());
                if !streams.contains(&wanted.stream) {
                    streams.push(wanted.stream);
                }
            }
        }
        let spec = found.ok_or_else(|| format!("nothing is bound to {:?}", fixture.kind))?;
        let lane: Arc<str> = Arc::from(fixture.lane.as_str());
        let inbound = fixture.into_inbound(spec, self.clock.now())?;
        for stream in streams {
            let batch = Batch::one(Arc::clone(&lane), inbound.clone(), 0);
            self.journal.append(spec.kind, &stream, batch).await.map_err(|fault| fault.to_string())?;
        }
        Ok(())
    }

    /// How the sources are doing.
    pub fn sources(&self) -> Vec<FeedRow> {
        self.feeds.rows()
    }
}
