//! Finds the files that a stage leaves in its workspace, and keeps some of them.

use std::collections::BTreeSet;
use std::fs::{self, File};
use std::io::{Read, Write};
use std::path::{Component, Path, PathBuf};

use globset::{GlobBuilder, GlobMatcher};
use rustix::fs::{CWD, Mode, OFlags, openat};
use rustix::io::Errno;
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

/// The most files that one pattern may find.
const FILES_MAX: usize = 10_000;
/// The most entries of folders that are looked at for one pattern.
const LOOKED_AT: usize = 1_000_000;

/// A file that was kept.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Artifact {
    /// Its path below the workspace, and below the folder it was copied to.
    pub path: String,
    /// Its size.
    pub bytes: u64,
    /// Its SHA-256, in lower-case hex.
    pub sha256: String,
}

/// The files below a workspace that a pattern names, sorted: `out/*.xml`, `**/TEST-*.xml`, or `dist/` for all below it. Symbolic links
/// are not followed, neither to folders nor to files. None at all is not a fault.
pub fn matching(workspace: &Path, glob: &str) -> Result<Vec<PathBuf>, String> {
    let inside = |part: Component<'_>| matches!(part, Component::Normal(_) | Component::CurDir);
    if glob.is_empty() || !Path::new(glob).components().all(inside) {
        return Err(format!("{glob:?} leaves the workspace; name files in it, without .. and without a / in front"));
    }
    let plain = glob.trim_start_matches("./");
    let whole = if plain.ends_with('/') { format!("{plain}**") } else { plain.to_owned() };
    let built = GlobBuilder::new(&whole).literal_separator(true).build();
    let matcher = built.map_err(|fault| format!("{glob:?} is not a pattern: {}", fault.kind()))?.compile_matcher();
    let root = fs::canonicalize(workspace).map_err(|fault| format!("the workspace cannot be read: {fault}"))?;
    // Only the folder that the pattern is about is searched.
    let special = |part: &&str| !part.contains(['*', '?', '[', '{', '\\']);
    let folders = whole.rsplit_once('/').map_or("", |(folders, _)| folders);
    let begin: PathBuf = root.join(folders.split('/').take_while(special).collect::<PathBuf>());
    let Ok(real) = fs::canonicalize(&begin) else { return Ok(Vec::new()) };
    if real != begin {
        return Err(format!("{glob:?} goes through a symbolic link; name the folder itself"));
    }
    search(&root, begin, &matcher, glob)
}

/// Copies the files that patterns name into a folder, under the same paths; a file that is there already is replaced. More than
/// `max_bytes` in all is refused, and so is a pattern that finds nothing; no copy is left then.
pub fn artifacts(workspace: &Path, globs: &[String], into: &Path, max_bytes: u64) -> Result<Vec<Artifact>, String> {
    let root = fs::canonicalize(workspace).map_err(|fault| format!("the workspace cannot be read: {fault}"))?;
    let mut files = BTreeSet::new();
    for glob in globs {
        let found = matching(&root, glob)?;
        if found.is_empty() {
            return Err(format!("{glob:?} finds no file; did the stage write it somewhere else?"));
        }
        files.extend(found);
    }
    let mut kept: Vec<Artifact> = Vec::new();
    let mut left = max_bytes;
    for file in files {
        let copied = keep(&root, &file, into, left);
        match copied {
            Ok(artifact) => {
                left -= artifact.bytes;
                kept.push(artifact);
            }
            Err(fault) => {
                for artifact in kept {
                    // The fault is what matters; what cannot be removed stays.
                    let _ = fs::remove_file(into.join(artifact.path));
                }
                return Err(
                    fault.unwrap_or_else(|| format!("the files to keep are more than {max_bytes} bytes in all"))
                );
            }
        }
    }
    Ok(kept)
}

