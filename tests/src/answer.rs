//! What the server answered, and the rows of an SQL answer.

use serde_json::{Map, Value};

/// An HTTP answer, read to its end.
#[derive(Clone, Debug)]
pub struct Answer {
    /// Status code.
    pub status: u16,
    /// Header names in lower case.
    pub headers: reqwest::header::HeaderMap,
    /// The body.
    pub body: Vec<u8>,
}

impl Answer {
    /// A header as text, empty if it is missing.
    pub fn header(&self, name: &str) -> &str {
        self.headers.get(name).and_then(|value| value.to_str().ok()).unwrap_or_default()
    }

    /// Content type without parameters.
    pub fn content_type(&self) -> &str {
        self.header("content-type").split(';').next().unwrap_or_default().trim()
    }

    /// `Trunklog-Offset`: what was stored.
    pub fn offset(&self) -> Option<i64> {
        let text = self.header("trunklog-offset");
        (!text.is_empty()).then(|| number_of(text))
    }

    /// The body as text; invalid UTF-8 is replaced.
    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }

    /// The body as JSON.
    pub fn json(&self) -> Value {
        serde_json::from_slice(&self.body).unwrap_or_else(|_| panic!("not JSON ({}): {}", self.status, self.text()))
    }

    /// The answer itself, if it has this status.
    #[track_caller]
    pub fn expect(self, status: u16) -> Answer {
        assert_eq!(self.status, status, "answer: {}", self.text());
        self
    }

    /// An RFC 9457 problem of this status, retryable or not as said.
    #[track_caller]
    pub fn expect_problem(self, status: u16) -> Value {
        assert_eq!(self.status, status, "answer: {}", self.text());
        assert_eq!(self.content_type(), "application/problem+json", "answer: {}", self.text());
        let problem = self.json();
        let kind = problem["type"].as_str().unwrap_or_default();
        assert!(kind.starts_with("urn:trunklog:problem:"), "problem type `{kind}`");
        assert_eq!(problem["status"], status, "{problem}");
        assert!(problem["title"].is_string() && problem["detail"].is_string(), "{problem}");
        assert!(problem["retryable"].is_boolean(), "{problem}");
        problem
    }
}

/// The JSON answer of `/v1/sql`.
#[derive(Clone, Debug)]
pub struct Table {
    /// Names.
    pub columns: Vec<String>,
    /// Types, in SQL's words.
    pub types: Vec<String>,
    /// Values.
    pub rows: Vec<Vec<Value>>,
    /// The snapshot.
    pub as_of: Value,
}

impl Table {
    pub(crate) fn new(answer: &Value) -> Table {
        let texts = |field: &str| -> Vec<String> {
            let columns = answer["columns"].as_array().unwrap_or_else(|| panic!("no columns: {answer}"));
            columns.iter().map(|column| column[field].as_str().unwrap_or_default().to_owned()).collect()
        };
        let rows = answer["rows"].as_array().unwrap_or_else(|| panic!("no rows: {answer}"));
        let rows = rows.iter().map(|row| row.as_array().unwrap().clone()).collect();
        Table { columns: texts("name"), types: texts("type"), rows, as_of: answer["as_of"].clone() }
    }

    /// Rows as objects.
    pub fn objects(&self) -> Vec<Map<String, Value>> {
        let object = |row: &Vec<Value>| self.columns.iter().cloned().zip(row.iter().cloned()).collect();
        self.rows.iter().map(object).collect()
    }

    /// The only row, as an object.
    #[track_caller]
    pub fn only(&self) -> Map<String, Value> {
        assert_eq!(self.rows.len(), 1, "one row was expected: {:?}", self.rows);
        self.objects().remove(0)
    }

    /// The first column of the first row as a number.
    #[track_caller]
    pub fn number(&self) -> i64 {
        let cell = self.rows.first().and_then(|row| row.first());
        cell.and_then(Value::as_i64).unwrap_or_else(|| panic!("not a number: {:?}", self.rows))
    }
}

/// The number in an offset of one partition: `12`, over Kafka `0:12`.
pub fn number_of(offset: &str) -> i64 {
    let number = offset.rsplit_once(':').map_or(offset, |(_, number)| number);
    number.parse().unwrap_or_else(|_| panic!("an offset is `{offset}`"))
}
