//! A cluster for stories: the double of the API, and kubectl.

use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Child, ChildStdin, Command, Stdio};
use std::time::Duration;

use masterchief::contract::Secret;
use masterchief::executors::{Cluster, End, Failure, Settings, Step};
use serde_json::{Value, json};

use super::servers::program as tool;
use super::steps::Bench;

/// The double, and a bench to run steps against it.
pub(crate) struct World {
    pub(crate) child: Child,
    pub(crate) bench: Bench,
    pub(crate) settings: Settings,
    pub(crate) _input: Option<ChildStdin>,
}

impl Drop for World {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

pub(crate) fn cluster(kubeconfig: &Path, context: &str, namespace: Option<&str>) -> Cluster {
    let (context, namespace) = (Some(context.to_owned()), namespace.map(str::to_owned));
    Cluster { kubeconfig: Some(kubeconfig.to_owned()), context, namespace }
}

impl World {
    /// With the deployment `shop` in the namespace `web`, settled on `registry/shop:6` with so many pods.
    pub(crate) fn new(replicas: u32) -> World {
        let shop = format!("shop=registry/shop:6*{replicas}@web");
        World::with(&["--deployment", &shop])
    }

    pub(crate) fn with(arguments: &[&str]) -> World {
        let folder = tempfile::tempdir().unwrap();
        let kubeconfig = folder.path().join("kubeconfig");
        let mut child = Command::new(tool("python3"))
            .arg(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/doubles/kubernetes.py"))
            .arg("--tls")
            .arg(folder.path())
            .arg("--kubeconfig")
            .arg(&kubeconfig)
            .args(arguments)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut line = String::new();
        BufReader::new(child.stdout.take().unwrap()).read_line(&mut line).unwrap();
        assert!(line.starts_with("ready "), "the double did not start: {line:?}");
        let mut settings = Settings::default();
        for context in ["prod", "reader", "deployer", "role", "nobody", "unproven"] {
            settings.kubernetes.insert(context.to_owned(), cluster(&kubeconfig, context, Some("web")));
        }
        settings.kubernetes.insert("lost".to_owned(), cluster(&kubeconfig, "no-such-context", Some("web")));
        settings.kubernetes.insert("away".to_owned(), cluster(&folder.path().join("away"), "away", Some("web")));
        settings.kubernetes.insert("anybody".to_owned(), cluster(&folder.path().join("away"), "anybody", Some("web")));
        // A port that was free a moment ago: nobody listens there.
        let port = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        let away = json!({"apiVersion": "v1", "kind": "Config",
            "users": [{"name": "me", "user": {"token": "a-token"}}],
            "clusters": [{"name": "away", "cluster": {"server": format!("https://127.0.0.1:{port}")}}],
            "contexts": [{"name": "away", "context": {"cluster": "away", "user": "me"}},
                {"name": "anybody", "context": {"cluster": "away", "user": ""}}]});
        std::fs::write(folder.path().join("away"), away.to_string()).unwrap();
        let mut bench = Bench::new(&settings);
        // The bench's folder is the world's too, so that all of it goes with it.
        bench.folder = folder;
        let input = child.stdin.take();
        World { child, bench, settings, _input: input }
    }

    pub(crate) fn kubectl_with(&self, arguments: &[&str]) -> (Option<i32>, String, String) {
        let folder = self.bench.folder.path();
        let output = Command::new(tool("kubectl"))
            .env("HOME", folder)
            .arg(format!("--kubeconfig={}", folder.join("kubeconfig").display()))
            .args(["--request-timeout=10s"])
            .args(arguments)
            .output()
            .unwrap();
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        (output.status.code(), text(&output.stdout), text(&output.stderr))
    }

    /// What kubectl says, if it succeeds, in the namespace `web`.
    pub(crate) fn kubectl(&self, arguments: &[&str]) -> String {
        let (code, out, complaint) = self.kubectl_with(&[&["--namespace=web"], arguments].concat());
        assert_eq!(code, Some(0), "kubectl {arguments:?}: {complaint}");
        out
    }

    pub(crate) fn set(&self, query: &str) {
        self.kubectl(&["get", "--raw", &format!("/_double/set?{query}")]);
    }

    /// How many patches there were.
    pub(crate) fn patches(&self) -> usize {
        self.kubectl(&["get", "--raw", "/_double/requests"]).lines().filter(|line| line.starts_with("PATCH ")).count()
    }

    pub(crate) fn deployment(&self, name: &str) -> Value {
        serde_json::from_str(&self.kubectl(&["get", "deployment", name, "-o", "json"])).unwrap()
    }

    /// A step of the stage `rollout` that sets this image, with more settings.
    pub(crate) fn step(&self, image: &str, more: Value) -> Step {
        let mut settings = json!({"context": "prod", "deployment": "shop", "image": image});
        settings.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        let mut step = self.bench.step(settings);
        step.stage = "rollout".to_owned();
        let path = |path: &Path| Secret::new(path.display().to_string());
        step.env.push(("HOME".to_owned(), path(self.bench.folder.path())));
        if let Some(folder) = tool("kubectl").parent().filter(|folder| folder.is_absolute()) {
            let own = std::env::var("PATH").unwrap_or_default();
            step.env.push(("PATH".to_owned(), Secret::new(format!("{}:{own}", folder.display()))));
        }
        step
    }

    pub(crate) async fn run(&self, step: Step) -> End {
        tokio::time::timeout(Duration::from_secs(60), self.bench.run("kubernetes", step)).await.expect("it ends")
    }

    pub(crate) fn start(&self, step: Step) -> tokio::task::JoinHandle<End> {
        tokio::spawn(self.bench.executors["kubernetes"].run(step, self.bench.hands()))
    }

    pub(crate) async fn undo(&self, step: Step) -> End {
        let undoing = self.bench.executors["kubernetes"].undo(step, self.bench.hands());
        tokio::time::timeout(Duration::from_secs(60), undoing).await.expect("it ends")
    }

    pub(crate) async fn failure(&self, step: Step) -> Failure {
        match self.run(step).await {
            End::Failed(failure) => failure,
            end => panic!("{end:?}\n{}", self.bench.log()),
        }
    }

    pub(crate) fn told(&self) -> Vec<String> {
        self.bench.notes.told.lock().unwrap().clone()
    }
}

pub(crate) fn done(end: End) -> (Value, String) {
    match end {
        End::Done { outputs, summary } => (Value::Object(outputs), summary),
        end => panic!("{end:?}"),
    }
}
