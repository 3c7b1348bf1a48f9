//! Telephone numbers as sent, to E.164: by the metadata of the `phonenumber` crate (calling codes, prefixes, lengths),
//! more tolerant than its parser, which refuses what is plausible but not assigned.

use std::borrow::Cow;
use std::collections::HashMap;
use std::sync::{Arc, OnceLock};

use ahash::RandomState;
use compact_str::CompactString;
use parking_lot::RwLock;
use phonenumber::Metadata;
use phonenumber::metadata::DATABASE;
use regex::{Regex, RegexBuilder};

/// Numbers up to this many digits are extensions or short numbers.
const SHORT_DIGITS: usize = 5;
/// E.164 allows fifteen digits, calling code included.
const MAX_DIGITS: usize = 15;
/// The shortest with a calling code.
const MIN_DIGITS: usize = 7;
/// Longer texts are no numbers.
const MAX_TEXT: usize = 64;
/// Calling codes have at most three digits.
const CODES: usize = 1000;

/// A country's numbering plan.
#[derive(Debug)]
struct Plan {
    /// The calling code.
    code: String,
    /// The trunk prefix (`0` in Germany, `8` in Russia; Italy has none, and keeps its zeros).
    trunk: Option<String>,
    /// Whole national numbers.
    national: Regex,
    /// What is dialled before a calling code.
    abroad: Option<Regex>,
}

impl Plan {
    /// The crate looks its expressions up by their text in a locked cache at each use, which takes longer than matching.
    fn of(metadata: &Metadata) -> Option<Plan> {
        let compiled = |pattern: &str| RegexBuilder::new(pattern).ignore_whitespace(true).unicode(false).build().ok();
        Some(Plan {
            code: metadata.country_code().to_string(),
            trunk: metadata.national_prefix().map(str::to_owned),
            national: compiled(&format!("^(?:{})$", metadata.descriptors().general().national_number()))?,
            abroad: metadata.international_prefix().and_then(|prefix| compiled(&format!("^(?:{prefix})"))),
        })
    }

    /// The national number of one sent with its calling code but without `+`, such as `79101234567` in Russia.
    fn without_code<'a>(&self, digits: &'a str) -> Option<&'a str> {
        let national = self.without_trunk(digits.strip_prefix(&self.code)?);
        (!self.national.is_match(digits) && self.national.is_match(national)).then_some(national)
    }

    /// The national number of what follows a calling code: Italy's zeros stay, a trunk prefix that was left in goes.
    fn after_code<'a>(&self, digits: &'a str) -> &'a str {
        let has_trunk = self.trunk.as_ref().is_some_and(|trunk| digits.starts_with(trunk));
        if has_trunk && !self.national.is_match(digits) { self.without_trunk(digits) } else { digits }
    }

    fn without_trunk<'a>(&self, digits: &'a str) -> &'a str {
        let Some(national) = self.trunk.as_ref().and_then(|trunk| digits.strip_prefix(trunk)) else { return digits };
        let trunk_belongs = self.national.is_match(digits) && !self.national.is_match(national);
        if trunk_belongs || national.is_empty() { digits } else { national }
    }
}

/// Normalises numbers.
#[derive(Debug)]
pub struct Numbers {
    /// Plans by calling code, those that were asked for.
    by_code: Box<[OnceLock<Option<Plan>>]>,
    /// And by country.
    by_country: RwLock<HashMap<CompactString, Option<Arc<Plan>>, RandomState>>,
}

impl Default for Numbers {
    fn default() -> Numbers {
        Numbers { by_code: (0..CODES).map(|_| OnceLock::new()).collect(), by_country: RwLock::default() }
    }
}

impl Numbers {
    /// The number in E.164, or `None` for what is anonymous, a SIP id, short, or national of an unknown country.
    pub fn e164(&self, country: Option<&str>, number: &str) -> Option<String> {
        if number.len() > MAX_TEXT {
            return None;
        }
        let number = number.strip_prefix("tel:").unwrap_or(number);
        // `+49 (0)30 …`: the trunk prefix is shown, and not dialled from abroad.
        let number = match number.trim_start().starts_with('+') && number.contains("(0)") {
            true => Cow::Owned(number.replace("(0)", "")),
            false => Cow::Borrowed(number),
        };
        let digits = plain(&number)?;
        if let Some(international) = digits.strip_prefix('+') {
            return self.international_number(international);
        }
        if digits.len() <= SHORT_DIGITS {
            return None;
        }
        let plan = self.of_country(country?)?;
        let prefix = plan.abroad.as_ref().and_then(|abroad| abroad.find(&digits));
        let abroad = prefix.map(|prefix| &digits[prefix.end()..]);
        if let Some(international) = abroad.filter(|rest| rest.len() >= MIN_DIGITS && !rest.starts_with('0')) {
            return self.international_number(international);
        }
        let national = plan.without_code(&digits).unwrap_or_else(|| plan.without_trunk(&digits));
        bounded(&plan.code, national)
    }

    fn international_number(&self, digits: &str) -> Option<String> {
        if digits.starts_with('0') {
            return None;
        }
        let known = (1..=3)
            .filter_map(|length| digits.split_at_checked(length))
            .find_map(|(code, national)| Some((code, self.of_code(code.parse().ok()?)?.after_code(national))));
        // A calling code that the metadata does not know is still a number.
        let (code, national) = known.unwrap_or(("", digits));
        bounded(code, national)
    }

    /// The plan of the main country with this calling code.
    fn of_code(&self, code: u16) -> Option<&Plan> {
        let plan = self.by_code.get(usize::from(code))?.get_or_init(|| {
            let countries = DATABASE.by_code(&code)?;
            let main = countries.iter().find(|country| country.is_main_country_for_code()).or(countries.first())?;
            Plan::of(main)
        });
        plan.as_ref()
    }

    fn of_country(&self, country: &str) -> Option<Arc<Plan>> {
        if let Some(known) = self.by_country.read().get(country) {
            return known.clone();
        }
        let plan = DATABASE.by_id(country.to_ascii_uppercase().as_str()).and_then(Plan::of).map(Arc::new);
        self.by_country.write().insert(country.into(), plan.clone());
        plan
    }
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

fn bounded(code: &str, national: &str) -> Option<String> {
    let length = code.len() + national.len();
    (MIN_DIGITS..=MAX_DIGITS).contains(&length).then(|| format!("+{code}{national}"))
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

    /// What follows a calling code must be a whole national number, not only begin like one.
    #[test]
    fn a_calling_code_without_a_plus_is_not_taken_for_a_part_of_the_number() {
        assert_eq!(e164("PL", "48674949277").as_deref(), Some("+48674949277"));
        assert_eq!(e164("CN", "866607833306").as_deref(), Some("+866607833306"));
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
