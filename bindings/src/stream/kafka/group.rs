//! Our part in a consumer group: which partitions are ours, what of them is on its way to the journal, and how they are
//! given up. Drained first: what the journal has in hand is settled and committed while the partitions are still ours.
//! Fenced second: nothing more is committed of them.

use std::collections::{BTreeMap, BTreeSet, HashMap, VecDeque};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::Duration;

use masterchief_contract::{Batch, Meter, Positions};
use rdkafka::ClientContext;
use rdkafka::consumer::{BaseConsumer, CommitMode, Consumer, ConsumerContext, RebalanceProtocol, StreamConsumer};
use rdkafka::error::{KafkaError, KafkaResult, RDKafkaErrorCode};
use rdkafka::message::{BorrowedMessage, Message};
use rdkafka::statistics::Statistics;
use rdkafka::topic_partition_list::{Offset, TopicPartitionList};
use rdkafka::types::RDKafkaRespErr;
use tokio::sync::Notify;
use tokio::time::Instant;

use super::faults::{AWAY, refusal};
use super::reading::{Known, Reading};

/// How long the brokers may take to answer.
pub(super) const ANSWER: Duration = Duration::from_secs(10);

/// A topic and a partition.
pub(super) type Place = (String, i32);

/// The topics that are there, each with how many partitions it has.
pub(super) type Topics = HashMap<String, usize>;

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// What librdkafka's callbacks tell us, and need to know.
#[derive(Default)]
pub(super) struct Told {
    /// Partitions that are asked back and are still ours until they are unassigned.
    revoked: Mutex<Option<TopicPartitionList>>,
    /// Somebody has to look at the above.
    turned: Notify,
    /// The consumer goes: what is asked back is given up at once.
    going: AtomicBool,
    /// What the brokers have confirmed since the last look.
    committed: Mutex<BTreeMap<Place, i64>>,
    /// Why the brokers will not have us, if they said so.
    refused: Mutex<Option<String>>,
    /// Whether a new group begins with the oldest there is.
    from_start: bool,
    /// What was there when this source was opened first. What comes later is read from its beginning.
    there: OnceLock<Arc<Topics>>,
    pub(super) meter: Arc<Meter>,
    /// Messages that came over the wire.
    #[cfg(test)]
    fetched: std::sync::atomic::AtomicI64,
}

impl Told {
    pub(super) fn new(meter: &Arc<Meter>, from_start: bool) -> Told {
        Told { meter: Arc::clone(meter), from_start, ..Told::default() }
    }

    /// What was there at first, told before anything is assigned.
    pub(super) fn there(&self, topics: &Arc<Topics>) {
        // A consumer is opened once.
        let _ = self.there.set(Arc::clone(topics));
    }

    fn was_there(&self, topic: &str, partition: i32) -> bool {
        let count = self.there.get().and_then(|there| there.get(topic));
        count.is_some_and(|count| usize::try_from(partition).is_ok_and(|at| at < *count))
    }

    #[cfg(test)]
    pub(super) fn fetched(&self) -> i64 {
        self.fetched.load(Ordering::Relaxed)
    }

    /// Why the brokers will not have us, if they said so.
    pub(super) fn refused(&self) -> Option<String> {
        lock(&self.refused).clone()
    }

    /// Ready when partitions are asked back.
    pub(super) async fn turned(&self) {
        self.turned.notified().await;
    }

    /// Where to begin with partitions of which nothing was ever committed. That is written down at once: a partition that
    /// changes hands, or a bot that is away, before anything came must not begin at a later end.
    fn begin<C: ConsumerContext>(&self, consumer: &BaseConsumer<C>, list: &mut TopicPartitionList) -> KafkaResult<()> {
        for place in consumer.committed_offsets(list.clone(), ANSWER)?.elements() {
            if place.error().is_err() || place.offset() != Offset::Invalid {
                continue;
            }
            let (topic, partition) = (place.topic(), place.partition());
            let (oldest, end) = consumer.fetch_watermarks(topic, partition, ANSWER)?;
            let first = if self.from_start || !self.was_there(topic, partition) { oldest } else { end };
            list.set_partition_offset(topic, partition, Offset::Offset(first))?;
        }
        Ok(())
    }
}

/// What librdkafka calls. It does so from within our own reading.
pub(super) struct Context(pub(super) Arc<Told>);

