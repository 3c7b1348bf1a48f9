//! Negative and huge numbers, and clocks of 1899: answered, kept, and never shown as times or durations that nobody
//! can have meant.

use serde_json::{Value, json};
use trunklog_tests::Server;

const NUMBERS: [&str; 9] = [
    "-1",
    "-9223372036854775808",
    "9223372036854775807",
    "99999999999999999999999999",
    "1e30",
    "-1e308",
    "NaN",
    "0x10",
    "12.5",
];

/// No duration is negative, and no time lies outside the years that can be written.
async fn expect_sane(server: &Server, query: &str) {
    for call in server.sql(query, "SELECT * FROM calls").await.objects() {
        for column in ["duration_ms", "ring_ms", "talk_ms", "hold_ms", "ivr_ms", "queue_ms"] {
            let value = &call[column];
            assert!(value.is_null() || value.as_i64().is_some_and(|value| value >= 0), "{column} is {value}: {call:?}");
        }
        for column in ["started_at", "ringing_at", "answered_at", "ended_at"] {
            let value = call[column].as_str().unwrap_or("2000-01-01T00:00:00.000000Z");
            assert_eq!(value.len(), 27, "{column} is {value}");
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn negative_and_huge_numbers_do_no_harm() {
    let server = Server::start();
    let (key, query) = (server.key("acme", &["ingest:*"]), server.key("acme", &["query"]));
    let mut sent = 0;
    for (index, number) in NUMBERS.iter().enumerate() {
        let forms = [
            ("/in/placetel", format!("event=HungUp&from=1&to=2&call_id=n{index}&type=accepted&duration={number}")),
            (
                "/in/planfix",
                format!(
                    "cmd=event&type=in&event=COMPLETED&phone=1&ext=2&callid=n{index}&status=Success&is_recorded=0&duration={number}"
                ),
            ),
            (
                "/in/kazoo/hook",
                format!(
                    "hook_event=channel_destroy&call_id=n{index}&hangup_cause=NORMAL_CLEARING&timestamp=63934542245&duration_seconds={number}&ringing_seconds={number}&billing_seconds={number}"
                ),
            ),
            ("/in/kazoo/hook", format!("hook_event=channel_create&call_id=t{index}&timestamp={number}")),
            (
                "/in/voispeed/event",
                format!(
                    "event_type=1&event=10&event_name=call_terminated&call_id=n{index}&outcome={number}&datetime=2025-01-10+09:00:00"
                ),
            ),
        ];
        for (path, form) in forms {
            let answer = server.post_form(path, &key, &form).await;
            let may_be = if path.contains("planfix") || path.contains("voispeed") { vec![200, 400] } else { vec![200] };
            assert!(may_be.contains(&answer.status), "{path} {form}: {} {}", answer.status, answer.text());
            assert!(answer.offset().is_some(), "{path} {form} was not stored");
            sent += 1;
        }
        let row = format!(
            "<result><outcome>0</outcome><call><id>r{index}</id><start_time>2025-01-10 09:15:00</start_time><duration>{number}</duration><outcome>{number}</outcome><talk_time>{number}</talk_time><ring_time>{number}</ring_time></call></result>"
        );
        let counts = server.post("/in/voispeed/report", &key, "text/xml", row.as_bytes()).await.expect(200).json();
        assert_eq!(counts["accepted"].as_i64().unwrap() + counts["quarantined"].as_i64().unwrap(), 1, "{counts}");
        sent += 1;
    }
    let hook = br#"{"hook_event":"channel_destroy","call_id":"json","timestamp":-1e300,"duration_seconds":1e300,"billing_seconds":-5,"hangup_cause":"NORMAL_CLEARING"}"#;
    server.post("/in/kazoo/hook", &key, "application/json", hook).await.expect(200);
    assert_eq!(server.sql(&query, "SELECT count(*) FROM events").await.number(), sent + 1);
    expect_sane(&server, &query).await;
    server.flush().await;
    expect_sane(&server, &query).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_clock_of_1899_means_no_time() {
    let server = Server::start();
    let (key, query) = (server.key("acme", &["ingest:*"]), server.key("acme", &["query"]));
    let event = "event_type=2&event=8&event_name=incoming_call&ext=35&number=0212345678&usercallid=old&datetime=1899-12-30+00:00:00";
    server.get(&format!("/in/voispeed/event?{event}"), &key).await.expect(200);
    let report = "<result><outcome>0</outcome><call><id>1</id><callid>old-report</callid><start_time>1899-12-30 00:00:00</start_time><answer_time>1899-12-30 00:00:00</answer_time><duration>20</duration><outcome>5</outcome><direction>0</direction><my_number>35</my_number><remote_number>0212345678</remote_number><local_id>9</local_id></call></result>";
    server.post("/in/voispeed/report", &key, "text/xml", report.as_bytes()).await.expect(200);
    // 1899-12-30 in gregorian seconds: 62167219200 − 2209161600.
    let hook = "hook_event=channel_create&call_id=old-hook&timestamp=59958057600&call_direction=inbound";
    server.post_form("/in/kazoo/hook", &key, hook).await.expect(200);
    let form = "event=IncomingCall&from=1&to=2&call_id=old-bulk";
    let line = json!({"specversion": "1.0", "id": "old", "source": "placetel", "type": "placetel.IncomingCall",
        "time": "1899-12-30T00:00:00Z", "datacontenttype": "application/x-www-form-urlencoded", "data": form});
    server.post("/in/events", &key, "application/x-ndjson", format!("{line}\n").as_bytes()).await.expect(200);
    let check = async || {
        let sql = "SELECT started_at, answered_at, clock FROM calls WHERE call_key = $1";
        let call = server.sql_with(&query, sql, json!(["old"])).await.only();
        assert!(call["started_at"].as_str().unwrap() > "2025", "{call:?}");
        assert_eq!(call["clock"], "receipt", "{call:?}");
        let report = server.sql_with(&query, sql, json!(["old-report"])).await.only();
        assert_eq!(report["answered_at"], Value::Null, "{report:?}");
        assert!(report["started_at"].is_null() || report["started_at"].as_str().unwrap() > "2025", "{report:?}");
        assert_eq!(server.sql(&query, "SELECT count(*) FROM events").await.number(), 4);
        expect_sane(&server, &query).await;
    };
    check().await;
    server.flush().await;
    check().await;
}
