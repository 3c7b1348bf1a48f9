//! open, timed_out, closed, partial: an open call of which nothing was heard for longer than its source's limit is
//! shown as timed out by whoever reads, whatever tier it lies in; a message that comes late after all opens or closes
//! it (protocols.md 8.1 item 4).

use std::collections::BTreeMap;

use serde_json::{Value, json};
use trunklog_storage::event::{format_time, now};
use trunklog_tests::{Options, Server};

/// Limits of the tenant `own`; the others have the defaults.
const CONFIG: &str = r#"
[tenants.own]
timeout.kazoo = "10m"
timeout.voispeed = "7h"
timeout.placetel = "2h"
timeout.placetel_ringing = "30m"
timeout.planfix = "5h"
[tenants.short]
timeout.placetel = "20m"
"#;

/// One message, this many minutes old.
struct Heard {
    tenant: &'static str,
    key: &'static str,
    kind: &'static str,
    minutes: i64,
}

/// A call, of which this is the last message, and how it is shown.
type Case = (&'static str, &'static str, &'static str, i64, &'static str);

/// Tenant, key, last message, its age in minutes, state. The limits are 4 hours (240 minutes) for every source, and
/// one hour for a Placetel call of which nothing but IncomingCall came.
const CASES: [Case; 25] = [
    ("plain", "kz-within", "kazoo.pivot", 238, "open"),
    ("plain", "kz-beyond", "kazoo.pivot", 241, "timed_out"),
    ("plain", "vp-within", "virtualpbx.pivot", 238, "open"),
    ("plain", "vp-beyond", "virtualpbx.pivot", 241, "timed_out"),
    ("plain", "pt-within", "placetel.IncomingCall", 58, "open"),
    ("plain", "pt-beyond", "placetel.IncomingCall", 61, "timed_out"),
    ("plain", "pt-out-ringing", "placetel.OutgoingCall", 61, "open"),
    ("plain", "pt-out-within", "placetel.OutgoingCall", 238, "open"),
    ("plain", "pt-out-beyond", "placetel.OutgoingCall", 241, "timed_out"),
    ("plain", "pt-talk-within", "placetel.CallAccepted", 238, "open"),
    ("plain", "pt-talk-beyond", "placetel.CallAccepted", 241, "timed_out"),
    ("plain", "pt-ended", "placetel.HungUp", 600, "partial"),
    ("plain", "vs-within", "voispeed.user.incoming_call", 238, "open"),
    ("plain", "vs-beyond", "voispeed.user.incoming_call", 241, "timed_out"),
    ("plain", "px-within", "planfix.INCOMING", 238, "open"),
    ("plain", "px-beyond", "planfix.INCOMING", 241, "timed_out"),
    ("own", "kz-within", "kazoo.pivot", 8, "open"),
    ("own", "kz-beyond", "kazoo.pivot", 11, "timed_out"),
    ("own", "vp-beyond", "virtualpbx.pivot", 11, "timed_out"),
    ("own", "pt-beyond", "placetel.IncomingCall", 31, "timed_out"),
    ("own", "pt-talk-beyond", "placetel.CallAccepted", 121, "timed_out"),
    ("own", "vs-within", "voispeed.user.incoming_call", 418, "open"),
    ("own", "px-within", "planfix.INCOMING", 298, "open"),
    ("own", "px-beyond", "planfix.INCOMING", 301, "timed_out"),
    ("short", "pt-beyond", "placetel.IncomingCall", 21, "timed_out"),
];

