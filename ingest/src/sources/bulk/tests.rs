//! Lines that are events, lines that are not, and lines that are another tenant's.

use super::*;
use crate::sources::fixture::posted;

const GOOD: &str = r#"{"specversion":"1.0","id":"e1","source":"placetel","type":"placetel.HungUp","time":"2026-01-02T03:04:05.000006Z","datacontenttype":"application/x-www-form-urlencoded","method":"POST","path":"/in/placetel","headers":"{\"Host\":\"h\",\"Cookie\":\"c\"}","data":"event=HungUp&call_id=c"}"#;

fn read(body: &str) -> Result<Vec<Event>, Refusal> {
    let template = posted(Source::Trunklog, "", "");
    read_lines(&template, &Bytes::copy_from_slice(body.as_bytes()), 1000)
}

#[test]
fn a_structured_event_keeps_its_id_and_time() {
    let events = read(GOOD).expect("read");
    let [event] = events.as_slice() else { panic!("one event") };
    assert_eq!((event.id.as_str(), event.source, event.kind.as_str()), ("e1", Source::Placetel, "placetel.HungUp"));
    assert_eq!(event.received_at, 1_767_323_045_000_006);
    assert_eq!(&event.payload[..], b"event=HungUp&call_id=c");
    assert_eq!(event.path.as_deref(), Some("/in/placetel"));
    assert_eq!(event.headers.keys().map(|name| name.as_str()).collect::<Vec<_>>(), ["host"]);
    assert!(event.structured && event.error.is_none());
}

#[test]
fn json_data_is_kept_byte_for_byte() {
    let line = r#"{"id":"e","source":"/acme/kazoo","type":"kazoo.hook","data":{"a" : 1.0}}"#;
    let events = read(line).expect("read");
    assert_eq!(&events[0].payload[..], br#"{"a" : 1.0}"#);
    let line = r#"{"id":"e","source":"kazoo","type":"kazoo.hook","data_base64":"/wA="}"#;
    assert_eq!(&read(line).expect("read")[0].payload[..], b"\xff\x00");
}

#[test]
fn a_bad_line_does_not_stop_the_others() {
    let wrong_time = GOOD.replace("2026-01-02", "1899-12-30");
    let body = format!("nonsense\n\n{GOOD}\r\n{{\"type\":\"planfix.record\"}}\n{wrong_time}\n  \n");
    let events = read(&body).expect("read");
    let shown: Vec<(Source, bool)> = events.iter().map(|event| (event.source, event.error.is_some())).collect();
    let expected =
        [(Source::Placetel, true), (Source::Placetel, false), (Source::Planfix, true), (Source::Placetel, true)];
    assert_eq!(shown, expected);
    assert_eq!((events[0].kind.as_str(), &events[0].payload[..]), ("placetel.unknown", &b"nonsense"[..]));
}

#[test]
fn sources_must_agree() {
    let line = GOOD.replace(r#""source":"placetel""#, r#""source":"/acme/kazoo""#);
    assert!(read(&line).expect("read")[0].error.is_some());
    let line = GOOD.replace("placetel.HungUp", "trunklog.link");
    assert!(read(&line).expect("read")[0].error.is_some());
}

#[test]
fn another_tenants_line_refuses_all() {
    let line = GOOD.replace(r#""source":"placetel""#, r#""source":"/other/placetel""#);
    assert!(matches!(read(&format!("{GOOD}\n{line}")), Err(Refusal::Forbidden(_))));
    // Even if it is no event.
    for line in [r#"{"source":"/other/kazoo"}"#, r#"{"id":7,"type":"kazoo.hook","source":"/other/kazoo"}"#] {
        assert!(matches!(read(line), Err(Refusal::Forbidden(_))), "{line}");
    }
    assert!(read(r#"{"source":"/acme/kazoo"}"#).expect("read")[0].error.is_some());
}

#[test]
fn a_long_line_refuses_all() {
    let body = format!("{GOOD}\n{}", "x".repeat(1001));
    assert!(matches!(read(&body), Err(Refusal::TooLarge(1000))));
}

#[test]
fn nothing_is_nothing() {
    assert!(read(" \n\n").expect("read").is_empty());
}
