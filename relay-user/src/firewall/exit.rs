//! The way of full tunnels to the internet: who goes out, and where.

use std::collections::{BTreeMap, BTreeSet};

use ipnet::IpNet;

use super::packet::Version;
use crate::desired::{Desired, Peer};

/// What leaves by an uplink in one family, to come back as if it were the hub's own.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Exit {
    /// The family.
    pub version: Version,
    /// The interface of the default route.
    pub uplink: String,
    /// The addresses of the peers that send everything through the hub, and the LANs behind them. Never empty.
    pub sources: Vec<IpNet>,
}

/// The exits of those peers by the uplink of each family; none in a family without a way to the internet.
#[must_use]
pub fn exits(desired: &Desired, uplinks: &BTreeMap<Version, String>) -> Vec<Exit> {
    let full = desired.peers.values().filter(|peer| peer.full_tunnel);
    let mut sources: Vec<IpNet> = full.flat_map(Peer::allowed_ips).collect();
    sources.sort();
    let of = |version: Version| -> Vec<IpNet> {
        sources.iter().copied().filter(|source| Version::of(source) == version).collect()
    };
    uplinks
        .iter()
        .filter(|(_, uplink)| uplink.as_str() != desired.interface.as_str())
        .map(|(&version, uplink)| Exit { version, uplink: uplink.clone(), sources: of(version) })
        .filter(|exit| !exit.sources.is_empty())
        .collect()
}

/// The same at a home: what comes from the tunnel and leaves by the interfaces of the LANs.
#[must_use]
pub fn of_home(desired: &Desired, lan_interfaces: &BTreeMap<IpNet, String>) -> Vec<Exit> {
    let sources: BTreeSet<IpNet> = desired.peers.values().flat_map(Peer::allowed_ips).collect();
    let ways: BTreeSet<(Version, &String)> =
        lan_interfaces.iter().map(|(lan, interface)| (Version::of(lan), interface)).collect();
    let exit = |(version, interface): (Version, &String)| Exit {
        version,
        uplink: interface.clone(),
        sources: sources.iter().copied().filter(|source| Version::of(source) == version).collect(),
    };
    ways.into_iter().map(exit).filter(|exit| !exit.sources.is_empty()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        desired::{BackendChoice, FastPathMode, Firewall, Hub, Role, Uplink},
        key::{PrivateKey, PublicKey},
    };

    fn peer(name: &str, full_tunnel: bool, addresses: &[&str], lans: &[&str]) -> Peer {
        Peer {
            name: name.parse().expect("a name"),
            preshared_key: None,
            addresses: addresses.iter().map(|text| text.parse().expect("an address")).collect(),
            lans: lans.iter().map(|text| text.parse().expect("a prefix")).collect(),
            endpoint: None,
            keepalive: None,
            mtu: None,
            dns: Vec::new(),
            full_tunnel,
            expires: None,
        }
    }

    fn found(peers: Vec<Peer>, uplinks: &[(Version, &str)]) -> Vec<(String, String)> {
        let desired = Desired {
            interface: "wg0".parse().expect("a name"),
            backend: BackendChoice::Auto,
            mtu: 1420,
            addresses: ["10.9.0.1/24", "fd52:1a9::1/64"].map(|text| text.parse().expect("a prefix")).into(),
            private_key: PrivateKey::new([9; 32]),
            role: Role::Hub(Hub {
                listen_port: 51820,
                endpoint: None,
                fast_path: FastPathMode::Auto,
                uplink: Uplink::default(),
            }),
            firewall: Firewall::default(),
            peers: (1..).map(|number| PublicKey::new([number; 32])).zip(peers).collect(),
        };
        let uplinks = uplinks.iter().map(|&(version, uplink)| (version, uplink.to_owned())).collect();
        let sources =
            |exit: &Exit| exit.sources.iter().map(ToString::to_string).collect::<Vec<_>>().join(" ");
        exits(&desired, &uplinks).iter().map(|exit| (exit.uplink.clone(), sources(exit))).collect()
    }

    #[test]
    fn only_full_tunnels_go_out_and_only_by_the_uplink_of_their_family() {
        let peers = || {
            vec![
                peer("phone", true, &["10.9.0.3", "fd52:1a9::3"], &[]),
                peer("home", false, &["10.9.0.2", "fd52:1a9::2"], &["192.168.40.0/24"]),
                peer("office", true, &["10.9.0.4"], &["192.168.50.0/24"]),
            ]
        };
        let (v4, v6) = ("10.9.0.3/32 10.9.0.4/32 192.168.50.0/24", "fd52:1a9::3/128");
        let pair = |uplink: &str, sources: &str| (uplink.to_owned(), sources.to_owned());
        let both = [(Version::V4, "eth0"), (Version::V6, "eth1")];
        assert_eq!(found(peers(), &both), [pair("eth0", v4), pair("eth1", v6)]);
        assert_eq!(found(peers(), &both[1..]), [pair("eth1", v6)]);
        assert_eq!(found(peers(), &[(Version::V4, "wg0")]), [], "the tunnel is no way out of itself");
        assert_eq!(found(peers().split_off(1), &both), [pair("eth0", "10.9.0.4/32 192.168.50.0/24")]);
        assert_eq!(found(peers().split_off(1)[..1].to_vec(), &both), []);
    }
}
