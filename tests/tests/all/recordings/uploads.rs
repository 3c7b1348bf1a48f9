//! Every upload of protocols.md 1.3 comes back byte for byte, once, at the right call; what is cut off, too large,
//! wrongly summed or not allowed leaves nothing.

use base64::Engine;
use base64::engine::general_purpose::STANDARD as BASE64;
use serde_json::{Value, json};
use sha2::{Digest, Sha256};
use trunklog_tests::expect::difference;
use trunklog_tests::{Request, raw_request, wire};

use super::{Bench, MONO_MP3, SMALL_MP3, STEREO_WAV, ULAW_WAV, noise, sample, sha256, text};

const NUMBERS: &str = "from=1001%40acme.sip&to=2002%40acme.sip&caller_id_name=Ann+B&caller_id_number=1001";
const RECORDED: &str = "start=63903000000&duration_ms=22225&recording_id=202501-0123456789abcdef0123456789abcdef";
const ACCOUNT: &str = "00000000000000000000000000000001";
/// RFC 1864 over `voicemail-vbr.mp3`, by `openssl md5 -binary | base64`.
const SMALL_MP3_MD5: &str = "NNpdGT0sSwIKV3/QxmxZZA==";

/// One form of URL; `{id}` is the percent-encoded call id.
struct Variant {
    name: &'static str,
    target: String,
    audio: &'static str,
    row: Value,
}

fn variant(name: &'static str, target: impl Into<String>, audio: &'static str, row: Value) -> Variant {
    Variant { name, target: target.into(), audio, row }
}

fn with_numbers() -> Value {
    json!({ "from_number": "1001", "to_number": "2002" })
}

fn variants() -> Vec<Variant> {
    let ids = "call_id={id}&cdr_id=202501-{id}&interaction_id=63903000000-0a1b2c3d";
    let v4 = format!("{NUMBERS}&{ids}&account_id={ACCOUNT}");
    let v43 = format!("{NUMBERS}&{ids}&owner_id=user-7&account_id={ACCOUNT}&{RECORDED}");
    let more = json!({
        "from_number": "1001", "to_number": "2002", "endpoint": "user-7",
        "external_recording_id": "202501-0123456789abcdef0123456789abcdef",
        "started_at": "2025-01-02T01:20:00.000000Z"
    });
    let conference = "conference_recording=true&conference_id=room-1";
    let conference = format!("{NUMBERS}&{ids}&owner_id=user-7&{RECORDED}&{conference}");
    vec![
        variant("3.x: name only", "call_recording_{id}.mp3", SMALL_MP3, json!({})),
        variant("3.x: below folders", format!("{ACCOUNT}/user-7/call_recording_{{id}}.wav"), ULAW_WAV, json!({})),
        variant("4.0: query", format!("call_recording_{{id}}.wav?{v4}"), STEREO_WAV, with_numbers()),
        variant("4.3: more query", format!("call_recording_{{id}}.mp3?{v43}"), MONO_MP3, more.clone()),
        variant("kazoo5: conference", format!("call_recording_{{id}}.mp3?{conference}"), MONO_MP3, more),
        variant(
            "name in the query, last parameter k=v",
            format!("kzr?tenant=a&recording=call_recording_{{id}}.mp3&{v4}"),
            SMALL_MP3,
            with_numbers(),
        ),
        variant(
            "name in the query, last parameter k=",
            format!("kzr?file=call_recording_{{id}}.mp3&{v4}"),
            SMALL_MP3,
            with_numbers(),
        ),
        variant(
            "name in the query, without a call id of its own",
            format!("kzr/index.php?recording=call_recording_{{id}}.mp3&{NUMBERS}"),
            SMALL_MP3,
            with_numbers(),
        ),
        variant(
            "the vendor's PHP receiver: CALL_ID.EXT in `recording`",
            format!("kzr/index.php?recording={{id}}.mp3&{NUMBERS}"),
            SMALL_MP3,
            with_numbers(),
        ),
        variant(
            "older 4.0: a second question mark",
            format!("kzr?x=call_recording_{{id}}.mp3?{v4}"),
            SMALL_MP3,
            with_numbers(),
        ),
        variant("master: two dots", format!("call_recording_{{id}}..mp3?{v4}"), SMALL_MP3, with_numbers()),
        variant("record_caller: no prefix", format!("voicemail/{ACCOUNT}/box-1/{{id}}.wav"), ULAW_WAV, json!({})),
        variant(
            "storage plan",
            format!("{ACCOUNT}/user-7/202501-0123456789abcdef/call_recording_{{id}}.mp3"),
            MONO_MP3,
            json!({}),
        ),
    ]
}

