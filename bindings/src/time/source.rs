//! The source of moments: watches the schedules that are bound and tells when one is due.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use chrono::{DateTime, Datelike, TimeDelta, Timelike, Utc};
use masterchief_contract::{Bound, Clock, Event, EventData, Future, Inlet, Kind, Live, Missed, Shutdown, Value};
use tokio::sync::watch;

use super::schedule::{Next, Schedule};

/// The longest sleep, so that a clock that was set is noticed.
const LOOK: Duration = Duration::from_secs(30);
/// What is later than this has been missed: the machine slept, or the clock was set.
const LATE: TimeDelta = TimeDelta::seconds(60);
/// Missed runs that are caught up with at most.
const CATCH_UP_MAX: usize = 1000;

/// Where it is remembered when a schedule last ran. The bot keeps it over restarts.
pub trait LastRuns: Send + Sync + 'static {
    /// When the schedule of this key last ran, if it is known.
    fn last(&self, key: &str) -> Option<DateTime<Utc>>;
    /// It ran, or its missed runs were dealt with up to this moment.
    fn ran(&self, key: &str, at: DateTime<Utc>);
}

/// The source of `time` and `cron`.
pub struct TimeSource {
    last_runs: Arc<dyn LastRuns>,
    entries: HashMap<String, Entry>,
    /// When it last looked, to notice a clock that was set back.
    looked: DateTime<Utc>,
}

/// A schedule that is bound.
struct Entry {
    bound: Bound,
    schedule: Schedule,
    next: Next,
}

impl TimeSource {
    /// A source that remembers in `last_runs`.
    pub fn new(last_runs: Arc<dyn LastRuns>) -> TimeSource {
        TimeSource { last_runs, entries: HashMap::new(), looked: DateTime::UNIX_EPOCH }
    }

    /// Takes the binds as they are now. One that was there before a reload goes on where it was.
    fn take(&mut self, binds: &[Bound], now: DateTime<Utc>) -> Vec<Event> {
        let mut old = std::mem::take(&mut self.entries);
        let mut events = Vec::new();
        let mut seen: HashMap<&str, u32> = HashMap::new();
        for bound in binds.iter().filter(|bound| matches!(bound.kind, Kind::Time | Kind::Cron)) {
            let nth = seen.entry(&bound.key).or_default();
            let key = if *nth == 0 { bound.key.to_string() } else { format!("{} #{nth}", bound.key) };
            *nth += 1;
            let zone = bound.options.tz.as_deref();
            let parsed = if bound.kind == Kind::Time {
                Schedule::for_time(&bound.mask, zone)
            } else {
                Schedule::for_cron(&bound.mask, zone)
            };
            let Ok(schedule) = parsed else {
                tracing::error!(mask = %bound.mask, "A schedule that was good when it was bound is not");
                continue;
            };
            let kept = old.remove(&key).filter(|entry| entry.bound.options.tz == bound.options.tz);
            let is_new = kept.is_none();
            let next = kept.map_or_else(|| schedule.next_after(now), |entry| entry.next);
            let entry = Entry { bound: bound.clone(), schedule, next };
            if is_new {
                events.extend(self.catch_up(&key, &entry, now));
            }
            self.entries.insert(key, entry);
        }
        events
    }

    /// What a schedule missed while the bot was down.
    fn catch_up(&self, key: &str, entry: &Entry, now: DateTime<Utc>) -> Vec<Event> {
        if entry.bound.options.missed == Missed::Skip {
            return Vec::new();
        }
        let last = self.last_runs.last(key);
        self.last_runs.ran(key, now);
        last.map_or(Vec::new(), |last| entry.missed(last, now))
    }

    /// What is due now.
    fn due(&mut self, now: DateTime<Utc>) -> Vec<Event> {
        let mut events = Vec::new();
        if now < self.looked - LATE {
            tracing::warn!(from = %self.looked, to = %now, "The clock was set back; schedules are counted anew");
            self.entries.values_mut().for_each(|entry| entry.next = entry.schedule.next_after(now));
        }
        self.looked = now;
        for (key, entry) in &mut self.entries {
            let due = match entry.next {
                Next::Due(due) if due <= now => due,
                Next::Look(at) if at <= now => {
                    entry.next = entry.schedule.next_after(at);
                    continue;
                }
                _ => continue,
            };
            let told = if now - due <= LATE {
                vec![entry.event(due, 0)]
            } else {
                entry.missed(due - TimeDelta::seconds(1), now)
            };
            // From the last that was due, so that what is due within a late minute is not lost.
            let from = entry.schedule.between(due, now, 1).last().copied().unwrap_or(due);
            let from = if now - due <= LATE { due } else { from };
            entry.next = entry.schedule.next_after(from);
            if entry.bound.options.missed != Missed::Skip {
                self.last_runs.ran(key, from);
            }
            events.extend(told);
        }
        events.sort_by_key(|event| event.at);
        events
    }

