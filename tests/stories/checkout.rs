//! Checkouts by real git of real repositories, made for each test in its own folder.

use std::io::{Read, Write};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use masterchief::contract::Secret;
use masterchief::executors::{Class, End, Settings, Step, changes, mirror, resolve};
use serde_json::{Value, json};

use super::steps::{Bench, done, failed, until};

/// A repository to check out of.
pub(crate) struct Origin {
    folder: tempfile::TempDir,
}

impl Origin {
    pub(crate) fn new() -> Origin {
        let origin = Origin { folder: tempfile::tempdir().unwrap() };
        origin.git(&["init", "--quiet", "--initial-branch=main"]);
        origin.commit("a", "one", "Begin the shop");
        origin
    }

    pub(crate) fn path(&self) -> String {
        self.folder.path().display().to_string()
    }

    pub(crate) fn git(&self, args: &[&str]) -> String {
        git(self.folder.path(), args)
    }

    pub(crate) fn commit(&self, file: &str, text: &str, subject: &str) -> String {
        let path = self.folder.path().join(file);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, text).unwrap();
        self.git(&["add", "--all"]);
        self.git(&["commit", "--quiet", "-m", subject]);
        self.git(&["rev-parse", "HEAD"])
    }

    /// Somebody's commit, and the tag it gets.
    pub(crate) fn commit_by(&self, author: &str, subject: &str, tag: Option<&str>) {
        std::fs::write(self.folder.path().join("a"), subject).unwrap();
        self.git(&[
            "commit",
            "--quiet",
            "--all",
            "--author",
            &format!("{author} <{author}@shop.example>"),
            "-m",
            subject,
        ]);
        if let Some(tag) = tag {
            self.git(&["tag", tag]);
        }
    }
}