fn media_type(audio: &str) -> &'static str {
    if audio.ends_with(".wav") { "audio/x-wav" } else { "audio/mpeg" }
}

/// What the sample is, read from its bytes.
fn what_it_is(audio: &str) -> (Value, i64, i64) {
    let (container, codec, channels, duration_ms, tolerance_ms) = match audio {
        STEREO_WAV => ("wav", "pcm_s16le", 2, 22_225, 2),
        ULAW_WAV => ("wav", "pcm_mulaw", 1, 6_870, 2),
        MONO_MP3 => ("mp3", "mp3", 1, 22_300, 200),
        _ => ("mp3", "mp3", 1, 6_960, 200),
    };
    let row = json!({
        "container": container, "codec": codec, "channels": channels, "sample_rate_hz": 8_000, "status": "received"
    });
    (row, duration_ms, tolerance_ms)
}

async fn problems_of(bench: &Bench, source: &str, method: &str, number: usize, variant: &Variant) -> Option<String> {
    let id = format!("v{number}-{}@10.1.2.3", method.to_lowercase());
    let target = variant.target.replace("{id}", &id.replace('@', "%40"));
    let path = format!("/in/{source}/recordings/{target}");
    let bytes = sample(variant.audio);
    let answer = bench.upload(method, &path, media_type(variant.audio), &bytes).await;
    let again = bench.upload(method, &path, media_type(variant.audio), &bytes).await;
    if (answer.status, again.status) != (201, 200) || answer.offset().is_none() {
        return Some(format!("answered {}, then {}: {}", answer.status, again.status, answer.text()));
    }
    let sql = "SELECT * FROM recordings WHERE source = $1 AND call_key = $2";
    let found = bench.server.sql_with(&bench.query, sql, json!([source, id])).await.objects();
    let [row] = found.as_slice() else { return Some(format!("{} recordings of {id}", found.len())) };
    let recording = text(row, "recording_id");
    let row = bench.probed(&recording).await;
    let (probe, duration, tolerance) = what_it_is(variant.audio);
    let stored = json!({
        "tenant": "acme", "link": "id", "link_confidence": 1.0, "sha256": sha256(&bytes), "bytes": bytes.len(),
        "uploaded_as": target, "received_at": "*", "object": "~objects/recordings/acme/"
    });
    for expected in [&variant.row, &probe, &stored] {
        if let Some(text) = difference(expected, &json!(row)) {
            return Some(text);
        }
    }
    if (row["duration_ms"].as_i64().unwrap_or_default() - duration).abs() > tolerance {
        return Some(format!("duration_ms {} and not {duration}", row["duration_ms"]));
    }
    let there = bench.listen(&format!("{recording}/audio")).await;
    let back = bench.server.get(&path, &bench.ingest).await;
    if there.body != bytes || back.body != bytes || (there.status, back.status) != (200, 200) {
        return Some(format!("came back with {} and, where it was uploaded, {}", there.status, back.status));
    }
    wrong_call(bench, source, &id, &recording).await
}

