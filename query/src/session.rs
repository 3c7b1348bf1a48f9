//! One principal's session on one snapshot: plans a query and runs it on the query runtime.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use arrow::array::RecordBatch;
use arrow::datatypes::SchemaRef;
use datafusion::catalog::{CatalogProvider, CatalogProviderList, MemoryCatalogProvider, MemoryCatalogProviderList};
use datafusion::common::ScalarValue;
use datafusion::common::format::ExplainFormat;
use datafusion::execution::runtime_env::RuntimeEnv;
use datafusion::execution::session_state::{SessionState, SessionStateBuilder};
use datafusion::execution::{SendableRecordBatchStream, TaskContext};
use datafusion::physical_plan::execute_stream;
use datafusion::prelude::SessionConfig;
use futures::StreamExt;
use tokio::sync::mpsc;
use tokio::time::Instant;
use tokio_util::task::AbortOnDropHandle;
use trunklog_storage::partitions::Snapshot;

use crate::engine::{Access, Shared};
use crate::error::{Limit, QueryError};
use crate::guard::{self, Permit};
use crate::moment::AsOf;
use crate::reports::{self, Answer, Collector, Request};
use crate::tables::{ArchiveSchema, register_reports};

/// The only catalogue, and its only schema.
pub(crate) const CATALOG: &str = "trunklog";
pub(crate) const SCHEMA: &str = "public";

/// Batches that may wait for the reader.
const BATCHES_AHEAD: usize = 4;

/// The state that all sessions start from: functions and rules, no tables, no way to any file.
pub(crate) fn template(runtime: &Arc<RuntimeEnv>) -> SessionState {
    let cores = std::thread::available_parallelism().map_or(2, usize::from);
    let mut config = SessionConfig::new()
        .with_default_catalog_and_schema(CATALOG, SCHEMA)
        .with_create_default_catalog_and_schema(false)
        .with_information_schema(true)
        .with_target_partitions(cores.clamp(1, 8));
    let options = config.options_mut();
    options.sql_parser.map_string_types_to_utf8view = false;
    options.execution.parquet.schema_force_view_types = false;
    options.execution.time_zone = Some("UTC".to_owned());
    // A physical plan shows files and counts of all tenants.
    options.explain.logical_plan_only = true;
    options.explain.format = ExplainFormat::Indent;
    SessionStateBuilder::new()
        .with_default_features()
        .with_file_formats(Vec::new())
        .with_table_factories(HashMap::new())
        .with_scalar_functions(guard::scalar_functions())
        .with_config(config)
        .with_runtime_env(Arc::clone(runtime))
        .build()
}

/// A copy of the template with this schema as the only one.
pub(crate) fn with_schema(template: &SessionState, schema: ArchiveSchema) -> datafusion::error::Result<SessionState> {
    let mut state = template.clone();
    let catalog = MemoryCatalogProvider::new();
    catalog.register_schema(SCHEMA, Arc::new(schema))?;
    let list = MemoryCatalogProviderList::new();
    list.register_catalog(CATALOG.to_owned(), Arc::new(catalog));
    state.register_catalog_list(Arc::new(list));
    state.mark_start_execution();
    Ok(state)
}

/// A principal's view of one snapshot. Cheap to clone.
#[derive(Clone)]
pub struct Session {
    shared: Arc<Shared>,
    access: Access,
    snapshot: Snapshot,
}

/// A whole answer in memory.
#[derive(Clone, Debug)]
pub struct Collected {
    /// Its columns.
    pub schema: SchemaRef,
    /// Its rows.
    pub batches: Vec<RecordBatch>,
}

impl Session {
    pub(crate) fn new(shared: Arc<Shared>, access: Access, snapshot: Snapshot) -> Session {
        Session { shared, access, snapshot }
    }

    /// What everything in this session is read at.
    pub fn as_of(&self) -> AsOf {
        AsOf { offset: self.snapshot.position(), time: self.snapshot.time }
    }

    /// The snapshot.
    pub fn snapshot(&self) -> &Snapshot {
        &self.snapshot
    }

    /// Waits for a place, plans the query and starts it. Returns once the columns are known.
    pub async fn start(&self, sql: &str, parameters: Vec<ScalarValue>) -> Result<Running, QueryError> {
        let seconds = self.shared.limits.seconds;
        let permit = self.shared.gate.enter(self.access.only_tenant()).await?;
        let deadline = Instant::now() + Duration::from_secs(seconds);
        let (sender, receiver) = mpsc::channel(BATCHES_AHEAD);
        let work = Work { session: self.clone(), sql: sql.to_owned(), parameters, sender };
        let task = AbortOnDropHandle::new(self.shared.workers.handle().spawn(work.run(permit)));
        let mut receiver = Receiver { receiver, deadline, seconds, _task: task };
        match receiver.next().await? {
            Item::Schema(schema) => Ok(Running { schema, receiver, ended: false }),
            Item::Batch(_) | Item::End => Err(QueryError::Internal("the columns were not announced".into())),
        }
    }

