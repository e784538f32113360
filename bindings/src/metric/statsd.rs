//! A StatsD server: counters, gauges, timers, histograms, distributions, sets, sample rates and DogStatsD tags.
//!
//! `name:value|type[|@rate][|#k:v,k2:v2]`; several metrics a packet, a line each, and several values a name
//! (`a:1|c:2|ms`), as etsy's server reads them.

use std::collections::{HashMap, HashSet};
use std::net::SocketAddr;
use std::rc::Rc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::Duration;

use tokio::io::{AsyncBufReadExt, AsyncReadExt, BufReader};
use tokio::net::{TcpListener, UdpSocket};
use tokio::task::JoinSet;
use tokio::time::{Instant, MissedTickBehavior};

use super::rule::Labels;
use super::settings::StatsdSettings;
use crate::overflow::{LOOK, Overflow};

/// Series that are kept at once, and bytes of all their names, values and members; more are dropped and counted.
const SERIES_MAX: usize = 10_000;
const BYTES_MAX: usize = 64 << 20;
/// The longest name with its tags, and the longest member of a set, in bytes.
const NAME_MAX: usize = 4096;
/// What a series takes beside that, in bytes, about.
const SERIES_BYTES: usize = 256;
/// Values of a timer that are kept for a window; beyond that each new one replaces one at random.
const VALUES_MAX: usize = 10_000;
/// The longest packet or line.
const PACKET: usize = 64 << 10;
/// Windows for which a gauge, or a counter, is kept when nothing more is received.
const GAUGE_KEPT: u32 = 1000;
const COUNTER_KEPT: u32 = 10;
/// Connections at once.
const CONNECTIONS: usize = 256;
/// A connection that says nothing is let go of after this.
const IDLE: Duration = Duration::from_secs(3600);
/// Packets that are taken at once.
const BURST: usize = 256;

/// One metric as it is sent.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Sample<'a> {
    pub(super) name: &'a str,
    pub(super) value: Reading<'a>,
    pub(super) rate: f64,
    /// One list for all values of a line: a packet may hold many of both.
    pub(super) tags: Rc<[(&'a str, &'a str)]>,
}

/// What a sample says.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum Reading<'a> {
    Count(f64),
    Gauge(f64),
    /// With a sign: to be added.
    GaugeBy(f64),
    Timer(f64),
    Member(&'a str),
}

/// The samples of a line; nothing for what is none.
pub(super) fn parse(line: &str) -> Vec<Sample<'_>> {
    let Some((name, rest)) = line.trim().split_once(':') else { return Vec::new() };
    if name.is_empty() {
        return Vec::new();
    }
    // Tags may hold colons: they are looked for first, and stand for all values of the line.
    let (rest, tags) = rest.split_once("|#").unwrap_or((rest, ""));
    let (tags, late_rate) = tags.split_once('|').unwrap_or((tags, ""));
    if name.len() + tags.len() > NAME_MAX {
        return Vec::new();
    }
    let tags: Rc<[(&str, &str)]> =
        tags.split(',').filter(|tag| !tag.is_empty()).map(|tag| tag.split_once(':').unwrap_or((tag, ""))).collect();
    let late_rate = late_rate.strip_prefix('@').and_then(|rate| rate.parse().ok());
    let mut out = Vec::new();
    for part in rest.split(':') {
        let mut fields = part.split('|');
        let value = fields.next().unwrap_or("").trim();
        let kind = fields.next().unwrap_or("c").trim();
        let rate =
            fields.filter_map(|field| field.strip_prefix('@')?.parse::<f64>().ok()).next().or(late_rate).unwrap_or(1.0);
        if !(rate > 0.0 && rate <= 1.0) {
            continue;
        }
        let number = if value.is_empty() { Some(1.0) } else { value.parse::<f64>().ok() };
        let number = number.filter(|number| number.is_finite());
        let value = match (kind, number) {
            ("c" | "m", Some(number)) => Reading::Count(number),
            ("g", Some(number)) if value.starts_with(['+', '-']) => Reading::GaugeBy(number),
            ("g", Some(number)) => Reading::Gauge(number),
            ("ms" | "h" | "d", Some(number)) => Reading::Timer(number),
            ("s", _) if !value.is_empty() => Reading::Member(value),
            _ => continue,
        };
        out.push(Sample { name, value, rate, tags: Rc::clone(&tags) });
    }
    out
}

