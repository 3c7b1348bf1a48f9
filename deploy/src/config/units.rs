//! Sizes, spans of time and other small values as they are written in the configuration; a wrong one names its line.

use std::fmt;
use std::net::{SocketAddr, ToSocketAddrs};
use std::time::Duration;

use serde::Deserialize;
use serde::de::{self, Deserializer, Visitor};

/// A number of bytes: `1048576`, `"1 MiB"`, `"500 MB"`.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Size(pub u64);

/// A span of time: `"4h"`, `"1h 30m"`, `"200ms"`, or a number of seconds.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Span(pub Duration);

/// Where to listen: `127.0.0.1:8080`, `localhost:8080`, `:8080` (loopback), or `off`.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Listen(pub Option<SocketAddr>);

/// A text, a number, or `true` or `false`, as a library takes its settings.
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(untagged)]
pub enum Scalar {
    Truth(bool),
    Number(i64),
    Text(String),
}

/// An IANA time zone.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Zone(pub chrono_tz::Tz);

/// A country by its two letters.
#[derive(Clone, Debug, PartialEq)]
pub struct Country(pub String);

/// An absolute `http` or `https` URL without a slash at the end; `None` for an empty text.
#[derive(Clone, Debug, PartialEq)]
pub struct BaseUrl(pub Option<String>);

impl fmt::Display for Scalar {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Scalar::Truth(truth) => truth.fmt(formatter),
            Scalar::Number(number) => number.fmt(formatter),
            Scalar::Text(text) => text.fmt(formatter),
        }
    }
}

impl Size {
    pub fn parse(text: &str) -> Result<Size, String> {
        let (number, unit) = split_unit(text);
        let factor: u64 = match unit {
            "" | "B" => 1,
            "kB" | "KB" => 1_000,
            "MB" => 1_000_000,
            "GB" => 1_000_000_000,
            "TB" => 1_000_000_000_000,
            "KiB" => 1 << 10,
            "MiB" => 1 << 20,
            "GiB" => 1 << 30,
            "TiB" => 1 << 40,
            _ => return Err(format!("`{text}` is no size; write for example \"64 MiB\"")),
        };
        let number = number.parse::<u64>().ok().and_then(|number| number.checked_mul(factor));
        number.map(Size).ok_or_else(|| format!("`{text}` is no size; write for example \"64 MiB\""))
    }
}

impl Span {
    pub fn parse(text: &str) -> Result<Span, String> {
        let wrong = || format!("`{text}` is no span of time; write for example \"4h\", \"1h 30m\" or \"200ms\"");
        let mut rest = text.trim();
        let mut total = Duration::ZERO;
        if rest.is_empty() {
            return Err(wrong());
        }
        while !rest.is_empty() {
            let digits = rest.find(|letter: char| !letter.is_ascii_digit()).unwrap_or(rest.len());
            let number: u64 = rest[..digits].parse().map_err(|_| wrong())?;
            rest = rest[digits..].trim_start();
            let letters = rest.find(|letter: char| !letter.is_ascii_alphabetic()).unwrap_or(rest.len());
            let milliseconds: u64 = match &rest[..letters] {
                "ms" => 1,
                "" | "s" => 1_000,
                "m" | "min" => 60_000,
                "h" => 3_600_000,
                "d" => 86_400_000,
                "w" => 7 * 86_400_000,
                _ => return Err(wrong()),
            };
            let part = number.checked_mul(milliseconds).filter(|part| *part < 1 << 53).ok_or_else(wrong)?;
            total = total.saturating_add(Duration::from_millis(part));
            rest = rest[letters..].trim_start();
        }
        Ok(Span(total))
    }

    /// In microseconds, as times are kept.
    pub fn micros(self) -> i64 {
        i64::try_from(self.0.as_micros()).unwrap_or(i64::MAX)
    }
}

impl Listen {
    pub fn parse(text: &str) -> Result<Listen, String> {
        let text = text.trim();
        if text.eq_ignore_ascii_case("off") {
            return Ok(Listen(None));
        }
        let address = if text.starts_with(':') { format!("127.0.0.1{text}") } else { text.to_owned() };
        let wrong = || format!("`{text}` is no address to listen on; write for example \"127.0.0.1:8080\" or \"off\"");
        let found = address.to_socket_addrs().map_err(|_| wrong())?.next();
        found.map(|address| Listen(Some(address))).ok_or_else(wrong)
    }
}

impl BaseUrl {
    pub fn parse(text: &str) -> Result<BaseUrl, String> {
        let text = text.trim();
        if text.is_empty() {
            return Ok(BaseUrl(None));
        }
        let wrong =
            || format!("`public_url`: `{text}` is no base of URLs; write for example \"https://calls.acme.example\"");
        let url = url::Url::parse(text).map_err(|_| wrong())?;
        let bare = url.query().is_none() && url.fragment().is_none();
        let anonymous = url.username().is_empty() && url.password().is_none();
        if !(matches!(url.scheme(), "http" | "https") && url.has_host() && bare && anonymous) {
            return Err(wrong());
        }
        Ok(BaseUrl(Some(url.as_str().trim_end_matches('/').to_owned())))
    }
}

