//! Small JSON files that are replaced as a whole, so that a crash leaves the old file or the new one.

use std::fs::{File, OpenOptions};
use std::io::{ErrorKind, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::error::{Context, Error};

/// Reads a file that [`write`] wrote; `None` if there is none.
pub(crate) fn read<T: DeserializeOwned>(path: &Path) -> Result<Option<T>, Error> {
    let bytes = match std::fs::read(path) {
        Ok(bytes) => bytes,
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(error).context(format!("reading {}", path.display())),
    };
    let content = serde_json::from_slice(&bytes);
    content.map(Some).map_err(|error| Error::Corrupt(format!("{}: {error}", path.display())))
}

/// Writes a temporary file (mode 0600) next to it, syncs it, renames it into place and syncs the directory.
pub(crate) fn write(path: &Path, content: &impl Serialize) -> Result<(), Error> {
    let directory = path.parent().unwrap_or(Path::new("."));
    std::fs::create_dir_all(directory).context(format!("creating {}", directory.display()))?;
    let bytes = serde_json::to_vec_pretty(content).map_err(|error| Error::Config(error.to_string()))?;
    let temporary = path.with_extension("json.tmp");
    let what = || format!("writing {}", temporary.display());
    // A file left by a crash may have other permissions, so it is not reused.
    match std::fs::remove_file(&temporary) {
        Err(error) if error.kind() != ErrorKind::NotFound => return Err(error).context(what()),
        _ => {}
    }
    let mut output = OpenOptions::new().write(true).create_new(true).mode(0o600).open(&temporary).context(what())?;
    output.write_all(&bytes).context(what())?;
    output.sync_all().context(what())?;
    std::fs::rename(&temporary, path).context(format!("renaming to {}", path.display()))?;
    File::open(directory).and_then(|handle| handle.sync_all()).context(format!("syncing {}", directory.display()))
}