fn git(folder: &Path, args: &[&str]) -> String {
    let mut command = Command::new("git");
    command.arg("-C").arg(folder).args(["-c", "user.name=Ana Ops", "-c", "user.email=ana@shop.example"]);
    command.args(["-c", "protocol.file.allow=always"]).args(args);
    let output = command.output().expect("git is not installed; install the package git");
    assert!(output.status.success(), "git {args:?}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap().trim().to_owned()
}

/// The next attempt in the same workspace: what belongs to the step is new.
fn next(bench: &Bench, settings: Value) -> Step {
    let _ = std::fs::remove_dir_all(bench.folder.path().join("step"));
    bench.notes.noted.lock().unwrap().clear();
    bench.step(settings)
}

fn text(bench: &Bench, file: &str) -> Option<String> {
    std::fs::read_to_string(bench.folder.path().join("workspace").join(file)).ok()
}

#[tokio::test]
async fn a_branch_is_checked_out_and_its_commit_author_and_subject_are_told() {
    let (origin, bench) = (Origin::new(), Bench::new(&Settings::default()));
    let sha = origin.commit("b/c", "two", "Sell a second thing");
    let end = bench.run("git", bench.step(json!({"repo": origin.path(), "ref": "main"}))).await;
    let outputs = done(end.clone(), &bench);
    assert_eq!(outputs["sha"], json!(sha));
    assert_eq!(outputs["short"], json!(&sha[..7]));
    assert_eq!(
        json!([outputs["author"], outputs["author_email"], outputs["subject"], outputs["ref"], outputs["branch"]]),
        json!(["Ana Ops", "ana@shop.example", "Sell a second thing", "main", "main"])
    );
    assert!(chrono_like(outputs["committed_at"].as_str().unwrap()), "{}", outputs["committed_at"]);
    let End::Done { summary, .. } = end else { unreachable!() };
    assert_eq!(summary, format!("{} Sell a second thing (Ana Ops)", &sha[..7]));
    assert_eq!(text(&bench, "b/c").as_deref(), Some("two"));
}

fn chrono_like(time: &str) -> bool {
    time.len() >= 20 && time.as_bytes()[10] == b'T'
}

#[tokio::test]
async fn tags_hashes_short_hashes_and_branches_with_odd_names_are_found() {
    let origin = Origin::new();
    let first = origin.git(&["rev-parse", "HEAD"]);
    origin.git(&["tag", "-a", "v1", "-m", "the first"]);
    let second = origin.commit("a", "two", "Go on");
    origin.git(&["tag", "light"]);
    origin.git(&["checkout", "--quiet", "-b", "feature/ü-x#1'$(id)"]);
    let third = origin.commit("a", "three", "Be odd");
    origin.git(&["checkout", "--quiet", "main"]);
    // A branch that is called like somebody else's commit stands for nothing but that commit.
    origin.git(&["update-ref", &format!("refs/heads/{first}"), &third]);
    let wanted = [
        ("v1", &first, ""),
        ("light", &second, ""),
        ("feature/ü-x#1'$(id)", &third, "feature/ü-x#1'$(id)"),
        ("refs/heads/main", &second, "main"),
        (first.as_str(), &first, ""),
        (&first[..9], &first, ""),
        ("HEAD", &second, ""),
    ];
    for (name, sha, branch) in wanted {
        let bench = Bench::new(&Settings::default());
        let outputs = done(bench.run("git", bench.step(json!({"repo": origin.path(), "ref": name}))).await, &bench);
        assert_eq!((&outputs["sha"], &outputs["branch"]), (&json!(sha), &json!(branch)), "{name}");
        if name.len() != 9 && name.len() != 40 {
            assert_eq!(resolve(&origin.path(), name, &[], Duration::from_secs(20)).await.unwrap().sha, *sha, "{name}");
        }
    }
}

#[tokio::test]
async fn another_commit_in_the_same_workspace_leaves_nothing_of_the_earlier_one() {
    let (origin, bench) = (Origin::new(), Bench::new(&Settings::default()));
    origin.git(&["checkout", "--quiet", "-b", "wide"]);
    origin.commit("only/in/wide", "x", "Be wide");
    origin.git(&["checkout", "--quiet", "main"]);
    done(bench.run("git", bench.step(json!({"repo": origin.path(), "ref": "wide"}))).await, &bench);
    let workspace = bench.folder.path().join("workspace");
    std::fs::write(workspace.join("a"), "changed by a build").unwrap();
    std::fs::write(workspace.join("left"), "left by a build").unwrap();
    // As a git leaves it that is killed.
    std::fs::write(workspace.join(".git/index.lock"), "").unwrap();
    let sha = origin.commit("a", "new", "Move on");
    let outputs = done(bench.run("git", next(&bench, json!({"repo": origin.path(), "ref": "main"}))).await, &bench);
    assert_eq!(outputs["sha"], json!(sha));
    assert_eq!(
        (text(&bench, "a").as_deref(), text(&bench, "only/in/wide"), text(&bench, "left")),
        (Some("new"), None, None)
    );
    assert_eq!(git(&workspace, &["status", "--porcelain"]), "");
    // What was moved by force is followed too.
    origin.git(&["reset", "--quiet", "--hard", "HEAD~1"]);
    let forced = origin.commit("a", "forced", "Rewrite");
    std::fs::write(workspace.join("left"), "kept on wish").unwrap();
    let settings = json!({"repo": origin.path(), "ref": "main", "clean": false});
    assert_eq!(done(bench.run("git", next(&bench, settings)).await, &bench)["sha"], json!(forced));
    assert_eq!(text(&bench, "left").as_deref(), Some("kept on wish"));
}

#[tokio::test]
async fn a_shallow_checkout_holds_one_commit_and_a_later_whole_one_all() {
    let (origin, bench) = (Origin::new(), Bench::new(&Settings::default()));
    origin.commit("a", "two", "Two");
    origin.commit("a", "three", "Three");
    let repo = format!("file://{}", origin.path());
    let workspace = bench.folder.path().join("workspace");
    done(bench.run("git", bench.step(json!({"repo": repo, "ref": "main", "depth": 1}))).await, &bench);
    assert_eq!(git(&workspace, &["rev-list", "--count", "HEAD"]), "1");
    done(bench.run("git", next(&bench, json!({"repo": repo, "ref": "main"}))).await, &bench);
    assert_eq!(git(&workspace, &["rev-list", "--count", "HEAD"]), "3");
}

#[tokio::test]
async fn submodules_and_a_subfolder_are_filled() {
    let (library, origin, bench) = (Origin::new(), Origin::new(), Bench::new(&Settings::default()));
    library.commit("lib", "of use", "Help");
    origin.git(&["submodule", "--quiet", "add", &library.path(), "vendor/lib"]);
    origin.git(&["commit", "--quiet", "-m", "Use the library"]);
    let settings = json!({"repo": origin.path(), "ref": "main", "submodules": true, "into": "sub/shop"});
    done(bench.run("git", bench.step(settings)).await, &bench);
    assert_eq!(text(&bench, "sub/shop/vendor/lib/lib").as_deref(), Some("of use"));
}

#[tokio::test]
async fn hostile_refs_repositories_and_folders_are_refused_and_run_nothing() {
    let (origin, bench) = (Origin::new(), Bench::new(&Settings::default()));
    let touched = bench.folder.path().join("touched");
    let command = format!("touch {}", touched.display());
    let hostile = [
        json!({"repo": origin.path(), "ref": format!("--upload-pack={command}")}),
        json!({"repo": format!("--upload-pack={command}"), "ref": "main"}),
        json!({"repo": format!("ext::sh -c {}", command.replace(' ', "% ")), "ref": "main"}),
        json!({"repo": origin.path(), "ref": "main", "into": "../out"}),
        json!({"repo": "https://ana:hunter2@git.example/shop", "ref": "main"}),
        json!({"repo": origin.path(), "ref": "main", "depth": 0}),
        json!({"repo": origin.path(), "branch": "main"}),
        json!("main"),
    ];
    for settings in hostile {
        assert_eq!(bench.executors["git"].check(&settings).len(), 1, "{settings}");
        let failure = failed(bench.run("git", next(&bench, settings.clone())).await);
        assert_eq!(failure.class, Class::Config, "{settings}: {}", failure.line);
        assert!(!failure.line.contains("hunter2"), "{}", failure.line);
    }
    // A link in the workspace that leads out of it.
    std::os::unix::fs::symlink("/", bench.folder.path().join("workspace/link")).unwrap();
    let settings = json!({"repo": origin.path(), "ref": "main", "into": "link/tmp"});
    assert!(failed(bench.run("git", next(&bench, settings)).await).line.contains("out of the workspace"));
    assert!(!touched.exists() && !bench.folder.path().join("out").exists());
    let unknown_yet = json!({"repo": "{repo}", "ref": "{ref}"});
    assert!(bench.executors["git"].check(&unknown_yet).is_empty());
}

#[tokio::test]
async fn a_hook_that_lies_in_the_workspace_is_not_run() {
    let (origin, bench) = (Origin::new(), Bench::new(&Settings::default()));
    let settings = json!({"repo": origin.path(), "ref": "main"});
    done(bench.run("git", bench.step(settings.clone())).await, &bench);
    let (hook, touched) =
        (bench.folder.path().join("workspace/.git/hooks/post-checkout"), bench.folder.path().join("touched"));
    std::fs::create_dir_all(hook.parent().unwrap()).unwrap();
    std::fs::write(&hook, format!("#!/bin/sh\ntouch {}\n", touched.display())).unwrap();
    Command::new("chmod").arg("+x").arg(&hook).status().unwrap();
    origin.commit("a", "two", "Two");
    done(bench.run("git", next(&bench, settings)).await, &bench);
    assert!(!touched.exists());
}

#[tokio::test]
async fn what_is_not_there_is_said_in_one_sentence_with_what_is_close() {
    let (origin, bench) = (Origin::new(), Bench::new(&Settings::default()));
    let failure = failed(bench.run("git", bench.step(json!({"repo": origin.path(), "ref": "mainn"}))).await);
    assert_eq!(
        (failure.class, failure.line.ends_with("did you mean main?")),
        (Class::Config, true),
        "{}",
        failure.line
    );
    let missing = "0123456789012345678901234567890123456789";
    let failure = failed(bench.run("git", next(&bench, json!({"repo": origin.path(), "ref": missing}))).await);
    assert!(failure.class == Class::Config && failure.line.contains("has no one commit"), "{}", failure.line);
    let failure = failed(bench.run("git", next(&bench, json!({"repo": "/no/such/shop.git", "ref": "main"}))).await);
    assert!(
        failure.class == Class::Config && failure.line.contains("is not a repository that we can see"),
        "{}",
        failure.line
    );
    let closed = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let repo = format!("http://{closed}/shop.git");
    let failure = failed(bench.run("git", next(&bench, json!({"repo": repo, "ref": "main"}))).await);
    assert!(failure.class == Class::Network && failure.line.contains("cannot be reached"), "{}", failure.line);
    let failure =
        failed(bench.run("git", next(&bench, json!({"repo": origin.path(), "ref": "main", "key": "/no/key"}))).await);
    assert!(failure.class == Class::Config && failure.line.contains("no file /no/key"), "{}", failure.line);
    let failure = resolve(&origin.path(), "mainn", &[], Duration::from_secs(20)).await.unwrap_err();
    assert!(failure.line.ends_with("did you mean main?"), "{}", failure.line);
}

/// A server that gives every request this answer, silence where it is empty, and keeps what was asked.
fn server(answer: &'static str) -> (u16, std::sync::Arc<std::sync::Mutex<String>>) {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    let asked = std::sync::Arc::<std::sync::Mutex<String>>::default();
    let kept = asked.clone();
    std::thread::spawn(move || {
        let mut held = Vec::new();
        for stream in listener.incoming() {
            let mut stream = stream.unwrap();
            let mut buffer = [0; 8192];
            let read = stream.read(&mut buffer).unwrap_or(0);
            kept.lock().unwrap().push_str(&String::from_utf8_lossy(&buffer[..read]));
            let _ = stream.write_all(answer.as_bytes());
            if answer.is_empty() {
                held.push(stream);
            }
        }
    });
    (port, asked)
}

#[tokio::test]
async fn a_token_is_sent_to_the_host_and_is_nowhere_else() {
    let (port, asked) =
        server("HTTP/1.1 401 no\r\nWWW-Authenticate: Basic realm=x\r\nContent-Length: 0\r\nConnection: close\r\n\r\n");
    let mut bench = Bench::new(&Settings::default());
    bench.secrets.push(Secret::new("hunter2-of-git"));
    let mut step = bench.step(json!({"repo": format!("http://127.0.0.1:{port}/shop.git"), "ref": "main"}));
    step.env.push(("GIT_TOKEN".to_owned(), Secret::new("hunter2-of-git")));
    let failure = failed(bench.run("git", step).await);
    assert_eq!(failure.class, Class::Auth, "{}", failure.line);
    // x-access-token:hunter2-of-git
    let encoded = "eC1hY2Nlc3MtdG9rZW46aHVudGVyMi1vZi1naXQ=";
    assert!(asked.lock().unwrap().contains(encoded), "{}", asked.lock().unwrap());
    let mut files = vec![bench.folder.path().to_owned()];
    while let Some(path) = files.pop() {
        if path.is_dir() {
            files.extend(std::fs::read_dir(path).unwrap().flatten().map(|entry| entry.path()));
            continue;
        }
        let text = String::from_utf8_lossy(&std::fs::read(&path).unwrap()).into_owned();
        assert!(!text.contains("hunter2") && !text.contains(encoded), "{} holds the token", path.display());
    }
}

/// Serves the files of a repository to whoever shows this login, as git's plain HTTP protocol wants it.
fn dumb_server(origin: &Origin, login: &'static str) -> u16 {
    origin.git(&["update-server-info"]);
    let (listener, folder) = (std::net::TcpListener::bind("127.0.0.1:0").unwrap(), origin.folder.path().join(".git"));
    let port = listener.local_addr().unwrap().port();
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            let mut stream = stream.unwrap();
            let mut buffer = [0; 8192];
            let read = stream.read(&mut buffer).unwrap_or(0);
            let asked = String::from_utf8_lossy(&buffer[..read]).into_owned();
            let path = asked.split(' ').nth(1).and_then(|path| path.strip_prefix("/shop.git/")).unwrap_or("-");
            let path = path.split('?').next().unwrap_or(path);
            let (status, body) = match std::fs::read(folder.join(path)) {
                _ if !asked.contains(&format!("Authorization: Basic {login}\r\n")) => (401, Vec::new()),
                Ok(body) => (200, body),
                Err(_) => (404, Vec::new()),
            };
            let head = format!("HTTP/1.1 {status} x\r\nContent-Length: {}\r\nConnection: close\r\n\r\n", body.len());
            let _ = stream.write_all(head.as_bytes()).and_then(|()| stream.write_all(&body));
        }
    });
    port
}

