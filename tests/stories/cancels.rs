//! Runs that are stopped at any moment of their life: they are over when nothing of them runs any more.

use std::collections::BTreeMap;
use std::io::{Read, Write};
use std::path::Path;
use std::time::Duration;

use masterchief::bot::{Bot, Started};
use masterchief::pipelines::{Ask, Asked, Asker, May, Prepared, RunState, Settings, StageState};

use super::chance::{Dice, number, seed};
use super::steps::eventually;

/// So many runs at once, each stopped at a moment of its own.
const BESIDE: usize = 8;
/// From when it was asked for, a run has been in every state by then.
const LIFE: usize = 2500;

/// A service that is well.
fn well() -> u16 {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            let Ok(mut stream) = stream else { return };
            let _ = stream.read(&mut [0; 1024]);
            let _ = stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nConnection: close\r\n\r\nok");
        }
    });
    port
}

/// Stages that are tried again, wait for a slot, run, prove good, and would then run for ever, with a process that hides and hears nothing.
fn pipeline(mark: &str, port: u16) -> String {
    let hidden = |time: &str| {
        format!("(setsid bash -c 'trap \\\"\\\" TERM; exec -a {mark} sleep 300' &); exec -a {mark} sleep {time}")
    };
    format!(
        r#"
app: shop
policy:
  concurrency: {{group: "{{run.number}}"}}
  environments: {{dev: {{confirm: never}}}}
stages:
  shaky:
    shell: {{run: [bash, -c, "test $MC_ATTEMPT -gt 2 || (echo 'Connection refused'; exit 1)"], grace: 200ms}}
    retry: {{times: 3, first: 150ms, factor: 1, jitter: 0, on: [network]}}
  few:
    needs: [shaky]
    shell: {{run: [bash, -c, "{few}"], grace: 200ms}}
    resources: {{pool: few}}
  proves:
    needs: [shaky]
    shell: {{run: [bash, -c, "exec -a {mark} sleep 0.1"], grace: 200ms}}
    health: {{url: "http://127.0.0.1:{port}/", times: 20, every: 50ms}}
  long: {{needs: [few, proves], shell: {{run: [bash, -c, "{long}"], grace: 200ms}}}}
"#,
        few = hidden("0.2"),
        long = hidden("300"),
    )
}

/// What runs and has one of these in its arguments.
fn running(words: &[&str]) -> Vec<String> {
    let all = std::fs::read_dir("/proc").unwrap().flatten();
    let argv = all.filter_map(|entry| std::fs::read(entry.path().join("cmdline")).ok());
    let lines = argv.map(|bytes| String::from_utf8_lossy(&bytes).replace('\0', " "));
    lines.filter(|line| words.iter().any(|word| line.contains(word))).collect()
}

async fn ask(bot: &Started, ask: Ask) -> Option<i64> {
    bot.pipelines().ask(Asked { ask, who: Asker::program("test"), may: May::all() }).await.unwrap().run
}

/// Begins a run, stops it so long after, and tells in which states its stages were then.
async fn stopped(bot: &Started, after: Duration) -> Vec<StageState> {
    let prepared = Prepared { app: "shop".to_owned(), unattended: true, ..Prepared::default() };
    let number = ask(bot, Ask::Deploy(Box::new(prepared))).await.unwrap();
    tokio::time::sleep(after).await;
    let (_, stages) = bot.pipelines().run(number).await.unwrap().unwrap();
    ask(bot, Ask::Abort(number)).await;
    let (run, ended) = bot.pipelines().ended(number).await.unwrap().unwrap();
    assert_eq!(run.state, RunState::Cancelled, "{number} after {after:?}");
    assert!(ended.iter().all(|one| one.state.ended()), "{ended:#?}");
    stages.into_iter().map(|one| one.state).filter(|state| !state.ended() && *state != StageState::Pending).collect()
}

/// `MASTERCHIEF_CANCELS` sets how many.
#[tokio::test(flavor = "multi_thread")]
async fn an_abort_leaves_no_process_behind_whenever_it_comes() {
    let cancels = number("MASTERCHIEF_CANCELS").map_or(24, |count| usize::try_from(count).unwrap());
    let mut dice = Dice::new(seed());
    let dir = tempfile::tempdir().unwrap();
    let settings =
        Settings { pools: [("default".to_owned(), 32), ("few".to_owned(), 2)].into(), ..Settings::default() };
    let supervisor = Path::new(env!("CARGO_BIN_EXE_masterchief"));
    let bot = Bot::builder().data(dir.path()).supervisor(supervisor);
    let bot = bot.pipelines(Settings { folder: "".into(), ..settings }).start().await.unwrap();
    let mark = format!("mark-{}", std::process::id());
    bot.put_pipeline("shop", &pipeline(&mark, well())).await.unwrap_or_else(|faults| panic!("{faults:#?}"));
    let mut met: BTreeMap<StageState, usize> = BTreeMap::new();
    let mut left = cancels;
    while left > 0 {
        let lot: Vec<Duration> =
            (0..left.min(BESIDE)).map(|_| Duration::from_millis(dice.below(LIFE) as u64)).collect();
        left -= lot.len();
        let all = futures_util::future::join_all(lot.into_iter().map(|after| stopped(&bot, after))).await;
        all.into_iter().flatten().for_each(|state| *met.entry(state).or_default() += 1);
    }
    println!("{cancels} runs were stopped in {met:?}");
    // Supervisors have the folder of their step in their arguments, and end behind what they looked after.
    let home = dir.path().display().to_string();
    eventually("the last supervisor goes", async || running(&[&home]).is_empty()).await;
    assert_eq!(running(&[&mark]), Vec::<String>::new(), "processes of stages that were stopped run on");
    if cancels >= 200 {
        use StageState as S;
        for state in [S::Starting, S::Running, S::RetryWait, S::WaitingResources, S::Validating] {
            assert!(met.contains_key(&state), "none was stopped in {state:?}: {met:?}");
        }
    }
    bot.stop("").await;
}
