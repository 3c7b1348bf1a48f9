//! Reading: SQL in all its forms, its limits and refusals, the list of calls, one call with its timeline.

use serde_json::{Value, json};
use trunklog_tests::{Answer, Options, Request, Server, number_of};

struct Bench {
    server: Server,
    ingest: String,
    query: String,
}

impl Bench {
    /// Ten calls, five of them over; half in the tables, half in the tail.
    async fn start() -> Bench {
        let config = "[query]\nrows = 50\ntime = \"2s\"\n";
        let server = Server::start_with(Options { config: Some(config.to_owned()), ..Options::default() });
        let (ingest, query) = (server.key("acme", &["ingest:*"]), server.key("acme", &["query"]));
        for call in 0..10 {
            let numbers = format!("from=02212919{call:04}&to=022199998560&direction=in&call_id=c{call}");
            server.post_form("/in/placetel", &ingest, &format!("event=IncomingCall&{numbers}")).await.expect(200);
            if call % 2 == 0 {
                let end = format!("event=HungUp&{numbers}&type=missed&duration=0");
                server.post_form("/in/placetel", &ingest, &end).await.expect(200);
            }
            if call == 5 {
                server.flush().await;
            }
        }
        Bench { server, ingest, query }
    }

    async fn sql_as(&self, accept: &str, sql: &str) -> Answer {
        let headers = vec![("accept", accept.to_owned())];
        let (content_type, body) = (Some("text/plain"), sql.as_bytes().to_vec());
        let request = Request {
            method: "POST",
            path: "/v1/sql",
            key: Some(&self.query),
            headers,
            content_type,
            body,
            ..Request::default()
        };
        self.server.send(request).await
    }

    async fn refused(&self, sql: &str, status: u16) -> Value {
        self.server.post_sql(&self.query, &json!({ "sql": sql })).await.expect_problem(status)
    }

