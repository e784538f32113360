//! Bots of one group of Kafka that have names there: one that is soon back is who it was, and nobody else is troubled.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use masterchief::bot::{Bot, Started};
use masterchief::contract::{Event, Kind};
use masterchief_bindings::stream::{Message, Publish};
use tokio::time::Instant;

use super::brokers::KafkaWorld;
use super::conformance::World;

/// How long anything may take; nothing is decided by it.
const PATIENCE: Duration = Duration::from_secs(90);
/// Partitions of the topic.
const PARTITIONS: i32 = 4;

/// What a bot heard, with the partition that it came from.
#[derive(Clone, Default)]
struct Heard(Arc<Mutex<Vec<(String, i64)>>>);

impl Heard {
    /// The partitions of a round.
    fn of(&self, round: &str) -> BTreeSet<i64> {
        let heard = self.0.lock().unwrap();
        heard.iter().filter(|(text, _)| text == round).map(|(_, partition)| *partition).collect()
    }

    fn count(&self, round: &str) -> usize {
        self.0.lock().unwrap().iter().filter(|(text, _)| text == round).count()
    }
}

/// Two bots of one group.
struct Two {
    world: KafkaWorld,
    options: BTreeMap<String, String>,
    heard: [Heard; 2],
    rounds: usize,
}

impl Two {
    async fn start(&self, which: usize, name: Option<&str>, data: &Path) -> Started {
        let mut settings = self.world.settings();
        let kafka = settings.kafka.get_mut("default").unwrap();
        kafka.options = self.options.clone();
        kafka.options.extend(name.map(|name| ("group.instance.id".to_owned(), name.to_owned())));
        let heard = self.heard[which].clone();
        let handler = move |event: Event| {
            let partition = event.field("partition").and_then(|value| value.as_i64()).unwrap();
            heard.0.lock().unwrap().push((event.text().to_owned(), partition));
            async {}
        };
        let bot = Bot::builder().data(data).sources(settings);
        bot.bind(Kind::Stream, "-|-", &self.world.mask(), handler).unwrap().start().await.unwrap()
    }

    /// A message in each partition; what the round is called.
    async fn round(&mut self) -> String {
        self.rounds += 1;
        let text = format!("round {}", self.rounds);
        for partition in 0..PARTITIONS {
            let message = Message {
                to: format!("{}/{partition}", self.world.mask()),
                payload: text.clone().into_bytes(),
                ..Message::default()
            };
            self.world.publishers.publish(message).await.unwrap();
        }
        text
    }

    /// Waits until a round was heard in so many partitions.
    async fn until(&self, round: &str, who: &[usize], count: usize) {
        let end = Instant::now() + PATIENCE;
        while who.iter().map(|who| self.heard[*who].count(round)).sum::<usize>() < count {
            assert!(Instant::now() < end, "{round}: {:?}", self.heard.each_ref().map(|heard| heard.of(round)));
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    }

    /// Rounds until both have half of the partitions; which.
    async fn shared(&mut self) -> [BTreeSet<i64>; 2] {
        let end = Instant::now() + PATIENCE;
        loop {
            let round = self.round().await;
            self.until(&round, &[0, 1], PARTITIONS as usize).await;
            let shares = self.heard.each_ref().map(|heard| heard.of(&round));
            if shares.iter().all(|share| share.len() == PARTITIONS as usize / 2) {
                return shares;
            }
            assert!(Instant::now() < end, "they do not share: {shares:?}");
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    }
}

/// One of two bots goes and comes back. Without names the other has all partitions meanwhile, and gives half of them back. With
/// names nothing of that happens: what comes meanwhile waits for who has gone.
async fn goes_and_comes_back(world: impl AsyncFn() -> KafkaWorld, options: &[(&str, &str)]) {
    let options: BTreeMap<String, String> =
        options.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
    let mut took = Duration::ZERO;
    for names in [[None, None], [Some("one"), Some("two")]] {
        let dirs = [tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap()];
        let mut two = Two { world: world().await, options: options.clone(), heard: Default::default(), rounds: 0 };
        let first = two.start(0, names[0], dirs[0].path()).await;
        let second = two.start(1, names[1], dirs[1].path()).await;
        let shares = two.shared().await;
        let began = Instant::now();
        first.stop("").await;
        let round = two.round().await;
        if names[0].is_none() {
            two.until(&round, &[1], PARTITIONS as usize).await;
            took = began.elapsed();
            second.stop("").await;
            continue;
        }
        two.until(&round, &[1], shares[1].len()).await;
        // More than long enough for the others to be given to whoever is left.
        tokio::time::sleep(2 * took + Duration::from_secs(1)).await;
        assert_eq!(two.heard[1].of(&round), shares[1], "nothing is given to who stays");
        let first = two.start(0, names[0], dirs[0].path()).await;
        two.until(&round, &[0, 1], PARTITIONS as usize).await;
        assert_eq!(two.heard[0].of(&round), shares[0], "what came meanwhile waited for who is back");
        for _ in 0..3 {
            let round = two.round().await;
            two.until(&round, &[0, 1], PARTITIONS as usize).await;
            assert_eq!(two.heard.each_ref().map(|heard| heard.of(&round)), shares, "nobody was troubled");
        }
        let all = two.heard.iter().map(|heard| heard.0.lock().unwrap().len()).sum::<usize>();
        assert_eq!(all, two.rounds * PARTITIONS as usize, "each once");
        first.stop("").await;
        second.stop("").await;
    }
}

/// librdkafka's own cluster knows names in the newer way of groups (KIP-848); Tansu takes them and gives who is back no partition.
#[tokio::test(flavor = "multi_thread")]
async fn a_bot_with_a_name_in_its_group_that_is_soon_back_has_what_it_had_and_nobody_else_is_troubled() {
    let world = async || KafkaWorld::with(PARTITIONS).await;
    goes_and_comes_back(world, &[("group.protocol", "consumer")]).await;
}
