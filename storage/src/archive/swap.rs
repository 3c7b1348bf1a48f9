//! What a swap reads and writes: the rows of some days, with the parts of their calls merged into them. It holds nothing
//! that a fold needs, so folds go on meanwhile.

use std::collections::HashSet;
use std::marker::PhantomData;
use std::sync::Arc;

use arrow::array::{Array, AsArray, BooleanArray, RecordBatch};
use arrow::compute::filter_record_batch;
use datafusion::catalog::TableProvider;
use datafusion::catalog::streaming::StreamingTable;
use datafusion::error::DataFusionError;
use datafusion::execution::{SendableRecordBatchStream, TaskContext};
use datafusion::physical_plan::stream::{RecordBatchReceiverStream, RecordBatchStreamAdapter};
use datafusion::physical_plan::streaming::PartitionStream;
use datafusion::prelude::{SessionContext, ident, lit};
use futures::{StreamExt, TryStreamExt};
use parking_lot::Mutex;
use tokio::sync::mpsc;
use tokio_util::task::AbortOnDropHandle;

use super::fold::{BATCH_ROWS, merge};
use super::projection::{Projected, home_key};
use crate::error::Error;
use crate::event::Id;
use crate::fact::Decoder;
use crate::lake::{self, File, Table};
use crate::rows::{self, FINAL, Keyed, PART};

/// Calls whose states are decoded and merged at once.
const MERGED_AT_ONCE: usize = 20_000;
/// Batches that are made ahead of those who take them.
const AHEAD: usize = 2;

/// The rows that one swap exchanges.
pub(super) struct Swap<S> {
    table: Arc<Table>,
    session: SessionContext,
    decoder: Arc<dyn Decoder>,
    /// The files that are replaced.
    pub paths: HashSet<String>,
    /// The final files that have rows of calls with parts, if there are any.
    whole: Option<Arc<dyn TableProvider>>,
    parts: Option<Arc<dyn TableProvider>>,
    /// Ids and home days of those that have parts; an id may come more than once.
    pub with_parts: Vec<(Id, i32)>,
    /// The same ids, each once.
    pub ids: HashSet<Id>,
    states: PhantomData<S>,
}

impl<S: Projected> Swap<S> {
    /// What a swap of these days replaces.
    ///
    /// # Errors
    /// If the table cannot be read.
    pub async fn of(
        table: Arc<Table>,
        session: SessionContext,
        decoder: Arc<dyn Decoder>,
        days: &[String],
    ) -> Result<Swap<S>, Error> {
        let files = table.files().await?.into_iter().filter(|file| days.contains(&file.day));
        let (parts, whole): (Vec<File>, Vec<File>) = files.partition(|file| file.tier == PART);
        let mut paths: HashSet<String> = parts.into_iter().map(|file| file.path).collect();
        let parts = if paths.is_empty() { None } else { Some(table.provider_of(paths.iter().cloned()).await?) };
        let mut with_parts = Vec::new();
        if let Some(parts) = &parts {
            let mut stream = std::pin::pin!(lake::read::homes::<S>(&session, parts, None).await?);
            while let Some(batch) = stream.try_next().await? {
                with_parts.extend(batch);
            }
        }
        let ids: HashSet<Id> = with_parts.iter().map(|(id, _)| id.clone()).collect();
        let mut touched = Vec::new();
        for file in whole {
            let rows = table.provider_of([file.path.clone()]).await?;
            let mut stream = std::pin::pin!(lake::read::homes::<S>(&session, &rows, None).await?);
            while let Some(batch) = stream.try_next().await? {
                if batch.iter().any(|(id, _)| ids.contains(id)) {
                    touched.push(file.path);
                    break;
                }
            }
        }
        let whole = if touched.is_empty() { None } else { Some(table.provider_of(touched.clone()).await?) };
        paths.extend(touched);
        Ok(Swap { table, session, decoder, paths, whole, parts, with_parts, ids, states: PhantomData })
    }

    /// Writes what replaces them. Reading and merging, sorting, and writing each have a thread if there is one.
    ///
    /// # Errors
    /// If the table cannot be read or files not be written.
    pub async fn write(self: &Arc<Self>) -> Result<Vec<lake::Add>, Error> {
        let schema = self.table.stored_schema()?;
        let (sender, receiver) = mpsc::channel(AHEAD);
        let source = Once { schema: Arc::clone(&schema), receiver: Mutex::new(Some(receiver)) };
        let rows = StreamingTable::try_new(schema, vec![Arc::new(source)])?;
        let session = lake::in_one_partition(&self.session, None);
        let order = std::iter::once(&"day").chain(S::ORDER).map(|column| ident(*column).sort(true, false)).collect();
        let sorted = self.table.as_stored(session.read_table(Arc::new(rows))?)?.sort(order)?;
        let swap = Arc::clone(self);
        let produced = AbortOnDropHandle::new(tokio::spawn(async move { swap.produce(sender).await }));
        let written = self.table.write(ahead(sorted.execute_stream().await?)).await;
        produced.await.map_err(|broken| Error::Corrupt(format!("merging rows broke off: {broken}")))??;
        written
    }

