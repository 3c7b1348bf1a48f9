//! Every report over every data set, compared with a naive reading of the rows that SQL shows.

use std::sync::Arc;

use serde_json::{Value, json};
use trunklog_tests::Server;
use trunklog_tests::reports::Report;

use super::asked::{ANYWHERE, BY_ZONE, Brute, FILTERED, FILTERS, Further, GROUPED, GROUPS, SERVICE_LEVELS};
use super::brute::Question;
use super::compare::{difference, extreme_difference, falls, same};
use super::coverage::Coverage;
use super::zone::{HOUR, instant};
use super::{Bench, ask, brute_counts, brute_lists, brute_load, brute_service};

const SETS: usize = 56;
const WORKERS: usize = 4;
const ZONES: [&str; 3] = ["UTC", "America/New_York", "Europe/Berlin"];
/// Its clocks go by half an hour: what an hour of the day is there is not said when they change.
const HALF_HOUR: &str = "Australia/Lord_Howe";

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn reports_are_what_a_naive_reading_of_the_rows_gives() {
    let bench = Arc::new(Bench::start(0..SETS).await);
    let workers: Vec<_> = (0..WORKERS).map(|worker| tokio::spawn(work(Arc::clone(&bench), worker))).collect();
    let (mut problems, mut coverage) = (Vec::new(), Coverage::default());
    for worker in workers {
        let (more, seen) = worker.await.unwrap();
        problems.extend(more);
        coverage.add(seen);
    }
    let shown = problems.iter().take(40).cloned().collect::<Vec<String>>().join("\n");
    assert!(problems.is_empty(), "{} differences, among them\n{shown}", problems.len());
    coverage.assert_whole();
}

async fn work(bench: Arc<Bench>, worker: usize) -> (Vec<String>, Coverage) {
    let (mut problems, mut coverage) = (Vec::new(), Coverage::default());
    for index in (worker..SETS).step_by(WORKERS) {
        let (set, key) = &bench.sets[index];
        let rows = bench.rows(key).await;
        let label = format!("set {} ({:?})", set.number, set.stored);
        let mut check = Check { server: &bench.server, key, label, problems: Vec::new() };
        let own = bench.question(&rows, set.zone);
        check.by_zone(&own).await;
        check.anywhere(&own, set.number).await;
        check.widened(&own).await;
        check.parts(&own).await;
        check.by_zone(&bench.question(&rows, ZONES[set.number % ZONES.len()])).await;
        check.time_consistent(&bench.question(&rows, "UTC")).await;
        problems.append(&mut check.problems);
        coverage.add(Coverage::of(&own));
    }
    (problems, coverage)
}

/// One data set under examination.
struct Check<'a> {
    server: &'a Server,
    key: &'a str,
    label: String,
    problems: Vec<String>,
}

