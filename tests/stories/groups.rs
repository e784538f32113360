//! Several bots in one group of Kafka: who comes and who goes, what both hear, and topics that come later.

use std::time::Duration;

use masterchief::bot::Started;
use masterchief_bindings::stream::{Message, Publish, Publishers, Start};
use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::mocking::MockCluster;
use rdkafka::{Offset, TopicPartitionList};
use tokio::time::Instant;

use super::brokers::{Cluster, KafkaWorld};
use super::conformance::{self, Fail, Heard, World, numbered};
use super::servers::{Tansu, kafka_settings};

/// How long anything may take; nothing is decided by it.
const PATIENCE: Duration = Duration::from_secs(90);

/// What was published, and what two bots heard of it.
struct Shared {
    world: KafkaWorld,
    sent: usize,
    one: Heard,
    two: Heard,
}

impl Shared {
    fn on(world: KafkaWorld) -> Shared {
        Shared { world, sent: 0, one: Heard::default(), two: Heard::default() }
    }

    /// A bot with options of its own, which are librdkafka's.
    async fn bot(&mut self, data: &tempfile::TempDir, heard: &Heard, options: &[(&str, &str)]) -> Started {
        let kafka = self.world.settings.kafka.get_mut("default").unwrap();
        kafka.options.extend(options.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())));
        conformance::bot(&mut self.world, data.path(), heard, Fail::Slow, Default::default()).await
    }

    /// A few more messages.
    async fn some(&mut self) {
        let texts = numbered("shared", self.sent..self.sent + 10);
        self.sent += texts.len();
        self.world.publish(&texts).await;
        tokio::time::sleep(Duration::from_millis(10)).await;
    }

    /// Messages flow until somebody has heard more than before.
    async fn until_heard_by(&mut self, who: &Heard) {
        let (before, end) = (who.all().len(), Instant::now() + PATIENCE);
        while who.all().len() == before {
            assert!(Instant::now() < end, "nobody gives partitions to who came");
            self.some().await;
        }
    }

    /// Waits until each message was heard; gives how many were heard twice.
    async fn twice(&self) -> usize {
        let end = Instant::now() + PATIENCE;
        loop {
            let all = [self.one.all(), self.two.all()].concat();
            let once: std::collections::BTreeSet<&String> = all.iter().collect();
            if once.len() == self.sent {
                return all.len() - once.len();
            }
            assert!(Instant::now() < end, "heard {} of {}", once.len(), self.sent);
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }
}

/// How many messages there were, and how many of them were heard twice.
struct Counted {
    sent: usize,
    twice: usize,
}

/// One bot is slow to commit, another one comes while messages flow, and later the first goes.
async fn comes_and_goes(world: KafkaWorld, options: &[(&str, &str)]) -> Counted {
    let mut shared = Shared::on(world);
    let (one, two) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let (heard, other) = (shared.one.clone(), shared.two.clone());
    let first = shared.bot(&one, &heard, options).await;
    shared.until_heard_by(&heard).await;
    let second = shared.bot(&two, &other, options).await;
    shared.until_heard_by(&other).await;
    for _ in 0..20 {
        shared.some().await;
    }
    first.stop("").await;
    for _ in 0..20 {
        shared.some().await;
    }
    let twice = shared.twice().await;
    second.stop("").await;
    Counted { sent: shared.sent, twice }
}