/// Copies one file; `None` as a fault says that it is too large.
fn keep(root: &Path, file: &Path, into: &Path, left: u64) -> Result<Artifact, Option<String>> {
    let below = file.strip_prefix(root).unwrap_or(file);
    let fault = |what: std::io::Error| Some(format!("{} cannot be kept: {what}", below.display()));
    let target = into.join(below);
    if let Some(folder) = target.parent() {
        fs::create_dir_all(folder).map_err(fault)?;
    }
    let mut from = open(file).map_err(|what| Some(format!("{} cannot be kept: {what}", below.display())))?;
    // An attempt that was interrupted may have left it; a link would be written through.
    let _ = fs::remove_file(&target);
    let mut to = File::options().write(true).create_new(true).open(&target).map_err(fault)?;
    let mut hash = Sha256::new();
    let mut bytes = 0_u64;
    let mut buffer = vec![0; 64 << 10];
    let copied = loop {
        match from.read(&mut buffer) {
            Ok(0) => break Ok(()),
            Ok(read) => {
                bytes += read as u64;
                if bytes > left {
                    break Err(None);
                }
                hash.update(&buffer[..read]);
                if let Err(what) = to.write_all(&buffer[..read]) {
                    break Err(fault(what));
                }
            }
            Err(what) => break Err(fault(what)),
        }
    };
    if let Err(fault) = copied {
        let _ = fs::remove_file(&target);
        return Err(fault);
    }
    let sha256 = hash.finalize().iter().map(|byte| format!("{byte:02x}")).collect();
    Ok(Artifact { path: below.to_string_lossy().into_owned(), bytes, sha256 })
}

/// Opens a regular file that is not a link, also if it becomes one, or a pipe, meanwhile.
pub fn open(path: &Path) -> Result<File, String> {
    let told = |what: Errno| match what {
        Errno::LOOP => "it is not a regular file".to_owned(),
        what => std::io::Error::from(what).to_string(),
    };
    // A pipe would be waited for without end.
    let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::NOCTTY | OFlags::CLOEXEC;
    let file = File::from(openat(CWD, path, flags, Mode::empty()).map_err(told)?);
    if !file.metadata().map_err(|fault| fault.to_string())?.is_file() {
        return Err("it is not a regular file".to_owned());
    }
    Ok(file)
}