async fn wrong_call(bench: &Bench, source: &str, id: &str, recording: &str) -> Option<String> {
    let Some(call) = bench.call(source, id).await else { return Some("there is no call".to_owned()) };
    let expected = json!({ "state": "partial", "recording_state": "available", "recordings": [recording] });
    difference(&expected, &json!(call)).map(|text| format!("call {text}"))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_form_of_url_comes_back_whole_and_at_its_call() {
    let bench = Bench::start();
    let mut problems = Vec::new();
    for source in ["kazoo", "virtualpbx"] {
        for method in ["PUT", "POST"] {
            for (number, variant) in variants().iter().enumerate() {
                if let Some(problem) = problems_of(&bench, source, method, number, variant).await {
                    problems.push(format!("{source} {method} {}: {problem}", variant.name));
                }
            }
        }
    }
    assert!(problems.is_empty(), "{} problems:\n{}", problems.len(), problems.join("\n"));
    let types = "SELECT DISTINCT type FROM events ORDER BY type";
    let types = bench.server.sql(&bench.query, types).await.rows;
    assert_eq!(json!(types), json!([["kazoo.recording"], ["virtualpbx.recording"]]));
    bench.expect_no_unfinished().await;
}

/// A storage plan with `send_multipart`: a document, then the attachment.
fn multipart(boundary: &str, media_headers: &str, media: &[u8]) -> Vec<u8> {
    let document = json!({
        "_id": "202501-0123456789abcdef", "call_id": "multi@10.1.2.3", "from": "1001@acme.sip", "to": "2002@acme.sip",
        "owner_id": "user-7", "pvt_type": "call_recording"
    });
    let name = "call_recording_multi%4010.1.2.3.wav";
    let head = [
        format!("--{boundary}").as_str(),
        "Content-Type: application/json",
        "Content-Disposition: form-data; name=\"202501-0123456789abcdef\"",
        "",
        &document.to_string(),
        &format!("--{boundary}"),
        &format!("Content-Disposition: form-data; name=\"{name}\"; filename=\"{name}\""),
        media_headers,
        "\r\n",
    ]
    .join("\r\n");
    [head.as_bytes(), media, format!("\r\n--{boundary}--\r\n").as_bytes()].concat()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_storage_plan_sends_a_document_and_the_media_perhaps_in_base64() {
    let media = sample(STEREO_WAV);
    let encoded = BASE64.encode(&media);
    let cases: [(&str, &str, &[u8]); 3] = [
        ("as it is", "Content-Type: audio/x-wav", &media),
        ("base64 by header", "Content-Type: audio/x-wav\r\nContent-Transfer-Encoding: base64", encoded.as_bytes()),
        ("base64 by type", "Content-Type: audio/x-wav;base64", encoded.as_bytes()),
    ];
    for (what, headers, sent) in cases {
        let bench = Bench::start();
        let path =
            format!("/in/kazoo/recordings/plan/{ACCOUNT}/202501-0123456789abcdef/call_recording_multi%4010.1.2.3.wav");
        let body = multipart("b0undary", headers, sent);
        let kind = "multipart/form-data; boundary=b0undary";
        bench.upload("PUT", &path, kind, &body).await.expect(201);
        bench.upload("POST", &path, kind, &body).await.expect(200);
        let rows = bench.recordings().await;
        assert_eq!(rows.len(), 1, "{what}: {rows:?}");
        let expected = json!({ "call_key": "multi@10.1.2.3", "link": "id", "sha256": sha256(&media) });
        assert_eq!(difference(&expected, &json!(rows[0])), None, "{what}");
        bench.expect_whole(&rows).await;
        assert_eq!(bench.server.get(&path, &bench.ingest).await.expect(200).body, media, "{what}");
        let row = bench.probed(&text(&rows[0], "recording_id")).await;
        assert_eq!((&row["container"], &row["channels"]), (&json!("wav"), &json!(2)), "{what}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_storage_credential_test_reads_back_what_it_wrote() {
    let bench = Bench::start();
    let path = format!("/in/{}/kazoo/recordings/plan/{ACCOUNT}/abc/f00d_test_credentials_file.txt", bench.ingest);
    let request = |method, body: &[u8]| Request {
        method,
        path: &path,
        content_type: Some("text/plain"),
        body: body.to_vec(),
        ..Request::default()
    };
    bench.server.send(request("PUT", b"some random content")).await.expect(201);
    let back = bench.server.send(Request { path: &path, ..Request::default() }).await.expect(200);
    assert_eq!((back.text().as_str(), back.offset()), ("some random content", None));
    let head = bench.server.send(Request { method: "HEAD", path: &path, ..Request::default() }).await.expect(200);
    assert_eq!((head.header("content-length"), head.body.len()), ("19", 0));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn other_bytes_under_the_same_name_are_another_recording() {
    let bench = Bench::start();
    let path = "/in/kazoo/recordings/call_recording_twice%4010.1.2.3.mp3";
    let (first, second) = (sample(SMALL_MP3), sample(MONO_MP3));
    bench.put(path, &first).await.expect(201);
    bench.put(path, &second).await.expect(201);
    bench.put(path, &second).await.expect(200);
    assert_eq!(bench.server.get(path, &bench.ingest).await.expect(200).body, second);
    let rows = bench.recordings().await;
    assert_eq!(rows.len(), 2, "{rows:?}");
    bench.expect_whole(&rows).await;
    let call = bench.call("kazoo", "twice@10.1.2.3").await.unwrap();
    assert_eq!(call["recordings"].as_array().unwrap().len(), 2);
    bench.put(path, &first).await.expect(200);
    assert_eq!(bench.count("recordings").await, 2);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_same_bytes_sent_twice_at_once_are_one_recording() {
    let bench = Bench::start();
    for (round, name) in [SMALL_MP3, STEREO_WAV, SMALL_MP3, STEREO_WAV].into_iter().enumerate() {
        let (bytes, path) = (sample(name), format!("/in/kazoo/recordings/call_recording_race{round}.mp3"));
        let (one, two) = tokio::join!(bench.put(&path, &bytes), bench.put(&path, &bytes));
        let mut statuses = [one.status, two.status];
        statuses.sort_unstable();
        assert_eq!(statuses, [200, 201], "{} {}", one.text(), two.text());
        let rows = bench.rows("call_key", &format!("race{round}")).await;
        assert_eq!(rows.len(), 1, "{rows:?}");
        bench.expect_whole(&rows).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_right_digest_is_accepted_and_a_wrong_one_refused() {
    let bench = Bench::start();
    let bytes = sample(SMALL_MP3);
    let digest = |bytes: &[u8]| format!("sha-256=:{}:", BASE64.encode(Sha256::digest(bytes)));
    let send = async |name: &str, header: &'static str, value: String| {
        let path = format!("/in/kazoo/recordings/call_recording_{name}.mp3");
        let request = Request {
            method: "PUT",
            path: &path,
            key: Some(&bench.ingest),
            headers: vec![(header, value)],
            content_type: Some("audio/mpeg"),
            body: bytes.clone(),
            ..Request::default()
        };
        bench.server.send(request).await
    };
    for (header, value) in [
        ("content-digest", digest(b"other bytes")),
        ("content-digest", format!("unixsum=:AA==:, {}", digest(b"other bytes"))),
        ("content-md5", BASE64.encode([7_u8; 16])),
    ] {
        let answer = send("wrong", header, value.clone()).await;
        assert!([400, 422].contains(&answer.status), "{header}: {value}: {} {}", answer.status, answer.text());
        assert_eq!(answer.offset(), None);
    }
    bench.expect_nothing().await;
    send("right-1", "content-digest", digest(&bytes)).await.expect(201);
    send("right-2", "content-md5", SMALL_MP3_MD5.to_owned()).await.expect(201);
    send("right-3", "content-digest", format!("unixsum=:AA==:, {}", digest(&bytes))).await.expect(201);
    bench.expect_whole(&bench.recordings().await).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_body_that_breaks_off_leaves_nothing() {
    let bench = Bench::start();
    let authorization = format!("authorization: Bearer {}", bench.ingest);
    for bytes in [sample(SMALL_MP3), sample(STEREO_WAV)] {
        let target = "/in/kazoo/recordings/call_recording_short%40h.mp3";
        let half = &bytes[..bytes.len() / 2];
        let length = format!("content-length: {}", bytes.len());
        let announced = wire::head("PUT", target, &[&authorization, "content-type: audio/mpeg", &length]);
        wire::send_and_leave(bench.server.address(), &announced, half).unwrap();
        let chunks = wire::head("PUT", target, &[&authorization, "transfer-encoding: chunked"]);
        wire::send_and_leave(bench.server.address(), &chunks, &wire::chunked(half, 4_096, false)).unwrap();
        let body = multipart("b0undary", "Content-Type: audio/mpeg", &bytes);
        let cut = &body[..body.len() / 2];
        let length = format!("content-length: {}", cut.len());
        let kind = "content-type: multipart/form-data; boundary=b0undary";
        let parts = wire::head("PUT", target, &[&authorization, kind, &length]);
        let answer = wire::exchange(bench.server.address(), &parts, cut).unwrap();
        assert!([400, 422].contains(&answer.status), "half a multipart: {} {}", answer.status, answer.text());
    }
    tokio::time::sleep(std::time::Duration::from_millis(300)).await;
    bench.expect_nothing().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_comes_in_chunks_is_taken_and_what_is_too_large_is_not() {
    let bench = Bench::configured("[limits]\nrecording_bytes = \"64 KiB\"\n");
    let authorization = format!("authorization: Bearer {}", bench.ingest);
    let target = "/in/kazoo/recordings/call_recording_limit%40h.mp3";
    let too_large = noise((64 << 10) + 1, 1);
    bench.server.get("/healthz", "").await.expect(200);
    let length = format!("content-length: {}", too_large.len());
    let head = String::from_utf8(wire::head("PUT", target, &[&authorization, &length])).unwrap();
    assert_eq!(raw_request(bench.server.address(), &head, &too_large).status, 413);
    let head = String::from_utf8(wire::head("PUT", target, &[&authorization, "transfer-encoding: chunked"])).unwrap();
    let body = wire::chunked(&too_large, 8_192, true);
    assert_eq!(raw_request(bench.server.address(), &head, &body).status, 413);
    bench.expect_nothing().await;
    let allowed = &too_large[..64 << 10];
    let answer = wire::exchange(bench.server.address(), head.as_bytes(), &wire::chunked(allowed, 1_000, true)).unwrap();
    assert_eq!(answer.status, 201, "{}", answer.text());
    bench.put(target, allowed).await.expect(200);
    bench.expect_whole(&bench.recordings().await).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_may_not_is_refused_and_nothing_is_stored() {
    let bench = Bench::start();
    let bytes = sample(SMALL_MP3);
    let virtualpbx = bench.server.key("acme", &["ingest:virtualpbx"]);
    let path = "/in/kazoo/recordings/call_recording_no%40h.mp3";
    let put = |key| Request { method: "PUT", path, key, body: bytes.clone(), ..Request::default() };
    bench.server.send(put(None)).await.expect(401);
    bench.server.send(put(Some("tlk_AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA"))).await.expect(401);
    for key in [bench.query.as_str(), bench.listen.as_str(), virtualpbx.as_str(), bench.server.admin()] {
        bench.server.send(put(Some(key))).await.expect(403);
    }
    bench.server.send(Request { method: "DELETE", ..put(Some(&bench.ingest)) }).await.expect(405);
    let nothing = Request { body: Vec::new(), ..put(Some(&bench.ingest)) };
    bench.server.send(nothing).await.expect_problem(422);
    let packed = vec![("content-encoding", "gzip".to_owned())];
    bench.server.send(Request { headers: packed, ..put(Some(&bench.ingest)) }).await.expect_problem(415);
    bench.server.get(path, &bench.ingest).await.expect(404);
    bench.expect_nothing().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_key_may_stand_in_the_url_and_is_nowhere_kept() {
    let bench = Bench::start();
    let bytes = sample(ULAW_WAV);
    let in_path = format!("/in/{}/kazoo/recordings/a/call_recording_path%40h.wav?hint={0}", bench.ingest);
    let put = |path, basic| Request { method: "PUT", path, basic, body: bytes.clone(), ..Request::default() };
    bench.server.send(put(&in_path, None)).await.expect(201);
    bench
        .server
        .send(put("/in/kazoo/recordings/a/call_recording_basic%40h.wav", Some(&bench.ingest)))
        .await
        .expect(201);
    let back = bench.server.send(Request { path: &in_path, ..Request::default() }).await.expect(200);
    assert_eq!(back.body, bytes);
    let mut secrets = trunklog_tests::scan::Secrets::default();
    secrets.token(&bench.ingest);
    let rows = json!(bench.recordings().await);
    assert_eq!(secrets.found_in_value("recordings", &rows), Vec::<String>::new());
    let listed = bench.server.get("/v1/recordings", &bench.query).await.expect(200);
    assert_eq!(secrets.found_in(&listed.body), Vec::<&str>::new());
    bench.server.flush().await;
    assert_eq!(secrets.found_below(bench.server.root()), Vec::<String>::new());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn sixty_uploads_at_once_all_come_back() {
    let bench = std::sync::Arc::new(Bench::start());
    let mut sending = tokio::task::JoinSet::new();
    for number in 0..60_u64 {
        let bench = std::sync::Arc::clone(&bench);
        sending.spawn(async move {
            // Around the size up to which they are packed, and far below it.
            let bytes = noise(usize::try_from(500 + number * number * 40).unwrap(), number);
            let path = format!("/in/kazoo/recordings/call_recording_many{number}%40h.mp3");
            bench.put(&path, &bytes).await.expect(201);
            assert_eq!(bench.server.get(&path, &bench.ingest).await.expect(200).body, bytes, "{number}");
        });
    }
    while let Some(done) = sending.join_next().await {
        done.unwrap();
    }
    let rows = bench.recordings().await;
    assert_eq!((rows.len(), bench.count("calls").await), (60, 60));
    bench.expect_whole(&rows).await;
    let objects: std::collections::BTreeSet<String> = rows.iter().map(|row| text(row, "object")).collect();
    assert_eq!(objects.len(), 60, "two recordings share an object");
}
