//! Laws that hold whatever the calls are: hours make days, groups make the whole, nobody who was missed is forgotten,
//! and SQL answers what REST answers.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::{Value, json};
use trunklog_tests::reports::{Report, statement};

use super::brute::Question;
use super::compare::same;
use super::{Bench, NAMES, ask};

const SUMS: [&str; 4] = ["calls", "answered", "missed", "talk_ms"];
const GROUPS: [&str; 7] = ["source", "direction", "disposition", "endpoint", "queue", "own_number", "number"];
/// Dates on which clocks change, and how many hours they have.
const CHANGES: [(usize, &str, usize); 4] =
    [(0, "2026-03-29", 23), (1, "2026-10-25", 25), (2, "2026-03-08", 23), (3, "2026-11-01", 25)];

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn hours_add_up_to_days_and_groups_to_the_total() {
    let bench = Bench::start(0..8).await;
    for (set, key) in &bench.sets {
        let rows = bench.rows(key).await;
        let question = bench.question(&rows, set.zone);
        let days = ask(&bench.server, key, "volume", &question).await;
        let hours = ask(&bench.server, key, "volume", &question.with(&[("bucket", "hour")])).await;
        assert_eq!(by_date(&hours), by_date(&days), "set {}", set.number);
        if let Some((_, date, number)) = CHANGES.iter().find(|(changing, _, _)| *changing == set.number) {
            let of_date = hours.column("bucket").iter().filter(|bucket| date_of(bucket) == *date).count();
            assert_eq!(of_date, *number, "{date} in {}", set.zone);
        }
        let total = ask(&bench.server, key, "summary", &question).await;
        let whole: Vec<i64> = SUMS.iter().map(|column| total.sum(column)).collect();
        assert_eq!(days.column("calls").len(), by_date(&days).len());
        for report in [&days, &hours] {
            assert_eq!(SUMS.map(|column| report.sum(column)).to_vec(), whole, "set {}", set.number);
        }
        for group in GROUPS {
            for name in ["summary", "volume", "heatmap", "dispositions"] {
                if (name, group) != ("dispositions", "disposition") {
                    let grouped = ask(&bench.server, key, name, &question.grouped(&[group])).await;
                    let parts = SUMS.map(|column| grouped.sum(column)).to_vec();
                    assert_eq!(parts, whole, "{name} by {group} of set {}", set.number);
                    assert_eq!(grouped.open, total.open, "{name} by {group} of set {}", set.number);
                }
            }
        }
        let by_queue = ask(&bench.server, key, "queues", &question).await;
        assert_eq!(SUMS.map(|column| by_queue.sum(column)).to_vec(), whole, "queues of set {}", set.number);
        traffic_has_room(&bench, key, &question).await;
        the_missed_are_parted(&bench, key, &question).await;
    }
}

/// Sums by local date; what is not known of any call counts as nothing.
fn by_date(report: &Report) -> BTreeMap<String, [i64; 4]> {
    let mut dates: BTreeMap<String, [i64; 4]> = BTreeMap::new();
    let positions = SUMS.map(|column| report.position(column));
    for row in &report.rows {
        let sums = dates.entry(date_of(&row[report.position("bucket")]).to_owned()).or_default();
        for (sum, position) in sums.iter_mut().zip(positions) {
            *sum += row[position].as_i64().unwrap_or_default();
        }
    }
    dates
}

/// The local date of a bucket.
fn date_of(bucket: &Value) -> &str {
    &bucket.as_str().unwrap()[..10]
}

/// On the average there are no more calls than at most, and their time is the time that they took.
async fn traffic_has_room(bench: &Bench, key: &str, question: &Question<'_>) {
    let peaks = ask(&bench.server, key, "concurrency", question).await;
    let averages = ask(&bench.server, key, "erlang", question).await;
    assert_eq!(peaks.column("bucket"), averages.column("bucket"));
    for (peak, average) in peaks.column("peak").iter().zip(averages.column("erlang")) {
        assert!(peak.as_f64().unwrap() + 1e-9 >= average.as_f64().unwrap(), "{peak} {average}");
    }
    // Hours are whole but where clocks go by half of one, so there the day is taken.
    let days = ask(&bench.server, key, "erlang", &question.with(&[("bucket", "day")])).await;
    let lengths = question.zone.buckets("day", question.from, question.until);
    assert_eq!(days.rows.len(), lengths.len());
    let erlangs = days.column("erlang");
    let weighted =
        erlangs.iter().zip(&lengths).map(|(erlang, (start, end))| erlang.as_f64().unwrap() * (end - start) as f64);
    let spans = super::brute_load::spans(question).into_iter();
    let spoken: i64 = spans.map(|(start, end)| (end.min(question.until) - start.max(question.from)).max(0)).sum();
    assert!(same(&json!(spoken as f64), &json!(weighted.sum::<f64>())), "{spoken} µs of calls");
}

