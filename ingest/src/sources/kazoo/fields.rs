//! The fields of a Kazoo message under one spelling each, whatever way they were sent: query, form or JSON, old, new
//! or TwiML names, nested keys, and the second `?` that webhooks put into a URL which has a query already.

use std::borrow::Cow;

use compact_str::CompactString;
use trunklog_storage::event::Event;

use crate::form::Form;

/// How names are folded before they are compared.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Spelling {
    /// Pivot requests: hyphens and case do not matter, and old and TwiML names have a present one.
    Pivot,
    /// Webhooks: neither do underscores.
    Hook,
}

/// One field: `K[a][b]=v` has the name `K`, folded, and the subkeys `a` and `b`.
pub(super) struct Field {
    /// Folded name.
    pub name: CompactString,
    /// Subkeys as sent; a list's is empty.
    pub subkeys: Vec<String>,
    /// Name and subkeys as sent.
    pub sent_as: String,
    /// Value, never empty.
    pub value: String,
}

/// The fields of one message that have a value, in the order in which they were sent.
pub(super) struct Fields(Vec<Field>);

impl Fields {
    /// The fields of this message, or why they cannot be had.
    pub fn of(event: &Event, spelling: Spelling) -> Result<Fields, String> {
        let event = single_question_mark(event);
        let form = Form::of_event(&event).map_err(|error| error.to_string())?;
        Ok(Fields::of_pairs(form.into_pairs(), spelling))
    }

    /// Decoded pairs, folded.
    pub fn of_pairs(pairs: Vec<(String, String)>, spelling: Spelling) -> Fields {
        let present = pairs.into_iter().filter(|(_, value)| !value.is_empty());
        Fields(present.map(|(name, value)| field(name, value, spelling)).collect())
    }

    /// The first value of the field itself, or of the list under it.
    pub fn get(&self, name: &str) -> Option<&str> {
        self.values(name).next()
    }

    /// Every value of the field itself, or of the list under it.
    pub fn values<'s>(&'s self, name: &str) -> impl Iterator<Item = &'s str> {
        let plain = |field: &&Field| field.subkeys.iter().all(String::is_empty);
        self.named(name).filter(plain).map(|field| field.value.as_str())
    }

    /// The value under one subkey, spelled with or without hyphens and underscores.
    pub fn under(&self, name: &str, subkey: &str) -> Option<&str> {
        let matches =
            |field: &&Field| matches!(field.subkeys.as_slice(), [only] if fold(only, Spelling::Hook) == subkey);
        self.named(name).find(matches).map(|field| field.value.as_str())
    }

    /// Every field of this folded name.
    pub fn named<'s>(&'s self, name: &str) -> impl Iterator<Item = &'s Field> {
        self.0.iter().filter(move |field| field.name == name)
    }

    /// Every field.
    pub fn iter(&self) -> impl Iterator<Item = &Field> {
        self.0.iter()
    }

    /// Names and values as sent, sorted: what tells one pivot request from another.
    pub fn sorted_pairs(&self) -> Vec<(&str, &str)> {
        let mut pairs: Vec<_> = self.0.iter().map(|field| (field.sent_as.as_str(), field.value.as_str())).collect();
        pairs.sort_unstable();
        pairs
    }
}

/// Of `user@realm` (or `sip:user@realm`) the user.
pub(super) fn user_part(address: &str) -> &str {
    let address = address.strip_prefix("sip:").unwrap_or(address);
    address.split_once('@').map_or(address, |(user, _)| user)
}

/// Kazoo appends `?query` even to a URL that has a query; a literal `?` inside a value would have been encoded.
fn single_question_mark(event: &Event) -> Cow<'_, Event> {
    match &event.query {
        Some(query) if query.contains('?') => {
            Cow::Owned(Event { query: Some(query.replace('?', "&").into()), ..event.clone() })
        }
        _ => Cow::Borrowed(event),
    }
}

fn field(name: String, value: String, spelling: Spelling) -> Field {
    let (base, rest) = name.split_at(name.find('[').unwrap_or(name.len()));
    let subkeys = rest.split('[').skip(1).map(|part| part.strip_suffix(']').unwrap_or(part).to_owned()).collect();
    let folded = fold(base, spelling);
    let name_now = if spelling == Spelling::Pivot { present_name(&folded).into() } else { folded };
    Field { name: name_now, subkeys, sent_as: name, value }
}

fn fold(name: &str, spelling: Spelling) -> CompactString {
    let dropped = |letter: char| letter == '-' || (letter == '_' && spelling == Spelling::Hook);
    name.trim().chars().filter(|letter| !dropped(*letter)).map(|letter| letter.to_ascii_lowercase()).collect()
}

/// Old and TwiML names of pivot fields.
fn present_name(folded: &str) -> &str {
    match folded {
        "fromuser" => "from",
        "touser" => "to",
        "requestuser" => "request",
        "callsid" => "callid",
        "accountsid" => "accountid",
        "callername" => "calleridname",
        "callernumber" => "calleridnumber",
        "recordingsid" => "recordingid",
        "transcriptionsid" => "transcriptionid",
        other => other,
    }
}
