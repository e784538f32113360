//! Images by real buildah, pushed to a real registry with a password; a double of docker, which wants a daemon.

use std::io::{Read, Write};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use masterchief::contract::Secret;
use masterchief::executors::{Class, End, Registry, Settings, Step};
use serde_json::{Value, json};

use super::servers::program as tool;
use super::steps::{Bench, done, failed, until};

pub(crate) const PASSWORD: &str = "hunter2-of-hub";
/// bcrypt of [`PASSWORD`], the only kind that the registry takes.
const HASH: &str = "$2b$04$V6Jz0qzgtIRVrUPI1RS1WOT4xO1VIGxJYIWLwZXxB6/x4nkDg2cT.";

fn free_port() -> u16 {
    std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port()
}

/// A registry that only ana may use.
pub(crate) struct Hub {
    folder: tempfile::TempDir,
    child: Child,
    pub(crate) port: u16,
}

impl Hub {
    pub(crate) async fn start() -> Hub {
        let (folder, port) = (tempfile::tempdir().unwrap(), free_port());
        let at = folder.path().display();
        std::fs::write(folder.path().join("htpasswd"), format!("ana:{HASH}\n")).unwrap();
        let config = format!(
            "version: 0.1\nlog: {{level: error}}\nstorage:\n  filesystem: {{rootdirectory: {at}/data}}\n\
            http: {{addr: \"127.0.0.1:{port}\"}}\nauth:\n  htpasswd: {{realm: hub, path: {at}/htpasswd}}\n"
        );
        std::fs::write(folder.path().join("config.yml"), config).unwrap();
        let mut starting = Command::new(tool("docker-registry"));
        starting.arg("serve").arg(folder.path().join("config.yml"));
        let child = starting.stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
        let hub = Hub { folder, child, port };
        for _ in 0..400 {
            if std::net::TcpStream::connect(("127.0.0.1", port)).is_ok() {
                return hub;
            }
            tokio::time::sleep(Duration::from_millis(25)).await;
        }
        panic!("docker-registry did not start within ten seconds");
    }

    pub(crate) fn settings(&self, password: &str) -> Settings {
        settings(&format!("127.0.0.1:{}/team", self.port), password)
    }

    pub(crate) fn skopeo(&self, args: &[&str]) -> Value {
        let mut command = Command::new(tool("skopeo"));
        command.args(args).arg("--tls-verify=false").arg("--creds").arg(format!("ana:{PASSWORD}"));
        let output = command.env("TMPDIR", self.folder.path()).output().unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        serde_json::from_slice(&output.stdout).unwrap()
    }
}