impl Heard {
    /// As a line of a bulk load.
    fn line(&self) -> String {
        let (source, name) = self.kind.split_once('.').unwrap();
        let key = self.key;
        let body = match name {
            "pivot" => format!("Call-ID={key}&From=1001&Request=2002&Caller-ID-Number=1001"),
            "IncomingCall" | "CallAccepted" => format!("event={name}&call_id={key}&direction=in&from=0301&to=0302"),
            "OutgoingCall" => format!("event={name}&call_id={key}&direction=out&from=0302&to=0301"),
            "HungUp" => format!("event={name}&call_id={key}&direction=in&from=0301&to=0302&type=missed&duration=0"),
            "user.incoming_call" => format!("event_type=2&event=8&ext=35&number=0212345678&usercallid={key}"),
            "user.lost_call" => format!("event_type=2&event=12&ext=35&number=0212345678&usercallid={key}"),
            "INCOMING" | "ACCEPTED" => format!("cmd=event&type=in&event={name}&phone=7999&ext=101&callid={key}"),
            "COMPLETED" => {
                format!("cmd=event&type=in&event={name}&phone=7999&ext=101&callid={key}&status=Missed&duration=0")
            }
            "channel_destroy" => format!(
                "hook_event={name}&call_id={key}&call_direction=inbound&hangup_cause=NO_ANSWER&billing_seconds=0"
            ),
            other => panic!("no message `{other}`"),
        };
        let at = now() - self.minutes * 60_000_000;
        let id = format!("{key}-{name}-{}", self.minutes);
        json!({
            "specversion": "1.0", "id": id, "source": source, "type": self.kind, "time": format_time(at),
            "datacontenttype": "application/x-www-form-urlencoded", "data": body,
        })
        .to_string()
    }
}

struct Tenants<'a> {
    server: &'a Server,
    /// Keys that ingest, and keys that ask.
    keys: BTreeMap<&'static str, (String, String)>,
}

