//! `POST /v1/sql`.

use axum::body::{Body, to_bytes};
use axum::extract::{Request, State};
use axum::http::header::{ACCEPT, CONTENT_TYPE};
use axum::http::{HeaderMap, StatusCode};
use axum::response::Response;
use datafusion::common::ScalarValue;
use serde_json::Value;
use serde_json::value::RawValue;

use super::QueryState;
use super::members::Members;
use super::parameters::{Common, Parameters, offset};
use super::problem::Problem;
use super::stream::answer;
use crate::error::QueryError;
use crate::format::negotiate;
use crate::moment::Moment;

/// The longest body, in bytes.
const BODY_BYTES: usize = 1 << 20;

/// What the body says.
#[derive(Debug, Default, PartialEq)]
struct Question {
    sql: String,
    parameters: Vec<ScalarValue>,
    min_offset: Option<trunklog_storage::position::Position>,
    moment: Option<Moment>,
}

pub(super) async fn run(State(state): State<QueryState>, request: Request) -> Result<Response, Problem> {
    let (parts, body) = request.into_parts();
    let mut parameters = Parameters::of(&parts.uri)?;
    let mut common = Common::take(&state, &parts, &mut parameters)?;
    parameters.nothing_left()?;
    let accept: Vec<&str> = parts.headers.get_all(ACCEPT).iter().filter_map(|value| value.to_str().ok()).collect();
    let Some(format) = negotiate(Some(&accept.join(","))) else {
        let detail = "there are JSON, NDJSON, CSV, Arrow streams and Parquet";
        return Err(Problem::new(StatusCode::NOT_ACCEPTABLE, "not-acceptable", "No such form", detail));
    };
    let question = read(&parts.headers, body).await?;
    common.min_offset = question.min_offset.or(common.min_offset);
    common.moment = question.moment.unwrap_or(common.moment);
    common.wait(&state).await?;
    let session = state.engine.session(common.access, common.moment).await?;
    let running = session.start(&question.sql, question.parameters).await?;
    Ok(answer(state.engine.runtime(), running, format, session.as_of()).await?)
}

async fn read(headers: &HeaderMap, body: Body) -> Result<Question, Problem> {
    let kind = headers.get(CONTENT_TYPE).and_then(|value| value.to_str().ok()).unwrap_or_default();
    let kind = kind.split(';').next().unwrap_or_default().trim().to_ascii_lowercase();
    let body = to_bytes(body, BODY_BYTES).await.map_err(|_| {
        let detail = format!("at most {BODY_BYTES} bytes are read");
        Problem::new(StatusCode::PAYLOAD_TOO_LARGE, "too-large", "The body is too large", detail)
    })?;
    let not_text = |_| QueryError::parameter("body", "the body is not UTF-8");
    let text = std::str::from_utf8(&body).map_err(not_text)?;
    match kind.as_str() {
        "application/json" => Ok(from_json(text)?),
        "text/plain" | "application/sql" => Ok(Question { sql: text.to_owned(), ..Question::default() }),
        // What curl and bare clients send when they are not told.
        "" | "application/x-www-form-urlencoded" if text.trim_start().starts_with('{') => Ok(from_json(text)?),
        "" | "application/x-www-form-urlencoded" => Ok(Question { sql: text.to_owned(), ..Question::default() }),
        other => {
            let detail = format!("`{other}` is neither application/json nor text/plain");
            Err(Problem::new(StatusCode::UNSUPPORTED_MEDIA_TYPE, "media-type", "Unknown media type", detail))
        }
    }
}

fn from_json(text: &str) -> Result<Question, QueryError> {
    let wrong =
        |error: serde_json::Error| QueryError::parameter("body", format!("the body is no JSON object: {error}"));
    let members: Members = serde_json::from_str(text).map_err(wrong)?;
    let mut question = Question::default();
    let mut sql = None;
    for (name, raw) in &members.0 {
        match name.as_str() {
            "sql" => match parsed(name, raw)? {
                Value::String(text) => sql = Some(text),
                _ => return Err(wrong_type(name)),
            },
            "params" | "min_offset" | "as_of" if raw.get() == "null" => {}
            "params" => {
                let values: Vec<Box<RawValue>> = serde_json::from_str(raw.get()).map_err(|_| wrong_type(name))?;
                question.parameters = values.iter().map(|value| scalar(value)).collect::<Result<_, _>>()?;
            }
            "min_offset" => question.min_offset = Some(offset("min_offset", &plain(&parsed(name, raw)?))?),
            "as_of" => question.moment = Some(Moment::parse(&plain(&parsed(name, raw)?))?),
            _ => return Err(QueryError::parameter(name.as_str(), format!("there is no member `{name}`"))),
        }
    }
    question.sql = sql.ok_or_else(|| QueryError::parameter("sql", "`sql` is missing"))?;
    Ok(question)
}

