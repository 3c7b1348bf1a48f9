//! Keys are found, and gone from what is kept.

use super::*;

const KEY: &str = "tlk_Ab3-_xyz";

fn arrived(uri: &str) -> (Arrived, String) {
    let request = axum::http::Request::builder().uri(uri).body(axum::body::Body::empty()).expect("a request");
    let (parts, _) = take_path_key(request).into_parts();
    (Arrived::of(&parts), parts.uri.to_string())
}

#[test]
fn the_key_leaves_the_path() {
    let (came, routed) = arrived("/in/tlk_Ab3-_xyz/placetel?a=1");
    assert_eq!(routed, "/in/placetel?a=1");
    assert_eq!(came.key.as_deref(), Some(KEY));
    let secrets = Secrets::outside_fields(&came, &HeaderMap::new()).expect("readable").expect("a key");
    assert_eq!(secrets.redact_text(&came.path), "/in/REDACTED/placetel");
}

#[test]
fn the_key_may_be_percent_encoded() {
    let (came, routed) = arrived("/in/%74lk_Ab3%2D%5fxyz/kazoo/pivot");
    assert_eq!(routed, "/in/kazoo/pivot");
    assert_eq!(came.key.as_deref(), Some(KEY));
    let secrets = Secrets::outside_fields(&came, &HeaderMap::new()).expect("readable").expect("a key");
    assert_eq!(secrets.redact_text(&came.path), "/in/REDACTED/kazoo/pivot");
}

#[test]
fn a_path_without_a_key_stays() {
    let (came, routed) = arrived("/in/planfix");
    assert_eq!(routed, "/in/planfix");
    assert!(came.key.is_none());
}

#[test]
fn basic_gives_the_password_and_hides_itself() {
    let credential = STANDARD.encode(format!("user:{KEY}"));
    let mut headers = HeaderMap::new();
    headers.insert(header::AUTHORIZATION, format!("basic {credential}").parse().expect("a header"));
    let secrets = Secrets::outside_fields(&arrived("/in/placetel").0, &headers).expect("readable").expect("a key");
    assert_eq!(secrets.token(), KEY);
    assert_eq!(secrets.redact_text(&format!("x={credential}&y={KEY}")), "x=REDACTED&y=REDACTED");
}

#[test]
fn an_unreadable_authorization_is_refused() {
    for value in ["Bearer", "Digest abc", "Basic ???", "Basic YWJj"] {
        let mut headers = HeaderMap::new();
        headers.insert(header::AUTHORIZATION, value.parse().expect("a header"));
        assert!(Secrets::outside_fields(&arrived("/in/placetel").0, &headers).is_err(), "{value}");
    }
}

#[test]
fn fields_are_tried_in_order() {
    let body = b"cmd=event&token=other&planfix_token=tlk_Ab3-_xyz";
    let secrets = Secrets::in_field(None, body, &["planfix_token", "token"]).expect("a key");
    assert_eq!(secrets.token(), KEY);
    let secrets = Secrets::in_field(None, b"planfix_token=&token=k1", &["planfix_token", "token"]).expect("a key");
    assert_eq!(secrets.token(), "k1");
    assert!(Secrets::in_field(None, b"cmd=event", &["token"]).is_none());
}

#[test]
fn every_form_of_the_key_goes() {
    let secrets = Secrets::new(KEY.to_owned());
    let text = r"a=tlk_Ab3-_xyz&b=%74lk%5FAb3%2d_xyz&c=%2574lk_Ab3-_xyz&d=\u0074lk_Ab3-_xyz&e=tlk_Ab3";
    assert_eq!(secrets.redact_text(text), "a=REDACTED&b=REDACTED&c=REDACTED&d=REDACTED&e=tlk_Ab3");
}

#[test]
fn keys_that_were_not_used_are_found() {
    let letters = "Ab3".repeat(14);
    let (one, two) = (format!("tlk_{letters}1"), format!("tlk_{letters}2"));
    let spelled = [
        one.clone(),
        one.replace('_', "%5F"),
        one.replace('b', "%2562"),
        one.replace('l', r"\u006c"),
        format!("{one}-x"),
        format!("{one}0"),
    ];
    for spelling in spelled {
        let text = format!("a=%2Ftlk_short&x={spelling}&y={two}%20z");
        let found: Vec<String> = redact::candidates(text.as_bytes(), b"tlk_").collect();
        assert_eq!(found, [one.as_str(), two.as_str()], "{text}");
    }
    let mut secrets = Secrets::new(KEY.to_owned());
    let text = format!("x={}&y={two}", one.replace('_', "%5f"));
    secrets.add_other_keys(&[text.as_bytes()], |token| {
        if token == one { Err(Denied::Address) } else { Err(Denied::Unauthorized) }
    });
    assert_eq!(secrets.redact_text(&text), format!("x=REDACTED&y={two}"));
}

#[test]
fn keys_behind_base64_are_found() {
    let other = format!("tlk_{}", "x".repeat(43));
    let (used, unused) = (STANDARD.encode(format!("user:{KEY}")), STANDARD.encode(format!("u:{other}")));
    let mut secrets = Secrets::new(KEY.to_owned());
    let text = format!("Basic {used}; {unused} {}", STANDARD.encode("user:password"));
    secrets.add_encoded_keys(&[text.as_bytes()], |token| {
        if token == other { Err(Denied::Address) } else { Err(Denied::Unauthorized) }
    });
    let redacted = secrets.redact_text(&text);
    assert!(!redacted.contains(used.trim_end_matches('=')) && !redacted.contains(unused.trim_end_matches('=')));
    assert!(redacted.ends_with(&STANDARD.encode("user:password")), "{redacted}");
}

/// RFC 4231, test case 2.
#[test]
fn the_signature_is_hmac_sha256_in_hex() {
    let signature = "5bdcc146bf60754e6a042426089575c75a003f089d2739839dec58b964ec3843";
    let body = b"what do ya want for nothing?";
    assert!(signature_is_valid(b"Jefe", body, signature));
    assert!(!signature_is_valid(b"Jefe", body, &signature[..62]));
    assert!(!signature_is_valid(b"jefe", body, signature));
    assert!(!signature_is_valid(b"Jefe", body, "zz"));
    assert!(!signature_is_valid(b"Jefe", body, ""));
}
