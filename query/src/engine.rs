//! The query engine: limits, the shared environment, and snapshots for one principal.

use std::sync::Arc;
use std::time::Duration;

use arrow::array::{AsArray, RecordBatch};
use arrow::datatypes::Int64Type;
use datafusion::common::ScalarValue;
use datafusion::execution::session_state::SessionState;
use tokio::runtime::Handle;
use tokio_util::task::AbortOnDropHandle;
use trunklog_storage::event::{self, Micros, Offset};
use trunklog_storage::partitions::{Partitions, Snapshot};
use trunklog_storage::position::{MOST_PARTITIONS, Position};

use crate::error::{Limit, QueryError};
use crate::guard::{Environment, Gate};
use crate::moment::{AsOf, Moment};
use crate::pins::Pins;
use crate::reports::{self, Answer, Partials, Polled, Request, Served};
use crate::session::{Session, template};
use crate::workers::Workers;

/// How long an offset is waited for that this node has not reached.
pub(crate) const PATIENCE: Duration = Duration::from_secs(5);

/// Whose rows may be read. One value decides for all protocols.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Access {
    tenant: Option<Arc<str>>,
}

impl Access {
    /// The rows of one tenant.
    pub fn tenant(name: &str) -> Access {
        Access { tenant: Some(name.into()) }
    }

    /// Everything; for administrators and the archive's own questions.
    pub fn all() -> Access {
        Access { tenant: None }
    }

    /// The tenant, or `None` for all of them.
    pub fn only_tenant(&self) -> Option<&Arc<str>> {
        self.tenant.as_ref()
    }
}

/// What one query, and all of them together, may take.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct QueryLimits {
    /// Rows of one answer.
    pub rows: u64,
    /// Seconds for one answer, from when it has a place.
    pub seconds: u64,
    /// Bytes for all queries; one may take half of them.
    pub memory_bytes: usize,
    /// Queries that run at the same time; one tenant may hold half of the places.
    pub concurrent: usize,
    /// Queries that may wait for a place, half of them for one tenant.
    pub queued: usize,
}

impl Default for QueryLimits {
    fn default() -> QueryLimits {
        QueryLimits { rows: 1_000_000, seconds: 60, memory_bytes: 2 << 30, concurrent: 4, queued: 64 }
    }
}

/// What all sessions share.
pub(crate) struct Shared {
    pub archive: Partitions,
    pub limits: QueryLimits,
    pub workers: Workers,
    pub template: Arc<SessionState>,
    pub environment: Environment,
    pub gate: Gate,
    /// Reports have places of their own: who polls must not wait for somebody's heavy query.
    pub reports_gate: Gate,
    pub pins: Pins,
    pub polled: Polled,
    pub partials: Arc<Partials>,
}

/// Answers queries over one archive.
pub struct QueryEngine {
    shared: Arc<Shared>,
}

impl QueryEngine {
    /// An engine over this archive whose queries run on `workers`.
    pub fn new(archive: Partitions, limits: QueryLimits, workers: Workers) -> QueryEngine {
        let environment = Environment::new(limits.memory_bytes);
        if let Some(bucket) = archive.bucket() {
            environment.runtime().register_object_store(bucket.root(), bucket.whole());
        }
        let template = Arc::new(template(environment.runtime()));
        let gate = Gate::new(limits.concurrent, limits.queued);
        let reports_gate = Gate::new(limits.concurrent, limits.queued);
        let shared = Shared {
            archive,
            limits,
            workers,
            template,
            environment,
            gate,
            reports_gate,
            pins: Pins::default(),
            polled: Polled::default(),
            partials: Arc::default(),
        };
        QueryEngine { shared: Arc::new(shared) }
    }

    /// The archive that is read.
    pub fn archive(&self) -> &Partitions {
        &self.shared.archive
    }

    /// The limits in force.
    pub fn limits(&self) -> &QueryLimits {
        &self.shared.limits
    }

    /// Where what begins now runs.
    pub fn runtime(&self) -> &Handle {
        self.shared.workers.handle()
    }

    /// Waits until this offset is visible.
    pub async fn wait_for(&self, offset: Position, timeout: Duration) -> Result<(), QueryError> {
        let reached = self.shared.archive.wait_for(offset, timeout).await;
        if reached { Ok(()) } else { Err(QueryError::NotYet(offset.to_string())) }
    }

    /// Takes a snapshot and opens a session on it; everything that the session runs sees the same rows.
    pub async fn session(&self, access: Access, moment: Moment) -> Result<Session, QueryError> {
        let snapshot = match moment {
            Moment::Now => self.snapshot().await?,
            Moment::Position(position) => self.snapshot_as_of(position).await?,
            Moment::Time(time) => self.snapshot_at(time).await?,
        };
        Ok(self.session_on(access, snapshot))
    }

    /// A session on a snapshot that was taken before.
    pub fn session_on(&self, access: Access, snapshot: Snapshot) -> Session {
        Session::new(Arc::clone(&self.shared), access, snapshot)
    }

    /// Runs one query over everything that was acknowledged before the call.
    pub async fn collect(&self, access: &Access, sql: &str) -> Result<(Vec<RecordBatch>, AsOf), QueryError> {
        let session = self.session(access.clone(), Moment::Now).await?;
        let collected = session.collect(sql, Vec::new()).await?;
        Ok((collected.batches, session.as_of()))
    }

