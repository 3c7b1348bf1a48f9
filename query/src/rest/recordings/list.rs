//! `GET /v1/recordings` and `GET /v1/recordings/{recording_id}`: what is known about recordings, without their audio.

use axum::extract::{Request, State};
use axum::response::Response;
use datafusion::common::ScalarValue;
use trunklog_storage::schema;

use crate::format::json::write_members;
use crate::rest::QueryState;
use crate::rest::call::json_body;
use crate::rest::listing::Listing;
use crate::rest::parameters::{Common, Parameters};
use crate::rest::problem::Problem;
use crate::row::Row;

const RECORDING: &str = "SELECT * FROM recordings WHERE recording_id = $1";

pub(super) async fn list(State(state): State<QueryState>, request: Request) -> Result<Response, Problem> {
    listing().answer(&state, request).await
}

/// The list of recordings. A recording may have no start, but it has always been received.
fn listing() -> Listing {
    Listing {
        table: "recordings",
        id_column: "recording_id",
        time_column: "received_at",
        default_sort: "-received_at",
        number_columns: &["from_number", "to_number"],
        columns: schema::recordings(),
    }
}

/// Every column of one recording. One of another tenant is not there.
pub(super) async fn show(state: &QueryState, id: &str, request: Request) -> Result<Response, Problem> {
    let (parts, _) = request.into_parts();
    let mut parameters = Parameters::of(&parts.uri)?;
    let common = Common::take(state, &parts, &mut parameters)?;
    parameters.nothing_left()?;
    common.wait(state).await?;
    let session = state.engine.session(common.access, common.moment).await?;
    let bound = vec![ScalarValue::Utf8(Some(id.to_owned()))];
    let batches = session.collect(RECORDING, bound).await?.batches;
    let row = Row::all(&batches).next().ok_or_else(|| Problem::not_found("recording"))?;
    let mut out = b"{".to_vec();
    write_members(&mut out, row.batch, row.at);
    out.extend_from_slice(format!(",\"as_of\":{}}}", session.as_of().to_json()).as_bytes());
    Ok(json_body(out))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::QueryError;

    fn sql(query: &str) -> Result<String, QueryError> {
        let uri = format!("/v1/recordings?{query}").parse().expect("a URI");
        let question = listing().question(Parameters::of(&uri).expect("parameters"), 5)?;
        Ok(question.sql())
    }

    #[test]
    fn goes_by_when_recordings_were_received() {
        let expected = "SELECT * FROM recordings WHERE \"received_at\" >= $1 AND \"received_at\" < $2 \
            ORDER BY \"received_at\" DESC NULLS LAST, recording_id ASC LIMIT 6";
        assert_eq!(sql("from=2026-01-01T00:00:00Z&until=2026-02-01T00:00:00Z").expect("a question"), expected);
        let expected = "SELECT * FROM recordings WHERE (from_number = $1 OR to_number = $1) AND \"link\" = $2 \
            ORDER BY \"duration_ms\" ASC NULLS LAST, recording_id ASC LIMIT 6";
        assert_eq!(sql("number=4711&link=none&sort=duration_ms").expect("a question"), expected);
    }

    #[test]
    fn filters_by_every_column_and_no_other() {
        for query in ["status=damaged", "bytes=44", "link_confidence=0.5", "sort=-link_confidence", "call_id=abc"] {
            assert!(sql(query).is_ok(), "{query}");
        }
        for (query, parameter) in [("from_e164=1", "from_e164"), ("bytes=many", "bytes"), ("sort=legs", "sort")] {
            match sql(query) {
                Err(QueryError::Parameter { parameter: at_fault, .. }) => assert_eq!(at_fault, parameter),
                other => panic!("{query}: {other:?}"),
            }
        }
    }
}