/// A statistic of a series.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum Stat {
    /// Whatever is usual for what it is: the count, the last value, the mean, the number of members.
    Usual,
    Count,
    Rate,
    Sum,
    Mean,
    Min,
    Max,
    Last,
    Uniq,
    Percentile(f64),
}

/// `api.latency.p99{host=a}`
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Selector {
    bucket: String,
    stat: Stat,
    tags: Vec<(String, String)>,
}

impl Selector {
    pub(super) fn parse(text: &str) -> Result<Selector, String> {
        let (name, tags) = match text.split_once('{') {
            None => (text, ""),
            Some((name, tags)) => (name, tags.strip_suffix('}').ok_or("the tags are not closed, as in api{host=a}")?),
        };
        let tags = tags.split(',').filter(|tag| !tag.is_empty()).map(|tag| {
            let (name, value) = tag.split_once('=').ok_or_else(|| format!("{tag:?} is no tag, as in host=a"))?;
            Ok((name.trim().to_owned(), value.trim().trim_matches('"').to_owned()))
        });
        let tags = tags.collect::<Result<Vec<_>, String>>()?;
        let (bucket, stat) = match name.rsplit_once('.').and_then(|(bucket, last)| Some((bucket, stat(last)?))) {
            Some((bucket, stat)) => (bucket, stat),
            // `p99.9` holds a dot itself.
            None => match name.rfind(".p").and_then(|at| Some((&name[..at], stat(&name[at + 1..])?))) {
                Some(found) => found,
                None => (name, Stat::Usual),
            },
        };
        Ok(Selector { bucket: bucket.to_owned(), stat, tags })
    }
}

fn stat(name: &str) -> Option<Stat> {
    Some(match name {
        "count" => Stat::Count,
        "rate" => Stat::Rate,
        "sum" => Stat::Sum,
        "mean" => Stat::Mean,
        "min" => Stat::Min,
        "max" => Stat::Max,
        "last" => Stat::Last,
        "uniq" => Stat::Uniq,
        name => {
            let digits =
                name.strip_prefix('p').filter(|digits| digits.starts_with(|letter: char| letter.is_ascii_digit()))?;
            Stat::Percentile(digits.parse().ok().filter(|percent| (0.0..=100.0).contains(percent))?)
        }
    })
}

/// What was received of a series in a window.
#[derive(Clone, Debug, Default)]
struct Series {
    counted: Option<f64>,
    gauge: Option<f64>,
    /// Timers: how many there were, and those that are kept.
    seen: f64,
    values: Vec<f64>,
    members: HashSet<String>,
    /// Windows since something was received.
    idle: u32,
    /// A random number, for what is kept of many.
    dice: u64,
}

impl Series {
    /// Takes a sample; how many bytes more it takes, or nothing where it would take more than `room`.
    fn take(&mut self, sample: &Sample<'_>, room: usize) -> Option<usize> {
        let more = match sample.value {
            Reading::Timer(_) if self.values.len() < VALUES_MAX => size_of::<f64>(),
            Reading::Member(member) if !self.members.contains(member) => member.len() + size_of::<String>(),
            _ => 0,
        };
        let full = matches!(sample.value, Reading::Member(_)) && more > 0 && self.members.len() >= VALUES_MAX;
        if more > room || full {
            return None;
        }
        self.idle = 0;
        match sample.value {
            Reading::Count(number) => *self.counted.get_or_insert(0.0) += number / sample.rate,
            Reading::Gauge(number) => self.gauge = Some(number),
            Reading::GaugeBy(number) => *self.gauge.get_or_insert(0.0) += number,
            Reading::Member(member) => {
                self.members.insert(member.to_owned());
            }
            Reading::Timer(number) => {
                self.seen += 1.0 / sample.rate;
                if self.values.len() < VALUES_MAX {
                    self.values.push(number);
                } else {
                    // Xorshift: good enough for which of ten thousand goes.
                    self.dice ^= self.dice << 13;
                    self.dice ^= self.dice >> 7;
                    self.dice ^= self.dice << 17;
                    let at = (self.dice % self.seen.max(1.0) as u64) as usize;
                    if let Some(place) = self.values.get_mut(at) {
                        *place = number;
                    }
                }
            }
        }
        Some(more)
    }

