//! Somebody at the partyline of a process that may die any moment: what cannot be said or read any more is nothing, and no failure.

use std::path::Path;
use std::sync::Arc;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::task::JoinHandle;

/// How long an answer is waited for.
const PATIENCE: Duration = Duration::from_secs(15);

/// A connection to a partyline, logged in with the bot's own password.
pub(crate) struct Desk {
    stream: TcpStream,
    text: String,
}

impl Desk {
    pub(crate) async fn sit(folder: &Path, port: u16) -> Option<Desk> {
        let password = std::fs::read_to_string(folder.join("data/partyline.password")).ok()?;
        let stream = TcpStream::connect(("127.0.0.1", port)).await.ok()?;
        let mut desk = Desk { stream, text: String::new() };
        desk.reads(&["enter your handle."]).await?;
        desk.types("operator").await?;
        desk.reads(&["Enter your password."]).await?;
        desk.types(password.trim()).await?;
        desk.reads(&["Connected to"]).await?;
        Some(desk)
    }

    pub(crate) async fn types(&mut self, line: &str) -> Option<()> {
        self.stream.write_all(format!("{line}\r\n").as_bytes()).await.ok()
    }

    /// The next line that holds one of these words.
    pub(crate) async fn reads(&mut self, words: &[&str]) -> Option<String> {
        let end = tokio::time::Instant::now() + PATIENCE;
        loop {
            if let Some(at) = words.iter().filter_map(|word| self.text.find(word).map(|at| at + word.len())).min()
                && let Some(more) = self.text[at..].find('\n')
            {
                let rest = self.text.split_off(at + more + 1);
                let read = std::mem::replace(&mut self.text, rest);
                return read.lines().next_back().map(|line| line.trim().to_owned());
            }
            let mut bytes = [0; 4096];
            match tokio::time::timeout_at(end, self.stream.read(&mut bytes)).await {
                Ok(Ok(count)) if count > 0 => self.text.push_str(&String::from_utf8_lossy(&bytes[..count])),
                _ => return None,
            }
        }
    }

    /// Types something and gives the line that answers it.
    pub(crate) async fn asks(&mut self, line: &str, words: &[&str]) -> Option<String> {
        self.types(line).await?;
        self.reads(words).await
    }
}

/// Calls all other bots from one bot, one after the other, all the time, and remembers what was answered with Ok.
pub(crate) struct Calling {
    on: Arc<AtomicBool>,
    kept: Arc<Mutex<Vec<(&'static str, String)>>>,
    task: JoinHandle<u32>,
}

impl Calling {
    /// From the bot `name`, in this folder and at this port, which may die and come back.
    pub(crate) fn begin(name: &'static str, others: Vec<&'static str>, folder: &Path, port: u16) -> Calling {
        let (on, kept) = (Arc::new(AtomicBool::new(true)), Arc::<Mutex<Vec<_>>>::default());
        let (going, acknowledged, folder) = (Arc::clone(&on), Arc::clone(&kept), folder.to_owned());
        let task = tokio::spawn(async move {
            let (mut number, mut desk) = (0_u32, None);
            while going.load(Ordering::Relaxed) {
                let Some(mut sitting) = desk.take() else {
                    desk = Desk::sit(&folder, port).await;
                    tokio::time::sleep(Duration::from_millis(200)).await;
                    continue;
                };
                number += 1;
                let (to, id) = (others[number as usize % others.len()], format!("{name}-{number}."));
                let words = [format!("kept {id}"), format!("lost {id}")];
                let said = Desk::asks(&mut sitting, &format!(".call {to} {id}"), &[&words[0], &words[1]]).await;
                if said.as_ref().is_some_and(|said| said.contains(&words[0])) {
                    acknowledged.lock().unwrap().push((to, id));
                }
                // Who does not answer in time may have died.
                desk = said.map(|_| sitting);
                tokio::time::sleep(Duration::from_millis(60)).await;
            }
            number
        });
        Calling { on, kept, task }
    }

    /// How many calls there were, and which of them were answered with Ok: to whom, and by what name.
    pub(crate) async fn end(self) -> (u32, Vec<(&'static str, String)>) {
        self.on.store(false, Ordering::Relaxed);
        let count = self.task.await.unwrap();
        let kept = std::mem::take(&mut *self.kept.lock().unwrap());
        (count, kept)
    }
}

/// Says as much as it may at one bot until it is told to stop, with several sessions; gives how many lines.
pub(crate) async fn floods(folder: &Path, port: u16, sessions: usize, time: Duration) -> u64 {
    let one = async |session: usize| {
        let Some(mut desk) = Desk::sit(folder, port).await else { return 0 };
        let (mut lines, end) = (0, tokio::time::Instant::now() + time);
        let mut bytes = [0; 64 * 1024];
        while tokio::time::Instant::now() < end {
            let line = format!("word {lines} of {session} {}", "x".repeat(200));
            if desk.types(&line).await.is_none() {
                break;
            }
            lines += 1;
            // What the others say is read, or it would be let go.
            while desk.stream.try_read(&mut bytes).is_ok_and(|read| read > 0) {}
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        lines
    };
    futures_util::future::join_all((0..sessions).map(one)).await.into_iter().sum()
}