#[tokio::test]
async fn with_its_token_a_closed_repository_is_read_but_may_not_ask_for_folders_of_this_machine() {
    let (library, origin) = (Origin::new(), Origin::new());
    let sha = origin.git(&["rev-parse", "HEAD"]);
    origin.git(&["tag", "good"]);
    origin.git(&["submodule", "--quiet", "add", &library.path(), "stolen"]);
    origin.git(&["commit", "--quiet", "-m", "Look around"]);
    // ci:hunter2-of-git
    let port = dumb_server(&origin, "Y2k6aHVudGVyMi1vZi1naXQ=");
    let repo = format!("http://127.0.0.1:{port}/shop.git");
    let env = vec![("GIT_TOKEN".to_owned(), Secret::new("hunter2-of-git")), ("GIT_USER".to_owned(), Secret::new("ci"))];
    let bench = Bench::new(&Settings::default());
    let step = |name: &str| {
        let mut step = next(&bench, json!({"repo": repo, "ref": name, "submodules": true}));
        step.env.extend(env.clone());
        step
    };
    assert_eq!(resolve(&repo, "good", &env, Duration::from_secs(20)).await.unwrap().sha, sha);
    assert_eq!(resolve(&repo, "good", &[], Duration::from_secs(20)).await.unwrap_err().class, Class::Auth);
    assert_eq!(done(bench.run("git", step("good")).await, &bench)["sha"], json!(sha));
    let failure = failed(bench.run("git", step("main")).await);
    assert!(failure.class == Class::Config && failure.line.contains("transport"), "{}", failure.line);
    assert_eq!(text(&bench, "stolen/a"), None);
}

