//! A recording and its call: whichever comes first, by id or by what fits; listed, kept over kill and rebuild.

use serde_json::{Value, json};
use trunklog_tests::expect::difference;

use super::{Bench, MONO_MP3, Row, SMALL_MP3, STEREO_WAV, ULAW_WAV, noise, sample, sha256, text};

/// Gregorian seconds of 2025-01-02T01:20:00Z.
const START: i64 = 63_903_000_000;

/// A call of 40 seconds as its A-leg tells it.
async fn play_call(bench: &Bench, id: &str, start: i64) {
    let hook = async |event: &str, at: i64, more: Value| {
        let mut message = json!({
            "hook_event": event, "call_id": id, "timestamp": at.to_string(), "call_direction": "inbound",
            "caller_id_number": "+35316877779", "callee_id_number": "0871234567", "from": "+35316877779@acme.sip",
            "to": "0871234567@acme.sip", "request": "0871234567@acme.sip", "authorizing_type": "resource"
        });
        message.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        let body = message.to_string();
        bench.server.post("/in/kazoo/hook", &bench.ingest, "application/json", body.as_bytes()).await.expect(200);
    };
    hook("channel_create", start, json!({})).await;
    hook("channel_answer", start + 5, json!({})).await;
    let end = json!({
        "duration_seconds": 40, "billing_seconds": 35, "ringing_seconds": 5, "hangup_cause": "NORMAL_CLEARING"
    });
    hook("channel_destroy", start + 40, end).await;
}