impl Drop for Hub {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn settings(address: &str, password: &str) -> Settings {
    let mut settings = Settings::default();
    let hub = Registry {
        address: address.to_owned(),
        user: Some("ana".to_owned()),
        password: Some(Secret::new(password)),
        insecure: true,
    };
    settings.registries.insert("hub".to_owned(), hub);
    settings
}

/// A step whose images lie in the folder of the test.
fn step(bench: &Bench, what: Value) -> Step {
    tool("buildah");
    let at = bench.folder.path().display();
    let storage = format!("[storage]\ndriver = \"vfs\"\ngraphroot = \"{at}/images\"\nrunroot = \"{at}/running\"\n");
    let file = bench.folder.path().join("storage.conf");
    std::fs::write(&file, storage).unwrap();
    let mut step = bench.step(what);
    step.env.push(("CONTAINERS_STORAGE_CONF".to_owned(), Secret::new(file.display().to_string())));
    step.env.push(("TMPDIR".to_owned(), Secret::new(bench.folder.path().display().to_string())));
    step
}

/// The next stage of the same run.
fn next(bench: &Bench, what: Value) -> Step {
    let _ = std::fs::remove_dir_all(bench.folder.path().join("step"));
    step(bench, what)
}

fn bench(settings: &Settings) -> Bench {
    let mut bench = Bench::new(settings);
    bench.secrets.push(Secret::new(PASSWORD));
    bench
}

fn write(bench: &Bench, file: &str, text: &str) {
    let path = bench.folder.path().join("workspace").join(file);
    std::fs::create_dir_all(path.parent().unwrap()).unwrap();
    std::fs::write(path, text).unwrap();
}

/// The files below a folder that hold a text.
fn holding(folder: &Path, texts: &[&str]) -> Vec<PathBuf> {
    let (mut left, mut found) = (vec![folder.to_owned()], Vec::new());
    while let Some(path) = left.pop() {
        if path.is_dir() && !path.is_symlink() {
            left.extend(std::fs::read_dir(path).unwrap().flatten().map(|entry| entry.path()));
            continue;
        }
        let text = String::from_utf8_lossy(&std::fs::read(&path).unwrap_or_default()).into_owned();
        if texts.iter().any(|part| text.contains(part)) {
            found.push(path);
        }
    }
    found
}

/// The command lines of all processes, as long as it lives.
struct Watch {
    over: std::sync::Arc<std::sync::atomic::AtomicBool>,
    thread: std::thread::JoinHandle<String>,
}

impl Watch {
    fn start() -> Watch {
        let over = std::sync::Arc::<std::sync::atomic::AtomicBool>::default();
        let seen = over.clone();
        let thread = std::thread::spawn(move || {
            let mut all = std::collections::BTreeSet::new();
            while !seen.load(std::sync::atomic::Ordering::Relaxed) {
                for entry in std::fs::read_dir("/proc").unwrap().flatten() {
                    let line = std::fs::read(entry.path().join("cmdline")).unwrap_or_default();
                    all.insert(String::from_utf8_lossy(&line).replace('\0', " "));
                }
                std::thread::park_timeout(Duration::from_millis(2));
            }
            all.into_iter().collect::<Vec<_>>().join("\n")
        });
        Watch { over, thread }
    }

