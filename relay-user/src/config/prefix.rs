//! Questions about prefixes: which may not be routed, and which two claim the same address.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use ipnet::{IpNet, Ipv4Net, Ipv6Net};

const fn v4(a: u8, b: u8, c: u8, d: u8, length: u8) -> IpNet {
    IpNet::V4(Ipv4Net::new_assert(Ipv4Addr::new(a, b, c, d), length))
}

const fn v6(first: u16, length: u8) -> IpNet {
    IpNet::V6(Ipv6Net::new_assert(Ipv6Addr::new(first, 0, 0, 0, 0, 0, 0, 0), length))
}

/// What a router must not forward to, and why (RFC 1812 5.3.7, RFC 6890, RFC 4291 2.4). The kernel drops these as
/// martians, or, from tunnel to tunnel, forgets to.
const RESERVED: [(IpNet, &str); 9] = [
    (v4(0, 0, 0, 0, 8), "\"this network\""),
    (v4(127, 0, 0, 0, 8), "loopback"),
    (v4(169, 254, 0, 0, 16), "link-local"),
    (v4(224, 0, 0, 0, 4), "multicast"),
    (v4(240, 0, 0, 0, 4), "reserved class E"),
    // ::/96 holds the unspecified address, loopback and the deprecated IPv4-compatible addresses.
    (IpNet::V6(Ipv6Net::new_assert(Ipv6Addr::UNSPECIFIED, 96)), "unspecified and loopback"),
    (IpNet::V6(Ipv6Net::new_assert(Ipv6Addr::new(0, 0, 0, 0, 0, 0xffff, 0, 0), 96)), "IPv4-mapped"),
    (v6(0xfe80, 10), "link-local"),
    (v6(0xff00, 8), "multicast"),
];

/// The reserved range that `prefix` touches, and what that range is.
#[must_use]
pub fn reserved(prefix: IpNet) -> Option<(IpNet, &'static str)> {
    RESERVED.into_iter().find(|(range, _)| overlap(*range, prefix))
}

/// A prefix, host bits included, or an address, which is one of its own; `None` for other text.
pub(super) fn parse(text: &str) -> Option<IpNet> {
    // Most are addresses.
    text.parse::<IpAddr>().map(IpNet::from).ok().or_else(|| text.parse().ok())
}

/// As [`parse`].
///
/// # Errors
/// It is an address with the length of its network.
pub(super) fn read(text: &str) -> Option<Result<IpNet, String>> {
    let prefix = parse(text)?;
    Some(if prefix == prefix.trunc() {
        Ok(prefix)
    } else {
        Err(format!("{prefix} has host bits set; the network is {}", prefix.trunc()))
    })
}

/// Whether two prefixes have an address in common.
#[must_use]
pub fn overlap(a: IpNet, b: IpNet) -> bool {
    a.contains(&b.network()) || b.contains(&a.network())
}

/// Whether an address of `subnet` is no host's: the network and broadcast address of IPv4, the subnet-router anycast
/// address of IPv6. Subnets of two addresses or one have none such (RFC 3021, RFC 6164).
#[must_use]
pub fn is_reserved_in(subnet: IpNet, address: IpAddr) -> Option<&'static str> {
    if subnet.max_prefix_len() - subnet.prefix_len() < 2 {
        return None;
    }
    match subnet {
        _ if address == subnet.network() && subnet.addr().is_ipv4() => Some("the network address"),
        _ if address == subnet.network() => Some("the subnet-router anycast address"),
        IpNet::V4(_) if address == subnet.broadcast() => Some("the broadcast address"),
        _ => None,
    }
}

/// Pairs of claims with an address in common, as indices; each claim appears at most once as the second of a pair.
///
/// Prefixes either nest or are apart, so in sorted order a claim overlaps an earlier one exactly if it lies in the
/// innermost one still open: ten thousand peers cost a sort, not fifty million comparisons.
#[must_use]
pub fn clashes(claims: &[IpNet]) -> Vec<(usize, usize)> {
    let mut order: Vec<usize> = (0..claims.len()).collect();
    order.sort_by_cached_key(|&index| (claims[index].trunc(), index));
    let mut open: Vec<usize> = Vec::new();
    let mut pairs = Vec::new();
    for index in order {
        while open.last().is_some_and(|&outer| !claims[outer].contains(&claims[index].network())) {
            open.pop();
        }
        if let Some(&outer) = open.last() {
            pairs.push((outer, index));
        }
        open.push(index);
    }
    pairs
}

#[cfg(test)]
mod tests {
    use super::*;

    fn net(text: &str) -> IpNet {
        text.parse().unwrap_or_else(|_| panic!("{text}"))
    }

    #[test]
    fn reserved_ranges() {
        for (prefix, why) in [
            ("0.0.0.0/0", Some("\"this network\"")),
            ("0.0.0.0/1", Some("\"this network\"")),
            ("128.0.0.0/1", Some("link-local")),
            ("127.0.0.1/32", Some("loopback")),
            ("169.254.0.0/16", Some("link-local")),
            ("239.1.0.0/16", Some("multicast")),
            ("255.255.255.255/32", Some("reserved class E")),
            ("192.168.40.0/24", None),
            ("10.0.0.0/8", None),
            ("100.64.0.0/10", None),
            ("::/0", Some("unspecified and loopback")),
            ("::1/128", Some("unspecified and loopback")),
            ("::ffff:10.0.0.0/104", Some("IPv4-mapped")),
            ("fe80::/64", Some("link-local")),
            ("ff02::/16", Some("multicast")),
            ("fd52:1a9::/64", None),
            ("2001:db8::/32", None),
        ] {
            assert_eq!(reserved(net(prefix)).map(|(_, why)| why), why, "{prefix}");
        }
    }

    #[test]
    fn addresses_that_are_no_hosts() {
        for (subnet, address, reserved) in [
            ("10.9.0.1/24", "10.9.0.0", true),
            ("10.9.0.1/24", "10.9.0.255", true),
            ("10.9.0.1/24", "10.9.0.254", false),
            ("10.9.0.0/31", "10.9.0.0", false),
            ("fd52::1/64", "fd52::", true),
            ("fd52::1/64", "fd52::ffff:ffff:ffff:ffff", false),
            ("fd52::/127", "fd52::", false),
        ] {
            let address = address.parse().expect("address");
            assert_eq!(is_reserved_in(net(subnet), address).is_some(), reserved, "{address} in {subnet}");
        }
    }

    #[test]
    fn clashes_name_the_innermost() {
        let claims =
            ["10.9.0.2/32", "192.168.0.0/16", "10.9.0.3/32", "192.168.40.0/24", "10.9.0.2/32", "fd52::2/128"];
        assert_eq!(clashes(&claims.map(net)), [(0, 4), (1, 3)]);
    }
}
