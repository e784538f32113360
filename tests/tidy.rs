//! The rules of the house that no lint can hold. Each failure is a sentence that says what to do.

mod house;

use std::path::PathBuf;

use house::{files, production, read, root, shown};

/// The longest file, tests at its end not counted.
const FILE_LINES: usize = 500;
/// The longest function.
const FUNCTION_LINES: usize = 70;
/// Names that say nothing.
const EMPTY_NAMES: &[&str] = &["utils", "util", "helpers", "helper", "common", "manager", "misc"];

fn all_files() -> Vec<PathBuf> {
    ["src", "bindings", "tests", "benches", "examples", "fuzz"]
        .iter()
        .flat_map(|folder| files(&root().join(folder)))
        .collect()
}

#[test]
fn every_file_says_what_it_is_for() {
    for path in all_files() {
        let text = read(&path);
        assert!(
            text.starts_with("//! ") || text.starts_with("#![no_main]\n//! "),
            "{} does not open with `//! what it is for`",
            shown(&path)
        );
    }
}

#[test]
fn files_and_functions_fit() {
    let mut faults = Vec::new();
    for path in all_files() {
        let text = read(&path);
        let lines = production(&text).lines().count();
        if lines > FILE_LINES {
            faults.push(format!(
                "{} has {lines} lines, tests not counted; {FILE_LINES} is the most: find the second thing in it",
                shown(&path)
            ));
        }
        for (name, length) in functions(&text) {
            if length > FUNCTION_LINES {
                faults.push(format!("{}: fn {name} has {length} lines; {FUNCTION_LINES} is the most", shown(&path)));
            }
        }
    }
    assert!(faults.is_empty(), "{}", faults.join("\n"));
}

/// The functions of a file with their lengths, by indentation: rustfmt has put the closing brace below the `fn`.
fn functions(text: &str) -> Vec<(String, usize)> {
    let lines: Vec<&str> = text.lines().collect();
    let mut out = Vec::new();
    for (at, line) in lines.iter().enumerate() {
        let bare = line.trim_start();
        let indent = line.len() - bare.len();
        let Some(name) = function_name(bare) else { continue };
        if bare.starts_with("//") || bare.ends_with(';') {
            continue;
        }
        let signature = lines[at..].iter().map(|line| line.trim_end()).find(|line| line.ends_with(['{', ';', '}']));
        if signature.is_some_and(|line| line.ends_with(';')) {
            continue;
        }
        let close = format!("{}}}", " ".repeat(indent));
        let end = lines[at..].iter().position(|line| *line == close).unwrap_or(0);
        out.push((name, end + 1));
    }
    out
}

/// The name, if a function begins on this line, whoever may call it.
fn function_name(line: &str) -> Option<String> {
    let mut words = line.split(' ').filter(|word| !word.is_empty());
    let mut word = words.next()?;
    if word == "pub" || word.starts_with("pub(") {
        // pub(in some::place) has two words.
        while word != "pub" && !word.ends_with(')') {
            word = words.next()?;
        }
        word = words.next()?;
    }
    while matches!(word, "const" | "async" | "unsafe" | "extern") || word.starts_with('"') {
        word = words.next()?;
    }
    let name = (word == "fn").then(|| words.next())??;
    Some(name.chars().take_while(|c| c.is_alphanumeric() || *c == '_').collect())
}

#[test]
fn functions_are_seen_whoever_may_call_them() {
    let name = |line: &str| function_name(line).unwrap_or_default();
    for line in ["fn f() {", "pub fn f(a: A) {", "pub(crate) async fn f() {", "pub(in crate::a) const fn f<T>() {"] {
        assert_eq!(name(line), "f", "{line}");
    }
    assert_eq!(name("// fn f() is called"), "");
    assert_eq!(name("work: fn(u8) -> u8,"), "");
}

#[test]
fn no_file_is_forgotten() {
    for path in ["src", "bindings/src", "bindings/contract/src"].iter().flat_map(|folder| files(&root().join(folder))) {
        let name = path.file_stem().unwrap().to_string_lossy().into_owned();
        if matches!(name.as_str(), "lib" | "main" | "mod") {
            continue;
        }
        let folder = path.parent().unwrap();
        let parent = ["mod.rs", "lib.rs"].iter().map(|file| folder.join(file)).find(|file| file.is_file());
        let text = parent.map(|file| read(&file)).unwrap_or_default();
        assert!(
            text.contains(&format!("mod {name};")),
            "{} belongs to no module: name it in its folder's mod.rs, or delete it",
            shown(&path)
        );
    }
}

#[test]
fn names_say_something_and_nothing_is_left_to_do() {
    // Put together here, so that this file does not find itself.
    let unfinished = ["todo", "unimplemented"].map(|word| format!("{word}!("));
    let homes = ["home", "work", "Users"].map(|home| format!("\"/{home}/"));
    for path in all_files() {
        let name = path.file_stem().unwrap().to_string_lossy().into_owned();
        assert!(!EMPTY_NAMES.contains(&name.as_str()), "{}: the name says nothing", shown(&path));
        let text = read(&path);
        for word in &unfinished {
            assert!(!text.contains(word.as_str()), "{} has a {word}...): finish it", shown(&path));
        }
        for home in &homes {
            assert!(!text.contains(home.as_str()), "{} names a path of one machine: {home}", shown(&path));
        }
    }
}

