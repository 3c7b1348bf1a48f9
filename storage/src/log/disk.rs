//! What the log does to files and their directory, and nothing else: here, and only here, tests put a disk that fails.

use std::fs::{File, OpenOptions};
use std::io::{ErrorKind, Result, Write};
use std::os::unix::fs::FileExt;
use std::path::Path;

use rustix::fs::{Advice, fadvise};

#[cfg(test)]
use super::faulty_disk::{FaultyDisk, FaultyFile};
use crate::error::{Context, Error};

/// An open file of the log. Nothing is buffered; every read and write names its position.
#[derive(Debug)]
pub(super) struct LogFile {
    file: File,
    #[cfg(test)]
    faulty: Option<FaultyFile>,
}

impl LogFile {
    /// Opens a file that is there.
    pub fn open(path: &Path) -> Result<LogFile> {
        LogFile::with(OpenOptions::new().read(true).write(true), path)
    }

    /// Makes an empty file.
    pub fn create(path: &Path) -> Result<LogFile> {
        #[cfg(test)]
        if let Some(disk) = FaultyDisk::of(path) {
            disk.create()?;
        }
        LogFile::with(OpenOptions::new().create(true).truncate(true).read(true).write(true), path)
    }

    fn with(options: &OpenOptions, path: &Path) -> Result<LogFile> {
        let file = options.open(path)?;
        #[cfg(test)]
        let faulty = FaultyFile::of(path, &file)?;
        Ok(LogFile {
            file,
            #[cfg(test)]
            faulty,
        })
    }

    /// Its length in bytes.
    pub fn length(&self) -> Result<u64> {
        Ok(self.file.metadata()?.len())
    }

    /// Fills `bytes` from this position on.
    pub fn read_exact_at(&self, bytes: &mut [u8], position: u64) -> Result<()> {
        self.file.read_exact_at(bytes, position)
    }

    /// Writes all of `bytes`, in as many pieces as the disk takes.
    pub fn write_all_at(&self, bytes: &[u8], position: u64) -> Result<()> {
        At { file: self, position }.write_all(bytes)
    }

    /// The system need not keep its copy of what is on disk. It may, and what is not yet there stays.
    pub fn let_go(&self) {
        let _ = fadvise(&self.file, 0, None, Advice::DontNeed);
    }

    /// `fdatasync`. After an error nothing written since the last success may be taken for stored, whatever a later
    /// call says: the kernel may have dropped it and hold its pages for clean.
    pub fn sync_data(&self) -> Result<()> {
        #[cfg(test)]
        if let Some(faulty) = &self.faulty {
            return faulty.sync();
        }
        self.file.sync_data()
    }

    fn write_at(&self, bytes: &[u8], position: u64) -> Result<usize> {
        #[cfg(test)]
        if let Some(faulty) = &self.faulty {
            return faulty.write_at(&self.file, bytes, position);
        }
        self.file.write_at(bytes, position)
    }
}

/// Where the next piece of a write goes.
struct At<'a> {
    file: &'a LogFile,
    position: u64,
}

impl Write for At<'_> {
    fn write(&mut self, bytes: &[u8]) -> Result<usize> {
        let written = self.file.write_at(bytes, self.position)?;
        self.position += written as u64;
        Ok(written)
    }

    fn flush(&mut self) -> Result<()> {
        Ok(())
    }
}

/// Gives a file another name in the same directory; durable once the directory is synced.
pub(super) fn rename(from: &Path, to: &Path) -> Result<()> {
    #[cfg(test)]
    if let Some(disk) = FaultyDisk::of(from) {
        return disk.rename(from, to);
    }
    std::fs::rename(from, to)
}

/// Unlinks a file; durable once the directory is synced.
pub(super) fn remove(path: &Path) -> Result<()> {
    #[cfg(test)]
    if let Some(disk) = FaultyDisk::of(path) {
        return disk.remove(path);
    }
    std::fs::remove_file(path)
}

/// Makes the names in a directory durable.
pub(crate) fn sync_directory(directory: &Path) -> std::result::Result<(), Error> {
    let what = || format!("syncing `{}`", directory.display());
    #[cfg(test)]
    if let Some(disk) = FaultyDisk::at(directory) {
        return disk.sync_directory().context(what());
    }
    File::open(directory).and_then(|file| file.sync_all()).context(what())
}

/// Makes the names in a directory durable even if an earlier sync of it failed: an entry comes and goes, so that the
/// kernel, which may hold the directory for clean since then, writes it again.
pub(super) fn sync_directory_again(directory: &Path) -> std::result::Result<(), Error> {
    let passing = directory.join("SYNC.tmp");
    let what = || format!("writing to `{}`", directory.display());
    match LogFile::create(&passing) {
        Ok(_) => std::fs::remove_file(&passing).context(what())?,
        // A log on a full disk must open all the same: what it has can be read and folded.
        Err(error) if matches!(error.kind(), ErrorKind::StorageFull | ErrorKind::QuotaExceeded) => {}
        Err(error) => return Err(error).context(what()),
    }
    sync_directory(directory)
}
