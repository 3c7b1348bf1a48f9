//! Linked files of Planfix: fetched once or until it works, only from where the tenant allows.

use std::collections::BTreeMap;
use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use serde_json::{Value, json};

use super::{Bench, MONO_MP3, SMALL_MP3, sample, sha256, text};

/// What is answered to the n-th request (from 0) of a path.
type Answerer = dyn Fn(&str, usize) -> Vec<u8> + Send + Sync;

/// A telephone system's web server, on a thread of its own.
struct Files {
    address: String,
    asked: Arc<Mutex<BTreeMap<String, usize>>>,
}

impl Files {
    fn serve(answerer: impl Fn(&str, usize) -> Vec<u8> + Send + Sync + 'static) -> Files {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap().to_string();
        let asked = Arc::<Mutex<BTreeMap<String, usize>>>::default();
        let (counts, answerer): (_, Arc<Answerer>) = (Arc::clone(&asked), Arc::new(answerer));
        std::thread::spawn(move || {
            for stream in listener.incoming().map_while(Result::ok) {
                let (counts, answerer) = (Arc::clone(&counts), Arc::clone(&answerer));
                std::thread::spawn(move || answer(stream, &counts, &*answerer));
            }
        });
        Files { address, asked }
    }

    /// How often a path was asked for.
    fn asked(&self, path: &str) -> usize {
        self.asked.lock().unwrap().get(path).copied().unwrap_or_default()
    }

    fn requests(&self) -> usize {
        self.asked.lock().unwrap().values().sum()
    }
}

fn answer(mut stream: TcpStream, counts: &Mutex<BTreeMap<String, usize>>, answerer: &Answerer) {
    let mut head = Vec::new();
    let mut byte = [0];
    while !head.ends_with(b"\r\n\r\n") && stream.read(&mut byte).is_ok_and(|count| count == 1) {
        head.push(byte[0]);
    }
    let head = String::from_utf8_lossy(&head).into_owned();
    let path = head.split(' ').nth(1).unwrap_or_default().to_owned();
    let count = {
        let mut counts = counts.lock().unwrap();
        let count = counts.entry(path.clone()).or_default();
        *count += 1;
        *count - 1
    };
    stream.write_all(&answerer(&path, count)).ok();
}

fn respond(status: &str, headers: &str, body: &[u8]) -> Vec<u8> {
    let length = body.len();
    let head = format!("HTTP/1.1 {status}\r\n{headers}content-length: {length}\r\nconnection: close\r\n\r\n");
    [head.as_bytes(), body].concat()
}

fn audio(body: &[u8]) -> Vec<u8> {
    respond("200 OK", "content-type: audio/mpeg\r\n", body)
}

fn allowing(files: &Files) -> String {
    format!("[tenants.acme]\nfetch.allow = [\"{}!private\"]\n", files.address)
}

impl Bench {
    async fn record(&self, call: &str, url: &str, is_temp: bool) {
        let mut form = url::form_urlencoded::Serializer::new(String::new());
        form.extend_pairs([("cmd", "record"), ("callid", call), ("record_link", url), ("planfix_token", &self.ingest)]);
        if is_temp {
            form.append_pair("is_temp", "1");
        }
        self.server.post_form("/in/planfix", &self.ingest, &form.finish()).await.expect(200);
    }

    async fn recording_state(&self, call: &str) -> Value {
        self.call("planfix", call).await.map(|row| row["recording_state"].clone()).unwrap_or_default()
    }

