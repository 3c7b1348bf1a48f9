//! Reports: compared with a naive reading of the rows ([`formulas`]), with laws that must hold whatever the rows are
//! ([`laws`]) and with the reference queries ([`reference`]); and how they are asked for, polled, listed and refused.

mod asked;
mod brute;
mod brute_counts;
mod brute_lists;
mod brute_load;
mod brute_service;
mod catalogue;
mod compare;
mod coverage;
mod data;
mod formulas;
mod laws;
mod living;
mod plot;
mod polling;
mod reference;
mod rows;
mod streams;
mod telling;
mod wrong;
mod zone;

use std::sync::Arc;

use rand::SeedableRng;
use rand::rngs::StdRng;
use serde_json::json;
use trunklog_tests::Server;
use trunklog_tests::reports::Report;

use brute::Question;
use data::Set;
use plot::{Outcome, Plot, Way};
use rows::Rows;
use zone::{Zone, instant};

/// All reports.
const NAMES: [&str; 27] = [
    "summary",
    "volume",
    "heatmap",
    "endpoints",
    "queues",
    "own_numbers",
    "sources",
    "directions",
    "dispositions",
    "prefixes",
    "unanswered",
    "transfers",
    "network",
    "distribution",
    "service_level",
    "callbacks",
    "top_callers",
    "top_destinations",
    "repeat_callers",
    "longest",
    "shortest",
    "concurrency",
    "erlang",
    "busy_hour",
    "causes",
    "recordings",
    "ingest_health",
];

/// A server with data sets, and for each a key that sends and asks.
struct Bench {
    server: Arc<Server>,
    sets: Vec<(Set, String)>,
    /// When the data sets were made.
    now: i64,
}

impl Bench {
    /// Of some sets everything is in files, of some a part, of some nothing.
    async fn start(numbers: impl IntoIterator<Item = usize>) -> Bench {
        let (server, now) = (Arc::new(Server::start()), zone::now());
        let sets: Vec<Set> = numbers.into_iter().map(|number| Set::new(number, now)).collect();
        let keys: Vec<String> = sets.iter().map(|set| server.key(&set.tenant(), &["ingest:*", "query"])).collect();
        let sets: Vec<(Set, String)> = sets.into_iter().zip(keys).collect();
        for (set, key) in &sets {
            send(&server, key, set.parts().0).await;
        }
        server.flush().await;
        for (set, key) in &sets {
            send(&server, key, set.parts().1).await;
        }
        Bench { server, sets, now }
    }

    async fn rows(&self, key: &str) -> Rows {
        Rows::read(&self.server, key).await
    }

    /// All of a set, in whole days of a zone.
    fn question<'a>(&self, rows: &'a Rows, zone: &'static str) -> Question<'a> {
        let zone = Zone::named(zone);
        let (first, last) = rows.extent();
        let (from, until) = zone.whole_days(first, last);
        Question::new(rows, zone, from, until, self.now)
    }
}

/// Sends lines of NDJSON, all of which must be taken.
async fn send(server: &Server, key: &str, lines: &[String]) {
    if lines.is_empty() {
        return;
    }
    let body = lines.join("\n");
    let answer = server.post("/in/events", key, "application/x-ndjson", body.as_bytes()).await.expect(200).json();
    let senseless = lines.iter().filter(|line| line.contains("senseless")).count();
    assert_eq!(answer["accepted"], json!(lines.len() - senseless), "{answer}");
    assert_eq!((&answer["duplicates"], &answer["quarantined"]), (&json!(0), &json!(senseless)), "{answer}");
}

/// A report for what a question asks.
async fn ask(server: &Server, key: &str, name: &str, question: &Question<'_>) -> Report {
    let parameters = question.parameters();
    let pairs: Vec<(&str, &str)> = parameters.iter().map(|(name, value)| (*name, value.as_str())).collect();
    server.report(key, name, &pairs).await
}

/// Sends an inbound call that was answered and talked for a minute; gives the offset of its message.
async fn send_call(server: &Server, key: &str, id: &str, start: &str) -> String {
    let plot = Plot {
        start: instant(start),
        ring: 5,
        talk: 60,
        outcome: Outcome::Answered,
        way: Way::In,
        other: "+493010000001".to_owned(),
        own: "+493020000001",
        endpoint: "101",
        queue: Some("Sales"),
    };
    let messages = telling::voispeed_report(&mut StdRng::seed_from_u64(1), &plot, id, false);
    let lines: Vec<String> = messages.iter().map(|message| message.line(id)).collect();
    let answer = server.post("/in/events", key, "application/x-ndjson", lines.join("\n").as_bytes()).await.expect(200);
    answer.header("trunklog-offset").to_owned()
}
