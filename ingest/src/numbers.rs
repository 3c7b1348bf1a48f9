//! Telephone numbers as sent, to E.164: by the metadata of the `phonenumber` crate (calling codes, prefixes, lengths),
//! more tolerant than its parser, which refuses what is plausible but not assigned.

use std::collections::HashMap;

use ahash::RandomState;
use compact_str::CompactString;
use parking_lot::RwLock;
use phonenumber::Metadata;
use phonenumber::metadata::DATABASE;

/// Numbers up to this many digits are extensions or short numbers.
const SHORT_DIGITS: usize = 5;
/// E.164 allows fifteen digits, calling code included.
const MAX_DIGITS: usize = 15;
/// The shortest with a calling code.
const MIN_DIGITS: usize = 7;
/// When so many numbers of a country are remembered, remembering starts anew.
const CACHE_LIMIT: usize = 50_000;
/// Longer texts are no numbers.
const MAX_TEXT: usize = 64;

/// Those that were asked for in one country, or in none.
type Known = HashMap<CompactString, Option<CompactString>, RandomState>;

/// Normalises numbers and remembers the results: the metadata's regular expressions are slow.
#[derive(Debug, Default)]
pub struct Numbers {
    known: RwLock<HashMap<CompactString, Known, RandomState>>,
}

impl Numbers {
    /// The number in E.164, or `None` for what is anonymous, a SIP id, short, or national of an unknown country.
    pub fn e164(&self, country: Option<&str>, number: &str) -> Option<String> {
        if number.len() > MAX_TEXT {
            return None;
        }
        let place = country.unwrap_or_default();
        if let Some(found) = self.known.read().get(place).and_then(|known| known.get(number)) {
            return found.as_ref().map(CompactString::to_string);
        }
        let found = normalise(country, number);
        let mut countries = self.known.write();
        let known = countries.entry(place.into()).or_default();
        if known.len() >= CACHE_LIMIT {
            known.clear();
        }
        known.insert(number.into(), found.as_deref().map(CompactString::from));
        found
    }
}

fn normalise(country: Option<&str>, number: &str) -> Option<String> {
    let number = number.strip_prefix("tel:").unwrap_or(number);
    // `+49 (0)30 …`: the trunk prefix is shown, and not dialled from abroad.
    let digits =
        plain(&if number.trim_start().starts_with('+') { number.replace("(0)", "") } else { number.to_owned() })?;
    if let Some(international) = digits.strip_prefix('+') {
        return international_number(international);
    }
    if digits.len() <= SHORT_DIGITS {
        return None;
    }
    let metadata = DATABASE.by_id(country?.to_ascii_uppercase().as_str())?;
    let prefix_end = metadata.international_prefix().and_then(|prefix| prefix.find(&digits)).filter(|m| m.start() == 0);
    let abroad = prefix_end.map(|prefix| &digits[prefix.end()..]);
    if let Some(international) = abroad.filter(|rest| rest.len() >= MIN_DIGITS && !rest.starts_with('0')) {
        return international_number(international);
    }
    let code = metadata.country_code().to_string();
    let national = match without_code(metadata, &digits, &code) {
        Some(national) => national,
        None => without_prefix(metadata, &digits),
    };
    bounded(&code, national)
}

/// Digits, with a `+` before them if there was one; `None` if anything but the usual punctuation stands between.
fn plain(number: &str) -> Option<String> {
    let mut digits = String::with_capacity(number.len());
    for character in number.trim().chars() {
        match character {
            '0'..='9' => digits.push(character),
            '+' if digits.is_empty() => digits.push('+'),
            ' ' | '\u{a0}' | '-' | '.' | '/' | '(' | ')' => {}
            _ => return None,
        }
    }
    (!digits.is_empty()).then_some(digits)
}

