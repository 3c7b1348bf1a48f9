//! What is refused: wrong parameters by their names, reports that are none, askers who may not; and whose calls count.

use serde_json::json;
use trunklog_tests::reports::address;
use trunklog_tests::{Request, Server};

use super::send_call;

const FROM: (&str, &str) = ("from", "2026-05-04T00:00:00Z");
const UNTIL: (&str, &str) = ("until", "2026-05-05T00:00:00Z");

/// Report, parameter, value.
const WRONG: [(&str, &str, &str); 36] = [
    ("summary", "no_such", "1"),
    ("summary", "bucket", "day"),
    ("summary", "tz", "Europe/Nowhere"),
    ("summary", "tz", "+02:00"),
    ("summary", "group_by", "color"),
    ("summary", "group_by", "source,color"),
    ("summary", "group_by", "talk_ms"),
    ("summary", "attribution", "proportional"),
    ("summary", "version", "99"),
    ("summary", "version", "new"),
    ("summary", "min_offset", "soon"),
    ("summary", "as_of", "x"),
    ("volume", "bucket", "fortnight"),
    ("concurrency", "bucket", "5m"),
    ("erlang", "bucket", "minute"),
    ("distribution", "of", "color"),
    ("distribution", "width_s", "0"),
    ("longest", "limit", "0"),
    ("shortest", "limit", "-1"),
    ("longest", "limit", "1000000000000000000000000"),
    ("top_callers", "limit", "many"),
    ("repeat_callers", "min_calls", "-2"),
    ("service_level", "x_s", "-1"),
    ("service_level", "x_s", "soon"),
    ("service_level", "short_abandon_s", "-1"),
    ("service_level", "abandon_mode", "never"),
    ("service_level", "inclusive", "perhaps"),
    ("service_level", "flowouts", "2"),
    ("callbacks", "within_h", "-1"),
    ("busy_hour", "blocking", "2"),
    ("busy_hour", "method", "guess"),
    ("busy_hour", "scope", "yearly"),
    ("network", "address_errors", "maybe"),
    ("prefixes", "digits", "0"),
    ("ingest_health", "endpoint", "101"),
    ("ingest_health", "group_by", "endpoint"),
];

