//! Names, types and links in the data folder are the sender's and the world's: refused, or stored so that nothing
//! outside the archive is read or written.

use std::collections::BTreeSet;
use std::os::unix::fs::symlink;
use std::path::PathBuf;

use serde_json::json;
use trunklog_tests::scan::files_below;
use trunklog_tests::{Request, wire};

use super::{Bench, SMALL_MP3, STEREO_WAV, noise, sample, sha256, text};

/// Names as they stand in the request line, some of which no client library would leave as they are.
const HOSTILE: [&str; 16] = [
    "call_recording_..%2F..%2F..%2F..%2Fescape.mp3",
    "..%2F..%2F..%2Fescape.mp3",
    "%2e%2e%2f%2e%2e%2fescape.mp3",
    "a/../../../../../escape.mp3",
    "../../../escape.mp3",
    "//escape.mp3",
    "%2Ftmp%2Fescape.mp3",
    "..%5C..%5Cescape.mp3",
    "call_recording_%00escape.mp3",
    "escape.mp3%00.wav",
    "call_recording_%0D%0Aset-cookie:%20escape=1.mp3",
    "%E2%80%AE3pm.escape.mp3",
    "%FF%FEescape.mp3",
    "...",
    "call_recording_.mp3",
    "x?recording=call_recording_..%2F..%2F..%2Fescape.mp3&from=&to=",
];

