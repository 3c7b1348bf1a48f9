//! What the archive holds of a tenant, read back with SQL: the truth for everything that is computed naively.

use serde_json::{Map, Value};
use trunklog_tests::Server;

use super::zone::instant;

/// A row of `calls`, as far as reports look at it.
#[derive(Clone, Debug)]
pub struct Call {
    pub source: String,
    pub call_id: String,
    pub direction: String,
    pub from_number: Option<String>,
    pub to_number: Option<String>,
    pub from_e164: Option<String>,
    pub to_e164: Option<String>,
    pub own_number: Option<String>,
    pub endpoint: Option<String>,
    pub queue: Option<String>,
    pub started_at: Option<i64>,
    pub answered_at: Option<i64>,
    pub ended_at: Option<i64>,
    pub ring_ms: Option<i64>,
    pub talk_ms: Option<i64>,
    pub disposition: String,
    pub disposition_raw: Option<String>,
    pub cause_q850: Option<i64>,
    pub state: String,
    pub transfers: i64,
    pub recording_state: String,
}

/// A row of `legs`.
#[derive(Clone, Debug)]
pub struct Leg {
    pub call_id: String,
    pub direction: String,
    pub started_at: Option<i64>,
    pub ringing_at: Option<i64>,
    pub answered_at: Option<i64>,
    pub talk_ms: Option<i64>,
    pub disposition: String,
    pub cause_q850: Option<i64>,
}

/// A row of `queue_visits`.
#[derive(Clone, Debug)]
pub struct Visit {
    pub call_id: String,
    pub queue: String,
    pub entered_at: Option<i64>,
    pub left_at: Option<i64>,
    pub wait_ms: Option<i64>,
    pub outcome: Option<String>,
}

/// A row of `events`.
#[derive(Clone, Debug)]
pub struct Event {
    pub source: String,
    pub received_at: i64,
    pub occurred_at: Option<i64>,
    pub duplicate: bool,
    pub quarantined: bool,
}

/// All of one tenant.
#[derive(Clone, Debug)]
pub struct Rows {
    pub calls: Vec<Call>,
    pub legs: Vec<Leg>,
    pub visits: Vec<Visit>,
    pub events: Vec<Event>,
}

impl Rows {
    pub async fn read(server: &Server, key: &str) -> Rows {
        let calls = server.sql(key, "SELECT * FROM calls").await.objects();
        let legs = server.sql(key, "SELECT * FROM legs").await.objects();
        let visits = server.sql(key, "SELECT * FROM queue_visits").await.objects();
        let events = "SELECT source, received_at, occurred_at, duplicate_of IS NOT NULL AS duplicate, quarantined
                      FROM events";
        let events = server.sql(key, events).await.objects();
        Rows {
            calls: calls.iter().map(call).collect(),
            legs: legs.iter().map(leg).collect(),
            visits: visits.iter().map(visit).collect(),
            events: events.iter().map(event).collect(),
        }
    }

    /// The first and the last instant that anything in the archive has; both lie on something.
    pub fn extent(&self) -> (i64, i64) {
        let calls = self.calls.iter().flat_map(|call| [call.started_at, call.answered_at, call.ended_at]);
        let times: Vec<i64> = calls.flatten().chain(self.events.iter().map(|event| event.received_at)).collect();
        (times.iter().copied().min().unwrap(), times.iter().copied().max().unwrap())
    }
}

type Row = Map<String, Value>;

fn text(row: &Row, column: &str) -> Option<String> {
    row[column].as_str().map(str::to_owned)
}

fn whole(row: &Row, column: &str) -> Option<i64> {
    row[column].as_i64()
}

fn time(row: &Row, column: &str) -> Option<i64> {
    row[column].as_str().map(instant)
}

fn call(row: &Row) -> Call {
    Call {
        source: text(row, "source").unwrap(),
        call_id: text(row, "call_id").unwrap(),
        direction: text(row, "direction").unwrap(),
        from_number: text(row, "from_number"),
        to_number: text(row, "to_number"),
        from_e164: text(row, "from_e164"),
        to_e164: text(row, "to_e164"),
        own_number: text(row, "own_number"),
        endpoint: text(row, "endpoint"),
        queue: text(row, "queue"),
        started_at: time(row, "started_at"),
        answered_at: time(row, "answered_at"),
        ended_at: time(row, "ended_at"),
        ring_ms: whole(row, "ring_ms"),
        talk_ms: whole(row, "talk_ms"),
        disposition: text(row, "disposition").unwrap(),
        disposition_raw: text(row, "disposition_raw"),
        cause_q850: whole(row, "cause_q850"),
        state: text(row, "state").unwrap(),
        transfers: whole(row, "transfers").unwrap(),
        recording_state: text(row, "recording_state").unwrap(),
    }
}

fn leg(row: &Row) -> Leg {
    Leg {
        call_id: text(row, "call_id").unwrap(),
        direction: text(row, "direction").unwrap(),
        started_at: time(row, "started_at"),
        ringing_at: time(row, "ringing_at"),
        answered_at: time(row, "answered_at"),
        talk_ms: whole(row, "talk_ms"),
        disposition: text(row, "disposition").unwrap(),
        cause_q850: whole(row, "cause_q850"),
    }
}

fn visit(row: &Row) -> Visit {
    Visit {
        call_id: text(row, "call_id").unwrap(),
        queue: text(row, "queue").unwrap(),
        entered_at: time(row, "entered_at"),
        left_at: time(row, "left_at"),
        wait_ms: whole(row, "wait_ms"),
        outcome: text(row, "outcome"),
    }
}

fn event(row: &Row) -> Event {
    Event {
        source: text(row, "source").unwrap(),
        received_at: time(row, "received_at").unwrap(),
        occurred_at: time(row, "occurred_at"),
        duplicate: row["duplicate"].as_bool().unwrap(),
        quarantined: row["quarantined"].as_bool().unwrap(),
    }
}
