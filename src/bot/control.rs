//! The control socket: how `masterchief deploy` and `masterchief runs` speak to the bot that runs on the same data folder.
//!
//! A line of JSON asks (`{"word": "deploy", "text": "shop to prod", "follow": true}`), lines of JSON answer: `{"line": …}` for people,
//! `{"news": {…}}` while a run is followed, and one `{"end": …}`. Only the user that the bot runs as may connect.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use masterchief_contract::{Action, Future, Outcome, Outlet, Refused, Shutdown};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::{UnixListener, UnixStream};
use tokio::sync::{mpsc, watch};
use tokio::task::JoinSet;

use super::deploys::{self, Undone};
use crate::pipelines::{Pipelines, RefusalKind, RunState};

/// The socket under the data folder.
pub(crate) const SOCKET: &str = "control.sock";
/// Longer requests are refused.
const REQUEST_MAX: u64 = 64 * 1024;
/// Who speaks at once, at most.
const CLIENTS: usize = 64;

/// What is asked.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct Request {
    /// A word such as `deploy`, without its sign.
    pub(crate) word: String,
    /// What follows it.
    pub(crate) text: String,
    /// Whether what comes of the run is told until it ends.
    pub(crate) follow: bool,
    /// The run to follow, if the word makes none.
    pub(crate) run: Option<i64>,
}

/// Opens the socket; a path that cannot be used is told, and the bot goes on without it.
pub(super) fn open(folder: &Path) -> Option<UnixListener> {
    let path = folder.join(SOCKET);
    // The folder is locked for us, so whoever listened there is gone.
    let _ = std::fs::remove_file(&path);
    match UnixListener::bind(&path) {
        Ok(listener) => {
            use std::os::unix::fs::PermissionsExt;
            if let Err(fault) = std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o600)) {
                tracing::warn!(path = %path.display(), %fault, "The control socket cannot be made private, so it stays closed");
                return None;
            }
            Some(listener)
        }
        Err(fault) => {
            tracing::warn!(path = %path.display(), %fault, "There is no control socket: `masterchief deploy` will not reach this bot");
            None
        }
    }
}

/// Serves until it is time.
pub(super) async fn serve(
    listener: UnixListener,
    pipelines: Pipelines,
    asking: watch::Sender<usize>,
    mut shutdown: Shutdown,
) {
    let mut clients = JoinSet::new();
    loop {
        let accepted = tokio::select! {
            accepted = listener.accept(), if clients.len() < CLIENTS => accepted,
            Some(_) = clients.join_next() => continue,
            () = shutdown.recv() => return,
        };
        let Ok((stream, _)) = accepted else {
            tokio::time::sleep(std::time::Duration::from_millis(100)).await;
            continue;
        };
        let ours =
            stream.peer_cred().is_ok_and(|peer| peer.uid() == rustix::process::geteuid().as_raw() || peer.uid() == 0);
        if !ours {
            tracing::warn!("Somebody else than the bot's own user tried the control socket");
            continue;
        }
        let (pipelines, asking) = (pipelines.clone(), asking.clone());
        asking.send_modify(|asking| *asking += 1);
        clients.spawn(async move {
            // Whoever asks may go at any time.
            let _ = client(stream, pipelines).await;
            asking.send_modify(|asking| *asking -= 1);
        });
    }
}

async fn client(stream: UnixStream, pipelines: Pipelines) -> std::io::Result<()> {
    let (read, mut write) = stream.into_split();
    let mut text = String::new();
    BufReader::new(read.take(REQUEST_MAX)).read_line(&mut text).await?;
    let request: Request = match serde_json::from_str(&text) {
        Ok(request) => request,
        Err(fault) => {
            let line = format!("this is no request: {fault}");
            return send(&mut write, &json!({"end": "refused", "kind": RefusalKind::Wrong, "line": line})).await;
        }
    };
    // Before it is asked, so that nothing of it is missed.
    let mut news = pipelines.news();
    let (to, mut whispers) = mpsc::channel(64);
    let mut answer =
        Box::pin(deploys::at_this_machine(&pipelines, &request.word, &request.text, Arc::new(Whispers(to))));
    let answered = loop {
        tokio::select! {
            answered = &mut answer => break answered,
            Some(line) = whispers.recv() => send(&mut write, &json!({"line": line})).await?,
        }
    };
    drop(answer);
    while let Ok(line) = whispers.try_recv() {
        send(&mut write, &json!({"line": line})).await?;
    }
    let lines = match answered {
        Ok(Outcome::Reply(lines)) => lines,
        Ok(_) => Vec::new(),
        Err(Undone::Refused(refusal)) => {
            let answer = json!({"end": "refused", "kind": refusal.kind, "line": refusal.text});
            return send(&mut write, &answer).await;
        }
        Err(Undone::Fault(fault)) => {
            return send(&mut write, &json!({"end": "refused", "line": fault.to_string()})).await;
        }
    };
    for line in lines {
        send(&mut write, &json!({"line": line})).await?;
    }
    let run = match request.run {
        Some(run) => Some(run),
        None => newest(&mut news),
    };
    let Some(run) = run.filter(|_| request.follow) else {
        return send(&mut write, &json!({"end": "done", "run": run})).await;
    };
    follow(&mut write, &pipelines, news, run).await
}

