//! Reports of an archive that is folded all the while, and of what it was.

use std::time::Duration;

use serde_json::json;
use trunklog_tests::reports::Report;
use trunklog_tests::{Answer, Options, Server};

use super::send_call;
use super::zone::{HOUR, now, utc_text};

/// Folds follow each other at once, so that rows are provisional, final and superseded in turn.
const RESTLESS: &str = "[fold]\ninterval = \"100ms\"\n";

/// One Placetel message of a call; gives its offset.
async fn placetel(server: &Server, key: &str, call: usize, event: &str, more: &str) -> String {
    let numbers = "direction=in&from=03012345678&to=03087654321";
    let form = format!("event={event}&call_id=living-{call}&{numbers}&{more}");
    let answer: Answer = server.post_form("/in/placetel", key, &form).await.expect(200);
    answer.header("trunklog-offset").to_owned()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn reports_count_what_sql_counts_while_calls_live_and_tables_are_folded() {
    let server = Server::start_with(Options { config: Some(RESTLESS.to_owned()), ..Options::default() });
    let key = server.key("acme", &["ingest:*", "query"]);
    let (from, until) = (utc_text(now() - HOUR), utc_text(now() + HOUR));
    let sql =
        "SELECT count(*), count(*) FILTER (WHERE disposition = 'answered'), count(*) FILTER (WHERE state = 'open'),
        sum(talk_ms) FILTER (WHERE disposition = 'answered') FROM calls";
    let mut folded = std::collections::HashSet::new();
    for step in 0..120_usize {
        // Each call begins, is accepted ten steps later and ends after twenty; some are heard of once more much later.
        let mut offset = placetel(&server, &key, step, "IncomingCall", "").await;
        if step >= 10 {
            offset = placetel(&server, &key, step - 10, "CallAccepted", "peer=7777aaaaaaa@fpbx.de").await;
        }
        if step >= 20 {
            offset = placetel(&server, &key, step - 20, "HungUp", "type=accepted&duration=7").await;
        }
        if step >= 60 && step % 7 == 0 {
            offset = placetel(&server, &key, step - 60, "HungUp", "type=accepted&duration=9").await;
        }
        let interval = [("from", from.as_str()), ("until", until.as_str()), ("min_offset", offset.as_str())];
        let report = server.report(&key, "summary", &interval).await;
        let wanted = server.sql(&key, sql).await;
        let found = ["calls", "answered", "talk_ms"].map(|column| report.rows[0][report.position(column)].clone());
        let talk = if wanted.rows[0][1] == json!(0) { json!(0) } else { wanted.rows[0][3].clone() };
        assert_eq!(found, [wanted.rows[0][0].clone(), wanted.rows[0][1].clone(), talk], "step {step}");
        assert_eq!(json!(report.open), wanted.rows[0][2], "step {step}");
        let metrics = server.get("/metrics", &key).await.expect(200).text();
        folded
            .extend(metrics.lines().filter(|line| line.starts_with("trunklog_fold_lag_messages ")).map(str::to_owned));
    }
    assert!(folded.len() > 2, "tables were folded meanwhile: {folded:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn reports_are_told_as_they_were() {
    let server = Server::start();
    let key = server.key("acme", &["ingest:*", "query"]);
    let day = [("from", "2026-05-04T00:00:00Z"), ("until", "2026-05-05T00:00:00Z")];
    let first = send_call(&server, &key, "first", "2026-05-04T10:00:00Z").await;
    server.flush().await;
    send_call(&server, &key, "second", "2026-05-04T11:00:00Z").await;
    let messages = |report: &Report| report.sum("messages");
    for _ in 0..2 {
        let as_of = ("as_of", first.as_str());
        assert_eq!(server.report(&key, "summary", &[day[0], day[1], as_of]).await.sum("calls"), 1);
        assert_eq!(server.report(&key, "summary", &day).await.sum("calls"), 2);
        let then = server.report(&key, "ingest_health", &[day[0], day[1], as_of]).await;
        let today = server.report(&key, "ingest_health", &day).await;
        assert_eq!((messages(&then), messages(&today)), (1, 2));
        // Once more from files alone.
        server.flush().await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_call_that_timed_out_since_was_open_then() {
    let config = "[defaults.timeout]\nplacetel = \"2s\"\nplacetel_ringing = \"2s\"\n".to_owned();
    let server = Server::start_with(Options { config: Some(config), ..Options::default() });
    let key = server.key("acme", &["ingest:*", "query"]);
    let (from, until) = (utc_text(now() - HOUR), utc_text(now() + HOUR));
    placetel(&server, &key, 1, "IncomingCall", "").await;
    server.flush().await;
    let then = utc_text(now());
    let interval = [("from", from.as_str()), ("until", until.as_str())];
    let open = async |as_of: Option<&str>| {
        let moment = as_of.map(|as_of| ("as_of", as_of));
        let parameters: Vec<_> = interval.into_iter().chain(moment).collect();
        server.report(&key, "summary", &parameters).await.open
    };
    assert_eq!(open(None).await, 1, "now");
    tokio::time::sleep(Duration::from_millis(2500)).await;
    for round in 0..2 {
        assert_eq!(open(None).await, 0, "after its time, round {round}");
        assert_eq!(open(Some(&then)).await, 1, "as it was, round {round}");
    }
}
