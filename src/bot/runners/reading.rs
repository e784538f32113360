//! The log of a step, as it is told piece by piece: whole lines, each once.

use std::fs::File;
use std::io::{Read, Seek, SeekFrom};
use std::path::Path;

use crate::executors::log_parts;

/// So much is told at once; in base64 it still fits an answer of the mesh.
const PIECE: u64 = 48 * 1024;

/// What a step has logged from some place on: whole lines, unless a line is longer than a piece or the step has ended. While it runs,
/// only the head of a long log is told; its tail changes its place until the end.
pub(super) fn piece(folder: &Path, from: u64, ended: bool) -> Vec<u8> {
    let mut bytes = Vec::new();
    let mut at = from;
    let most = if ended { usize::MAX } else { 1 };
    for part in log_parts().into_iter().take(most) {
        let path = folder.join(part);
        let size = std::fs::metadata(&path).map_or(0, |meta| meta.len());
        if at >= size {
            at -= size;
            continue;
        }
        let left = PIECE - bytes.len() as u64;
        let Ok(mut file) = File::open(&path) else { break };
        if file.seek(SeekFrom::Start(at)).and_then(|_| file.take(left).read_to_end(&mut bytes)).is_err() {
            break;
        }
        at = 0;
        if bytes.len() as u64 >= PIECE {
            break;
        }
    }
    let whole = bytes.iter().rposition(|byte| *byte == b'\n').map_or(0, |at| at + 1);
    let last = ended && (bytes.len() as u64) < PIECE;
    if !last && (whole > 0 || (bytes.len() as u64) < PIECE) {
        bytes.truncate(whole);
    }
    bytes
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn whole_lines_are_told_each_once_and_the_tail_at_the_end() {
        let dir = tempfile::tempdir().unwrap();
        let write = |name: &str, text: &str| std::fs::write(dir.path().join(name), text).unwrap();
        assert!(piece(dir.path(), 0, false).is_empty() && piece(dir.path(), 0, true).is_empty());
        write("log", "one\ntwo\nthr");
        assert_eq!(piece(dir.path(), 0, false), b"one\ntwo\n");
        assert_eq!(piece(dir.path(), 8, false), b"");
        assert_eq!(piece(dir.path(), 8, true), b"thr");
        write("log.2", "older\n");
        write("log.1", "newest");
        assert_eq!(piece(dir.path(), 4, false), b"two\n");
        assert_eq!(piece(dir.path(), 4, true), b"two\nthrolder\nnewest");
        assert_eq!(piece(dir.path(), 17, true), b"newest");
        assert_eq!(piece(dir.path(), 23, true), b"");
    }

    #[test]
    fn a_log_of_any_length_is_told_in_pieces_that_make_the_whole() {
        let dir = tempfile::tempdir().unwrap();
        let text: String = (0..20_000).map(|line| format!("line {line} {}\n", "x".repeat(line % 40))).collect();
        let text = format!("{}{text}end", "y".repeat(100_000));
        std::fs::write(dir.path().join("log"), &text).unwrap();
        let mut got = Vec::new();
        for ended in [false, true] {
            loop {
                let more = piece(dir.path(), got.len() as u64, ended);
                if more.is_empty() {
                    break;
                }
                assert!(more.len() as u64 <= PIECE);
                got.extend(more);
            }
            assert_eq!(got.ends_with(b"end"), ended);
        }
        assert_eq!(got, text.as_bytes());
    }
}