/// Every file of the server's folder that is not where the archive keeps its own.
fn outside(bench: &Bench) -> BTreeSet<PathBuf> {
    let data = bench.server.data_dir();
    let own = ["log", "tables", "objects/recordings", "objects/waveforms"].map(|folder| data.join(folder));
    let files = files_below(bench.server.root());
    let other = files.into_iter().filter(|path| !own.iter().any(|folder| path.starts_with(folder)));
    other.filter(|path| !path.starts_with(data.join("objects/.tmp"))).collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_name_never_leads_out_of_the_archive() {
    let bench = Bench::start();
    let before = outside(&bench);
    let mut stored = 0;
    for (number, name) in HOSTILE.iter().enumerate() {
        let bytes = noise(2_000 + number * 9_000, number as u64);
        let target = format!("/in/kazoo/recordings/{name}");
        let length = format!("content-length: {}", bytes.len());
        let authorization = format!("authorization: Bearer {}", bench.ingest);
        let head = wire::head("PUT", &target, &[&authorization, "content-type: audio/mpeg", &length]);
        let answer = wire::exchange(bench.server.address(), &head, &bytes).unwrap();
        assert!(answer.status == 201 || (400..500).contains(&answer.status), "{name}: {}", answer.status);
        assert!(!answer.headers.contains_key("set-cookie"), "{name} wrote a header");
        if answer.status == 201 {
            stored += 1;
            let head = wire::head("GET", &target, &[&authorization]);
            let back = wire::exchange(bench.server.address(), &head, b"").unwrap();
            assert!(back.status == 200 && back.body == bytes, "{name} came back with {}", back.status);
        }
    }
    let rows = bench.recordings().await;
    assert_eq!(rows.len(), stored);
    for row in &rows {
        let object = text(row, "object");
        assert!(object.starts_with("objects/recordings/acme/") && !object.contains(".."), "{object}");
        let answer = bench.listen(&format!("{}/audio", text(row, "recording_id"))).await.expect(200);
        let offered = answer.header("content-disposition").to_lowercase();
        assert!(!offered.contains('/') && !offered.contains("%2f") && !offered.contains("%00"), "{offered}");
        assert!(!answer.headers.contains_key("set-cookie"));
    }
    bench.expect_whole(&rows).await;
    assert_eq!(outside(&bench), before, "a file was written where none belongs");
    assert!(!PathBuf::from("/tmp/escape.mp3").exists());
    bench.expect_well().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn names_of_four_kilobytes_are_refused_or_come_back() {
    let bench = Bench::start();
    for (number, target) in [
        format!("{}.mp3", "n".repeat(4_096)),
        format!("call_recording_{}.mp3", "%C3%A9".repeat(700)),
        format!("{}x.mp3", "folder/".repeat(580)),
        format!("x?recording=call_recording_{}.mp3&from=1", "q".repeat(4_096)),
    ]
    .into_iter()
    .enumerate()
    {
        let (path, bytes) = (format!("/in/kazoo/recordings/{target}"), noise(3_000 + number, 7));
        let answer = bench.put(&path, &bytes).await;
        assert!(answer.status == 201 || (400..500).contains(&answer.status), "{number}: {}", answer.text());
        if answer.status == 201 {
            bench.put(&path, &bytes).await.expect(200);
            assert_eq!(bench.server.get(&path, &bench.ingest).await.expect(200).body, bytes);
            assert_eq!(bench.rows("sha256", &sha256(&bytes)).await.len(), 1);
        }
    }
    bench.expect_whole(&bench.recordings().await).await;
    bench.expect_well().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn names_alike_but_for_case_or_unicode_form_stay_apart() {
    let bench = Bench::start();
    let names = [
        "call_recording_Ab%40h.mp3",
        "call_recording_aB%40h.mp3",
        "call_recording_caf%C3%A9%40h.mp3",
        "call_recording_cafe%CC%81%40h.mp3",
        "call_recording_%EF%AC%81%40h.mp3",
        "call_recording_fi%40h.mp3",
        "call_recording_space%20%40h.mp3",
        "call_recording_space%40h.mp3",
    ];
    for (number, name) in names.iter().enumerate() {
        let path = format!("/in/kazoo/recordings/{name}");
        bench.put(&path, &noise(1_000, number as u64)).await.expect(201);
    }
    for (number, name) in names.iter().enumerate() {
        let back = bench.server.get(&format!("/in/kazoo/recordings/{name}"), &bench.ingest).await.expect(200);
        assert_eq!(back.body, noise(1_000, number as u64), "{name}");
    }
    let rows = bench.recordings().await;
    let keys: BTreeSet<String> = rows.iter().map(|row| text(row, "call_key")).collect();
    assert_eq!((rows.len(), keys.len()), (names.len(), names.len()), "{keys:?}");
    bench.expect_whole(&rows).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_name_in_utf_8_is_offered_when_it_is_saved() {
    let bench = Bench::start();
    let id = bench.stored("call_recording_caf%C3%A9%22%40h.mp3", &sample(SMALL_MP3)).await;
    let row = bench.rows("recording_id", &id).await.remove(0);
    assert_eq!(row["call_key"], json!("café\"@h"));
    let offered = bench.listen(&format!("{id}/audio")).await.expect(200).header("content-disposition").to_owned();
    assert!(offered.contains("filename*=UTF-8''") && offered.contains("caf%C3%A9%22%40h"), "{offered}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_type_that_lies_is_not_believed() {
    let bench = Bench::start();
    let page = b"<!DOCTYPE html><script>fetch('/v1/keys')</script>".to_vec();
    let lies =
        ["text/html", "image/svg+xml", "application/xhtml+xml", "application/javascript", "text/html\x00;", "%s", ""];
    for (number, kind) in lies.into_iter().enumerate() {
        let (mut bytes, path) = (page.clone(), format!("/in/kazoo/recordings/call_recording_lie{number}%40h.html"));
        bytes.extend_from_slice(number.to_string().as_bytes());
        let authorization = format!("authorization: Bearer {}", bench.ingest);
        let (length, kind) = (format!("content-length: {}", bytes.len()), format!("content-type: {kind}"));
        let head = wire::head("PUT", &path, &[&authorization, &length, &kind]);
        let answer = wire::exchange(bench.server.address(), &head, &bytes).unwrap();
        assert!(answer.status == 201 || (400..500).contains(&answer.status), "{kind}: {}", answer.status);
        if answer.status != 201 {
            continue;
        }
        let id = text(&bench.rows("sha256", &sha256(&bytes)).await[0], "recording_id");
        for answer in [bench.listen(&format!("{id}/audio")).await, bench.server.get(&path, &bench.ingest).await] {
            assert_eq!((answer.status, &answer.body), (200, &bytes));
            let served = answer.content_type().to_lowercase();
            let audible =
                served.starts_with("audio/") || served == "application/octet-stream" || served == "text/plain";
            assert!(audible, "{kind} is served as {served}");
            assert_eq!(answer.header("x-content-type-options"), "nosniff", "{kind}");
        }
    }
    let liar = sample(STEREO_WAV);
    let answer = bench.upload("PUT", "/in/kazoo/recordings/call_recording_liar%40h.mp3", "audio/mpeg", &liar).await;
    answer.expect(201);
    let id = text(&bench.rows("sha256", &sha256(&liar)).await[0], "recording_id");
    let row = bench.probed(&id).await;
    assert_eq!((&row["container"], &row["status"]), (&json!("wav"), &json!("received")), "the bytes count");
    bench.expect_well().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_symlink_in_the_data_folder_is_not_followed() {
    let mut bench = Bench::start();
    let elsewhere = tempfile::tempdir().unwrap();
    let secret = elsewhere.path().join("secret");
    std::fs::write(&secret, noise(700_000, 99)).unwrap();
    let wav = sample(STEREO_WAV);
    let id = bench.stored("call_recording_link%40h.wav", &wav).await;
    bench.probed(&id).await;
    let object = text(&bench.rows("recording_id", &id).await[0], "object");
    assert!(!object.contains('#'), "one of this size has a file of its own: {object}");

    // A tenant's folder that leads elsewhere: nothing is written there.
    let folder = bench.objects().join("recordings/bravo");
    std::fs::create_dir_all(bench.objects().join("recordings")).unwrap();
    symlink(elsewhere.path(), &folder).unwrap();
    let bravo = bench.server.key("bravo", &["ingest:*"]);
    for bytes in [sample(SMALL_MP3), wav.clone()] {
        let path = "/in/kazoo/recordings/call_recording_bravo%40h.wav";
        let request = Request { method: "PUT", path, key: Some(&bravo), body: bytes, ..Request::default() };
        let answer = bench.server.send(request).await;
        assert!([201, 500, 503].contains(&answer.status), "{}", answer.text());
    }
    assert_eq!(files_below(elsewhere.path()), std::slice::from_ref(&secret), "written through a symlink");

    // An object that leads elsewhere: nothing of it is read, now or after a restart.
    let file = bench.server.data_dir().join(&object);
    std::fs::remove_file(&file).unwrap();
    symlink(&secret, &file).unwrap();
    for restarted in [false, true] {
        if restarted {
            bench.server.kill();
            bench.server.launch();
        }
        for rest in ["audio", "waveform"] {
            let answer = bench.listen(&format!("{id}/{rest}")).await;
            let foreign = noise(700_000, 99);
            assert!(answer.status >= 400 || answer.body != foreign, "{rest} read through a symlink");
            assert!(rest == "waveform" || answer.status >= 400, "{}", answer.status);
        }
        let back = bench.server.get("/in/kazoo/recordings/call_recording_link%40h.wav", &bench.ingest).await;
        assert!(back.status >= 400, "read through a symlink where it was uploaded");
    }
    std::fs::remove_file(&folder).unwrap();
    bench.expect_well().await;
}
