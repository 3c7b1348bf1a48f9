//! After every way to authenticate was used, rightly and wrongly, no key, token or signature is found in the data
//! directory, in any column, or in the logs.

use hmac::{Hmac, Mac};
use serde_json::{Value, json};
use trunklog_tests::scan::Secrets;
use trunklog_tests::{Request, Server};

const FORM: &str = "application/x-www-form-urlencoded";
const HMAC_SECRET: &str = "a-shared-secret-of-placetel-4711";

struct Bench {
    server: Server,
    secrets: Secrets,
    sent: i64,
}

impl Bench {
    fn key(&mut self, scopes: &[&str], further: &[&str]) -> String {
        let key = self.server.key_with("acme", scopes, further);
        self.secrets.token(&key);
        key
    }

    /// Sends a form; counts what the server says it stored.
    async fn send(&mut self, request: Request<'_>, status: u16) {
        let answer = self.server.send(request).await;
        assert_eq!(answer.status, status, "{}", answer.text());
        self.sent += i64::from(answer.offset().is_some());
        let leaked = self.secrets.found_in(&answer.body);
        assert!(leaked.is_empty(), "the answer repeats a secret: {leaked:?}");
    }
}

fn post<'a>(path: &'a str, body: &str) -> Request<'a> {
    Request { method: "POST", path, content_type: Some(FORM), body: body.as_bytes().to_vec(), ..Request::default() }
}

fn placetel(call: &str) -> String {
    format!("event=IncomingCall&from=022129191999&to=022199998560&call_id={call}")
}

fn planfix(call: &str, rest: &str) -> String {
    format!("cmd=event&type=in&event=INCOMING&phone=79990001122&ext=102&callid={call}&{rest}")
}

fn signature(body: &str) -> String {
    let mut mac = Hmac::<sha2::Sha256>::new_from_slice(HMAC_SECRET.as_bytes()).unwrap();
    mac.update(body.as_bytes());
    mac.finalize().into_bytes().iter().map(|byte| format!("{byte:02x}")).collect()
}

/// The key in every place that a sender can put it, and in several at once.
async fn use_every_form(bench: &mut Bench) {
    let key = bench.key(&["ingest:*"], &[]);
    let encoded = key.replace('_', "%5F");
    bench.send(Request { key: Some(&key), ..post("/in/placetel", &placetel("bearer")) }, 200).await;
    bench.send(Request { basic: Some(&key), ..post("/in/placetel", &placetel("basic")) }, 200).await;
    let in_path = format!("/in/{key}/placetel?hint={key}");
    bench.send(post(&in_path, &placetel("path")), 200).await;
    let pivot =
        format!("/in/{key}/kazoo/pivot?Call-ID=pivot&From=1&To=2&Recording-Url=http%3A%2F%2Fh%2Fin%2F{key}%2Fr");
    bench.send(Request { path: &pivot, ..Request::default() }, 404).await;
    let event =
        format!("/in/{key}/voispeed/event?event_type=2&event=8&event_name=incoming_call&ext=35&number=1&usercallid=1");
    bench.send(Request { path: &event, ..Request::default() }, 200).await;
    bench.send(post("/in/planfix", &planfix("field", &format!("planfix_token={key}"))), 200).await;
    bench.send(post("/in/planfix", &planfix("alias", &format!("token={key}"))), 200).await;
    bench.send(post("/in/planfix", &planfix("encoded", &format!("planfix_token={encoded}"))), 200).await;
    let both = planfix("both", &format!("planfix_token={key}&token={key}&data_copy={key}"));
    bench.send(Request { key: Some(&key), ..post("/in/planfix", &both) }, 200).await;
    let referer = vec![
        ("referer", format!("http://h/in/{key}/placetel")),
        ("cookie", format!("k={key}")),
        ("x-auth-token", key.clone()),
    ];
    bench.send(Request { key: Some(&key), headers: referer, ..post("/in/placetel", &placetel("headers")) }, 200).await;
    let debug = json!({"call_id": "dbg", "id": "1", "uri": format!("http://h/in/{key}/virtualpbx/pivot?Call-ID=dbg"), "req_headers": {"authorization": format!("Bearer {key}")}});
    let body = debug.to_string().into_bytes();
    bench
        .send(
            Request {
                method: "POST",
                path: "/in/virtualpbx/pivot/debug",
                key: Some(&key),
                content_type: Some("application/json"),
                body,
                ..Request::default()
            },
            200,
        )
        .await;
    let line = json!({"specversion": "1.0", "id": "1", "source": "placetel", "type": "placetel.IncomingCall", "time": "2026-01-02T03:04:05Z",
        "datacontenttype": FORM, "data": placetel("bulk") + "&note=" + &key, "path": format!("/in/{key}/placetel"), "headers": json!({"authorization": format!("Bearer {key}")}).to_string()});
    bench
        .send(
            Request {
                method: "POST",
                path: "/in/events",
                key: Some(&key),
                content_type: Some("application/x-ndjson"),
                body: format!("{line}\n").into_bytes(),
                ..Request::default()
            },
            200,
        )
        .await;
}

