//! The decision with 10, 1,000 and 10,000 binds, beside the floor: one lookup in a hash map.

#![allow(missing_docs)]

use std::collections::HashMap;
use std::hint::black_box;
use std::sync::Arc;

use criterion::{BenchmarkId, Criterion, criterion_group, criterion_main};
use masterchief::bot::kinds;
use masterchief::contract::{Actor, BindOptions, Event, EventData, Handler, Kind, Outcome};
use masterchief::dispatch::{BindTable, NewBind, Policy, decide};
use masterchief::users::{Book, User};

fn table(binds: usize) -> BindTable {
    let kinds = kinds();
    let table = BindTable::new();
    let handler: Arc<dyn Handler> = Arc::new(|_: Event| async { Outcome::Nothing });
    let new =
        |n| NewBind::parse(&kinds, "pub", "D|-", &format!("!command{n}"), BindOptions::default(), Arc::clone(&handler));
    table.replace("bench", (0..binds).filter_map(|n| new(n).ok()).collect());
    table
}

fn event(text: &str) -> EventData {
    let mut event = EventData::new(&[Kind::Pubm, Kind::Pub], chrono::DateTime::UNIX_EPOCH);
    event.network = Arc::from("net");
    event.chan = Some(Arc::from("#ops"));
    event.text = text.to_owned();
    event.actor = Some(Actor { nick: "alice".to_owned(), account: Some("alice".to_owned()), ..Actor::default() });
    event
}

fn bench(c: &mut Criterion) {
    let book = Book::new();
    if let Ok(alice) = User::with_account("alice", "net", "alice", "D") {
        book.put(alice).unwrap_or_default();
    }
    let mut group = c.benchmark_group("decide");
    for binds in [10, 1_000, 10_000] {
        let words: HashMap<String, usize> = (0..binds).map(|n| (format!("!command{n}"), n)).collect();
        group.bench_with_input(BenchmarkId::new("floor: hash lookup", binds), &words, |b, words| {
            b.iter(|| black_box(words.get(black_box("!command7"))));
        });
        let (table, event) = (table(binds), event("!command7 web prod"));
        group.bench_with_input(BenchmarkId::new("exact command", binds), &table, |b, table| {
            b.iter(|| {
                let standing = book.recognise(event.actor.as_ref(), &event.network, event.casemap);
                black_box(decide(&table.index(), black_box(&event), &standing, Policy::default()).steps.len())
            });
        });
        let nothing = self::event("just people talking about the weather");
        group.bench_with_input(BenchmarkId::new("no command", binds), &table, |b, table| {
            b.iter(|| {
                let standing = book.recognise(nothing.actor.as_ref(), &nothing.network, nothing.casemap);
                black_box(decide(&table.index(), black_box(&nothing), &standing, Policy::default()).steps.len())
            });
        });
    }
    group.finish();
}

criterion_group!(benches, bench);
criterion_main!(benches);