fn upload_of(id: &str) -> String {
    format!(
        "call_recording_{}.mp3?from=%2B35316877779%40acme.sip&to=0871234567%40acme.sip&call_id={0}",
        id.replace('@', "%40")
    )
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_recording_finds_its_call_whichever_comes_first() {
    let bench = Bench::start();
    let bytes = sample(MONO_MP3);
    // The call, then its recording.
    play_call(&bench, "after@h", START).await;
    let put = async |id: &str| bench.put(&format!("/in/kazoo/recordings/{}", upload_of(id)), &bytes).await.expect(201);
    put("after@h").await;
    // The recording, then its call.
    put("before@h").await;
    let partial = bench.call("kazoo", "before@h").await.unwrap();
    assert_eq!((&partial["state"], &partial["recording_state"]), (&json!("partial"), &json!("available")));
    assert_eq!((&partial["from_number"], &partial["to_number"]), (&json!("+35316877779"), &json!("0871234567")));
    play_call(&bench, "before@h", START).await;
    // A recording whose call never comes.
    put("never@h").await;
    for (id, state) in [("after@h", "closed"), ("before@h", "closed"), ("never@h", "partial")] {
        let row = bench.rows("call_key", id).await.remove(0);
        assert_eq!((&row["link"], &row["link_confidence"]), (&json!("id"), &json!(1.0)), "{id}");
        let call = bench.call("kazoo", id).await.unwrap();
        let expected = json!({ "state": state, "recording_state": "available", "recordings": [row["recording_id"]] });
        assert_eq!(difference(&expected, &json!(call)), None, "{id}");
        assert_eq!(row["call_id"], call["call_id"]);
        expect_in_call(&bench, &row).await;
    }
    assert_eq!(bench.count("calls").await, 3);
    // Sent again, folded and compacted: nothing changes but the bookkeeping.
    let before = (bench.recordings().await.len(), bench.call("kazoo", "after@h").await.unwrap()["talk_ms"].clone());
    bench.put(&format!("/in/kazoo/recordings/{}", upload_of("after@h")), &bytes).await.expect(200);
    bench.server.flush().await;
    let after = (bench.recordings().await.len(), bench.call("kazoo", "after@h").await.unwrap()["talk_ms"].clone());
    assert_eq!(before, after);
}

/// `GET /v1/calls/{call_id}` shows the recording as an object, and the upload in the timeline.
async fn expect_in_call(bench: &Bench, row: &Row) {
    let path = format!("/v1/calls/{}", text(row, "call_id"));
    let shown = bench.server.get(&path, &bench.query).await.expect(200).json();
    let objects = shown["recordings"].as_array().unwrap();
    assert_eq!(objects.len(), 1, "{shown}");
    for column in ["recording_id", "sha256", "bytes", "call_key", "link"] {
        assert_eq!(objects[0][column], row[column], "{column}");
    }
    let messages = shown["messages"].as_array().unwrap();
    assert!(messages.iter().any(|message| message["type"] == "kazoo.recording"), "{shown}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_recording_that_names_no_call_is_linked_to_one_that_fits() {
    let bench = Bench::start();
    let numbers = "from=%2B35316877779%40acme.sip&to=0871234567%40acme.sip";
    let path = |name: &str, start: i64| {
        let when = format!("start={start}&duration_ms=22392&recording_id={name}");
        format!("/in/kazoo/recordings/call_recording_.mp3?{numbers}&call_id=&{when}")
    };
    // One comes before its call, one after; one fits nothing.
    bench.put(&path("early", START + 5), &sample(MONO_MP3)).await.expect(201);
    bench.put(&path("alone", START + 900_000), &sample(SMALL_MP3)).await.expect(201);
    let early = bench.rows("external_recording_id", "early").await.remove(0);
    assert_eq!(
        (&early["link"], &early["call_id"], &early["link_confidence"]),
        (&json!("none"), &json!(null), &json!(null))
    );
    assert_eq!(bench.count("calls").await, 0, "without an id there is no call of it");
    play_call(&bench, "fits-1@h", START).await;
    play_call(&bench, "fits-2@h", START + 100_000).await;
    bench.put(&path("late", START + 100_005), &sample(ULAW_WAV)).await.expect(201);
    for (name, key) in [("early", "fits-1@h"), ("late", "fits-2@h")] {
        let linked = |rows: &Vec<Row>| rows[0]["link"] == json!("soft");
        let row = bench.eventually(name, || bench.rows("external_recording_id", name), linked).await.remove(0);
        assert_eq!(row["call_key"], json!(key), "{name}");
        let confidence = row["link_confidence"].as_f64().unwrap();
        assert!(confidence > 0.0 && confidence < 1.0, "{confidence}");
        let call = bench.call("kazoo", key).await.unwrap();
        assert_eq!(call["recordings"], json!([row["recording_id"]]), "{name}");
        assert_eq!(call["recording_state"], json!("available"));
    }
    let decided = "SELECT count(*) FROM system_events WHERE type = 'trunklog.link'";
    assert!(bench.server.sql(&bench.query, decided).await.number() >= 2, "decisions are in the log");
    assert_eq!(bench.rows("external_recording_id", "alone").await[0]["link"], json!("none"));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_recording_that_bears_the_name_of_a_leg_is_of_its_call() {
    let bench = Bench::start();
    play_call(&bench, "a@h", START).await;
    for (event, second, other) in [("channel_create", 1, ""), ("channel_answer", 5, "&other_leg_call_id=a%40h")] {
        let at = START + second;
        let form = format!("hook_event={event}&timestamp={at}&call_id=desk&call_direction=outbound{other}");
        bench.server.post_form("/in/kazoo/hook", &bench.ingest, &form).await.expect(200);
    }
    bench.eventually("the leg has found its call", || bench.count("calls"), |calls| *calls == 1).await;
    let bytes = sample(SMALL_MP3);
    bench.put("/in/kazoo/recordings/desk.mp3", &bytes).await.expect(201);
    let (hash, linked) = (sha256(&bytes), |rows: &Vec<Row>| rows[0]["link"] == json!("soft"));
    let row = bench.eventually("it is linked", || bench.rows("sha256", &hash), linked).await.remove(0);
    assert_eq!((&row["call_key"], &row["link_confidence"]), (&json!("a@h"), &json!(0.95)));
    assert_eq!(bench.call("kazoo", "a@h").await.unwrap()["recordings"], json!([row["recording_id"]]));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_recording_moves_to_the_call_that_its_own_became_a_leg_of() {
    let bench = Bench::start();
    play_call(&bench, "a@h", START).await;
    let hook = |event: &str, second: i64, other: &str| {
        let at = START + second;
        format!("hook_event={event}&timestamp={at}&call_id=desk&call_direction=outbound{other}")
    };
    bench.server.post_form("/in/kazoo/hook", &bench.ingest, &hook("channel_create", 1, "")).await.expect(200);
    let bytes = sample(SMALL_MP3);
    bench.put("/in/kazoo/recordings/desk.mp3", &bytes).await.expect(201);
    let hash = sha256(&bytes);
    let linked_to = |key: &'static str| move |rows: &Vec<Row>| rows[0]["call_key"] == json!(key);
    bench.eventually("it is linked to the leg", || bench.rows("sha256", &hash), linked_to("desk")).await;
    let named = hook("channel_answer", 5, "&other_leg_call_id=a%40h");
    bench.server.post_form("/in/kazoo/hook", &bench.ingest, &named).await.expect(200);
    let row = bench.eventually("it follows", || bench.rows("sha256", &hash), linked_to("a@h")).await.remove(0);
    assert_eq!(bench.call("kazoo", "a@h").await.unwrap()["recordings"], json!([row["recording_id"]]));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn recordings_are_listed_filtered_and_paged() {
    let bench = Bench::start();
    for number in 0..7_u64 {
        let (source, key) = if number % 2 == 0 { ("kazoo", "even") } else { ("virtualpbx", "odd") };
        let path = format!("/in/{source}/recordings/call_recording_{key}%40h.mp3?from=10{number}%40h&to=200%40h");
        bench.put(&path, &noise(1_500, number)).await.expect(201);
    }
    bench.eventually("all are looked at", || bench.rows("status", "damaged"), |rows: &Vec<Row>| rows.len() == 7).await;
    let get = async |query: &str| bench.server.get(&format!("/v1/recordings{query}"), &bench.query).await;
    let items = async |query: &str| get(query).await.expect(200).json()["items"].as_array().unwrap().clone();
    assert_eq!(items("").await.len(), 7);
    assert_eq!(items("?source=kazoo").await.len(), 4);
    assert_eq!(items("?call_key=odd%40h").await.len(), 3);
    assert_eq!(items("?from_number=103").await.len(), 1);
    assert_eq!(items("?source=placetel").await.len(), 0);
    get("?colour=red").await.expect_problem(400);
    let mut seen = Vec::new();
    let mut query = "?limit=3&sort=-received_at".to_owned();
    loop {
        let page = get(&query).await.expect(200).json();
        seen.extend(page["items"].as_array().unwrap().clone());
        let Some(cursor) = page["next_cursor"].as_str() else { break };
        query = format!("?limit=3&sort=-received_at&cursor={cursor}");
    }
    assert_eq!(seen.len(), 7);
    let times: Vec<&str> = seen.iter().map(|item| item["received_at"].as_str().unwrap()).collect();
    assert!(times.is_sorted_by(|one, next| one >= next), "{times:?}");
    let rows = bench.recordings().await;
    for item in &seen {
        let row = rows.iter().find(|row| row["recording_id"] == item["recording_id"]).unwrap();
        assert_eq!(difference(&json!(row), item), None, "list and SQL show the same");
        let path = format!("/v1/recordings/{}", text(row, "recording_id"));
        let alone = bench.server.get(&path, &bench.query).await.expect(200).json();
        assert_eq!(difference(&json!(row), &alone), None, "and so does one alone");
    }
    bench.server.get("/v1/recordings/abcdefghijklmnopqrstuvwxyz012345", &bench.query).await.expect_problem(404);
}

/// What `verify --hash` prints about `recordings`.
fn hash(bench: &Bench) -> String {
    let text = bench.server.run(&["verify", "--hash"]);
    let line = text.lines().find(|line| line.contains("recordings"));
    line.unwrap_or_else(|| panic!("`verify --hash` does not name recordings:\n{text}")).to_owned()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn kill_restart_fold_and_rebuild_change_no_recording() {
    let mut bench = Bench::start();
    for (number, name) in [STEREO_WAV, MONO_MP3, ULAW_WAV, SMALL_MP3, "not-audio.mp3"].into_iter().enumerate() {
        let id = bench.stored(&format!("call_recording_keep{number}%40h.wav?from=1%40h&to=2%40h"), &sample(name)).await;
        bench.probed(&id).await;
    }
    play_call(&bench, "keep0@h", START).await;
    bench.stored("call_recording_.mp3?from=5%40h&call_id=&recording_id=alone", &noise(100_000, 3)).await;
    bench.probed(&text(&bench.rows("external_recording_id", "alone").await[0], "recording_id")).await;
    let before = bench.recordings().await;
    assert_eq!(before.len(), 6);
    bench.server.kill();
    bench.server.launch();
    assert_eq!(bench.recordings().await, before, "read from the log again");
    bench.expect_whole(&before).await;
    bench.server.flush().await;
    assert_eq!(bench.recordings().await, before, "read from the table");
    let hashed = hash(&bench);
    bench.server.kill();
    bench.server.launch();
    assert_eq!((bench.recordings().await, hash(&bench)), (before.clone(), hashed.clone()));
    // A rebuild needs no audio: everything it says stands in the log.
    let objects = bench.objects().join("recordings");
    let hidden = bench.server.root().join("hidden");
    std::fs::rename(&objects, &hidden).unwrap();
    bench.server.run(&["rebuild"]);
    assert_eq!((bench.recordings().await, hash(&bench)), (before.clone(), hashed.clone()));
    std::fs::remove_dir_all(&objects).ok();
    std::fs::rename(&hidden, &objects).unwrap();
    bench.server.stop();
    bench.server.run(&["rebuild"]);
    assert_eq!(hash(&bench), hashed, "and without a server");
    bench.server.launch();
    assert_eq!(bench.recordings().await, before);
    bench.expect_whole(&before).await;
    let path = "/in/kazoo/recordings/call_recording_keep1%40h.wav?from=1%40h&to=2%40h";
    bench.put(path, &sample(MONO_MP3)).await.expect(200);
    assert_eq!(bench.rows("sha256", &sha256(&sample(MONO_MP3))).await.len(), 1, "known after everything");
}