#[test]
fn what_is_said_about_runs_is_written_in_one_folder() {
    let folder = root().join("src/pipelines");
    let words = folder.join("words");
    let mut sentences: Vec<String> = Vec::new();
    for kind in ["denied", "unknown", "conflict", "busy", "wrong"] {
        sentences.extend(["format!(", "\""].map(|text| format!("Refusal::{kind}({text}")));
    }
    for before in ["Reply::lines(vec![", "public: vec![", "must_say(number, \"failed\", &", "self.tell(&who, "] {
        sentences.push(format!("{before}format!("));
    }
    for path in files(&folder).into_iter().filter(|path| !path.starts_with(&words)) {
        let text = read(&path);
        // A call may go over several lines.
        let text: Vec<&str> = production(&text).lines().map(str::trim).collect();
        let text = text.join("\n").replace("(\n", "(").replace("[\n", "[").replace(",\n", ", ");
        for sentence in &sentences {
            assert!(
                !text.contains(sentence.as_str()),
                "{} says something in its own words ({sentence}): write it in src/pipelines/words",
                shown(&path)
            );
        }
    }
}

/// The files of what decides about runs, of what runs their stages, and of what takes words about them and answers.
fn deciding() -> Vec<PathBuf> {
    let folder = root().join("src/pipelines");
    let more = [
        "attempt.rs",
        "collect.rs",
        "handle.rs",
        "matrix.rs",
        "may.rs",
        "outside.rs",
        "pools.rs",
        "prepare.rs",
        "refusal.rs",
        "remote.rs",
        "request.rs",
        "steps.rs",
    ]
    .map(|name| folder.join(name));
    let gateway = ["runs.rs", "verbs.rs", "answers.rs"].map(|name| root().join("src/gateway").join(name));
    let folders = [folder.join("engine"), folder.join("verbs"), root().join("src/bot/deploys")];
    // The names of deeds in the audit trail are the words that people typed, and words have a table of their own.
    let tables = ["engine/ask.rs", "verbs/mod.rs", "verbs/ways.rs"];
    let table = |path: &PathBuf| tables.iter().any(|table| path.ends_with(table));
    let all = folders.iter().flat_map(|folder| files(folder)).chain(more).chain(gateway);
    all.filter(|path| !table(path)).collect()
}

#[test]
fn what_decides_about_runs_has_no_sentences_of_its_own() {
    for path in deciding() {
        let text = read(&path);
        let spoken = |line: &&str| !line.starts_with("//") && !line.contains("tracing::");
        for line in production(&text).lines().map(str::trim).filter(spoken) {
            // Every second part stands between quotation marks.
            let plain = line.replace("\\\"", "'");
            // What only parts others says nothing.
            let says = |part: &&str| part.matches(' ').count() > 1 && part.contains(|c: char| c.is_alphabetic());
            let sentence = plain.split('"').skip(1).step_by(2).find(says);
            assert!(
                sentence.is_none(),
                "{} says {:?} in its own words: write it in src/pipelines/words",
                shown(&path),
                sentence.unwrap_or_default()
            );
        }
    }
}

#[test]
fn what_decides_about_runs_reads_no_files() {
    for path in files(&root().join("src/pipelines/engine")) {
        let text = read(&path);
        assert!(!production(&text).contains("std::fs"), "{} reads files: have it done beside the runs", shown(&path));
    }
}

/// The names between two marks of a text, wherever both are there and it is a name of a variable.
fn named(text: &str, before: &str, after: &[char]) -> Vec<String> {
    let name = |rest: &str| rest.split(after).next().unwrap_or_default().to_owned();
    let is_name = |name: &String| {
        name.starts_with(|c: char| c.is_ascii_uppercase())
            && !name.contains(|c: char| c.is_ascii_lowercase() || c == ' ')
    };
    text.match_indices(before).map(|(at, _)| name(&text[at + before.len()..])).filter(is_name).collect()
}

#[test]
fn every_variable_that_is_read_or_named_is_in_the_example_of_the_environment() {
    let known = read(&root().join(".env.example"));
    let known: Vec<&str> =
        known.lines().filter_map(|line| Some(line.trim_start_matches('#').split_once('=')?.0)).collect();
    let mut found = Vec::new();
    for path in ["src", "bindings"].iter().flat_map(|folder| files(&root().join(folder))) {
        let text = read(&path);
        for before in ["env::var(\"", "env::var_os(\"", " env = \""] {
            found.extend(named(production(&text), before, &['"']).into_iter().map(|name| (name, shown(&path))));
        }
    }
    for file in [
        "config/example.yaml",
        "config/new/config.yaml",
        "config/new/production.yaml",
        "docker/config/global/config.yaml",
        "docker/compose.yaml",
    ] {
        let text = read(&root().join(file));
        for (before, after) in [("${env:", &['}'][..]), ("${", &[':', '}'])] {
            let names = named(&text, before, after);
            found.extend(names.into_iter().map(|name| (name, file.to_owned())));
        }
    }
    // A word for any, and what every shell sets.
    found.retain(|(name, _)| !["NAME", "HOSTNAME"].contains(&name.as_str()));
    assert!(found.len() > 20, "{found:?}");
    for (name, file) in found {
        assert!(
            known.contains(&name.as_str()),
            "{file} reads {name}, which .env.example does not name; add it there with a word on it"
        );
    }
}
