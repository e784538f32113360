//! `docker`: builds an image from a Dockerfile and pushes it to a registry, with buildah where it is installed, else with podman
//! or docker.
//!
//! `docker: {build: ".", image: shop, tags: ["{run.number}", latest], registry: hub}` builds; `file` names another Dockerfile in
//! the folder and `args: {KEY: value}` gives build arguments. `docker: {push: "{build.image}", tags: [...], registry: hub}` pushes
//! what was built before (`image` names it otherwise there); `push: true` beside `build` pushes what was just built.
//!
//! Outputs: `image` (with its first tag), `tags`, `id`, `size` in bytes, and `digest` once it is pushed. Without tags the number
//! of the run is the tag.

use std::sync::Arc;

use masterchief_contract::{Future, Secret};
use serde_json::{Map, Value, json};

use super::class::{Class, Failure};
use super::classify::classify;
use super::image::{Image, Order, TAGS_MAX, base_name, bytes, host, read, refused};
use super::log::{ends, tail};
use super::process::{Job, JobEnd, Out};
use super::registry::Login;
use super::settings::{Registry, Settings};
use super::shell::finish;
use super::step::{End, Executor, Hands, Step};
use super::workbench::{MARKER, Tool, Workbench};

/// The names of the jobs that name an image, and of those that push it.
const NAMING: [&str; TAGS_MAX] =
    ["tag-1", "tag-2", "tag-3", "tag-4", "tag-5", "tag-6", "tag-7", "tag-8", "tag-9", "tag-10", "tag-11", "tag-12"];
const PUSHING: [&str; TAGS_MAX] = [
    "push-1", "push-2", "push-3", "push-4", "push-5", "push-6", "push-7", "push-8", "push-9", "push-10", "push-11",
    "push-12",
];
/// So many lines of the log are looked at for complaints.
const SAID: usize = 12;

/// The executor.
pub(super) fn make(settings: &Settings) -> Arc<dyn Executor> {
    Arc::new(Docker { registries: settings.registries.clone().into_iter().collect() })
}

struct Docker {
    registries: Vec<(String, Registry)>,
}

impl Docker {
    fn registry(&self, name: &str) -> Result<Registry, String> {
        let found = self.registries.iter().find(|(one, _)| one == name).map(|(_, registry)| registry.clone());
        found.ok_or_else(|| {
            let names: Vec<&str> = self.registries.iter().map(|(name, _)| name.as_str()).collect();
            let known = if names.is_empty() {
                "none is configured".to_owned()
            } else {
                format!("there are {}", names.join(", "))
            };
            format!("there is no registry {name}; {known}, see executors.registries")
        })
    }
}

impl Executor for Docker {
    fn check(&self, settings: &Value) -> Vec<(String, String)> {
        let order = match read(settings) {
            Ok(order) => order,
            Err((key, fault)) => return vec![(key.to_owned(), fault)],
        };
        let name = order.registry.filter(|name| !name.contains('{'));
        let fault = name.and_then(|name| self.registry(&name).err());
        fault.map(|fault| ("registry".to_owned(), fault)).into_iter().collect()
    }

    fn run(&self, step: Step, hands: Hands) -> Future<End> {
        let order = read(&step.settings).map_err(|(_, fault)| fault);
        let order = order.and_then(|order| {
            let registry = order.registry.as_deref().map(|name| self.registry(name)).transpose()?;
            Ok((order, registry))
        });
        Box::pin(async move {
            let (order, registry) = match order {
                Ok(both) => both,
                Err(fault) => return End::failed(Class::Config, hands.mask.hide(&format!("docker: {fault}"))),
            };
            if let Err(failure) = order.known() {
                return End::Failed(failure);
            }
            let bench = match Workbench::find(&step, &hands).await {
                Ok(bench) => bench,
                Err(end) => return end,
            };
            hands.log.line(&format!("{} works", bench.tool.name()));
            let work = Work { step: &step, hands: &hands, order: &order, registry: registry.as_ref(), bench: &bench };
            match work.run().await.unwrap_or_else(|end| end) {
                End::Failed(failure) => End::Failed(Failure { line: hands.mask.hide(&failure.line), ..failure }),
                end => end,
            }
        })
    }