    /// Runs a query to its end.
    pub async fn collect(&self, sql: &str, parameters: Vec<ScalarValue>) -> Result<Collected, QueryError> {
        let mut running = self.start(sql, parameters).await?;
        let schema = running.schema();
        let mut batches = Vec::new();
        while let Some(batch) = running.next().await? {
            batches.push(batch);
        }
        Ok(Collected { schema, batches })
    }

    /// Computes a report.
    pub(crate) async fn compute(&self, request: &Request) -> Result<Answer, QueryError> {
        let collector = Collector {
            snapshot: self.snapshot.clone(),
            tenant: self.access.only_tenant().cloned(),
            partials: Arc::clone(&self.shared.partials),
            runtime: self.shared.workers.handle().clone(),
            now: self.snapshot.time,
        };
        reports::compute(request, collector, self.shared.archive.decoder()).await
    }

    /// The rows of a report.
    pub(crate) async fn report(&self, request: &Request) -> Result<RecordBatch, QueryError> {
        self.compute(request).await?.table.batch()
    }

    fn state(&self) -> Result<SessionState, QueryError> {
        let schema =
            ArchiveSchema::new(&self.shared.template, &self.access, &self.snapshot, self.shared.archive.decoder());
        let mut state = with_schema(&self.shared.template, schema)?;
        register_reports(&mut state, self);
        if self.access.only_tenant().is_none() {
            state.config_mut().options_mut().explain.logical_plan_only = false;
        }
        Ok(state)
    }
}

/// What the query task sends.
enum Item {
    Schema(SchemaRef),
    Batch(RecordBatch),
    End,
}

/// A query, as it runs on the query runtime.
struct Work {
    session: Session,
    sql: String,
    parameters: Vec<ScalarValue>,
    sender: mpsc::Sender<Result<Item, QueryError>>,
}

impl Work {
    async fn run(self, _permit: Permit) {
        let started = Instant::now();
        let last = self.execute().await.map(|()| Item::End);
        metrics::histogram!("trunklog_query_seconds").record(started.elapsed().as_secs_f64());
        // An error here means that nobody waits for the answer any more.
        let _ = self.sender.send(last).await;
    }

    async fn execute(&self) -> Result<(), QueryError> {
        let mut stream = self.plan().await?;
        let limit = self.session.shared.limits.rows;
        let mut rows = 0;
        let mut sent = self.sender.send(Ok(Item::Schema(stream.schema()))).await;
        while sent.is_ok() {
            let Some(batch) = stream.next().await.transpose()? else { break };
            rows += batch.num_rows() as u64;
            if rows > limit {
                return Err(QueryError::Limit { limit: Limit::Rows, detail: format!("at most {limit} rows") });
            }
            if batch.num_rows() > 0 {
                sent = self.sender.send(Ok(Item::Batch(batch))).await;
            }
        }
        Ok(())
    }

    async fn plan(&self) -> Result<SendableRecordBatchStream, QueryError> {
        let state = self.session.state()?;
        let all_tenants = self.session.access.only_tenant().is_none();
        let plan = guard::plan(&state, &self.sql, &self.parameters, all_tenants).await?;
        let physical = state.create_physical_plan(&plan).await?;
        let runtime = self.session.shared.environment.for_one_query()?;
        let context = TaskContext::from(&state).with_runtime(runtime);
        Ok(execute_stream(physical, Arc::new(context))?)
    }
}

/// The reader's end of a query; dropping it stops the query.
struct Receiver {
    receiver: mpsc::Receiver<Result<Item, QueryError>>,
    deadline: Instant,
    seconds: u64,
    _task: AbortOnDropHandle<()>,
}

impl Receiver {
    async fn next(&mut self) -> Result<Item, QueryError> {
        match tokio::time::timeout_at(self.deadline, self.receiver.recv()).await {
            Ok(Some(item)) => item,
            // The task ended without saying so: it panicked.
            Ok(None) => Err(QueryError::Internal("the query failed".into())),
            Err(_) => {
                let detail = format!("at most {} seconds", self.seconds);
                Err(QueryError::Limit { limit: Limit::Time, detail })
            }
        }
    }
}

/// A query that runs; dropping it stops it.
pub struct Running {
    schema: SchemaRef,
    receiver: Receiver,
    ended: bool,
}

impl Running {
    /// The columns of the answer.
    pub fn schema(&self) -> SchemaRef {
        Arc::clone(&self.schema)
    }

    /// When its time is over.
    pub fn deadline(&self) -> Instant {
        self.receiver.deadline
    }

    /// The next rows, or `None` at the end. After an error there is no answer, not a short one.
    pub async fn next(&mut self) -> Result<Option<RecordBatch>, QueryError> {
        if self.ended {
            return Ok(None);
        }
        match self.receiver.next().await? {
            Item::Batch(batch) => Ok(Some(batch)),
            Item::Schema(_) => Err(QueryError::Internal("the columns were announced twice".into())),
            Item::End => {
                self.ended = true;
                Ok(None)
            }
        }
    }
}
