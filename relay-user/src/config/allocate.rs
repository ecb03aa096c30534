//! The next free addresses for a new peer: one in each of the interface's subnets.

use std::{
    collections::BTreeSet,
    net::{IpAddr, Ipv4Addr, Ipv6Addr},
};

use ipnet::IpNet;

use super::prefix::is_reserved_in;

/// A subnet has no address left.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "no free address is left in the interface's subnet {0}; give the interface a larger one, or remove a peer"
)]
pub struct SubnetFull(pub IpNet);

/// One free address of each subnet in `hub`, IPv4 first; `taken` are those of the peers, disabled ones too.
///
/// IPv6 gets the host number that IPv4 got (10.9.0.7 and fd52:1a9::7) where it is free: people remember one number.
///
/// # Errors
/// A subnet is full.
pub fn next_addresses(hub: &BTreeSet<IpNet>, taken: &BTreeSet<IpAddr>) -> Result<Vec<IpAddr>, SubnetFull> {
    let mut addresses = Vec::with_capacity(hub.len());
    let mut number = None;
    for &subnet in hub {
        let free = |address: &IpAddr| {
            subnet.contains(address)
                && *address != subnet.addr()
                && !taken.contains(address)
                && is_reserved_in(subnet, *address).is_none()
        };
        let first = to_number(subnet.network());
        let mirrored = number.and_then(|number| from_number(subnet, first.checked_add(number)?));
        let address = match mirrored.filter(&free) {
            Some(address) => address,
            None => lowest(subnet, first, free, taken.len()).ok_or(SubnetFull(subnet.trunc()))?,
        };
        number.get_or_insert(to_number(address) - first);
        addresses.push(address);
    }
    Ok(addresses)
}

/// The lowest free one. Besides what is taken, at most three addresses of a subnet are no peer's: the hub's, the
/// first and the last.
fn lowest(subnet: IpNet, first: u128, free: impl Fn(&IpAddr) -> bool, taken: usize) -> Option<IpAddr> {
    (0..taken as u128 + 4).map_while(|number| from_number(subnet, first.checked_add(number)?)).find(free)
}

fn to_number(address: IpAddr) -> u128 {
    match address {
        IpAddr::V4(address) => u32::from(address).into(),
        IpAddr::V6(address) => address.into(),
    }
}

/// The address of that number in the family of `subnet`.
fn from_number(subnet: IpNet, number: u128) -> Option<IpAddr> {
    match subnet {
        IpNet::V4(_) => u32::try_from(number).ok().map(|number| Ipv4Addr::from(number).into()),
        IpNet::V6(_) => Some(Ipv6Addr::from(number).into()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The hub's addresses, those taken, and what comes next or which subnet is full.
    type Row<'a> = (&'a [&'a str], &'a [&'a str], Result<&'a [&'a str], &'a str>);

    #[test]
    fn table() {
        let many: Vec<String> = (2..=254).map(|number| format!("10.9.0.{number}")).collect();
        let many: Vec<&str> = many.iter().map(String::as_str).collect();
        let rows: &[Row<'_>] = &[
            (&["10.9.0.1/24"], &[], Ok(&["10.9.0.2"])),
            (&["10.9.0.254/24"], &[], Ok(&["10.9.0.1"])),
            (&["10.9.0.1/24"], &["10.9.0.2", "10.9.0.4"], Ok(&["10.9.0.3"])),
            (&["10.9.0.1/24", "fd52:1a9::1/64"], &[], Ok(&["10.9.0.2", "fd52:1a9::2"])),
            (&["10.9.0.1/24", "fd52:1a9::1/64"], &["10.9.0.2"], Ok(&["10.9.0.3", "fd52:1a9::3"])),
            (&["10.9.0.1/24", "fd52:1a9::1/64"], &["fd52:1a9::2"], Ok(&["10.9.0.2", "fd52:1a9::3"])),
            (&["10.9.0.1/24", "fd52:1a9::2/64"], &[], Ok(&["10.9.0.2", "fd52:1a9::1"])),
            (&["fd52:1a9::1/64"], &["fd52:1a9::2"], Ok(&["fd52:1a9::3"])),
            (&["10.9.0.1/24", "10.10.0.1/24"], &["10.9.0.2"], Ok(&["10.9.0.3", "10.10.0.3"])),
            (&["10.9.0.1/24"], &many, Err("10.9.0.0/24")),
            (&["10.9.0.1/24"], &many[1..], Ok(&["10.9.0.2"])),
            (&["10.9.0.1/30"], &["10.9.0.2"], Err("10.9.0.0/30")),
            (&["10.9.0.0/31"], &[], Ok(&["10.9.0.1"])),
            (&["10.9.0.1/32"], &[], Err("10.9.0.1/32")),
            (&["fd52::1/127"], &[], Ok(&["fd52::"])),
            (&["fd52::1/128"], &[], Err("fd52::1/128")),
            (&["10.0.0.1/8"], &["10.0.0.2"], Ok(&["10.0.0.3"])),
        ];
        for (hub, taken, expected) in rows {
            let hub_set = hub.iter().map(|net| net.parse().expect("net")).collect();
            let taken = taken.iter().map(|address| address.parse().expect("address")).collect();
            let expected = expected
                .map(|list| {
                    list.iter().map(|address| address.parse().expect("address")).collect::<Vec<IpAddr>>()
                })
                .map_err(|subnet| SubnetFull(subnet.parse().expect("net")));
            assert_eq!(next_addresses(&hub_set, &taken), expected, "{hub:?}");
        }
    }
}
