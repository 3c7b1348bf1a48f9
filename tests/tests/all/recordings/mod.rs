//! Recordings: received whole and once, found, played. Here is what these tests share.

mod audio;
mod crash;
mod fetch;
mod lifecycle;
mod links;
mod names;
mod uploads;

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use serde_json::{Map, Value, json};
use sha2::{Digest, Sha256};
use trunklog_tests::scan::files_below;
use trunklog_tests::{Answer, Options, Request, Server};

/// Stereo, 16 bit, 8 kHz, 22.2 s: over the size up to which recordings are packed.
const STEREO_WAV: &str = "support-stereo.wav";
/// Mono MP3 of the same conversation.
const MONO_MP3: &str = "support-mono.mp3";
/// µ-law, mono, 6.9 s: small enough to be packed.
const ULAW_WAV: &str = "voicemail-ulaw.wav";
/// MP3 of variable bit rate, the smallest sound one.
const SMALL_MP3: &str = "voicemail-vbr.mp3";

/// A row, or an item of a list.
type Row = Map<String, Value>;

/// The bytes of a recording in `tests/data/recordings`.
fn sample(name: &str) -> Vec<u8> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("data/recordings").join(name);
    std::fs::read(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

fn sha256(bytes: &[u8]) -> String {
    Sha256::digest(bytes).iter().map(|byte| format!("{byte:02x}")).collect()
}

/// Audio in nobody's format, the same for the same seed: what counts is that every byte comes back.
fn noise(length: usize, seed: u64) -> Vec<u8> {
    let mut state = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    let mut next = || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state.to_le_bytes()[3]
    };
    (0..length).map(|_| next()).collect()
}

/// A server with the three keys that a tenant needs for recordings.
struct Bench {
    server: Server,
    ingest: String,
    query: String,
    listen: String,
}

impl Bench {
    fn start() -> Bench {
        Bench::start_with(Options::default())
    }

    fn configured(config: &str) -> Bench {
        Bench::start_with(Options { config: Some(config.to_owned()), ..Options::default() })
    }

    fn start_with(options: Options) -> Bench {
        let server = Server::start_with(options);
        let key = |scope: &str| server.key("acme", &[scope]);
        let (ingest, query, listen) = (key("ingest:*"), key("query"), key("recordings:read"));
        Bench { server, ingest, query, listen }
    }

    /// An upload with the tenant's key.
    async fn upload(&self, method: &str, path: &str, content_type: &str, body: &[u8]) -> Answer {
        let (key, content_type) = (Some(self.ingest.as_str()), Some(content_type));
        self.server.send(Request { method, path, key, content_type, body: body.to_vec(), ..Request::default() }).await
    }

    /// PUT of an MP3.
    async fn put(&self, path: &str, body: &[u8]) -> Answer {
        self.upload("PUT", path, "audio/mpeg", body).await
    }

    /// Stores a recording under this name and gives its id.
    async fn stored(&self, name: &str, body: &[u8]) -> String {
        let answer = self.put(&format!("/in/kazoo/recordings/{name}"), body).await.expect(201);
        assert!(answer.offset().is_some(), "a 2xx that stored something names its offset");
        let rows = self.rows("sha256", &sha256(body)).await;
        assert_eq!(rows.len(), 1, "one recording has these bytes: {rows:?}");
        text(&rows[0], "recording_id")
    }

    /// The tenant's recordings, first come first.
    async fn recordings(&self) -> Vec<Row> {
        self.server.sql(&self.query, "SELECT * FROM recordings ORDER BY received_at, recording_id").await.objects()
    }

    /// Recordings with this value in a column.
    async fn rows(&self, column: &str, value: &str) -> Vec<Row> {
        let sql = format!("SELECT * FROM recordings WHERE {column} = $1 ORDER BY received_at");
        self.server.sql_with(&self.query, &sql, json!([value])).await.objects()
    }

