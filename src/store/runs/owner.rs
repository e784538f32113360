//! Whose the records are. A bot that begins raises a number in them; one that finds a higher number than its own, in the transaction
//! in which it writes, writes nothing. So of two bots on the same records the older one is stopped, however that came about.

use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::Duration;

use tokio::time::Instant;

use super::RunsError;
use super::db::{Db, params};
use super::writer::Runs;

/// Nobody claimed them here: a command that looks after records while a bot may run.
const UNCLAIMED: i64 = 0;
/// Another bot claimed them since.
const TAKEN: i64 = -1;
/// How long a server may take to see that a bot that was killed is gone.
const PATIENCE: Duration = Duration::from_secs(5);
/// How long the end of a bot waits for it.
const END: Duration = Duration::from_secs(2);
/// The time between two tries.
const AGAIN: Duration = Duration::from_millis(100);
/// Whose they are.
const OWNER: &str = "SELECT epoch, who FROM owner WHERE id = 1";

/// The epoch that this side has, if it claimed one. Clones are the same.
#[derive(Clone, Debug, Default)]
pub(super) struct Epoch(Arc<AtomicI64>);

impl Epoch {
    /// Whether the records are still ours, within the transaction that is about to write.
    pub(super) fn holds(&self, db: &Db) -> Result<(), RunsError> {
        let ours = self.0.load(Ordering::Acquire);
        if ours == UNCLAIMED {
            return Ok(());
        }
        let found = db.held(OWNER, |row| Ok((row.get::<i64>(0)?, row.get::<String>(1)?)))?;
        let (now, who) = found.unwrap_or_default();
        if now == ours {
            return Ok(());
        }
        self.0.store(TAKEN, Ordering::Release);
        Err(RunsError::Taken(who))
    }
}

impl Runs {
    /// Makes the records ours: whoever claimed them before writes nothing any more. `who` is what that one is told of us. On a server
    /// one that is alive is not put aside.
    pub async fn claim(&self, who: &str) -> Result<i64, RunsError> {
        self.alone(PATIENCE).await?;
        let (epoch, who) = (self.epoch.clone(), who.to_owned());
        let claimed = self
            .change(move |db| {
                let who = db.seen_from()?.map_or(who.clone(), |from| format!("{who} at {from}"));
                let sql = "INSERT INTO owner (id, epoch, who) VALUES (1, 1, ?1)
                     ON CONFLICT (id) DO UPDATE SET epoch = owner.epoch + 1, who = excluded.who";
                db.execute(sql, params![who])?;
                db.number("SELECT epoch FROM owner WHERE id = 1", &[])
            })
            .await?;
        epoch.0.store(claimed, Ordering::Release);
        Ok(claimed)
    }

    /// Waits so long until nobody else has the records as theirs.
    pub(super) async fn alone(&self, patience: Duration) -> Result<(), RunsError> {
        let until = Instant::now() + patience;
        while !self.alter(Db::alone).await? {
            if Instant::now() >= until {
                // One that begins, or that looks after the tables, has not written who it is.
                let who = self.read(|db| db.one(OWNER, &[], |row| row.get(1))).await;
                return Err(RunsError::Held(who.ok().flatten().unwrap_or_else(|| "of an unknown name".to_owned())));
            }
            tokio::time::sleep(AGAIN).await;
        }
        Ok(())
    }

    /// Lets others have them, at the end. Who is gone without it has given them up as well, a bit later.
    pub async fn release(&self) {
        match tokio::time::timeout(END, self.alter(Db::release)).await {
            Ok(Ok(())) => {}
            Ok(Err(fault)) => tracing::debug!(%fault, "The records of runs are given up by going"),
            Err(_) => tracing::debug!("The records of runs are given up by going"),
        }
    }

    /// Whether another bot claimed them since we did, as far as we have met it.
    pub fn taken(&self) -> bool {
        self.epoch.0.load(Ordering::Acquire) == TAKEN
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::runs::tests::put_run;

    #[tokio::test]
    async fn of_two_that_claim_the_records_the_older_one_writes_nothing_more() {
        let dir = tempfile::tempdir().unwrap();
        let open = || Runs::open(Some(&dir.path().join("runs.db"))).unwrap();
        let (old, new, passing) = (open(), open(), open());
        assert_eq!(old.claim("the first").await.unwrap(), 1);
        old.write(put_run(1, "shop", "prod", "running", false)).await.unwrap();
        assert_eq!(new.claim("the second").await.unwrap(), 2);
        let fault = old.write(put_run(2, "shop", "prod", "running", false)).await.unwrap_err();
        assert!(matches!(&fault, RunsError::Taken(who) if who == "the second"), "{fault}");
        assert!(fault.to_string().contains("stop one of the two"), "{fault}");
        assert!(old.taken() && !new.taken());
        assert!(old.purge(i64::MAX).await.is_err() && old.check().await.is_err(), "nor does it forget anything");
        assert!(new.run(2).await.unwrap().is_none());
        new.write(put_run(3, "shop", "prod", "running", false)).await.unwrap();
        // A command that only looks after them claims nothing.
        passing.write(put_run(4, "shop", "prod", "running", false)).await.unwrap();
        assert!(old.run(4).await.unwrap().is_some(), "looking is free");
    }
}
