//! Reports in other forms: server-sent events, CSV, NDJSON, Arrow, Parquet; and buckets that clocks show twice.

use std::time::Duration;

use serde_json::{Value, json};
use trunklog_tests::reports::{Report, address};
use trunklog_tests::{Answer, Request, Server};

use super::compare::same;
use super::send_call;

/// In Berlin the longest day of the year.
const LONG_DAY: [(&str, &str); 4] = [
    ("from", "2026-10-25T00:00:00+02:00"),
    ("until", "2026-10-26T00:00:00+01:00"),
    ("tz", "Europe/Berlin"),
    ("bucket", "hour"),
];

async fn start() -> (Server, String) {
    let server = Server::start();
    let key = server.key("acme", &["ingest:*", "query"]);
    for (id, start) in [("summer", "2026-10-25T00:30:00Z"), ("winter", "2026-10-25T01:30:00Z")] {
        send_call(&server, &key, id, start).await;
    }
    server.flush().await;
    (server, key)
}

async fn ask_as(server: &Server, key: &str, accept: &str, name: &str) -> Answer {
    let path = address(name, &LONG_DAY);
    let headers = vec![("accept", accept.to_owned())];
    server.send(Request { path: &path, key: Some(key), headers, ..Request::default() }).await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_hour_that_clocks_show_twice_is_two_rows() {
    let (server, key) = start().await;
    let report = server.report(&key, "volume", &LONG_DAY).await;
    assert_eq!(report.rows.len(), 25);
    let calls: Vec<(String, Value)> = report
        .objects()
        .into_iter()
        .map(|row| (row["bucket"].as_str().unwrap().to_owned(), row["calls"].clone()))
        .collect();
    assert_eq!(calls[0].0, "2026-10-25T00:00:00+02:00");
    assert_eq!(calls[2], ("2026-10-25T02:00:00+02:00".to_owned(), json!(1)));
    assert_eq!(calls[3], ("2026-10-25T02:00:00+01:00".to_owned(), json!(1)));
    assert_eq!(calls[24].0, "2026-10-25T23:00:00+01:00");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn rows_come_in_every_form() {
    let (server, key) = start().await;
    let whole = ask_as(&server, &key, "application/json", "volume").await.expect(200);
    assert_eq!(whole.content_type(), "application/json");
    let report = Report::new(&whole.json());

    let csv = ask_as(&server, &key, "text/csv", "volume").await.expect(200);
    assert_eq!(csv.content_type(), "text/csv");
    let text = csv.text();
    assert_eq!(text.lines().next(), Some(report.columns.join(",").as_str()));
    assert_eq!(text.lines().count(), 26, "{text}");
    assert!(text.contains("2026-10-25T02:00:00+01:00"), "{text}");

    let lines = ask_as(&server, &key, "application/x-ndjson", "volume").await.expect(200);
    assert_eq!(lines.content_type(), "application/x-ndjson");
    let rows: Vec<Value> = lines.text().lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert_eq!(rows.len(), 25);
    for (row, object) in rows.iter().zip(report.objects()) {
        assert!(object.iter().all(|(column, value)| same(value, &row[column])), "{row} {object:?}");
    }

    let parquet = ask_as(&server, &key, "application/vnd.apache.parquet", "volume").await.expect(200);
    assert!(parquet.body.starts_with(b"PAR1") && parquet.body.ends_with(b"PAR1"));
    let arrow = ask_as(&server, &key, "application/vnd.apache.arrow.stream", "volume").await.expect(200);
    assert_eq!(arrow.content_type(), "application/vnd.apache.arrow.stream");
    assert_eq!(arrow.body[..4], [0xff; 4], "an Arrow stream begins with a continuation marker");
    for answer in [&whole, &csv, &lines, &parquet, &arrow] {
        assert!(answer.header("trunklog-as-of").parse::<i64>().is_ok(), "{:?}", answer.headers);
        assert!(!answer.header("trunklog-lag-ms").is_empty(), "{:?}", answer.headers);
    }
    ask_as(&server, &key, "image/png", "volume").await.expect_problem(406);
}

/// A stream of server-sent events, read as it comes.
struct Stream {
    response: reqwest::Response,
    received: String,
}

impl Stream {
    async fn open(server: &Server, key: &str, path: &str) -> Stream {
        let client = reqwest::Client::builder()
            .no_proxy()
            .tls_certs_only(std::iter::empty::<reqwest::Certificate>())
            .build()
            .unwrap();
        let request = client.get(format!("{}{path}", server.url())).bearer_auth(key);
        let response = request.header("accept", "text/event-stream").send().await.unwrap();
        assert_eq!(response.status().as_u16(), 200);
        let content_type = response.headers()["content-type"].to_str().unwrap().to_owned();
        assert!(content_type.starts_with("text/event-stream"), "{content_type}");
        Stream { response, received: String::new() }
    }

    /// The data of the next `changed`; comments that keep the connection are passed over.
    async fn changed(&mut self) -> Value {
        tokio::time::timeout(Duration::from_secs(10), self.read()).await.expect("an event comes")
    }

    async fn read(&mut self) -> Value {
        loop {
            while let Some(end) = self.received.find("\n\n") {
                let event: String = self.received.drain(..end + 2).collect();
                let field = |name: &str| event.lines().find_map(|line| line.strip_prefix(name)).map(str::trim);
                if field("event:") == Some("changed") {
                    return serde_json::from_str(field("data:").unwrap()).unwrap();
                }
            }
            let chunk = self.response.chunk().await.unwrap().expect("the stream goes on");
            self.received.push_str(&String::from_utf8_lossy(&chunk).replace('\r', ""));
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_page_is_told_of_changes() {
    let (server, key) = start().await;
    let mut stream = Stream::open(&server, &key, &address("volume", &LONG_DAY)).await;
    let now = stream.changed().await;
    assert!(now["etag"].is_string() && now["as_of"].is_object(), "{now}");
    let polled = ask_as(&server, &key, "application/json", "volume").await.expect(200);
    let bare = |tag: &str| tag.trim_matches('"').to_owned();
    assert_eq!(bare(polled.header("etag")), bare(now["etag"].as_str().unwrap()));

    let offset = send_call(&server, &key, "third", "2026-10-25T12:00:00Z").await;
    let then = stream.changed().await;
    assert_ne!(then["etag"], now["etag"]);
    let with_offset = address("volume", &[&LONG_DAY[..], &[("min_offset", offset.as_str())][..]].concat());
    let polled = server.get(&with_offset, &key).await.expect(200);
    assert_eq!(bare(polled.header("etag")), bare(then["etag"].as_str().unwrap()));
    assert_eq!(Report::new(&polled.json()).sum("calls"), 3);

    // What the report does not read is no news.
    send_call(&server, &key, "another day", "2026-09-01T12:00:00Z").await;
    let silence = tokio::time::timeout(Duration::from_millis(600), stream.read()).await;
    assert!(silence.is_err(), "{silence:?}");
}
