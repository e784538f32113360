//! The masks of all kinds of this crate, by chance: whatever is written is read or refused with its place, and what is read is read the same again.

use masterchief_contract::{Kind, KindSpec};
use proptest::collection::vec;
use proptest::prelude::*;
use proptest::sample::select;

use crate::KINDS;

fn kinds() -> impl Iterator<Item = &'static KindSpec> {
    KINDS.iter().copied().flatten()
}

/// What masks are made of, so that some of what is put together means something.
const PIECES: &[&str] = &[
    "github/push",
    "*",
    "?",
    "/",
    ":",
    "#",
    "@",
    "~",
    "%",
    "\\",
    "^",
    ".+",
    "|",
    "&",
    "-",
    "+o",
    "m|o",
    "!",
    " ",
    "  ",
    "\t",
    "\u{a0}",
    "'",
    "\"",
    "(",
    ")",
    "[",
    "]",
    "{",
    "}",
    "{a,b}",
    "kafka:",
    "kafka@prod:",
    "rabbitmq:",
    "redis:",
    "redis-stream:",
    "deploys",
    "/3",
    "gap",
    "/var/log/app.log",
    "/data/**/*.csv",
    "/a",
    "syslog",
    ":auth.err",
    "json",
    "format=nginx",
    "multi=java",
    "level=error",
    "status>=500",
    "rows",
    "row=item",
    "settle=2s",
    "then=move:/x",
    "on=create",
    "sep=;",
    "headers=no",
    "prometheus:",
    "statsd:",
    "influxdb@x:",
    "up",
    "sum(rate(a[5m]))",
    ">",
    "<=",
    "==",
    "80",
    "-1.5k",
    "99999999999999999999",
    " for ",
    "5m",
    "1h30m",
    " clear ",
    "<5",
    " every ",
    " nodata fire",
    "db:",
    "db@shop:",
    "query/",
    "listen/",
    "orders",
    "rest:",
    "status",
    "5",
    "0-59/2",
    "* * * * *",
    "00 5 * * *",
    "#ops",
    "alice!*@*",
    "KICK",
    "é",
    "\u{1F600}",
    "\0",
    "\n",
];

fn any_mask() -> impl Strategy<Value = String> {
    let pieces = vec(prop_oneof![8 => select(PIECES).prop_map(str::to_owned), 1 => any::<String>()], 0..8);
    prop_oneof![4 => pieces.prop_map(|pieces| pieces.concat()), 1 => any::<String>()]
}

/// A mask that is read, changed in one place: of these most still are.
fn changed_example() -> impl Strategy<Value = (Kind, String)> {
    let all: Vec<(Kind, &str)> = kinds().map(|spec| (spec.kind, spec.example)).collect();
    (select(all), any::<prop::sample::Index>(), vec(select(PIECES), 0..3)).prop_map(|((kind, mask), at, pieces)| {
        let mut letters: Vec<char> = mask.chars().collect();
        let at = at.index(letters.len() + 1);
        letters.splice(at..at, pieces.concat().chars());
        (kind, letters.into_iter().collect())
    })
}

/// A mask of one kind is read, or refused with its place; and what is to be read for it says so when it is asked again.
fn judged(spec: &KindSpec, mask: &str) -> Result<(), TestCaseError> {
    let kind = spec.kind;
    let checked = (spec.check)(mask);
    if let Err(fault) = &checked {
        let places = 1..=mask.chars().count() + 1;
        prop_assert!(places.contains(&fault.column) && !fault.message.is_empty(), "{kind} {mask:?}: {fault}");
    }
    let Some(wants) = spec.wants else { return Ok(()) };
    let wanted = wants(mask);
    prop_assert_eq!(checked.is_ok(), wanted.is_ok(), "{} {:?}", kind, mask);
    let Ok(wanted) = wanted else { return Ok(()) };
    if kind == Kind::Webhook {
        // One stream for all, which no mask names.
        return Ok(());
    }
    // A path does not say of which kind it is; the stream does.
    let prefix = if [Kind::File, Kind::Log].contains(&kind) { format!("{kind}:") } else { String::new() };
    let text = wanted.stream.strip_prefix(&prefix).unwrap_or(&wanted.stream);
    match wants(text) {
        Ok(again) => prop_assert_eq!(&again.stream, &wanted.stream, "{} {:?}", kind, mask),
        Err(fault) => prop_assert!(false, "{kind} {mask:?} is read as {text:?}, which is refused: {fault}"),
    }
    Ok(())
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(1000))]

    #[test]
    fn whatever_is_written_as_a_mask_of_any_kind_is_read_or_refused_and_what_is_read_reads_the_same_again(mask in any_mask()) {
        for spec in kinds() {
            judged(spec, &mask)?;
        }
    }

    #[test]
    fn so_is_what_nearly_is_the_example_of_a_kind((kind, mask) in changed_example()) {
        judged(kinds().find(|spec| spec.kind == kind).unwrap(), &mask)?;
    }
}
