//! The contacts file of a tenant: CSV with the header `phone,contact_name,manager`.

use std::collections::BTreeMap;
use std::path::Path;

use trunklog_ingest::settings::Contact;

use super::ConfigError;

/// Contacts by the digits of their number.
pub type Contacts = BTreeMap<String, Contact>;

/// Reads the file; columns are found by name, so their order is free, and `manager` may be missing.
pub fn read(path: &Path) -> Result<Contacts, ConfigError> {
    let wrong = |reason: String| ConfigError::File { path: path.to_owned(), reason };
    let mut reader = csv::ReaderBuilder::new()
        .trim(csv::Trim::All)
        .flexible(true)
        .from_path(path)
        .map_err(|error| wrong(error.to_string()))?;
    let header = reader.headers().map_err(|error| wrong(error.to_string()))?.clone();
    let column = |name: &str| header.iter().position(|title| title.trim_start_matches('\u{feff}') == name);
    let phone = column("phone").ok_or_else(|| wrong("the header has no column `phone`".into()))?;
    let name = column("contact_name").ok_or_else(|| wrong("the header has no column `contact_name`".into()))?;
    let manager = column("manager");
    let mut contacts = Contacts::new();
    for (at, record) in reader.records().enumerate() {
        let record = record.map_err(|error| wrong(error.to_string()))?;
        let number: String = record.get(phone).unwrap_or_default().chars().filter(char::is_ascii_digit).collect();
        if number.is_empty() {
            return Err(wrong(format!("line {}: `phone` has no digits", at + 2)));
        }
        let manager = manager.and_then(|column| record.get(column)).filter(|manager| !manager.is_empty());
        let contact_name = record.get(name).unwrap_or_default().to_owned();
        contacts.insert(number, Contact { contact_name, manager: manager.map(str::to_owned) });
    }
    Ok(contacts)
}
