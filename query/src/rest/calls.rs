//! `GET /v1/calls`: filters, order and pages, all at the snapshot of the first page.

use arrow::array::RecordBatch;
use arrow::datatypes::{DataType, Schema};
use axum::extract::{Request, State};
use axum::response::Response;
use datafusion::common::ScalarValue;
use serde_json::Value;
use trunklog_storage::event::parse_time;
use trunklog_storage::schema;

use super::QueryState;
use super::call::json_body;
use super::cursor::{Cursor, binding};
use super::parameters::{Common, Parameters};
use super::problem::Problem;
use super::rows::Row;
use crate::error::QueryError;
use crate::format::json::{write_object, write_text};
use crate::session::Session;

const LIMIT: usize = 100;
const MOST: usize = 1000;

/// A question, as the parameters put it.
#[derive(Debug)]
struct Question {
    conditions: Vec<String>,
    values: Vec<ScalarValue>,
    order: Order,
    limit: usize,
}

/// By which column, and which way.
#[derive(Clone, Debug, PartialEq)]
struct Order {
    column: String,
    kind: DataType,
    descending: bool,
}

pub(super) async fn list(State(state): State<QueryState>, request: Request) -> Result<Response, Problem> {
    let (parts, _) = request.into_parts();
    let mut parameters = Parameters::of(&parts.uri)?;
    let as_of = parameters.sorted().into_iter().filter(|(name, _)| name == "as_of");
    let mut bound: Vec<(String, String)> = as_of.collect();
    let common = Common::take(&state, &parts, &mut parameters)?;
    let cursor = parameters.one("cursor")?;
    let limit = limit(parameters.one("limit")?.as_deref())?;
    bound.extend(parameters.sorted());
    let binding = binding(&common.access, &bound);
    let cursor = cursor.map(|text| Cursor::decode(&text, &binding)).transpose()?;
    let mut question = question(parameters, limit)?;
    common.wait(&state).await?;
    let session = match &cursor {
        Some(cursor) => state.engine.resume(common.access, cursor.as_of).await?,
        None => state.engine.session(common.access, common.moment).await?,
    };
    if let Some(cursor) = cursor {
        question.after(&cursor)?;
    }
    let batches = session.collect(&question.sql(), question.values.clone()).await?.batches;
    Ok(page(&state, &session, &question, &batches, binding))
}

fn page(
    state: &QueryState,
    session: &Session,
    question: &Question,
    batches: &[RecordBatch],
    binding: String,
) -> Response {
    let rows: Vec<Row<'_>> = Row::all(batches).collect();
    let mut out = b"{\"items\":[".to_vec();
    for (index, row) in rows.iter().take(question.limit).enumerate() {
        if index > 0 {
            out.push(b',');
        }
        write_object(&mut out, row.batch, row.at);
    }
    out.extend_from_slice(b"],\"next_cursor\":");
    match rows.get(question.limit - 1).filter(|_| rows.len() > question.limit) {
        Some(last) => {
            state.engine.pin(session);
            let value = question.order.value(*last);
            let call_id = last.text("call_id").unwrap_or_default().to_owned();
            write_text(&mut out, &Cursor { as_of: session.as_of(), value, call_id, binding }.encode());
        }
        None => out.extend_from_slice(b"null"),
    }
    out.extend_from_slice(format!(",\"as_of\":{}}}", session.as_of().to_json()).as_bytes());
    json_body(out)
}

fn limit(text: Option<&str>) -> Result<usize, QueryError> {
    let Some(text) = text else { return Ok(LIMIT) };
    let number = text.parse().ok().filter(|number| (1..=MOST).contains(number));
    number.ok_or_else(|| QueryError::parameter("limit", format!("`limit` is a number from 1 to {MOST}")))
}

