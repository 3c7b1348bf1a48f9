//! The four reference queries that the definitions were published with, over SQL, against the reports. Times are taken
//! as whole microseconds; else they are as printed. Of sources that send no queue times, so that a wait is the time
//! from entry to exit.

use std::collections::BTreeMap;

use serde_json::{Value, json};
use trunklog_tests::reports::Report;

use super::brute::Question;
use super::compare::same;
use super::zone::{HOUR, instant};
use super::{Bench, ask};

/// Data sets without queue times, in zones of whole hours.
const SETS: [usize; 4] = [0, 2, 6, 8];

fn service_level_query(question: &Question<'_>) -> String {
    let (zone, from, until) = (question.zone.name, question.from, question.until);
    format!(
        "WITH v AS (
          SELECT queue, date_trunc('hour', entered_at AT TIME ZONE '{zone}') AS h, outcome,
                 (CAST(left_at AS BIGINT) - CAST(entered_at AS BIGINT)) / 1000000.0 AS wait_s
          FROM queue_visits WHERE CAST(entered_at AS BIGINT) >= {from} AND CAST(entered_at AS BIGINT) < {until}
            AND left_at IS NOT NULL)
        SELECT queue, CAST(extract(epoch FROM h) AS BIGINT) AS second, count(*) AS offered,
          count(*) FILTER (WHERE outcome='answered') AS answered,
          count(*) FILTER (WHERE outcome='abandoned' AND wait_s < 5) AS short_abandoned,
          1.0*count(*) FILTER (WHERE outcome='answered' AND wait_s <= 20)
            / NULLIF(count(*) FILTER (WHERE outcome='answered' OR (outcome='abandoned' AND wait_s >= 5)),0)
            AS service_level,
          1.0*count(*) FILTER (WHERE outcome='abandoned' AND wait_s >= 5)
            / NULLIF(count(*) - count(*) FILTER (WHERE outcome='abandoned' AND wait_s < 5),0) AS abandonment_rate
        FROM v GROUP BY queue, h"
    )
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn service_level() {
    let bench = Bench::start(SETS).await;
    for (set, key) in &bench.sets {
        let rows = bench.rows(key).await;
        let question = bench.question(&rows, set.zone);
        let table = bench.server.sql(key, &service_level_query(&question)).await;
        let mut hours: BTreeMap<i64, Vec<Vec<Value>>> = BTreeMap::new();
        for row in table.rows {
            hours.entry(row[1].as_i64().unwrap()).or_default().push(row);
        }
        assert!(!hours.is_empty());
        for (second, expected) in hours {
            let from = second * 1_000_000;
            let hour = Question { from, until: from + HOUR, ..question.clone() };
            let report = ask(&bench.server, key, "service_level", &hour).await;
            assert_eq!(report.rows.len(), expected.len(), "{}", set.zone);
            for row in expected {
                service_level_row(&report, &row);
            }
        }
    }
}