fn wrong_type(name: &str) -> QueryError {
    QueryError::parameter(name, format!("`{name}` has the wrong type"))
}

fn parsed(name: &str, raw: &RawValue) -> Result<Value, QueryError> {
    serde_json::from_str(raw.get()).map_err(|error| QueryError::parameter(name, format!("`{name}`: {error}")))
}

/// Numbers and strings alike.
fn plain(value: &Value) -> String {
    match value {
        Value::String(text) => text.clone(),
        other => other.to_string(),
    }
}

fn scalar(raw: &RawValue) -> Result<ScalarValue, QueryError> {
    match parsed("params", raw)? {
        Value::Null => Ok(ScalarValue::Null),
        Value::Bool(value) => Ok(ScalarValue::Boolean(Some(value))),
        Value::String(value) => Ok(ScalarValue::Utf8(Some(value))),
        Value::Number(number) => match (number.as_i64(), number.as_f64()) {
            (Some(whole), _) => Ok(ScalarValue::Int64(Some(whole))),
            // As it is written: what is too long for an integer would be read as a float.
            (None, Some(float)) if float == 0.0 || raw.get().contains(['.', 'e', 'E']) => {
                Ok(ScalarValue::Float64(Some(float)))
            }
            _ => Err(QueryError::parameter("params", format!("`{}` is out of range", raw.get()))),
        },
        Value::Array(_) | Value::Object(_) => {
            Err(QueryError::parameter("params", "parameters are strings, numbers, booleans and null"))
        }
    }
}

#[cfg(test)]
mod tests {
    use trunklog_storage::position::Position;

    use super::*;

    fn at_fault(text: &str) -> String {
        match from_json(text).expect_err("is wrong") {
            QueryError::Parameter { parameter, .. } => parameter,
            other => panic!("{other}"),
        }
    }

    #[test]
    fn reads_questions() {
        let question = from_json(r#"{"sql":"SELECT $1","params":[1,"a",1.5,true,null],"min_offset":3,"as_of":"7"}"#);
        let question = question.expect("reads");
        assert_eq!(question.sql, "SELECT $1");
        let expected = vec![
            ScalarValue::Int64(Some(1)),
            ScalarValue::Utf8(Some("a".into())),
            ScalarValue::Float64(Some(1.5)),
            ScalarValue::Boolean(Some(true)),
            ScalarValue::Null,
        ];
        assert_eq!(question.parameters, expected);
        assert_eq!(question.min_offset, Position::parse("3"));
        assert_eq!(question.moment, Some(Moment::Position(Position::parse("7").expect("a token"))));
        assert_eq!(
            from_json(r#"{"sql":"x","min_offset":"4","params":null}"#).expect("reads").min_offset,
            Position::parse("4")
        );
    }

    #[test]
    fn names_what_is_wrong() {
        assert_eq!(at_fault("{}"), "sql");
        assert_eq!(at_fault("[]"), "body");
        assert_eq!(at_fault(r#"{"sql":1}"#), "sql");
        assert_eq!(at_fault(r#"{"sql":"x","limit":1}"#), "limit");
        assert_eq!(at_fault(r#"{"sql":"x","params":{}}"#), "params");
        assert_eq!(at_fault(r#"{"sql":"x","params":[[1]]}"#), "params");
        for beyond in ["9223372036854775808", "-9223372036854775809", "100000000000000000000", "1e999"] {
            assert_eq!(at_fault(&format!(r#"{{"sql":"x","params":[{beyond}]}}"#)), "params", "{beyond}");
        }
        assert_eq!(at_fault(r#"{"sql":"x","sql":"y"}"#), "body");
        assert_eq!(at_fault(r#"{"sql":"x","min_offset":-1}"#), "min_offset");
        assert_eq!(at_fault(r#"{"sql":"x","as_of":"yesterday"}"#), "as_of");
    }
}
