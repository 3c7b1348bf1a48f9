//! Bad input, tried one by one: answered clearly, nothing stored wrongly, and the server goes on.

use serde_json::{Value, json};
use trunklog_tests::{Answer, Options, Request, Server, raw_request};

const FORM: &str = "application/x-www-form-urlencoded";
const JSON: &str = "application/json";

/// A server whose tenant has a callflow, so that pivot requests are answered 200.
struct Bench {
    server: Server,
    ingest: String,
    query: String,
}

impl Bench {
    fn start() -> Bench {
        let config = "[tenants.acme]\nkazoo.callflow.\"*\" = { module = \"resources\", data = {} }\n";
        let server = Server::start_with(Options { config: Some(config.to_owned()), ..Options::default() });
        let (ingest, query) = (server.key("acme", &["ingest:*"]), server.key("acme", &["query"]));
        Bench { server, ingest, query }
    }

    async fn form(&self, path: &str, body: &[u8]) -> Answer {
        self.server.post(path, &self.ingest, FORM, body).await
    }

    async fn json(&self, path: &str, body: &[u8]) -> Answer {
        self.server.post(path, &self.ingest, JSON, body).await
    }

    async fn count(&self, table: &str) -> i64 {
        self.server.sql(&self.query, &format!("SELECT count(*) FROM {table}")).await.number()
    }

    /// The message that an answer names.
    async fn event(&self, answer: &Answer) -> serde_json::Map<String, Value> {
        let offset = answer.offset().unwrap_or_else(|| panic!("not stored: {} {}", answer.status, answer.text()));
        let sql = r#"SELECT * FROM events WHERE "offset" = $1"#;
        self.server.sql_with(&self.query, sql, json!([offset])).await.only()
    }

    /// Stored, quarantined, with an error, and no call made of it.
    async fn expect_quarantined(&self, answer: &Answer) {
        let event = self.event(answer).await;
        assert_eq!(event["quarantined"], true, "{event:?}");
        assert!(event["error"].as_str().is_some_and(|error| !error.is_empty()), "{event:?}");
        let sql = r#"SELECT count(*) FROM calls WHERE first_offset = $1"#;
        assert_eq!(self.server.sql_with(&self.query, sql, json!([event["offset"]])).await.number(), 0);
    }

    /// It is alive and everything can still be read and folded.
    async fn expect_well(&self) {
        self.server.get("/healthz", "").await.expect(200);
        self.server.flush().await;
        self.server.sql(&self.query, "SELECT * FROM calls").await;
        self.server.sql(&self.query, "SELECT * FROM legs").await;
        self.server.sql(&self.query, "SELECT * FROM events").await;
    }
}