    fn stat(&self, stat: Stat, window: Duration) -> Option<f64> {
        let count = self.counted.or((self.seen > 0.0).then_some(self.seen));
        let sum = || (!self.values.is_empty()).then(|| self.values.iter().sum::<f64>());
        let mean = || Some(sum()? / self.values.len() as f64);
        match stat {
            Stat::Usual => self.counted.or(self.gauge).or_else(mean).or_else(|| self.stat(Stat::Uniq, window)),
            Stat::Count => count,
            Stat::Rate => Some(count? / window.as_secs_f64()),
            Stat::Sum => sum().or(self.counted),
            Stat::Mean => mean(),
            Stat::Min => self.values.iter().copied().min_by(f64::total_cmp),
            Stat::Max => self.values.iter().copied().max_by(f64::total_cmp),
            Stat::Last => self.gauge.or(self.values.last().copied()),
            Stat::Uniq => (!self.members.is_empty()).then_some(self.members.len() as f64),
            Stat::Percentile(percent) => {
                let mut sorted = self.values.clone();
                sorted.sort_by(f64::total_cmp);
                let rank = (percent / 100.0 * sorted.len() as f64).ceil() as usize;
                sorted.get(rank.max(1) - 1).copied()
            }
        }
    }
}

/// A bucket and its tags.
type Place = (String, Vec<(String, String)>);

#[derive(Default)]
struct Windows {
    now: HashMap<Place, Series>,
    last: HashMap<Place, Series>,
    /// Bytes of `now`, about.
    bytes: usize,
    /// How long the last window really was, and when it was over; nothing until the first is.
    turned: Option<(Duration, Instant)>,
}

fn bytes_of((bucket, tags): &Place) -> usize {
    let tags = tags.iter().map(|(name, value)| name.len() + value.len() + 2 * size_of::<String>());
    bucket.len() + tags.sum::<usize>() + SERIES_BYTES
}

/// Who listens: one for all rules that are over the same addresses.
pub(super) struct Listener {
    settings: StatsdSettings,
    windows: Arc<Mutex<Windows>>,
    open: tokio::sync::Mutex<Option<(String, JoinSet<()>)>>,
    /// Samples that were no samples, or more than is kept.
    dropped: Arc<AtomicU64>,
}

static LISTENERS: Mutex<Vec<(StatsdSettings, Weak<Listener>)>> = Mutex::new(Vec::new());

/// The listener of these settings, made where there is none.
pub(super) fn listener(settings: &StatsdSettings) -> Arc<Listener> {
    let mut all = LISTENERS.lock().unwrap_or_else(PoisonError::into_inner);
    all.retain(|(_, listener)| listener.strong_count() > 0);
    if let Some(known) = all.iter().find(|(known, _)| known == settings).and_then(|(_, listener)| listener.upgrade()) {
        return known;
    }
    let (windows, open, dropped) = Default::default();
    let made = Arc::new(Listener { settings: settings.clone(), windows, open, dropped });
    all.push((settings.clone(), Arc::downgrade(&made)));
    made
}

