//! The answer to a pivot request that has the call recorded to this archive and then goes on as configured: pointing
//! a number at the archive is all that recording takes.

use axum::http::uri::Authority;
use compact_str::CompactString;
use serde_json::{Value, json};
use trunklog_storage::event::Source;

use super::fields::Fields;
use crate::accept::Inbound;
use crate::settings::{RecordCalls, Settings};

/// Fields that only a later visit of a pivot node brings along.
const OF_LATER_VISITS: [&str; 3] = ["digits", "recordingid", "recordingurl"];

/// What starts a recording, and where it goes.
pub(super) struct Recorder {
    calls: RecordCalls,
    url: String,
}

impl Recorder {
    /// The recorder for this call, if its tenant has calls recorded and this is the call's first visit.
    ///
    /// A call may come back from the call flow it was sent to (after it collected digits, say), and a second
    /// `record_call` would start a second recording of the same conversation. Nothing is remembered from one visit to
    /// the next; so only a request without `Digits`, `Recording-ID` and `Recording-Url` counts as the first. A call
    /// flow that leads back here without any of them starts another recording.
    pub fn of(settings: &Settings, inbound: &Inbound, fields: Option<&Fields>) -> Option<Recorder> {
        let calls = settings.of(&inbound.tenant).kazoo_record?;
        if !is_first_visit(fields?) {
            return None;
        }
        let host = inbound.headers.get("host").map(CompactString::as_str);
        let Some(base) = base(settings.public_url.as_deref(), host) else {
            tracing::warn!("a call is not recorded: there is no `public_url`, and its request names no host");
            return None;
        };
        Some(Recorder { calls, url: upload_url(&base, inbound.secrets.token(), inbound.source) })
    }

    /// Starts recording and goes on with this call flow; one that starts a recording itself stays as it is.
    pub fn before(&self, flow: &Value) -> Value {
        let RecordCalls { format, time_limit_seconds, caller_only } = self.calls;
        let (format, url) = (format.as_str(), &self.url);
        let (module, data) = match flow["module"].as_str() {
            Some("record_call" | "record_caller") => return flow.clone(),
            _ if caller_only => {
                ("record_caller", json!({"format": format, "url": url, "time_limit": time_limit_seconds}))
            }
            _ => (
                "record_call",
                json!({"action": "start", "format": format, "time_limit": time_limit_seconds, "url": url}),
            ),
        };
        json!({"module": module, "data": data, "children": {"_": flow}})
    }
}

fn is_first_visit(fields: &Fields) -> bool {
    OF_LATER_VISITS.iter().all(|name| fields.named(name).next().is_none())
}

/// How the sender reaches the archive: as configured, else as it just did. Without TLS then; only a proxy could tell.
fn base(public_url: Option<&str>, host: Option<&str>) -> Option<String> {
    let as_it_did = || {
        let authority: Authority = host?.parse().ok()?;
        (!authority.as_str().contains('@')).then(|| format!("http://{authority}"))
    };
    public_url.map(str::to_owned).or_else(as_it_did)
}

/// The base of uploads. It has no query, so that the PBX appends the file name as a further segment, and the key is
/// in the path, as the PBX knows no other place for it.
fn upload_url(base: &str, key: &str, source: Source) -> String {
    format!("{base}/in/{key}/{source}/recordings")
}

#[cfg(test)]
mod tests {
    use super::super::fields::Spelling;
    use super::*;
    use crate::settings::RecordFormat;

    fn recorder(caller_only: bool) -> Recorder {
        let calls = RecordCalls { format: RecordFormat::Mp3, time_limit_seconds: 10_800, caller_only };
        let base = base(Some("https://calls.acme.example"), Some("10.0.0.1")).expect("is configured");
        Recorder { calls, url: upload_url(&base, "tlk_abc", Source::Virtualpbx) }
    }

    #[test]
    fn the_call_is_recorded_and_goes_on_as_configured() {
        let flow = json!({"module": "user", "data": {"id": "x"}});
        let url = "https://calls.acme.example/in/tlk_abc/virtualpbx/recordings";
        let data = json!({"action": "start", "format": "mp3", "time_limit": 10_800, "url": url});
        let expected = json!({"module": "record_call", "data": data, "children": {"_": flow}});
        assert_eq!(recorder(false).before(&flow), expected);
        let data = json!({"format": "mp3", "url": url, "time_limit": 10_800});
        let expected = json!({"module": "record_caller", "data": data, "children": {"_": flow}});
        assert_eq!(recorder(true).before(&flow), expected);
    }

    #[test]
    fn a_call_flow_that_records_already_stays_as_it_is() {
        let own = json!({"module": "record_call", "data": {"action": "start", "url": "http://elsewhere"}});
        assert_eq!(recorder(false).before(&own), own);
    }

    #[test]
    fn without_a_configured_address_the_one_that_was_called_is_used() {
        assert_eq!(base(None, Some("archive.example:8080")).as_deref(), Some("http://archive.example:8080"));
        assert_eq!(base(None, Some("[::1]:8080")).as_deref(), Some("http://[::1]:8080"));
        for strange in [None, Some(""), Some("user@host"), Some("a/b"), Some("a b")] {
            assert_eq!(base(None, strange), None, "{strange:?}");
        }
    }

    #[test]
    fn only_the_first_visit_starts_a_recording() {
        let first = |pairs: &[(&str, &str)]| {
            let pairs: Vec<_> = pairs.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
            is_first_visit(&Fields::of_pairs(pairs, Spelling::Pivot))
        };
        assert!(first(&[("Call-ID", "a"), ("From", "1001"), ("Digits", "")]));
        assert!(!first(&[("Call-ID", "a"), ("Digits", "1")]));
        assert!(!first(&[("Call-ID", "a"), ("Digits[menu]", "1")]));
        assert!(!first(&[("CallSid", "a"), ("RecordingSid", "r")]));
        assert!(!first(&[("Call-ID", "a"), ("Recording-Url", "http://h/r")]));
    }
}