impl ClientContext for Context {
    fn stats(&self, statistics: Statistics) {
        #[cfg(test)]
        self.0.fetched.store(statistics.rxmsgs, Ordering::Relaxed);
        let partitions = statistics.topics.values().flat_map(|topic| topic.partitions.values());
        let lag: i64 = partitions.map(|partition| partition.consumer_lag.max(0)).sum();
        self.0.meter.lag(lag.unsigned_abs(), "messages");
        let up = statistics.brokers.values().any(|broker| broker.state == "UP");
        if up && self.0.meter.troubled().is_some_and(|why| why.starts_with(AWAY)) {
            self.0.meter.well();
        }
    }

    fn error(&self, fault: KafkaError, reason: &str) {
        tracing::warn!(%fault, reason, "Kafka");
        self.0.meter.note(reason);
        if let Some(why) = refusal(&fault, reason) {
            *lock(&self.0.refused) = Some(why);
        }
    }
}

impl ConsumerContext for Context {
    /// Only what the brokers have confirmed tells a group that was set back from a process that died.
    fn commit_callback(&self, result: KafkaResult<()>, offsets: &TopicPartitionList) {
        if let Err(fault) = result {
            // A group that has moved on without us refuses what is no longer ours: as it should.
            tracing::debug!(%fault, "Offsets were not committed; what is known of them does");
            return;
        }
        let mut committed = lock(&self.0.committed);
        for place in offsets.elements() {
            if let (Ok(()), Offset::Offset(next)) = (place.error(), place.offset()) {
                committed.insert((place.topic().to_owned(), place.partition()), next);
            }
        }
    }

    /// What is given is taken at once; what is asked back is given up where batches are settled, not here.
    fn rebalance(&self, consumer: &BaseConsumer<Self>, err: RDKafkaRespErr, list: &mut TopicPartitionList) {
        let told = &self.0;
        if err != RDKafkaRespErr::RD_KAFKA_RESP_ERR__ASSIGN_PARTITIONS {
            if told.going.load(Ordering::Relaxed) {
                give_up(consumer, list);
            } else {
                *lock(&told.revoked) = Some(list.clone());
                told.turned.notify_one();
            }
            return;
        }
        if let Err(fault) = told.begin(consumer, list) {
            tracing::warn!(%fault, "Where to begin is not known; partitions that are new begin as `from` says");
        }
        let assigned = match consumer.rebalance_protocol() {
            RebalanceProtocol::Cooperative => consumer.incremental_assign(list),
            _ => consumer.assign(list),
        };
        let begun = begun(list);
        let noted = if begun.count() > 0 { consumer.commit(&begun, CommitMode::Async) } else { Ok(()) };
        if let Err(fault) = assigned.and(noted) {
            tracing::warn!(%fault, "Partitions could not be taken");
        }
        if list.count() > 0 {
            told.meter.well();
        }
    }
}

/// Those whose first offset we have chosen.
fn begun(list: &TopicPartitionList) -> TopicPartitionList {
    let chosen = list.elements().into_iter().filter(|place| matches!(place.offset(), Offset::Offset(_)));
    offsets(chosen.map(|place| (place.topic().to_owned(), place.partition(), place.offset())))
}

fn offsets(all: impl Iterator<Item = (String, i32, Offset)>) -> TopicPartitionList {
    let mut list = TopicPartitionList::new();
    for (topic, partition, offset) in all {
        // The list takes any offset that is a number.
        let _ = list.add_partition_offset(&topic, partition, offset);
    }
    list
}

/// Lets the group have these. librdkafka joins again when all commits before are answered.
fn give_up<C: ConsumerContext>(consumer: &impl Consumer<C>, list: &TopicPartitionList) {
    let given = match consumer.rebalance_protocol() {
        RebalanceProtocol::Cooperative => consumer.incremental_unassign(list),
        _ => consumer.unassign(),
    };
    if let Err(fault) = given {
        tracing::warn!(%fault, "Partitions could not be given up");
    }
}

/// What a batch holds of a partition.
struct Span {
    place: Place,
    /// The offset after it.
    next: i64,
    /// What was known before it was read.
    before: Option<Known>,
}

/// Partitions that are asked back.
struct Leaving {
    list: TopicPartitionList,
    places: BTreeSet<Place>,
    /// No longer than this is waited for the journal.
    until: Instant,
}

