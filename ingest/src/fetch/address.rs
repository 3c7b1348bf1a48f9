//! Which addresses a link may lead to: public ones, and those of the own network only where that is asked for.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// How far a fetch may reach.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Reach {
    /// Addresses of the public internet only.
    Public,
    /// Those of the own network and of this machine too.
    OwnNetwork,
}

impl Reach {
    /// Whether this address may be connected to.
    pub fn takes(self, address: IpAddr) -> bool {
        is_public(address) || (self == Reach::OwnNetwork && is_own_network(address))
    }
}

/// Where clouds answer their machines' questions about themselves, credentials included, at addresses that look like
/// others of their kind.
const METADATA_V4: [Ipv4Addr; 3] =
    [Ipv4Addr::new(169, 254, 169, 254), Ipv4Addr::new(100, 100, 100, 200), Ipv4Addr::new(168, 63, 129, 16)];
const METADATA_V6: Ipv6Addr = Ipv6Addr::new(0xfd00, 0xec2, 0, 0, 0, 0, 0, 0x254);

/// Blocks that are not the public internet, as network and prefix length (RFC 6890 and what came after it).
const SPECIAL_V4: [(Ipv4Addr, u32); 15] = [
    (Ipv4Addr::new(0, 0, 0, 0), 8),
    (Ipv4Addr::new(10, 0, 0, 0), 8),
    (Ipv4Addr::new(100, 64, 0, 0), 10),
    (Ipv4Addr::new(127, 0, 0, 0), 8),
    (Ipv4Addr::new(169, 254, 0, 0), 16),
    (Ipv4Addr::new(172, 16, 0, 0), 12),
    (Ipv4Addr::new(192, 0, 0, 0), 24),
    (Ipv4Addr::new(192, 0, 2, 0), 24),
    (Ipv4Addr::new(192, 88, 99, 0), 24),
    (Ipv4Addr::new(192, 168, 0, 0), 16),
    (Ipv4Addr::new(198, 18, 0, 0), 15),
    (Ipv4Addr::new(198, 51, 100, 0), 24),
    (Ipv4Addr::new(203, 0, 113, 0), 24),
    (Ipv4Addr::new(224, 0, 0, 0), 4),
    (Ipv4Addr::new(240, 0, 0, 0), 4),
];

/// Of those, the ones that a company's own machines have.
const OWN_V4: [(Ipv4Addr, u32); 5] = [
    (Ipv4Addr::new(10, 0, 0, 0), 8),
    (Ipv4Addr::new(100, 64, 0, 0), 10),
    (Ipv4Addr::new(127, 0, 0, 0), 8),
    (Ipv4Addr::new(172, 16, 0, 0), 12),
    (Ipv4Addr::new(192, 168, 0, 0), 16),
];

/// Blocks inside 2000::/3 that are not the public internet: protocol assignments (Teredo, benchmarking, ORCHID), and two
/// for documentation.
const SPECIAL_V6: [(Ipv6Addr, u32); 3] = [
    (Ipv6Addr::new(0x2001, 0, 0, 0, 0, 0, 0, 0), 23),
    (Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, 0), 32),
    (Ipv6Addr::new(0x3fff, 0, 0, 0, 0, 0, 0, 0), 20),
];

const GLOBAL_UNICAST: (Ipv6Addr, u32) = (Ipv6Addr::new(0x2000, 0, 0, 0, 0, 0, 0, 0), 3);
const UNIQUE_LOCAL: (Ipv6Addr, u32) = (Ipv6Addr::new(0xfc00, 0, 0, 0, 0, 0, 0, 0), 7);
const NAT64: (Ipv6Addr, u32) = (Ipv6Addr::new(0x64, 0xff9b, 0, 0, 0, 0, 0, 0), 96);
const SIX_TO_FOUR: (Ipv6Addr, u32) = (Ipv6Addr::new(0x2002, 0, 0, 0, 0, 0, 0, 0), 16);

/// Whether this is an address of the public internet. An IPv4 address inside an IPv6 one counts as itself.
pub fn is_public(address: IpAddr) -> bool {
    match address {
        IpAddr::V4(address) => !within_any_v4(address, &SPECIAL_V4) && !METADATA_V4.contains(&address),
        IpAddr::V6(address) => match embedded(address) {
            Some(inner) => is_public(IpAddr::V4(inner)),
            None => within_v6(address, GLOBAL_UNICAST) && !SPECIAL_V6.iter().any(|block| within_v6(address, *block)),
        },
    }
}

/// Whether this is an address of this machine or of a private network, and none that a cloud answers at.
fn is_own_network(address: IpAddr) -> bool {
    match address {
        IpAddr::V4(address) => within_any_v4(address, &OWN_V4) && !METADATA_V4.contains(&address),
        IpAddr::V6(address) => match address.to_ipv4_mapped() {
            Some(inner) => is_own_network(IpAddr::V4(inner)),
            None => address.is_loopback() || (within_v6(address, UNIQUE_LOCAL) && address != METADATA_V6),
        },
    }
}