impl Listener {
    /// Listens, if it does not yet; where.
    pub(super) async fn open(&self) -> Result<String, String> {
        let mut open = self.open.lock().await;
        if let Some((at, _)) = &*open {
            return Ok(at.clone());
        }
        let mut tasks = JoinSet::new();
        let mut at = Vec::new();
        if let Some(address) = self.settings.udp {
            let socket = UdpSocket::bind(address).await.map_err(|fault| format!("statsd.udp {address}: {fault}"))?;
            at.push(format!("udp {}", socket.local_addr().unwrap_or(address)));
            tasks.spawn(udp(socket, Arc::clone(&self.windows), Arc::clone(&self.dropped)));
        }
        if let Some(address) = self.settings.tcp {
            let listener =
                TcpListener::bind(address).await.map_err(|fault| format!("statsd.tcp {address}: {fault}"))?;
            at.push(format!("tcp {}", listener.local_addr().unwrap_or(address)));
            tasks.spawn(tcp(listener, Arc::clone(&self.windows), Arc::clone(&self.dropped)));
        }
        tasks.spawn(turn(Arc::clone(&self.windows), self.window()));
        if at.is_empty() {
            return Err("say where StatsD is received: udp, tcp or both".to_owned());
        }
        let at = at.join(", ");
        *open = Some((at.clone(), tasks));
        Ok(at)
    }

    /// What was left out since the listener began.
    pub(super) fn dropped(&self) -> u64 {
        self.dropped.load(Ordering::Relaxed)
    }

    pub(super) fn window(&self) -> Duration {
        self.settings.window.max(Duration::from_millis(100))
    }

    /// When to look next: soon after the window that goes on now is over, and often until the first one is.
    pub(super) fn next(&self) -> Duration {
        let over = lock(&self.windows).turned.map(|(_, at)| at + self.window());
        let left = over.map_or(Duration::ZERO, |over| over.saturating_duration_since(Instant::now()));
        left + self.window() / if left.is_zero() { 10 } else { 100 }
    }

    /// The statistic over the last window that is over, for each series that is meant; nothing while none is over.
    pub(super) fn ask(&self, selector: &Selector) -> Option<Vec<(Labels, f64)>> {
        let windows = lock(&self.windows);
        let (window, _) = windows.turned?;
        let mut out = Vec::new();
        for ((bucket, tags), series) in &windows.last {
            let meant = *bucket == selector.bucket && selector.tags.iter().all(|tag| tags.contains(tag));
            if meant && let Some(value) = series.stat(selector.stat, window) {
                out.push((tags.iter().cloned().collect(), value));
            }
        }
        drop(windows);
        // The order of a table of hashes is none that two looks share.
        out.sort_by(|(one, _): &(Labels, f64), (other, _)| one.cmp(other));
        Some(out)
    }
}

/// A window is over when its time is, whoever looks: what waits for room in the journal does not look.
async fn turn(windows: Arc<Mutex<Windows>>, window: Duration) {
    let mut began = Instant::now();
    let mut over = tokio::time::interval_at(began + window, window);
    over.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        over.tick().await;
        lock(&windows).turn(began.elapsed());
        began = Instant::now();
    }
}

impl Windows {
    /// What was counted begins anew; a gauge stays what it is.
    fn turn(&mut self, length: Duration) {
        self.turned = Some((length, Instant::now()));
        let mut next = HashMap::new();
        for (place, series) in &self.now {
            let idle = series.idle + 1;
            let kept = Series { gauge: series.gauge, counted: series.counted.map(|_| 0.0), idle, ..Series::default() };
            // A counter that rests counts nothing, and is still there for a while.
            let most = if series.gauge.is_some() { GAUGE_KEPT } else { COUNTER_KEPT };
            if (series.gauge.is_some() || series.counted.is_some()) && idle <= most {
                next.insert(place.clone(), kept);
            }
        }
        self.bytes = next.keys().map(bytes_of).sum();
        self.last = std::mem::replace(&mut self.now, next);
    }

    /// Takes the lines of a packet; how many of them said nothing.
    fn take(&mut self, packet: &str) -> u64 {
        let mut dropped = 0;
        for line in packet.lines().filter(|line| !line.trim().is_empty()) {
            let samples = parse(line);
            let Some(first) = samples.first() else {
                dropped += 1;
                continue;
            };
            // All values of a line are of one series.
            let mut tags: Vec<(String, String)> =
                first.tags.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
            tags.sort();
            let place = (first.name.to_owned(), tags);
            for sample in &samples {
                dropped += u64::from(!self.put(&place, sample));
            }
        }
        dropped
    }

