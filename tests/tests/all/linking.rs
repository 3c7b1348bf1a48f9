//! Calls across messages that do not share an id: B-legs that name their call late, views of one conversation, and
//! transfers. Decisions are in the log, are made once, and are obeyed after a restart and by a rebuild.

use std::time::{Duration, Instant};

use base64::Engine;
use serde_json::{Map, Value, json};
use trunklog_tests::Server;

type Row = Map<String, Value>;

/// Gregorian seconds of 2025-01-02T01:20:00Z.
const START: i64 = 63_903_000_000;
/// Longer than it takes to decide anything.
const SETTLED: Duration = Duration::from_secs(3);

/// What a tenant sends and reads with.
struct Keys {
    ingest: String,
    query: String,
}

impl Keys {
    fn of(server: &Server, tenant: &str) -> Keys {
        Keys { ingest: server.key(tenant, &["ingest:*"]), query: server.key(tenant, &["query"]) }
    }

    async fn rows(&self, server: &Server, sql: &str) -> Vec<Row> {
        server.sql(&self.query, sql).await.objects()
    }

    async fn column(&self, server: &Server, sql: &str, column: &str) -> Vec<Value> {
        self.rows(server, sql).await.into_iter().map(|row| row[column].clone()).collect()
    }

    async fn hook(&self, server: &Server, form: &str) {
        server.post_form("/in/kazoo/hook", &self.ingest, form).await.expect(200);
    }

    async fn event(&self, server: &Server, query: &str) {
        server.get(&format!("/in/voispeed/event?{query}"), &self.ingest).await.expect(200);
    }

    /// The rows of `calls`, without what differs from one tenant and delivery to another.
    async fn calls(&self, server: &Server) -> Vec<Row> {
        let mut rows = self.rows(server, "SELECT * FROM calls ORDER BY call_key").await;
        for row in &mut rows {
            let differing =
                ["tenant", "call_id", "first_received_at", "last_received_at", "first_offset", "last_offset"];
            differing.iter().for_each(|column| drop(row.remove(*column)));
        }
        rows
    }

    /// The call keys that each call names as related.
    async fn related(&self, server: &Server) -> Vec<(String, Vec<String>)> {
        let rows = self.rows(server, "SELECT call_id, call_key, related_calls FROM calls ORDER BY call_key").await;
        let key_of = |id: &Value| {
            let row = rows.iter().find(|row| row["call_id"] == *id);
            row.map_or_else(|| format!("no row for {id}"), |row| row["call_key"].as_str().unwrap().to_owned())
        };
        let related = |row: &Row| {
            let mut keys: Vec<String> = row["related_calls"].as_array().unwrap().iter().map(key_of).collect();
            keys.sort();
            (row["call_key"].as_str().unwrap().to_owned(), keys)
        };
        rows.iter().map(related).collect()
    }
}

