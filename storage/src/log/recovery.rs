//! What the start of the log reads and believes: its identity, its segments, the spares.

use std::collections::VecDeque;
use std::fs::File;
use std::io::Write;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};
use uuid::Uuid;

use super::disk::{self, sync_directory, sync_directory_again};
use super::embedded::SPARES;
use super::segment::{Rest, Segment, base_of};
use crate::error::{Context, Error};
use crate::event::{format_time, now};

#[derive(Debug, Serialize, Deserialize)]
struct Identity {
    id: Uuid,
    format: u32,
    partitions: u32,
    created: String,
}

/// The log's identity; a new log gets one.
pub(super) fn load_identity(directory: &Path) -> Result<Uuid, Error> {
    let path = directory.join("IDENTITY");
    let what = || format!("reading `{}`", path.display());
    match std::fs::read(&path) {
        Ok(bytes) => {
            let identity: Identity = serde_json::from_slice(&bytes)
                .map_err(|error| Error::Corrupt(format!("`{}`: {error}", path.display())))?;
            if identity.format != 1 || identity.partitions != 1 {
                return Err(Error::Config(format!("`{}` is of another version", path.display())));
            }
            Ok(identity.id)
        }
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
            let identity = Identity { id: Uuid::new_v4(), format: 1, partitions: 1, created: format_time(now()) };
            let text = serde_json::to_vec_pretty(&identity).map_err(|error| Error::Corrupt(error.to_string()))?;
            let temporary = directory.join("IDENTITY.tmp");
            let mut file = File::create(&temporary).context(what())?;
            file.write_all(&text).context(what())?;
            file.sync_all().context(what())?;
            std::fs::rename(&temporary, &path).context(what())?;
            sync_directory(directory)?;
            Ok(identity.id)
        }
        Err(error) => Err(error).context(what()),
    }
}

/// Opens all segments, oldest first, checks that they meet, and lists the spares.
pub(super) fn recover(
    directory: &Path,
    identity: Uuid,
    segment_bytes: u64,
) -> Result<(VecDeque<Segment>, Vec<PathBuf>), Error> {
    let mut paths = Vec::new();
    let mut spares = Vec::new();
    let what = || format!("listing `{}`", directory.display());
    for entry in std::fs::read_dir(directory).context(what())? {
        let path = entry.context(what())?.path();
        match path.extension().and_then(|extension| extension.to_str()) {
            Some("seg") => paths.push(path),
            Some("spare") => spares.push(path),
            _ => {}
        }
    }
    // A crash may have left a half-written spare, and the configured size may have changed.
    spares.retain(|path| {
        let whole = std::fs::metadata(path).is_ok_and(|file| file.len() == segment_bytes);
        if !whole {
            let _ = disk::remove(path);
        }
        whole
    });
    for surplus in spares.drain(spares.len().min(SPARES)..) {
        let _ = disk::remove(&surplus);
    }
    paths.sort();
    let mut segments: VecDeque<Segment> = VecDeque::with_capacity(paths.len());
    for (index, path) in paths.iter().enumerate() {
        // What the name says is checked when that one is opened.
        let next = paths.get(index + 1).map(|next| base_of(next));
        let (segment, rest) = Segment::open(path, identity, next)?;
        if let Some(previous) = segments.back()
            && previous.next() != segment.base
        {
            return Err(Error::Corrupt(format!(
                "log: offsets {} to {} are missing before `{}`",
                previous.next(),
                segment.base.saturating_sub(1),
                path.display()
            )));
        }
        if let Rest::Torn { position } = rest {
            tracing::warn!(segment = %path.display(), position, next_offset = segment.next(), "cut off a torn tail that was never acknowledged");
        }
        segments.push_back(segment);
    }
    // What a former process had written may be in the kernel's memory only; from here on it counts as stored.
    if let Some(last) = segments.iter().rev().find(|segment| !segment.frames.is_empty()) {
        last.settle()?;
    }
    sync_directory_again(directory)?;
    Ok((segments, spares))
}
