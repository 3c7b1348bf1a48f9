//! Lists of rows: filters, order and pages, all at the snapshot of the first page.

use arrow::array::RecordBatch;
use arrow::datatypes::{DataType, Schema, SchemaRef};
use axum::extract::Request;
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
use crate::error::QueryError;
use crate::format::json::{write_object, write_text};
use crate::row::Row;
use crate::session::Session;

const LIMIT: usize = 100;
const MOST: usize = 1000;

/// What one list is made of.
#[derive(Debug)]
pub(super) struct Listing {
    /// The table.
    pub table: &'static str,
    /// Its column that no two rows share; ties go by it.
    pub id_column: &'static str,
    /// What `from` and `until` are about.
    pub time_column: &'static str,
    /// The order unless `sort` says otherwise.
    pub default_sort: &'static str,
    /// The columns that `number` looks into.
    pub number_columns: &'static [&'static str],
    /// All columns; those with one value each filter and sort.
    pub columns: SchemaRef,
}

/// A question, as the parameters put it.
#[derive(Debug)]
pub(super) struct Question {
    table: &'static str,
    id_column: &'static str,
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

impl Listing {
    /// Answers a request for this list.
    pub(super) async fn answer(&self, state: &QueryState, request: Request) -> Result<Response, Problem> {
        let (parts, _) = request.into_parts();
        let mut parameters = Parameters::of(&parts.uri)?;
        let as_of = parameters.sorted().into_iter().filter(|(name, _)| name == "as_of");
        let mut bound: Vec<(String, String)> = as_of.collect();
        let common = Common::take(state, &parts, &mut parameters)?;
        let cursor = parameters.one("cursor")?;
        let limit = limit(parameters.one("limit")?.as_deref())?;
        bound.extend(parameters.sorted());
        let binding = binding(self.table, &common.access, &bound);
        let cursor = cursor.map(|text| Cursor::decode(&text, &binding)).transpose()?;
        let mut question = self.question(parameters, limit)?;
        common.wait(state).await?;
        let session = match &cursor {
            Some(cursor) => state.engine.resume(common.access, cursor.as_of).await?,
            None => state.engine.session(common.access, common.moment).await?,
        };
        if let Some(cursor) = cursor {
            question.after(&cursor)?;
        }
        let batches = session.collect(&question.sql(), question.values.clone()).await?.batches;
        Ok(page(state, &session, &question, &batches, binding))
    }

    /// Takes all parameters that are left; one that is none of this list's is refused.
    pub(super) fn question(&self, mut parameters: Parameters, limit: usize) -> Result<Question, QueryError> {
        let order = Order::parse(parameters.one("sort")?.as_deref().unwrap_or(self.default_sort), &self.columns)?;
        let (table, id_column) = (self.table, self.id_column);
        let mut question = Question { table, id_column, conditions: Vec::new(), values: Vec::new(), order, limit };
        for (name, comparison) in [("from", ">="), ("until", "<")] {
            if let Some(text) = parameters.one(name)? {
                let number = question.bind(scalar(name, &schema::timestamp(), &text)?);
                question.conditions.push(format!("\"{}\" {comparison} ${number}", self.time_column));
            }
        }
        let mut sides = Vec::new();
        for number in parameters.all("number") {
            let number = question.bind(ScalarValue::Utf8(Some(number)));
            sides.extend(self.number_columns.iter().map(|column| format!("{column} = ${number}")));
        }
        if !sides.is_empty() {
            question.conditions.push(format!("({})", sides.join(" OR ")));
        }
        for field in self.columns.fields().iter().filter(|field| is_scalar(field.data_type())) {
            let texts = parameters.all(field.name());
            question.any_of(field.name(), field.data_type(), &texts)?;
        }
        parameters.nothing_left()?;
        Ok(question)
    }
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
            let id = last.text(question.id_column).unwrap_or_default().to_owned();
            write_text(&mut out, &Cursor { as_of: session.as_of(), value, id, binding }.encode());
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

