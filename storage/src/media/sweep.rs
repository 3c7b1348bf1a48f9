//! Taking away files that no object key names: uploads that were stored and never acknowledged.

use std::fs::{DirEntry, Metadata};
use std::io::{ErrorKind, Result as IoResult};
use std::path::Path;
use std::time::SystemTime;

use super::object_key::RECORDINGS;
use super::tree::Tree;
use crate::error::{Context, Error};

/// Removes unreferenced files that were last written before this; returns the bytes freed.
pub(super) fn sweep(
    data_dir: &Path,
    tree: &Tree,
    before: SystemTime,
    is_referenced: &dyn Fn(&str) -> bool,
) -> Result<u64, Error> {
    let mut freed = 0;
    let what = || format!("sweeping `{RECORDINGS}`");
    for_each(&data_dir.join(RECORDINGS), &mut |tenant| {
        for_each(&tenant.path(), &mut |day| {
            for_each(&day.path(), &mut |file| {
                freed += sweep_file(tree, &tenant, &day, &file, before, is_referenced)?;
                Ok(())
            })
        })
    })
    .context(what())?;
    Ok(freed)
}

/// Visits the entries of a directory; none if it is no directory, or gone. Symbolic links are not followed.
fn for_each(directory: &Path, visit: &mut dyn FnMut(DirEntry) -> IoResult<()>) -> IoResult<()> {
    match std::fs::symlink_metadata(directory) {
        Ok(metadata) if metadata.is_dir() => {}
        Err(error) if error.kind() != ErrorKind::NotFound => return Err(error),
        _ => return Ok(()),
    }
    std::fs::read_dir(directory)?.try_for_each(|entry| visit(entry?))
}

fn sweep_file(
    tree: &Tree,
    tenant: &DirEntry,
    day: &DirEntry,
    file: &DirEntry,
    before: SystemTime,
    is_referenced: &dyn Fn(&str) -> bool,
) -> IoResult<u64> {
    let names = [tenant, day, file].map(|entry| entry.file_name().into_string());
    // A name that is no text is not one of ours.
    let [Ok(tenant), Ok(day), Ok(name)] = names else { return Ok(0) };
    let key = format!("{RECORDINGS}/{tenant}/{day}/{name}");
    if is_old(&file.path(), before)?.is_none() || is_referenced(&key) {
        return Ok(0);
    }
    // Looked at again under the lock: a repeated upload may just have taken the file over.
    let _nobody_takes_over = tree.old_files.lock();
    let Some(metadata) = is_old(&file.path(), before)? else { return Ok(0) };
    tree.unlink(&key)?;
    tracing::info!(object = %key, bytes = metadata.len(), "removed a recording that was never acknowledged");
    Ok(metadata.len())
}

/// The file's metadata if it is an ordinary file that nobody wrote since.
fn is_old(path: &Path, before: SystemTime) -> IoResult<Option<Metadata>> {
    let metadata = match std::fs::symlink_metadata(path) {
        Ok(metadata) => metadata,
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(error),
    };
    let is_old = metadata.is_file() && metadata.modified()? < before;
    Ok(is_old.then_some(metadata))
}