fn service_level_row(report: &Report, reference: &[Value]) {
    let rows = report.objects();
    let row = rows.iter().find(|row| row["queue"] == reference[0]).unwrap();
    let columns = ["offered", "answered", "short_abandoned", "service_level", "abandonment_rate"];
    for (column, expected) in columns.iter().zip(&reference[2..]) {
        assert!(same(expected, &row[*column]), "{column} is {}, expected {expected}: {row:?}", row[*column]);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn concurrency_and_erlang() {
    let bench = Bench::start(SETS).await;
    for (set, key) in &bench.sets {
        let rows = bench.rows(key).await;
        let question = bench.question(&rows, set.zone);
        let (from, until) = (question.from, question.until);
        let spans = "SELECT CAST(started_at AS BIGINT) AS started_at, CAST(ended_at AS BIGINT) AS ended_at FROM calls";
        let sql = format!(
            "WITH s AS ({spans}),
             e AS (SELECT greatest(started_at, {from}) AS t, 1 AS d FROM s
                   WHERE started_at < {until} AND ended_at > {from}
                   UNION ALL
                   SELECT ended_at, -1 FROM s WHERE started_at < {until} AND ended_at > {from} AND ended_at < {until})
             SELECT max(n) AS peak
             FROM (SELECT sum(d) OVER (ORDER BY t, d ROWS UNBOUNDED PRECEDING) AS n FROM e) x"
        );
        let peak = bench.server.sql(key, &sql).await.number();
        let report = ask(&bench.server, key, "concurrency", &question).await;
        assert_eq!(report.column("peak").iter().filter_map(Value::as_i64).max(), Some(peak), "set {}", set.number);
        let sql = format!(
            "SELECT h, sum(least(ended_at, h + {HOUR}) - greatest(started_at, h)) / {HOUR}.0 AS erlang
             FROM ({spans}) s CROSS JOIN generate_series({from}, {until} - {HOUR}, {HOUR}) g(h)
             WHERE started_at < h + {HOUR} AND ended_at > h GROUP BY h"
        );
        let table = bench.server.sql(key, &sql).await;
        let expected: BTreeMap<i64, Value> =
            table.rows.into_iter().map(|row| (row[0].as_i64().unwrap(), row[1].clone())).collect();
        let report = ask(&bench.server, key, "erlang", &question).await;
        for (bucket, erlang) in report.column("bucket").iter().zip(report.column("erlang")) {
            // Hours without calls are no rows of the reference.
            let right = expected.get(&instant(bucket.as_str().unwrap())).cloned().unwrap_or(json!(0.0));
            assert!(same(&right, &erlang), "{bucket} {erlang}, expected {right}");
        }
        assert!(!expected.is_empty() && expected.len() <= report.rows.len());
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn callbacks() {
    let bench = Bench::start(SETS.into_iter().chain([7])).await;
    for (_, key) in &bench.sets {
        let rows = bench.rows(key).await;
        let question = bench.question(&rows, "UTC");
        let (from, until, now, window) = (question.from, question.until, bench.now, 24 * HOUR);
        let sql = format!(
            "WITH c AS (SELECT direction, disposition, from_e164, to_e164, answered_at,
                        CAST(started_at AS BIGINT) AS started_at, CAST(ended_at AS BIGINT) AS ended_at FROM calls),
             m AS (SELECT from_e164 AS num, max(ended_at) AS last_missed, count(*) AS tries FROM c
                   WHERE direction='in' AND disposition IN ('missed','no_answer','busy','canceled','voicemail')
                     AND from_e164 IS NOT NULL AND started_at >= {from} AND started_at < {until} GROUP BY 1),
             p AS (SELECT *, CASE direction WHEN 'in' THEN from_e164 WHEN 'out' THEN to_e164 END AS peer FROM c),
             r AS (SELECT m.num, m.last_missed, m.tries,
                     min(p.started_at) FILTER (WHERE p.direction='out') AS first_attempt,
                     min(p.started_at) FILTER (WHERE p.direction='out' AND p.answered_at IS NOT NULL) AS reached,
                     min(p.started_at) FILTER (WHERE p.direction='in' AND p.answered_at IS NOT NULL) AS came_back
                   FROM m LEFT JOIN p
                     ON p.peer = m.num AND p.started_at > m.last_missed AND p.started_at < m.last_missed + {window}
                   GROUP BY 1,2,3)
             SELECT num, last_missed, tries, first_attempt,
               CASE WHEN reached IS NOT NULL THEN 'called_back' WHEN came_back IS NOT NULL THEN 'caller_came_back'
                    WHEN first_attempt IS NOT NULL THEN 'attempted'
                    WHEN last_missed + {window} > {now} THEN 'still_open' ELSE 'never' END AS state
             FROM r"
        );
        let table = bench.server.sql(key, &sql).await;
        let report = ask(&bench.server, key, "callbacks", &question).await;
        assert_eq!(table.rows.len(), report.rows.len());
        for reference in &table.rows {
            let row = report.objects().into_iter().find(|row| row["number"] == reference[0]).unwrap();
            let at = |column: &str| row[column].as_str().map(instant);
            assert_eq!(json!(at("last_missed_at")), reference[1], "{row:?}");
            assert_eq!(row["tries"], reference[2], "{row:?}");
            assert_eq!(json!(at("first_attempt_at")), reference[3], "{row:?}");
            assert_eq!(row["state"], reference[4], "{row:?}");
        }
    }
}
