//! What a command asks the host before it decides: its networks, its way to the internet.

use std::net::IpAddr;

use crate::{
    config::HostNetwork,
    desired::InterfaceName,
    kernel::netlink::{Netlink, Uplink},
    observed::Link,
};
use anyhow::Result;

/// The networks that this host stands in. Those of the tunnel are among them, by its name.
pub(super) async fn networks() -> Result<Vec<HostNetwork>> {
    const NO_INTERFACE: u32 = 0;
    Ok(Netlink::connect()?.host_networks(NO_INTERFACE).await?)
}

/// Where the default route leaves.
pub(super) async fn uplink() -> Result<Option<Uplink>> {
    Ok(Netlink::connect()?.uplink().await?)
}

/// The interface of that name.
pub(super) async fn link(name: &InterfaceName) -> Result<Option<Link>> {
    Ok(Netlink::connect()?.link(name).await?)
}

/// Whether this host does IPv6 at all.
pub(super) fn has_ipv6() -> bool {
    std::fs::read_to_string("/proc/sys/net/ipv6/conf/all/disable_ipv6").is_ok_and(|text| text.trim() == "0")
}

/// The address of the uplink that machines anywhere can dial; IPv4 first, which every peer has.
pub(super) fn public_address(uplink: &Uplink) -> Option<IpAddr> {
    let mut public: Vec<IpAddr> = uplink.addresses.iter().copied().filter(is_public).collect();
    public.sort_by_key(IpAddr::is_ipv6);
    public.first().copied()
}

/// Not private, shared with a carrier's other customers (RFC 6598), or good for one link or machine only. The ranges
/// for documentation count as public: laboratories use them as such.
fn is_public(address: &IpAddr) -> bool {
    match address {
        IpAddr::V4(v4) => {
            let [a, b, ..] = v4.octets();
            let carrier = a == 100 && (64..128).contains(&b);
            let benchmark = a == 198 && (18..20).contains(&b);
            !(a == 0
                || a >= 224
                || carrier
                || benchmark
                || v4.is_private()
                || v4.is_loopback()
                || v4.is_link_local())
        }
        // 2000::/3 is all that is given out (RFC 4291 2.4).
        IpAddr::V6(v6) => v6.segments()[0] & 0xe000 == 0x2000,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn which_addresses_are_public() {
        for (address, public) in [
            ("203.0.113.7", true),
            ("8.8.8.8", true),
            ("100.63.0.1", true),
            ("100.64.0.1", false),
            ("10.0.0.1", false),
            ("172.16.0.1", false),
            ("172.32.0.1", true),
            ("192.168.1.1", false),
            ("169.254.1.1", false),
            ("127.0.0.1", false),
            ("198.18.0.1", false),
            ("224.0.0.1", false),
            ("0.0.0.0", false),
            ("2001:db8::1", true),
            ("2a00::1", true),
            ("fd00::1", false),
            ("fe80::1", false),
            ("::1", false),
        ] {
            assert_eq!(is_public(&address.parse().expect("address")), public, "{address}");
        }
    }

    #[test]
    fn ipv4_is_dialled_first() {
        let addresses = ["2001:db8::7", "10.0.0.7", "203.0.113.7"].map(|text| text.parse().expect("address"));
        let mut uplink = Uplink { interface: "eth0".to_owned(), index: 2, addresses: addresses.to_vec() };
        assert_eq!(public_address(&uplink), Some(addresses[2]));
        uplink.addresses.truncate(2);
        assert_eq!(public_address(&uplink), Some(addresses[0]));
        uplink.addresses.remove(0);
        assert_eq!(public_address(&uplink), None);
    }
}
