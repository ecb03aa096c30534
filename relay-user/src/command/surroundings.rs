//! What a command asks the host before it decides: its networks, its way to the internet.

use std::net::IpAddr;

use crate::{
    address::is_public,
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

#[cfg(test)]
mod tests {
    use super::*;

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
