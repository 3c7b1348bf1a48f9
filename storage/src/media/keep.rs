//! Putting a finished file in its place, durably.

use std::fs::File;
use std::io::{ErrorKind, Read, Result as IoResult};
use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::time::SystemTime;

use rustix::fs::{AtFlags, Mode, OFlags};
use sha2::{Digest, Sha256};
use uuid::Uuid;

use super::object_key::{RECORDINGS, is_component};
use super::temporary::Temporary;
use super::tree::{Tree, regular};
use super::write_failed;
use crate::error::{Context, Error};
use crate::event::hex;

/// Where a file is to lie.
#[derive(Clone, Debug)]
pub(super) struct Place {
    pub tenant: String,
    /// `yyyy-mm-dd`.
    pub day: String,
    pub name: String,
}

/// A file in its place that may not be on disk yet.
pub(super) struct Placed {
    file: Arc<File>,
    directory: OwnedFd,
    place: Place,
    /// It was there before; it is not ours to remove.
    found: bool,
}

/// Puts a file in its place and makes it durable; returns its key.
pub(super) fn keep(tree: &Tree, temporary: Temporary, place: Place, sha256: &str) -> Result<String, Error> {
    Placed::put(tree, temporary, place, Some(sha256))?.sync()
}

impl Placed {
    /// Moves the file into its place. If one with the same bytes is there that one is taken, if one with other bytes
    /// (a leftover of a power cut, never acknowledged) this one gets another name: nothing is overwritten.
    pub fn put(tree: &Tree, mut temporary: Temporary, mut place: Place, sha256: Option<&str>) -> Result<Placed, Error> {
        if !is_component(&place.name) {
            return Err(Error::Config(format!("`{}` cannot be the name of a recording", place.name)));
        }
        let directory = tree.day(&place.tenant, &place.day)?;
        loop {
            match temporary.move_into(&directory, &place.name) {
                Ok(file) => {
                    // Its age for the sweep counts from now, however long the upload took; a failure makes it older.
                    let _ = file.set_modified(SystemTime::now());
                    return Ok(Placed { file, directory, place, found: false });
                }
                Err(error) if error.kind() == ErrorKind::AlreadyExists => {}
                Err(error) => return Err(write_failed(error, format!("storing `{}`", place.key()))),
            }
            match take_over(tree, &directory, &place.name) {
                Err(error) if error.kind() == ErrorKind::NotFound => continue,
                Ok(file) if has_digest(&file, sha256).context(format!("reading `{}`", place.key()))? => {
                    return Ok(Placed { file: Arc::new(file), directory, place, found: true });
                }
                _ => place.name = format!("{}-{}", place.name, Uuid::now_v7().simple()),
            }
        }
    }

    /// Makes it durable; returns its key. When that fails the file is gone.
    ///
    /// The file was renamed before it is synced, not after: on ext4 one journal commit carries both then, and the sync
    /// of the directory finds nothing left to do. That is safe because nobody looks for the file until the message that
    /// names it is in the log; after a power cut between the two a half-written one is an orphan, which is swept.
    pub fn sync(self) -> Result<String, Error> {
        let synced = self.file.sync_all().and_then(|()| Ok(rustix::fs::fsync(&self.directory)?));
        if synced.is_err() && !self.found {
            let _ = rustix::fs::unlinkat(&self.directory, self.place.name.as_str(), AtFlags::empty());
        }
        let key = self.place.key();
        synced.map_err(|error| write_failed(error, format!("syncing `{key}`")))?;
        Ok(key)
    }
}

impl Place {
    pub fn key(&self) -> String {
        format!("{RECORDINGS}/{}/{}/{}", self.tenant, self.day, self.name)
    }
}

/// Opens a file that is there already and makes it young, so that no sweep takes it away under us.
fn take_over(tree: &Tree, directory: &OwnedFd, name: &str) -> IoResult<File> {
    let _no_sweep = tree.old_files.lock();
    let flags = OFlags::RDWR | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
    let file = File::from(rustix::fs::openat(directory, name, flags, Mode::empty())?);
    regular(&file)?;
    file.set_modified(SystemTime::now())?;
    Ok(file)
}

/// Whether the file has the bytes of this digest. Its id promises it; a power cut may have broken the promise.
fn has_digest(file: &File, sha256: Option<&str>) -> IoResult<bool> {
    let mut hash = Sha256::new();
    let mut piece = vec![0; 64 << 10];
    let mut reader = file;
    loop {
        match reader.read(&mut piece) {
            Ok(0) => return Ok(sha256.is_some_and(|expected| hex(&hash.finalize()) == expected)),
            Ok(count) => hash.update(&piece[..count]),
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
}