    fn repeatable(&self) -> bool {
        // The same build gives the same tags again, and what a registry holds it is not sent twice.
        true
    }
}

/// A build or a push that goes on.
struct Work<'a> {
    step: &'a Step,
    hands: &'a Hands,
    order: &'a Order,
    registry: Option<&'a Registry>,
    bench: &'a Workbench,
}

impl Work<'_> {
    async fn run(&self) -> Result<End, End> {
        let tags = self.order.tags(self.step.run);
        let mut source = self.order.push_of().map(ToOwned::to_owned);
        if self.order.build.is_some() {
            source = Some(self.build(&tags).await?);
        }
        let Some(source) = source else {
            return Err(End::failed(Class::Config, "docker: push: name the image to push, or build one"));
        };
        let image = self.inspect(&source).await?;
        let names = self.names(&source, &tags)?;
        let mut outputs = Map::new();
        outputs.insert("image".to_owned(), json!(names.first()));
        outputs.insert("tags".to_owned(), json!(tags));
        outputs.insert("id".to_owned(), json!(image.id));
        outputs.insert("size".to_owned(), json!(image.size));
        self.hands.log.line(&format!("{} has {}, {}", names.first().unwrap_or(&source), bytes(image.size), image.id));
        let mut summary = format!("{}, {}", names.first().unwrap_or(&source), bytes(image.size));
        if self.order.pushes() {
            let digest = self.push(&source, &names).await?;
            summary = format!("pushed {} as {}", names.first().unwrap_or(&source), tags.join(", "));
            outputs.insert("digest".to_owned(), json!(digest));
        }
        Ok(End::Done { outputs, summary: self.hands.mask.hide(&summary) })
    }

    /// The whole names, one for each tag.
    fn names(&self, source: &str, tags: &[String]) -> Result<Vec<String>, End> {
        let address = self.registry.map(|registry| registry.address.trim_end_matches('/'));
        let base = self.order.image.clone().or_else(|| base_name(source, address));
        let Some(base) = base else {
            return Err(End::failed(
                Class::Config,
                format!("docker: image: {source} has no name of its own; write one"),
            ));
        };
        let base = address.map_or(base.clone(), |address| format!("{address}/{base}"));
        Ok(tags.iter().map(|tag| format!("{base}:{tag}")).collect())
    }

    /// Builds; gives the first name of what came of it.
    async fn build(&self, tags: &[String]) -> Result<String, End> {
        let (context, file) = self.order.sources(self.step).map_err(End::Failed)?;
        let names = self.names("", tags)?;
        let first = names.first().cloned().unwrap_or_default();
        self.hands.tell(format!("builds {first}"));
        let verb = if self.bench.tool == Tool::Buildah { "bud" } else { "build" };
        let mut argv = vec![self.bench.tool.name().to_owned(), verb.to_owned()];
        let mut env = self.bench.env.clone();
        // Only where the base comes from this registry: a login of somebody's own would not be looked at any more.
        let text = std::fs::read_to_string(&file).unwrap_or_default();
        let login = match self.registry.filter(|registry| text.contains(Login::host(registry))) {
            Some(registry) => Some(Login::write(registry, &self.step.folder).map_err(End::Failed)?),
            None => None,
        };
        if let Some(login) = &login {
            login.hand_over(self.bench.tool, &mut argv, &mut env);
        }
        if self.bench.tool != Tool::Docker {
            argv.push(format!(
                "--tls-verify={}",
                login.is_none() || !self.registry.is_some_and(|registry| registry.insecure)
            ));
        }
        if self.bench.tool == Tool::Buildah {
            // So that what a build that is stopped leaves in the storage is known as ours.
            argv.extend(["--build-arg".to_owned(), format!("{MARKER}={}", self.bench.marker(self.step))]);
        }
        for (name, value) in &self.order.args {
            // The value comes by the environment: it may be a secret.
            argv.extend(["--build-arg".to_owned(), name.clone()]);
            env.push((name.clone(), Secret::new(value.clone())));
        }
        names.iter().for_each(|name| argv.extend(["--tag".to_owned(), name.clone()]));
        argv.extend(["--file".to_owned(), file.display().to_string(), "--".to_owned(), context.display().to_string()]);
        let end = Job { env, ..Job::new("build", argv) }.run(self.step, self.hands, |_| ()).await;
        login.iter().for_each(Login::remove);
        if end == JobEnd::Exited(0) {
            return Ok(first);
        }
        self.bench.sweep(self.step, self.hands).await;
        Err(match end {
            JobEnd::Exited(code) => {
                let said = tail(&self.step.folder, 1).join("");
                let known = refused(&said, "of the base image");
                End::Failed(known.unwrap_or_else(|| classify(&ends(&self.step.folder), None)).exit(code))
            }
            end => finish(end, self.step, |_| End::done()),
        })
    }

    /// What is known of an image; one that is only in a registry is fetched first.
    async fn inspect(&self, source: &str) -> Result<Image, End> {
        let missing = match self.look("inspect", source).await? {
            Ok(image) => return Ok(image),
            Err(failure) => failure,
        };
        let Some(host) = host(source) else { return Err(End::Failed(missing)) };
        self.hands.tell(format!("fetches {source}"));
        let (mut argv, mut env) = (vec![self.bench.tool.name().to_owned(), "pull".to_owned()], self.bench.env.clone());
        let registry = self.registry.filter(|registry| Login::host(registry) == host);
        let login = match registry {
            Some(registry) => Some(Login::write(registry, &self.step.folder).map_err(End::Failed)?),
            None => None,
        };
        if let Some(login) = &login {
            login.hand_over(self.bench.tool, &mut argv, &mut env);
        }
        if self.bench.tool != Tool::Docker {
            argv.push(format!("--tls-verify={}", !registry.is_some_and(|registry| registry.insecure)));
        }
        argv.extend(["--quiet", "--", source].map(ToOwned::to_owned));
        let pull = Job { env, ..Job::new("pull", argv) }.run(self.step, self.hands, |_| ()).await;
        login.iter().for_each(Login::remove);
        match pull {
            JobEnd::Exited(0) => self.look("inspect-again", source).await?.map_err(End::Failed),
            JobEnd::Exited(code) => Err(End::Failed(self.complaint(missing).exit(code))),
            end => Err(finish(end, self.step, |_| End::done())),
        }
    }

    /// What is known of an image that is here.
    async fn look(&self, job: &'static str, source: &str) -> Result<Result<Image, Failure>, End> {
        let argv = match self.bench.tool {
            Tool::Buildah => {
                vec![
                    "buildah",
                    "inspect",
                    "--type",
                    "image",
                    "--format",
                    "{{.FromImageID}} {{.Manifest}}",
                    "--",
                    source,
                ]
            }
            tool => vec![tool.name(), "image", "inspect", "--format", "{{.Id}} {{.Size}}", "--", source],
        };
        let mut said = String::new();
        let job = Job { env: self.bench.env.clone(), out: Out::Own, ..Job::new(job, argv) };
        match job.run(self.step, self.hands, |line| said.push_str(line)).await {
            JobEnd::Exited(0) => Ok(Image::read(&said).ok_or_else(|| {
                let line = format!("{} tells nothing of {source} that can be read", self.bench.tool.name());
                Failure::new(Class::Unknown, line)
            })),
            JobEnd::Exited(code) => {
                let line = format!("there is no image {source} here; build it in an earlier stage");
                Ok(Err(self.complaint(Failure::new(Class::Config, line)).exit(code)))
            }
            end => Err(finish(end, self.step, |_| End::done())),
        }
    }

    /// Pushes under every name; gives the digest.
    async fn push(&self, source: &str, names: &[String]) -> Result<String, End> {
        let Some(registry) = self.registry else {
            return Err(End::failed(Class::Config, "docker: registry: say where to push, one of executors.registries"));
        };
        let login = Login::write(registry, &self.step.folder).map_err(End::Failed)?;
        let pushed = self.push_all(source, names, registry, &login).await;
        login.remove();
        pushed
    }

    async fn push_all(
        &self,
        source: &str,
        names: &[String],
        registry: &Registry,
        login: &Login,
    ) -> Result<String, End> {
        let mut digest = String::new();
        for (at, name) in names.iter().enumerate().take(TAGS_MAX) {
            self.hands.tell(format!("pushes {name}, {} of {}", at + 1, names.len()));
            let pushed = match self.bench.tool {
                Tool::Buildah | Tool::Podman => self.push_at_once(at, source, name, registry, login).await,
                Tool::Docker => self.push_by_docker(at, source, name, login).await,
            };
            let one = pushed.map_err(|end| partly(end, &names[..at]))?;
            self.hands.log.line(&format!("pushed {name} {one}"));
            if digest.is_empty() {
                digest = one;
            }
        }
        Ok(digest)
    }

    /// With a tool that pushes under another name than the image has.
    async fn push_at_once(
        &self,
        at: usize,
        source: &str,
        name: &str,
        registry: &Registry,
        login: &Login,
    ) -> Result<String, End> {
        let file = self.step.folder.join("digest");
        let (mut argv, mut env) = (vec![self.bench.tool.name().to_owned(), "push".to_owned()], self.bench.env.clone());
        login.hand_over(self.bench.tool, &mut argv, &mut env);
        argv.push(format!("--tls-verify={}", !registry.insecure));
        argv.extend(["--digestfile".to_owned(), file.display().to_string(), "--".to_owned()]);
        argv.extend([source.to_owned(), format!("docker://{name}")]);
        let end = Job { env, ..Job::new(PUSHING[at], argv) }.run(self.step, self.hands, |_| ()).await;
        self.pushed(end)?;
        // It may be the digest of another tag if the bot was restarted; they are of one image.
        Ok(std::fs::read_to_string(file).unwrap_or_default().trim().to_owned())
    }

    async fn push_by_docker(&self, at: usize, source: &str, name: &str, login: &Login) -> Result<String, End> {
        let tag = Job { env: self.bench.env.clone(), ..Job::new(NAMING[at], ["docker", "tag", source, name]) };
        self.pushed(tag.run(self.step, self.hands, |_| ()).await)?;
        let (mut argv, mut env) = (vec!["docker".to_owned()], self.bench.env.clone());
        login.hand_over(self.bench.tool, &mut argv, &mut env);
        argv.extend(["push".to_owned(), name.to_owned()]);
        let mut digest = String::new();
        let job = Job { env, out: Out::Own, ..Job::new(PUSHING[at], argv) };
        let read = |line: &str| {
            // `latest: digest: sha256:... size: 528`
            if let Some((_, rest)) = line.split_once(" digest: ") {
                rest.split(' ').next().unwrap_or("").clone_into(&mut digest);
            }
        };
        self.pushed(job.run(self.step, self.hands, read).await)?;
        Ok(digest)
    }

    fn pushed(&self, end: JobEnd) -> Result<(), End> {
        match end {
            JobEnd::Exited(0) => Ok(()),
            JobEnd::Exited(code) => {
                let last = tail(&self.step.folder, 1).pop().unwrap_or_else(|| "it said nothing".to_owned());
                let otherwise = Failure::new(Class::Unknown, format!("{} failed: {last}", self.bench.tool.name()));
                Err(End::Failed(self.complaint(otherwise).exit(code)))
            }
            end => Err(finish(end, self.step, |_| End::done())),
        }
    }

    /// What the tool complained of, if that is known, or something else.
    fn complaint(&self, otherwise: Failure) -> Failure {
        let said = tail(&self.step.folder, SAID).join("\n");
        refused(&said, self.registry.map_or("of the image", |registry| registry.address.as_str())).unwrap_or(otherwise)
    }
}

/// A failure that tells which names were pushed before.
fn partly(end: End, done: &[String]) -> End {
    match end {
        End::Failed(failure) if !done.is_empty() => {
            End::Failed(Failure { world: vec![format!("pushed already: {}", done.join(", "))], ..failure })
        }
        end => end,
    }
}
