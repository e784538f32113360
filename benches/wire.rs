//! Parsing a line of IRC, beside the floor: splitting its bytes at blanks.

#![allow(missing_docs)]

use std::hint::black_box;

use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use masterchief::irc::decode::LineReader;
use masterchief::irc::message::Message;

/// What a busy channel looks like.
const LINES: &[&str] = &[
    ":alice!alice@user/alice PRIVMSG #ops :!deploy web prod --force",
    ":irc.example.net 353 chief = #ops :@alice bob carol dave erin frank grace heidi",
    "@time=2026-03-02T12:00:00.000Z;account=bob;msgid=abc123 :bob!bob@host.example PRIVMSG #ops :is it up again?",
    "PING :irc.example.net",
    ":carol!c@host.example JOIN #ops carol :Carol",
];

fn bench(c: &mut Criterion) {
    let mut group = c.benchmark_group("parse");
    group.throughput(Throughput::Elements(LINES.len() as u64));
    group.bench_function("floor: split at blanks", |b| {
        b.iter(|| {
            for line in LINES {
                for word in black_box(line).as_bytes().split(|byte| *byte == b' ') {
                    black_box(word);
                }
            }
        });
    });
    group.bench_function("message", |b| {
        b.iter(|| {
            for line in LINES {
                black_box(Message::parse(black_box(line)).is_ok());
            }
        });
    });
    let stream: Vec<u8> = LINES.iter().flat_map(|line| format!("{line}\r\n").into_bytes()).collect();
    group.bench_function("bytes to message", |b| {
        let mut reader = LineReader::default();
        b.iter(|| {
            reader.feed(black_box(&stream));
            while let Some(line) = reader.next_line() {
                black_box(Message::parse(&line).is_ok());
            }
        });
    });
    group.finish();
}

criterion_group!(benches, bench);
criterion_main!(benches);
