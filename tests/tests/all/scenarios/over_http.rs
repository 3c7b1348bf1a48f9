//! All scenarios through the binary: once as their senders send them, and as bulk loads with the times of receipt that
//! the files name: backwards, shuffled with repeats, and with everything folded and compacted after each message.

use rand::SeedableRng;
use rand::rngs::StdRng;
use rand::seq::SliceRandom;
use serde_json::{Map, Value, json};
use trunklog_tests::expect::difference;
use trunklog_tests::{Request, Server};

use super::data::{Message, Scenario};

type Row = Map<String, Value>;

/// A tenant of one's own for one way of sending.
struct Tenant<'a> {
    server: &'a Server,
    name: &'a str,
    ingest: String,
    query: String,
}

impl<'a> Tenant<'a> {
    fn new(server: &'a Server, name: &'a str) -> Tenant<'a> {
        let (ingest, query) = (server.key(name, &["ingest:*"]), server.key(name, &["query"]));
        Tenant { server, name, ingest, query }
    }

    async fn send(&self, message: &Message) {
        let path = message.target();
        let request = Request {
            method: &message.method,
            path: &path,
            key: Some(&self.ingest),
            content_type: message.content_type.as_deref(),
            body: message.sent(),
            ..Request::default()
        };
        let answer = self.server.send(request).await;
        assert!(answer.offset().is_some(), "{path}: {} {}", answer.status, answer.text());
    }

    async fn load(&self, lines: &[String]) {
        let body = lines.join("\n");
        let answer = self.server.post("/in/events", &self.ingest, "application/x-ndjson", body.as_bytes()).await;
        let counts = answer.expect(200).json();
        assert_eq!(counts["quarantined"], 0, "{}: {counts}", self.name);
    }

    async fn calls(&self) -> Vec<Row> {
        self.server.sql(&self.query, "SELECT * FROM calls").await.objects()
    }
}

/// Every expected row is there once, and no other row is.
fn check(tenant: &Tenant<'_>, scenarios: &[Scenario], mut rows: Vec<Row>, adapt: impl Fn(&Scenario, &mut Row)) {
    let mut problems = Vec::new();
    for scenario in scenarios {
        for expected in scenario.rows(tenant.name) {
            let Value::Object(mut expected) = expected else { panic!("a call is an object") };
            expected.insert("source".to_owned(), json!(scenario.source.as_str()));
            // Calls of other scenarios have the same numbers and times, so the linker may find more that are related.
            let related = expected.remove("related_calls");
            adapt(scenario, &mut expected);
            let found = take(&Value::Object(expected), &mut rows).and_then(|row| names(&row, related.as_ref()));
            problems.extend(found.err().map(|problem| format!("{}/{}: {problem}", scenario.source, scenario.name)));
        }
    }
    problems.extend(rows.iter().map(|row| format!("nobody expects the call {} {}", row["source"], row["call_key"])));
    assert!(problems.is_empty(), "{}: {} problems:\n{}", tenant.name, problems.len(), problems.join("\n"));
}

/// Whether the row names all calls that its messages relate it to.
fn names(row: &Row, related: Option<&Value>) -> Result<(), String> {
    let found = row["related_calls"].as_array().unwrap();
    let missing = related.and_then(Value::as_array).into_iter().flatten().find(|id| !found.contains(id));
    missing.map_or(Ok(()), |id| Err(format!("related_calls: {id} is not among {found:?}")))
}

/// Takes the row that is as expected; several may bear keys of one pattern.
fn take(expected: &Value, rows: &mut Vec<Row>) -> Result<Row, String> {
    let same_call = |row: &Row| {
        row["source"] == expected["source"] && difference(&expected["call_key"], &row["call_key"]).is_none()
    };
    let candidates: Vec<usize> = (0..rows.len()).filter(|index| same_call(&rows[*index])).collect();
    let differences: Vec<_> = candidates.iter().map(|index| difference(expected, &json!(rows[*index]))).collect();
    match differences.iter().position(Option::is_none) {
        Some(fitting) => Ok(rows.remove(candidates[fitting])),
        None => Err(match differences.into_iter().flatten().next() {
            Some(difference) => {
                rows.remove(candidates[0]);
                difference
            }
            None => format!("no call {}", expected["call_key"]),
        }),
    }
}