/// Each number that was missed has exactly one state.
async fn the_missed_are_parted(bench: &Bench, key: &str, question: &Question<'_>) {
    let callbacks = ask(&bench.server, key, "callbacks", question).await;
    let numbers: Vec<String> =
        callbacks.column("number").iter().map(|number| number.as_str().unwrap().to_owned()).collect();
    let distinct: BTreeSet<String> = numbers.iter().cloned().collect();
    assert_eq!(distinct.len(), numbers.len(), "a number stands twice");
    let sql = format!(
        "SELECT DISTINCT from_e164 FROM calls WHERE direction = 'in' AND from_e164 IS NOT NULL
         AND disposition IN ('missed', 'no_answer', 'busy', 'canceled', 'voicemail')
         AND CAST(started_at AS BIGINT) >= {} AND CAST(started_at AS BIGINT) < {}",
        question.from, question.until
    );
    let missed = bench.server.sql(key, &sql).await;
    let missed: BTreeSet<String> = missed.rows.iter().map(|row| row[0].as_str().unwrap().to_owned()).collect();
    assert_eq!(distinct, missed);
    let states = ["called_back", "caller_came_back", "attempted", "still_open", "never"];
    assert!(callbacks.column("state").iter().all(|state| states.iter().any(|known| state == known)));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn sql_answers_what_rest_answers() {
    let bench = Bench::start([0, 1, 7, 12]).await;
    for (set, key) in &bench.sets {
        let rows = bench.rows(key).await;
        let question = bench.question(&rows, set.zone);
        for name in NAMES {
            alike(&bench, key, name, &question).await;
        }
        alike(&bench, key, "volume", &question.with(&[("bucket", "hour")])).await;
        alike(&bench, key, "volume", &question.grouped(&["source", "direction"])).await;
        alike(&bench, key, "summary", &question.filtered(&[("direction", "in")]).grouped(&["endpoint"])).await;
        alike(&bench, key, "service_level", &question.with(&[("x_s", "10"), ("inclusive", "false")])).await;
        alike(&bench, key, "distribution", &question.with(&[("of", "talk")])).await;
        let ended = Question { attribution: "end", ..question.clone() };
        alike(&bench, key, "dispositions", &ended).await;
    }
}

async fn alike(bench: &Bench, key: &str, name: &str, question: &Question<'_>) {
    let rest = ask(&bench.server, key, name, question).await;
    let parameters = question.parameters();
    let further: Vec<(&str, &str)> = parameters[2..].iter().map(|(name, value)| (*name, value.as_str())).collect();
    let sql = statement(name, &parameters[0].1, &parameters[1].1, &further);
    let table = bench.server.sql(key, &sql).await;
    assert_eq!(table.columns, rest.columns, "{sql}");
    assert_eq!(table.types, rest.types, "{sql}");
    assert_eq!(table.rows.len(), rest.rows.len(), "{sql}");
    // The order is the report's own; of rows that are equal in it either may come first.
    for row in &rest.rows {
        let equal = |other: &&Vec<Value>| row.iter().zip(*other).all(|(left, right)| same(left, right));
        assert!(table.rows.iter().any(|other| equal(&other)), "{sql}\nno {row:?} in {:?}", table.rows);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn numbers_are_taken_as_numbers_in_sql() {
    let bench = Bench::start([4]).await;
    let (_, key) = &bench.sets[0];
    let rows = bench.rows(key).await;
    let question = bench.question(&rows, "UTC");
    let (from, until) = (question.zone.text(question.from), question.zone.text(question.until));
    let sql = format!("SELECT count(*), sum(offered) FROM report_service_level('{from}', '{until}', 'x_s', 10)");
    let table = bench.server.sql(key, &sql).await;
    let rest = ask(&bench.server, key, "service_level", &question.with(&[("x_s", "10")])).await;
    assert_eq!(table.rows, vec![vec![json!(rest.rows.len()), json!(rest.sum("offered"))]]);
}