    /// Sends all rows, in any order.
    async fn produce(&self, sender: mpsc::Sender<RecordBatch>) -> Result<(), Error> {
        if let Some(whole) = &self.whole {
            let session = lake::in_one_partition(&self.session, None);
            let whole = self.table.as_stored(session.read_table(Arc::clone(whole))?)?;
            self.pass_through(whole.execute_stream().await?, &sender).await?;
        }
        self.send_merged(&sender).await
    }

    /// Sends the rows that have no parts, as they are.
    async fn pass_through(
        &self,
        mut rows: SendableRecordBatchStream,
        sender: &mpsc::Sender<RecordBatch>,
    ) -> Result<(), Error> {
        while let Some(batch) = rows.try_next().await? {
            let column = batch.column_by_name(S::ID).and_then(|column| column.as_string_opt::<i32>());
            let column = column.ok_or_else(|| Error::Corrupt(format!("column `{}` is missing or not text", S::ID)))?;
            let stays: BooleanArray =
                (0..column.len()).map(|row| Some(!self.ids.contains(column.value(row)))).collect();
            let kept = if stays.true_count() == stays.len() { batch } else { filter_record_batch(&batch, &stays)? };
            // Nobody takes them any more when writing has failed; that error is the one to tell.
            if kept.num_rows() > 0 && sender.send(kept).await.is_err() {
                return Ok(());
            }
        }
        Ok(())
    }

    /// Sends the merged rows of those with parts, so many at once that memory stays bounded.
    async fn send_merged(&self, sender: &mpsc::Sender<RecordBatch>) -> Result<(), Error> {
        let rounds = self.ids.len().div_ceil(MERGED_AT_ONCE) as u128;
        for round in 0..rounds {
            let is_wanted = |id: &str| home_key(id) % rounds == round && self.ids.contains(id);
            let mut stored: Vec<Keyed<S>> = Vec::new();
            // Final rows first: they have the keys of the first message.
            for rows in [&self.whole, &self.parts].into_iter().flatten() {
                stored.extend(lake::read::states_of(&self.session, rows, lit(true), is_wanted).await?);
            }
            for chunk in merge(stored).chunks(BATCH_ROWS) {
                let rows = rows::stored(chunk, FINAL, self.decoder.as_ref())?;
                if sender.send(rows).await.is_err() {
                    return Ok(());
                }
            }
        }
        Ok(())
    }
}

/// The same rows, made on another thread than they are taken on.
fn ahead(mut rows: SendableRecordBatchStream) -> SendableRecordBatchStream {
    let mut builder = RecordBatchReceiverStream::builder(rows.schema(), AHEAD);
    let sender = builder.tx();
    builder.spawn(async move {
        while let Some(batch) = rows.next().await {
            if sender.send(batch).await.is_err() {
                break;
            }
        }
        Ok(())
    });
    builder.build()
}

/// Rows that are produced while they are sorted; read once.
struct Once {
    schema: arrow::datatypes::SchemaRef,
    receiver: Mutex<Option<mpsc::Receiver<RecordBatch>>>,
}

impl std::fmt::Debug for Once {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.debug_struct("Once").finish_non_exhaustive()
    }
}

impl PartitionStream for Once {
    fn schema(&self) -> &arrow::datatypes::SchemaRef {
        &self.schema
    }

    fn execute(&self, _: Arc<TaskContext>) -> SendableRecordBatchStream {
        let schema = Arc::clone(&self.schema);
        let taken = self.receiver.lock().take();
        let rows = futures::stream::unfold(taken, |receiver| async move {
            let mut receiver = receiver?;
            let batch = receiver.recv().await?;
            Some((batch, Some(receiver)))
        });
        let conform = {
            let schema = Arc::clone(&schema);
            move |batch: RecordBatch| {
                RecordBatch::try_new(Arc::clone(&schema), batch.columns().to_vec()).map_err(DataFusionError::from)
            }
        };
        Box::pin(RecordBatchStreamAdapter::new(schema, rows.map(conform)))
    }
}