fn international_number(digits: &str) -> Option<String> {
    if digits.starts_with('0') {
        return None;
    }
    let known = (1..=3).filter_map(|length| digits.split_at_checked(length)).find_map(|(code, national)| {
        let countries = DATABASE.by_code(&code.parse::<u16>().ok()?)?;
        let main = countries.iter().find(|country| country.is_main_country_for_code()).or(countries.first())?;
        let may_have_prefix = main.national_prefix().is_some_and(|prefix| national.starts_with(prefix));
        let complete = !may_have_prefix || is_whole(main, national);
        Some((code, if complete { national } else { without_prefix(main, national) }))
    });
    // A calling code that the metadata does not know is still a number.
    let (code, national) = known.unwrap_or(("", digits));
    bounded(code, national)
}

fn bounded(code: &str, national: &str) -> Option<String> {
    let length = code.len() + national.len();
    (MIN_DIGITS..=MAX_DIGITS).contains(&length).then(|| format!("+{code}{national}"))
}

/// Whether these digits are a whole national number; the crate's own test accepts what only begins like one.
fn is_whole(metadata: &Metadata, national: &str) -> bool {
    let pattern = metadata.descriptors().general().national_number();
    pattern.find(national).is_some_and(|found| found.start() == 0 && found.end() == national.len())
}

/// The national number of one sent with its calling code but without `+`, such as `79101234567` in Russia.
fn without_code<'a>(metadata: &Metadata, digits: &'a str, code: &str) -> Option<&'a str> {
    let national = without_prefix(metadata, digits.strip_prefix(code)?);
    (!is_whole(metadata, digits) && is_whole(metadata, national)).then_some(national)
}

/// The number without the trunk prefix (`0` in Germany, `8` in Russia; Italy has none, and keeps its zeros).
fn without_prefix<'a>(metadata: &Metadata, digits: &'a str) -> &'a str {
    let Some(national) = metadata.national_prefix().and_then(|prefix| digits.strip_prefix(prefix)) else {
        return digits;
    };
    let prefix_belongs = is_whole(metadata, digits) && !is_whole(metadata, national);
    if prefix_belongs || national.is_empty() { digits } else { national }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn e164(country: &str, number: &str) -> Option<String> {
        Numbers::default().e164(Some(country).filter(|country| !country.is_empty()), number)
    }

    #[test]
    fn national_numbers() {
        assert_eq!(e164("DE", "022129191999").as_deref(), Some("+4922129191999"));
        assert_eq!(e164("DE", "0222222222").as_deref(), Some("+49222222222"));
        assert_eq!(e164("DE", "0301111111").as_deref(), Some("+49301111111"));
        assert_eq!(e164("IT", "0212345678").as_deref(), Some("+390212345678"));
        assert_eq!(e164("IT", "3331234567").as_deref(), Some("+393331234567"));
        assert_eq!(e164("RU", "79101234567").as_deref(), Some("+79101234567"));
        assert_eq!(e164("RU", "89101234567").as_deref(), Some("+79101234567"));
        assert_eq!(e164("RU", "8005553535").as_deref(), Some("+78005553535"));
        assert_eq!(e164("de", "0221 / 2919-1999").as_deref(), Some("+4922129191999"));
    }

    #[test]
    fn international_numbers_need_no_country() {
        assert_eq!(e164("", "+7 (910) 123-45-67").as_deref(), Some("+79101234567"));
        assert_eq!(e164("", "+390212345678").as_deref(), Some("+390212345678"));
        assert_eq!(e164("", "+49 (0)221 29191999").as_deref(), Some("+4922129191999"));
        assert_eq!(e164("DE", "00390212345678").as_deref(), Some("+390212345678"));
        assert_eq!(e164("", "+12015550123").as_deref(), Some("+12015550123"));
    }

    #[test]
    fn what_is_no_number() {
        for number in ["anonymous", "", "23", "12345", "7777aaaaaaa@fpbx.de", "*43", "+", "+0491234567", "-1"] {
            assert_eq!(e164("DE", number), None, "{number}");
        }
        assert_eq!(e164("", "0301111111"), None);
        assert_eq!(e164("DE", &"9".repeat(40)), None);
    }
}
