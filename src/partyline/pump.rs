//! One connection of a program that speaks lines (an IRC client, a page): lines in, news out, until somebody goes.

use std::future::Future;
use std::time::Duration;

use masterchief_contract::Shutdown;
use tokio::io::{AsyncReadExt, AsyncWriteExt, ReadHalf, WriteHalf};
use tokio::time::Instant;

use super::news::News;
use super::pace::Pace;
use super::party::Seat;
use super::place::Place;
use crate::irc::Stream;
use crate::irc::decode::LineReader;

/// Silence after which a client is asked whether it is there.
const BEAT: Duration = Duration::from_secs(90);
/// How long it may take to answer, and to take what is sent.
const PATIENCE: Duration = Duration::from_secs(60);
/// To whose session somebody else has ended, after why.
const LET_GO: &str = "you were let go";
/// News that are written together.
const TOGETHER: usize = 64;

/// Both directions of a connection.
pub(super) struct Pipe {
    read: ReadHalf<Stream>,
    write: WriteHalf<Stream>,
    pub(super) lines: LineReader,
    pub(super) pace: Pace,
}

/// What the lines of a connection mean.
pub(super) trait Talker: Send {
    /// The lines of one piece of news.
    fn render(&mut self, news: &News) -> Vec<String>;
    /// Does what a line says: lines that answer, and the words with which the client goes, if it does.
    fn line(&mut self, text: &str) -> impl Future<Output = (Vec<String>, Option<String>)> + Send;
    /// The line that asks whether the client is there.
    fn asks(&self) -> String;
    /// The last line.
    fn farewell(&self, reason: &str) -> String;
}

impl Pipe {
    /// Over a stream of which some bytes were read already.
    pub(super) fn over(stream: Stream, read_already: &[u8]) -> Pipe {
        let (read, write) = tokio::io::split(stream);
        let mut lines = LineReader::default();
        lines.feed(read_already);
        Pipe { read, write, lines, pace: Pace::default() }
    }

    /// Reads more bytes; `false` at the end.
    pub(super) async fn more(&mut self) -> bool {
        let mut buffer = [0; 4096];
        match self.read.read(&mut buffer).await {
            Ok(count) if count > 0 => {
                self.lines.feed(&buffer[..count]);
                true
            }
            _ => false,
        }
    }

    /// Writes lines; `false` if they are not taken in time.
    pub(super) async fn send(&mut self, lines: &[String]) -> bool {
        if lines.is_empty() {
            return true;
        }
        let mut text = String::with_capacity(lines.iter().map(|line| line.len() + 2).sum());
        for line in lines {
            text.push_str(line);
            text.push_str("\r\n");
        }
        let writing = async {
            self.write.write_all(text.as_bytes()).await?;
            self.write.flush().await
        };
        matches!(tokio::time::timeout(PATIENCE, writing).await, Ok(Ok(())))
    }

    /// Ends it with a last line.
    pub(super) async fn close(&mut self, last: &str) {
        self.send(&[last.to_owned()]).await;
        // Whoever is there hears that nothing more comes.
        let _ = self.write.shutdown().await;
    }
}

/// Lines in, news out. `lines` are the first to be sent.
pub(super) async fn converse(
    mut pipe: Pipe,
    mut seat: Seat,
    mut talker: impl Talker,
    mut lines: Vec<String>,
    mut shutdown: Shutdown,
) {
    for place in [Place::Party(0), Place::Ops] {
        // Both are for everybody.
        let _ = seat.party().join(seat.idx, &place);
    }
    let mut heard = Instant::now();
    let mut asked = false;
    let reason = loop {
        while let Ok(news) = seat.news.try_recv() {
            lines.extend(talker.render(&news));
            if lines.len() >= TOGETHER {
                break;
            }
        }
        let sent = tokio::select! {
            biased;
            sent = pipe.send(&lines) => sent,
            () = seat.cut.recv() => break LET_GO.to_owned(),
        };
        lines.clear();
        if !sent {
            break "does not read".to_owned();
        }
        match next_line(&mut pipe, &mut talker, &mut lines).await {
            Next::Goes(reason) => break reason,
            Next::Done => continue,
            Next::Nothing => {}
        }
        let beat = heard + if asked { BEAT + PATIENCE } else { BEAT };
        tokio::select! {
            more = pipe.more() => {
                if !more {
                    break "connection closed".to_owned();
                }
                (heard, asked) = (Instant::now(), false);
            }
            news = seat.news.recv() => match news {
                Some(news) => lines.extend(talker.render(&news)),
                None => break LET_GO.to_owned(),
            },
            () = seat.cut.recv() => break LET_GO.to_owned(),
            () = shutdown.recv() => break "the bot is going down".to_owned(),
            () = tokio::time::sleep_until(beat) => {
                if asked {
                    break "no answer to PING".to_owned();
                }
                asked = true;
                lines.push(talker.asks());
            }
        }
    };
    while let Ok(news) = seat.news.try_recv() {
        lines.extend(talker.render(&news));
    }
    let goes = async {
        pipe.send(&lines).await;
        pipe.close(&talker.farewell(&reason)).await;
    };
    // Whoever does not read is not waited for.
    let _ = tokio::time::timeout(Duration::from_secs(2), goes).await;
    seat.leaves_with(&reason);
}

/// What came of looking for a line.
enum Next {
    /// None was there.
    Nothing,
    /// One was taken, and there may be more.
    Done,
    /// The client goes, with these words.
    Goes(String),
}

/// Does what the next line says, if there is one.
async fn next_line(pipe: &mut Pipe, talker: &mut impl Talker, lines: &mut Vec<String>) -> Next {
    let Some(text) = pipe.lines.next_line() else { return Next::Nothing };
    let text = text.into_owned();
    pipe.pace.take().await;
    let (said, goes) = talker.line(&text).await;
    lines.extend(said);
    goes.map_or(Next::Done, Next::Goes)
}