    /// Takes a sample, if there is room for it.
    fn put(&mut self, place: &Place, sample: &Sample<'_>) -> bool {
        if matches!(sample.value, Reading::Member(member) if member.len() > NAME_MAX) {
            return false;
        }
        let room = BYTES_MAX.saturating_sub(self.bytes);
        let full = self.now.len() >= SERIES_MAX;
        let more = match self.now.get_mut(place) {
            Some(series) => series.take(sample, room),
            None if full => None,
            None => {
                let names = bytes_of(place);
                let mut series = Series { dice: 0x9E37_79B9_7F4A_7C15, ..Series::default() };
                let more = room.checked_sub(names).and_then(|room| series.take(sample, room));
                if more.is_some() {
                    self.now.insert(place.clone(), series);
                }
                more.map(|more| more + names)
            }
        };
        self.bytes += more.unwrap_or(0);
        more.is_some()
    }
}

fn lock(windows: &Mutex<Windows>) -> MutexGuard<'_, Windows> {
    windows.lock().unwrap_or_else(PoisonError::into_inner)
}

async fn udp(socket: UdpSocket, windows: Arc<Mutex<Windows>>, dropped: Arc<AtomicU64>) {
    let mut buffer = vec![0; PACKET];
    let mut overflow = Overflow::of(&socket);
    let mut look = tokio::time::interval(LOOK);
    loop {
        let received = tokio::select! {
            received = socket.recv_from(&mut buffer) => received,
            _ = look.tick() => {
                dropped.fetch_add(overflow.more(), Ordering::Relaxed);
                continue;
            }
        };
        match received {
            Ok((length, _)) => {
                let mut windows = lock(&windows);
                let mut lost = windows.take(&String::from_utf8_lossy(&buffer[..length]));
                // Whatever has come meanwhile, too, before anybody is waited for.
                for _ in 0..BURST {
                    let Ok(length) = socket.try_recv(&mut buffer) else { break };
                    lost += windows.take(&String::from_utf8_lossy(&buffer[..length]));
                }
                drop(windows);
                dropped.fetch_add(lost, Ordering::Relaxed);
            }
            Err(fault) => {
                tracing::warn!(%fault, "StatsD over UDP");
                tokio::time::sleep(Duration::from_millis(100)).await;
            }
        }
    }
}