/// What is ours, and what of it is on its way.
#[derive(Default)]
pub(super) struct Ours {
    known: HashMap<Place, Known>,
    /// The batches that are not settled, oldest first.
    unsettled: VecDeque<Vec<Span>>,
    /// What is in the journal and not known to be committed: the next offset.
    settled: BTreeMap<Place, i64>,
    leaving: Option<Leaving>,
    /// How long others may be kept waiting for partitions.
    patience: Duration,
}

impl Ours {
    pub(super) fn new(positions: &Positions, patience: Duration) -> Ours {
        let known = positions.iter().filter_map(|(lane, text)| {
            let (topic, partition) = lane.rsplit_once('/')?;
            Some(((topic.to_owned(), partition.parse().ok()?), Known::parse(text)?))
        });
        Ours { known: known.collect(), patience, ..Ours::default() }
    }

    pub(super) fn known(&self, place: &Place) -> Known {
        self.known.get(place).copied().unwrap_or_default()
    }

    /// What the brokers have confirmed since the last look.
    pub(super) fn confirm(&mut self, told: &Told) {
        for (place, offset) in std::mem::take(&mut *lock(&told.committed)) {
            if let Some(known) = self.known.get_mut(&place) {
                known.committed = known.committed.max(offset);
            }
        }
    }

    /// A batch is made of what was read.
    pub(super) fn took(&mut self, readings: &[Reading]) {
        let spans = readings.iter().map(|reading| {
            let before = self.known.insert(reading.place.clone(), reading.known);
            Span { place: reading.place.clone(), next: reading.next, before }
        });
        let spans = spans.collect();
        self.unsettled.push_back(spans);
    }

    /// When partitions that are asked back are given up at the latest.
    pub(super) fn until(&self) -> Option<Instant> {
        self.leaving.as_ref().map(|leaving| leaving.until)
    }

    /// Sees to what is asked back. What was read of it and is not given away yet is dropped: it comes again, to whoever is
    /// given the partition.
    pub(super) fn turn(&mut self, consumer: &StreamConsumer<Context>, told: &Told, readings: &mut Vec<Reading>) {
        if let Some(list) = lock(&told.revoked).take() {
            let places: BTreeSet<Place> =
                list.elements().iter().map(|place| (place.topic().to_owned(), place.partition())).collect();
            readings.retain(|reading| !places.contains(&reading.place));
            for place in &places {
                if let Some(known) = self.known.get_mut(place) {
                    // What is in the journal stays known; where the group is, the first message tells.
                    known.read = false;
                }
            }
            self.leaving = Some(Leaving { list, places, until: Instant::now() + self.patience });
        }
        self.leave(consumer);
    }

    /// Takes out of a batch that waits for room what is asked back meanwhile.
    pub(super) fn withdraw(&mut self, told: &Told, batch: &mut Batch) {
        let revoked = lock(&told.revoked).clone();
        let (Some(revoked), Some(spans)) = (revoked, self.unsettled.back_mut()) else { return };
        let mut kept = Vec::new();
        for span in std::mem::take(spans) {
            if revoked.find_partition(&span.place.0, span.place.1).is_none() {
                kept.push(span);
                continue;
            }
            let lane = lane(&span.place);
            batch.parts.retain(|part| *part.lane != *lane);
            // It never came to the journal.
            match span.before {
                Some(before) => self.known.insert(span.place, before),
                None => self.known.remove(&span.place),
            };
        }
        *spans = kept;
    }

    /// Gives up what is asked back, once nothing of it is on its way, or it is lost, or it took too long.
    fn leave(&mut self, consumer: &StreamConsumer<Context>) {
        let Some(leaving) = &self.leaving else { return };
        // A group that has gone on without us takes no commits from us, and whoever has them now is further perhaps.
        let lost = consumer.assignment_lost();
        let waits = self.unsettled.iter().flatten().any(|span| leaving.places.contains(&span.place));
        if waits && !lost && Instant::now() < leaving.until {
            return;
        }
        let Some(Leaving { list, places, .. }) = self.leaving.take() else { return };
        for batch in &mut self.unsettled {
            // What is still being written of it is not ours to commit any more.
            batch.retain(|span| !places.contains(&span.place));
        }
        let settled: Vec<_> = places.iter().filter_map(|place| self.settled.remove_entry(place)).collect();
        if waits || lost {
            tracing::warn!(
                partitions = places.len(),
                lost,
                "Partitions are gone before all that was read of them was committed; some messages come twice"
            );
        }
        let commit = offsets(settled.into_iter().map(|((topic, at), next)| (topic, at, Offset::Offset(next))));
        if !lost
            && commit.count() > 0
            && let Err(fault) = consumer.commit(&commit, CommitMode::Async)
        {
            tracing::warn!(%fault, "Offsets could not be committed before partitions were given up; some messages come twice");
        }
        give_up(consumer, &list);
    }

