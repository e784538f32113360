//! A handler in Luau from event to reply, beside the floor: an empty Luau function called from Rust.

#![allow(missing_docs)]

use std::hint::black_box;
use std::path::Path;
use std::sync::Arc;

use criterion::{Criterion, criterion_group, criterion_main};
use masterchief::bot::kinds;
use masterchief::contract::Clock;
use masterchief::contract::{Actor, Args, BindId, Call, Event, EventData, Kind, Outlet, Refused, Who};
use masterchief::dispatch::{Bind, BindTable, Policy, decide};
use masterchief::executors::{LocalShell, NetHttp};
use masterchief::irc::Member;
use masterchief::lua::{Asks, Placement, Script, Services, World};
use masterchief::store::Store;
use masterchief::users::{Book, Standing};
use masterchief_bindings::stream::Publishers;

struct Nowhere;

impl Outlet for Nowhere {
    fn perform(&self, _action: masterchief::contract::Action) -> masterchief::contract::Future<Result<(), Refused>> {
        Box::pin(std::future::ready(Ok(())))
    }
}

fn event() -> Event {
    let mut data = EventData::new(&[Kind::Pub], chrono::DateTime::UNIX_EPOCH);
    data.network = Arc::from("net");
    data.chan = Some(Arc::from("#ops"));
    data.text = "!hello world".to_owned();
    data.actor = Some(Actor {
        nick: "alice".to_owned(),
        user: "alice".to_owned(),
        host: "host.example".to_owned(),
        account: Some("alice".to_owned()),
        ..Actor::default()
    });
    Event::new(data).for_call(Call {
        bind: BindId(1),
        kind: Kind::Pub,
        mask: Arc::from("!hello"),
        who: Who::default(),
        text_at: 7,
        args: Args::new(),
        trace: Arc::from("7F3K"),
        outlet: Arc::new(Nowhere),
        to: None,
        delivery: None,
    })
}

struct Empty;

impl World for Empty {
    fn networks(&self) -> Vec<String> {
        vec!["net".to_owned()]
    }

    fn nick(&self, _network: &str) -> Option<String> {
        None
    }

    fn channels(&self, _network: &str) -> Vec<String> {
        Vec::new()
    }

    fn members(&self, _network: &str, _channel: &str) -> Vec<Member> {
        Vec::new()
    }

    fn channel(&self, _network: &str, _channel: &str) -> Option<(String, String)> {
        None
    }
}

/// A script with one bind, on the runtime that calls it, so that what is measured is the call and no other thread.
async fn handler(folder: &Path) -> Result<Arc<Bind>, Box<dyn std::error::Error>> {
    let path = folder.join("bench.lua");
    std::fs::write(&path, r#"bot.bind("pub", "-|-", "!hello", function(ev) return "hi " .. ev.nick end)"#)?;
    let table = BindTable::new();
    let services = Services {
        outlet: Arc::new(Nowhere),
        inlet: masterchief::contract::inlet(1).0,
        world: Arc::new(Empty),
        store: Store::memory(),
        clock: Clock::system(),
        kinds: Arc::new(kinds()),
        table: table.clone(),
        book: Book::new(),
        http: Arc::new(NetHttp),
        shell: Arc::new(LocalShell),
        pipelines: None,
        asks: Asks::default(),
        mesh: None,
        guard: Default::default(),
        streams: Arc::new(Publishers::new(Arc::default())),
        settings: Arc::default(),
        folder: folder.to_owned(),
    };
    let script = Script::load(&path, &services, Placement::Local).await?;
    script.bound(table.replace("bench.lua", script.declared()));
    // It serves as long as the process does.
    std::mem::forget(script);
    let decision = decide(&table.index(), &event(), &Standing::default(), Policy::default());
    let bind = decision.steps.first().map(|step| Arc::clone(&step.bind));
    std::mem::forget(table);
    bind.ok_or_else(|| "the bind does not match".into())
}

fn bench(c: &mut Criterion) {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime can be made");
    let folder = tempfile::tempdir().expect("a folder can be made");
    let bind = runtime.block_on(handler(folder.path())).expect("the script is good");
    let lua = mlua::Lua::new();
    let empty: mlua::Function = lua.load("return function() end").eval().expect("the function is good");
    let event = event();
    let mut group = c.benchmark_group("lua");
    group.bench_function("floor: empty function", |b| b.iter(|| empty.call::<()>(()).is_ok()));
    group.bench_function("event to reply", |b| {
        b.iter_custom(|count| {
            runtime.block_on(async {
                let start = std::time::Instant::now();
                for _ in 0..count {
                    black_box(bind.handler.call(black_box(event.clone())).await.is_ok());
                }
                start.elapsed()
            })
        });
    });
    group.finish();
}

criterion_group!(benches, bench);
criterion_main!(benches);