fn question(mut parameters: Parameters, limit: usize) -> Result<Question, QueryError> {
    let columns = schema::calls();
    let order = Order::parse(parameters.one("sort")?.as_deref().unwrap_or("-started_at"), &columns)?;
    let mut question = Question { conditions: Vec::new(), values: Vec::new(), order, limit };
    for (name, comparison) in [("from", ">="), ("until", "<")] {
        if let Some(text) = parameters.one(name)? {
            let number = question.bind(scalar(name, &schema::timestamp(), &text)?);
            question.conditions.push(format!("\"started_at\" {comparison} ${number}"));
        }
    }
    for number in parameters.all("number") {
        let number = question.bind(ScalarValue::Utf8(Some(number)));
        let sides = ["from_number", "to_number", "from_e164", "to_e164"].map(|column| format!("{column} = ${number}"));
        question.conditions.push(format!("({})", sides.join(" OR ")));
    }
    for field in columns.fields().iter().filter(|field| is_scalar(field.data_type())) {
        let texts = parameters.all(field.name());
        question.any_of(field.name(), field.data_type(), &texts)?;
    }
    parameters.nothing_left()?;
    Ok(question)
}

impl Question {
    /// The number of the placeholder for this value.
    fn bind(&mut self, value: ScalarValue) -> usize {
        self.values.push(value);
        self.values.len()
    }

    /// A column that stands more than once may have any of its values.
    fn any_of(&mut self, column: &str, kind: &DataType, texts: &[String]) -> Result<(), QueryError> {
        let mut placeholders = Vec::with_capacity(texts.len());
        for text in texts {
            placeholders.push(format!("${}", self.bind(scalar(column, kind, text)?)));
        }
        match placeholders.as_slice() {
            [] => {}
            [one] => self.conditions.push(format!("\"{column}\" = {one}")),
            several => self.conditions.push(format!("\"{column}\" IN ({})", several.join(", "))),
        }
        Ok(())
    }

    /// Only what comes after this page. NULLs come last, ties by call_id.
    fn after(&mut self, cursor: &Cursor) -> Result<(), QueryError> {
        let column = format!("\"{}\"", self.order.column);
        let call_id = self.bind(ScalarValue::Utf8(Some(cursor.call_id.clone())));
        let condition = match self.order.scalar(&cursor.value)? {
            None => format!("({column} IS NULL AND call_id > ${call_id})"),
            Some(value) => {
                let value = self.bind(value);
                let beyond = if self.order.descending { "<" } else { ">" };
                format!(
                    "({column} {beyond} ${value} OR ({column} = ${value} AND call_id > ${call_id}) OR {column} IS NULL)"
                )
            }
        };
        self.conditions.push(condition);
        Ok(())
    }

    /// One row more than the page holds tells whether there is another page.
    fn sql(&self) -> String {
        let filter = if self.conditions.is_empty() {
            String::new()
        } else {
            format!(" WHERE {}", self.conditions.join(" AND "))
        };
        let Order { column, descending, .. } = &self.order;
        let direction = if *descending { "DESC" } else { "ASC" };
        format!(
            "SELECT * FROM calls{filter} ORDER BY \"{column}\" {direction} NULLS LAST, call_id ASC LIMIT {}",
            self.limit + 1
        )
    }
}

impl Order {
    fn parse(text: &str, columns: &Schema) -> Result<Order, QueryError> {
        let (column, descending) = text.strip_prefix('-').map_or((text, false), |column| (column, true));
        let field = columns.field_with_name(column).ok().filter(|field| is_scalar(field.data_type()));
        let Some(field) = field else {
            return Err(QueryError::parameter("sort", format!("`{column}` is no column to sort by")));
        };
        Ok(Order { column: column.to_owned(), kind: field.data_type().clone(), descending })
    }

    /// The row's value as a cursor keeps it.
    fn value(&self, row: Row<'_>) -> Value {
        match self.kind {
            DataType::Utf8 => row.text(&self.column).map_or(Value::Null, Value::from),
            DataType::Int64 => row.whole(&self.column).map_or(Value::Null, Value::from),
            _ => row.time(&self.column).map_or(Value::Null, Value::from),
        }
    }