    fn end(self) -> String {
        self.over.store(true, std::sync::atomic::Ordering::Relaxed);
        self.thread.join().unwrap()
    }
}

#[tokio::test]
async fn an_image_is_built_and_pushed_under_all_its_tags_and_the_registry_has_this_digest() {
    let hub = Hub::start().await;
    let bench = bench(&hub.settings(PASSWORD));
    write(&bench, "app/Dockerfile", "FROM scratch\nARG MESSAGE\nLABEL message=$MESSAGE\nCOPY a /a\n");
    write(&bench, "app/a", &"x".repeat(10_000));
    let build =
        json!({"build": "app", "image": "shop", "tags": ["{run}", "latest"], "args": {"MESSAGE": "buy & sell"}});
    assert!(bench.executors["docker"].check(&build).is_empty());
    let build = json!({"build": "app", "image": "shop", "tags": [118, "latest"], "args": {"MESSAGE": "buy & sell"}});
    let built = done(bench.run("docker", step(&bench, build)).await, &bench);
    assert_eq!((&built["image"], &built["tags"]), (&json!("shop:118"), &json!(["118", "latest"])));
    assert!(built["size"].as_u64().unwrap() > 10_000 && built.get("digest").is_none(), "{built:?}");
    assert!(built["id"].as_str().unwrap().starts_with("sha256:"));
    let log = bench.log();
    assert!(log.contains("buildah works") && log.contains("KiB"), "{log}");
    let watch = Watch::start();
    let push = json!({"push": built["image"], "tags": [118, "latest", "dev-latest"], "registry": "hub"});
    let pushed = done(bench.run("docker", next(&bench, push)).await, &bench);
    let lines = watch.end();
    assert!(lines.contains("buildah push") && !lines.contains(PASSWORD), "{lines}");
    assert_eq!(pushed["image"], json!(format!("127.0.0.1:{}/team/shop:118", hub.port)));
    assert_eq!((&pushed["id"], &pushed["tags"]), (&built["id"], &json!(["118", "latest", "dev-latest"])));
    assert_eq!(
        bench.notes.told.lock().unwrap().last().unwrap(),
        &format!("pushes 127.0.0.1:{}/team/shop:dev-latest, 3 of 3", hub.port)
    );
    for tag in ["118", "latest", "dev-latest"] {
        let seen = hub.skopeo(&["inspect", &format!("docker://127.0.0.1:{}/team/shop:{tag}", hub.port)]);
        assert_eq!((&seen["Digest"], &seen["Labels"]["message"]), (&pushed["digest"], &json!("buy & sell")));
    }
    // Neither the password nor its form in the login is left anywhere.
    let encoded = "YW5hOmh1bnRlcjItb2YtaHVi";
    assert_eq!(holding(bench.folder.path(), &[PASSWORD, encoded]), Vec::<PathBuf>::new());
    assert!(!bench.folder.path().join("step/login").exists());
}

#[tokio::test]
async fn one_stage_can_build_and_push() {
    let hub = Hub::start().await;
    let bench = bench(&hub.settings(PASSWORD));
    write(&bench, "Containerfile", "FROM scratch\nCOPY Containerfile /a\n");
    let what = json!({"build": ".", "image": "web", "registry": "hub", "push": true});
    let outputs = done(bench.run("docker", step(&bench, what)).await, &bench);
    let name = format!("127.0.0.1:{}/team/web:118", hub.port);
    assert_eq!(outputs["image"], json!(name));
    assert_eq!(hub.skopeo(&["inspect", &format!("docker://{name}")])["Digest"], outputs["digest"]);
    // Again, as after a restart: nothing is begun anew.
    let again = json!({"build": ".", "image": "web", "registry": "hub", "push": true});
    assert_eq!(done(bench.run("docker", step(&bench, again)).await, &bench), outputs);
    assert_eq!(bench.log().matches("STEP 1/2").count(), 1);
}

#[tokio::test]
async fn an_image_that_is_only_in_the_registry_gets_more_tags_there() {
    let hub = Hub::start().await;
    let first = bench(&hub.settings(PASSWORD));
    write(&first, "Dockerfile", "FROM scratch\nCOPY Dockerfile /a\n");
    let what = json!({"build": ".", "image": "web", "registry": "hub", "push": true});
    let built = done(first.run("docker", step(&first, what)).await, &first);
    // Another machine, where nothing was built.
    let second = bench(&hub.settings(PASSWORD));
    let push = json!({"push": built["image"], "tags": ["prod-latest"], "registry": "hub"});
    let pushed = done(second.run("docker", step(&second, push)).await, &second);
    let name = format!("127.0.0.1:{}/team/web:prod-latest", hub.port);
    assert_eq!((&pushed["image"], &pushed["id"]), (&json!(name), &built["id"]));
    assert_eq!(hub.skopeo(&["inspect", &format!("docker://{name}")])["Digest"], pushed["digest"]);
    let missing = json!({"push": format!("127.0.0.1:{}/team/web:never", hub.port), "registry": "hub"});
    let failure = failed(second.run("docker", next(&second, missing)).await);
    assert!(failure.class == Class::Config && failure.line.contains("there is no image"), "{}", failure.line);
    assert!(!second.folder.path().join("step/login").exists());
}

#[tokio::test]
async fn a_wrong_password_is_said_so_and_is_left_nowhere() {
    let hub = Hub::start().await;
    let mut bench = bench(&hub.settings("hunter3-is-wrong"));
    bench.secrets.push(Secret::new("hunter3-is-wrong"));
    write(&bench, "Dockerfile", "FROM scratch\nCOPY Dockerfile /a\n");
    done(bench.run("docker", step(&bench, json!({"build": ".", "image": "shop"}))).await, &bench);
    let failure = failed(bench.run("docker", next(&bench, json!({"push": "shop:118", "registry": "hub"}))).await);
    assert_eq!(failure.class, Class::Auth, "{}", failure.line);
    assert_eq!(
        failure.line,
        format!(
            "the registry 127.0.0.1:{}/team lets us not in; see its user and password in executors.registries",
            hub.port
        )
    );
    let encoded = "YW5hOmh1bnRlcjMtaXMtd3Jvbmc=";
    assert_eq!(holding(bench.folder.path(), &["hunter3", encoded]), Vec::<PathBuf>::new());
}

#[tokio::test]
async fn a_registry_that_is_down_and_an_image_or_dockerfile_that_is_missing_are_told_apart() {
    let bench = bench(&settings(&format!("127.0.0.1:{}", free_port()), PASSWORD));
    let failure = failed(bench.run("docker", step(&bench, json!({"build": ".", "image": "shop"}))).await);
    assert!(failure.class == Class::Config && failure.line.contains("no Dockerfile"), "{}", failure.line);
    let failure = failed(bench.run("docker", next(&bench, json!({"build": "app", "image": "shop"}))).await);
    assert!(failure.class == Class::Config && failure.line.contains("no folder app"), "{}", failure.line);
    let failure = failed(bench.run("docker", next(&bench, json!({"push": "no-such", "registry": "hub"}))).await);
    assert!(failure.class == Class::Config && failure.line.contains("no image no-such here"), "{}", failure.line);
    write(&bench, "Dockerfile", "FROM scratch\nCOPY Dockerfile /a\n");
    done(bench.run("docker", next(&bench, json!({"build": ".", "image": "shop"}))).await, &bench);
    let failure = failed(bench.run("docker", next(&bench, json!({"push": "shop:118", "registry": "hub"}))).await);
    assert!(failure.class == Class::Network && failure.line.contains("cannot be reached"), "{}", failure.line);
    assert!(!bench.folder.path().join("step/login").exists());
    write(&bench, "Dockerfile", "FROM scratch\nCOPY not-there /a\n");
    let failure = failed(bench.run("docker", next(&bench, json!({"build": ".", "image": "shop"}))).await);
    assert!(failure.line.contains("not-there") && failure.exit.is_some(), "{failure:?}");
    let mut nothing = next(&bench, json!({"build": ".", "image": "shop"}));
    nothing.env.push(("PATH".to_owned(), Secret::new("/nowhere")));
    let failure = failed(bench.run("docker", nothing).await);
    assert_eq!(
        (failure.class, failure.line.as_str()),
        (Class::Config, "neither buildah nor podman nor docker is installed here; install one")
    );
    let faults = bench.executors["docker"].check(&json!({"push": "shop", "registry": "other"}));
    assert_eq!(
        faults,
        [("registry".to_owned(), "there is no registry other; there are hub, see executors.registries".to_owned())]
    );
}

#[tokio::test]
async fn where_the_storage_driver_does_not_work_another_one_is_used() {
    let bench = bench(&Settings::default());
    write(&bench, "Dockerfile", "FROM scratch\nCOPY Dockerfile /a\n");
    let step = step(&bench, json!({"build": ".", "image": "shop"}));
    let file = bench.folder.path().join("storage.conf");
    let text = std::fs::read_to_string(&file).unwrap().replace("\"vfs\"", "\"zfs\"");
    std::fs::write(&file, text).unwrap();
    assert_eq!(done(bench.run("docker", step).await, &bench)["image"], json!("shop:118"));
    assert!(bench.log().contains("vfs is used"), "{}", bench.log());
    assert!(bench.folder.path().join("images/vfs").exists());
}

/// A server that never answers; what it was asked.
fn silent() -> (u16, std::sync::Arc<std::sync::atomic::AtomicBool>) {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    let asked = std::sync::Arc::<std::sync::atomic::AtomicBool>::default();
    let kept = asked.clone();
    std::thread::spawn(move || {
        let mut streams = Vec::new();
        for stream in listener.incoming() {
            let mut stream = stream.unwrap();
            let _ = stream.read(&mut [0; 1024]);
            kept.store(true, std::sync::atomic::Ordering::Relaxed);
            streams.push(stream);
        }
    });
    (port, asked)
}

#[tokio::test]
async fn a_build_that_is_stopped_leaves_no_container_and_one_of_somebody_else_stays() {
    let (port, asked) = silent();
    let bench = bench(&Settings::default());
    write(&bench, "Dockerfile", &format!("FROM scratch\nADD http://127.0.0.1:{port}/never /never\n"));
    let step = step(&bench, json!({"build": ".", "image": "shop"}));
    let buildah = |args: &[&str]| {
        let mut command = Command::new(tool("buildah"));
        command.args(args).env("CONTAINERS_STORAGE_CONF", bench.folder.path().join("storage.conf"));
        String::from_utf8(command.output().unwrap().stdout).unwrap()
    };
    let other = buildah(&["from", "scratch"]);
    let running = tokio::spawn(bench.executors["docker"].run(step, bench.hands()));
    until("a request", || asked.load(std::sync::atomic::Ordering::Relaxed)).await;
    assert_eq!(buildah(&["containers", "-q"]).lines().count(), 2);
    bench.stop.send_replace(true);
    let end = tokio::time::timeout(Duration::from_secs(10), running).await.unwrap().unwrap();
    assert_eq!(end, End::Stopped);
    let left = buildah(&["containers", "--noheading", "--format", "{{.ContainerName}}"]);
    assert_eq!(left.trim(), other.trim());
}

#[tokio::test]
async fn a_push_that_is_stopped_leaves_no_login() {
    let (port, asked) = silent();
    let bench = bench(&settings(&format!("127.0.0.1:{port}"), PASSWORD));
    write(&bench, "Dockerfile", "FROM scratch\nCOPY Dockerfile /a\n");
    done(bench.run("docker", step(&bench, json!({"build": ".", "image": "shop"}))).await, &bench);
    let step = next(&bench, json!({"push": "shop:118", "registry": "hub"}));
    let running = tokio::spawn(bench.executors["docker"].run(step, bench.hands()));
    until("a request", || asked.load(std::sync::atomic::Ordering::Relaxed)).await;
    let login = bench.folder.path().join("step/login/config.json");
    assert_eq!(std::fs::metadata(&login).unwrap().permissions().mode() & 0o777, 0o600);
    bench.stop.send_replace(true);
    let end = tokio::time::timeout(Duration::from_secs(10), running).await.unwrap().unwrap();
    assert_eq!(end, End::Stopped);
    assert!(!login.parent().unwrap().exists());
}

#[tokio::test]
async fn a_bot_that_ends_leaves_the_login_to_the_push_that_goes_on_and_the_next_one_removes_it() {
    let (port, asked) = silent();
    let bench = bench(&settings(&format!("127.0.0.1:{port}"), PASSWORD));
    write(&bench, "Dockerfile", "FROM scratch\nCOPY Dockerfile /a\n");
    done(bench.run("docker", step(&bench, json!({"build": ".", "image": "shop"}))).await, &bench);
    let pushes = next(&bench, json!({"push": "shop:118", "registry": "hub"}));
    let running = tokio::spawn(bench.executors["docker"].run(pushes.clone(), bench.hands()));
    until("a request", || asked.load(std::sync::atomic::Ordering::Relaxed)).await;
    let login = bench.folder.path().join("step/login/config.json");
    let written = || std::fs::metadata(&login).unwrap().modified().unwrap();
    let before = written();
    // As when the bot goes down: nobody waits any more, and the command goes on under its supervisor.
    running.abort();
    assert!(running.await.is_err() && login.exists());
    let running = tokio::spawn(bench.executors["docker"].run(pushes, bench.hands()));
    until("the step that goes on", || bench.notes.told.lock().unwrap().len() > 1).await;
    assert_eq!(written(), before, "what the command may be reading is left as it is");
    bench.stop.send_replace(true);
    assert_eq!(running.await.unwrap(), End::Stopped);
    assert!(!login.parent().unwrap().exists());
}

#[tokio::test]
async fn without_buildah_podman_does_the_same() {
    let bench = bench(&settings("hub.example/team", PASSWORD));
    write(&bench, "Dockerfile", "FROM scratch\n");
    let folder = bench.folder.path().join("bin");
    std::fs::create_dir_all(&folder).unwrap();
    // What podman prints, and proof of what it was given.
    let script = format!(
        "#!/bin/sh\necho \"$@\" >> {0}/asked\ncase $1 in\nimage) echo 'cfa7 4404019';;\n\
        push) grep -c YW5hOmh1bnRlcjItb2YtaHVi $3 >> {0}/asked; echo sha256:77 > $6;;\nesac\n",
        folder.display()
    );
    std::fs::write(folder.join("podman"), script).unwrap();
    std::fs::set_permissions(folder.join("podman"), std::fs::Permissions::from_mode(0o755)).unwrap();
    // Docker is there too, and is not asked.
    for (program, name) in [("sh", "sh"), ("grep", "grep"), ("false", "docker")] {
        std::os::unix::fs::symlink(tool(program), folder.join(name)).unwrap();
    }
    let mut step = bench.step(json!({"build": ".", "image": "shop", "registry": "hub", "push": true}));
    step.env.push(("PATH".to_owned(), Secret::new(folder.display().to_string())));
    let outputs = done(bench.run("docker", step).await, &bench);
    assert_eq!((&outputs["id"], &outputs["digest"]), (&json!("sha256:cfa7"), &json!("sha256:77")));
    let (name, at) = ("hub.example/team/shop:118", bench.folder.path().display());
    let wanted = format!(
        "build --tls-verify=true --tag {name} --file {at}/workspace/Dockerfile -- {at}/workspace\n\
        image inspect --format {{{{.Id}}}} {{{{.Size}}}} -- {name}\n\
        push --authfile {at}/step/login/config.json --tls-verify=false --digestfile {at}/step/digest -- {name} docker://{name}\n1\n"
    );
    assert_eq!(std::fs::read_to_string(folder.join("asked")).unwrap(), wanted);
    assert!(bench.log().contains("podman works") && !bench.folder.path().join("step/login").exists());
}

#[tokio::test]
async fn without_buildah_docker_does_the_same() {
    let bench = bench(&settings("hub.example/team", PASSWORD));
    write(&bench, "Dockerfile", "FROM scratch\n");
    let folder = bench.folder.path().join("bin");
    std::fs::create_dir_all(&folder).unwrap();
    let digest = format!("sha256:{}", "0".repeat(64));
    // What docker prints, and proof of what it was given.
    let script = format!(
        "#!/bin/sh\necho \"$@\" >> {0}/asked\ncase $1 in\nimage) echo 'sha256:cfa7 4404019';;\n\
        build) echo \"MESSAGE is $MESSAGE\" >> {0}/asked;;\n\
        push) grep -c YW5hOmh1bnRlcjItb2YtaHVi $DOCKER_CONFIG/config.json >> {0}/asked; echo '118: digest: {digest} size: 528';;\nesac\n",
        folder.display()
    );
    let mut file = std::fs::File::create(folder.join("docker")).unwrap();
    file.write_all(script.as_bytes()).unwrap();
    drop(file);
    Command::new("chmod").arg("+x").arg(folder.join("docker")).status().unwrap();
    for program in ["sh", "grep"] {
        std::os::unix::fs::symlink(tool(program), folder.join(program)).unwrap();
    }
    let what = json!({"build": ".", "image": "shop", "args": {"MESSAGE": "hello"}, "registry": "hub", "push": true});
    let mut step = bench.step(what);
    step.env.push(("PATH".to_owned(), Secret::new(folder.display().to_string())));
    let outputs = done(bench.run("docker", step).await, &bench);
    assert_eq!(
        json!(outputs),
        json!({"image": "hub.example/team/shop:118", "tags": ["118"], "id": "sha256:cfa7", "size": 4404019, "digest": digest})
    );
    let workspace = bench.folder.path().join("workspace").display().to_string();
    let name = "hub.example/team/shop:118";
    let asked = std::fs::read_to_string(folder.join("asked")).unwrap();
    let wanted = format!(
        "build --build-arg MESSAGE --tag {name} --file {workspace}/Dockerfile -- {workspace}\nMESSAGE is hello\n\
        image inspect --format {{{{.Id}}}} {{{{.Size}}}} -- {name}\ntag {name} {name}\npush {name}\n1\n"
    );
    assert_eq!(asked, wanted);
    assert!(bench.log().contains("docker works") && !bench.folder.path().join("step/login").exists());
}