async fn eventually<T: PartialEq + std::fmt::Debug, F: Future<Output = T>>(
    what: &str,
    server: &Server,
    expected: &T,
    ask: impl Fn() -> F,
) {
    let deadline = Instant::now() + Duration::from_secs(60);
    loop {
        let found = ask().await;
        if found == *expected {
            return;
        }
        let late = Instant::now() > deadline;
        assert!(!late, "within 60 s: {what}\nexpected {expected:#?}\nfound {found:#?}\n{}", server.log());
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
}

async fn decisions(server: &Server) -> i64 {
    let sql = "SELECT count(*) FROM system_events WHERE type IN ('trunklog.link', 'trunklog.unlink')";
    server.sql(server.admin(), sql).await.number()
}

/// The number of decisions, once no more are made.
async fn all_decisions(server: &Server) -> i64 {
    tokio::time::sleep(SETTLED).await;
    decisions(server).await
}

/// What `verify --hash` prints about `calls`.
fn hash(server: &Server) -> String {
    let text = server.run(&["verify", "--hash"]);
    let line = text.lines().find(|line| line.contains("calls"));
    line.unwrap_or_else(|| panic!("`verify --hash` does not name calls:\n{text}")).to_owned()
}

fn hook(event: &str, second: i64, further: &str) -> String {
    let end = if event == "channel_destroy" {
        "&hangup_cause=NORMAL_CLEARING&hangup_code=sip%3A200&duration_seconds=40&ringing_seconds=5&billing_seconds=35"
    } else {
        ""
    };
    let at = START + second;
    format!(
        "hook_event={event}&timestamp={at}&caller_id_number=%2B35316877779&caller_id_name=Ann\
         &from=%2B35316877779%40acme.sip&to=0871234567%40acme.sip&request=0871234567%40acme.sip\
         &interaction_id=63903000000-0a1b2c3d{end}{further}"
    )
}

fn a_leg(event: &str, second: i64, other: &str) -> String {
    hook(event, second, &format!("&call_id=a%40h&call_direction=inbound&authorizing_type=resource{other}"))
}

fn b_leg(event: &str, second: i64, other: &str) -> String {
    hook(event, second, &format!("&call_id=b%40h&call_direction=outbound&owner_id=desk{other}"))
}

/// The call that a B-leg names.
const NAMED: &str = "&other_leg_call_id=a%40h";

/// A call of two legs, of which the B-leg names its call in these of its three messages.
fn messages(names: [bool; 3]) -> [String; 6] {
    let [create, answer, destroy] = names.map(|names| if names { NAMED } else { "" });
    [
        a_leg("channel_create", 0, ""),
        b_leg("channel_create", 1, create),
        b_leg("channel_answer", 5, answer),
        a_leg("channel_answer", 5, ""),
        b_leg("channel_destroy", 40, destroy),
        a_leg("channel_destroy", 40, ""),
    ]
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_b_leg_that_names_its_call_late_is_a_leg_of_it_in_any_order() {
    let mut server = Server::start();
    let named = Keys::of(&server, "named");
    for message in messages([true, true, true]) {
        named.hook(&server, &message).await;
    }
    let expected = named.calls(&server).await;
    assert_eq!((expected.len(), &expected[0]["state"]), (1, &json!("closed")));
    assert_eq!(decisions(&server).await, 0, "what names its call needs no decision");
    let orders = [[0, 1, 2, 3, 4, 5], [1, 0, 2, 3, 4, 5], [2, 1, 0, 3, 4, 5], [5, 4, 3, 2, 1, 0], [4, 1, 5, 0, 3, 2]];
    let mut tenants = Vec::new();
    for (number, order) in orders.into_iter().enumerate() {
        let keys = Keys::of(&server, &format!("late{number}"));
        let late = messages([false, true, false]);
        for index in order {
            keys.hook(&server, &late[index]).await;
        }
        tenants.push(keys);
    }
    for keys in &tenants {
        eventually("the call is one row", &server, &expected, || keys.calls(&server)).await;
        assert_eq!(keys.column(&server, "SELECT leg_key FROM legs", "leg_key").await, [json!("b@h")]);
    }
    let decided = all_decisions(&server).await;
    assert!(decided >= 2 * i64::try_from(orders.len()).unwrap(), "{decided} decisions are in the log");
    // Sent again, each message changes no row; how much was heard of a leg is told to its call.
    for message in messages([false, true, false]) {
        tenants[0].hook(&server, &message).await;
    }
    eventually("nothing changed", &server, &expected, || tenants[0].calls(&server)).await;
    let decided = all_decisions(&server).await;
    server.flush().await;
    let hashed = hash(&server);
    server.kill();
    server.launch();
    assert_eq!(all_decisions(&server).await, decided, "a restart decides nothing again");
    assert_eq!(hash(&server), hashed);
    server.run(&["rebuild"]);
    assert_eq!((hash(&server), all_decisions(&server).await), (hashed, decided), "a rebuild obeys");
    for keys in &tenants {
        assert_eq!(keys.calls(&server).await, expected);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_leg_that_was_a_call_leads_to_its_call() {
    let server = Server::start();
    let keys = Keys::of(&server, "acme");
    keys.hook(&server, &b_leg("channel_create", 1, "")).await;
    let alone = server.sql(&keys.query, "SELECT call_id, call_key FROM calls").await.only();
    assert_eq!(alone["call_key"], json!("b@h"));
    // Nobody but its A-leg ever names it.
    keys.hook(&server, &a_leg("channel_create", 0, "")).await;
    keys.hook(&server, &a_leg("channel_bridge", 5, "&other_leg_call_id=b%40h")).await;
    let only_call = vec![json!("a@h")];
    let call_keys = || keys.column(&server, "SELECT call_key FROM calls", "call_key");
    eventually("one call is left", &server, &only_call, call_keys).await;
    // What comes under the leg's own key from now on is the call's too.
    keys.hook(&server, &b_leg("channel_answer", 5, "")).await;
    keys.hook(&server, &b_leg("channel_destroy", 40, "")).await;
    let ended = vec![json!("answered")];
    let outcome = || keys.column(&server, "SELECT disposition FROM legs WHERE leg_key = 'b@h'", "disposition");
    eventually("the leg ended", &server, &ended, outcome).await;
    assert_eq!(call_keys().await, only_call, "and never was a call again");
    let path = format!("/v1/calls/{}", alone["call_id"].as_str().unwrap());
    let shown = server.get(&path, &keys.query).await.expect(200).json();
    assert_eq!(shown["call_key"], json!("a@h"));
    assert_eq!(shown["messages"].as_array().unwrap().len(), 5, "{shown}");
    let list = server.get("/v1/calls", &keys.query).await.expect(200).json();
    assert_eq!(list["items"].as_array().unwrap().len(), 1);
    let foreign = Keys::of(&server, "bravo");
    server.get(&path, &foreign.query).await.expect_problem(404);
    server.flush().await;
    assert_eq!(call_keys().await, only_call);
    assert_eq!(server.get(&path, &keys.query).await.expect(200).json()["call_key"], json!("a@h"));
    let metrics = server.send(trunklog_tests::Request { path: "/metrics", ..Default::default() }).await.text();
    assert!(metrics.contains("trunklog_call_links_total{rule=\"a_leg\"} 1"), "{metrics}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_call_of_hundreds_of_legs_shows_the_messages_of_all() {
    let server = Server::start();
    let keys = Keys::of(&server, "acme");
    let leg = |event: &str, second: i64, id: &str, other: &str| {
        hook(event, second, &format!("&call_id={id}&call_direction=outbound&owner_id=desk{other}"))
    };
    keys.hook(&server, &a_leg("channel_create", 0, "")).await;
    for number in 0..201 {
        keys.hook(&server, &leg("channel_create", 1, &format!("leg{number}"), NAMED)).await;
    }
    // The first message of the last leg does not name the call, so it stands under a key of its own.
    keys.hook(&server, &leg("channel_create", 2, "last", "")).await;
    keys.hook(&server, &leg("channel_answer", 5, "last", NAMED)).await;
    keys.hook(&server, &a_leg("channel_answer", 6, "")).await;
    let only_call = vec![json!("a@h")];
    let call_keys = || keys.column(&server, "SELECT call_key FROM calls", "call_key");
    eventually("one call is left", &server, &only_call, call_keys).await;
    assert_eq!(server.sql(&keys.query, "SELECT count(*) FROM legs").await.number(), 202);
    let call = server.sql(&keys.query, "SELECT call_id FROM calls").await.only();
    let path = format!("/v1/calls/{}", call["call_id"].as_str().unwrap());
    let shown = server.get(&path, &keys.query).await.expect(200).json();
    let messages = shown["messages"].as_array().unwrap().iter();
    let offsets: Vec<i64> = messages.map(|message| message["offset"].as_i64().unwrap()).collect();
    assert_eq!(offsets.len(), 1 + 201 + 2 + 1);
    assert!(offsets.is_sorted(), "{offsets:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_views_of_a_conversation_name_each_other() {
    let mut server = Server::start();
    let keys = Keys::of(&server, "acme");
    let user = |ext: &str, id: &str, events: &[(i64, &str, i64)]| -> Vec<String> {
        let event = |(code, name, second): &(i64, &str, i64)| {
            format!(
                "event_type=2&event={code}&event_name={name}&ext={ext}&number=0212345678&usercallid={id}\
                 &datetime=2025-01-10+09%3A00%3A{second:02}"
            )
        };
        events.iter().map(event).collect()
    };
    let system = |ext: &str, entity: &str, id: &str| -> Vec<String> {
        let event = |code: i64, name: &str, second: i64, further: String| {
            format!(
                "event_type=1&event={code}&event_name={name}&call_id={id}&datetime=2025-01-10+09%3A00%3A{second:02}\
                 &calling=0212345678&{further}"
            )
        };
        let came_in = "called=073333655434&calling_id=3&calling_type=2".to_owned();
        let rang = format!("called={ext}&called_id={entity}&called_type=0");
        let outcome = format!("sender_id={entity}&sender_type=0&outcome=1&connected_id={entity}&connected_type=0");
        vec![event(1, "call_in", 0, came_in), event(3, "call_out", 2, rang), event(4, "call_response", 9, outcome)]
    };
    // One number calls two extensions at the same time: only the extension tells which is which.
    let talk = [(8, "incoming_call", 2), (14, "call_answered", 9)];
    let views = [
        user("35", "4711", &talk),
        system("36", "13", "5501"),
        user("36", "4712", &talk),
        system("35", "12", "5500"),
        // The same parties at another time are other calls.
        user("35", "4713", &[(8, "incoming_call", 40)]),
    ];
    for query in views.iter().flatten() {
        keys.event(&server, query).await;
    }
    let pair = |key: &str, other: &[&str]| -> (String, Vec<String>) {
        (key.to_owned(), other.iter().map(|key| (*key).to_owned()).collect())
    };
    let expected: Vec<(String, Vec<String>)> = vec![
        pair("4711", &["5500"]),
        pair("4712", &["5501"]),
        pair("4713", &[]),
        pair("5500", &["4711"]),
        pair("5501", &["4712"]),
    ];
    eventually("they name each other", &server, &expected, || keys.related(&server)).await;
    let decided = all_decisions(&server).await;
    assert!(decided >= 4 && decided % 2 == 0, "a message about each call of each pair, and not {decided}");
    let first = server.sql(&keys.query, "SELECT payload FROM system_events ORDER BY \"offset\" LIMIT 1").await.only();
    let payload = base64::engine::general_purpose::STANDARD.decode(first["payload"].as_str().unwrap());
    let payload: Value = serde_json::from_slice(&payload.unwrap()).unwrap();
    assert_eq!((&payload["rule"], &payload["bond"]), (&json!("numbers"), &json!("related")), "{payload}");
    assert!(payload["from"].is_string() && payload["to"].is_string(), "{payload}");
    let confidence = payload["confidence"].as_f64().unwrap();
    assert!(confidence > 0.6 && confidence < 1.0, "{confidence}");
    // Redelivered, folded, restarted, rebuilt: nothing is decided again.
    for query in views.iter().flatten() {
        keys.event(&server, query).await;
    }
    assert_eq!(all_decisions(&server).await, decided);
    server.flush().await;
    let hashed = hash(&server);
    server.kill();
    server.launch();
    assert_eq!((all_decisions(&server).await, hash(&server)), (decided, hashed.clone()));
    server.run(&["rebuild"]);
    assert_eq!((keys.related(&server).await, hash(&server)), (expected, hashed));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_transfer_and_its_origin_name_each_other_whichever_comes_first() {
    let server = Server::start();
    let start = |id: &str| {
        format!(
            "event_type=1&event=1&event_name=call_in&call_id={id}&datetime=2025-01-10+10%3A00%3A00\
             &calling=0687654321&called=073333655434&calling_id=3&calling_type=2"
        )
    };
    let transfer = "event_type=1&event=7&event_name=call_transfer&call_id=901&datetime=2025-01-10+10%3A05%3A00\
                    &sender_id=12&sender_type=0&recipient_id=14&recipient_type=0&refer_id=900";
    let related = vec![("900".to_owned(), vec!["901".to_owned()]), ("901".to_owned(), vec!["900".to_owned()])];
    for (tenant, order) in
        [("before", [start("900"), transfer.to_owned()]), ("after", [transfer.to_owned(), start("900")])]
    {
        let keys = Keys::of(&server, tenant);
        for query in &order {
            keys.event(&server, query).await;
        }
        eventually(tenant, &server, &related, || keys.related(&server)).await;
    }
    assert_eq!(all_decisions(&server).await, 4);
}