/// What is said for the interval, and the parameter at fault.
const INTERVALS: [(&[(&str, &str)], &str); 8] = [
    (&[UNTIL], "from"),
    (&[FROM], "until"),
    (&[("from", "yesterday"), UNTIL], "from"),
    (&[("from", "2026-05-04"), UNTIL], "from"),
    (&[FROM, ("until", "2026-05-04T25:00:00Z")], "until"),
    (&[FROM, ("until", "2026-05-03T00:00:00Z")], "until"),
    (&[FROM, FROM, UNTIL], "from"),
    (&[FROM, UNTIL, UNTIL], "until"),
];

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_wrong_parameter_is_named() {
    let server = Server::start();
    let key = server.key("acme", &["query"]);
    for (name, parameter, value) in WRONG {
        let answer = server.ask_report(&key, name, &[FROM, UNTIL, (parameter, value)]).await;
        assert_eq!(answer.status, 400, "{name} {parameter}={value}: {}", answer.text());
        let problem = answer.expect_problem(400);
        assert_eq!(problem["parameter"], parameter, "{name} {parameter}={value}: {problem}");
    }
    for (parameters, parameter) in INTERVALS {
        let answer = server.ask_report(&key, "volume", parameters).await;
        assert_eq!(answer.status, 400, "{parameters:?}: {}", answer.text());
        assert_eq!(answer.expect_problem(400)["parameter"], parameter, "{parameters:?}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_interval_of_too_many_pieces_is_refused() {
    let server = Server::start();
    let key = server.key("acme", &["query"]);
    let long = [("from", "0100-01-01T00:00:00Z"), ("until", "9000-01-01T00:00:00Z")];
    for (name, bucket, parameter) in [
        ("volume", Some("15m"), "bucket"),
        ("volume", Some("hour"), "bucket"),
        ("volume", Some("day"), "bucket"),
        ("heatmap", None, "until"),
        ("busy_hour", None, "until"),
    ] {
        let parameters: Vec<_> = long.into_iter().chain(bucket.map(|bucket| ("bucket", bucket))).collect();
        let answer = server.ask_report(&key, name, &parameters).await;
        assert_eq!(answer.status, 400, "{name} {bucket:?}: {}", answer.text());
        assert_eq!(answer.expect_problem(400)["parameter"], parameter, "{name}");
    }
    server.ask_report(&key, "volume", &[&long[..], &[("bucket", "month")]].concat()).await.expect_problem(400);
    server.ask_report(&key, "summary", &long).await.expect(200);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn wrong_parameters_of_sql_are_refused() {
    let server = Server::start();
    let key = server.key("acme", &["query"]);
    let interval = "'2026-05-04T00:00:00Z', '2026-05-05T00:00:00Z'";
    for sql in [
        format!("SELECT * FROM report_no_such({interval})"),
        format!("SELECT * FROM report_summary({interval}, 'no_such', '1')"),
        format!("SELECT * FROM report_summary({interval}, 'tz')"),
        format!("SELECT * FROM report_volume({interval}, 'bucket', 'fortnight')"),
        "SELECT * FROM report_summary('2026-05-04T00:00:00Z')".to_owned(),
        "SELECT * FROM report_summary('yesterday', '2026-05-05T00:00:00Z')".to_owned(),
    ] {
        server.post_sql(&key, &json!({ "sql": sql })).await.expect_problem(400);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn reports_are_for_those_who_may_ask_for_them() {
    let server = Server::start();
    let (query, ingest) = (server.key("acme", &["query"]), server.key("acme", &["ingest:*"]));
    let path = address("summary", &[FROM, UNTIL]);
    server.get(&path, &query).await.expect(200);
    server.get(&path, &ingest).await.expect_problem(403);
    server.get(&path, "tlk_wrong").await.expect_problem(401);
    server.send(Request { path: &path, ..Request::default() }).await.expect_problem(401);
    server.send(Request { path: "/v1/reports", ..Request::default() }).await.expect_problem(401);
    // Without a key nothing is said about the parameters.
    let wrong = address("summary", &[("no_such", "1")]);
    server.send(Request { path: &wrong, ..Request::default() }).await.expect_problem(401);
    server.get(&address("no_such", &[FROM, UNTIL]), &query).await.expect_problem(404);
    let headers = vec![("accept", "image/png".to_owned())];
    server.send(Request { path: &path, key: Some(&query), headers, ..Request::default() }).await.expect_problem(406);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn only_the_tenants_own_calls_count() {
    let server = Server::start();
    let [acme, bravo] = ["acme", "bravo"].map(|tenant| server.key(tenant, &["ingest:*", "query"]));
    send_call(&server, &acme, "a1", "2026-05-04T10:00:00Z").await;
    send_call(&server, &acme, "a2", "2026-05-04T11:00:00Z").await;
    server.flush().await;
    let offset = send_call(&server, &bravo, "b1", "2026-05-04T10:00:00Z").await;
    let admin = server.admin().to_owned();
    for (key, tenant, calls) in
        [(&acme, None, 2), (&bravo, None, 1), (&admin, Some("acme"), 2), (&admin, Some("bravo"), 1), (&admin, None, 3)]
    {
        let mut parameters = vec![FROM, UNTIL, ("min_offset", offset.as_str())];
        parameters.extend(tenant.map(|tenant| ("tenant", tenant)));
        for name in ["summary", "volume", "queues", "dispositions"] {
            assert_eq!(server.report(key, name, &parameters).await.sum("calls"), calls, "{name} {tenant:?}");
        }
        let callers = server.report(key, "top_callers", &parameters).await;
        assert_eq!(callers.column("calls"), [json!(calls)], "{tenant:?}");
    }
    let sql = "SELECT calls FROM report_summary('2026-05-04T00:00:00Z', '2026-05-05T00:00:00Z')";
    assert_eq!(server.sql(&bravo, sql).await.number(), 1);
    let answer = server.ask_report(&acme, "summary", &[FROM, UNTIL, ("tenant", "bravo")]).await;
    assert!((400..500).contains(&answer.status), "{}", answer.text());
}
