//! Which links may be fetched: the tenant's allow list, and what a link must look like. Nothing is looked up here.
//!
//! An entry is a host, or `*.` and a domain for all hosts below it, then perhaps `:` and a port (without it 80 and
//! 443 are taken), then perhaps `!private`: only for such an entry addresses of the own network are connected to.
//! `pbx.acme.example`, `*.acme.example:8443`, `10.1.2.3!private`, `[fd00::7]:8080!private`.

use std::net::{IpAddr, Ipv6Addr};

use url::{Host, Url};

use super::address::Reach;

/// Ends an entry for a telephone system in the own network.
const OWN_NETWORK_MARK: &str = "!private";
/// Ports of an entry that names none.
const USUAL_PORTS: [u16; 2] = [80, 443];

/// Why a link is not followed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Refused {
    /// No URL at all.
    #[error("not a URL")]
    Invalid,
    /// Neither `http` nor `https`.
    #[error("neither http nor https")]
    Scheme,
    /// A user name or a password in front of the host.
    #[error("credentials in the URL")]
    Credentials,
    /// No entry takes this host and port.
    #[error("host not on the allow list")]
    Host,
    /// The host, or what its name resolves to, is no address that is taken for it.
    #[error("address is private or reserved")]
    Address,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Pattern {
    Exactly(Host<String>),
    Below(String),
}

#[derive(Clone, Debug, PartialEq, Eq)]
struct Entry {
    pattern: Pattern,
    port: Option<u16>,
    reach: Reach,
}

/// A tenant's allow list.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct AllowList {
    entries: Vec<Entry>,
}

impl AllowList {
    /// Reads the configured entries. One that cannot be read allows nothing.
    pub fn new(entries: &[String]) -> AllowList {
        AllowList { entries: entries.iter().filter_map(|entry| parse(entry)).collect() }
    }

    /// The address range in which this link may be followed.
    ///
    /// # Errors
    /// Why it may not.
    pub fn check(&self, url: &Url) -> Result<Reach, Refused> {
        if !matches!(url.scheme(), "http" | "https") {
            return Err(Refused::Scheme);
        }
        if !url.username().is_empty() || url.password().is_some() {
            return Err(Refused::Credentials);
        }
        let host = url.host().ok_or(Refused::Invalid)?;
        let port = url.port_or_known_default().ok_or(Refused::Scheme)?;
        let matching = self.entries.iter().filter(|entry| entry.takes(&host, port));
        let reach = matching.map(|entry| entry.reach).max().ok_or(Refused::Host)?;
        let literal = match host {
            Host::Ipv4(address) => Some(IpAddr::V4(address)),
            Host::Ipv6(address) => Some(IpAddr::V6(address)),
            Host::Domain(_) => None,
        };
        if literal.is_some_and(|address| !reach.takes(address)) { Err(Refused::Address) } else { Ok(reach) }
    }
}

/// Whether this entry of an allow list can be read.
pub fn is_entry(entry: &str) -> bool {
    parse(entry).is_some()
}

/// Reads a link.
///
/// # Errors
/// If it is none.
pub fn parse_link(link: &str) -> Result<Url, Refused> {
    Url::parse(link.trim()).map_err(|_| Refused::Invalid)
}

impl Entry {
    fn takes(&self, host: &Host<&str>, port: u16) -> bool {
        let port_fits = self.port.map_or(USUAL_PORTS.contains(&port), |own| own == port);
        port_fits && self.pattern.takes(host)
    }
}

impl Pattern {
    fn takes(&self, host: &Host<&str>) -> bool {
        match (self, host) {
            (Pattern::Exactly(Host::Domain(own)), Host::Domain(host)) => own == undotted(host),
            (Pattern::Exactly(Host::Ipv4(own)), Host::Ipv4(host)) => own == host,
            (Pattern::Exactly(Host::Ipv6(own)), Host::Ipv6(host)) => own == host,
            (Pattern::Below(domain), Host::Domain(host)) => {
                let below = undotted(host).strip_suffix(domain.as_str()).and_then(|front| front.strip_suffix('.'));
                below.is_some_and(|front| !front.is_empty())
            }
            _ => false,
        }
    }
}

/// The final dot of a complete name changes nothing.
fn undotted(host: &str) -> &str {
    host.strip_suffix('.').unwrap_or(host)
}

fn parse(entry: &str) -> Option<Entry> {
    let entry = entry.trim();
    let (entry, reach) = match entry.strip_suffix(OWN_NETWORK_MARK) {
        Some(rest) => (rest.trim_end(), Reach::OwnNetwork),
        None => (entry, Reach::Public),
    };
    let (host, port) = split_port(entry)?;
    let pattern = match host.strip_prefix("*.") {
        None => Pattern::Exactly(parse_host(host)?),
        Some(domain) => match parse_host(domain)? {
            Host::Domain(domain) => Pattern::Below(domain),
            Host::Ipv4(_) | Host::Ipv6(_) => return None,
        },
    };
    Some(Entry { pattern, port, reach })
}

fn split_port(entry: &str) -> Option<(&str, Option<u16>)> {
    // The colons of a bare IPv6 address are not those of a port.
    if entry.parse::<Ipv6Addr>().is_ok() {
        return Some((entry, None));
    }
    match entry.rsplit_once(':') {
        Some((host, port)) if !port.ends_with(']') => {
            Some((host, Some(port.parse::<u16>().ok().filter(|port| *port > 0)?)))
        }
        _ => Some((entry, None)),
    }
}

/// In the form in which the parser of URLs writes hosts: lower case, Punycode, addresses as such.
fn parse_host(host: &str) -> Option<Host<String>> {
    if let Ok(address) = host.parse::<Ipv6Addr>() {
        return Some(Host::Ipv6(address));
    }
    match Host::parse(undotted(host)).ok()? {
        Host::Domain(domain) if domain.is_empty() || domain.contains('*') => None,
        host => Some(host),
    }
}

#[cfg(test)]
mod tests;
