//! Reports as their users read them: addresses with encoded parameters, columns and rows of the answer, and what
//! `/metrics` counts about them.

use serde_json::{Map, Value};
use url::form_urlencoded::Serializer;

use crate::answer::Answer;
use crate::server::Server;

/// The JSON answer of a report.
#[derive(Clone, Debug)]
pub struct Report {
    /// Its name.
    pub name: String,
    /// The version of its definition.
    pub version: i64,
    /// Names of the columns.
    pub columns: Vec<String>,
    /// Types of the columns, in SQL's words.
    pub types: Vec<String>,
    /// The formula of each column, if it has one.
    pub formulas: Vec<Option<String>>,
    /// Values.
    pub rows: Vec<Vec<Value>>,
    /// What it was computed with, and what it says beside the rows.
    pub params: Value,
    /// Open calls among those counted.
    pub open: i64,
    /// By column, how many values were left out because they are not known.
    pub unknown: Map<String, Value>,
    /// The snapshot.
    pub as_of: Value,
}

impl Report {
    /// Reads the answer, which must be whole.
    #[track_caller]
    pub fn new(answer: &Value) -> Report {
        let list = |name: &str| answer[name].as_array().unwrap_or_else(|| panic!("no `{name}`: {answer}")).clone();
        let columns = list("columns");
        let texts = |name: &str| -> Vec<Option<String>> {
            columns.iter().map(|column| column[name].as_str().map(str::to_owned)).collect()
        };
        let whole = |name: &str| -> Vec<String> { texts(name).into_iter().map(Option::unwrap).collect() };
        assert!(answer["params"].is_object(), "no `params`: {answer}");
        Report {
            name: answer["name"].as_str().unwrap_or_default().to_owned(),
            version: answer["version"].as_i64().unwrap_or_else(|| panic!("no `version`: {answer}")),
            columns: whole("name"),
            types: whole("type"),
            formulas: texts("formula_id"),
            rows: list("rows").into_iter().map(|row| row.as_array().unwrap().clone()).collect(),
            params: answer["params"].clone(),
            open: answer["n_open"].as_i64().unwrap_or_else(|| panic!("no `n_open`: {answer}")),
            unknown: answer["n_unknown"].as_object().unwrap_or_else(|| panic!("no `n_unknown`: {answer}")).clone(),
            as_of: answer["as_of"].clone(),
        }
    }

    /// Where a column stands.
    #[track_caller]
    pub fn position(&self, column: &str) -> usize {
        let found = self.columns.iter().position(|name| name == column);
        found.unwrap_or_else(|| panic!("`{}` has no column `{column}`: {:?}", self.name, self.columns))
    }

    /// All values of a column.
    #[track_caller]
    pub fn column(&self, column: &str) -> Vec<Value> {
        let position = self.position(column);
        self.rows.iter().map(|row| row[position].clone()).collect()
    }

    /// The sum of a column of numbers; nothing counts as zero.
    #[track_caller]
    pub fn sum(&self, column: &str) -> i64 {
        self.column(column).iter().map(|value| value.as_i64().unwrap_or_default()).sum()
    }

    /// Rows as objects.
    pub fn objects(&self) -> Vec<Map<String, Value>> {
        let object = |row: &Vec<Value>| self.columns.iter().cloned().zip(row.iter().cloned()).collect();
        self.rows.iter().map(object).collect()
    }

    /// How many values of a column were left out; columns that are not named have none.
    pub fn unknown_of(&self, column: &str) -> i64 {
        self.unknown.get(column).and_then(Value::as_i64).unwrap_or_default()
    }
}

impl Server {
    /// Asks for a report, as JSON.
    pub async fn ask_report(&self, key: &str, name: &str, parameters: &[(&str, &str)]) -> Answer {
        self.get(&address(name, parameters), key).await
    }

    /// A report that must be had.
    pub async fn report(&self, key: &str, name: &str, parameters: &[(&str, &str)]) -> Report {
        let answer = self.ask_report(key, name, parameters).await;
        assert_eq!(answer.status, 200, "{name} {parameters:?}\n{}\n{}", answer.text(), self.log());
        Report::new(&answer.json())
    }
}

/// Path and query of a report; values are encoded, as `+` and `:` must be.
pub fn address(name: &str, parameters: &[(&str, &str)]) -> String {
    let mut query = Serializer::new(String::new());
    for (name, value) in parameters {
        query.append_pair(name, value);
    }
    format!("/v1/reports/{name}?{}", query.finish())
}

/// The statement that asks for the same report: an interval, then names and values in pairs.
pub fn statement(name: &str, from: &str, until: &str, further: &[(&str, &str)]) -> String {
    let mut arguments = vec![from, until];
    arguments.extend(further.iter().flat_map(|(name, value)| [*name, *value]));
    let quoted: Vec<String> = arguments.iter().map(|text| format!("'{}'", text.replace('\'', "''"))).collect();
    format!("SELECT * FROM report_{name}({})", quoted.join(", "))
}

/// The sum of a metric over all its labels.
pub fn metric_total(metrics: &str, name: &str) -> f64 {
    let samples = metrics
        .lines()
        .filter(|line| line.strip_prefix(name).is_some_and(|rest| rest.starts_with('{') || rest.starts_with(' ')));
    samples.filter_map(|line| line.rsplit(' ').next()?.parse::<f64>().ok()).sum()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_are_encoded() {
        let address = address("volume", &[("from", "2026-10-25T00:00:00+02:00"), ("tz", "Europe/Berlin")]);
        assert_eq!(address, "/v1/reports/volume?from=2026-10-25T00%3A00%3A00%2B02%3A00&tz=Europe%2FBerlin");
    }

    #[test]
    fn a_metric_is_summed_over_its_labels_alone() {
        let metrics = "# TYPE a counter\na{x=\"1\"} 2\na{x=\"2\"} 3\na 1\na_b 7\n";
        assert_eq!(metric_total(metrics, "a"), 6.0);
    }
}