/// The IPv4 address that packets to this one end up at: mapped, by NAT64 or by 6to4. The deprecated compatible form
/// (`::a.b.c.d`) is no address of the public internet at all.
fn embedded(address: Ipv6Addr) -> Option<Ipv4Addr> {
    let segments = address.segments();
    let pair = |high: u16, low: u16| Ipv4Addr::from((u32::from(high) << 16) | u32::from(low));
    if within_v6(address, NAT64) {
        Some(pair(segments[6], segments[7]))
    } else if within_v6(address, SIX_TO_FOUR) {
        Some(pair(segments[1], segments[2]))
    } else {
        address.to_ipv4_mapped()
    }
}

fn within_any_v4(address: Ipv4Addr, blocks: &[(Ipv4Addr, u32)]) -> bool {
    let differs = |network: Ipv4Addr| u32::from(address) ^ u32::from(network);
    blocks.iter().any(|(network, length)| differs(*network).leading_zeros() >= *length)
}

fn within_v6(address: Ipv6Addr, (network, length): (Ipv6Addr, u32)) -> bool {
    (u128::from(address) ^ u128::from(network)).leading_zeros() >= length
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What is taken: `public` by everybody, `own` only by those who ask for their own network, `never` by nobody.
    const TABLE: &[(&str, &str)] = &[
        ("1.1.1.1", "public"),
        ("8.8.8.8", "public"),
        ("9.255.255.255", "public"),
        ("11.0.0.0", "public"),
        ("100.63.255.255", "public"),
        ("100.128.0.0", "public"),
        ("126.255.255.255", "public"),
        ("128.0.0.0", "public"),
        ("169.253.255.255", "public"),
        ("169.255.0.0", "public"),
        ("172.15.255.255", "public"),
        ("172.32.0.0", "public"),
        ("192.0.1.1", "public"),
        ("192.167.255.255", "public"),
        ("192.169.0.0", "public"),
        ("198.17.255.255", "public"),
        ("198.20.0.0", "public"),
        ("223.255.255.255", "public"),
        ("2001:4860:4860::8888", "public"),
        ("2001:200::1", "public"),
        ("2606:4700::1111", "public"),
        ("2a00:1450:4001:80b::200e", "public"),
        ("3ffe::1", "public"),
        ("::ffff:8.8.8.8", "public"),
        ("64:ff9b::8.8.8.8", "public"),
        ("2002:808:808::1", "public"),
        ("10.0.0.0", "own"),
        ("10.255.255.255", "own"),
        ("100.64.0.0", "own"),
        ("100.127.255.255", "own"),
        ("127.0.0.1", "own"),
        ("127.255.255.254", "own"),
        ("172.16.0.1", "own"),
        ("172.31.255.255", "own"),
        ("192.168.0.1", "own"),
        ("192.168.255.255", "own"),
        ("::1", "own"),
        ("fc00::1", "own"),
        ("fd12:3456:789a::1", "own"),
        ("::ffff:127.0.0.1", "own"),
        ("::ffff:192.168.1.1", "own"),
        ("::ffff:10.0.0.1", "own"),
        ("0.0.0.0", "never"),
        ("0.1.2.3", "never"),
        ("169.254.0.1", "never"),
        ("169.254.169.254", "never"),
        ("100.100.100.200", "never"),
        ("168.63.129.16", "never"),
        ("192.0.0.1", "never"),
        ("192.0.0.192", "never"),
        ("192.0.2.1", "never"),
        ("192.88.99.1", "never"),
        ("198.18.0.1", "never"),
        ("198.19.255.255", "never"),
        ("198.51.100.7", "never"),
        ("203.0.113.7", "never"),
        ("224.0.0.1", "never"),
        ("239.255.255.255", "never"),
        ("240.0.0.1", "never"),
        ("255.255.255.255", "never"),
        ("::", "never"),
        ("::127.0.0.1", "never"),
        ("::10.0.0.1", "never"),
        ("::8.8.8.8", "never"),
        ("::ffff:0.0.0.0", "never"),
        ("::ffff:169.254.169.254", "never"),
        ("::ffff:224.0.0.1", "never"),
        ("64:ff9b::127.0.0.1", "never"),
        ("64:ff9b::10.1.2.3", "never"),
        ("64:ff9b::169.254.169.254", "never"),
        ("64:ff9b:1::8.8.8.8", "never"),
        ("2002:7f00:1::", "never"),
        ("2002:a00:1::1", "never"),
        ("2002:a9fe:a9fe::1", "never"),
        ("2001::1", "never"),
        ("2001:2::1", "never"),
        ("2001:db8::1", "never"),
        ("3fff::1", "never"),
        ("100::1", "never"),
        ("fe80::1", "never"),
        ("fec0::1", "never"),
        ("ff02::1", "never"),
        ("fd00:ec2::254", "never"),
    ];

    #[test]
    fn every_kind_of_address() {
        for (text, taken) in TABLE {
            let address: IpAddr = text.parse().expect(text);
            assert_eq!(Reach::Public.takes(address), *taken == "public", "{text} without `!private`");
            assert_eq!(Reach::OwnNetwork.takes(address), *taken != "never", "{text} with `!private`");
        }
    }
}
