//! Somebody at the partyline of a process that may die any moment: what cannot be said or read any more is nothing, and no failure.

use std::path::Path;
use std::sync::Arc;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::task::JoinHandle;

use super::mesh_hostile::evil;

/// How long an answer is waited for.
const PATIENCE: Duration = Duration::from_secs(60);
/// Lines of a flood that are written together.
const TOGETHER: u64 = 100;

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
        // A flood of words is not for them.
        desk.types(".chat off").await?;
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
            let mut bytes = [0; 16 * 1024];
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
                let said = sitting.asks(&format!(".call {to} {id}"), &[&words[0], &words[1]]).await;
                if said.as_ref().is_some_and(|said| said.contains(&words[0])) {
                    acknowledged.lock().unwrap().push((to, id));
                }
                // Who does not answer in time may have died.
                desk = said.map(|_| sitting);
                tokio::time::sleep(Duration::from_millis(150)).await;
            }
            number
        });
        Calling { on, kept, task }
    }

    /// How many were answered with Ok so far.
    pub(crate) fn count(&self) -> usize {
        self.kept.lock().unwrap().len()
    }

    /// How many calls there were, and which of them were answered with Ok: to whom, and by what name.
    pub(crate) async fn end(self) -> (u32, Vec<(&'static str, String)>) {
        self.on.store(false, Ordering::Relaxed);
        let count = self.task.await.unwrap();
        let kept = std::mem::take(&mut *self.kept.lock().unwrap());
        (count, kept)
    }
}

/// A bot says as much as it can to everybody, until that is enough; gives how many lines. Its link is gone with it.
pub(crate) async fn floods(port: u16, is_enough: impl Fn(u64) -> bool) -> u64 {
    let (mut hears, mut says) = evil(port).await.into_inner().into_split();
    // It reads what it is told, or it would be let go for that.
    let reading = tokio::spawn(async move {
        let mut bytes = vec![0; 64 * 1024];
        while hears.read(&mut bytes).await.is_ok_and(|read| read > 0) {}
    });
    says.write_all(b"j Evil mallory A *H m@h\n").await.unwrap();
    let mut lines = 0;
    while !is_enough(lines) {
        let some: String =
            (0..TOGETHER).map(|at| format!("c mallory@Evil A word {} {}\n", lines + at, "x".repeat(200))).collect();
        let said = tokio::time::timeout(PATIENCE, says.write_all(some.as_bytes())).await;
        assert!(matches!(said, Ok(Ok(()))), "after {lines} lines its link is gone: {said:?}");
        lines += TOGETHER;
    }
    reading.abort();
    lines
}
