//! The directories of the store, opened from the data directory without following a symbolic link anywhere below it.

use std::collections::HashSet;
use std::fs::File;
use std::io::{Error as IoError, Result as IoResult};
use std::os::fd::OwnedFd;
use std::path::Path;

use parking_lot::Mutex;
use rustix::fs::{AtFlags, FileType, Mode, OFlags, ResolveFlags};
use rustix::io::Errno;

use super::object_key::{RECORDINGS, is_component};
use crate::error::{Context, Error};

const DIRECTORY: OFlags = OFlags::RDONLY.union(OFlags::DIRECTORY).union(OFlags::CLOEXEC);
/// Non-blocking, so that a named pipe in place of a file does not hold us up.
const READ: OFlags = OFlags::RDONLY.union(OFlags::NONBLOCK).union(OFlags::CLOEXEC);
const NO_LINKS: ResolveFlags = ResolveFlags::BENEATH.union(ResolveFlags::NO_SYMLINKS);
const DIRECTORY_MODE: Mode = Mode::from_raw_mode(0o750);
const FILE_MODE: Mode = Mode::from_raw_mode(0o640);

/// So many directories are remembered as durable; then they are synced anew.
const REMEMBERED_DIRECTORIES: usize = 10_000;

/// The directories of the store.
pub(super) struct Tree {
    root: OwnedFd,
    /// `objects/.tmp`.
    pub temporary: OwnedFd,
    /// `<tenant>/<day>` directories whose own entries are known to be on disk.
    durable: Mutex<HashSet<String>>,
    /// Held while an old file is taken over or swept, so that never both happen to it.
    pub old_files: Mutex<()>,
}

impl Tree {
    /// Opens the data directory and makes what is missing below it.
    pub fn open(data_dir: &Path) -> Result<Tree, Error> {
        let what = || format!("opening `{}`", data_dir.join("objects").display());
        std::fs::create_dir_all(data_dir).context(what())?;
        let root = rustix::fs::open(data_dir, DIRECTORY, Mode::empty()).map_err(IoError::from).context(what())?;
        let objects = make_directory(&root, "objects").map_err(|error| not_ours(error, &what()))?;
        let recordings = make_directory(&objects, "recordings").map_err(|error| not_ours(error, &what()))?;
        let temporary = make_directory(&objects, ".tmp").map_err(|error| not_ours(error, &what()))?;
        let device = |directory: &OwnedFd| rustix::fs::fstat(directory).map(|status| status.st_dev);
        if device(&recordings).map_err(IoError::from).context(what())?
            != device(&temporary).map_err(IoError::from).context(what())?
        {
            let reason = "`recordings` and `.tmp` must lie on one file system".to_owned();
            return Err(Error::Config(format!("{}: {reason}", what())));
        }
        Ok(Tree { root, temporary, durable: Mutex::default(), old_files: Mutex::default() })
    }

    /// Takes away what uploads of an earlier process have left.
    pub fn empty_temporary(&self) -> Result<(), Error> {
        let what = "emptying `objects/.tmp`";
        for entry in rustix::fs::Dir::read_from(&self.temporary).map_err(IoError::from).context(what)? {
            let entry = entry.map_err(IoError::from).context(what)?;
            if matches!(entry.file_name().to_bytes(), b"." | b"..") {
                continue;
            }
            match rustix::fs::unlinkat(&self.temporary, entry.file_name(), AtFlags::empty()) {
                Err(Errno::ISDIR | Errno::PERM) => {
                    tracing::warn!(name = ?entry.file_name(), "`objects/.tmp` holds something that is no upload");
                }
                ended => ended.map_err(IoError::from).context(what)?,
            }
        }
        Ok(())
    }

    /// Makes a file that is not there yet, for reading and writing.
    pub fn create_temporary(&self, name: &str) -> IoResult<File> {
        let flags = OFlags::RDWR | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        Ok(File::from(rustix::fs::openat(&self.temporary, name, flags, FILE_MODE)?))
    }

