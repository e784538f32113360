//! The tool that builds images here, what it needs to know, and what it leaves behind when it is stopped.

use std::path::{Path, PathBuf};
use std::time::Duration;

use masterchief_contract::Secret;
use serde_json::Value;

use super::Shell;
use super::class::Class;
use super::local::{Command, LocalShell, Output};
use super::step::{End, Hands, Step};

/// The build argument that says whose a working container of buildah's is: it stands in the container's notes.
pub(super) const MARKER: &str = "MASTERCHIEF_STEP";
/// How long a question about the storage may take.
const ASK: Duration = Duration::from_secs(20);
/// Longer notes of a container are not buildah's.
const NOTE_MAX: u64 = 4 << 20;

/// A tool that builds and pushes images.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Tool {
    /// Needs no daemon.
    Buildah,
    /// Needs none either, and speaks as docker does.
    Podman,
    /// Needs one.
    Docker,
}

impl Tool {
    /// The name of its program.
    pub(super) fn name(self) -> &'static str {
        match self {
            Tool::Buildah => "buildah",
            Tool::Podman => "podman",
            Tool::Docker => "docker",
        }
    }
}

/// The tool with its variables.
pub(super) struct Workbench {
    pub(super) tool: Tool,
    /// Variables for its commands, beside those of the step.
    pub(super) env: Vec<(String, Secret)>,
}

impl Workbench {
    /// Finds buildah, or podman or docker where there is none.
    pub(super) async fn find(step: &Step, hands: &Hands) -> Result<Workbench, End> {
        let told = |name: &str| step.env.iter().rev().find(|(one, _)| one == name).map(|(_, value)| value.reveal());
        let path = told("PATH").map_or_else(|| std::env::var_os("PATH").unwrap_or_default(), Into::into);
        let installed = |tool: &Tool| std::env::split_paths(&path).any(|folder| folder.join(tool.name()).is_file());
        let Some(tool) = [Tool::Buildah, Tool::Podman, Tool::Docker].into_iter().find(installed) else {
            return Err(End::failed(
                Class::Config,
                "neither buildah nor podman nor docker is installed here; install one",
            ));
        };
        let mut bench = Workbench { tool, env: Vec::new() };
        if tool != Tool::Buildah {
            return Ok(bench);
        }
        if told("BUILDAH_ISOLATION").is_none() {
            // The only kind that needs no runtime and no rights beside our own.
            bench.env.push(("BUILDAH_ISOLATION".to_owned(), Secret::new("chroot")));
        }
        if told("STORAGE_DRIVER").is_none() {
            // Not even a stop breaks this off: a command of ours that goes on since before a restart has to be found first.
            let asked = bench.ask(step, &["info"]).await;
            let complaint =
                asked.filter(|output| output.code != Some(0)).map(|output| output.stderr).unwrap_or_default();
            let complaint = String::from_utf8_lossy(&complaint).into_owned();
            if ["overlay", "driver", "fuse"].iter().any(|sign| complaint.contains(sign)) {
                // Slower, but it works on every file system.
                bench.env.push(("STORAGE_DRIVER".to_owned(), Secret::new("vfs")));
                hands.log.line("buildah cannot use its storage driver here; vfs is used, which is slower");
            }
        }
        Ok(bench)
    }

    /// What [`MARKER`] is for a step: no other step, also of another bot, has the same folder.
    pub(super) fn marker(&self, step: &Step) -> String {
        step.folder.display().to_string()
    }

    /// Removes the working containers of a build of this step that did not end by itself.
    pub(super) async fn sweep(&self, step: &Step, hands: &Hands) {
        if self.tool != Tool::Buildah {
            return;
        }
        let info = self.ask(step, &["info"]).await.unwrap_or_default();
        let info: Value = serde_json::from_slice(&info.stdout).unwrap_or_default();
        let of = |key: &str| info.pointer(&format!("/store/{key}")).and_then(Value::as_str);
        let (Some(root), Some(driver)) = (of("GraphRoot"), of("GraphDriverName")) else { return };
        let marker = self.marker(step);
        for id in ours(&PathBuf::from(root).join(format!("{driver}-containers")), &marker) {
            let removed = self.ask(step, &["rm", &id]).await;
            let removed = removed.is_some_and(|output| output.code == Some(0));
            let short = id.get(..12).unwrap_or(&id);
            hands.log.line(&format!(
                "the working container {short} {}",
                if removed { "is removed" } else { "cannot be removed" }
            ));
        }
    }

    async fn ask(&self, step: &Step, args: &[&str]) -> Option<Output> {
        let env = step.env.iter().chain(&self.env).map(|(name, value)| (name.clone(), value.reveal().to_owned()));
        let argv = [self.tool.name()].iter().chain(args).map(|part| (*part).to_owned()).collect();
        let command = Command { argv, stdin: None, env: env.collect(), cwd: Some("/".to_owned()), timeout: ASK };
        LocalShell.run(command).await.ok()
    }
}

/// The working containers in a storage that have this marker.
fn ours(containers: &Path, marker: &str) -> Vec<String> {
    let entries = std::fs::read_dir(containers).into_iter().flatten().flatten();
    let notes = entries.map(|entry| (entry.file_name(), entry.path().join("userdata/buildah.json")));
    let marked = notes.filter(|(_, note)| {
        let small = std::fs::metadata(note).is_ok_and(|meta| meta.len() <= NOTE_MAX);
        let note = small.then(|| std::fs::read(note).ok()).flatten().unwrap_or_default();
        let note: Value = serde_json::from_slice(&note).unwrap_or_default();
        note.pointer(&format!("/Args/{MARKER}")).and_then(Value::as_str) == Some(marker)
    });
    marked.map(|(id, _)| id.to_string_lossy().into_owned()).collect()
}
