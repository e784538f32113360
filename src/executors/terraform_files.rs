//! Files that Terraform leaves in a step's folder: saved plans, which are known by their sums, and what it said.

use std::fmt::Write as _;
use std::fs::File;
use std::io::{BufRead, BufReader, BufWriter, Read, Write};
use std::path::Path;

use serde_json::Value;
use sha2::{Digest, Sha256};

use super::apart::apart;
use super::mask::Masker;
use super::terraform_ui::is_outputs;

/// A larger plan is not read, in bytes.
pub(super) const PLAN_MAX: u64 = 256 << 20;

/// The SHA-256 of a saved plan in hex, and the plan.
pub(super) async fn summed(file: &Path) -> Result<(String, Vec<u8>), String> {
    let file = file.to_owned();
    apart(move || sum(&file)).await.unwrap_or_else(|| Err("the saved plan could not be read to its end".to_owned()))
}

fn sum(file: &Path) -> Result<(String, Vec<u8>), String> {
    let fault = |fault: std::io::Error| match fault.kind() {
        std::io::ErrorKind::NotFound => "the saved plan is gone".to_owned(),
        _ => format!("the saved plan cannot be read: {fault}"),
    };
    let mut bytes = Vec::new();
    File::open(file).and_then(|file| file.take(PLAN_MAX + 1).read_to_end(&mut bytes)).map_err(fault)?;
    if bytes.len() as u64 > PLAN_MAX {
        return Err(format!("the saved plan is larger than {PLAN_MAX} bytes"));
    }
    let mut hex = String::new();
    for byte in Sha256::digest(&bytes) {
        // Writing into a string cannot fail.
        let _ = write!(hex, "{byte:02x}");
    }
    Ok((hex, bytes))
}

/// Takes the values of outputs out of what a command said, for sensitive ones are told like all others, and hides secrets that
/// nobody finds in the file as it is because JSON writes some of their letters in another way.
pub(super) fn scrub(file: &Path, mask: &Masker) {
    if rewrite(file, mask).is_err() {
        // Rather nothing than secrets; how the command ended is known without it.
        let _ = std::fs::remove_file(file);
    }
}

fn rewrite(file: &Path, mask: &Masker) -> std::io::Result<()> {
    let new = file.with_extension("scrubbed");
    let mut reading = BufReader::new(File::open(file)?);
    let mut writing = BufWriter::new(File::create(&new)?);
    let mut line = Vec::new();
    while reading.read_until(b'\n', &mut line)? > 0 {
        let text = String::from_utf8_lossy(&line);
        if is_outputs(&text) {
            break;
        }
        match serde_json::from_str::<Value>(text.trim()) {
            Ok(said) if said["type"] == "outputs" => {}
            Ok(mut said) => {
                hide(&mut said, mask);
                writeln!(writing, "{said}")?;
            }
            Err(_) => writing.write_all(&line)?,
        }
        line.clear();
    }
    writing.flush()?;
    std::fs::rename(&new, file)
}

/// Hides secrets in every text of it. Its depth is bounded by serde's own limit.
fn hide(value: &mut Value, mask: &Masker) {
    match value {
        Value::String(text) => *text = mask.hide(text),
        Value::Array(list) => list.iter_mut().for_each(|value| hide(value, mask)),
        Value::Object(map) => map.values_mut().for_each(|value| hide(value, mask)),
        _ => {}
    }
}

#[cfg(test)]
mod tests {
    use masterchief_contract::Secret;

    use super::*;

    #[test]
    fn a_plan_is_known_by_its_sum_and_one_that_is_gone_is_said_to_be() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("plan");
        assert_eq!(sum(&file).unwrap_err(), "the saved plan is gone");
        std::fs::write(&file, "abc").unwrap();
        // The first example of FIPS 180-2.
        let known = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad";
        assert_eq!(sum(&file).unwrap(), (known.to_owned(), b"abc".to_vec()));
    }

    #[test]
    fn no_value_of_an_output_stays() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("apply.out");
        let said = "{\"type\":\"version\"}\n{\"type\":\"outputs\",\"outputs\":{\"k\":{\"value\":\"hunter2\"}}}\n{\"type\":\"log\"}\n";
        std::fs::write(&file, said).unwrap();
        scrub(&file, &Masker::default());
        assert_eq!(std::fs::read_to_string(&file).unwrap(), "{\"type\":\"version\"}\n{\"type\":\"log\"}\n");
        std::fs::write(&file, "Apply complete!\n\nOutputs:\n\nk = \"hunter2\"\n").unwrap();
        scrub(&file, &Masker::default());
        assert_eq!(std::fs::read_to_string(&file).unwrap(), "Apply complete!\n\n");
    }

    #[test]
    fn a_secret_is_hidden_though_json_writes_it_in_another_way() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("apply.out");
        std::fs::write(&file, "{\"hook\":[{\"output\":\"it is pa\\\"ss\\u003cword\"}]}\n").unwrap();
        scrub(&file, &Masker::new(&[Secret::new("pa\"ss<word")]));
        assert_eq!(std::fs::read_to_string(&file).unwrap(), "{\"hook\":[{\"output\":\"it is ***\"}]}\n");
    }
}
