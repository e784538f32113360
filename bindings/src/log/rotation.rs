//! Where a log is once it is rotated: beside itself, by a name made from its own.

use std::fs::Metadata;
use std::path::{Path, PathBuf};
use std::time::SystemTime;

/// Ends that rotation gives besides numbers and dates.
const ENDS: &[&str] = &["old", "bak", "prev", "save", "rotated"];
/// Files that hold no lines any more.
const PACKED: &[&str] = &["gz", "xz", "bz2", "zst", "lz4", "zip"];

/// Whether `other` is what rotation calls a file of this name: `app.log.1`, `app.log-20260102`, `app-2026-01-02.log`,
/// `app.log.old`, and not `app.log-audit` or `app.log.1.gz`.
fn is_rotation(name: &str, other: &str) -> bool {
    let sign = |rest: &str| {
        let mut letters = rest.chars();
        let rest = match letters.next() {
            Some('.' | '-' | '_') => letters.as_str(),
            _ => return false,
        };
        ENDS.contains(&rest)
            || (rest.starts_with(|letter: char| letter.is_ascii_digit())
                && rest.chars().all(|letter| letter.is_ascii_digit() || "-_.:TZ".contains(letter)))
    };
    let behind = other.strip_prefix(name).is_some_and(sign);
    let within = name.rsplit_once('.').is_some_and(|(stem, end)| {
        let middle = other.strip_prefix(stem).and_then(|rest| rest.strip_suffix(end)?.strip_suffix('.'));
        // `worker-1.log` is another worker's; `worker-20260102.log` is older.
        let digits = |middle: &str| middle.chars().filter(char::is_ascii_digit).count();
        middle.is_some_and(|middle| sign(middle) && (middle.starts_with('.') || digits(middle) >= 6))
    });
    behind || within
}

/// Whether one path is what rotation makes of another.
pub(super) fn is_beside(path: &Path, other: &Path) -> bool {
    let names = path.file_name().zip(other.file_name());
    path.parent() == other.parent()
        && names.is_some_and(|(name, other)| is_rotation(&name.to_string_lossy(), &other.to_string_lossy()))
}

/// The files beside a path that had its name once, made not before `since`, oldest first.
pub(super) fn beside(path: &Path, since: SystemTime) -> Vec<(PathBuf, Metadata)> {
    // A link is rotated where it leads to.
    let path = std::fs::canonicalize(path).unwrap_or_else(|_| path.to_owned());
    let Some((folder, name)) = path.parent().zip(path.file_name()) else { return Vec::new() };
    let name = name.to_string_lossy();
    let mut found = Vec::new();
    for entry in std::fs::read_dir(folder).into_iter().flatten().flatten() {
        let other = entry.path();
        let packed = other.extension().is_some_and(|end| PACKED.iter().any(|packed| end == *packed));
        if packed || !is_rotation(&name, &entry.file_name().to_string_lossy()) {
            continue;
        }
        // A file system that does not tell when a file was made tells when it was written last.
        if let Ok(meta) = entry.metadata()
            && meta.is_file()
            && let Ok(born) = meta.created().or_else(|_| meta.modified())
            && born >= since
        {
            found.push((born, other, meta));
        }
    }
    found.sort_by(|one, other| (one.0, &one.1).cmp(&(other.0, &other.1)));
    found.into_iter().map(|(_, path, meta)| (path, meta)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rotated_logs_are_known_by_their_names() {
        for other in [
            "app.log.1",
            "app.log.12",
            "app.log-20260102",
            "app.log-20260102-0304",
            "app.log.2026-01-02T03:04:05Z",
            "app.log.old",
            "app-2026-01-02.log",
            "app.1.log",
        ] {
            assert!(is_rotation("app.log", other), "{other}");
        }
        for other in [
            "app.log",
            "app.log-audit",
            "app.logger.1",
            "app.log.1.gz",
            "app.log.",
            "application.1.log",
            "app.log2",
            "app-1.log",
        ] {
            assert!(!is_rotation("app.log", other), "{other}");
        }
        assert!(is_rotation("syslog", "syslog.1") && !is_rotation("syslog", "syslog-ng.1"));
    }
}
