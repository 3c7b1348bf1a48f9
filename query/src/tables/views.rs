//! The views over `calls`: `legs` and `queue_visits`.

use std::sync::Arc;

use datafusion::catalog::TableProvider;
use datafusion::datasource::ViewTable;
use datafusion::error::Result;
use datafusion::execution::session_state::SessionState;

use super::ArchiveSchema;
use crate::session::with_schema;

const LEGS: &str = "
    SELECT tenant, source, call_id, call_key,
        leg['leg_key'] AS leg_key, leg['endpoint'] AS endpoint, leg['endpoint_name'] AS endpoint_name,
        leg['direction'] AS direction, leg['started_at'] AS started_at, leg['ringing_at'] AS ringing_at,
        leg['answered_at'] AS answered_at, leg['ended_at'] AS ended_at, leg['talk_ms'] AS talk_ms,
        leg['disposition'] AS disposition, leg['disposition_raw'] AS disposition_raw, leg['cause_q850'] AS cause_q850
    FROM (SELECT tenant, source, call_id, call_key, unnest(legs) AS leg FROM calls)";

/// A visit ends when the call is answered or over. A wait that would be negative is not known.
const QUEUE_VISITS: &str = "
    SELECT tenant, source, call_id, queue, entered_at, left_at,
        coalesce(queue_ms, CASE WHEN left_at >= entered_at
            THEN (CAST(left_at AS BIGINT) - CAST(entered_at AS BIGINT)) / 1000 END) AS wait_ms,
        CASE
            WHEN left_at IS NULL THEN NULL
            WHEN disposition IN ('answered', 'answered_elsewhere') THEN 'answered'
            WHEN disposition = 'voicemail' THEN 'voicemail'
            WHEN disposition IN ('blocked', 'not_allowed') THEN 'blocked'
            WHEN lower(disposition_raw) LIKE '%timeout%' THEN 'timeout'
            WHEN disposition IN ('canceled', 'missed', 'no_answer') THEN 'abandoned'
            WHEN disposition = 'unknown' THEN NULL
            ELSE 'overflow'
        END AS outcome,
        endpoint
    FROM (SELECT tenant, source, call_id, queue, started_at AS entered_at,
            coalesce(answered_at, ended_at) AS left_at, queue_ms, disposition, disposition_raw, endpoint
        FROM calls WHERE queue IS NOT NULL)";

/// Names and definitions.
pub(super) const VIEWS: [(&str, &str); 2] = [("legs", LEGS), ("queue_visits", QUEUE_VISITS)];

/// Plans the definition over this schema. The optimizer inlines it, so filters reach the scan of `calls`.
pub(super) async fn view(template: &SessionState, schema: ArchiveSchema, sql: &str) -> Result<Arc<dyn TableProvider>> {
    let state = with_schema(template, schema)?;
    let plan = state.create_logical_plan(sql).await?;
    Ok(Arc::new(ViewTable::new(plan, None)))
}