async fn on_tansu() -> KafkaWorld {
    let tansu = std::sync::Arc::new(Tansu::start().await);
    let topic = tansu.topic(4).await;
    KafkaWorld::on(Cluster::Tansu(std::sync::Arc::clone(&tansu), None), &tansu.address, &topic)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_bot_that_comes_or_goes_makes_nobody_hear_anything_twice() {
    assert_eq!(comes_and_goes(on_tansu().await, &[]).await.twice, 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn partitions_that_stay_are_read_on_while_others_change_hands() {
    let sticky: &[(&str, &str)] = &[("partition.assignment.strategy", "cooperative-sticky")];
    assert_eq!(comes_and_goes(on_tansu().await, sticky).await.twice, 0);
}

/// librdkafka's own cluster refuses every commit from the moment at which somebody asks to join, where a broker takes them
/// until all have. So what was read in that moment of partitions that change hands comes twice here: the lesser part of all.
#[tokio::test(flavor = "multi_thread")]
async fn a_cluster_that_takes_no_commits_meanwhile_repeats_only_what_was_read_meanwhile() {
    let sticky: &[(&str, &str)] = &[("partition.assignment.strategy", "cooperative-sticky")];
    for options in [&[] as &[(&str, &str)], sticky] {
        let Counted { sent, twice } = comes_and_goes(KafkaWorld::with(4).await, options).await;
        assert!(twice * 2 < sent, "{twice} of {sent} came twice");
    }
}

/// A cluster with some topics, and a connection to it that soon sees new ones.
fn cluster(
    topics: &[&str],
    group: &str,
) -> (MockCluster<'static, rdkafka::producer::DefaultProducerContext>, masterchief_bindings::Settings) {
    let cluster = MockCluster::new(1).unwrap();
    for topic in topics {
        cluster.create_topic(topic, 2, 1).unwrap();
    }
    let mut settings = kafka_settings(&cluster.bootstrap_servers(), group);
    let kafka = settings.kafka.get_mut("default").unwrap();
    kafka.from = Start::End;
    kafka.options.insert("topic.metadata.refresh.interval.ms".to_owned(), "300".to_owned());
    (cluster, settings)
}

async fn publish(publishers: &Publishers, topic: &str, text: &str) {
    let to = format!("kafka:{topic}");
    publishers.publish(Message { to, payload: text.into(), ..Message::default() }).await.unwrap();
}

/// Waits until a group has offsets of a topic's partitions: until somebody has begun to read them.
#[allow(clippy::disallowed_methods, reason = "librdkafka is asked on a thread that may wait")]
async fn begun(settings: &masterchief_bindings::Settings, topics: &[&str]) {
    let kafka = settings.kafka["default"].clone();
    let topics: Vec<String> = topics.iter().map(|topic| (*topic).to_owned()).collect();
    let look = move || {
        let mut config = rdkafka::ClientConfig::new();
        config.set("bootstrap.servers", kafka.brokers.join(",")).set("group.id", &kafka.group);
        let consumer: BaseConsumer = config.create().unwrap();
        let end = std::time::Instant::now() + PATIENCE;
        loop {
            let mut list = TopicPartitionList::new();
            topics.iter().for_each(|topic| list.add_partition_range(topic, 0, 1));
            let committed = consumer.committed_offsets(list, Duration::from_secs(10)).unwrap();
            if committed.elements().iter().all(|place| matches!(place.offset(), Offset::Offset(_))) {
                return;
            }
            assert!(std::time::Instant::now() < end, "{committed:?}");
            std::thread::sleep(Duration::from_millis(20));
        }
    };
    tokio::task::spawn_blocking(look).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_pattern_reads_the_topics_that_match_also_one_that_comes_later_from_its_first_message() {
    let (cluster, settings) = cluster(&["shop.orders", "shop.carts", "shopping"], "patterns");
    let publishers = Publishers::new(std::sync::Arc::new(settings.clone()));
    publish(&publishers, "shop.orders", "before").await;
    let (dir, heard) = (tempfile::tempdir().unwrap(), Heard::default());
    let bot = masterchief::bot::Bot::builder().data(dir.path()).sources(settings.clone());
    let bot = bot.bind(masterchief::contract::Kind::Stream, "-|-", r"kafka:~^shop\..*", heard.handler()).unwrap();
    let started = bot.start().await.unwrap();
    begun(&settings, &["shop.orders", "shop.carts"]).await;
    publish(&publishers, "shopping", "not ours").await;
    publish(&publishers, "shop.orders", "an order").await;
    publish(&publishers, "shop.carts", "a cart").await;
    heard.until(2).await;
    // The group begins at the end, and this is new: it begins with what nobody has seen.
    cluster.create_topic("shop.returns", 2, 1).unwrap();
    publish(&publishers, "shop.returns", "a return").await;
    heard.until(3).await;
    publish(&publishers, "shop.returns", "another").await;
    heard.until(4).await;
    let mut all = heard.all();
    all.sort();
    assert_eq!(all, ["a cart", "a return", "an order", "another"]);
    started.stop("").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn where_a_quiet_topic_was_begun_is_known_when_the_bot_comes_back() {
    let (_cluster, settings) = cluster(&["quiet"], "quiet");
    let publishers = Publishers::new(std::sync::Arc::new(settings.clone()));
    publish(&publishers, "quiet", "before").await;
    let (dir, heard) = (tempfile::tempdir().unwrap(), Heard::default());
    let start = async || {
        let bot = masterchief::bot::Bot::builder().data(dir.path()).sources(settings.clone());
        let bot = bot.bind(masterchief::contract::Kind::Stream, "-|-", "kafka:quiet", heard.handler()).unwrap();
        bot.start().await.unwrap()
    };
    let started = start().await;
    begun(&settings, &["quiet"]).await;
    started.stop("").await;
    publish(&publishers, "quiet", "while nobody read").await;
    let started = start().await;
    heard.until(1).await;
    assert_eq!(heard.all(), ["while nobody read"]);
    started.stop("").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn messages_are_read_however_others_compress_them() {
    let (_cluster, settings) = cluster(&["squeezed"], "squeezed");
    let (dir, heard) = (tempfile::tempdir().unwrap(), Heard::default());
    let bot = masterchief::bot::Bot::builder().data(dir.path()).sources(settings.clone());
    let bot = bot.bind(masterchief::contract::Kind::Stream, "-|-", "kafka:squeezed", heard.handler()).unwrap();
    let started = bot.start().await.unwrap();
    begun(&settings, &["squeezed"]).await;
    for (count, way) in ["none", "gzip", "snappy", "lz4", "zstd"].into_iter().enumerate() {
        let mut theirs = settings.clone();
        theirs.kafka.get_mut("default").unwrap().options.insert("compression.type".to_owned(), way.to_owned());
        // What does not become shorter is sent as it is.
        publish(&Publishers::new(std::sync::Arc::new(theirs)), "squeezed", &way.repeat(2000)).await;
        heard.until(count + 1).await;
        assert_eq!(heard.all().last(), Some(&way.repeat(2000)));
    }
    started.stop("").await;
}
