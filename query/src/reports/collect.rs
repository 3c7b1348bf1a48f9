//! Adds up a family over one snapshot: what files contribute is remembered, only what changed is read.

use std::sync::Arc;

use futures::StreamExt;
use futures::stream;
use tokio::runtime::Handle;
use tokio_util::task::AbortOnDropHandle;
use trunklog_storage::archive::StoredFile;
use trunklog_storage::event::{Id, Micros};
use trunklog_storage::partitions::Snapshot;

use super::calendar::Interval;
use super::family::{Family, Keep};
use super::partials::{Partials, Piece, PieceKey};
use super::scan::{Footer, Relation, hash_of, ids_in};
use crate::error::QueryError;

/// Files that are read at once.
const FILES_AT_ONCE: usize = 2;

/// One snapshot, for one tenant or all.
pub(crate) struct Collector {
    /// What is read.
    pub snapshot: Snapshot,
    /// Whose rows count.
    pub tenant: Option<Arc<str>>,
    /// What is known of files.
    pub partials: Arc<Partials>,
    /// Where files are read.
    pub runtime: Handle,
    /// As of when.
    pub now: Micros,
}

/// One file in one question.
struct Wanted {
    file: StoredFile,
    footer: Arc<Footer>,
    key: PieceKey,
    superseded: Arc<[Id]>,
    within: Interval,
}

impl Collector {
    /// What all rows come to.
    ///
    /// # Errors
    /// If a table cannot be read.
    pub async fn collect<F: Family>(
        &self,
        family: &Arc<F>,
        shape: &Arc<str>,
        within: Interval,
    ) -> Result<F::Partial, QueryError> {
        let files = self.snapshot.files(F::TABLE).await?;
        let mut total = family.begin();
        let pieces = stream::iter(files).map(|file| self.file(family, shape, file, within));
        let mut pieces = std::pin::pin!(pieces.buffered(FILES_AT_ONCE));
        while let Some(piece) = pieces.next().await {
            let Some(piece) = piece? else { continue };
            if let Some(partial) = piece.value.downcast_ref::<F::Partial>() {
                family.merge(&mut total, partial);
            }
        }
        let keep = Keep { tenant: self.tenant.clone(), ..Keep::default() };
        for (_, part) in self.snapshot.parts() {
            family.add_fresh(&mut total, part, &keep, within)?;
        }
        Ok(total)
    }

    /// What one file contributes; nothing if none of its rows count.
    async fn file<F: Family>(
        &self,
        family: &Arc<F>,
        shape: &Arc<str>,
        file: StoredFile,
        within: Interval,
    ) -> Result<Option<Piece>, QueryError> {
        let footer = self.footer(&file).await?;
        let part = match footer.relation(family.basis(), within) {
            Relation::Outside => return Ok(None),
            Relation::Inside => None,
            Relation::Across => Some(within),
        };
        let superseded = self.superseded::<F>(&file, &footer).await?;
        let key = PieceKey::Partial {
            shape: Arc::clone(shape),
            tenant: self.tenant.clone(),
            path: file.path().to_owned(),
            within: part,
        };
        let known = self.partials.get(&key);
        let known = known.filter(|piece| piece.superseded == superseded && piece.holds(self.now));
        if known.is_some() {
            return Ok(known);
        }
        let within = part.unwrap_or(Interval::ALWAYS);
        self.read(family, Wanted { file, footer, key, superseded, within }).await.map(Some)
    }

    fn remembered<T: Send + Sync + 'static>(&self, key: &PieceKey) -> Option<Arc<T>> {
        self.partials.get(key)?.value.downcast().ok()
    }

    async fn footer(&self, file: &StoredFile) -> Result<Arc<Footer>, QueryError> {
        let key = PieceKey::Footer(file.path().to_owned());
        if let Some(footer) = self.remembered(&key) {
            return Ok(footer);
        }
        let footer = Arc::new(Footer::of(file).await?);
        self.partials.put(key, Piece::of_file(Arc::clone(&footer) as _), footer.bytes());
        Ok(footer)
    }

    /// Ids in this file that memory supersedes, sorted.
    async fn superseded<F: Family>(&self, file: &StoredFile, footer: &Arc<Footer>) -> Result<Arc<[Id]>, QueryError> {
        if file.maybe_superseded.is_empty() {
            return Ok(Arc::from([]));
        }
        let key = PieceKey::Ids(file.path().to_owned());
        let ids = match self.remembered::<Vec<u64>>(&key) {
            Some(ids) => ids,
            None => {
                let (file, footer) = (file.clone(), Arc::clone(footer));
                let read = async move { ids_in(&file, &footer, F::TABLE).await };
                let ids = Arc::new(self.apart(read).await?);
                self.partials.put(key, Piece::of_file(Arc::clone(&ids) as _), ids.len() * size_of::<u64>());
                ids
            }
        };
        let found = file.maybe_superseded.iter().filter(|id| ids.binary_search(&hash_of(id)).is_ok());
        let mut found: Vec<Id> = found.cloned().collect();
        found.sort_unstable();
        Ok(found.into())
    }

    async fn read<F: Family>(&self, family: &Arc<F>, wanted: Wanted) -> Result<Piece, QueryError> {
        let Wanted { file, footer, key, superseded, within } = wanted;
        metrics::counter!("trunklog_report_files_read_total").increment(1);
        let keep = Keep { tenant: self.tenant.clone(), superseded: superseded.iter().cloned().collect() };
        let working = Arc::clone(family);
        let read = async move {
            let mut partial = working.begin();
            let add = |batch: &arrow::array::RecordBatch| working.add_stored(&mut partial, batch, &keep, within);
            footer.read(&file, &working.columns(), keep.tenant.as_deref(), add).await?;
            Ok(partial)
        };
        let partial = self.apart(read).await?;
        let (bytes, changes_at) = (family.bytes(&partial), family.changes_at(&partial));
        let piece = Piece { value: Arc::new(partial), superseded, made_at: self.now, changes_at };
        self.partials.put(key, piece.clone(), bytes);
        Ok(piece)
    }

    /// Decoding a file is no work for a thread that serves.
    async fn apart<T: Send + 'static>(
        &self,
        work: impl Future<Output = Result<T, QueryError>> + Send + 'static,
    ) -> Result<T, QueryError> {
        let task = AbortOnDropHandle::new(self.runtime.spawn(work));
        task.await.map_err(|_| QueryError::Internal("a report failed".into()))?
    }
}