    /// Keeps this session's snapshot for a while, so that [`QueryEngine::resume`] finds it.
    pub fn pin(&self, session: &Session) {
        self.shared.pins.keep(session.as_of(), session.snapshot());
    }

    /// A session on exactly what an earlier answer was read at.
    pub async fn resume(&self, access: Access, as_of: AsOf) -> Result<Session, QueryError> {
        if let Some(snapshot) = self.shared.pins.find(as_of) {
            return Ok(self.session_on(access, snapshot));
        }
        let gone = || QueryError::Gone("the snapshot of this cursor".to_owned());
        if as_of.offset.is_empty() {
            return Err(gone());
        }
        if self.shared.archive.is_shared() {
            // Another node has answered before, and this one may be behind it.
            self.wait_for(as_of.offset, PATIENCE).await?;
        }
        let mut snapshot = match self.snapshot_as_of(as_of.offset).await {
            Err(QueryError::Parameter { .. }) => return Err(gone()),
            outcome => outcome?,
        };
        snapshot.time = as_of.time;
        Ok(self.session_on(access, snapshot))
    }

    /// The questions to reports that were asked lately.
    pub(crate) fn polled(&self) -> &Polled {
        &self.shared.polled
    }

    /// Computes a report, in a place that it waits for.
    pub(crate) async fn compute(
        &self,
        access: &Access,
        request: &Request,
        moment: Moment,
    ) -> Result<(Answer, AsOf), QueryError> {
        let permit = self.shared.reports_gate.enter(access.only_tenant()).await?;
        let session = self.session(access.clone(), moment).await?;
        let (as_of, seconds, request) = (session.as_of(), self.shared.limits.seconds, request.clone());
        let work = async move {
            let _permit = permit;
            session.compute(&request).await
        };
        let task = AbortOnDropHandle::new(self.runtime().spawn(work));
        let failed = |_| QueryError::Internal("a report failed".into());
        match tokio::time::timeout(Duration::from_secs(seconds), task).await {
            Ok(answer) => Ok((answer.map_err(failed)??, as_of)),
            Err(_) => Err(QueryError::Limit { limit: Limit::Time, detail: format!("at most {seconds} seconds") }),
        }
    }

    /// Computes a report at an earlier moment.
    pub(crate) async fn report_once(
        &self,
        access: &Access,
        request: &Request,
        moment: Moment,
    ) -> Result<Served, QueryError> {
        let (answer, as_of) = self.compute(access, request, moment).await?;
        reports::once(request, &answer, as_of)
    }

    async fn snapshot(&self) -> Result<Snapshot, QueryError> {
        // Under a lock that ingest needs, so better not on a thread of lower priority.
        if let Some(snapshot) = self.shared.archive.snapshot_at_once()? {
            return Ok(snapshot);
        }
        let archive = self.shared.archive.clone();
        self.apart(async move { archive.snapshot().await }).await
    }

    /// The snapshot as it was at this offset.
    pub(crate) async fn snapshot_as_of(&self, position: Position) -> Result<Snapshot, QueryError> {
        if !position.is_reached_by(&self.shared.archive.visible()) {
            return Err(QueryError::parameter("as_of", format!("offset {position} has not been reached")));
        }
        let archive = self.shared.archive.clone();
        self.apart(async move { archive.snapshot_as_of(position).await }).await
    }

    /// The snapshot before the first message that was received later than this time.
    async fn snapshot_at(&self, time: Micros) -> Result<Snapshot, QueryError> {
        const LATER: &str = r#"SELECT "partition", min(earliest) FROM (
            SELECT "partition", min("offset") AS earliest FROM events WHERE received_at > $1 GROUP BY "partition"
            UNION ALL
            SELECT "partition", min("offset") AS earliest FROM system_events WHERE received_at > $1 GROUP BY "partition"
            ) GROUP BY "partition""#;
        if time > event::now() {
            return Err(QueryError::parameter("as_of", "the time lies in the future"));
        }
        let now = self.session_on(Access::all(), self.snapshot().await?);
        let bound = ScalarValue::TimestampMicrosecond(Some(time), Some("UTC".into()));
        let collected = now.collect(LATER, vec![bound]).await?;
        let mut position = now.snapshot().position();
        for (partition, later) in collected.batches.iter().flat_map(pairs) {
            // Without one before it nothing had been received.
            position = position.with(partition, later.0.checked_sub(1).map(Offset));
        }
        let mut snapshot = self.snapshot_as_of(position).await?;
        snapshot.time = time;
        Ok(snapshot)
    }

    /// Snapshots may have to fold, which must not take the threads that serve ingest.
    async fn apart<T: Send + 'static>(
        &self,
        work: impl Future<Output = Result<T, trunklog_storage::error::Error>> + Send + 'static,
    ) -> Result<T, QueryError> {
        let outcome = self.runtime().spawn(work).await;
        Ok(outcome.map_err(|error| QueryError::Internal(error.to_string()))??)
    }
}

/// The rows of two whole numbers: a partition, and an offset.
fn pairs(batch: &RecordBatch) -> Vec<(usize, Offset)> {
    let column = |at: usize| batch.column(at).as_primitive_opt::<Int64Type>();
    let (Some(partitions), Some(offsets)) = (column(0), column(1)) else { return Vec::new() };
    let pairs = partitions.iter().zip(offsets).filter_map(|(partition, offset)| {
        let partition = usize::try_from(partition?).ok().filter(|at| *at < MOST_PARTITIONS)?;
        Some((partition, Offset(offset?.cast_unsigned())))
    });
    pairs.collect()
}