    /// The directory of a tenant's day, made if need be; its own entry and its tenant's are on disk.
    pub fn day(&self, tenant: &str, day: &str) -> Result<OwnedFd, Error> {
        if !is_component(tenant) || !is_component(day) {
            return Err(Error::Config(format!("`{tenant}/{day}` cannot be a directory of recordings")));
        }
        let name = format!("{tenant}/{day}");
        let known = self.durable.lock().contains(&name);
        if known && let Ok(directory) = self.open_below(&format!("{RECORDINGS}/{name}"), DIRECTORY) {
            return Ok(directory);
        }
        let made = (|| {
            let recordings = self.open_below(RECORDINGS, DIRECTORY)?;
            make_directory(&make_directory(&recordings, tenant)?, day)
        })();
        let directory = made.map_err(|error| super::write_failed(error, format!("making `{RECORDINGS}/{name}`")))?;
        let mut durable = self.durable.lock();
        if durable.len() >= REMEMBERED_DIRECTORIES {
            durable.clear();
        }
        durable.insert(name);
        Ok(directory)
    }

    /// Opens a file by its key, if it can be found without waiting for the disk.
    pub fn open_cached(&self, file: &str) -> Option<File> {
        let resolve = NO_LINKS | ResolveFlags::CACHED;
        rustix::fs::openat2(&self.root, file, READ, Mode::empty(), resolve).ok().map(File::from)
    }

    /// Opens a file by its key.
    pub fn open_file(&self, file: &str) -> IoResult<File> {
        self.open_below(file, READ).map(File::from)
    }

    /// Removes a file by its key; it may be gone already.
    pub fn unlink(&self, file: &str) -> IoResult<()> {
        let Some((directory, name)) = file.rsplit_once('/') else { return Ok(()) };
        let ended = self
            .open_below(directory, DIRECTORY)
            .and_then(|directory| Ok(rustix::fs::unlinkat(&directory, name, AtFlags::empty())?));
        match ended {
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(()),
            ended => ended,
        }
    }

    fn open_below(&self, path: &str, flags: OFlags) -> IoResult<OwnedFd> {
        match rustix::fs::openat2(&self.root, path, flags, Mode::empty(), NO_LINKS) {
            // Kernels before 5.6 do not have it and some sandboxes forbid it: then step by step.
            Err(Errno::NOSYS | Errno::PERM | Errno::AGAIN | Errno::INVAL) => self.walk(path, flags),
            opened => Ok(opened?),
        }
    }

    /// Opens a path one component after the other, refusing symbolic links.
    pub(super) fn walk(&self, path: &str, flags: OFlags) -> IoResult<OwnedFd> {
        let (directories, name) = path.rsplit_once('/').unwrap_or(("", path));
        let mut directory: Option<OwnedFd> = None;
        for component in directories.split('/').filter(|component| !component.is_empty()) {
            directory = Some(open_at(directory.as_ref().unwrap_or(&self.root), component, DIRECTORY)?);
        }
        open_at(directory.as_ref().unwrap_or(&self.root), name, flags)
    }
}

fn open_at(directory: &OwnedFd, name: &str, flags: OFlags) -> IoResult<OwnedFd> {
    if matches!(name, "" | "." | "..") {
        return Err(IoError::from(std::io::ErrorKind::InvalidInput));
    }
    Ok(rustix::fs::openat(directory, name, flags | OFlags::NOFOLLOW, Mode::empty())?)
}

/// Opens a directory, made if need be, and syncs its parent: a killed process may have left the entry in memory only.
fn make_directory(parent: &OwnedFd, name: &str) -> IoResult<OwnedFd> {
    match rustix::fs::mkdirat(parent, name, DIRECTORY_MODE) {
        Err(Errno::EXIST) | Ok(()) => {}
        Err(error) => return Err(error.into()),
    }
    let directory = open_at(parent, name, DIRECTORY)?;
    rustix::fs::fsync(parent)?;
    Ok(directory)
}

fn not_ours(error: IoError, what: &str) -> Error {
    if is_link(&error) || error.kind() == std::io::ErrorKind::NotADirectory {
        return Error::Config(format!("{what}: symbolic links are not followed, mount or bind it in their place"));
    }
    Error::Io { context: what.to_owned(), source: error }
}

/// Whether opening failed because of a symbolic link on the way.
pub(super) fn is_link(error: &IoError) -> bool {
    matches!(Errno::from_io_error(error), Some(Errno::LOOP | Errno::XDEV))
}

/// Refuses what is not an ordinary file.
pub(super) fn regular(file: &File) -> IoResult<rustix::fs::Stat> {
    let status = rustix::fs::fstat(file)?;
    if FileType::from_raw_mode(status.st_mode) != FileType::RegularFile {
        return Err(IoError::from(std::io::ErrorKind::InvalidData));
    }
    Ok(status)
}
