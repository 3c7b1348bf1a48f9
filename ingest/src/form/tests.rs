//! Strictness, order, and the three encodings of one form.

use super::*;

fn pairs<'a>(form: &'a Form<'_>) -> Vec<(&'a str, &'a str)> {
    form.pairs().iter().map(|(name, value)| (&**name, &**value)).collect()
}

#[test]
fn a_form_is_decoded() {
    let form = Form::parse(b"event=IncomingCall&from=%2B49+30&K[a][]=x&empty=&bare&&from=2&c=d=e&=f&").expect("valid");
    let expected = [
        ("event", "IncomingCall"),
        ("from", "+49 30"),
        ("K[a][]", "x"),
        ("empty", ""),
        ("bare", ""),
        ("from", "2"),
        ("c", "d=e"),
        ("", "f"),
    ];
    assert_eq!(pairs(&form), expected);
    assert_eq!(form.get("from"), Some("+49 30"));
    assert_eq!(form.all("from").collect::<Vec<_>>(), ["+49 30", "2"]);
    assert_eq!(form.text("empty"), None);
}

#[test]
fn broken_encodings_are_errors() {
    for text in ["a=%", "a=%4", "a=%zz", "%g0=1", "a=b%"] {
        assert_eq!(Form::parse(text.as_bytes()), Err(FormError::PercentEncoding), "{text}");
    }
    assert_eq!(Form::parse(b"a=%ff"), Err(FormError::Utf8));
    assert_eq!(Form::parse(b"a=\xc3"), Err(FormError::Utf8));
}

#[test]
fn json_is_flattened() {
    let form =
        Form::parse_json(br#"{"a":"x","n":8,"t":true,"z":null,"o":{"p":{"q":"r"}},"l":["1",2]}"#).expect("valid");
    assert_eq!(pairs(&form), [("a", "x"), ("n", "8"), ("t", "true"), ("o[p][q]", "r"), ("l[]", "1"), ("l[]", "2")]);
    assert_eq!(Form::parse_json(b"[1]"), Err(FormError::NotAnObject));
    assert!(matches!(Form::parse_json(b"{"), Err(FormError::Json(_))));
}

#[test]
fn deep_json_is_an_error_and_no_overflow() {
    let deep = format!("{{\"a\":{}1{}}}", "[".repeat(100_000), "]".repeat(100_000));
    assert!(matches!(Form::parse_json(deep.as_bytes()), Err(FormError::Json(_))));
}

#[test]
fn multipart_gives_its_fields() {
    let body = "--X\r\nContent-Disposition: form-data; name=\"event\"\r\n\r\nHungUp\r\n--X\r\n\
                content-disposition: form-data; name=\"from\"\r\n\r\n030\r\n--X--\r\n";
    let form = Form::of_body(Some("multipart/form-data; boundary=X"), body.as_bytes()).expect("valid");
    assert_eq!(pairs(&form), [("event", "HungUp"), ("from", "030")]);
    let broken = Form::of_body(Some("multipart/form-data"), body.as_bytes());
    assert_eq!(broken, Err(FormError::Multipart));
}

#[test]
fn the_look_of_a_body_decides_when_its_type_does_not() {
    let form = Form::of_body(None, b" {\"a\":1}").expect("valid");
    assert_eq!(pairs(&form), [("a", "1")]);
    let form = Form::of_body(Some("text/plain"), b"a=1").expect("valid");
    assert_eq!(pairs(&form), [("a", "1")]);
}

#[test]
fn keys_are_found_in_broken_forms() {
    assert!(lenient_pairs(b"x=%zz&token=k").contains(&("token".to_owned(), "k".to_owned())));
    assert!(lenient_body_pairs(b"{\"token\":\"k\"}").contains(&("token".to_owned(), "k".to_owned())));
}
