//! The log, live: its lines go to those on the partyline who want them. Nobody who logs ever waits for that.

use std::fmt::Write;
use std::sync::Arc;
use std::sync::atomic::{AtomicU8, AtomicU64, Ordering};

use tokio::sync::mpsc;
use tokio::time::Instant;
use tracing::field::{Field, Visit};
use tracing::level_filters::LevelFilter;
use tracing::{Event, Level, Metadata, Subscriber};
use tracing_subscriber::Layer;
use tracing_subscriber::filter::dynamic_filter_fn;
use tracing_subscriber::layer::Context;
use tracing_subscriber::registry::LookupSpan;

use super::party::Party;

/// Lines that wait to be told; when there are more, they are dropped and counted.
const DEPTH: usize = 1024;
/// The longest line that is told, in bytes.
const LONGEST: usize = 1000;

/// A line of the log.
struct Line {
    mode: char,
    level: Level,
    text: String,
    /// Whether it comes from a bind that hears of lines like this.
    unheard: bool,
}

/// Where that logs. Lines of it are for people, not for binds: they would never end.
const UNHEARD: &str = "masterchief::lua::api::log::unheard";
/// Where lines log themselves as they pass, and their letters.
const RAW: [(&str, char); 3] =
    [("masterchief::irc::sent", 'v'), ("masterchief::mesh::heard", 't'), ("masterchief::mesh::told", 'u')];
/// Lines of the log that become events at once, and then so many a second.
const HEARD: (f64, f64) = (100.0, 10.0);

/// What the layer and the partyline share.
#[derive(Debug, Default)]
struct Wanted {
    /// The least important level that anybody wants: 0 for none, 1 for errors, 5 for everything.
    level: AtomicU8,
    dropped: AtomicU64,
}

/// The lines, for [`crate::bot::Builder::live_log`].
pub struct LiveLog {
    lines: mpsc::Receiver<Line>,
    wanted: Arc<Wanted>,
}

/// Takes lines from whoever logs.
struct Tap {
    to: mpsc::Sender<Line>,
    wanted: Arc<Wanted>,
}

/// A layer for the subscriber of the process, and where its lines come out. As long as nobody on the partyline wants to see
/// anything, it costs a look at a number.
pub fn live_log<S>() -> (impl Layer<S> + Send + Sync, LiveLog)
where
    S: Subscriber + for<'a> LookupSpan<'a>,
{
    let (to, lines) = mpsc::channel(DEPTH);
    let wanted = Arc::<Wanted>::default();
    let looked = Arc::clone(&wanted);
    let filter = dynamic_filter_fn(move |metadata: &Metadata<'_>, _: &Context<'_, S>| {
        metadata.target().starts_with("masterchief") && rank(*metadata.level()) <= looked.level.load(Ordering::Relaxed)
    });
    let filter = filter.with_max_level_hint(LevelFilter::DEBUG);
    (Tap { to, wanted: Arc::clone(&wanted) }.with_filter(filter), LiveLog { lines, wanted })
}

impl LiveLog {
    /// Tells lines, without what `hide` takes from them, until nobody can log any more.
    pub(crate) async fn tell(mut self, party: Party, hide: impl Fn(&str) -> String) {
        party.watch_level({
            let wanted = Arc::clone(&self.wanted);
            move |level| wanted.level.store(level.map_or(0, rank), Ordering::Relaxed)
        });
        let mut changes = party.table().changes();
        let (mut told, mut room, mut last) = (0, HEARD.0, Instant::now());
        loop {
            let line = tokio::select! {
                line = self.lines.recv() => line,
                // The table outlives us.
                Ok(()) = changes.changed() => {
                    party.look_again();
                    continue;
                }
            };
            let Some(line) = line else { return };
            let text = hide(&line.text);
            party.log(line.mode, line.level, &text);
            let now = Instant::now();
            room = (room + (now - last).as_secs_f64() * HEARD.1).min(HEARD.0);
            last = now;
            if room >= 1.0 && !line.unheard && line.level <= Level::INFO {
                room -= 1.0;
                party.logged(line.mode, "*", &text);
            }
            let dropped = self.wanted.dropped.load(Ordering::Relaxed);
            if dropped > told {
                party.log(line.mode, Level::WARN, &format!("{} lines of the log had no room here", dropped - told));
                told = dropped;
            }
        }
    }
}

impl<S: Subscriber> Layer<S> for Tap {
    fn on_event(&self, event: &Event<'_>, _context: Context<'_, S>) {
        let metadata = event.metadata();
        let mut words = Words::default();
        event.record(&mut words);
        let mut text = format!("{} {}{}", metadata.level(), words.message, words.fields);
        if text.len() > LONGEST {
            let at = (0..=LONGEST).rev().find(|at| text.is_char_boundary(*at)).unwrap_or(0);
            text.truncate(at);
            text.push('…');
        }
        let raw = RAW.iter().find(|(target, _)| *target == metadata.target());
        let unheard = metadata.target() == UNHEARD || raw.is_some();
        let mode = raw.map_or_else(|| mode(metadata.target(), *metadata.level()), |(_, mode)| *mode);
        // Whoever wants such lines wants them whatever else they see.
        let level = if raw.is_some() { Level::INFO } else { *metadata.level() };
        let line = Line { mode, level, text, unheard };
        if self.to.try_send(line).is_err() {
            self.wanted.dropped.fetch_add(1, Ordering::Relaxed);
        }
    }
}

/// The message of an event, and its fields.
#[derive(Default)]
struct Words {
    message: String,
    fields: String,
}

impl Visit for Words {
    fn record_str(&mut self, field: &Field, value: &str) {
        self.record_debug(field, &format_args!("{value}"));
    }

    fn record_debug(&mut self, field: &Field, value: &dyn std::fmt::Debug) {
        // Writing to a String cannot fail.
        let _ = match field.name() {
            "message" => write!(self.message, "{value:?}"),
            name => write!(self.fields, " {name}={value:?}"),
        };
    }
}

fn rank(level: Level) -> u8 {
    match level {
        Level::ERROR => 1,
        Level::WARN => 2,
        Level::INFO => 3,
        Level::DEBUG => 4,
        Level::TRACE => 5,
    }
}

/// The console mode of a line, by the room it comes from.
fn mode(target: &str, level: Level) -> char {
    if level > Level::INFO {
        return 'd';
    }
    let room = target.strip_prefix("masterchief").unwrap_or("").trim_start_matches("::");
    let rooms: [(&str, char); 9] = [
        ("irc", 's'),
        ("bot::audit", 'c'),
        ("mesh", 'b'),
        ("partyline", 'P'),
        ("pipelines", 'R'),
        ("executors", 'R'),
        ("journal", 'W'),
        ("gateway", 'W'),
        ("_bindings", 'W'),
    ];
    rooms.iter().find(|(name, _)| room.starts_with(name)).map_or('o', |(_, mode)| *mode)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_has_the_mode_of_its_room() {
        assert_eq!(mode("masterchief::irc::link", Level::WARN), 's');
        assert_eq!(mode("masterchief::bot::audit", Level::INFO), 'c');
        assert_eq!(mode("masterchief_bindings::rest", Level::ERROR), 'W');
        assert_eq!(mode("masterchief::bot::street", Level::INFO), 'o');
        assert_eq!(mode("masterchief::irc::link", Level::DEBUG), 'd');
    }
}