    async fn list(&self, query: &str) -> Value {
        self.server.get(&format!("/v1/calls?{query}"), &self.query).await.expect(200).json()
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn sql_answers_in_every_form() {
    let bench = Bench::start().await;
    let sql = "SELECT call_key, duration_ms, answered_at, first_received_at, legs, attributes, state = 'open' AS is_open FROM calls ORDER BY call_key";
    let table = bench.server.sql(&bench.query, sql).await;
    assert_eq!(
        table.columns,
        ["call_key", "duration_ms", "answered_at", "first_received_at", "legs", "attributes", "is_open"]
    );
    assert_eq!(table.types, ["string", "int64", "timestamp", "timestamp", "list", "map", "bool"]);
    assert_eq!(table.rows.len(), 10);
    assert_eq!(number_of(table.as_of["offset"].to_string().trim_matches('"')), 14);
    assert_eq!(table.as_of["time"].as_str().map(str::len), Some(27));
    assert_eq!(table.rows[1][3].as_str().map(str::len), Some(27));
    assert!(table.rows[0][4].is_array() && table.rows[0][5].is_object() && table.rows[0][6].is_boolean());

    let lines = bench.sql_as("application/x-ndjson", sql).await.expect(200);
    let objects: Vec<Value> = lines.text().lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert_eq!(json!(objects), json!(table.objects()));
    assert_eq!(number_of(lines.header("trunklog-as-of")), 14);

    let csv = bench.sql_as("text/csv", sql).await.expect(200);
    assert_eq!(csv.content_type(), "text/csv");
    let text = csv.text();
    assert!(text.starts_with("call_key,duration_ms,"), "{text}");
    assert_eq!(text.lines().count(), 11);
    assert!(text.lines().nth(2).unwrap().starts_with("c1,,,"), "NULL is empty: {text}");

    let arrow = bench.sql_as("application/vnd.apache.arrow.stream", sql).await.expect(200);
    assert_eq!(arrow.content_type(), "application/vnd.apache.arrow.stream");
    assert_eq!(arrow.body[..4], [0xff; 4], "an Arrow stream begins with a continuation marker");
    assert!(arrow.body.len() > 500);

    let parquet = bench.sql_as("application/vnd.apache.parquet", sql).await.expect(200);
    assert!(parquet.body.starts_with(b"PAR1") && parquet.body.ends_with(b"PAR1"));
    bench.sql_as("image/png", sql).await.expect_problem(406);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn parameters_are_bound_and_binary_is_base64() {
    let bench = Bench::start().await;
    let sql = "SELECT $1 || 'x' AS text, CAST($2 AS BIGINT) + 1 AS number, $3 IS NULL AS missing";
    let row = bench.server.sql_with(&bench.query, sql, json!(["'; DROP TABLE calls --", 41, null])).await.only();
    assert_eq!(json!(row), json!({"text": "'; DROP TABLE calls --x", "number": 42, "missing": true}));
    let payload = bench.server.sql(&bench.query, "SELECT payload FROM events ORDER BY \"offset\" LIMIT 1").await.only();
    use base64::Engine;
    let bytes = base64::engine::general_purpose::STANDARD.decode(payload["payload"].as_str().unwrap()).unwrap();
    assert!(bytes.starts_with(b"event=IncomingCall&from=022129190000"));
    let answer = bench.server.post_sql(&bench.query, &json!({"sql": "SELECT 1", "parameters": []})).await;
    assert_eq!(answer.expect_problem(400)["parameter"], "parameters");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn sql_only_reads() {
    let bench = Bench::start().await;
    let outside = bench.server.root().join("outside.csv");
    let file = outside.display().to_string();
    for sql in [
        "INSERT INTO calls SELECT * FROM calls",
        "DELETE FROM events",
        "UPDATE calls SET state = 'open'",
        "DROP TABLE calls",
        "CREATE TABLE x AS SELECT 1",
        "CREATE VIEW x AS SELECT 1",
        "SET datafusion.execution.batch_size = 1",
        &format!("COPY calls TO '{file}'"),
        &format!("COPY (SELECT 1) TO '{file}' STORED AS CSV"),
        &format!("CREATE EXTERNAL TABLE x STORED AS CSV LOCATION '{file}'"),
        "CREATE EXTERNAL TABLE x STORED AS CSV LOCATION '/etc/passwd'",
    ] {
        bench.refused(sql, 403).await;
    }
    assert!(!outside.exists());
    for sql in [
        "SELEC 1",
        "SELECT no_such_column FROM calls",
        "SELECT * FROM no_such_table",
        "SELECT 1; SELECT 2",
        "",
        "SELECT * FROM '/etc/passwd'",
    ] {
        bench.refused(sql, 400).await;
    }
    for column in ["fold", "day", "tier"] {
        bench.refused(&format!("SELECT {column} FROM calls"), 400).await;
    }
    assert_eq!(bench.server.sql(&bench.query, "SELECT count(*) FROM calls").await.number(), 10);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_limit_is_said_and_nothing_is_cut_short() {
    let bench = Bench::start().await;
    let too_many = bench.refused("SELECT a.call_key FROM calls a CROSS JOIN calls b", 422).await;
    assert!(too_many["detail"].as_str().unwrap().contains("rows"), "{too_many}");
    let too_long =
        "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 100000000) SELECT count(*) FROM n";
    let started = std::time::Instant::now();
    bench.refused(too_long, 422).await;
    assert!(started.elapsed().as_secs() < 10, "the time limit took {:?}", started.elapsed());
    bench.server.get("/healthz", "").await.expect(200);
    assert_eq!(bench.server.sql(&bench.query, "SELECT count(*) FROM calls").await.number(), 10);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn min_offset_waits_and_then_says_so() {
    let bench = Bench::start().await;
    let ask = |offset: Value| json!({"sql": "SELECT count(*) FROM calls", "min_offset": offset});
    bench.server.post_sql(&bench.query, &ask(json!("14"))).await.expect(200);
    bench.server.post_sql(&bench.query, &ask(json!(14))).await.expect(200);
    let started = std::time::Instant::now();
    let answer = bench.server.post_sql(&bench.query, &ask(json!("1000"))).await;
    assert!(!answer.header("retry-after").is_empty(), "{}", answer.text());
    answer.expect_problem(503);
    assert!((4..9).contains(&started.elapsed().as_secs()), "it waited {:?}", started.elapsed());
    let question = ask(json!("15"));
    let waiting = bench.server.post_sql(&bench.query, &question);
    let sending = async {
        tokio::time::sleep(std::time::Duration::from_millis(300)).await;
        bench
            .server
            .post_form("/in/placetel", &bench.ingest, "event=IncomingCall&from=1&to=2&call_id=late")
            .await
            .expect(200)
    };
    let (waited, _) = tokio::join!(waiting, sending);
    assert_eq!(waited.expect(200).json()["rows"], json!([[11]]));
    bench.server.post_sql(&bench.query, &ask(json!("soon"))).await.expect_problem(400);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn calls_are_listed_filtered_sorted_and_paged() {
    let bench = Bench::start().await;
    let all = bench.list("limit=100").await;
    let items = all["items"].as_array().unwrap();
    assert_eq!((items.len(), &all["next_cursor"]), (10, &Value::Null));
    let starts: Vec<_> = items.iter().map(|item| item["started_at"].as_str().unwrap().to_owned()).collect();
    assert!(starts.is_sorted_by(|left, right| left >= right), "newest first: {starts:?}");
    let sql = bench.server.sql(&bench.query, "SELECT * FROM calls WHERE call_key = 'c3'").await.only();
    let listed = items.iter().find(|item| item["call_key"] == "c3").unwrap();
    assert_eq!(listed, &json!(sql), "an item has every column, as SQL shows it");
    assert_eq!(bench.list("state=closed&disposition=missed").await["items"].as_array().map(Vec::len), Some(5));
    assert_eq!(bench.list("source=kazoo").await["items"], json!([]));
    let either = bench.list("number=022129190001&number=022129190003&sort=call_key").await;
    let keys: Vec<_> = either["items"].as_array().unwrap().iter().map(|item| item["call_key"].clone()).collect();
    assert_eq!(keys, [json!("c1"), json!("c3")], "several values of a filter are alternatives");

    // Pages of one cursor are one snapshot: what arrives meanwhile is not on them.
    let mut keys = Vec::new();
    let mut page = bench.list("sort=call_key&limit=4").await;
    bench
        .server
        .post_form("/in/placetel", &bench.ingest, "event=IncomingCall&from=1&to=2&call_id=c00")
        .await
        .expect(200);
    bench.server.flush().await;
    loop {
        keys.extend(page["items"].as_array().unwrap().iter().map(|item| item["call_key"].as_str().unwrap().to_owned()));
        let Some(cursor) = page["next_cursor"].as_str() else { break };
        let cursor: String = url::form_urlencoded::byte_serialize(cursor.as_bytes()).collect();
        page = bench.list(&format!("sort=call_key&limit=4&cursor={cursor}")).await;
    }
    assert_eq!(keys, (0..10).map(|call| format!("c{call}")).collect::<Vec<_>>());
    for wrong in ["limit=0", "limit=1001", "limit=x", "no_such=1", "from=yesterday", "sort=no_such", "cursor=abc"] {
        bench.server.get(&format!("/v1/calls?{wrong}"), &bench.query).await.expect_problem(400);
    }
    let until = &starts[4];
    let half_open = bench.list(&format!("until={until}")).await;
    let expected = starts.iter().filter(|start| *start < until).count();
    assert_eq!(half_open["items"].as_array().map(Vec::len), Some(expected));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_call_has_its_timeline() {
    let bench = Bench::start().await;
    let sql = bench.server.sql(&bench.query, "SELECT * FROM calls WHERE call_key = 'c8'").await.only();
    let path = format!("/v1/calls/{}", sql["call_id"].as_str().unwrap());
    let call = bench.server.get(&path, &bench.query).await.expect(200).json();
    for (column, value) in &sql {
        if column != "recordings" {
            assert_eq!(&call[column], value, "{column}");
        }
    }
    assert_eq!(call["messages"].as_array().map(Vec::len), Some(2), "{call}");
    assert_eq!(call["recordings"], json!([]));
    let events = bench.server.get(&format!("{path}/events"), &bench.query).await.expect(200).json();
    let kinds: Vec<_> = events["items"].as_array().unwrap().iter().map(|item| item["type"].clone()).collect();
    assert_eq!(kinds, [json!("placetel.IncomingCall"), json!("placetel.HungUp")]);
    assert_eq!(events.get("next_cursor"), Some(&Value::Null), "{events}");
    bench.server.get("/v1/calls/00000000000000000000000000000000", &bench.query).await.expect_problem(404);
    bench.server.get(&path, "tlk_wrong").await.expect_problem(401);
}