#[tokio::test]
async fn an_ssh_key_is_handed_to_ssh_by_its_path_and_a_refusal_is_said() {
    let bench = Bench::new(&Settings::default());
    let (folder, key) = (bench.folder.path().join("bin"), bench.folder.path().join("it's a key"));
    std::fs::create_dir_all(&folder).unwrap();
    std::fs::write(&key, "").unwrap();
    let script = format!(
        "#!/bin/sh\nprintf '%s|' \"$@\" > {}/asked\necho 'git@git.example: Permission denied (publickey).' >&2\nexit 255\n",
        folder.display()
    );
    std::fs::write(folder.join("ssh"), script).unwrap();
    Command::new("chmod").arg("+x").arg(folder.join("ssh")).status().unwrap();
    let mut step = bench.step(json!({"repo": "git@git.example:shop.git", "ref": "main", "key": key}));
    let path = format!("{}:{}", folder.display(), std::env::var("PATH").unwrap());
    step.env.push(("PATH".to_owned(), Secret::new(path)));
    let failure = failed(bench.run("git", step).await);
    assert_eq!(failure.class, Class::Auth, "{}", failure.line);
    let asked = std::fs::read_to_string(folder.join("asked")).unwrap();
    let wanted = format!("-i|{}|-o|IdentitiesOnly=yes|-o|BatchMode=yes|", key.display());
    assert!(asked.contains(&wanted) && asked.contains("git@git.example|"), "{asked}");
}