async fn tcp(listener: TcpListener, windows: Arc<Mutex<Windows>>, dropped: Arc<AtomicU64>) {
    let mut connections = JoinSet::new();
    loop {
        while connections.try_join_next().is_some() {}
        let accepted: std::io::Result<(_, SocketAddr)> = listener.accept().await;
        match accepted {
            Ok((stream, _)) if connections.len() < CONNECTIONS => {
                let (windows, dropped) = (Arc::clone(&windows), Arc::clone(&dropped));
                connections.spawn(async move {
                    let mut from = BufReader::new(stream);
                    let mut line = Vec::new();
                    loop {
                        line.clear();
                        let read = async { (&mut from).take(PACKET as u64).read_until(b'\n', &mut line).await };
                        match tokio::time::timeout(IDLE, read).await {
                            Err(_) | Ok(Ok(0) | Err(_)) => return,
                            Ok(Ok(_)) => {
                                let lost = lock(&windows).take(&String::from_utf8_lossy(&line));
                                dropped.fetch_add(lost, Ordering::Relaxed);
                            }
                        }
                    }
                });
            }
            Ok(_) => {
                dropped.fetch_add(1, Ordering::Relaxed);
                tracing::warn!("Too many StatsD connections; this one is refused");
            }
            Err(fault) => {
                tracing::warn!(%fault, "StatsD over TCP");
                tokio::time::sleep(Duration::from_millis(100)).await;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const WINDOW: Duration = Duration::from_secs(10);

    fn of(packet: &str, selector: &str) -> Vec<f64> {
        let mut windows = Windows::default();
        windows.take(packet);
        windows.turn(WINDOW);
        let selector = Selector::parse(selector).unwrap();
        let mut out: Vec<f64> = windows
            .last
            .iter()
            .filter(|((bucket, tags), _)| {
                *bucket == selector.bucket && selector.tags.iter().all(|tag| tags.contains(tag))
            })
            .filter_map(|(_, series)| series.stat(selector.stat, WINDOW))
            .collect();
        out.sort_by(f64::total_cmp);
        out
    }

    #[test]
    fn counters_gauges_timers_and_sets_are_what_statsd_says_they_are() {
        assert_eq!(of("a:1|c\na:2|c|@0.5\na|c", "a"), [5.0]);
        assert_eq!(of("a:10|c", "a.rate"), [1.0]);
        assert_eq!(of("g:5|g\ng:-2|g\ng:+10|g", "g"), [13.0]);
        assert_eq!(of("s:alice|s\ns:bob|s\ns:alice|s", "s.uniq"), [2.0]);
        let timers: String = (1..=100).map(|number| format!("t:{number}|ms\n")).collect();
        assert_eq!(of(&timers, "t.p99"), [99.0]);
        assert_eq!(of(&timers, "t.p99.9"), [100.0]);
        assert_eq!(
            (of(&timers, "t.mean"), of(&timers, "t.min"), of(&timers, "t.max")),
            (vec![50.5], vec![1.0], vec![100.0])
        );
        assert_eq!((of(&timers, "t.count"), of(&timers, "t.sum")), (vec![100.0], vec![5050.0]));
        assert_eq!(of("t:10|ms|@0.1", "t.count"), [10.0]);
    }

    #[test]
    fn several_values_and_tags_are_read() {
        assert_eq!(of("a:1|c:2|c", "a"), [3.0]);
        assert_eq!(of("a:1|c|#host:x,env:prod\na:5|c|#host:y", "a{host=x}"), [1.0]);
        assert_eq!(of("a:1|c|#host:x\na:5|c|#host:y", "a"), [1.0, 5.0]);
        assert_eq!(parse("a:1|c|#url:http://x:80").first().unwrap().tags[..], [("url", "http://x:80")]);
        assert_eq!(parse("a:1|c|#t|@0.5").first().unwrap().rate, 0.5);
    }

    #[test]
    fn what_is_no_metric_is_left_out() {
        for bad in ["", ":", "a", ":1|c", "a:x|c", "a:1|z", "a:NaN|g", "a:1|c|@0", "a:1|c|@2", "a:|s", "\u{0}"] {
            assert!(parse(bad).is_empty(), "{bad:?}");
        }
        let mut windows = Windows::default();
        assert_eq!(windows.take("a:1|c\nnonsense\n\n"), 1);
    }

    #[test]
    fn a_gauge_stays_and_a_counter_begins_anew() {
        let mut windows = Windows::default();
        windows.take("g:5|g\nc:3|c");
        windows.turn(WINDOW);
        windows.turn(WINDOW);
        let value = |windows: &Windows, name: &str| {
            let series = windows.last.get(&(name.to_owned(), Vec::new()))?;
            series.stat(Stat::Usual, Duration::from_secs(10))
        };
        assert_eq!((value(&windows, "g"), value(&windows, "c")), (Some(5.0), Some(0.0)));
        (0..COUNTER_KEPT).for_each(|_| windows.turn(WINDOW));
        assert_eq!((value(&windows, "g"), value(&windows, "c")), (Some(5.0), None));
    }

    #[test]
    fn what_is_kept_has_a_bound_whatever_is_sent() {
        let mut windows = Windows::default();
        let long = "x".repeat(NAME_MAX + 1);
        assert_eq!(windows.take(&format!("{long}:1|c\ns:{long}|s\na:1|c|#t:{long}\na:1|c")), 3);
        let member = "y".repeat(NAME_MAX - 8);
        let mut dropped = 0;
        for number in 0..3 * VALUES_MAX {
            dropped += windows.take(&format!("s{}:{number:08}{member}|s", number % 3));
        }
        assert!(windows.bytes <= BYTES_MAX, "{}", windows.bytes);
        assert!(dropped > 10_000, "{dropped}");
        assert_eq!(windows.take(&format!("s0:{:08}{member}|s", 0)), 0, "what is there still counts");
        windows.turn(WINDOW);
        assert!(windows.bytes < 10_000 && windows.take("s:1|s") == 0, "and the next window has room");
    }

    async fn open(settings: StatsdSettings) -> (Arc<Listener>, SocketAddr) {
        let listener = listener(&settings);
        let at = listener.open().await.unwrap();
        (listener, at.split(' ').nth(1).unwrap().parse().unwrap())
    }

    #[tokio::test]
    async fn lines_come_by_tcp_also_in_pieces_and_what_is_none_is_counted() {
        use tokio::io::AsyncWriteExt;
        let window = Duration::from_secs(3600);
        let (listener, at) =
            open(StatsdSettings { udp: None, tcp: Some(SocketAddr::from(([127, 0, 0, 1], 0))), window }).await;
        let mut stream = tokio::net::TcpStream::connect(at).await.unwrap();
        for piece in ["jobs:1|c\njo", "bs:2|c\nnonsense\n"] {
            stream.write_all(piece.as_bytes()).await.unwrap();
            stream.flush().await.unwrap();
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        while listener.dropped() == 0 {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        let selector = Selector::parse("jobs").unwrap();
        assert_eq!(listener.ask(&selector), None, "no window is over");
        lock(&listener.windows).turn(window);
        assert_eq!(listener.ask(&selector).unwrap().first().map(|(_, value)| *value), Some(3.0));
        assert_eq!(listener.dropped(), 1);
    }

    #[tokio::test]
    async fn connections_that_are_refused_are_counted_among_what_is_lost() {
        let window = Duration::from_secs(3601);
        let (listener, at) =
            open(StatsdSettings { udp: None, tcp: Some(SocketAddr::from(([127, 0, 0, 1], 0))), window }).await;
        let mut all = Vec::new();
        for _ in 0..CONNECTIONS + 3 {
            all.push(tokio::net::TcpStream::connect(at).await.unwrap());
        }
        while listener.dropped() < 3 {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        assert_eq!(listener.dropped(), 3);
    }

    #[tokio::test(start_paused = true)]
    async fn a_window_is_as_long_as_it_is_however_long_nobody_looks_and_the_first_one_too() {
        let window = Duration::from_secs(10);
        let at = SocketAddr::from(([127, 0, 0, 1], 0));
        let (listener, _) = open(StatsdSettings { udp: Some(at), tcp: None, window }).await;
        let (count, rate) = (Selector::parse("errors").unwrap(), Selector::parse("errors.rate").unwrap());
        let value = |selector: &Selector| listener.ask(selector).and_then(|found| Some(found.first()?.1));
        lock(&listener.windows).take("errors:5|c");
        tokio::time::sleep(Duration::from_secs(9)).await;
        assert_eq!(value(&count), None, "it is not over");
        tokio::time::sleep(listener.next() + Duration::from_secs(1)).await;
        assert_eq!((value(&count), value(&rate)), (Some(5.0), Some(0.5)));
        // One error a second, and for five minutes nobody asks: the journal is full.
        for _ in 0..300 {
            lock(&listener.windows).take("errors:1|c");
            tokio::time::sleep(Duration::from_secs(1)).await;
        }
        assert!((9.0..=11.0).contains(&value(&count).unwrap()), "{:?}", value(&count));
        assert!((0.9..=1.1).contains(&value(&rate).unwrap()), "{:?}", value(&rate));
    }

    proptest::proptest! {
        #[test]
        fn whatever_is_sent_is_read_or_left_out(packet in ".{0,200}") {
            Windows::default().take(&packet);
        }
    }
}