    /// How long nothing is due.
    fn pause(&self, now: DateTime<Utc>) -> Duration {
        let next = self.entries.values().filter_map(|entry| match entry.next {
            Next::Due(at) | Next::Look(at) => Some(at),
            Next::Never => None,
        });
        let until = next.min().map_or(LOOK, |at| (at - now).to_std().unwrap_or(Duration::ZERO));
        until.min(LOOK)
    }
}

impl Entry {
    /// The events for the runs after `from` up to now, as the bind wants them.
    fn missed(&self, from: DateTime<Utc>, now: DateTime<Utc>) -> Vec<Event> {
        let runs = match self.bound.options.missed {
            Missed::Skip => self.schedule.between(from.max(now - LATE), now, 1),
            Missed::Once | Missed::All => self.schedule.between(from, now, CATCH_UP_MAX),
        };
        match (self.bound.options.missed, runs.last()) {
            (Missed::All, _) => runs.iter().map(|at| self.event(*at, 0)).collect(),
            (_, Some(last)) => vec![self.event(*last, runs.len() - 1)],
            (_, None) => Vec::new(),
        }
    }

    fn event(&self, at: DateTime<Utc>, missed: usize) -> Event {
        let kinds: &'static [Kind] = if self.bound.kind == Kind::Time { &[Kind::Time] } else { &[Kind::Cron] };
        let local = self.schedule.local(at);
        let mut event = EventData::new(kinds, at);
        event.bind = Some(self.bound.bind);
        event.text = self.schedule.moment(at);
        // Eggdrop counts the months of `time` from 00 and those of `cron` from 01.
        let month = if self.bound.kind == Kind::Time { local.month0() } else { local.month() };
        event.fields = vec![
            ("min", Value::from(format!("{:02}", local.minute()))),
            ("hour", Value::from(format!("{:02}", local.hour()))),
            ("day", Value::from(format!("{:02}", local.day()))),
            ("month", Value::from(format!("{month:02}"))),
            ("year", Value::from(format!("{:04}", local.year()))),
            ("weekday", Value::from(format!("{:02}", local.weekday().num_days_from_sunday()))),
            ("scheduled", Value::from(local.to_rfc3339())),
            ("missed", Value::from(missed)),
        ];
        Event::new(event)
    }
}

