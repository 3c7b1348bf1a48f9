//! What folding again would change: the rows as they are shown now beside those that the same messages fold to.
//!
//! Both sides are sorted by id, spilling to disk, and merged, so that memory does not grow with the tables. First only
//! a digest of each row is sorted. If few rows differ, only those are read whole after it; if many do, all are.

mod columns;
mod merge;
mod rows;
mod written;

use std::collections::HashSet;
use std::path::Path;
use std::sync::Arc;

use arrow::datatypes::SchemaRef;
use datafusion::prelude::{DataFrame, SessionContext};
use futures::stream::BoxStream;
use futures::{StreamExt, TryStreamExt};
use serde::Serialize;

use super::{Refolded, Snapshot};
use crate::error::Error;
use crate::{lake, schema};
use merge::Merge;

pub use columns::ColumnChange;

/// Memory of all sorts together; what is more goes to disk.
const SORT_BYTES: usize = 256 << 20;
/// Sorts that run beside each other on one side: more of them would each have too little memory.
const PARTITIONS: usize = 2;
/// Rows per batch: many spilled runs are merged at once, each with a batch in memory.
const BATCH_ROWS: usize = 2048;
/// Up to so many differing rows are picked out by id; beyond, all rows are read whole.
const PICKED_ROWS: usize = 100_000;

/// What happens to a row.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Change {
    /// It is not there now.
    Added,
    /// It would be gone.
    Removed,
    /// Some columns would be different.
    Changed,
}

/// One row that would change.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Difference {
    /// `calls` or `recordings`.
    pub table: &'static str,
    /// What would happen.
    pub change: Change,
    /// Our id.
    pub id: String,
    /// The source's key; of a recording its id.
    pub key: String,
    /// Tenant.
    pub tenant: String,
    /// Source.
    pub source: String,
    /// The columns that differ; of a row that comes or goes, those that are not NULL.
    pub columns: Vec<ColumnChange>,
}

/// How many rows were compared.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Compared {
    /// Rows as they are now.
    pub before: u64,
    /// Rows after folding again.
    pub after: u64,
}

/// All differences, and how much was compared to find them.
pub struct Differences {
    /// Of `calls`.
    pub calls: Compared,
    /// Of `recordings`.
    pub recordings: Compared,
    /// Calls by id, then recordings by id.
    pub rows: BoxStream<'static, Result<Difference, Error>>,
}

impl std::fmt::Debug for Differences {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter
            .debug_struct("Differences")
            .field("calls", &self.calls)
            .field("recordings", &self.recordings)
            .finish_non_exhaustive()
    }
}

/// What is compared: the columns that SQL shows, found by id.
struct Shape {
    name: &'static str,
    id: &'static str,
    key: &'static str,
    schema: SchemaRef,
}

/// The two sides of one table.
struct Sides {
    shape: Shape,
    /// Stored rows, and those that win over them.
    before: Vec<DataFrame>,
    after: Vec<DataFrame>,
}

/// Which rows differ.
enum Differing {
    These(HashSet<String>),
    Many,
}

impl Snapshot {
    /// What would change if `refolded` took the place of these rows. Sorts spill into `scratch`, which must stay until
    /// the stream has ended.
    ///
    /// Numbers in E.164 of calls that are merged in memory are compared as they were last written: this process shows
    /// them as its own decoder makes them.
    ///
    /// # Errors
    /// If a table cannot be read or `scratch` cannot be written.
    pub async fn differences(&self, refolded: &Refolded, scratch: &Path) -> Result<Differences, Error> {
        let session = session(scratch)?;
        let calls = Shape { name: "calls", id: "call_id", key: "call_key", schema: schema::calls() };
        let fresh = self.calls_fresh()?;
        let fresh = written::restore(&session, &self.calls_stored(), self.calls_superseded(), fresh).await?;
        let stored = rows::stored(&session, self.calls_stored(), calls.id, Some(self.calls_superseded()))?;
        let before = vec![stored, rows::held(&session, &calls.schema, fresh)?];
        let after = vec![rows::stored(&session, Arc::clone(&refolded.calls), calls.id, None)?];
        let calls = Sides { shape: calls, before, after };

        let (id, schema) = ("recording_id", schema::recordings());
        let recordings = Shape { name: "recordings", id, key: id, schema };
        let stored = rows::stored(&session, self.recordings_stored(), id, Some(self.recordings_superseded()))?;
        let before = vec![stored, rows::held(&session, &recordings.schema, self.recordings_fresh()?)?];
        let after = vec![rows::stored(&session, Arc::clone(&refolded.recordings), id, None)?];
        let recordings = Sides { shape: recordings, before, after };

        let (calls_compared, of_calls) = calls.compare().await?;
        let (recordings_compared, of_recordings) = recordings.compare().await?;
        let rows = calls.differences(of_calls).chain(recordings.differences(of_recordings)).boxed();
        Ok(Differences { calls: calls_compared, recordings: recordings_compared, rows })
    }
}

/// A session whose sorts stay within their memory.
fn session(scratch: &Path) -> Result<SessionContext, Error> {
    let session = lake::session(SORT_BYTES, scratch)?;
    let config = session.copied_config().with_target_partitions(PARTITIONS).with_batch_size(BATCH_ROWS);
    Ok(SessionContext::new_with_config_rt(config, session.runtime_env()))
}

impl Sides {
    /// Compares digests: how many rows there are, and which differ.
    async fn compare(&self) -> Result<(Compared, Differing), Error> {
        let before = rows::digests(&self.before, &self.shape).await?;
        let mut merge = Merge::new(before, rows::digests(&self.after, &self.shape).await?);
        let mut differing = Differing::These(HashSet::new());
        while let Some(pair) = merge.next().await? {
            if let Differing::These(ids) = &mut differing {
                ids.insert(pair.id);
                if ids.len() > PICKED_ROWS {
                    differing = Differing::Many;
                }
            }
        }
        let (before, after) = merge.counts();
        Ok((Compared { before, after }, differing))
    }

    /// Reads what differs whole, when the stream is first asked.
    fn differences(self, differing: Differing) -> BoxStream<'static, Result<Difference, Error>> {
        let picked = match differing {
            Differing::These(ids) if ids.is_empty() => return futures::stream::empty().boxed(),
            Differing::These(ids) => Some(Arc::new(ids)),
            Differing::Many => None,
        };
        let opened = async move {
            let before = rows::whole(&self.before, &self.shape, picked.clone()).await?;
            let after = rows::whole(&self.after, &self.shape, picked).await?;
            let state = (Merge::new(before, after), self.shape);
            Ok::<_, Error>(futures::stream::try_unfold(state, |(mut merge, shape)| async move {
                let Some(pair) = merge.next().await? else { return Ok(None) };
                let difference = columns::difference(&shape, pair)?;
                Ok::<_, Error>(Some((difference, (merge, shape))))
            }))
        };
        futures::stream::once(opened).try_flatten().boxed()
    }
}

#[cfg(test)]
mod tests;