    /// The oldest batch is in the journal.
    pub(super) fn settle(&mut self, consumer: &StreamConsumer<Context>) -> KafkaResult<()> {
        let spans = self.unsettled.pop_front().unwrap_or_default();
        let commit = offsets(spans.iter().map(|span| (span.place.0.clone(), span.place.1, Offset::Offset(span.next))));
        self.settled.extend(spans.into_iter().map(|span| (span.place, span.next)));
        // What is lost is met by the next read, and fenced there.
        if commit.count() > 0 && !consumer.assignment_lost() {
            // In order and without waiting: librdkafka sends commits one after the other, and a lost one is made good by
            // the next, by the one before partitions are given up, or by what is known of offsets.
            match consumer.commit(&commit, CommitMode::Async) {
                Ok(()) | Err(KafkaError::ConsumerCommit(RDKafkaErrorCode::NoOffset)) => {}
                Err(fault) => return Err(fault),
            }
        }
        self.leave(consumer);
        Ok(())
    }

    /// Whether a partition is asked back: what still comes of it is not ours.
    pub(super) fn leaves(&self, message: &BorrowedMessage<'_>) -> bool {
        let is_of = |place: &Place| place.1 == message.partition() && place.0 == message.topic();
        self.leaving.as_ref().is_some_and(|leaving| leaving.places.iter().any(is_of))
    }

    /// The consumer goes: what is settled is committed before it has gone, and nothing is held up.
    pub(super) fn go(&mut self, consumer: &StreamConsumer<Context>, told: &Told) {
        told.going.store(true, Ordering::Relaxed);
        self.unsettled.clear();
        let settled = std::mem::take(&mut self.settled);
        let commit = offsets(settled.into_iter().map(|((topic, at), next)| (topic, at, Offset::Offset(next))));
        if commit.count() > 0
            && !consumer.assignment_lost()
            && let Err(fault) = consumer.commit(&commit, CommitMode::Async)
        {
            tracing::debug!(%fault, "Offsets could not be committed at the end; what is known of them does");
        }
        // It would wait for ever for what it has asked back.
        let revoked = lock(&told.revoked).take();
        if let Some(list) = self.leaving.take().map(|leaving| leaving.list).or(revoked) {
            give_up(consumer, &list);
        }
    }
}

/// What order is kept in.
pub(super) fn lane(place: &Place) -> String {
    format!("{}/{}", place.0, place.1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_waits_for_room_and_is_asked_back_is_taken_out_and_forgotten() {
        let positions = Positions::from([("a/0".to_owned(), "7:5".to_owned())]);
        let mut ours = Ours::new(&positions, Duration::ZERO);
        let (told, places) = (Told::default(), [("a".to_owned(), 0), ("a".to_owned(), 1), ("b".to_owned(), 0)]);
        let readings = places.clone().map(|place| {
            let known = Known { next: 9, read: true, ..ours.known(&place) };
            let mut reading = Reading::new(place, known);
            reading.next = 9;
            reading
        });
        ours.took(&readings);
        let mut batch = Batch { parts: readings.map(Reading::part).into(), ..Batch::default() };
        ours.withdraw(&told, &mut batch);
        assert_eq!(batch.parts.len(), 3, "nothing is asked back");
        let all = [("a", 0), ("a", 1)].map(|(topic, at)| (topic.to_owned(), at, Offset::Invalid));
        *lock(&told.revoked) = Some(offsets(all.into_iter()));
        ours.withdraw(&told, &mut batch);
        assert!(matches!(batch.parts.as_slice(), [part] if &*part.lane == "b/0"), "{:?}", batch.parts);
        let left: Vec<&Place> = ours.unsettled[0].iter().map(|span| &span.place).collect();
        assert_eq!(left, [&places[2]], "nothing of them will be committed");
        // What never came to the journal is not known when it comes again.
        assert_eq!(ours.known(&places[0]), Known { next: 7, committed: 5, read: false });
        assert_eq!((ours.known(&places[1]).next, ours.known(&places[2]).next), (0, 9));
    }
}
