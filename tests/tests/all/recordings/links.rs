//! Links open one recording without a key, for as long as they live; without a link, scopes and tenants decide.

use std::time::Duration;

use serde_json::{Value, json};
use trunklog_tests::{Answer, Request};

use super::{Bench, MONO_MP3, SMALL_MP3, STEREO_WAV, sample, text};

/// A link as it was made: its id, and the path of its URL.
struct Link {
    id: String,
    path: String,
}

impl Bench {
    async fn ask_for_link(&self, recording: &str, key: &str, body: Value) -> Answer {
        let path = format!("/v1/recordings/{recording}/links");
        self.server.post(&path, key, "application/json", body.to_string().as_bytes()).await
    }

    async fn link(&self, recording: &str, expires_in: u64) -> Link {
        let answer = self.ask_for_link(recording, &self.listen, json!({ "expires_in": expires_in })).await;
        let made = answer.expect(201).json();
        let field = |name: &str| made[name].as_str().unwrap_or_else(|| panic!("no `{name}`: {made}")).to_owned();
        assert!(field("expires_at").ends_with('Z'), "{made}");
        let url = field("url");
        let path = url.strip_prefix(&self.server.url()).unwrap_or(&url).to_owned();
        assert!(path.starts_with("/v1/links/"), "{made}");
        Link { id: field("id"), path }
    }

    async fn open(&self, link: &Link) -> Answer {
        self.server.send(Request { path: &link.path, ..Request::default() }).await
    }
}