#[tokio::test]
async fn stopping_ends_a_fetch_that_hangs_and_leaves_no_git_behind() {
    let (port, asked) = server("");
    let bench = Bench::new(&Settings::default());
    let step = bench.step(json!({"repo": format!("http://127.0.0.1:{port}/shop.git"), "ref": "main"}));
    let running = tokio::spawn(bench.executors["git"].run(step, bench.hands()));
    until("a request", || !asked.lock().unwrap().is_empty()).await;
    bench.stop.send_replace(true);
    let end = tokio::time::timeout(Duration::from_secs(5), running).await.unwrap().unwrap();
    assert_eq!(end, End::Stopped);
    assert_eq!(processes_with(&format!("127.0.0.1:{port}")), Vec::<String>::new());
}

/// The command lines of processes that hold this text.
fn processes_with(text: &str) -> Vec<String> {
    let entries = std::fs::read_dir("/proc").unwrap().flatten();
    let lines = entries.filter_map(|entry| std::fs::read(entry.path().join("cmdline")).ok());
    lines.map(|line| String::from_utf8_lossy(&line).replace('\0', " ")).filter(|line| line.contains(text)).collect()
}

/// A git that counts how often it fetches, and takes its time for it.
fn slow_git(bench: &Bench) -> (PathBuf, String) {
    let folder = bench.folder.path().join("bin");
    std::fs::create_dir_all(&folder).unwrap();
    let own = std::env::var("PATH").unwrap();
    let count = folder.join("fetches");
    let script = format!(
        "#!/bin/sh\nPATH={own}\ncase \" $* \" in *' fetch '*) echo x >> {}; sleep 0.7;; esac\nexec git \"$@\"\n",
        count.display()
    );
    std::fs::write(folder.join("git"), script).unwrap();
    Command::new("chmod").arg("+x").arg(folder.join("git")).status().unwrap();
    (count, format!("{}:{own}", folder.display()))
}

