//! Asking again and again: what costs nothing, what is seen at once, and what many askers cost together.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use trunklog_tests::reports::{address, metric_total};
use trunklog_tests::{Answer, Request, Server};

use super::send_call;
use super::zone::{HOUR, now, utc_text};

const DAY: [(&str, &str); 2] = [("from", "2026-05-04T00:00:00Z"), ("until", "2026-05-05T00:00:00Z")];

struct Desk {
    server: Server,
    acme: String,
    bravo: String,
}

impl Desk {
    fn start() -> Desk {
        let server = Server::start();
        let [acme, bravo] = ["acme", "bravo"].map(|tenant| server.key(tenant, &["ingest:*", "query"]));
        Desk { server, acme, bravo }
    }

    /// A report of the day as it is at this offset or later, unless it still has this tag.
    async fn poll(&self, name: &str, offset: &str, tag: &str) -> Answer {
        let path = address(name, &[&DAY[..], &[("min_offset", offset)][..]].concat());
        let headers = if tag.is_empty() { Vec::new() } else { vec![("if-none-match", tag.to_owned())] };
        self.server.send(Request { path: &path, key: Some(&self.acme), headers, ..Request::default() }).await
    }

    async fn metrics(&self) -> (f64, f64) {
        let text = self.server.send(Request { path: "/metrics", ..Request::default() }).await.expect(200).text();
        let total = |name| metric_total(&text, name);
        (total("trunklog_report_requests_total"), total("trunklog_report_computations_total"))
    }
}