/// What does not depend on when the messages came.
fn timeless(_: &Scenario, expected: &mut Row) {
    let is_time = |name: &str| name.ends_with("_at") || name.ends_with("_ms") || name == "clock";
    expected.retain(|name, _| !is_time(name));
    for leg in expected.get_mut("legs").and_then(Value::as_array_mut).into_iter().flatten() {
        leg.as_object_mut().unwrap().retain(|name, _| !is_time(name));
    }
}

/// The scenarios lie in the past: what is open has timed out, unless a recording was uploaded just now.
fn long_ago(scenario: &Scenario, expected: &mut Row) {
    if expected.get("state") == Some(&json!("open")) && !scenario.uploads() {
        expected.insert("state".to_owned(), json!("timed_out"));
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn as_their_senders_send_them() {
    let server = Server::start();
    let scenarios = Scenario::all();
    let tenant = Tenant::new(&server, "direct");
    for message in scenarios.iter().flat_map(|scenario| &scenario.messages) {
        tenant.send(message).await;
    }
    let rows = tenant.calls().await;
    for row in &rows {
        let path = format!("/v1/calls/{}", row["call_id"].as_str().unwrap());
        let single = server.get(&path, &tenant.query).await.expect(200).json();
        // The recordings of a single call are shown whole; what changes besides is only the linker's later decisions.
        for column in ["call_key", "state", "disposition", "started_at", "answered_at", "ended_at", "legs", "transfers"]
        {
            assert_eq!(single[column], row[column], "{path}: {column}");
        }
    }
    check(&tenant, &scenarios, rows, timeless);
    server.flush().await;
    check(&tenant, &scenarios, tenant.calls().await, timeless);
}

/// The lines of a bulk load: of each scenario the messages in the order that `arrange` gives them. Those whose order
/// counts keep it. Uploads have a route of their own.
fn lines(scenarios: &[Scenario], mut arrange: impl FnMut(&mut Vec<usize>)) -> Vec<String> {
    let mut lines = Vec::new();
    for scenario in scenarios {
        let mut order: Vec<usize> = (0..scenario.messages.len()).collect();
        if !scenario.as_sent {
            arrange(&mut order);
        }
        let events = order.into_iter().filter(|index| !scenario.messages[*index].is_upload());
        lines.extend(events.map(|index| scenario.cloud_event(index).to_string()));
    }
    lines
}

async fn upload(tenant: &Tenant<'_>, scenarios: &[Scenario]) {
    let messages = scenarios.iter().flat_map(|scenario| &scenario.messages);
    for message in messages.filter(|message| message.is_upload()) {
        tenant.send(message).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn with_their_times_in_other_orders() {
    let server = Server::start();
    let scenarios = Scenario::all();
    let backwards = Tenant::new(&server, "backwards");
    upload(&backwards, &scenarios).await;
    backwards.load(&lines(&scenarios, |order| order.reverse())).await;
    check(&backwards, &scenarios, backwards.calls().await, long_ago);

    let shuffled = Tenant::new(&server, "shuffled");
    let mut random = StdRng::seed_from_u64(17);
    let twice = lines(&scenarios, |order| {
        order.extend_from_within(..);
        order.shuffle(&mut random);
    });
    for part in twice.chunks(100) {
        shuffled.load(part).await;
    }
    upload(&shuffled, &scenarios).await;
    check(&shuffled, &scenarios, shuffled.calls().await, long_ago);

    server.flush().await;
    check(&backwards, &scenarios, backwards.calls().await, long_ago);
    check(&shuffled, &scenarios, shuffled.calls().await, long_ago);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn folded_and_compacted_after_each_message() {
    let mut server = Server::start();
    let scenarios = Scenario::all();
    {
        let tenant = Tenant::new(&server, "steps");
        let longest = scenarios.iter().map(|scenario| scenario.messages.len()).max().unwrap();
        for step in 0..longest {
            let reached = || scenarios.iter().filter(move |scenario| step < scenario.messages.len());
            let events = reached().filter(|scenario| !scenario.messages[step].is_upload());
            tenant.load(&events.map(|scenario| scenario.cloud_event(step).to_string()).collect::<Vec<_>>()).await;
            for scenario in reached().filter(|scenario| scenario.messages[step].is_upload()) {
                tenant.send(&scenario.messages[step]).await;
            }
            server.flush().await;
        }
        check(&tenant, &scenarios, tenant.calls().await, long_ago);
    }
    let query = server.key("steps", &["query"]);
    server.kill();
    server.launch();
    let rows = server.sql(&query, "SELECT * FROM calls").await.objects();
    let tenant = Tenant { server: &server, name: "steps", ingest: String::new(), query };
    check(&tenant, &scenarios, rows, long_ago);
}