    /// Only what comes after this page. NULLs come last, ties by id.
    fn after(&mut self, cursor: &Cursor) -> Result<(), QueryError> {
        let (column, id) = (format!("\"{}\"", self.order.column), self.id_column);
        let last = self.bind(ScalarValue::Utf8(Some(cursor.id.clone())));
        let condition = match self.order.scalar(&cursor.value)? {
            None => format!("({column} IS NULL AND {id} > ${last})"),
            Some(value) => {
                let value = self.bind(value);
                let beyond = if self.order.descending { "<" } else { ">" };
                format!("({column} {beyond} ${value} OR ({column} = ${value} AND {id} > ${last}) OR {column} IS NULL)")
            }
        };
        self.conditions.push(condition);
        Ok(())
    }

    /// One row more than the page holds tells whether there is another page.
    pub(super) fn sql(&self) -> String {
        let filter = if self.conditions.is_empty() {
            String::new()
        } else {
            format!(" WHERE {}", self.conditions.join(" AND "))
        };
        let Order { column, descending, .. } = &self.order;
        let direction = if *descending { "DESC" } else { "ASC" };
        format!(
            "SELECT * FROM {}{filter} ORDER BY \"{column}\" {direction} NULLS LAST, {} ASC LIMIT {}",
            self.table,
            self.id_column,
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

    /// The row's value as a cursor keeps it: of a float its shortest exact text, which JSON numbers do not promise.
    fn value(&self, row: Row<'_>) -> Value {
        match self.kind {
            DataType::Utf8 => row.text(&self.column).map_or(Value::Null, Value::from),
            DataType::Int64 => row.whole(&self.column).map_or(Value::Null, Value::from),
            DataType::Float64 => row.float(&self.column).map_or(Value::Null, |value| Value::from(value.to_string())),
            _ => row.time(&self.column).map_or(Value::Null, Value::from),
        }
    }

    fn scalar(&self, value: &Value) -> Result<Option<ScalarValue>, QueryError> {
        let wrong = || QueryError::parameter("cursor", "this is no cursor");
        Ok(match (&self.kind, value) {
            (_, Value::Null) => None,
            (DataType::Utf8, Value::String(text)) => Some(ScalarValue::Utf8(Some(text.clone()))),
            (DataType::Int64, value) => Some(ScalarValue::Int64(Some(value.as_i64().ok_or_else(wrong)?))),
            (DataType::Float64, Value::String(text)) => {
                Some(ScalarValue::Float64(Some(float(text).ok_or_else(wrong)?)))
            }
            (DataType::Timestamp(..), value) => Some(time(value.as_i64().ok_or_else(wrong)?)),
            _ => return Err(wrong()),
        })
    }
}

fn is_scalar(kind: &DataType) -> bool {
    matches!(kind, DataType::Utf8 | DataType::Int64 | DataType::Float64 | DataType::Timestamp(..))
}

fn time(micros: i64) -> ScalarValue {
    ScalarValue::TimestampMicrosecond(Some(micros), Some("UTC".into()))
}

/// Neither NaN nor infinity, which no column holds.
fn float(text: &str) -> Option<f64> {
    text.parse().ok().filter(|number: &f64| number.is_finite())
}

/// A parameter's text as a value of its column's type.
fn scalar(name: &str, kind: &DataType, text: &str) -> Result<ScalarValue, QueryError> {
    let wrong = |what: &str| QueryError::parameter(name, format!("`{name}` is {what}"));
    match kind {
        DataType::Int64 => {
            let number = text.parse().map_err(|_| wrong("a whole number"))?;
            Ok(ScalarValue::Int64(Some(number)))
        }
        DataType::Float64 => {
            let number = float(text).ok_or_else(|| wrong("a number"))?;
            Ok(ScalarValue::Float64(Some(number)))
        }
        DataType::Timestamp(..) => parse_time(text).map(time).ok_or_else(|| wrong("an RFC 3339 time")),
        _ => Ok(ScalarValue::Utf8(Some(text.to_owned()))),
    }
}

#[cfg(test)]
mod tests;
