//! What a step keeps for itself: its end in a note, so that it is known though its files are gone, and files that nobody else
//! may read.

use std::collections::BTreeMap;
use std::fs::OpenOptions;
use std::io::Write;
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

use masterchief_contract::Secret;
use serde_json::{Map, Value, json};

use super::class::Failure;
use super::step::End;

/// So many bytes are not guessed.
const TOKEN_BYTES: usize = 32;

/// An end as a note. `None` for one that need not be known again: whoever was stopped is not asked twice.
pub(super) fn note_of(end: &End) -> Option<Value> {
    match end {
        End::Done { outputs, summary } => Some(json!({"done": {"outputs": outputs, "summary": summary}})),
        End::Failed(failure) => Some(json!({"failed": failure})),
        End::Unsure(words) => Some(json!({"unsure": words})),
        End::Stopped => None,
    }
}

/// The end that stands in a note, if it is one of [`note_of`].
pub(super) fn end_of(note: &Value) -> Option<End> {
    if let Some(done) = note.get("done") {
        let outputs = done["outputs"].as_object().cloned().unwrap_or_else(Map::new);
        return Some(End::Done { outputs, summary: done["summary"].as_str().unwrap_or("").to_owned() });
    }
    if let Some(failure) = note.get("failed") {
        return serde_json::from_value::<Failure>(failure.clone()).ok().map(End::Failed);
    }
    note.get("unsure").and_then(Value::as_str).map(|words| End::Unsure(words.to_owned()))
}

/// Writes a file that only we may read; `mode` is 0o600, or 0o700 for a script.
pub(super) fn write_private(path: &Path, bytes: &[u8], mode: u32) -> std::io::Result<()> {
    // One that is there already would keep its rights.
    let _ = std::fs::remove_file(path);
    OpenOptions::new().create_new(true).write(true).mode(mode).open(path)?.write_all(bytes)
}

/// So deep below the folder of a run are the steps: stage, attempt, action.
const DEPTH: u32 = 3;
/// The file with the token of a step, in its folder.
pub const TOKEN: &str = "token";

/// The file with what a run was given in secret, in its folder. No stage can be called so.
const GIVEN: &str = ".given";

/// Keeps what a run was given in secret, by the names of its parameters, in a file that only we may read, until the run has ended
/// and nothing undoes it by itself any more.
pub fn keep_given(run: &Path, given: &BTreeMap<String, Secret>) -> std::io::Result<()> {
    std::fs::create_dir_all(run)?;
    let plain: Map<String, Value> = given.iter().map(|(name, value)| (name.clone(), value.reveal().into())).collect();
    write_private(&run.join(GIVEN), Value::Object(plain).to_string().as_bytes(), 0o600)
}

/// What a run was given in secret; nothing once that is forgotten.
pub fn given(run: &Path) -> BTreeMap<String, Secret> {
    let plain: Option<BTreeMap<String, String>> =
        std::fs::read(run.join(GIVEN)).ok().and_then(|bytes| serde_json::from_slice(&bytes).ok());
    plain.into_iter().flatten().map(|(name, value)| (name, Secret::new(value))).collect()
}

/// Forgets it.
pub fn forget_given(run: &Path) {
    // It need not be there, and what cannot be removed now is removed with the run.
    let _ = std::fs::remove_file(run.join(GIVEN));
}

/// The token with which a build elsewhere tells how a step goes: made once, in a file that only we may read, so that it is the same
/// after a restart. Whoever ends the step removes it.
pub fn step_token(folder: &Path) -> std::io::Result<Secret> {
    let path = folder.join(TOKEN);
    if let Ok(text) = std::fs::read_to_string(&path)
        && text.len() == 2 * TOKEN_BYTES
    {
        return Ok(Secret::new(text));
    }
    let text = unguessable()?;
    write_private(&path, text.as_bytes(), 0o600)?;
    Ok(Secret::new(text))
}

/// A name that nobody can guess: 64 characters.
pub fn unguessable() -> std::io::Result<String> {
    let mut bytes = [0; TOKEN_BYTES];
    getrandom::fill(&mut bytes).map_err(std::io::Error::other)?;
    Ok(bytes.iter().map(|byte| format!("{byte:02x}")).collect())
}

/// Removes what a run left of secrets in its folder: tokens and logins of steps that were given up. It has ended.
pub fn forget_secrets(run: &Path) {
    remove_secrets(run, DEPTH);
}

fn remove_secrets(folder: &Path, deep: u32) {
    for entry in std::fs::read_dir(folder).into_iter().flatten().flatten() {
        let (path, name) = (entry.path(), entry.file_name());
        let is_folder = entry.file_type().is_ok_and(|kind| kind.is_dir());
        // What cannot be removed now is removed with the run.
        if name == TOKEN && !is_folder {
            let _ = std::fs::remove_file(path);
        } else if name == super::registry::FOLDER && is_folder && deep < DEPTH - 1 {
            let _ = std::fs::remove_dir_all(path);
        } else if is_folder && deep > 0 && (name != "artifacts" || deep == DEPTH) {
            remove_secrets(&path, deep - 1);
        }
    }
}

/// At most so many characters of a text, on one line.
pub(super) fn short(text: &str, most: usize) -> String {
    let line = text.split_whitespace().collect::<Vec<_>>().join(" ");
    if line.chars().count() <= most {
        return line;
    }
    line.chars().take(most.saturating_sub(1)).chain(['…']).collect()
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::super::class::Class;
    use super::*;

    #[test]
    fn an_end_is_the_same_after_it_was_a_note_and_a_strange_note_is_none() {
        let outputs = json!({"add": 3}).as_object().cloned().unwrap();
        let done = End::Done { outputs, summary: "3 add".to_owned() };
        let failed = End::Failed(Failure::new(Class::Network, "no route").exit(2));
        for end in [done, failed, End::Unsure("look".to_owned())] {
            assert_eq!(end_of(&note_of(&end).unwrap()), Some(end));
        }
        assert_eq!(note_of(&End::Stopped), None);
        for strange in [json!(null), json!({"failed": 1}), json!({"unsure": []}), json!([1])] {
            assert_eq!(end_of(&strange), None, "{strange}");
        }
    }

    #[test]
    fn a_private_file_is_private_though_it_was_there_for_all() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("vars.json");
        std::fs::write(&path, "old").unwrap();
        write_private(&path, b"new", 0o600).unwrap();
        assert_eq!(std::fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
        assert_eq!(std::fs::read(&path).unwrap(), b"new");
    }

    #[test]
    fn a_long_text_is_cut_between_letters_and_stands_on_one_line() {
        assert_eq!(short("ä b\n  c", 10), "ä b c");
        assert_eq!(short("ääääää", 4), "äää…");
    }
}
