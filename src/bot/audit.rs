//! The audit trail: who was refused and who ran something privileged, written behind the street's back.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use masterchief_contract::Shutdown;
use tokio::sync::mpsc;

use crate::store::{AuditRow, Store};

/// Entries waiting for the disk. Beyond that they are in the log only, and counted.
const DEPTH: usize = 4096;

/// Takes entries. Cheap to clone.
#[derive(Clone, Debug)]
pub(crate) struct Audit {
    to: mpsc::Sender<AuditRow>,
    lost: Arc<AtomicU64>,
}

impl Audit {
    /// Starts the writer. It ends, with everything written, when it is time or the last clone is gone.
    pub(crate) fn start(store: Store, mut shutdown: Shutdown) -> (Audit, tokio::task::JoinHandle<()>) {
        let (to, mut from) = mpsc::channel(DEPTH);
        let writer = tokio::spawn(async move {
            loop {
                let row = tokio::select! {
                    row = from.recv() => row,
                    // A call that outlives everything else may hold the other end; what it does now is in the log.
                    () = shutdown.recv() => from.try_recv().ok(),
                };
                let Some(row) = row else { return };
                if let Err(fault) = store.audit(&row).await {
                    tracing::error!(%fault, ?row, "An audit entry could not be stored");
                }
            }
        });
        (Audit { to, lost: Arc::default() }, writer)
    }

    /// Takes one entry. It is in the log at once, whatever becomes of the disk.
    pub(crate) fn write(&self, row: AuditRow) {
        tracing::info!(
            action = %row.action, actor = %row.actor, handle = row.handle.as_deref().unwrap_or("-"), network = %row.network,
            kind = %row.kind, mask = %row.mask, detail = %row.detail, "Audit"
        );
        if self.to.try_send(row).is_err() {
            let lost = self.lost.fetch_add(1, Ordering::Relaxed) + 1;
            tracing::warn!(lost, "The audit queue is full: an entry is in the log only");
        }
    }
}
