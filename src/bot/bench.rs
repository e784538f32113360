//! The bench that tests of scripts run on: the real bot on a network in memory, with the outside world stubbed.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use chrono::{DateTime, TimeZone, Utc};
use masterchief_bindings::stream::{Message, Publish, PublishFault};
use masterchief_contract::Future;
use serde_json::Value;

use super::Bot;
use super::testbot::{NETWORK, TestBot};
use crate::executors::{Command, ExecFault, Http, Output, Request, Response, Shell};
use crate::journal::Fixture;
use crate::lua::{Bench, CaseResult, Deed, Person, TestBench, run_file};
use crate::users::{self, User};

/// Runs test files, each on a clock of its own that costs no time. Blocks the thread until all are done.
///
/// `users` and `blocks` are what the configuration says about roles and scripts.
pub fn run_tests(
    files: &[PathBuf],
    filter: &str,
    users: &users::Settings,
    blocks: &BTreeMap<String, Value>,
) -> std::io::Result<Vec<CaseResult>> {
    let mut results = Vec::new();
    for file in files {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().start_paused(true).build()?;
        let bench = Arc::new(ScriptBench { users: users.clone(), blocks: blocks.clone() });
        results.extend(runtime.block_on(run_file(file, filter, bench)));
    }
    Ok(results)
}

struct ScriptBench {
    users: users::Settings,
    blocks: BTreeMap<String, Value>,
}

/// A bot under test.
struct UnderTest {
    test: Arc<TestBot>,
    stubs: Arc<Stubs>,
}

/// What stands for the world outside.
#[derive(Default)]
pub(super) struct Stubs {
    http: Mutex<BTreeMap<String, Response>>,
    sh: Mutex<BTreeMap<String, Output>>,
    published: Mutex<Vec<(String, String)>>,
}

impl Bench for ScriptBench {
    fn start(
        &self,
        script: &Path,
        at: Option<DateTime<Utc>>,
        config: Option<Value>,
    ) -> Future<Result<Arc<dyn TestBench>, String>> {
        let stubs = Arc::<Stubs>::default();
        let mut builder = Bot::builder().only_script(script).users(self.users.clone());
        builder = builder.outside(
            Arc::clone(&stubs) as Arc<dyn Http>,
            Arc::clone(&stubs) as Arc<dyn Shell>,
            Arc::clone(&stubs) as Arc<dyn Publish>,
        );
        builder.blocks = self.blocks.clone();
        if let Some(config) = config {
            let name = script.file_stem().unwrap_or_default().to_string_lossy().into_owned();
            builder.blocks.insert(name, config);
        }
        Box::pin(async move {
            let noon = Utc.with_ymd_and_hms(2026, 3, 2, 12, 0, 0).single().unwrap_or_default();
            let test = TestBot::start_at(builder, at.unwrap_or(noon)).await.map_err(|fault| fault.to_string())?;
            Ok(Arc::new(UnderTest { test: Arc::new(test), stubs }) as Arc<dyn TestBench>)
        })
    }
}

impl TestBench for UnderTest {
    fn person(&self, nick: &str, person: Person) -> Future<Result<(), String>> {
        let (test, nick) = (Arc::clone(&self.test), nick.to_owned());
        Box::pin(async move {
            let net = test.net();
            let asked = person.account.is_some() || person.flags.is_some() || person.host.is_some();
            if asked || !net.knows(&nick) {
                let account = person.account.clone().or_else(|| person.flags.as_ref().map(|_| nick.clone()));
                net.person(&nick, account.as_deref(), person.host.as_deref());
            }
            let Some(flags) = person.flags else { return Ok(()) };
            let account = person.account.as_deref().unwrap_or(&nick);
            let user = User::with_account(account, NETWORK, account, &flags).map_err(|fault| fault.to_string())?;
            test.started().put_user(user).await.map_err(|fault| fault.to_string())
        })
    }

    fn does(&self, nick: String, what: Deed) -> Future<()> {
        let test = Arc::clone(&self.test);
        Box::pin(async move {
            let net = test.net();
            match what {
                Deed::Says(target, text) => net.says(&nick, &target, &text).await,
                Deed::Joins(chan) => net.joins(&nick, &chan).await,
                Deed::Parts(chan, words) => net.parts(&nick, &chan, &words).await,
                Deed::Quits(words) => net.quits(&nick, &words).await,
                Deed::Sends(line) => net.from_person(&nick, &line).await,
            }
        })
    }

    fn expect(&self, target: String, text: String, within: Duration) -> Future<Result<String, String>> {
        let test = Arc::clone(&self.test);
        Box::pin(async move { test.find(&target, within, |line| line.contains(&text)).await })
    }

    fn happens(&self, fixture: Fixture) -> Future<Result<(), String>> {
        let test = Arc::clone(&self.test);
        Box::pin(async move { test.started().happens(fixture).await })
    }

    fn advance(&self, time: Duration) -> Future<()> {
        let test = Arc::clone(&self.test);
        Box::pin(async move { test.advance(time).await })
    }

    fn kill_connection(&self) -> Future<bool> {
        let test = Arc::clone(&self.test);
        Box::pin(async move { test.kill_connection().await })
    }

    fn reload(&self) -> Future<Result<(), String>> {
        let test = Arc::clone(&self.test);
        Box::pin(async move {
            let report = test.started().reload_scripts().await;
            report.failed.first().map_or(Ok(()), |fault| Err(fault.to_string()))
        })
    }

    fn unexpected(&self) -> Vec<String> {
        self.test.unexpected()
    }

    fn transcript(&self) -> Vec<String> {
        self.test.transcript()
    }

    fn http_stub(&self, request: String, answer: Response) {
        self.stubs.http.lock().unwrap_or_else(PoisonError::into_inner).insert(request, answer);
    }

    fn sh_stub(&self, command: String, output: Output) {
        self.stubs.sh.lock().unwrap_or_else(PoisonError::into_inner).insert(command, output);
    }

    fn published(&self) -> Vec<(String, String)> {
        self.stubs.published.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    fn stop(&self) -> Future<()> {
        let test = Arc::clone(&self.test);
        Box::pin(async move { test.stop().await })
    }
}

impl Publish for Stubs {
    fn publish(&self, message: Message) -> Future<Result<String, PublishFault>> {
        let mut published = self.published.lock().unwrap_or_else(PoisonError::into_inner);
        published.push((message.to, String::from_utf8_lossy(&message.payload).into_owned()));
        Box::pin(std::future::ready(Ok(published.len().to_string())))
    }
}

impl Http for Stubs {
    fn request(&self, request: Request, _hosts: Vec<String>) -> Future<Result<Response, ExecFault>> {
        let asked = format!("{} {}", request.method, request.url);
        let answer = self.http.lock().unwrap_or_else(PoisonError::into_inner).get(&asked).cloned();
        let missing =
            || ExecFault(format!("the test has no answer to {asked}; add b:http_stub({asked:?}, {{ body = ... }})"));
        Box::pin(std::future::ready(answer.ok_or_else(missing)))
    }
}

impl Shell for Stubs {
    fn run(&self, command: Command) -> Future<Result<Output, ExecFault>> {
        let asked = command.argv.join(" ");
        let output = self.sh.lock().unwrap_or_else(PoisonError::into_inner).get(&asked).cloned();
        let missing =
            || ExecFault(format!("the test has no output for {asked}; add b:sh_stub({asked:?}, {{ stdout = ... }})"));
        Box::pin(std::future::ready(output.ok_or_else(missing)))
    }
}
