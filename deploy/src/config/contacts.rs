//! The contacts file of a tenant: CSV with the header `phone,contact_name,manager`.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::ErrorKind;
use std::path::Path;

use trunklog_ingest::settings::Contact;

/// Contacts by the digits of their number.
pub type Contacts = BTreeMap<String, Contact>;

/// Reads the file, or says what is wrong with it; `None` if there is no such file. Columns are found by name, so their
/// order is free, and `manager` may be missing.
pub fn read(path: &Path) -> Result<Option<Contacts>, String> {
    let file = match File::open(path) {
        Ok(file) => file,
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(error.to_string()),
    };
    let mut reader = csv::ReaderBuilder::new().trim(csv::Trim::All).flexible(true).from_reader(file);
    let header = reader.headers().map_err(|error| error.to_string())?.clone();
    let column = |name: &str| header.iter().position(|title| title.trim_start_matches('\u{feff}') == name);
    let phone = column("phone").ok_or("the header has no column `phone`")?;
    let name = column("contact_name").ok_or("the header has no column `contact_name`")?;
    let manager = column("manager");
    let mut contacts = Contacts::new();
    for (at, record) in reader.records().enumerate() {
        let record = record.map_err(|error| error.to_string())?;
        let number: String = record.get(phone).unwrap_or_default().chars().filter(char::is_ascii_digit).collect();
        if number.is_empty() {
            return Err(format!("line {}: `phone` has no digits", at + 2));
        }
        let manager = manager.and_then(|column| record.get(column)).filter(|manager| !manager.is_empty());
        let contact_name = record.get(name).unwrap_or_default().to_owned();
        contacts.insert(number, Contact { contact_name, manager: manager.map(str::to_owned) });
    }
    Ok(Some(contacts))
}
