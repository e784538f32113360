//! The floors of the house: who may import whom. Each failure is a sentence that says what to do.

mod house;

use std::collections::BTreeSet;

use house::{files, production, read, root, shown};

/// The rooms by floor, from the top. A room may import lower floors only. This is the truth of ARCHITECTURE.md's table.
const FLOORS: &[&[&str]] = &[
    &["cli"],
    &["bot"],
    &["config"],
    &["lua", "gateway", "partyline"],
    &["dispatch", "pipelines", "mesh"],
    &["users", "irc", "executors", "journal", "store", "yaml", "predict"],
];
/// What each crate under `bindings/` may import of ours.
const CRATES: &[(&str, &[&str])] = &[("bindings/src", &["masterchief_contract"]), ("bindings/contract/src", &[])];
fn floor_of(room: &str) -> Option<usize> {
    FLOORS.iter().position(|rooms| rooms.contains(&room))
}

/// The rooms that a text names as `crate::room`.
fn rooms_named(text: &str) -> BTreeSet<String> {
    let mut out = BTreeSet::new();
    for line in text.lines().filter(|line| !line.trim_start().starts_with("//")) {
        for (at, _) in line.match_indices("crate::") {
            let rest = &line[at + "crate::".len()..];
            let heads: Vec<&str> = match rest.strip_prefix('{') {
                Some(list) => list.split('}').next().unwrap_or("").split(',').collect(),
                None => vec![rest],
            };
            for head in heads {
                let name: String = head.trim().chars().take_while(|c| c.is_ascii_lowercase() || *c == '_').collect();
                out.insert(name);
            }
        }
    }
    out
}

#[test]
fn rooms_import_only_downward() {
    let mut faults = Vec::new();
    for path in files(&root().join("src")) {
        let inside = path.strip_prefix(root().join("src")).unwrap().to_path_buf();
        let Some(room) = inside.components().next().map(|part| part.as_os_str().to_string_lossy().into_owned()) else {
            continue;
        };
        let Some(own) = floor_of(&room) else { continue };
        for other in rooms_named(production(&read(&path))) {
            let Some(floor) = floor_of(&other).filter(|_| other != room) else {
                continue;
            };
            if floor <= own {
                let where_to = if floor == own { "of its own floor" } else { "above it" };
                faults.push(format!("{} imports the room `{other}` {where_to}: hand it in from above", shown(&path)));
            }
        }
    }
    assert!(faults.is_empty(), "{}", faults.join("\n"));
}

#[test]
fn every_room_has_its_floor() {
    let mut rooms: BTreeSet<String> = BTreeSet::new();
    for entry in std::fs::read_dir(root().join("src")).unwrap().flatten() {
        let name = entry.file_name().to_string_lossy().trim_end_matches(".rs").to_owned();
        if !matches!(name.as_str(), "lib" | "main") {
            rooms.insert(name);
        }
    }
    let planned: BTreeSet<String> =
        FLOORS.iter().flat_map(|rooms| rooms.iter()).map(|room| (*room).to_owned()).collect();
    assert_eq!(rooms, planned, "src/ and the FLOORS of tests/floors.rs (and ARCHITECTURE.md) name different rooms");
    let plan = read(&root().join("ARCHITECTURE.md"));
    for room in planned {
        assert!(plan.contains(&format!("`{room}`")), "ARCHITECTURE.md does not name the room `{room}`");
    }
}

#[test]
fn the_crates_know_only_those_below_them() {
    for (folder, allowed) in CRATES {
        for path in files(&root().join(folder)) {
            let text = read(&path);
            for name in ["masterchief", "masterchief_bindings", "masterchief_contract"] {
                let used = text
                    .lines()
                    .any(|line| !line.trim_start().starts_with("//") && line.contains(&format!("{name}::")));
                assert!(!used || allowed.contains(&name), "{} uses {name}, which stands above it", shown(&path));
            }
        }
    }
}
