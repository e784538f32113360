//! What the suite asks of each world, and where it asks nothing, why. The table stands in ARCHITECTURE.md as well.

use std::fmt::Write;

use Cell::{Gap, No, Yes};
use Nonsense::{Event, Letter, Nothing};

/// Whether a row of the suite has a meaning in a world.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Cell {
    Yes,
    /// What happens while nobody is connected is lost by nature; all else is heard.
    Gap,
    /// It has none, and why.
    No(&'static str),
}

/// What becomes of what cannot be understood.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Nonsense {
    /// A dead letter.
    Letter,
    /// An event: it is understood all the same.
    Event,
    /// Nothing, and why.
    Nothing(&'static str),
    /// There is none, and why.
    No(&'static str),
}

/// What the suite asks of a world. Everybody is asked for a thousand things in order, and has handlers that fail.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Row {
    pub(crate) world: &'static str,
    /// It dies before what it read is written, and before what is written is acknowledged.
    pub(crate) append: Cell,
    pub(crate) settle: Cell,
    /// Its connections are cut.
    pub(crate) cut: Cell,
    pub(crate) nonsense: Nonsense,
    /// It waits while the journal is full.
    pub(crate) full: Cell,
    /// The bot is away for a while.
    pub(crate) restart: Cell,
    /// The bot begins before whatever it reads.
    pub(crate) down: Cell,
    /// Two bots share what there is, and one dies with some of it.
    pub(crate) two: Cell,
}

const WE_LISTEN: Cell = No("it is we who listen");
const NO_GROUP: Cell = No("each bot has all of it");
const BYTES: &str = "bytes that are no text";
const LOST: Cell = No("nobody says it again");

/// What promises everything and is read by each bot for itself.
const USUAL: Row = Row {
    world: "",
    append: Yes,
    settle: Yes,
    cut: Yes,
    nonsense: Event,
    full: Yes,
    restart: Yes,
    down: Yes,
    two: NO_GROUP,
};

/// All of them.
pub(crate) static WORLDS: &[Row] = &[
    Row { world: "Kafka (librdkafka's cluster)", two: Yes, ..USUAL },
    Row { world: "Kafka (Tansu)", two: Yes, ..USUAL },
    Row { world: "RabbitMQ", two: Yes, ..USUAL },
    Row { world: "Redis stream", two: Yes, ..USUAL },
    Row {
        world: "Redis channel",
        append: LOST,
        settle: LOST,
        cut: Gap,
        full: No("what is said meanwhile is lost, and counted"),
        restart: Gap,
        ..USUAL
    },
    Row { world: "webhook", nonsense: Letter, down: WE_LISTEN, two: No("senders choose the bot"), ..USUAL },
    Row { world: "log", down: No("a log that is not there is one that is empty"), ..USUAL },
    Row {
        world: "syslog",
        append: LOST,
        settle: LOST,
        restart: Gap,
        down: WE_LISTEN,
        two: No("senders choose the bot"),
        ..USUAL
    },
    Row {
        world: "file",
        cut: No("nothing lies between"),
        nonsense: Letter,
        down: No("a folder that is not there is one that is empty"),
        ..USUAL
    },
    Row { world: "REST (one page)", nonsense: Nothing("it is asked again"), ..USUAL },
    Row { world: "REST (several pages)", nonsense: Nothing("it is asked again"), ..USUAL },
    Row { world: "Prometheus", nonsense: Nothing("no number is over no threshold"), ..USUAL },
    Row { world: "InfluxDB", nonsense: Nonsense::No("a field of numbers takes numbers only"), ..USUAL },
    Row {
        world: "StatsD",
        nonsense: Nothing("it is counted"),
        restart: No("what it was sent is not kept"),
        down: WE_LISTEN,
        two: No("senders choose the bot"),
        ..USUAL
    },
    Row { world: "SQLite", cut: No("nothing lies between"), ..USUAL },
    Row { world: "PostgreSQL", nonsense: Nonsense::No("it keeps no text that is none"), ..USUAL },
    Row { world: "MariaDB", nonsense: Nonsense::No("it keeps no text that is none"), ..USUAL },
    Row { world: "MongoDB", nonsense: Nonsense::No("it keeps no text that is none"), ..USUAL },
    Row {
        world: "PostgreSQL channel",
        append: LOST,
        settle: LOST,
        cut: Gap,
        nonsense: Nonsense::No("it passes on no text that is none"),
        restart: Gap,
        ..USUAL
    },
];

/// What is asked of a world.
pub(crate) fn row(world: &str) -> Row {
    *WORLDS.iter().find(|row| row.world == world).unwrap_or_else(|| panic!("{world} has no row in worlds.rs"))
}

fn told(cell: Cell) -> String {
    match cell {
        Yes => "yes".to_owned(),
        Gap => "but for what was said meanwhile".to_owned(),
        No(why) => format!("- ({why})"),
    }
}

/// The table as it stands in ARCHITECTURE.md.
fn table() -> String {
    let heads = [
        "world",
        "dies before it is written",
        "dies before it is acknowledged",
        "cut off",
        "nonsense",
        "journal full",
        "bot away",
        "begun before it",
        "two bots",
    ];
    let mut out = format!("| {} |\n|{}\n", heads.join(" | "), " --- |".repeat(heads.len()));
    for row in WORLDS {
        let nonsense = match row.nonsense {
            Letter => "a dead letter".to_owned(),
            Event => format!("an event ({BYTES})"),
            Nothing(why) => format!("nothing ({why})"),
            Nonsense::No(why) => format!("- ({why})"),
        };
        let [append, settle, cut] = [row.append, row.settle, row.cut].map(told);
        let [full, restart, down, two] = [row.full, row.restart, row.down, row.two].map(told);
        let cells = [row.world.to_owned(), append, settle, cut, nonsense, full, restart, down, two];
        // Writing to a string cannot fail.
        let _ = writeln!(out, "| {} |", cells.join(" | "));
    }
    out
}

#[test]
fn the_table_of_the_suite_is_the_one_that_people_read_and_every_world_of_it_is_run() {
    let root = env!("CARGO_MANIFEST_DIR");
    let architecture = std::fs::read_to_string(format!("{root}/ARCHITECTURE.md")).unwrap();
    assert!(architecture.contains(&table()), "put this into ARCHITECTURE.md:\n{}", table());
    let files = std::fs::read_dir(format!("{root}/tests/stories")).unwrap().map(|file| file.unwrap().path());
    let others = files.filter(|path| !path.ends_with("worlds.rs"));
    let stories: String = others.map(|path| std::fs::read_to_string(path).unwrap()).collect();
    for row in WORLDS {
        assert!(stories.contains(&format!("\"{}\"", row.world)), "no story names the world {:?}", row.world);
    }
}
