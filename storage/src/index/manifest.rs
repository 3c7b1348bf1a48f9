//! The manifest: which runs are the index, and up to where in the log it is valid. What it does not name is nothing.

use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use crate::durable_file;
use crate::error::{Context, Error};
use crate::event::Offset;

const FILE: &str = "manifest.json";
const FORMAT: u32 = 1;

/// What the manifest says.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Manifest {
    format: u32,
    identity: String,
    value_bytes: usize,
    /// The last offset whose entries are in the index; `None` while it is empty or being made again.
    pub until: Option<Offset>,
    /// Numbers of the runs, oldest first.
    pub runs: Vec<u64>,
}

/// JSON has no checksum of its own, and a digit that flipped would be a wrong offset.
#[derive(Serialize, Deserialize)]
struct Checked {
    manifest: Manifest,
    crc32c: u32,
}

impl Manifest {
    pub fn new(identity: &str, value_bytes: usize, until: Option<Offset>, runs: Vec<u64>) -> Manifest {
        Manifest { format: FORMAT, identity: identity.to_owned(), value_bytes, until, runs }
    }

    fn checksum(&self) -> Result<u32, Error> {
        let bytes = serde_json::to_vec(self).map_err(|error| Error::Config(error.to_string()))?;
        Ok(crc32c::crc32c(&bytes))
    }

    /// Reads the manifest of this directory; `None` if there is none.
    ///
    /// # Errors
    /// `Corrupt` when it is damaged, of another log, of another kind, or of an index that was never finished; `Io`.
    pub fn read(directory: &Path, identity: &str, value_bytes: usize) -> Result<Option<Manifest>, Error> {
        let Some(Checked { manifest, crc32c }) = durable_file::read::<Checked>(&directory.join(FILE))? else {
            return Ok(None);
        };
        let corrupt = |reason: &str| Err(Error::Corrupt(format!("index `{}`: {reason}", directory.display())));
        if manifest.checksum()? != crc32c {
            return corrupt("its manifest is damaged");
        }
        if manifest.format != FORMAT || manifest.value_bytes != value_bytes {
            return corrupt("it has another format");
        }
        if manifest.identity != identity {
            return corrupt("it belongs to another log");
        }
        if manifest.until.is_none() && !manifest.runs.is_empty() {
            return corrupt("it was not finished");
        }
        Ok(Some(manifest))
    }

    /// Replaces the manifest and syncs the directory, and with it the names of the runs.
    pub fn write(self, directory: &Path) -> Result<(), Error> {
        let crc32c = self.checksum()?;
        durable_file::write(&directory.join(FILE), &Checked { manifest: self, crc32c })
    }
}

pub(super) fn run_path(directory: &Path, number: u64) -> PathBuf {
    directory.join(format!("{number:012}.run"))
}

/// Removes what a crash left: runs that are not in the manifest, half-written manifests.
pub(super) fn remove_strays(directory: &Path, named: &[u64]) -> Result<(), Error> {
    let what = || format!("tidying index `{}`", directory.display());
    let named: Vec<PathBuf> = named.iter().map(|number| run_path(directory, *number)).collect();
    for file in std::fs::read_dir(directory).context(what())? {
        let path = file.context(what())?.path();
        let is_ours = path.extension().is_some_and(|extension| extension == "run" || extension == "tmp");
        if is_ours && !named.contains(&path) {
            std::fs::remove_file(&path).context(format!("removing `{}`", path.display()))?;
        }
    }
    Ok(())
}
