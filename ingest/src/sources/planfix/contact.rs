//! `cmd=contact`: who is calling, from the contacts file, else from what earlier calls said. Stores nothing.

use axum::Json;
use axum::response::{IntoResponse, Response};
use serde_json::{Map, Value};
use trunklog_storage::event::Source;

use crate::IngestState;
use crate::settings::{Contact, Settings};

/// The answer; `{}` for a number that nobody knows.
pub async fn answer(state: &IngestState, settings: &Settings, tenant: &str, phone: &str) -> Response {
    let e164 = state.archive.decoder().e164(tenant, Source::Planfix, phone);
    let contacts = &settings.of(tenant).planfix_contacts;
    let spellings = [Some(phone), e164.as_deref()];
    let configured = spellings.into_iter().flatten().find_map(|phone| contacts.get(&digits(phone)).cloned());
    let found = match configured {
        Some(contact) => Some(contact),
        None => state.contacts.find(tenant, phone).await,
    };
    let unknown = || Value::Object(Map::new());
    Json(found.map_or_else(unknown, |contact| document(&contact))).into_response()
}

fn digits(phone: &str) -> String {
    phone.chars().filter(char::is_ascii_digit).collect()
}

/// The manager's short code is a number where it reads as one.
fn document(contact: &Contact) -> Value {
    let mut document = Map::new();
    document.insert("contact_name".to_owned(), Value::from(contact.contact_name.clone()));
    if let Some(manager) = contact.manager.as_deref().filter(|manager| !manager.is_empty()) {
        let number = manager.parse::<u64>().ok().filter(|number| number.to_string() == manager);
        document.insert("manager".to_owned(), number.map_or_else(|| Value::from(manager), Value::from));
    }
    Value::Object(document)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn printed(manager: Option<&str>) -> String {
        let contact = Contact { contact_name: "John Smith".to_owned(), manager: manager.map(str::to_owned) };
        document(&contact).to_string()
    }

    #[test]
    fn the_vendors_answer() {
        assert_eq!(printed(Some("103")), r#"{"contact_name":"John Smith","manager":103}"#);
        assert_eq!(printed(Some("0103")), r#"{"contact_name":"John Smith","manager":"0103"}"#);
        assert_eq!(printed(Some("anna")), r#"{"contact_name":"John Smith","manager":"anna"}"#);
        assert_eq!(printed(None), r#"{"contact_name":"John Smith"}"#);
    }

    #[test]
    fn numbers_are_compared_by_their_digits() {
        assert_eq!(digits("+7 (910) 123-45-67"), "79101234567");
    }
}