    async fn until_state(&self, call: &str, state: &str) {
        let (ask, enough) = (|| self.recording_state(call), |found: &Value| found == state);
        self.eventually(&format!("recording_state of {call} is {state}"), ask, enough).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_link_that_works_once_is_fetched_at_once_and_exactly_once() {
    let bytes = sample(MONO_MP3);
    let sent = bytes.clone();
    let files = Files::serve(move |_, count| if count == 0 { audio(&sent) } else { respond("404 Not Found", "", b"") });
    let mut bench = Bench::configured(&allowing(&files));
    let url = format!("http://{}/once.mp3", files.address);
    bench.record("T1", &url, true).await;
    bench.until_state("T1", "available").await;
    let row = bench.rows("call_key", "T1").await.remove(0);
    assert_eq!(
        (&row["source"], &row["link"], &row["sha256"]),
        (&json!("planfix"), &json!("id"), &json!(sha256(&bytes)))
    );
    assert_eq!(bench.call("planfix", "T1").await.unwrap()["recordings"], json!([row["recording_id"]]));
    bench.expect_whole(std::slice::from_ref(&row)).await;
    let probed = bench.probed(&text(&row, "recording_id")).await;
    assert_eq!((&probed["container"], &probed["channels"]), (&json!("mp3"), &json!(1)));
    // Told again, restarted, folded: never asked again.
    bench.record("T1", &url, true).await;
    bench.server.kill();
    bench.server.launch();
    bench.record("T1", &url, true).await;
    bench.server.flush().await;
    tokio::time::sleep(Duration::from_secs(2)).await;
    assert_eq!(files.asked("/once.mp3"), 1);
    assert_eq!((bench.recording_state("T1").await, bench.count("recordings").await), (json!("available"), 1));
    let fetched = "SELECT count(*) FROM system_events WHERE type = 'trunklog.fetch'";
    assert!(bench.server.sql(&bench.query, fetched).await.number() >= 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_link_that_works_once_and_breaks_off_has_failed() {
    let files = Files::serve(|_, _| {
        let mut answer = audio(&sample(MONO_MP3));
        answer.truncate(3_000);
        answer
    });
    let bench = Bench::configured(&allowing(&files));
    bench.record("B1", &format!("http://{}/broken.mp3", files.address), true).await;
    bench.until_state("B1", "failed").await;
    tokio::time::sleep(Duration::from_secs(2)).await;
    assert_eq!((files.asked("/broken.mp3"), bench.count("recordings").await), (1, 0));
    bench.expect_no_unfinished().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_lasting_link_is_tried_again() {
    let bytes = sample(SMALL_MP3);
    let sent = bytes.clone();
    let files = Files::serve(move |_, count| match count {
        0 => respond("503 Service Unavailable", "retry-after: 1\r\n", b""),
        _ => audio(&sent),
    });
    let bench = Bench::configured(&allowing(&files));
    let url = format!("http://{}/lasting.mp3", files.address);
    let call = "cmd=event&type=in&event=COMPLETED&phone=79990001122&ext=102&callid=R1&duration=61&is_recorded=1";
    let link = url.replace(':', "%3A").replace('/', "%2F");
    let form = format!("{call}&status=Success&record_link={link}&planfix_token={}", bench.ingest);
    bench.server.post_form("/in/planfix", &bench.ingest, &form).await.expect(200);
    bench.until_state("R1", "available").await;
    assert!(files.asked("/lasting.mp3") >= 2);
    let rows = bench.rows("call_key", "R1").await;
    assert_eq!((rows.len(), &rows[0]["sha256"]), (1, &json!(sha256(&bytes))));
    bench.expect_whole(&rows).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn only_hosts_on_the_list_are_asked_also_after_a_redirect() {
    let other = Files::serve(|_, _| audio(&sample(SMALL_MP3)));
    let elsewhere = format!("location: http://{}/secret.mp3\r\n", other.address);
    let files = Files::serve(move |path, _| match path {
        "/away.mp3" => respond("302 Found", &elsewhere, b""),
        "/round.mp3" => respond("302 Found", "location: /round.mp3\r\n", b""),
        "/file.mp3" => respond("302 Found", "location: file:///etc/passwd\r\n", b""),
        "/near.mp3" => respond("302 Found", "location: /there.mp3\r\n", b""),
        _ => audio(&sample(MONO_MP3)),
    });
    let port = files.address.rsplit(':').next().unwrap();
    let bench = Bench::configured(&allowing(&files));
    bench.record("N1", &format!("http://{}/secret.mp3", other.address), true).await;
    bench.record("N2", &format!("http://localhost:{port}/name.mp3"), true).await;
    bench.record("N3", &format!("http://{}/away.mp3", files.address), true).await;
    bench.record("N4", &format!("http://{}/round.mp3", files.address), true).await;
    bench.record("N5", &format!("http://{}/file.mp3", files.address), true).await;
    bench.record("N6", "file:///etc/passwd", true).await;
    bench.record("N7", &format!("http://user@{}/user.mp3", files.address), true).await;
    bench.record("Y1", &format!("http://{}/near.mp3", files.address), true).await;
    bench.until_state("Y1", "available").await;
    for call in ["N3", "N4", "N5"] {
        bench.until_state(call, "failed").await;
    }
    tokio::time::sleep(Duration::from_secs(1)).await;
    for call in ["N1", "N2", "N3", "N4", "N5", "N6", "N7"] {
        assert_ne!(bench.recording_state(call).await, json!("available"), "{call}");
    }
    assert_eq!((other.requests(), files.asked("/name.mp3"), files.asked("/user.mp3")), (0, 0, 0));
    assert!(files.asked("/round.mp3") <= 20, "redirects end");
    assert_eq!(bench.count("recordings").await, 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn without_a_word_about_it_nothing_is_fetched_and_nothing_of_the_own_network() {
    let files = Files::serve(|_, _| audio(&sample(SMALL_MP3)));
    let port = files.address.rsplit(':').next().unwrap();
    let url = format!("http://{}/private.mp3", files.address);
    let named = format!("[tenants.acme]\nfetch.allow = [\"{}\", \"localhost:{port}\"]\n", files.address);
    for config in ["", &named] {
        let bench = Bench::configured(config);
        bench.record("P1", &url, true).await;
        bench.record("P2", &format!("http://localhost:{port}/private.mp3"), true).await;
        bench.record("P3", &format!("http://[::ffff:127.0.0.1]:{port}/private.mp3"), false).await;
        tokio::time::sleep(Duration::from_secs(2)).await;
        assert_eq!((files.requests(), bench.count("recordings").await), (0, 0), "{config}");
        for call in ["P1", "P2", "P3"] {
            assert_ne!(bench.recording_state(call).await, json!("available"), "{call}");
        }
    }
}
