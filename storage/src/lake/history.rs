//! Which version of a table belongs to which log offset, read back from the table's own commits.

use futures::TryStreamExt;
use object_store::path::Path;
use object_store::{ObjectStore, ObjectStoreExt};

use super::Table;
use crate::error::Error;
use crate::event::{Micros, Offset};

/// A version of a table: readable for as long as superseded files are kept after the next one came.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Version {
    /// Last offset that it contains.
    pub watermark: Option<Offset>,
    /// Its number.
    pub number: u64,
    /// When it was committed.
    pub at: Micros,
}

impl Table {
    /// The versions that were current since then, oldest first; older commits are not read, for there may be very many.
    ///
    /// # Errors
    /// If the commits cannot be read.
    pub async fn history(&self, since: Micros) -> Result<Vec<Version>, Error> {
        let store = self.handle.object_store();
        let failed = |error: object_store::Error| Error::Lake(error.into());
        let mut files: Vec<_> = store.list(Some(&Path::from("_delta_log"))).try_collect().await.map_err(failed)?;
        files.retain(|file| version_of(&file.location).is_some());
        files.sort_by(|left, right| left.location.cmp(&right.location));
        let recent = files.partition_point(|file| file.last_modified.timestamp_micros() < since);
        let mut versions: Vec<Version> = Vec::new();
        for file in files.into_iter().skip(recent.saturating_sub(1)) {
            let Some(number) = version_of(&file.location) else { continue };
            let commit = store.get(&file.location).await.map_err(failed)?.bytes().await.map_err(failed)?;
            let moved = self.watermark_in(&commit);
            let known = versions.last().is_some_and(|last| last.number + 1 == number) || number == 0;
            // A commit that moves nothing says the offset of the one before; without that one it is unknown.
            if moved.is_none() && !known {
                continue;
            }
            let watermark = moved.or_else(|| versions.last().and_then(|last| last.watermark));
            versions.push(Version { watermark, number, at: file.last_modified.timestamp_micros() });
        }
        if versions.last().is_none_or(|last| last.number != self.version()) {
            versions.push(Version { watermark: self.watermark, number: self.version(), at: since });
        }
        Ok(versions)
    }

    fn watermark_in(&self, commit: &[u8]) -> Option<Offset> {
        let actions = commit
            .split(|byte| *byte == b'\n')
            .filter_map(|line| serde_json::from_slice::<serde_json::Value>(line).ok());
        let mine = actions.filter(|action| action["txn"]["appId"] == self.application.as_str());
        let mut offsets = mine.filter_map(|action| action["txn"]["version"].as_i64());
        offsets.next_back().map(|version| Offset(version.cast_unsigned()))
    }
}

fn version_of(path: &Path) -> Option<u64> {
    path.filename()?.strip_suffix(".json").filter(|name| name.len() == 20)?.parse().ok()
}