/// The run that came of what was asked.
fn newest(news: &mut tokio::sync::broadcast::Receiver<Arc<crate::pipelines::News>>) -> Option<i64> {
    let mut found = None;
    // A copy from where it was subscribed: what follows is read again by whoever follows.
    let mut look = news.resubscribe();
    std::mem::swap(news, &mut look);
    while let Ok(one) = look.try_recv() {
        // What others ask for meanwhile is theirs.
        if one.requester == deploys::MACHINE {
            found = Some(found.unwrap_or(0).max(one.run));
        }
    }
    found
}

/// Tells what comes of a run, until it has ended or waits for somebody.
async fn follow(
    write: &mut (impl AsyncWriteExt + Unpin),
    pipelines: &Pipelines,
    mut news: tokio::sync::broadcast::Receiver<Arc<crate::pipelines::News>>,
    run: i64,
) -> std::io::Result<()> {
    loop {
        let state = pipelines.run(run).await.ok().flatten().map(|(run, _)| run.state);
        let waits = matches!(state, Some(RunState::AwaitingConfirm | RunState::Draft));
        if state.is_none_or(RunState::ended) || waits {
            let state = state.map_or("gone", RunState::name);
            return send(write, &json!({"end": state, "run": run})).await;
        }
        loop {
            match news.recv().await {
                Ok(one) if one.run == run => {
                    send(write, &json!({"news": *one})).await?;
                    if one.state.ended() {
                        break;
                    }
                }
                Ok(_) => {}
                Err(tokio::sync::broadcast::error::RecvError::Lagged(_)) => break,
                Err(tokio::sync::broadcast::error::RecvError::Closed) => {
                    return send(write, &json!({"end": "gone", "run": run})).await;
                }
            }
        }
    }
}

async fn send(write: &mut (impl AsyncWriteExt + Unpin), value: &Value) -> std::io::Result<()> {
    write.write_all(format!("{value}\n").as_bytes()).await
}

/// Where words go that are for who asked alone.
struct Whispers(mpsc::Sender<String>);

impl Outlet for Whispers {
    fn perform(&self, action: Action) -> Future<Result<(), Refused>> {
        let to = self.0.clone();
        Box::pin(async move {
            let Action::Say { text, .. } = action.untagged().1 else {
                return Err(Refused::new("only words can be told here"));
            };
            to.send(text).await.map_err(|_| Refused::new("nobody listens any more"))
        })
    }
}

/// Asks the bot that runs on a data folder; `each` is given every line of its answer. `None` if no bot runs there.
pub(crate) async fn ask(data: &Path, request: &Request, mut each: impl FnMut(Value)) -> std::io::Result<Option<Value>> {
    let path: PathBuf = data.join(SOCKET);
    let stream = match UnixStream::connect(&path).await {
        Ok(stream) => stream,
        Err(fault) if matches!(fault.kind(), std::io::ErrorKind::NotFound | std::io::ErrorKind::ConnectionRefused) => {
            return Ok(None);
        }
        Err(fault) => return Err(fault),
    };
    let (read, mut write) = stream.into_split();
    write.write_all(format!("{}\n", serde_json::to_string(request)?).as_bytes()).await?;
    let mut lines = BufReader::new(read).lines();
    while let Some(line) = lines.next_line().await? {
        let value: Value = serde_json::from_str(&line)?;
        if value.get("end").is_some() {
            return Ok(Some(value));
        }
        each(value);
    }
    Err(std::io::Error::other("the bot went away while it answered"))
}