fn search(root: &Path, begin: PathBuf, matcher: &GlobMatcher, glob: &str) -> Result<Vec<PathBuf>, String> {
    let mut found = Vec::new();
    let mut folders = vec![begin];
    let mut looked_at = 0;
    while let Some(folder) = folders.pop() {
        // A folder that cannot be read holds nothing for us.
        for entry in fs::read_dir(&folder).into_iter().flatten().flatten() {
            looked_at += 1;
            let Ok(kind) = entry.file_type() else { continue };
            let path = entry.path();
            if kind.is_dir() {
                folders.push(path);
            } else if kind.is_file() && path.strip_prefix(root).is_ok_and(|below| matcher.is_match(below)) {
                found.push(path);
            }
            if found.len() > FILES_MAX || looked_at > LOOKED_AT {
                return Err(format!(
                    "{glob:?} finds more than {FILES_MAX} files, or looks at too many; name a smaller folder"
                ));
            }
        }
    }
    found.sort();
    Ok(found)
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;

    /// A folder with these files in it.
    pub(in crate::executors) fn folder(files: &[(&str, &str)]) -> (tempfile::TempDir, Vec<PathBuf>) {
        let folder = tempfile::tempdir().unwrap();
        let mut paths = Vec::new();
        for (name, text) in files {
            let path = folder.path().join(name);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(&path, text).unwrap();
            paths.push(path);
        }
        (folder, paths)
    }

    #[test]
    fn patterns_find_files_below_the_workspace_only() {
        let (folder, _) = folder(&[
            ("out/b.xml", ""),
            ("out/a.xml", ""),
            ("out/deep/c.xml", ""),
            ("x/TEST-1.xml", ""),
            ("out/n.txt", ""),
        ]);
        let found = |glob: &str| {
            let all = matching(folder.path(), glob)?;
            let root = fs::canonicalize(folder.path()).unwrap();
            Ok(all
                .iter()
                .map(|path| path.strip_prefix(&root).unwrap().display().to_string())
                .collect::<Vec<_>>()
                .join(" "))
        };
        let fault = |glob: &str| -> String { found(glob).map_err(|fault: String| fault).unwrap_err() };
        assert_eq!(found("out/*.xml"), Ok("out/a.xml out/b.xml".to_owned()));
        assert_eq!(found("./out/a.xml"), Ok("out/a.xml".to_owned()));
        assert_eq!(found("**/*.xml").unwrap().split(' ').count(), 4);
        assert_eq!(found("out/"), found("out/**"));
        assert_eq!(found("{out,x}/TEST-?.xml"), Ok("x/TEST-1.xml".to_owned()));
        assert_eq!(found("nowhere/*.xml"), Ok(String::new()));
        for glob in ["../*", "/etc/passwd", "out/../../x", ""] {
            assert!(fault(glob).contains("leaves the workspace"), "{glob}");
        }
        assert!(fault("out/[").contains("is not a pattern"));
    }

    #[test]
    fn links_lead_nowhere() {
        let (folder, _) = folder(&[("out/a.xml", "")]);
        std::os::unix::fs::symlink("/etc", folder.path().join("etc")).unwrap();
        std::os::unix::fs::symlink("/etc/passwd", folder.path().join("out/passwd.xml")).unwrap();
        assert_eq!(matching(folder.path(), "out/*.xml").unwrap().len(), 1);
        assert_eq!(matching(folder.path(), "**/passwd*").unwrap().len(), 0);
        assert!(matching(folder.path(), "etc/pass*").unwrap_err().contains("symbolic link"));
        assert!(open(&folder.path().join("out/passwd.xml")).unwrap_err().contains("not a regular file"));
    }

    #[test]
    fn too_many_files_are_refused() {
        let folder = tempfile::tempdir().unwrap();
        for number in 0..=FILES_MAX {
            File::create(folder.path().join(format!("{number}.xml"))).unwrap();
        }
        assert!(matching(folder.path(), "*.xml").unwrap_err().contains("more than 10000 files"));
        assert_eq!(matching(folder.path(), "1*0.xml").unwrap().len(), 112);
    }

    #[test]
    fn files_are_kept_with_their_sums() {
        let (folder, _) = folder(&[("dist/shop.tar", "abc"), ("dist/deep/notes", ""), ("other", "x")]);
        let into = tempfile::tempdir().unwrap();
        let globs = ["dist/**".to_owned(), "dist/shop.tar".to_owned()];
        let kept = artifacts(folder.path(), &globs, into.path(), 3).unwrap();
        let paths: Vec<&str> = kept.iter().map(|artifact| artifact.path.as_str()).collect();
        assert_eq!(paths, ["dist/deep/notes", "dist/shop.tar"]);
        assert_eq!(kept[1].bytes, 3);
        assert_eq!(kept[1].sha256, "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad");
        assert_eq!(fs::read_to_string(into.path().join("dist/shop.tar")).unwrap(), "abc");
    }

    #[test]
    fn of_files_that_are_too_much_none_is_kept() {
        let (folder, _) = folder(&[("dist/a", "abc"), ("dist/b", "defg")]);
        let into = tempfile::tempdir().unwrap();
        let fault = artifacts(folder.path(), &["dist/*".to_owned()], into.path(), 6).unwrap_err();
        assert!(fault.contains("more than 6 bytes"), "{fault}");
        assert!(!into.path().join("dist/a").exists() && !into.path().join("dist/b").exists());
        let fault = artifacts(folder.path(), &["dist/*.tar".to_owned()], into.path(), 6).unwrap_err();
        assert!(fault.contains("finds no file"), "{fault}");
    }
}