/// The first value of a column.
fn first(answer: &Value, column: &str) -> Value {
    let columns = answer["columns"].as_array().unwrap();
    let position = columns.iter().position(|other| other["name"] == column).unwrap();
    answer["rows"][0][position].clone()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_tag_stays_while_nothing_changes_that_the_report_reads() {
    let desk = Desk::start();
    let offset = send_call(&desk.server, &desk.acme, "first", "2026-05-04T10:00:00Z").await;
    let answer = desk.poll("summary", &offset, "").await.expect(200);
    let tag = answer.header("etag").to_owned();
    assert!(tag.starts_with('"') && tag.len() > 2 && tag.ends_with('"'), "a strong tag: {tag}");
    assert!(answer.header("trunklog-as-of").parse::<i64>().unwrap() >= offset.parse::<i64>().unwrap());
    assert!(answer.header("trunklog-lag-ms").parse::<f64>().unwrap() >= 0.0);
    let body = answer.json();
    assert_eq!(first(&body, "calls"), 1);
    assert!(body["as_of"]["time"].is_string() && !body["as_of"]["offset"].is_null(), "{body}");

    send_call(&desk.server, &desk.bravo, "other tenant", "2026-05-04T11:00:00Z").await;
    let unrelated = send_call(&desk.server, &desk.acme, "other day", "2026-05-06T10:00:00Z").await;
    let answer = desk.poll("summary", &unrelated, &tag).await;
    assert_eq!((answer.status, answer.header("etag"), answer.body.len()), (304, tag.as_str(), 0));
    assert!(answer.header("trunklog-as-of").parse::<i64>().unwrap() >= unrelated.parse::<i64>().unwrap());
    // Without the tag the answer is the same one, to the byte.
    assert_eq!(desk.poll("summary", &unrelated, "").await.expect(200).json(), body);
    desk.poll("summary", &unrelated, "\"another\"").await.expect(200);

    let inside = send_call(&desk.server, &desk.acme, "second", "2026-05-04T12:00:00Z").await;
    let answer = desk.poll("summary", &inside, &tag).await.expect(200);
    assert_ne!(answer.header("etag"), tag);
    assert_eq!(first(&answer.json(), "calls"), 2);

    let tag = answer.header("etag").to_owned();
    desk.server.flush().await;
    assert_eq!(desk.poll("summary", &inside, &tag).await.status, 304, "calls that move to files do not change");
    // Reports about other things have tags of their own.
    assert_ne!(desk.poll("volume", &inside, "").await.expect(200).header("etag"), tag);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_call_is_counted_at_once_and_so_is_what_becomes_of_it() {
    let desk = Desk::start();
    let (from, until) = (utc_text(now() - HOUR), utc_text(now() + HOUR));
    for round in 1..=15_i64 {
        let numbers = format!("from=%2B493010000001&to=%2B493020000001&direction=in&call_id=c{round}");
        let mut tags = Vec::new();
        for (event, answered, open) in [("IncomingCall", round - 1, 1), ("HungUp&type=accepted&duration=9", round, 0)] {
            let form = format!("event={event}&{numbers}");
            let offset = desk.server.post_form("/in/placetel", &desk.acme, &form).await.expect(200);
            let offset = offset.header("trunklog-offset");
            let parameters = [("from", from.as_str()), ("until", until.as_str()), ("min_offset", offset)];
            let answer = desk.server.ask_report(&desk.acme, "summary", &parameters).await.expect(200);
            let body = answer.json();
            assert_eq!((first(&body, "calls"), first(&body, "answered")), (json!(round), json!(answered)), "{body}");
            assert_eq!(body["n_open"], open, "{body}");
            tags.push(answer.header("etag").to_owned());
        }
        assert_ne!(tags[0], tags[1]);
        if round % 5 == 0 {
            desk.server.flush().await;
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_offset_counts_however_its_name_is_written() {
    let desk = Desk::start();
    for number in 1..=10_i64 {
        let offset = send_call(&desk.server, &desk.acme, &format!("c{number}"), "2026-05-04T10:00:00Z").await;
        // The same question each time but for the last one's offset, and at once, within the age that a body may have.
        for name in ["min%5Foffset", "min_offset"] {
            let path = format!("{}&{name}={offset}", address("summary", &DAY));
            let body = desk.server.get(&path, &desk.acme).await.expect(200).json();
            assert_eq!(first(&body, "calls"), number, "{path}");
            let other = format!("{}&{name}=999999", address("summary", &DAY));
            if number == 10 {
                desk.server.get(&other, &desk.acme).await.expect_problem(503);
            }
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_body_is_at_most_a_little_old() {
    let desk = Desk::start();
    send_call(&desk.server, &desk.acme, "first", "2026-05-04T10:00:00Z").await;
    desk.server.ask_report(&desk.acme, "summary", &DAY).await.expect(200);
    send_call(&desk.server, &desk.acme, "second", "2026-05-04T11:00:00Z").await;
    let deadline = Instant::now() + Duration::from_secs(3);
    loop {
        let body = desk.server.ask_report(&desk.acme, "summary", &DAY).await.expect(200).json();
        if first(&body, "calls") == 2 {
            return;
        }
        assert!(Instant::now() < deadline, "a call is still not counted: {body}");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn many_askers_cost_no_more_than_one() {
    let desk = Arc::new(Desk::start());
    send_call(&desk.server, &desk.acme, "first", "2026-05-04T10:00:00Z").await;
    let (requests_before, computations_before) = desk.metrics().await;
    let stop = Arc::new(AtomicBool::new(false));
    let sender = tokio::spawn(keep_sending(Arc::clone(&desk), Arc::clone(&stop)));
    let started = Instant::now();
    let askers: Vec<_> = (0..64).map(|_| tokio::spawn(ask_thrice(Arc::clone(&desk)))).collect();
    for asker in askers {
        asker.await.unwrap();
    }
    let elapsed = started.elapsed();
    stop.store(true, Ordering::Relaxed);
    sender.await.unwrap();
    let (requests, computations) = desk.metrics().await;
    let (requests, computations) = (requests - requests_before, computations - computations_before);
    assert!(requests >= 192.0, "{requests} requests were counted");
    // One for each tenth of a second, and some to spare.
    let most = elapsed.as_secs_f64() * 10.0 + 16.0;
    assert!((1.0..=most).contains(&computations), "{computations} computations of {requests} in {elapsed:?}");
}

async fn ask_thrice(desk: Arc<Desk>) {
    for _ in 0..3 {
        let body = desk.server.ask_report(&desk.acme, "volume", &DAY).await.expect(200).json();
        assert!(first(&body, "calls").as_i64() >= Some(1), "{body}");
    }
}

async fn keep_sending(desk: Arc<Desk>, stop: Arc<AtomicBool>) {
    let mut number = 0;
    while !stop.load(Ordering::Relaxed) {
        send_call(&desk.server, &desk.acme, &format!("burst{number}"), "2026-05-04T12:00:00Z").await;
        number += 1;
    }
}