impl<'a> Tenants<'a> {
    fn new(server: &'a Server) -> Tenants<'a> {
        let keys = |tenant| (tenant, (server.key(tenant, &["ingest:*"]), server.key(tenant, &["query"])));
        Tenants { server, keys: ["plain", "own", "short"].map(keys).into() }
    }

    async fn hear(&self, messages: &[Heard]) {
        for message in messages {
            let (ingest, _) = &self.keys[message.tenant];
            let body = message.line();
            let answer = self.server.post("/in/events", ingest, "application/x-ndjson", body.as_bytes()).await;
            assert_eq!(answer.expect(200).json()["accepted"], 1, "{body}");
        }
    }

    /// Every call is shown so: by SQL, by SQL's filter, by the list's filter and alone.
    async fn check(&self, cases: &[Case], when: &str) {
        for tenant in self.keys.keys() {
            let (_, query) = &self.keys[tenant];
            let rows =
                self.server.sql(query, "SELECT call_id, call_key, state, disposition, ended_at FROM calls").await;
            let expected: BTreeMap<&str, &str> =
                cases.iter().filter(|case| case.0 == *tenant).map(|case| (case.1, case.4)).collect();
            assert_eq!(rows.rows.len(), expected.len(), "{when}: {tenant}");
            for row in rows.objects() {
                let key = row["call_key"].as_str().unwrap();
                assert_eq!(row["state"], expected[key], "{when}: {tenant} {key}");
                if matches!(expected[key], "open" | "timed_out") {
                    assert_eq!(
                        (&row["disposition"], &row["ended_at"]),
                        (&json!("unknown"), &Value::Null),
                        "{when}: {key}"
                    );
                }
                let path = format!("/v1/calls/{}", row["call_id"].as_str().unwrap());
                let single = self.server.get(&path, query).await.expect(200).json();
                assert_eq!(single["state"], row["state"], "{when}: {tenant} {key} alone");
            }
            for state in ["open", "timed_out", "closed", "partial"] {
                let count = expected.values().filter(|shown| **shown == state).count();
                let sql = format!("SELECT count(*) FROM calls WHERE state = '{state}'");
                let counted = self.server.sql(query, &sql).await.number();
                assert_eq!(counted, i64::try_from(count).unwrap(), "{when}: {tenant}, `{sql}`");
                let list =
                    self.server.get(&format!("/v1/calls?state={state}&limit=1000"), query).await.expect(200).json();
                assert_eq!(list["items"].as_array().unwrap().len(), count, "{when}: {tenant}, the list of {state}");
            }
        }
    }
}

fn last_messages() -> Vec<Heard> {
    let heard = |case: &Case| Heard { tenant: case.0, key: case.1, kind: case.2, minutes: case.3 };
    let last = CASES.iter().map(heard);
    // Calls that were answered had started long before.
    let before = CASES.iter().filter(|case| case.2.ends_with("CallAccepted"));
    let before = before.map(|case| Heard { kind: "placetel.IncomingCall", minutes: case.3 + 300, ..heard(case) });
    before.chain(last).collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn open_calls_time_out_by_their_sources_limit() {
    let mut server = Server::start_with(Options { config: Some(CONFIG.to_owned()), ..Options::default() });
    let keys = {
        let tenants = Tenants::new(&server);
        tenants.hear(&last_messages()).await;
        tenants.check(&CASES, "in memory").await;
        server.flush().await;
        tenants.check(&CASES, "in tables").await;
        tenants.keys
    };
    server.run(&["rebuild"]);
    Tenants { server: &server, keys: keys.clone() }.check(&CASES, "rebuilt").await;
    server.kill();
    server.launch();
    Tenants { server: &server, keys }.check(&CASES, "after a restart").await;
}

/// What comes late to a call that has timed out, and what the call is then.
const LATE: [(&str, &str, &str, &str, &str); 8] = [
    ("kz-beyond", "kazoo.pivot", "kazoo.channel_destroy", "closed", "missed"),
    ("vp-beyond", "virtualpbx.pivot", "virtualpbx.channel_destroy", "closed", "missed"),
    ("pt-beyond", "placetel.IncomingCall", "placetel.HungUp", "closed", "missed"),
    ("pt-heard", "placetel.IncomingCall", "placetel.CallAccepted", "open", "unknown"),
    ("vs-beyond", "voispeed.user.incoming_call", "voispeed.user.lost_call", "closed", "missed"),
    ("px-beyond", "planfix.INCOMING", "planfix.COMPLETED", "closed", "missed"),
    ("px-heard", "planfix.INCOMING", "planfix.ACCEPTED", "open", "unknown"),
    ("px-again", "planfix.INCOMING", "planfix.INCOMING", "open", "unknown"),
];

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_late_message_opens_or_closes_what_had_timed_out() {
    let server = Server::start();
    let tenants = Tenants::new(&server);
    let starts = LATE.map(|(key, kind, ..)| Heard { tenant: "plain", key, kind, minutes: 300 });
    tenants.hear(&starts).await;
    // Half of it against stored rows, half against memory.
    server.flush().await;
    let timed_out: [Case; 8] = LATE.map(|(key, kind, ..)| ("plain", key, kind, 300, "timed_out"));
    tenants.check(&timed_out, "before").await;
    tenants.hear(&LATE.map(|(key, _, kind, ..)| Heard { tenant: "plain", key, kind, minutes: 1 })).await;
    let shown: [Case; 8] = LATE.map(|(key, kind, _, state, _)| ("plain", key, kind, 300, state));
    tenants.check(&shown, "heard again").await;
    server.flush().await;
    tenants.check(&shown, "heard again and stored").await;

    let (_, query) = &tenants.keys["plain"];
    let sql = "SELECT call_key, disposition, ended_at IS NOT NULL AS ended, duration_ms FROM calls";
    let rows = server.sql(query, sql).await.objects();
    for (key, _, _, state, disposition) in LATE {
        let row = rows.iter().find(|row| row["call_key"] == key).unwrap();
        assert_eq!(row["disposition"], disposition, "{key}");
        assert_eq!(row["ended"], state == "closed", "{key}");
        // The call is as long as it was until somebody said that it was over: 299 minutes, give or take the test's own.
        let length = row["duration_ms"].as_i64();
        assert_eq!(length.is_some(), state == "closed", "{key}");
        assert!(length.is_none_or(|length| (299 * 60_000..300 * 60_000).contains(&length)), "{key}: {length:?}");
    }
}
