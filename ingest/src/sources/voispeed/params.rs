//! The parameters of an event or callback by the names that the decoder knows. The vendor's guide lost its tables, so
//! a tenant may configure further names for each.

use trunklog_storage::event::{Event, Micros};

use super::clock;
use crate::form::Form;
use crate::settings::TenantSettings;

/// The parameters of one message.
pub(super) struct Params<'a> {
    form: Form<'a>,
    settings: &'a TenantSettings,
    received_at: Micros,
}

impl<'a> Params<'a> {
    /// The parameters of this message, or why they cannot be had.
    pub fn of(event: &'a Event, settings: &'a TenantSettings) -> Result<Params<'a>, String> {
        let form = Form::of_event(event).map_err(|error| error.to_string())?;
        Ok(Params { form, settings, received_at: event.received_at })
    }

    /// The first value under this name, else under the configured names for it; blanks are no value.
    pub fn get(&self, name: &str) -> Option<&str> {
        self.sent(name).or_else(|| self.aliases(name).iter().find_map(|alias| self.sent(alias)))
    }

    /// The value of the first of these names that has one.
    pub fn first(&self, names: &[&str]) -> Option<&str> {
        names.iter().find_map(|name| self.get(name))
    }

    /// The same, as text to claim: nothing is the empty text.
    pub fn text(&self, name: &str) -> &str {
        self.get(name).unwrap_or_default()
    }

    /// The time that the message carries.
    pub fn datetime(&self) -> Option<Micros> {
        clock::local(self.get("datetime")?, self.settings.time_zone, self.received_at)
    }

    fn sent(&self, name: &str) -> Option<&str> {
        let named = self.form.pairs().iter().filter(|(sent, _)| sent == name);
        named.map(|(_, value)| value.trim()).find(|value| !value.is_empty())
    }

    fn aliases(&self, name: &str) -> &[String] {
        self.settings.voispeed_alias.get(name).map_or(&[], Vec::as_slice)
    }
}
