//! The bot is killed (SIGKILL) while runs are under way: at any moment of a run of ten stages, while each executor is at work, and while
//! runs wait for whatever they may wait for. Started again it goes on, and nothing is done twice.

use std::fs;
use std::io::{Read, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use serde_json::{Value, json};

use super::chance::{Dice, number, seed};
use super::checkout::Origin;
use super::cluster::World;
use super::jenkins::{Double, TOKEN, marked};
use super::runs::{masterchief, project};
use super::servers::program as tool;
use super::steps::{eventually, until};

/// A bot that is a process of its own, in a folder.
struct Process {
    dir: tempfile::TempDir,
    child: Option<Child>,
}

impl Process {
    async fn start(pipeline: impl Fn(&Path) -> String, executors: Value) -> Process {
        let dir = project("");
        let config = json!({"data": "data", "partyline": {"listen": "127.0.0.1:0"}, "executors": executors});
        fs::write(dir.path().join("config/global/config.yaml"), config.to_string()).unwrap();
        fs::write(dir.path().join("config/pipelines/shop.yaml"), pipeline(dir.path())).unwrap();
        let (code, said) = masterchief(dir.path(), &["pipelines", "check"]);
        assert_eq!(code, Some(0), "{said}");
        let mut process = Process { dir, child: None };
        process.begin().await;
        process
    }

    async fn begin(&mut self) {
        let log = fs::File::options().create(true).append(true).open(self.at("log")).unwrap();
        let mut command = Command::new(env!("CARGO_BIN_EXE_masterchief"));
        command.arg("--config").arg(self.dir.path()).args(["run", "--no-console"]);
        command.stdin(Stdio::piped()).stdout(log.try_clone().unwrap()).stderr(log);
        self.child = Some(command.spawn().unwrap());
        let socket = self.at("data/control.sock");
        eventually("the bot", async || std::os::unix::net::UnixStream::connect(&socket).is_ok()).await;
    }

    fn kill(&mut self) {
        if let Some(mut child) = self.child.take() {
            child.kill().unwrap();
            child.wait().unwrap();
        }
    }

    fn at(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    fn touch(&self, name: &str) {
        fs::write(self.at(name), "").unwrap();
    }

    /// The lines of a file; none where there is none.
    fn lines(&self, name: &str) -> Vec<String> {
        fs::read_to_string(self.at(name)).unwrap_or_default().lines().map(str::to_owned).collect()
    }

    /// A word from a shell.
    fn says(&self, words: &[&str]) -> String {
        let (code, said) = masterchief(self.dir.path(), words);
        assert_eq!(code, Some(0), "{words:?}: {said}");
        said
    }

    fn deploys(&self, env: &str) {
        self.says(&["deploy", "--detach", "shop", "to", env]);
    }

    fn shown(&self, number: i64) -> Value {
        let (_, said) = masterchief(self.dir.path(), &["--json", "runs", "show", &number.to_string()]);
        serde_json::from_str(&said).unwrap_or_default()
    }

    fn state(&self, number: i64) -> String {
        self.shown(number)["run"]["state"].as_str().unwrap_or_default().to_owned()
    }

    fn stage(&self, number: i64, name: &str) -> Value {
        let shown = self.shown(number);
        let stages = shown["stages"].as_array().cloned().unwrap_or_default();
        stages.into_iter().find(|one| one["name"] == name).unwrap_or_default()
    }

    async fn becomes(&self, number: i64, state: &str) {
        for _ in 0..600 {
            if self.state(number) == state {
                return;
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        panic!("run {number} does not become {state}: {:#}\n{}", self.shown(number), self.lines("log").join("\n"));
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        self.kill();
    }
}

/// Ten stages: two branches, a matrix, one that fails at first and is tried again, one that is done in any case. Each attempt writes down
/// that it ran.
fn ten(folder: &Path) -> String {
    let stage = |name: &str, more: &str, end: &str| {
        format!(
            "  {name}: {{{more}shell: [sh, -c, \"echo {name}#$MC_ATTEMPT >> {at}/ran; sleep 0.05; {end}echo n={name} >> $MC_OUTPUT\"]}}\n",
            at = folder.display()
        )
    };
    let mut text = "app: shop\npolicy: {environments: {dev: {confirm: never}}}\nstages:\n".to_owned();
    text += &stage("a", "", "");
    text += &stage("b", "needs: [a], ", "");
    text += &stage("c", "needs: [a], ", "");
    let matrix =
        stage("m", "needs: [b], matrix: {suite: [x, y, z]}, ", "").replace("echo m#", "echo m-{matrix.suite}#");
    text += &matrix;
    let retry = "needs: [c], retry: {times: 2, first: 100ms, jitter: 0, on: [network]}, ";
    text += &stage("shaky", retry, "test $MC_ATTEMPT -gt 1 || (echo Connection refused; exit 1) && ");
    text += &stage("d", "needs: [m, shaky], ", "test {shaky.n} = shaky && ");
    text += &stage("e", "needs: [d], ", "");
    text + "finally:\n" + &stage("clean", "", "")
}

/// What became of a run, but for when.
fn outcome(shown: &Value) -> Value {
    let stages = shown["stages"]
        .as_array()
        .unwrap()
        .iter()
        .map(|one| json!([one["name"], one["state"], one["attempt"], one["retries"], one["outputs"]]));
    let mut stages: Vec<Value> = stages.collect();
    stages.sort_by_key(Value::to_string);
    json!({"state": shown["run"]["state"], "stages": stages})
}

/// Kills the bot at any moment while ten stages run, starts it again, and looks what became of them. `MASTERCHIEF_KILLS` sets how often.
#[tokio::test]
async fn a_bot_that_is_killed_at_any_moment_goes_on_and_no_stage_that_finished_runs_again() {
    let kills = number("MASTERCHIEF_KILLS").unwrap_or(6);
    let mut dice = Dice::new(seed());
    let mut bot = Process::start(ten, json!({})).await;
    bot.deploys("dev");
    bot.becomes(1, "succeeded").await;
    let (undisturbed, mut wanted) = (outcome(&bot.shown(1)), bot.lines("ran"));
    wanted.sort();
    assert_eq!(wanted.len(), 11, "ten, of which one twice: {wanted:?}");
    let (mut killed, mut number) = (0, 1);
    while killed < kills {
        fs::remove_file(bot.at("ran")).unwrap();
        bot.deploys("dev");
        number += 1;
        // Some kills within each run, each at another moment.
        for _ in 0..3 {
            tokio::time::sleep(Duration::from_millis(10 + dice.below(400) as u64)).await;
            bot.kill();
            killed += 1;
            bot.begin().await;
        }
        let over = || ["succeeded", "paused", "failed"].contains(&bot.state(number).as_str());
        until("the end of the run", over).await;
        let shown = bot.shown(number);
        assert_eq!(outcome(&shown), undisturbed, "after {killed} kills: {shown:#}");
        let ran = bot.lines("ran");
        let at = |name: &str| ran.iter().position(|line| line.starts_with(name)).unwrap();
        let last = |name: &str| ran.iter().rposition(|line| line.starts_with(name)).unwrap();
        let order = [(last("a#"), at("b#")), (last("a#"), at("c#")), (last("b#"), at("m-")), (last("m-"), at("d#"))];
        let more = [
            (last("c#"), at("shaky#")),
            (last("shaky#2"), at("d#")),
            (last("d#"), at("e#")),
            (last("e#"), at("clean#")),
        ];
        assert!(order.iter().chain(&more).all(|(before, after)| before < after), "{ran:?}");
        let mut sorted = ran.clone();
        sorted.sort();
        assert_eq!(sorted, wanted, "each attempt ran once, after {killed} kills");
    }
}

/// A repository's way in over SSH that is held until the file `go` is there.
fn held_way(folder: &Path, origin: &Origin) -> PathBuf {
    use std::os::unix::fs::PermissionsExt;
    let (way, at) = (folder.join("way"), folder.display());
    let script = format!(
        "#!/bin/sh\ncase \"$1\" in -G) exit 1;; esac\necho x >> {at}/began\nuntil test -e {at}/go; do sleep 0.05; done\nexec git-upload-pack {}\n",
        origin.path()
    );
    fs::write(&way, script).unwrap();
    fs::set_permissions(&way, fs::Permissions::from_mode(0o755)).unwrap();
    way
}

/// A server that writes down who comes into the file `began`, and answers when the file `go` is there.
fn held_server(folder: &Path) -> u16 {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let (port, folder) = (listener.local_addr().unwrap().port(), folder.to_owned());
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            let Ok(mut stream) = stream else { return };
            let _ = stream.read(&mut [0; 1024]);
            let began = fs::File::options().create(true).append(true).open(folder.join("began"));
            let Ok(mut began) = began else { return };
            let _ = writeln!(began, "x");
            while folder.exists() && !folder.join("go").exists() {
                std::thread::park_timeout(Duration::from_millis(20));
            }
            let _ = stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nConnection: close\r\n\r\nok");
        }
    });
    port
}

/// The stages of an app with one environment.
fn stages(text: &str) -> String {
    format!("app: shop\npolicy: {{environments: {{dev: {{confirm: never}}}}}}\nstages:\n{text}")
}

/// The bot is killed when `began` says that the work is under way, and started again; then the work is let go.
async fn killed_at_work(
    mut bot: Process,
    began: impl AsyncFn(&Process) -> bool,
    go: impl AsyncFn(&Process),
) -> Process {
    bot.deploys("dev");
    eventually("the work", async || began(&bot).await).await;
    bot.kill();
    bot.begin().await;
    assert_eq!(bot.state(1), "running");
    go(&bot).await;
    bot.becomes(1, "succeeded").await;
    bot
}

async fn begins(bot: &Process) -> bool {
    !bot.lines("began").is_empty()
}

async fn lets_go(bot: &Process) {
    bot.touch("go");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_build_of_jenkins_is_found_again_after_a_kill_and_not_begun_twice() {
    let double = Double::start(json!({"image": marked(json!({"hold": true}))}), json!({}));
    let url = format!("http://127.0.0.1:{}/", double.port);
    let executors = json!({"jenkins": {"main": {"url": url, "user": "bot", "token": TOKEN}}});
    let bot = Process::start(|_| stages("  build: {jenkins: {job: image}}\n"), executors).await;
    let builds = async || double.state().await["builds"].as_array().unwrap().len();
    let began = async |_: &Process| builds().await == 1;
    let bot = killed_at_work(bot, began, async |_| drop(double.control("release", json!({})).await)).await;
    assert_eq!((builds().await, &bot.stage(1, "build")["attempt"]), (1, &json!(1)));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_rollout_is_watched_again_after_a_kill_and_no_image_is_set_twice() {
    let world = World::new(3);
    world.set("hold=1");
    let cluster = &world.settings.kubernetes["prod"];
    let cluster = json!({"kubeconfig": cluster.kubeconfig, "context": "prod", "namespace": "web"});
    let home = world.bench.folder.path().display().to_string();
    let text = format!(
        "  rollout: {{kubernetes: {{context: prod, deployment: shop, image: \"registry/shop:7\"}}, env: {{HOME: \"{home}\"}}}}\n"
    );
    let bot = Process::start(|_| stages(&text), json!({"kubernetes": {"prod": cluster}})).await;
    let began = async |_: &Process| world.patches() > 0;
    let bot = killed_at_work(bot, began, async |_| world.set("hold=0")).await;
    assert_eq!((world.patches(), &bot.stage(1, "rollout")["attempt"]), (1, &json!(1)));
}

#[tokio::test(flavor = "multi_thread")]
async fn an_apply_of_terraform_goes_on_after_a_kill_and_is_not_begun_twice() {
    let text = |folder: &Path| {
        drop(super::terraform::path(folder));
        fs::create_dir_all(folder.join("infra")).unwrap();
        let changes = json!({"changes": [["create", "aws_vpc.main"], ["create", "aws_lb.front"]], "seconds": 2.0});
        fs::write(folder.join("infra/double.json"), changes.to_string()).unwrap();
        let at = folder.display();
        stages(&format!(
            "  get: {{shell: [cp, -r, \"{at}/infra\", infra]}}\n  infra: {{needs: [get], terraform: {{dir: infra, binary: \"{at}/bin/tofu\", apply: auto}}}}\n"
        ))
    };
    let bot = Process::start(text, json!({})).await;
    let calls = |bot: &Process, verb: &str| {
        let file = "data/runs/1/workspace/infra/calls";
        bot.lines(file).iter().filter(|line| line.starts_with(verb)).count()
    };
    let began = async |bot: &Process| calls(bot, "apply") == 1;
    let went = std::sync::Mutex::new(0);
    // It goes on by itself; how often it was begun is looked at while its files are there.
    let go = async |bot: &Process| {
        until("the end", || {
            let now = calls(bot, "apply");
            *went.lock().unwrap() += usize::from(now > 1);
            bot.stage(1, "infra")["state"] == "succeeded"
        })
        .await;
    };
    let bot = killed_at_work(bot, began, go).await;
    let infra = bot.stage(1, "infra");
    assert_eq!((*went.lock().unwrap(), &infra["attempt"]), (0, &json!(1)), "{infra:#}");
    assert!(infra["summary"].as_str().unwrap().starts_with("2 added, 0 changed, 0 destroyed"), "{infra:#}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_playbook_goes_on_after_a_kill_and_its_tasks_are_done_once() {
    const SITE: &str = "
- hosts: all
  gather_facts: false
  tasks:
    - shell: 'echo x >> AT/began; until test -e AT/go; do sleep 0.1; done'
    - shell: 'echo x >> AT/then'
";
    tool("ansible-playbook");
    let text = |folder: &Path| {
        let at = folder.display().to_string();
        fs::write(folder.join("site.yml"), SITE.replace("AT", &at)).unwrap();
        let inventory = "web1 ansible_connection=local ansible_python_interpreter='{{ ansible_playbook_python }}'\n";
        fs::write(folder.join("inv"), inventory).unwrap();
        stages(&format!(
            "  get: {{shell: [cp, \"{at}/site.yml\", \"{at}/inv\", .]}}\n  notify: {{needs: [get], ansible: {{playbook: site.yml, inventory: inv}}, env: {{HOME: \"{at}\"}}}}\n"
        ))
    };
    let bot = killed_at_work(Process::start(text, json!({})).await, begins, lets_go).await;
    assert_eq!((bot.lines("began").len(), bot.lines("then").len()), (1, 1));
    assert_eq!(bot.stage(1, "notify")["outputs"]["hosts"]["web1"]["ok"], 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_image_is_built_to_its_end_after_a_kill_and_once() {
    tool("buildah");
    let text = |folder: &Path| {
        let (at, port) = (folder.display().to_string(), held_server(folder));
        let storage = format!("[storage]\ndriver = \"vfs\"\ngraphroot = \"{at}/images\"\nrunroot = \"{at}/running\"\n");
        fs::write(folder.join("storage.conf"), storage).unwrap();
        fs::write(folder.join("Dockerfile"), format!("FROM scratch\nADD http://127.0.0.1:{port}/file /file\n"))
            .unwrap();
        stages(&format!(
            "  get: {{shell: [cp, \"{at}/Dockerfile\", .]}}\n  image: {{needs: [get], docker: {{build: \".\", image: shop}}, env: {{CONTAINERS_STORAGE_CONF: \"{at}/storage.conf\", TMPDIR: \"{at}\", HOME: \"{at}\"}}}}\n"
        ))
    };
    let bot = killed_at_work(Process::start(text, json!({})).await, begins, lets_go).await;
    let image = bot.stage(1, "image");
    assert_eq!((bot.lines("began").len(), &image["outputs"]["image"]), (1, &json!("shop:1")), "{image:#}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_checkout_goes_on_after_a_kill() {
    let origin = Origin::new();
    let text = |folder: &Path| {
        let way = held_way(folder, &origin);
        stages(&format!(
            "  checkout: {{git: {{repo: \"git@slow.example:shop.git\", ref: main}}, env: {{GIT_SSH_COMMAND: \"{}\"}}}}\n",
            way.display()
        ))
    };
    let bot = killed_at_work(Process::start(text, json!({})).await, begins, lets_go).await;
    let checkout = bot.stage(1, "checkout");
    let head = origin.git(&["rev-parse", "HEAD"]);
    assert_eq!((&checkout["outputs"]["sha"], &checkout["attempt"]), (&json!(head), &json!(1)), "{checkout:#}");
}

/// One environment for each thing that a run may wait for.
fn waiting(folder: &Path) -> String {
    let text = r##"
app: shop
policy:
  environments:
    confirmed: {}
    agreed: { confirm: never, approvals: { count: 1, not_requester: false } }
    busy: { confirm: never }
    frozen: { confirm: never }
    locked: { confirm: never }
    held: { confirm: never }
    people: { confirm: never }
    stopping: { confirm: never }
    undoing: { confirm: never, rollback: { mode: never, lock: false } }
    again: { confirm: never }
stages:
  held: { when: "environment == 'held'", shell: ["false"], on_failure: ask }
  again:
    when: "environment == 'again'"
    shell: [sh, -c, "test $MC_ATTEMPT -gt 1 || (echo Connection refused; exit 1)"]
    retry: { times: 2, first: 4s, jitter: 0, on: [network] }
  people: { when: "environment == 'people'", approve: { count: 1, not_requester: false } }
  work:
    needs: ["held?", "again?", "people?"]
    shell: [sh, -c, "echo {environment} >> @/ran; until test -e @/go-{environment}; do sleep 0.05; done"]
    rollback: { shell: [sh, -c, "echo undo >> @/ran; until test -e @/undo; do sleep 0.05; done"] }
finally:
  clean: { when: "environment == 'stopping'", shell: [sh, -c, "echo clean >> @/ran; until test -e @/clean; do sleep 0.05; done"] }
"##;
    text.replace('@', &folder.display().to_string())
}

/// Brings a run into each state in which it may wait: its number, its state, and that of the stage it waits in.
async fn bring_about(bot: &Process) -> Vec<(i64, &'static str, Option<(&'static str, &'static str)>)> {
    for name in ["go-confirmed", "go-agreed", "go-locked", "go-held", "go-people", "go-undoing", "go-again"] {
        bot.touch(name);
    }
    bot.deploys("confirmed");
    bot.deploys("agreed");
    bot.deploys("busy");
    bot.deploys("busy");
    bot.deploys("frozen");
    bot.deploys("frozen");
    bot.becomes(6, "queued").await;
    bot.says(&["runs", "freeze", "shop/frozen", "2h", "stocktaking"]);
    bot.touch("go-frozen");
    bot.becomes(6, "awaiting_window").await;
    bot.says(&["runs", "lock", "shop/locked", "2h", "a", "migration"]);
    bot.deploys("locked");
    bot.says(&["runs", "queue", "7"]);
    bot.deploys("held");
    bot.becomes(8, "paused").await;
    bot.deploys("people");
    bot.deploys("stopping");
    until("the work", || bot.lines("ran").contains(&"stopping".to_owned())).await;
    bot.says(&["runs", "abort", "10"]);
    until("the cleaning", || bot.lines("ran").contains(&"clean".to_owned())).await;
    for number in [11, 12] {
        bot.deploys("undoing");
        bot.becomes(number, "succeeded").await;
    }
    bot.says(&["runs", "rollback", "12"]);
    until("the undoing", || bot.lines("ran").contains(&"undo".to_owned())).await;
    bot.deploys("again");
    until("the first attempt", || bot.stage(14, "again")["state"] == "retry_wait").await;
    vec![
        (1, "awaiting_confirm", None),
        (2, "awaiting_approval", None),
        (3, "running", Some(("work", "running"))),
        (4, "queued", None),
        (5, "succeeded", None),
        (6, "awaiting_window", None),
        (7, "queued", None),
        (8, "paused", Some(("held", "failed"))),
        (9, "running", Some(("people", "waiting"))),
        (10, "cancelling", Some(("clean", "running"))),
        (12, "rolling_back", None),
        (13, "running", Some(("undo-work", "running"))),
        (14, "running", Some(("again", "retry_wait"))),
    ]
}

#[tokio::test(flavor = "multi_thread")]
async fn whatever_a_run_waits_for_when_the_bot_is_killed_it_waits_for_after_that_and_goes_on() {
    let mut bot = Process::start(waiting, json!({})).await;
    let waits = bring_about(&bot).await;
    let before = bot.lines("ran");
    bot.kill();
    bot.begin().await;
    for (number, state, stage) in &waits {
        // What is tried again may be by now.
        let shown = bot.shown(*number);
        assert!(shown["run"]["state"] == *state || *number == 14, "{number} is to be {state}: {shown:#}");
        if let Some((name, state)) = stage.filter(|_| *number != 14) {
            until(name, || bot.stage(*number, name)["state"] == state).await;
        }
    }
    let mut now = bot.lines("ran");
    now.retain(|line| line != "again");
    assert_eq!(now, before, "nothing was begun twice");
    bot.says(&["runs", "yes", "1"]);
    let code = bot.shown(2)["run"]["code"].as_str().unwrap().to_owned();
    bot.says(&["runs", "approve", "2", &code]);
    let code = bot.stage(9, "people")["code"].as_str().unwrap().to_owned();
    bot.says(&["runs", "approve", "9", &code]);
    bot.says(&["runs", "promote", "8"]);
    bot.says(&["runs", "drop", "7"]);
    bot.says(&["runs", "thaw", "shop/frozen"]);
    for name in ["go-busy", "clean", "undo"] {
        bot.touch(name);
    }
    for number in [1, 2, 3, 4, 6, 8, 9, 13, 14] {
        bot.becomes(number, "succeeded").await;
    }
    for (number, state) in [(7, "cancelled"), (10, "cancelled"), (12, "rolled_back")] {
        bot.becomes(number, state).await;
    }
    let again = bot.stage(14, "again");
    assert_eq!((&again["attempt"], &again["retries"]), (&json!(2), &json!(1)), "{again:#}");
    let mut ran = bot.lines("ran");
    ran.sort();
    let once = ["again", "agreed", "busy", "busy", "clean", "confirmed", "frozen", "frozen", "held", "people"];
    let wanted: Vec<&str> = once.into_iter().chain(["stopping", "undo", "undoing", "undoing"]).collect();
    assert_eq!(ran, wanted, "each was done once");
}