fn is_refused(answer: &Answer) -> bool {
    [401, 403, 404, 410].contains(&answer.status)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_link_opens_its_recording_until_it_is_revoked() {
    let mut bench = Bench::start();
    let bytes = sample(STEREO_WAV);
    let id = bench.stored("call_recording_link%40h.wav", &bytes).await;
    let (first, second) = (bench.link(&id, 600).await, bench.link(&id, 600).await);
    assert_ne!((&first.id, &first.path), (&second.id, &second.path));
    for restarted in [false, true] {
        if restarted {
            bench.server.kill();
            bench.server.launch();
        }
        let whole = bench.open(&first).await.expect(200);
        assert!(whole.body == bytes && whole.content_type().starts_with("audio/"));
        let headers = vec![("range", "bytes=1000-1999".to_owned())];
        let part = Request { path: &first.path, headers, ..Request::default() };
        assert_eq!(bench.server.send(part).await.expect(206).body, bytes[1_000..2_000]);
        let head = Request { method: "HEAD", path: &first.path, ..Request::default() };
        assert_eq!(bench.server.send(head).await.expect(200).header("content-length"), bytes.len().to_string());
    }
    let revoke = format!("/v1/recordings/{id}/links/{}", first.id);
    let delete = |key| Request { method: "DELETE", path: &revoke, key, ..Request::default() };
    bench.server.send(delete(None)).await.expect(401);
    bench.server.send(delete(Some(&bench.query))).await.expect(403);
    bench.server.send(delete(Some(&bench.listen))).await.expect(204);
    assert!(is_refused(&bench.open(&first).await), "a revoked link is dead");
    bench.open(&second).await.expect(200);
    bench.server.kill();
    bench.server.launch();
    assert!(is_refused(&bench.open(&first).await), "and stays so");
    bench.open(&second).await.expect(200);
    bench.server.run(&["rebuild"]);
    bench.open(&second).await.expect(200);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_link_dies_when_its_time_has_come() {
    let bench = Bench::start();
    let id = bench.stored("call_recording_short%40h.mp3", &sample(SMALL_MP3)).await;
    let link = bench.link(&id, 2).await;
    bench.open(&link).await.expect(200);
    tokio::time::sleep(Duration::from_millis(2_300)).await;
    assert!(is_refused(&bench.open(&link).await));
    for wrong in [json!({ "expires_in": 0 }), json!({ "expires_in": -1 }), json!({ "expires_in": "soon" }), json!([])] {
        bench.ask_for_link(&id, &bench.listen, wrong).await.expect_problem(400);
    }
    for guess in ["/v1/links/", "/v1/links/x", "/v1/links/tll_AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA"] {
        assert!(is_refused(&bench.server.send(Request { path: guess, ..Request::default() }).await), "{guess}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_link_is_kept_nowhere_in_clear() {
    let bench = Bench::start();
    let id = bench.stored("call_recording_secret%40h.mp3", &sample(SMALL_MP3)).await;
    let link = bench.link(&id, 600).await;
    bench.open(&link).await.expect(200);
    bench.server.flush().await;
    let token = link.path.rsplit('/').next().unwrap();
    let mut secrets = trunklog_tests::scan::Secrets::default();
    secrets.text("the link", token);
    assert_eq!(secrets.found_below(bench.server.root()), Vec::<String>::new());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_route_wants_its_scope_and_its_tenant() {
    let bench = Bench::start();
    let id = bench.stored("call_recording_mine%40h.mp3", &sample(MONO_MP3)).await;
    bench.probed(&id).await;
    let upload = "/in/kazoo/recordings/call_recording_mine%40h.mp3".to_owned();
    let sounds = ["audio", "waveform"].map(|rest| format!("/v1/recordings/{id}/{rest}"));
    let files = ["wav", "mp3"].map(|suffix| format!("/v1/recordings/{id}.{suffix}"));
    let facts = [format!("/v1/recordings/{id}"), "/v1/recordings".to_owned()];
    let theirs = |scope| bench.server.key("bravo", &[scope]);
    let (their_ingest, their_query, their_listen) = (theirs("ingest:*"), theirs("query"), theirs("recordings:read"));
    for path in sounds.iter().chain(&files) {
        bench.server.get(path, &bench.listen).await.expect(200);
        bench.server.get(path, &bench.query).await.expect_problem(403);
        bench.server.get(path, &bench.ingest).await.expect_problem(403);
        bench.server.get(path, &their_listen).await.expect_problem(404);
        bench.server.get(path, bench.server.admin()).await.expect(200);
        bench.server.send(Request { path, ..Request::default() }).await.expect_problem(401);
    }
    for path in &facts {
        bench.server.get(path, &bench.query).await.expect(200);
        bench.server.get(path, &bench.ingest).await.expect_problem(403);
        bench.server.send(Request { path, ..Request::default() }).await.expect_problem(401);
    }
    bench.server.get(&facts[0], &their_query).await.expect_problem(404);
    let listed = bench.server.get(&facts[1], &their_query).await.expect(200).json();
    assert_eq!(listed["items"], json!([]));
    assert_eq!(bench.server.sql(&their_query, "SELECT count(*) FROM recordings").await.number(), 0);
    let probes = "SELECT count(*) FROM system_events";
    assert_eq!(bench.server.sql(&their_query, probes).await.number(), 0);
    bench.server.get(&upload, &bench.ingest).await.expect(200);
    bench.server.get(&upload, &their_ingest).await.expect(404);
    bench.server.get(&upload, &bench.query).await.expect(403);
    bench.server.get(&upload.replace("kazoo", "virtualpbx"), &bench.ingest).await.expect(404);
    bench.ask_for_link(&id, &bench.query, json!({ "expires_in": 60 })).await.expect_problem(403);
    bench.ask_for_link(&id, &their_listen, json!({ "expires_in": 60 })).await.expect_problem(404);
    let link = bench.link(&id, 60).await;
    let path = format!("/v1/recordings/{id}/links/{}", link.id);
    let delete = Request { method: "DELETE", path: &path, key: Some(&their_listen), ..Request::default() };
    bench.server.send(delete).await.expect(404);
    bench.open(&link).await.expect(200);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_same_upload_of_two_tenants_is_two_recordings() {
    let bench = Bench::start();
    let their_ingest = bench.server.key("bravo", &["ingest:*"]);
    let their_query = bench.server.key("bravo", &["query"]);
    let (path, body) = ("/in/kazoo/recordings/call_recording_both%40h.mp3", sample(SMALL_MP3));
    for key in [&bench.ingest, &their_ingest] {
        let request = Request { method: "PUT", path, key: Some(key), body: body.clone(), ..Request::default() };
        bench.server.send(request).await.expect(201);
    }
    let sql = "SELECT * FROM recordings";
    let (ours, theirs) = (bench.recordings().await, bench.server.sql(&their_query, sql).await.objects());
    assert_eq!((ours.len(), theirs.len()), (1, 1));
    assert_ne!(text(&ours[0], "recording_id"), text(&theirs[0], "recording_id"));
    assert_ne!(text(&ours[0], "object"), text(&theirs[0], "object"));
    for (row, tenant) in [(&ours[0], "acme"), (&theirs[0], "bravo")] {
        assert!(text(row, "object").starts_with(&format!("objects/recordings/{tenant}/")), "{row:?}");
    }
}