/// One good message per route: what is wrong with the request is then its key alone.
const ROUTES: [(&str, &str, &str, &str); 10] = [
    ("GET", "/in/kazoo/pivot?Call-ID=a&From=1&To=2", "", ""),
    ("POST", "/in/kazoo/hook", JSON, r#"{"hook_event":"channel_create","call_id":"a","timestamp":"63934542245"}"#),
    ("GET", "/in/virtualpbx/pivot?Call-ID=a&From=1&To=2", "", ""),
    ("POST", "/in/virtualpbx/hook", FORM, "hook_event=channel_create&call_id=a&timestamp=63934542245"),
    ("POST", "/in/virtualpbx/pivot/debug", JSON, r#"{"call_id":"a","id":"1","uri":"http://h/?Call-ID=a"}"#),
    ("POST", "/in/placetel", FORM, "event=IncomingCall&from=1&to=2&call_id=a"),
    ("GET", "/in/voispeed/event?event_type=2&event=8&event_name=incoming_call&ext=35&number=1&usercallid=1", "", ""),
    ("GET", "/in/voispeed/ivr?ivrid=9&nodeid=0&callid=1&calling=35&called=1", "", ""),
    ("POST", "/in/voispeed/report", "text/xml", "<result><outcome>0</outcome><call><id>1</id></call></result>"),
    ("POST", "/in/planfix", FORM, "cmd=event&type=in&event=INCOMING&phone=1&ext=2&callid=3"),
];

async fn send_all(server: &Server, key: Option<&str>, planfix: u16, others: u16) {
    for (method, path, kind, body) in ROUTES {
        let content_type = (!kind.is_empty()).then_some(kind);
        let request = Request { method, path, key, content_type, body: body.as_bytes().to_vec(), ..Request::default() };
        let answer = server.send(request).await;
        if path == "/in/planfix" {
            assert_eq!((answer.status, answer.json()), (planfix, json!({"error": "Invalid token"})));
        } else {
            assert_eq!(answer.status, others, "{method} {path}: {}", answer.text());
        }
        assert_eq!(answer.offset(), None, "{path} stored something");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn without_the_right_key_nothing_is_stored() {
    let server = Server::start();
    let query = server.key("acme", &["query"]);
    send_all(&server, None, 401, 401).await;
    send_all(&server, Some("tlk_AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA"), 401, 401).await;
    send_all(&server, Some("nonsense"), 401, 401).await;
    send_all(&server, Some(&query), 401, 403).await;
    let revoked = server.key("acme", &["ingest:*"]);
    let id = server.run(&["keys", "list"]);
    assert!(!id.contains(&revoked), "the list shows no token");
    let expired = server.key_with("acme", &["ingest:*"], &["--expires", "1s"]);
    tokio::time::sleep(std::time::Duration::from_millis(1100)).await;
    send_all(&server, Some(&expired), 401, 401).await;
    let planfix_only = server.key("acme", &["ingest:planfix"]);
    let body = "event=IncomingCall&from=1&to=2&call_id=a";
    server.post_form("/in/placetel", &planfix_only, body).await.expect(403);
    server.post_form("/in/placetel", server.admin(), body).await.expect(403);
    server.post("/in/events", &planfix_only, "application/x-ndjson", b"{}\n").await.expect(403);
    server.post_form("/in/tlk_wrong/placetel", &planfix_only, body).await.expect(401);
    assert_eq!(server.sql(&query, "SELECT count(*) FROM events").await.number(), 0);
    assert_eq!(server.sql(&query, "SELECT count(*) FROM calls").await.number(), 0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn empty_requests_are_refused() {
    let bench = Bench::start();
    for path in ["/in/kazoo/pivot", "/in/kazoo/hook", "/in/virtualpbx/pivot/debug", "/in/placetel"] {
        let answer = bench.form(path, b"").await;
        assert_eq!((answer.status, answer.offset()), (422, None), "{path}: {}", answer.text());
    }
    assert_eq!(bench.form("/in/planfix", b"").await.expect(400).json(), json!({"error": "Invalid parameters"}));
    for path in ["/in/voispeed/event", "/in/voispeed/ivr"] {
        let answer = bench.server.get(path, &bench.ingest).await.expect(400);
        assert_eq!(answer.content_type(), "text/plain", "{path}: {}", answer.text());
    }
    assert_eq!(bench.count("events").await, 0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn ten_megabytes_are_too_much() {
    let bench = Bench::start();
    let body = [b"event=IncomingCall&call_id=big&padding=".as_slice(), &vec![b'x'; 10 << 20]].concat();
    for path in ["/in/placetel", "/in/planfix", "/in/kazoo/hook", "/in/kazoo/pivot", "/in/voispeed/event"] {
        let head = format!(
            "POST {path} HTTP/1.1\r\nhost: trunklog\r\nauthorization: Bearer {}\r\ncontent-type: {FORM}\r\ncontent-length: {}\r\n\r\n",
            bench.ingest,
            body.len()
        );
        let answer = raw_request(bench.server.address(), &head, &body);
        assert_eq!(answer.status, 413, "{path}: {}", answer.text);
    }
    assert_eq!(bench.count("events").await, 0);
    bench.expect_well().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_no_text_is_quarantined() {
    let bench = Bench::start();
    let broken: [(&str, &[u8]); 5] = [
        ("invalid UTF-8, encoded", b"%FF%FE"),
        ("invalid UTF-8, raw", b"\xff\xfe"),
        ("an encoded surrogate", b"%ED%A0%80"),
        ("no hex digits", b"%zz"),
        ("half an escape", b"abc%4"),
    ];
    for (what, value) in broken {
        let with = |head: &str| [head.as_bytes(), value].concat();
        let placetel = bench.form("/in/placetel", &with("event=IncomingCall&call_id=a&to=2&from=")).await.expect(200);
        assert_eq!(placetel.content_type(), "application/xml", "{what}");
        bench.expect_quarantined(&placetel).await;
        bench
            .expect_quarantined(
                &bench.form("/in/kazoo/hook", &with("hook_event=channel_create&call_id=")).await.expect(200),
            )
            .await;
        bench.expect_quarantined(&bench.form("/in/kazoo/pivot", &with("Call-ID=a&From=")).await.expect(200)).await;
        let planfix = bench
            .form("/in/planfix", &with("cmd=event&type=in&event=INCOMING&ext=1&callid=a&phone="))
            .await
            .expect(400);
        assert_eq!(planfix.json(), json!({"error": "Invalid parameters"}), "{what}");
        bench.expect_quarantined(&planfix).await;
        let voispeed = bench
            .form("/in/voispeed/event", &with("event_type=2&event=8&ext=35&usercallid=1&number="))
            .await
            .expect(400);
        assert_eq!(voispeed.content_type(), "text/plain", "{what}");
        bench.expect_quarantined(&voispeed).await;
    }
    assert_eq!(bench.count("calls").await, 0);
    assert_eq!(bench.count("events").await, 25);
    bench.expect_well().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn invalid_queries_are_quarantined_too() {
    let bench = Bench::start();
    for path in ["/in/kazoo/pivot?Call-ID=%FF&From=1", "/in/kazoo/hook?hook_event=channel_create&call_id=%zz"] {
        bench.expect_quarantined(&bench.server.get(path, &bench.ingest).await.expect(200)).await;
    }
    let path = "/in/voispeed/event?event_type=2&event=8&ext=35&usercallid=%C3%28";
    bench.expect_quarantined(&bench.server.get(path, &bench.ingest).await.expect(400)).await;
    bench.expect_well().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn fields_given_twice_make_at_most_one_call() {
    let bench = Bench::start();
    let cases = [
        ("/in/placetel", "event=IncomingCall&from=1&to=2&call_id=first&call_id=second"),
        ("/in/kazoo/hook", "hook_event=channel_create&timestamp=63934542245&call_id=first&call_id=second"),
        ("/in/virtualpbx/pivot", "From=1&To=2&Call-ID=first&Call-ID=second"),
        ("/in/planfix", "cmd=event&type=in&event=INCOMING&phone=1&ext=2&callid=first&callid=second"),
        (
            "/in/voispeed/event",
            "event_type=2&event=8&event_name=incoming_call&ext=35&number=1&usercallid=first&usercallid=second",
        ),
    ];
    for (path, body) in cases {
        let before = bench.count("calls").await;
        let answer = bench.form(path, body.as_bytes()).await;
        let event = bench.event(&answer).await;
        let made = bench.count("calls").await - before;
        if event["quarantined"] == json!(true) {
            assert_eq!(made, 0, "{path}: a quarantined message made a call");
        } else {
            assert_eq!((answer.status, made), (200, 1), "{path}");
            assert!(["first", "second"].contains(&event["call_key"].as_str().unwrap()), "{path}: {event:?}");
        }
    }
    bench.expect_well().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_xml_bomb_does_not_go_off() {
    let bench = Bench::start();
    let mut bomb =
        String::from("<?xml version=\"1.0\"?>\n<!DOCTYPE lolz [\n <!ENTITY lol \"lollollollollollollollollollol\">\n");
    for level in 1..10 {
        let name = if level == 1 { "lol".to_owned() } else { format!("lol{}", level - 1) };
        bomb.push_str(&format!(" <!ENTITY lol{level} \"{}\">\n", format!("&{name};").repeat(10)));
    }
    bomb.push_str("]>\n<result><outcome>0</outcome><call><id>&lol9;</id><start_time>2025-01-10 09:15:00</start_time><duration>1</duration><outcome>1</outcome></call></result>");
    let before = bench.server.resident_bytes();
    let started = std::time::Instant::now();
    let answer = bench.server.post("/in/voispeed/report", &bench.ingest, "text/xml", bomb.as_bytes()).await.expect(200);
    assert!(started.elapsed().as_secs() < 5, "the bomb took {:?}", started.elapsed());
    assert!(bench.server.resident_bytes() < before + (200 << 20), "the bomb took memory");
    let counts = answer.json();
    assert_eq!(counts["accepted"].as_i64().unwrap() + counts["quarantined"].as_i64().unwrap(), 1, "{counts}");
    let keys = bench.server.sql(&bench.query, "SELECT call_key FROM events WHERE call_key IS NOT NULL").await;
    assert!(keys.rows.iter().all(|row| row[0].as_str().unwrap().len() < 100), "an entity was expanded");
    let files = "<!DOCTYPE r [<!ENTITY f SYSTEM \"file:///etc/passwd\">]><result><outcome>0</outcome><call><id>7</id><external_id>&f;</external_id><duration>1</duration></call></result>";
    bench.server.post("/in/voispeed/report", &bench.ingest, "text/xml", files.as_bytes()).await.expect(200);
    let calls = bench.server.sql(&bench.query, "SELECT * FROM calls").await;
    assert!(!json!(calls.rows).to_string().contains("root:"), "a file was read for an entity");
    bench.expect_well().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn deeply_nested_input_is_quarantined() {
    let bench = Bench::start();
    let lists = [b"[".repeat(100_000), b"]".repeat(100_000)].concat();
    let objects = [br#"{"a":"#.repeat(100_000), b"1".to_vec(), b"}".repeat(100_000)].concat();
    let inside =
        [br#"{"call_id":"deep","hook_event":"channel_create","x":"#.to_vec(), lists.clone(), b"}".to_vec()].concat();
    for body in [&lists, &objects, &inside] {
        for path in ["/in/kazoo/hook", "/in/kazoo/pivot", "/in/placetel"] {
            bench.expect_quarantined(&bench.json(path, body).await.expect(200)).await;
        }
    }
    let counts = bench.json("/in/virtualpbx/pivot/debug", &objects).await.expect(200).json();
    assert_eq!((&counts["accepted"], &counts["quarantined"]), (&json!(0), &json!(1)), "{counts}");
    let counts =
        bench.server.post("/in/events", &bench.ingest, "application/x-ndjson", &objects).await.expect(200).json();
    assert_eq!((&counts["accepted"], &counts["quarantined"]), (&json!(0), &json!(1)), "{counts}");
    let keys = format!("Call-ID=deep-form&From=1&To=2&Digits{}=1", "[a]".repeat(20_000));
    let answer = bench.form("/in/kazoo/pivot", keys.as_bytes()).await.expect(200);
    bench.event(&answer).await;
    bench.expect_well().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_call_id_of_100_kilobytes_is_quarantined() {
    let bench = Bench::start();
    let id = "x".repeat(100_000);
    let cases = [
        ("/in/placetel", format!("event=IncomingCall&from=1&to=2&call_id={id}"), 200),
        ("/in/kazoo/hook", format!("hook_event=channel_create&timestamp=63934542245&call_id={id}"), 200),
        ("/in/kazoo/pivot", format!("From=1&To=2&Call-ID={id}"), 200),
        ("/in/planfix", format!("cmd=event&type=in&event=INCOMING&phone=1&ext=2&callid={id}"), 400),
        (
            "/in/voispeed/event",
            format!("event_type=2&event=8&event_name=incoming_call&ext=35&number=1&usercallid={id}"),
            400,
        ),
    ];
    for (path, body, status) in cases {
        let answer = bench.form(path, body.as_bytes()).await;
        assert_eq!(answer.status, status, "{path}: {}", answer.text());
        bench.expect_quarantined(&answer).await;
    }
    let just_fits = format!("event=IncomingCall&from=1&to=2&call_id={}", "y".repeat(1_024));
    let one_more = format!("event=IncomingCall&from=1&to=2&call_id={}", "z".repeat(1_025));
    let answer = bench.form("/in/placetel", just_fits.as_bytes()).await.expect(200);
    assert_eq!(bench.event(&answer).await["quarantined"], false);
    bench.expect_quarantined(&bench.form("/in/placetel", one_more.as_bytes()).await.expect(200)).await;
    assert_eq!(bench.count("calls").await, 1);
    bench.expect_well().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_call_id_with_dots_is_only_a_name() {
    let bench = Bench::start();
    let before: Vec<_> =
        std::fs::read_dir(bench.server.root()).unwrap().map(|entry| entry.unwrap().file_name()).collect();
    for id in ["../../../../tmp/trunklog-escaped", "..", "/etc/passwd", "a\u{0}b", "a/../b", "%2e%2e%2f"] {
        let form: String = url::form_urlencoded::Serializer::new("event=IncomingCall&from=1&to=2&".to_owned())
            .append_pair("call_id", id)
            .finish();
        let answer = bench.form("/in/placetel", form.as_bytes()).await.expect(200);
        let event = bench.event(&answer).await;
        assert_eq!((event["quarantined"].clone(), event["call_key"].as_str()), (json!(false), Some(id)));
        let call = bench
            .server
            .sql_with(&bench.query, "SELECT call_id FROM calls WHERE call_key = $1", json!([id]))
            .await
            .only();
        let call_id = call["call_id"].as_str().unwrap();
        let letters = call_id.bytes().all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit());
        assert!(letters && (26..=64).contains(&call_id.len()), "call_id `{call_id}`");
        bench.server.get(&format!("/v1/calls/{call_id}"), &bench.query).await.expect(200);
    }
    bench.server.get("/v1/calls/..%2f..%2fetc%2fpasswd", &bench.query).await.expect(404);
    bench.expect_well().await;
    let after: Vec<_> =
        std::fs::read_dir(bench.server.root()).unwrap().map(|entry| entry.unwrap().file_name()).collect();
    assert_eq!(before, after, "a file was made outside the data directory");
    assert!(!std::path::Path::new("/tmp/trunklog-escaped").exists());
}
