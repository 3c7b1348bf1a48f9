//! Every push message of the five sources with its vendor's values: the documented answer, the row in `events`, the
//! call in `calls`, by the next SQL statement. The table is `tests/data/messages.json`.

use serde_json::{Map, Value, json};
use trunklog_tests::expect::difference;
use trunklog_tests::{Answer, Options, Request, Server};

/// One line of the table.
struct Case(Value);

impl Case {
    fn text(&self, field: &str) -> &str {
        self.0[field].as_str().unwrap_or_default()
    }

    fn events(&self) -> &Vec<Value> {
        self.0["events"].as_array().unwrap()
    }

    /// Whether sending it again is a duplicate however long that takes.
    fn repeats(&self) -> bool {
        self.0["repeats"] != json!(false) && !self.events().is_empty()
    }

    fn tenant(&self) -> &str {
        if self.text("tenant").is_empty() { "acme" } else { self.text("tenant") }
    }

    /// A body is text, or JSON.
    fn body(&self, key: &str) -> String {
        match &self.0["body"] {
            Value::Null => String::new(),
            Value::String(text) => text.replace("{key}", key),
            body => body.to_string(),
        }
    }

    async fn send(&self, server: &Server, key: &str) -> Answer {
        let path = self.text("path").replace("{key}", key);
        let request = Request {
            method: self.text("method"),
            path: &path,
            key: self.text("auth").is_empty().then_some(key),
            basic: (self.text("auth") == "basic").then_some(key),
            content_type: self.0["type"].as_str(),
            body: self.body(key).into_bytes(),
            ..Request::default()
        };
        server.send(request).await
    }
}