    async fn count(&self, table: &str) -> i64 {
        self.server.sql(&self.query, &format!("SELECT count(*) FROM {table}")).await.number()
    }

    /// The recording once its bytes have been looked at.
    async fn probed(&self, id: &str) -> Row {
        let looked_at =
            |rows: &[Row]| rows.iter().any(|row| row["status"] == json!("damaged") || !row["container"].is_null());
        self.eventually("the bytes are looked at", || self.rows("recording_id", id), |rows| looked_at(rows))
            .await
            .remove(0)
    }

    /// Asks until the answer will do.
    async fn eventually<T, F: Future<Output = T>>(
        &self,
        what: &str,
        ask: impl Fn() -> F,
        enough: impl Fn(&T) -> bool,
    ) -> T {
        let deadline = Instant::now() + Duration::from_secs(60);
        loop {
            let found = ask().await;
            if enough(&found) {
                return found;
            }
            assert!(Instant::now() < deadline, "within 60 s: {what}\n{}", self.server.log());
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }

    /// GET below `/v1/recordings/` with the key for listening.
    async fn listen(&self, rest: &str) -> Answer {
        self.server.get(&format!("/v1/recordings/{rest}"), &self.listen).await
    }

    /// GET with further headers.
    async fn listen_with(&self, method: &str, rest: &str, headers: &[(&str, &str)]) -> Answer {
        let path = format!("/v1/recordings/{rest}");
        let headers = headers.iter().map(|(name, value)| (*name, (*value).to_owned())).collect();
        self.server.send(Request { method, path: &path, key: Some(&self.listen), headers, ..Request::default() }).await
    }

    /// The only row of `calls` with this key.
    async fn call(&self, source: &str, key: &str) -> Option<Row> {
        let sql = "SELECT * FROM calls WHERE source = $1 AND call_key = $2";
        let mut rows = self.server.sql_with(&self.query, sql, json!([source, key])).await.objects();
        assert!(rows.len() < 2, "{key} has {} rows", rows.len());
        rows.pop()
    }

    fn objects(&self) -> PathBuf {
        self.server.data_dir().join("objects")
    }

    /// Uploads in progress have left nothing behind.
    async fn expect_no_unfinished(&self) {
        let folder = self.objects().join(".tmp");
        self.eventually("objects/.tmp is empty", || std::future::ready(files_below(&folder)), Vec::is_empty).await;
    }

    /// Nothing was stored: no row, no message, no object.
    async fn expect_nothing(&self) {
        assert_eq!((self.count("recordings").await, self.count("events").await), (0, 0));
        assert_eq!(self.count("calls").await, 0);
        self.expect_no_unfinished().await;
        // A pack may stand ready, but with nothing in it that anybody could read as a recording.
        let stored = files_below(&self.objects().join("recordings"));
        assert!(stored.iter().all(|path| is_zero(path)), "left behind: {stored:?}");
    }

    /// It goes on: healthy, and everything can still be folded and read.
    async fn expect_well(&self) {
        self.server.get("/healthz", "").await.expect(200);
        self.server.flush().await;
        for table in ["recordings", "calls", "events", "system_events"] {
            self.server.sql(&self.query, &format!("SELECT * FROM {table}")).await;
        }
    }

    /// Every recording that the tenant sees has the bytes that its row says.
    async fn expect_whole(&self, rows: &[Row]) {
        for row in rows {
            let answer = self.listen(&format!("{}/audio", text(row, "recording_id"))).await.expect(200);
            assert_eq!(sha256(&answer.body), text(row, "sha256"), "{row:?}");
            assert_eq!(json!(answer.body.len()), row["bytes"], "{row:?}");
        }
    }
}

fn is_zero(path: &Path) -> bool {
    std::fs::read(path).unwrap_or_default().iter().all(|byte| *byte == 0)
}

/// A text column.
fn text(row: &Row, column: &str) -> String {
    row[column].as_str().unwrap_or_else(|| panic!("`{column}` is {}: {row:?}", row[column])).to_owned()
}