#[tokio::test]
async fn a_bot_that_starts_again_in_the_middle_finds_its_fetch_and_goes_on() {
    let (origin, bench) = (Origin::new(), Bench::new(&Settings::default()));
    let (count, path) = slow_git(&bench);
    let step = || {
        let mut step = bench.step(json!({"repo": origin.path(), "ref": "main"}));
        step.env.push(("PATH".to_owned(), Secret::new(path.clone())));
        step
    };
    let first = tokio::spawn(bench.executors["git"].run(step(), bench.hands()));
    until("the fetch", || count.exists()).await;
    // As if the bot had died: nobody waits for it any more.
    first.abort();
    let outputs = done(bench.run("git", step()).await, &bench);
    assert_eq!(outputs["sha"], json!(origin.git(&["rev-parse", "HEAD"])));
    assert_eq!(std::fs::read_to_string(count).unwrap(), "x\n");
    assert_eq!(text(&bench, "a").as_deref(), Some("one"));
}

#[tokio::test]
async fn a_mirror_is_kept_up_to_date_and_tells_what_changed() {
    let origin = Origin::new();
    let (folder, first) = (tempfile::tempdir().unwrap(), origin.git(&["rev-parse", "HEAD"]));
    let bare = folder.path().join("shop.git");
    mirror(&origin.path(), &bare, &[]).await.unwrap();
    origin.commit("x/ü y", "1", "Add a file | with signs");
    let last = origin.commit("a", "2", "Change a file");
    // As a git leaves it that is killed.
    std::fs::write(bare.join("refs/heads/main.lock"), "").unwrap();
    let (one, two) = (origin.path(), origin.path());
    let (one, two) = tokio::join!(mirror(&one, &bare, &[]), mirror(&two, &bare, &[]));
    assert_eq!((one, two), (Ok(()), Ok(())));
    let changes_of = changes(&bare, &first, "main").await.unwrap();
    let subjects: Vec<&str> = changes_of.commits.iter().map(|commit| commit.subject.as_str()).collect();
    assert_eq!(subjects, ["Change a file", "Add a file | with signs"]);
    assert_eq!((changes_of.commits[0].sha.as_str(), changes_of.commits[0].author.as_str()), (last.as_str(), "Ana Ops"));
    let (now, day) = (chrono::Utc::now().timestamp_millis(), 86_400_000);
    assert!(
        changes_of.commits.iter().all(|commit| commit.at.is_some_and(|at| (now - at).abs() < day)),
        "{changes_of:?}"
    );
    assert_eq!(changes_of.files, ["a", "x/ü y"]);
    assert_eq!(changes(&bare, &last, &last).await.unwrap(), Default::default());
    for hostile in ["--output=/tmp/x", "no-such-branch"] {
        assert_eq!(changes(&bare, hostile, "main").await.unwrap_err().class, Class::Config);
    }
    assert!(mirror("ext::sh", &bare, &[]).await.is_err());
}
