//! The decoder that the archive gets: it hands each message to its source's own.

use std::sync::Arc;

use trunklog_storage::event::{Event, Micros, Source};
use trunklog_storage::fact::{CallRef, Decoded, Decoder, MAX_KEY_BYTES};

use crate::numbers::Numbers;
use crate::settings::SharedSettings;
use crate::sources::{kazoo, placetel, planfix, virtualpbx, voispeed};

const HOUR: Micros = 3600 * 1_000_000;
/// How long a call may stay open without a message, unless configured.
const OPEN_TIMEOUT: Micros = 4 * HOUR;
/// The same for a Placetel call that only rang: contact-centre numbers never send its end.
const RINGING_TIMEOUT: Micros = HOUR;

/// The decoder over all five sources.
pub fn adapters(settings: SharedSettings) -> Arc<dyn Decoder> {
    Arc::new(Adapters { settings, numbers: Numbers::default() })
}

struct Adapters {
    settings: SharedSettings,
    numbers: Numbers,
}

impl Decoder for Adapters {
    fn decode(&self, event: &Event) -> Decoded {
        let settings = self.settings.load();
        let settings = settings.of(&event.tenant);
        let decoded = match event.source {
            Source::Kazoo => kazoo::decode(event, settings),
            Source::Virtualpbx => virtualpbx::decode(event, settings),
            Source::Placetel => placetel::decode::decode(event, settings),
            Source::Voispeed => voispeed::decode(event, settings),
            Source::Planfix => planfix::decode::decode(event, settings),
            // What trunklog itself learnt concerns no call as a message does; it is never a repeat.
            Source::Trunklog => Decoded::new(&*event.kind, &[b"trunklog", event.id.as_bytes()]),
        };
        if has_long_key(&decoded) {
            let error = format!("a key field is longer than {MAX_KEY_BYTES} bytes");
            return Decoded::quarantined(event, decoded.kind, error);
        }
        decoded
    }

    fn e164(&self, tenant: &str, source: Source, number: &str) -> Option<String> {
        let settings = self.settings.load();
        let country = settings.of(tenant).country.as_deref().or(default_country(source));
        self.numbers.e164(country, number)
    }

    fn timeout(&self, tenant: &str, source: Source, only_ringing: bool) -> Micros {
        let settings = self.settings.load();
        let settings = settings.of(tenant);
        let configured = settings.timeouts.get(&source).copied().unwrap_or(OPEN_TIMEOUT);
        let rings_for_ever = only_ringing && source == Source::Placetel;
        if rings_for_ever {
            settings.ringing_timeout.unwrap_or_else(|| configured.min(RINGING_TIMEOUT))
        } else {
            configured
        }
    }
}

/// Whether what names a leg, a related call or a party of a call without ids is too long for a key.
fn has_long_key(decoded: &Decoded) -> bool {
    let Some((reference, state)) = &decoded.fact else { return false };
    let too_long = |key: &str| key.len() > MAX_KEY_BYTES;
    let party = match reference {
        CallRef::Open { extension, number, .. } => too_long(extension) || too_long(number),
        CallRef::Key(_) => false,
    };
    party || state.legs.keys().any(|key| too_long(key)) || state.related.iter().any(|key| too_long(key))
}

fn default_country(source: Source) -> Option<&'static str> {
    match source {
        Source::Placetel => Some("DE"),
        Source::Voispeed => Some("IT"),
        Source::Planfix => Some("RU"),
        Source::Kazoo | Source::Virtualpbx | Source::Trunklog => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::settings::{Settings, TenantSettings};
    use crate::sources::fixture::posted;

    #[test]
    fn every_source_has_its_limit() {
        let own = TenantSettings {
            timeouts: [(Source::Voispeed, 7 * HOUR), (Source::Placetel, 3 * HOUR)].into(),
            ringing_timeout: Some(2 * HOUR),
            ..TenantSettings::default()
        };
        let short = TenantSettings { timeouts: [(Source::Placetel, HOUR / 2)].into(), ..TenantSettings::default() };
        let tenants = [("own".to_owned(), own), ("short".to_owned(), short)].into();
        let decoder = adapters(SharedSettings::new(Settings { tenants, ..Settings::default() }));
        for source in Source::PBX {
            assert_eq!(decoder.timeout("any", source, false), 4 * HOUR, "{source}");
            let ringing = if source == Source::Placetel { HOUR } else { 4 * HOUR };
            assert_eq!(decoder.timeout("any", source, true), ringing, "{source}");
        }
        assert_eq!(decoder.timeout("own", Source::Voispeed, true), 7 * HOUR);
        assert_eq!(decoder.timeout("own", Source::Kazoo, false), 4 * HOUR);
        assert_eq!(decoder.timeout("own", Source::Placetel, false), 3 * HOUR);
        assert_eq!(decoder.timeout("own", Source::Placetel, true), 2 * HOUR);
        assert_eq!(decoder.timeout("short", Source::Placetel, true), HOUR / 2);
    }

    #[test]
    fn long_names_of_legs_are_quarantined() {
        let decoder = adapters(SharedSettings::default());
        for (length, fits) in [(MAX_KEY_BYTES, true), (MAX_KEY_BYTES + 1, false)] {
            let ext = "1".repeat(length);
            let body = format!("cmd=event&type=in&event=INCOMING&phone=7&callid=c&ext={ext}");
            let decoded = decoder.decode(&posted(Source::Planfix, "planfix.post", &body));
            assert_eq!((decoded.error.is_none(), decoded.fact.is_some()), (fits, fits), "{length}");
        }
    }
}