    fn scalar(&self, value: &Value) -> Result<Option<ScalarValue>, QueryError> {
        let wrong = || QueryError::parameter("cursor", "this is no cursor");
        Ok(match (&self.kind, value) {
            (_, Value::Null) => None,
            (DataType::Utf8, Value::String(text)) => Some(ScalarValue::Utf8(Some(text.clone()))),
            (DataType::Int64, value) => Some(ScalarValue::Int64(Some(value.as_i64().ok_or_else(wrong)?))),
            (DataType::Timestamp(..), value) => Some(time(value.as_i64().ok_or_else(wrong)?)),
            _ => return Err(wrong()),
        })
    }
}

fn is_scalar(kind: &DataType) -> bool {
    matches!(kind, DataType::Utf8 | DataType::Int64 | DataType::Timestamp(..))
}

fn time(micros: i64) -> ScalarValue {
    ScalarValue::TimestampMicrosecond(Some(micros), Some("UTC".into()))
}

/// A parameter's text as a value of its column's type.
fn scalar(name: &str, kind: &DataType, text: &str) -> Result<ScalarValue, QueryError> {
    match kind {
        DataType::Int64 => {
            let number =
                text.parse().map_err(|_| QueryError::parameter(name, format!("`{name}` is a whole number")))?;
            Ok(ScalarValue::Int64(Some(number)))
        }
        DataType::Timestamp(..) => {
            let at = parse_time(text);
            at.map(time).ok_or_else(|| QueryError::parameter(name, format!("`{name}` is an RFC 3339 time")))
        }
        _ => Ok(ScalarValue::Utf8(Some(text.to_owned()))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::moment::AsOf;

    fn ask(query: &str) -> Result<Question, QueryError> {
        let uri = format!("/v1/calls?{query}").parse().expect("a URI");
        question(Parameters::of(&uri).expect("parameters"), LIMIT)
    }

    fn at_fault<T: std::fmt::Debug>(outcome: Result<T, QueryError>) -> String {
        match outcome.expect_err("is wrong") {
            QueryError::Parameter { parameter, .. } => parameter,
            other => panic!("{other}"),
        }
    }

    #[test]
    fn builds_sql() {
        let question = ask("source=kazoo&source=placetel&from=2026-01-01T00:00:00Z&duration_ms=5").expect("a question");
        let expected = "SELECT * FROM calls WHERE \"started_at\" >= $1 AND \"source\" IN ($2, $3) AND \"duration_ms\" = $4 \
            ORDER BY \"started_at\" DESC NULLS LAST, call_id ASC LIMIT 101";
        assert_eq!(question.sql(), expected);
        assert_eq!(question.values.len(), 4);
        assert!(!ask("sort=endpoint").expect("a question").order.descending);
    }

    #[test]
    fn names_what_is_wrong() {
        for (query, parameter) in [
            ("colour=red", "colour"),
            ("legs=1", "legs"),
            ("fold=1", "fold"),
            ("from=yesterday", "from"),
            ("started_at=1", "started_at"),
            ("transfers=many", "transfers"),
            ("sort=legs", "sort"),
            ("sort=-", "sort"),
            ("sort=a&sort=b", "sort"),
        ] {
            assert_eq!(at_fault(ask(query)), parameter, "{query}");
        }
        for wrong in ["0", "-1", "1001", "x", ""] {
            assert_eq!(at_fault(limit(Some(wrong))), "limit", "{wrong}");
        }
        assert_eq!(limit(Some("1000")).ok(), Some(1000));
    }

    #[test]
    fn continues_after_values_and_nulls() {
        let cursor = |value: Value| Cursor {
            as_of: AsOf { offset: None, time: 0 },
            value,
            call_id: "abc".into(),
            binding: String::new(),
        };
        let mut question = ask("").expect("a question");
        question.after(&cursor(Value::from(5))).expect("a position");
        let expected = "(\"started_at\" < $2 OR (\"started_at\" = $2 AND call_id > $1) OR \"started_at\" IS NULL)";
        assert_eq!(question.conditions, [expected]);
        let mut question = ask("sort=queue").expect("a question");
        question.after(&cursor(Value::Null)).expect("a position");
        assert_eq!(question.conditions, ["(\"queue\" IS NULL AND call_id > $1)"]);
        assert_eq!(at_fault(question.after(&cursor(Value::from(5)))), "cursor");
    }
}
