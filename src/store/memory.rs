//! Records that end with the process.

use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard, PoisonError};

use chrono::{DateTime, Utc};
use serde_json::Value;

use super::facts::MemoryFacts;
use super::notes::MemoryNotes;
use super::said::MemorySaid;
use super::told::MemoryTold;
use super::{Anchor, AuditRow, BotRow, StoreError, UserRow};

/// Lines of the audit trail that are remembered.
const AUDIT_MAX: usize = 10_000;

/// Everything, behind one lock that is never held over a wait.
#[derive(Debug, Default)]
pub(super) struct Memory {
    tables: Mutex<Tables>,
    pub(super) notes: MemoryNotes,
    pub(super) facts: MemoryFacts,
    pub(super) said: MemorySaid,
    pub(super) told: MemoryTold,
}

/// A value and when it expires.
type Kept = (Value, Option<DateTime<Utc>>);

#[derive(Debug, Default)]
struct Tables {
    users: BTreeMap<String, UserRow>,
    revision: i64,
    audit: Vec<AuditRow>,
    kv: BTreeMap<(String, String), Kept>,
    clock: BTreeMap<String, DateTime<Utc>>,
    anchors: BTreeMap<String, Anchor>,
    bots: BTreeMap<String, BotRow>,
}

impl Memory {
    pub(super) fn users(&self) -> Vec<UserRow> {
        self.lock().users.values().cloned().collect()
    }

    pub(super) fn put_user(&self, row: &UserRow) {
        let mut tables = self.lock();
        tables.users.insert(row.handle.clone(), row.clone());
        tables.revision += 1;
    }

    /// Writes and removes users if nobody else has since `revision`; the revision then.
    pub(super) fn change_users(&self, revision: i64, puts: &[UserRow], gone: &[String]) -> Option<i64> {
        let mut tables = self.lock();
        if tables.revision != revision {
            return None;
        }
        for handle in gone {
            tables.users.remove(handle);
        }
        for row in puts {
            tables.users.insert(row.handle.clone(), row.clone());
        }
        tables.revision += i64::from(!(puts.is_empty() && gone.is_empty()));
        Some(tables.revision)
    }

    pub(super) fn remove_user(&self, handle: &str) -> bool {
        let mut tables = self.lock();
        tables.revision += 1;
        tables.users.remove(handle).is_some()
    }

    pub(super) fn bots(&self) -> Vec<BotRow> {
        self.lock().bots.values().cloned().collect()
    }

    pub(super) fn put_bot(&self, row: &BotRow) {
        self.lock().bots.insert(row.handle.clone(), row.clone());
    }

    pub(super) fn remove_bot(&self, handle: &str) -> bool {
        self.lock().bots.remove(handle).is_some()
    }

    pub(super) fn users_revision(&self) -> i64 {
        self.lock().revision
    }

    pub(super) fn audit(&self, row: &AuditRow) {
        let mut tables = self.lock();
        if tables.audit.len() == AUDIT_MAX {
            tables.audit.remove(0);
        }
        tables.audit.push(row.clone());
    }

    pub(super) fn audit_recent(&self, count: u32) -> Vec<AuditRow> {
        self.lock().audit.iter().rev().take(count as usize).cloned().collect()
    }

    pub(super) fn kv_get(&self, script: &str, name: &str, now: DateTime<Utc>) -> Option<Value> {
        self.lock().live(script, name, now).cloned()
    }

    pub(super) fn kv_set(&self, script: &str, name: &str, value: &Value, expires: Option<DateTime<Utc>>) {
        self.lock().kv.insert(key(script, name), (value.clone(), expires));
    }

    pub(super) fn kv_cas(&self, script: &str, name: &str, old: &Value, new: &Value, now: DateTime<Utc>) -> bool {
        let mut tables = self.lock();
        if tables.live(script, name, now).unwrap_or(&Value::Null) != old {
            return false;
        }
        if new.is_null() {
            tables.kv.remove(&key(script, name));
        } else {
            tables.kv.insert(key(script, name), (new.clone(), None));
        }
        true
    }

    pub(super) fn kv_incr(&self, script: &str, name: &str, by: f64, now: DateTime<Utc>) -> Result<f64, StoreError> {
        let mut tables = self.lock();
        let before = match tables.live(script, name, now) {
            None => 0.0,
            Some(value) => value.as_f64().ok_or_else(|| StoreError::NotANumber(name.to_owned()))?,
        };
        let expires = tables.live(script, name, now).and_then(|_| tables.kv[&key(script, name)].1);
        tables.kv.insert(key(script, name), (Value::from(before + by), expires));
        Ok(before + by)
    }

    pub(super) fn kv_delete(&self, script: &str, name: &str) -> bool {
        self.lock().kv.remove(&key(script, name)).is_some()
    }

    pub(super) fn kv_names(&self, script: &str, prefix: &str, count: u32, now: DateTime<Utc>) -> Vec<String> {
        let tables = self.lock();
        let from = tables.kv.range(key(script, prefix)..);
        let ours = from.take_while(|((owner, name), _)| owner == script && name.starts_with(prefix));
        let live = ours.filter(|(_, (_, expires))| expires.is_none_or(|at| now < at));
        live.take(count as usize).map(|((_, name), _)| name.clone()).collect()
    }

    pub(super) fn clock(&self) -> Vec<(String, DateTime<Utc>)> {
        self.lock().clock.iter().map(|(name, ran)| (name.clone(), *ran)).collect()
    }

    pub(super) fn anchor(&self, name: &str) -> Option<Anchor> {
        self.lock().anchors.get(name).cloned()
    }

    pub(super) fn put_anchor(&self, name: &str, anchor: &Anchor) {
        self.lock().anchors.insert(name.to_owned(), anchor.clone());
    }

    pub(super) fn clock_ran(&self, name: &str, at: DateTime<Utc>) {
        self.lock().clock.insert(name.to_owned(), at);
    }

    fn lock(&self) -> MutexGuard<'_, Tables> {
        self.tables.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Tables {
    fn live(&self, script: &str, name: &str, now: DateTime<Utc>) -> Option<&Value> {
        let (value, expires) = self.kv.get(&key(script, name))?;
        expires.is_none_or(|at| now < at).then_some(value)
    }
}

fn key(script: &str, name: &str) -> (String, String) {
    (script.to_owned(), name.to_owned())
}