impl Check<'_> {
    /// Asks and compares; the answer is for whoever wants to know more of it.
    async fn hold(&mut self, name: &str, question: &Question<'_>, brute: Brute) -> Report {
        let report = ask(self.server, self.key, name, question).await;
        self.note(name, question, difference(&brute(question), &report));
        report
    }

    fn note(&mut self, name: &str, question: &Question<'_>, problem: Option<String>) {
        if let Some(problem) = problem {
            self.problems.push(format!("{} {name} {:?}: {problem}", self.label, question.parameters()));
        }
    }

    fn must(&mut self, name: &str, question: &Question<'_>, holds: bool, problem: &str) {
        self.note(name, question, (!holds).then(|| problem.to_owned()));
    }

    async fn by_zone(&mut self, question: &Question<'_>) {
        for (name, brute, further) in BY_ZONE {
            let question = question.with(further);
            let report = self.hold(name, &question, brute).await;
            if report.columns[0] == "bucket" {
                let starts: Vec<i64> = report.rows.iter().filter_map(|row| row[0].as_str().map(instant)).collect();
                self.must(name, &question, starts.is_sorted(), "buckets do not rise");
            }
        }
        if question.zone.name != HALF_HOUR {
            self.hold("heatmap", question, brute_counts::heatmap).await;
        }
        for method in ["clock", "sliding15"] {
            let question = question.with(&[("method", method)]);
            let report = ask(self.server, self.key, "busy_hour", &question).await;
            self.note("busy_hour", &question, brute_load::wrong_daily_peak(&question, &report));
        }
    }

    async fn anywhere(&mut self, question: &Question<'_>, number: usize) {
        for (name, brute, further, falling) in ANYWHERE {
            let question = question.with(further);
            let report = self.hold(name, &question, brute).await;
            if let Some(column) = falling {
                self.must(name, &question, falls(&report.column(column)), "the order is wrong");
            }
            match name {
                "distribution" => self.distribution(&question, &report),
                "callbacks" => self.callbacks(&question, &report),
                _ => {}
            }
        }
        self.lists(question).await;
        let service_level = question.with(SERVICE_LEVELS[number % SERVICE_LEVELS.len()]);
        self.hold("service_level", &service_level, brute_service::service_level).await;
        let grouped = question.grouped(GROUPS[(number + number / GROUPS.len()) % GROUPS.len()]);
        for (name, brute, further) in GROUPED {
            // A column cannot stand twice, and of the half-hour zone see above.
            let twice = name == "endpoints" && grouped.group_by.contains(&"endpoint");
            if !twice && (name != "heatmap" || question.zone.name != HALF_HOUR) {
                self.hold(name, &grouped.with(further), brute).await;
            }
        }
        let filtered = question.filtered(FILTERS[number % FILTERS.len()]);
        for (name, brute, further) in FILTERED {
            if name != "heatmap" || question.zone.name != HALF_HOUR {
                self.hold(name, &filtered.with(further), brute).await;
            }
        }
    }

    fn distribution(&mut self, question: &Question<'_>, report: &Report) {
        for (name, value) in brute_service::distribution_params(question) {
            let found = report.params.get(&name).cloned().unwrap_or_default();
            let problem = format!("params.{name} is {found}, expected {value}");
            self.must("distribution", question, same(&value, &found), &problem);
        }
        // To the tenth of a second, like the percentiles.
        let lengths = brute_service::lengths(question);
        for (name, length) in [("min_ms", lengths.iter().min()), ("max_ms", lengths.iter().max())] {
            let found = report.params[name].as_i64();
            let near = found.zip(length.copied()).is_none_or(|(found, length)| (found - length).abs() < 100);
            let problem = format!("params.{name} is {found:?}, expected {length:?}");
            self.must("distribution", question, near && found.is_some() == length.is_some(), &problem);
        }
    }

    fn callbacks(&mut self, question: &Question<'_>, report: &Report) {
        let missed = brute_service::missed(question);
        for state in ["called_back", "caller_came_back", "attempted", "still_open", "never"] {
            let number = missed.iter().filter(|missed| missed.state == state).count();
            let problem = format!("params.{state}: {number} were expected: {}", report.params);
            let found = report.params.get(state).or_else(|| report.params.get(format!("n_{state}")));
            self.must("callbacks", question, found == Some(&json!(number)), &problem);
        }
        let unresolved = missed.iter().filter(|missed| missed.first_attempt.is_none()).count();
        let problem = format!("params.n_unresolved: {unresolved} were expected: {}", report.params);
        self.must("callbacks", question, report.params["n_unresolved"] == json!(unresolved), &problem);
    }

    async fn lists(&mut self, question: &Question<'_>) {
        for (name, limit) in [("longest", 20), ("shortest", 20), ("longest", 3), ("shortest", 3)] {
            let further: Further = if limit == 3 { &[("limit", "3")] } else { &[] };
            let question = question.with(further);
            let report = ask(self.server, self.key, name, &question).await;
            let all = brute_lists::by_length(&question);
            self.note(name, &question, extreme_difference(&all, &report, limit, name == "longest"));
        }
        let limited = question.with(&[("limit", "2")]);
        let calls = ask(self.server, self.key, "top_callers", &limited).await.column("calls");
        let mut all: Vec<i64> =
            brute_counts::top_callers(question).rows.iter().filter_map(|row| row[1].as_i64()).collect();
        all.sort_unstable_by(|left, right| right.cmp(left));
        all.truncate(2);
        self.must("top_callers", &limited, json!(calls) == json!(all), "these are not the two that call most");
        for digits in ["4", "2"] {
            let question = question.with(&[("digits", digits)]);
            let mut report = ask(self.server, self.key, "prefixes", &question).await;
            let position = report.position("prefix");
            report.rows.retain(|row| !row[position].is_null());
            for row in &mut report.rows {
                row[position] = json!(row[position].as_str().unwrap_or_default().trim_start_matches('+'));
            }
            self.note("prefixes", &question, difference(&brute_counts::prefixes(&question), &report));
        }
    }

    /// Weeks and months, over whole ones.
    async fn widened(&mut self, question: &Question<'_>) {
        for bucket in ["week", "month"] {
            self.hold("volume", &question.widened(bucket), brute_counts::volume).await;
        }
    }

    /// Parts of the interval: days with days before them, some hours, and what was answered or ended in them.
    async fn parts(&mut self, question: &Question<'_>) {
        let zone = question.zone;
        let second_day = zone.midnight(zone.date(question.from) + chrono::Days::new(1));
        let from_second_day = Question { from: second_day, ..question.clone() };
        let hours = Question { from: second_day + 5 * HOUR, until: second_day + 29 * HOUR, ..question.clone() };
        for part in [from_second_day, hours] {
            self.hold("summary", &part, brute_counts::summary).await;
            self.hold("service_level", &part, brute_service::service_level).await;
            self.hold("callbacks", &part, brute_service::callbacks).await;
        }
        for attribution in ["answer", "end"] {
            let attributed = Question { attribution, ..question.clone() };
            self.hold("volume", &attributed, brute_counts::volume).await;
            let part = Question { from: second_day, ..attributed };
            self.hold("dispositions", &part, brute_counts::dispositions).await;
        }
    }

    async fn time_consistent(&mut self, question: &Question<'_>) {
        let question = question.with(&[("scope", "time_consistent")]);
        let report = ask(self.server, self.key, "busy_hour", &question).await;
        let erlang = json!(brute_load::time_consistent(&question));
        let found = report.rows.first().map_or(Value::Null, |row| row[report.position("erlang")].clone());
        let problem = format!("the traffic of the busiest hour is {erlang}: {:?}", report.rows);
        self.must("busy_hour", &question, report.rows.len() == 1 && same(&erlang, &found), &problem);
    }
}