impl Live for TimeSource {
    fn run(
        mut self: Box<Self>,
        mut binds: watch::Receiver<Arc<[Bound]>>,
        inlet: Inlet,
        clock: Clock,
        mut shutdown: Shutdown,
    ) -> Future<()> {
        Box::pin(async move {
            let now_bound = Arc::clone(&binds.borrow_and_update());
            let mut events = self.take(&now_bound, clock.now());
            loop {
                for event in events.drain(..) {
                    if inlet.put(event).await.is_err() {
                        return;
                    }
                }
                tokio::select! {
                    () = shutdown.recv() => return,
                    () = clock.sleep(self.pause(clock.now())) => events = self.due(clock.now()),
                    changed = binds.changed() => {
                        if changed.is_err() {
                            return;
                        }
                        let now_bound = Arc::clone(&binds.borrow_and_update());
                        events = self.due(clock.now());
                        events.extend(self.take(&now_bound, clock.now()));
                    }
                }
            }
        })
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;
    use std::sync::Mutex;

    use masterchief_contract::{BindId, BindOptions, Outlets, Stopper, inlet};

    use super::*;

    #[derive(Default)]
    struct Notes(Mutex<BTreeMap<String, DateTime<Utc>>>);

    impl LastRuns for Notes {
        fn last(&self, key: &str) -> Option<DateTime<Utc>> {
            self.0.lock().unwrap().get(key).copied()
        }

        fn ran(&self, key: &str, at: DateTime<Utc>) {
            self.0.lock().unwrap().insert(key.to_owned(), at);
        }
    }

    fn utc(text: &str) -> DateTime<Utc> {
        DateTime::parse_from_rfc3339(text).unwrap().to_utc()
    }

    fn bound(id: u64, mask: &str, missed: Missed) -> Bound {
        let options = BindOptions { missed, ..BindOptions::default() };
        Bound {
            bind: BindId(id),
            kind: Kind::Time,
            mask: Arc::from(mask),
            options,
            key: Arc::from(format!("time {mask}")),
        }
    }

    struct Running {
        binds: watch::Sender<Arc<[Bound]>>,
        out: Outlets,
        _stopper: Stopper,
    }

    fn start(at: &str, binds: Vec<Bound>, notes: &Arc<Notes>) -> Running {
        let (inlet, out) = inlet(64);
        let (stopper, shutdown) = Shutdown::new();
        let (binds, watched) = watch::channel(Arc::from(binds));
        let source = Box::new(TimeSource::new(Arc::clone(notes) as Arc<dyn LastRuns>));
        tokio::spawn(source.run(watched, inlet, Clock::starting(utc(at)), shutdown));
        Running { binds, out, _stopper: stopper }
    }

    /// What is told within this time: bind and moment.
    async fn told(running: &mut Running, time: Duration) -> Vec<String> {
        let mut out = Vec::new();
        let _ = tokio::time::timeout(time, async {
            while let Some(parcel) = running.out.recv().await {
                for event in parcel.events {
                    out.push(format!("{} {}", event.bind.unwrap().0, event.at.format("%d %H:%M")));
                }
            }
        })
        .await;
        out
    }

    const MINUTE: Duration = Duration::from_secs(60);

    #[tokio::test(start_paused = true)]
    async fn each_moment_is_told_once_and_a_reload_neither_repeats_nor_loses_one() {
        let mut running = start("2026-03-02T12:00:30Z", vec![bound(1, "*/5 * * * *", Missed::Skip)], &Arc::default());
        assert_eq!(told(&mut running, 10 * MINUTE).await, ["1 02 12:05", "1 02 12:10"]);
        running
            .binds
            .send_replace(Arc::from([bound(2, "*/5 * * * *", Missed::Skip), bound(3, "12 * * * 1-5", Missed::Skip)]));
        assert_eq!(told(&mut running, 5 * MINUTE).await, ["3 02 12:12", "2 02 12:15"]);
        running.binds.send_replace(Arc::from([]));
        assert!(told(&mut running, 60 * MINUTE).await.is_empty());
    }

    #[tokio::test(start_paused = true)]
    async fn runs_missed_while_down_are_skipped_or_told_once_or_all() {
        for (missed, expected) in [
            (Missed::Skip, vec![]),
            (Missed::Once, vec!["1 02 12:00"]),
            (Missed::All, vec!["1 02 10:00", "1 02 11:00", "1 02 12:00"]),
        ] {
            let notes = Arc::<Notes>::default();
            notes.ran("time 0 * * * *", utc("2026-03-02T09:00:00Z"));
            let mut running = start("2026-03-02T12:00:30Z", vec![bound(1, "0 * * * *", missed)], &notes);
            assert_eq!(told(&mut running, 10 * MINUTE).await, expected, "{missed:?}");
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_new_schedule_has_missed_nothing() {
        let notes = Arc::<Notes>::default();
        let mut running = start("2026-03-02T12:00:30Z", vec![bound(1, "0 * * * *", Missed::All)], &notes);
        assert!(told(&mut running, 10 * MINUTE).await.is_empty());
        assert_eq!(notes.last("time 0 * * * *"), Some(utc("2026-03-02T12:00:30Z")));
    }

    #[tokio::test(start_paused = true)]
    async fn a_machine_that_slept_tells_what_is_missed_as_the_bind_wants() {
        let notes = Arc::<Notes>::default();
        let mut source = TimeSource::new(notes);
        let binds = [bound(1, "*/10 * * * *", Missed::Skip), bound(2, "*/10 * * * *", Missed::Once)];
        source.take(&binds, utc("2026-03-02T12:00:30Z"));
        let events = source.due(utc("2026-03-02T13:05:00Z"));
        let told: Vec<_> =
            events.iter().map(|event| (event.bind.unwrap().0, event.field("missed").unwrap().clone())).collect();
        assert_eq!(told, [(2, Value::from(5))]);
        assert!(source.due(utc("2026-03-02T13:09:00Z")).is_empty());
        assert_eq!(source.due(utc("2026-03-02T13:10:00Z")).len(), 2);
    }

    #[tokio::test(start_paused = true)]
    async fn a_clock_that_is_set_back_silences_nothing() {
        let mut source = TimeSource::new(Arc::<Notes>::default());
        source.take(&[bound(1, "0 * * * *", Missed::Skip)], utc("2026-03-02T14:00:30Z"));
        assert!(source.due(utc("2026-03-02T14:00:40Z")).is_empty());
        assert!(source.due(utc("2026-03-02T12:30:00Z")).is_empty());
        assert_eq!(source.due(utc("2026-03-02T13:00:01Z")).len(), 1);
    }

    #[tokio::test(start_paused = true)]
    async fn the_fields_are_eggdrops() {
        let mut source = TimeSource::new(Arc::<Notes>::default());
        source.take(&[bound(1, "05 12 * * *", Missed::Skip)], utc("2026-03-02T12:00:00Z"));
        let event = source.due(utc("2026-03-02T12:05:01Z")).swap_remove(0);
        let fields = ["min", "hour", "day", "month", "year", "weekday"]
            .map(|name| event.field(name).unwrap().as_str().unwrap().to_owned());
        assert_eq!(fields, ["05", "12", "02", "02", "2026", "01"]);
        assert_eq!(event.text(), "05 12 02 02 2026");
    }
}