struct Keys {
    ingest: String,
    query: String,
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_message_is_answered_and_shows_up() {
    let server = Server::start_with(Options {
        config: Some(include_str!("../../data/messages.toml").to_owned()),
        files: vec![("contacts.csv", include_str!("../../data/contacts.csv"))],
        ..Options::default()
    });
    let keys = |tenant: &str| Keys { ingest: server.key(tenant, &["ingest:*"]), query: server.key(tenant, &["query"]) };
    let tenants: Vec<_> = ["acme", "dublin", "bare"].map(|tenant| (tenant, keys(tenant))).into();
    let cases: Vec<Value> = serde_json::from_str(include_str!("../../data/messages.json")).unwrap();
    let mut problems = Vec::new();
    for case in cases.into_iter().map(Case) {
        let (_, keys) = tenants.iter().find(|(tenant, _)| *tenant == case.tenant()).unwrap();
        let found = try_case(&server, keys, &case).await;
        problems.extend(found.into_iter().map(|problem| format!("{}: {problem}", case.text("name"))));
    }
    assert!(problems.is_empty(), "{} problems:\n{}", problems.len(), problems.join("\n"));
}

async fn try_case(server: &Server, keys: &Keys, case: &Case) -> Vec<String> {
    let answer = case.send(server, &keys.ingest).await;
    let mut problems = wrong_answer(case, &answer);
    let Some(offset) = answer.offset() else {
        if !case.events().is_empty() {
            problems.push(format!("no Trunklog-Offset, {}: {}", answer.status, answer.text()));
        }
        return problems;
    };
    problems.extend(wrong_events(server, keys, case, offset).await);
    let before = call(server, keys, case).await;
    problems.extend(wrong_call(case, before.as_deref()));
    if case.repeats() {
        problems.extend(wrong_repeat(server, keys, case, &answer, before).await);
    }
    problems
}

fn wrong_answer(case: &Case, answer: &Answer) -> Vec<String> {
    let expected = &case.0["answer"];
    let mut problems = Vec::new();
    if expected["status"] != json!(answer.status) {
        problems.push(format!("status {}: {}", answer.status, answer.text()));
    }
    if let Some(kind) = expected["type"].as_str().filter(|kind| *kind != answer.content_type()) {
        problems.push(format!("content type `{}` and not `{kind}`", answer.content_type()));
    }
    let body = match &expected["body"] {
        Value::Null => return problems,
        Value::String(_) => json!(answer.text().trim_end()),
        _ => serde_json::from_slice(&answer.body).unwrap_or(Value::Null),
    };
    problems.extend(difference(&expected["body"], &body).map(|text| format!("answer {text}: {}", answer.text())));
    problems
}

/// The rows that the request stored: the last is the one that the answer names.
async fn events(server: &Server, keys: &Keys, case: &Case, last: i64) -> Vec<Map<String, Value>> {
    let count = i64::try_from(case.events().len()).unwrap();
    let sql = r#"SELECT * FROM events WHERE "offset" > $1 AND "offset" <= $2 ORDER BY "offset""#;
    server.sql_with(&keys.query, sql, json!([last - count, last])).await.objects()
}

async fn wrong_events(server: &Server, keys: &Keys, case: &Case, last: i64) -> Vec<String> {
    let rows = events(server, keys, case, last).await;
    let expected = json!(case.events());
    let mut problems: Vec<String> =
        difference(&expected, &json!(rows)).map(|text| format!("events {text}")).into_iter().collect();
    for row in &rows {
        if row["subject"] != row["call_key"] {
            problems.push(format!("subject {} is not call_key {}", row["subject"], row["call_key"]));
        }
        if (row["quarantined"] == json!(true)) == row["error"].is_null() {
            problems.push(format!("quarantined {} and error {}", row["quarantined"], row["error"]));
        }
    }
    if let [row] = rows.as_slice() {
        problems.extend(not_verbatim(case, keys, row));
    }
    problems
}

/// The payload is the body as sent, but for the key that authenticated it.
fn not_verbatim(case: &Case, keys: &Keys, row: &Map<String, Value>) -> Option<String> {
    use base64::Engine;
    let splits = ["/in/events", "/in/voispeed/report", "/in/virtualpbx/pivot/debug"].contains(&case.text("path"));
    let stored = row["payload"].as_str().unwrap_or_default();
    let stored = base64::engine::general_purpose::STANDARD.decode(stored).unwrap();
    let sent = case.body(&keys.ingest).replace(&keys.ingest, "REDACTED");
    (!splits && stored != sent.as_bytes()).then(|| format!("payload `{}`", String::from_utf8_lossy(&stored)))
}

/// The row of `calls` that the case speaks of, found by key or, for messages without one, by its numbers.
async fn call(server: &Server, keys: &Keys, case: &Case) -> Option<Vec<Map<String, Value>>> {
    let expected = case.0["call"].as_object()?;
    let by: &[&str] = if expected.contains_key("call_key") {
        &["source", "call_key"]
    } else {
        &["source", "from_number", "to_number"]
    };
    let conditions: Vec<_> =
        by.iter().enumerate().map(|(index, column)| format!("{column} = ${}", index + 1)).collect();
    let params: Vec<_> = by.iter().map(|column| expected[*column].clone()).collect();
    let sql = format!("SELECT * FROM calls WHERE {}", conditions.join(" AND "));
    Some(server.sql_with(&keys.query, &sql, json!(params)).await.objects())
}

fn wrong_call(case: &Case, rows: Option<&[Map<String, Value>]>) -> Option<String> {
    match rows? {
        [row] => difference(&case.0["call"], &json!(row)).map(|text| format!("call {text}")),
        rows => Some(format!("{} calls and not one", rows.len())),
    }
}

/// The second delivery is answered like the first, kept, marked, and changes nothing but the bookkeeping.
async fn wrong_repeat(
    server: &Server,
    keys: &Keys,
    case: &Case,
    first: &Answer,
    before: Option<Vec<Map<String, Value>>>,
) -> Vec<String> {
    let again = case.send(server, &keys.ingest).await;
    let mut problems = Vec::new();
    let same_body = case.0["answer"]["body"]["accepted"].is_number() || again.body == first.body;
    if again.status != first.status || again.content_type() != first.content_type() || !same_body {
        problems.push(format!("the duplicate is answered {}: {}", again.status, again.text()));
    }
    let Some(offset) = again.offset() else { return vec!["the duplicate is not stored".to_owned()] };
    for row in events(server, keys, case, offset).await {
        if row["duplicate_of"].is_null() {
            problems.push(format!("the second delivery is not marked: {}", json!(row["type"])));
        }
    }
    let after = call(server, keys, case).await;
    if without_bookkeeping(before) != without_bookkeeping(after) {
        problems.push("the duplicate changed the call".to_owned());
    }
    problems
}

fn without_bookkeeping(rows: Option<Vec<Map<String, Value>>>) -> Option<Vec<Map<String, Value>>> {
    rows.map(|mut rows| {
        for row in &mut rows {
            for column in ["first_received_at", "last_received_at", "first_offset", "last_offset"] {
                row.remove(column);
            }
        }
        rows
    })
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_placetel_key_with_a_shared_secret_wants_the_signature() {
    use hmac::{Hmac, Mac};
    let server = Server::start();
    let key = server.key_with("acme", &["ingest:placetel"], &["--hmac-secret", "12345678"]);
    let query = server.key("acme", &["query"]);
    let body = "call_id=cafe&direction=in&event=IncomingCall&from=022129191999&to=022199998560";
    let mut mac = Hmac::<sha2::Sha256>::new_from_slice(b"12345678").unwrap();
    mac.update(body.as_bytes());
    let right: String = mac.finalize().into_bytes().iter().map(|byte| format!("{byte:02x}")).collect();
    let wrong = right.replace(['0', '1'], "2");
    for (signature, status) in [(None, 401), (Some(wrong), 401), (Some(String::new()), 401), (Some(right), 200)] {
        let headers = signature.map(|text| ("x-placetel-signature", text)).into_iter().collect();
        let content_type = Some("application/x-www-form-urlencoded");
        let body = body.as_bytes().to_vec();
        let request = Request {
            method: "POST",
            path: "/in/placetel",
            key: Some(&key),
            headers,
            content_type,
            body,
            ..Request::default()
        };
        server.send(request).await.expect(status);
    }
    assert_eq!(server.sql(&query, "SELECT count(*) FROM events").await.number(), 1);
    let headers = server.sql(&query, "SELECT headers FROM events").await.only();
    assert!(!headers["headers"].to_string().contains("signature"), "{headers:?}");
}