async fn use_signatures(bench: &mut Bench) {
    let key = bench.key(&["ingest:placetel"], &["--hmac-secret", HMAC_SECRET]);
    bench.secrets.text("HMAC secret", HMAC_SECRET);
    let body = placetel("signed");
    let right = signature(&body);
    bench.secrets.text("signature", &right);
    let headers = vec![("x-placetel-signature", right.clone())];
    bench.send(Request { key: Some(&key), headers, ..post("/in/placetel", &body) }, 200).await;
    let wrong = signature("something else");
    bench.secrets.text("wrong signature", &wrong);
    bench
        .send(
            Request { key: Some(&key), headers: vec![("x-placetel-signature", wrong)], ..post("/in/placetel", &body) },
            401,
        )
        .await;
}

/// A key that is refused is somebody's key all the same, perhaps with one letter more.
async fn use_wrong_keys(bench: &mut Bench) {
    let unknown = "tlk_Zm9vYmFyYmF6cXV4Zm9vYmFyYmF6cXV4Zm9vYmFyYmE";
    bench.secrets.token(unknown);
    let path = format!("/in/{unknown}/placetel");
    bench.send(post(&path, &placetel("x")), 401).await;
    bench.send(Request { key: Some(unknown), ..post("/in/placetel", &placetel("x")) }, 401).await;
    bench.send(post("/in/planfix", &planfix("x", &format!("planfix_token={unknown}"))), 401).await;
    let no_such_route = format!("/in/{unknown}/nowhere");
    bench.send(post(&no_such_route, "a=b"), 404).await;
    let broken = format!("/in/{unknown}/placetel?x=%zz");
    bench.send(post(&broken, "a=%zz"), 401).await;
}

async fn read_with_keys(bench: &mut Bench) -> (String, String) {
    let query = bench.key(&["query"], &[]);
    let admin = bench.server.admin().to_owned();
    bench.secrets.token(&admin);
    bench.server.sql(&query, "SELECT count(*) FROM events").await;
    bench.server.get(&format!("/v1/calls?no_such={query}"), &query).await.expect(400);
    bench.server.post_sql(&query, &json!({"sql": format!("SELECT {query}")})).await.expect(400);
    bench.server.send(Request { path: "/v1/calls", basic: Some(&query), ..Request::default() }).await.expect(200);
    (query, admin)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_secret_is_kept_anywhere() {
    let mut bench = Bench { server: Server::start(), secrets: Secrets::default(), sent: 0 };
    use_every_form(&mut bench).await;
    use_signatures(&mut bench).await;
    use_wrong_keys(&mut bench).await;
    let (query, _) = read_with_keys(&mut bench).await;

    let mut problems = look_into_tables(&bench, &query).await;
    problems.extend(bench.secrets.found_below(&bench.server.data_dir()));
    bench.server.flush().await;
    problems.extend(look_into_tables(&bench, &query).await);
    let metrics = bench.server.get("/metrics", "").await.expect(200);
    problems.extend(bench.secrets.found_in(&metrics.body).iter().map(|name| format!("metrics: {name}")));
    bench.server.stop();
    problems.extend(bench.secrets.found_below(bench.server.root()));
    assert!(problems.is_empty(), "{} finds:\n{}", problems.len(), problems.join("\n"));
}

async fn look_into_tables(bench: &Bench, query: &str) -> Vec<String> {
    let mut problems = Vec::new();
    for table in ["events", "calls", "legs", "system_events"] {
        for row in bench.server.sql(query, &format!("SELECT * FROM {table}")).await.objects() {
            problems.extend(bench.secrets.found_in_value(table, &Value::Object(row)));
        }
    }
    let stored = bench.server.sql(query, "SELECT count(*) FROM events").await.number();
    assert_eq!(stored, bench.sent, "every accepted message was looked into");
    let redacted = bench.server.sql(query, "SELECT count(*) FROM events WHERE path LIKE '%REDACTED%'").await.number();
    assert!(redacted > 0, "the key's place in the path is marked");
    problems
}
