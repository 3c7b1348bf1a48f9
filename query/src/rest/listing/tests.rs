use super::super::calls;
use super::*;
use crate::moment::AsOf;
use trunklog_storage::position::Position;

fn ask(query: &str) -> Result<Question, QueryError> {
    let uri = format!("/v1/calls?{query}").parse().expect("a URI");
    calls::listing().question(Parameters::of(&uri).expect("parameters"), LIMIT)
}

fn at_fault<T: std::fmt::Debug>(outcome: Result<T, QueryError>) -> String {
    match outcome.expect_err("is wrong") {
        QueryError::Parameter { parameter, .. } => parameter,
        other => panic!("{other}"),
    }
}

fn cursor(value: Value) -> Cursor {
    Cursor { as_of: AsOf { offset: Position::unsaid(false), time: 0 }, value, id: "abc".into(), binding: String::new() }
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
fn a_number_is_looked_for_on_both_sides() {
    let question = ask("number=%2B4930123").expect("a question");
    let expected = "(from_number = $1 OR to_number = $1 OR from_e164 = $1 OR to_e164 = $1)";
    assert_eq!(question.conditions, [expected]);
    assert_eq!(question.values, [ScalarValue::Utf8(Some("+4930123".into()))]);
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
    let mut question = ask("").expect("a question");
    question.after(&cursor(Value::from(5))).expect("a position");
    let expected = "(\"started_at\" < $2 OR (\"started_at\" = $2 AND call_id > $1) OR \"started_at\" IS NULL)";
    assert_eq!(question.conditions, [expected]);
    let mut question = ask("sort=queue").expect("a question");
    question.after(&cursor(Value::Null)).expect("a position");
    assert_eq!(question.conditions, ["(\"queue\" IS NULL AND call_id > $1)"]);
    assert_eq!(at_fault(question.after(&cursor(Value::from(5)))), "cursor");
}

#[test]
fn floats_come_back_exactly() {
    let order = Order { column: "link_confidence".into(), kind: DataType::Float64, descending: true };
    for number in [0.0, 1.0, 0.1 + 0.2, 2.0 / 3.0, f64::MIN_POSITIVE] {
        let scalar = order.scalar(&Value::from(number.to_string())).expect("a cursor's value");
        assert_eq!(scalar, Some(ScalarValue::Float64(Some(number))));
    }
    for wrong in [Value::from("NaN"), Value::from("x"), Value::from(true)] {
        assert_eq!(at_fault(order.scalar(&wrong)), "cursor", "{wrong}");
    }
    assert_eq!(at_fault(scalar("link_confidence", &DataType::Float64, "inf")), "link_confidence");
}
