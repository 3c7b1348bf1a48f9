//! A data directory as `kill -9` would leave it at this moment: a copy that is taken while the archive works on it.
//!
//! A process that is killed leaves what it has written, synced or not, so a copy of the files is the truth about that
//! crash (it is none about a power failure). Files change while they are copied, so the copy is made of parts, each
//! of which stood still from the first to the last of its bytes. The parts are taken against the order in which a
//! fold writes them, so that what is copied could have lain on the disk at one moment: first the log, which a fold
//! trims last, then what is derived from the tables, then the tables from the last that a fold commits to the
//! first. That is true as long as nothing is appended meanwhile, or nothing is folded meanwhile.

use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// The parts whose order matters.
const ORDER: [&str; 5] = ["log", "index", "tables/recordings", "tables/calls", "tables/events"];
/// How often a part is tried again that changed meanwhile.
const TRIES: usize = 2_000;

/// A file: its path below the part, size and inode.
type Seen = (PathBuf, u64, u64);

/// Copies the data directory.
pub fn take(from: &Path, to: &Path) {
    for part in parts(from) {
        part_of(from, to, &part);
    }
}

/// Copies this part of the data directory anew.
pub fn take_part(from: &Path, to: &Path, part: &str) {
    part_of(from, to, Path::new(part));
}

/// The parts in order; those that are not known come last.
fn parts(from: &Path) -> Vec<PathBuf> {
    let entries = |directory: &str| -> Vec<PathBuf> {
        let Ok(found) = std::fs::read_dir(from.join(directory)) else { return Vec::new() };
        let mut names: Vec<PathBuf> =
            found.map(|entry| Path::new(directory).join(entry.unwrap().file_name())).collect();
        names.sort();
        names
    };
    let mut parts: Vec<PathBuf> = ORDER.iter().map(PathBuf::from).filter(|part| from.join(part).exists()).collect();
    for other in entries("").into_iter().chain(entries("tables")) {
        if other != Path::new("tables") && !parts.contains(&other) {
            parts.push(other);
        }
    }
    parts
}

fn part_of(from: &Path, to: &Path, part: &Path) {
    let (from, to) = (from.join(part), to.join(part));
    for _ in 0..TRIES {
        remove(&to);
        match copy_still(&from, &to) {
            Ok(true) => return,
            Ok(false) => {}
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => panic!("copying `{}`: {error}", from.display()),
        }
        std::thread::sleep(Duration::from_millis(1));
    }
    panic!("`{}` never stood still", from.display());
}

fn remove(path: &Path) {
    let removed = if path.is_dir() { std::fs::remove_dir_all(path) } else { std::fs::remove_file(path) };
    match removed {
        Err(error) if error.kind() != io::ErrorKind::NotFound => panic!("removing `{}`: {error}", path.display()),
        _ => {}
    }
}

/// Copies, and says whether nothing changed meanwhile. Whatever may change within a file changes its name, size or
/// inode, but for the log's segments: a frame that is being written to one is copied in part, as a crash leaves it.
fn copy_still(from: &Path, to: &Path) -> io::Result<bool> {
    let mut before = Vec::new();
    list(from, Path::new(""), &mut before)?;
    if from.is_dir() {
        std::fs::create_dir_all(to)?;
    }
    for (path, _, _) in &before {
        let target = below(to, path);
        if let Some(parent) = target.parent() {
            std::fs::create_dir_all(parent)?;
        }
        std::fs::copy(below(from, path), target)?;
    }
    let mut after = Vec::new();
    list(from, Path::new(""), &mut after)?;
    Ok(before == after)
}

/// A part may be a single file: then nothing stands below it.
fn below(root: &Path, path: &Path) -> PathBuf {
    if path.as_os_str().is_empty() { root.to_owned() } else { root.join(path) }
}

fn list(root: &Path, path: &Path, found: &mut Vec<Seen>) -> io::Result<()> {
    let here = below(root, path);
    let metadata = std::fs::symlink_metadata(&here)?;
    if metadata.is_file() {
        found.push((path.to_owned(), metadata.size(), metadata.ino()));
    } else if metadata.is_dir() {
        let mut names: Vec<_> =
            std::fs::read_dir(&here)?.map(|entry| Ok(entry?.file_name())).collect::<io::Result<_>>()?;
        names.sort();
        for name in names {
            list(root, &path.join(name), found)?;
        }
    }
    Ok(())
}