fn split_unit(text: &str) -> (&str, &str) {
    let text = text.trim();
    let end = text.find(|letter: char| !letter.is_ascii_digit()).unwrap_or(text.len());
    (&text[..end], text[end..].trim())
}

/// Takes a string or an unsigned integer.
struct StringOrNumber;

impl Visitor<'_> for StringOrNumber {
    type Value = String;

    fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("a string or a whole number")
    }

    fn visit_str<E: de::Error>(self, text: &str) -> Result<String, E> {
        Ok(text.to_owned())
    }

    fn visit_i64<E: de::Error>(self, number: i64) -> Result<String, E> {
        u64::try_from(number).map(|number| number.to_string()).map_err(|_| E::custom("must not be negative"))
    }

    fn visit_u64<E: de::Error>(self, number: u64) -> Result<String, E> {
        Ok(number.to_string())
    }
}

impl<'de> Deserialize<'de> for Size {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Size, D::Error> {
        Size::parse(&deserializer.deserialize_any(StringOrNumber)?).map_err(de::Error::custom)
    }
}

impl<'de> Deserialize<'de> for Span {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Span, D::Error> {
        Span::parse(&deserializer.deserialize_any(StringOrNumber)?).map_err(de::Error::custom)
    }
}

impl<'de> Deserialize<'de> for Listen {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Listen, D::Error> {
        Listen::parse(&String::deserialize(deserializer)?).map_err(de::Error::custom)
    }
}

impl<'de> Deserialize<'de> for BaseUrl {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<BaseUrl, D::Error> {
        BaseUrl::parse(&String::deserialize(deserializer)?).map_err(de::Error::custom)
    }
}

impl<'de> Deserialize<'de> for Zone {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Zone, D::Error> {
        let name = String::deserialize(deserializer)?;
        name.parse().map(Zone).map_err(|_| de::Error::custom(format!("`{name}` is no IANA time zone")))
    }
}

impl<'de> Deserialize<'de> for Country {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Country, D::Error> {
        let code = String::deserialize(deserializer)?.to_ascii_uppercase();
        if super::countries::is_known(&code) {
            return Ok(Country(code));
        }
        Err(de::Error::custom(format!("`country`: `{code}` is no country; write its two letters, for example \"DE\"")))
    }
}

impl fmt::Display for Size {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let units = [(40, "TiB"), (30, "GiB"), (20, "MiB"), (10, "KiB")];
        match units.into_iter().find(|(shift, _)| self.0 != 0 && self.0.is_multiple_of(1 << shift)) {
            Some((shift, unit)) => write!(formatter, "{} {unit}", self.0 >> shift),
            None => write!(formatter, "{}", self.0),
        }
    }
}

impl fmt::Display for Span {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let milliseconds = self.0.as_millis();
        let units = [(86_400_000, "d"), (3_600_000, "h"), (60_000, "m"), (1_000, "s")];
        match units.into_iter().find(|(unit, _)| milliseconds != 0 && milliseconds.is_multiple_of(*unit)) {
            Some((unit, name)) => write!(formatter, "{}{name}", milliseconds / unit),
            None => write!(formatter, "{milliseconds}ms"),
        }
    }
}

impl fmt::Display for Listen {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            Some(address) => address.fmt(formatter),
            None => formatter.write_str("off"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_are_read_as_people_write_them() {
        assert_eq!(Size::parse("64 MiB"), Ok(Size(64 << 20)));
        assert_eq!(Size::parse("17"), Ok(Size(17)));
        assert!(Size::parse("many").is_err() && Size::parse("99999999999999 TiB").is_err());
        assert_eq!(Span::parse("1h 30m"), Ok(Span(Duration::from_secs(5400))));
        assert_eq!(Span::parse("200ms"), Ok(Span(Duration::from_millis(200))));
        assert_eq!(Span::parse("60"), Ok(Span(Duration::from_secs(60))));
        assert!(Span::parse("4 parsecs").is_err() && Span::parse("").is_err());
        assert_eq!(Listen::parse("off"), Ok(Listen(None)));
        assert_eq!(Listen::parse(":81").map(|listen| listen.to_string()), Ok("127.0.0.1:81".to_owned()));
        assert!(Listen::parse("nonsense").is_err());
        let base = |text: &str| BaseUrl::parse(text).ok().and_then(|base| base.0);
        assert_eq!(base("https://Calls.acme.example/").as_deref(), Some("https://calls.acme.example"));
        assert_eq!(base("http://[::1]:8080/trunklog/").as_deref(), Some("http://[::1]:8080/trunklog"));
        assert_eq!(BaseUrl::parse(""), Ok(BaseUrl(None)));
        for wrong in ["calls.acme.example", "/calls", "ftp://host", "http://u:p@host", "http://host/?a=b", "http://"] {
            assert!(BaseUrl::parse(wrong).is_err(), "{wrong}");
        }
        assert_eq!(Size(1 << 20).to_string(), "1 MiB");
        assert_eq!(Span(Duration::from_secs(7200)).to_string(), "2h");
    }
}
