//! A flush that a node wants which does not fold: it asks, in the bucket, and whoever folds says when it is done.

use std::time::{Duration, Instant};

use serde::{Deserialize, Serialize};

use super::{Archive, Inner};
use crate::bucket::Bucket;
use crate::error::Error;
use crate::event::Offset;

/// Up to where somebody wants it.
const ASKED: &str = "log/flush.json";
/// Up to where it was done.
const DONE: &str = "log/flushed.json";
/// Between two looks whether it is done.
const LOOK: Duration = Duration::from_millis(250);
/// An answer comes within this time, or nobody folds.
const PATIENCE: Duration = Duration::from_secs(300);

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
struct UpTo {
    offset: Offset,
}

async fn read(bucket: &Bucket, key: &str) -> Result<Option<UpTo>, Error> {
    let found = bucket.read_tagged(key).await?;
    Ok(found.and_then(|(bytes, _)| serde_json::from_slice(&bytes).ok()))
}

async fn write(bucket: &Bucket, key: &str, up_to: UpTo) -> Result<(), Error> {
    let text = serde_json::to_vec(&up_to).map_err(|error| Error::Config(error.to_string()))?;
    bucket.put(key, text).await
}

impl Archive {
    /// Has everything up to now folded and compacted by whoever does that.
    pub(super) async fn ask_for_flush(&self, bucket: &Bucket) -> Result<Option<Offset>, Error> {
        let Some(offset) = self.visible() else { return Ok(None) };
        let (wanted, began) = (UpTo { offset }, Instant::now());
        while began.elapsed() < PATIENCE {
            if let Some(done) = read(bucket, DONE).await?.filter(|done| *done >= wanted) {
                return Ok(Some(done.offset));
            }
            // Somebody else may have asked for less meanwhile.
            if read(bucket, ASKED).await?.is_none_or(|asked| asked < wanted) {
                write(bucket, ASKED, wanted).await?;
            }
            tokio::time::sleep(LOOK).await;
        }
        Err(Error::Unavailable("no node folds".into()))
    }
}

impl Inner {
    /// Does what other nodes ask for.
    pub(super) async fn flush_if_asked(&self) -> Result<(), Error> {
        let Some(bucket) = &self.config.bucket else { return Ok(()) };
        let Some(asked) = read(bucket, ASKED).await? else { return Ok(()) };
        let has_it = self.visible.borrow().is_some_and(|visible| visible >= asked.offset);
        if !has_it || read(bucket, DONE).await?.is_some_and(|done| done >= asked) {
            return Ok(());
        }
        match self.fold_and_compact(super::compact::Scope::Everything).await? {
            Some(offset) => write(bucket, DONE, UpTo { offset }).await,
            None => Ok(()),
        }
    }
}
