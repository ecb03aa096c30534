//! The peers of the hub, in its maps as the daemon puts them there: by its own plan, from the kernel's routes.

use std::{collections::BTreeMap, net::IpAddr};

use anyhow::{Context as _, Result};
use ipnet::IpNet;
use relay_user::{
    datapath_plan::{desired_maps, diff},
    desired::{BackendChoice, Desired, FastPathMode, Firewall, Peer},
    kernel::netlink::Netlink,
    key::{PrivateKey, PublicKey},
    maps::{DatapathState, MapChange},
    observed::{Device, DevicePeer, KernelRoute},
};

use crate::hub::MTU;

/// 10.9.0.3 and fd52:1a9::3.
pub(crate) const PHONE: PublicKey = PublicKey::new([1; 32]);
/// 10.9.0.2 and fd52:1a9::2, with 192.168.40.0/24 and fd40::/56 behind it.
pub(crate) const HOME: PublicKey = PublicKey::new([2; 32]);
/// Has 192.168.50.0/24 behind it, and has never been heard of.
const SILENT: PublicKey = PublicKey::new([3; 32]);

/// What brings empty maps to what they shall hold, on a hub with this interface and the routes of the calling thread's
/// namespace.
pub(crate) fn changes(index: u32) -> Result<Vec<MapChange>> {
    let desired = desired()?;
    let maps = desired_maps(&desired, Some(&device(&desired)), index, &routes()?, &BTreeMap::new());
    Ok(diff(&maps, false, &DatapathState::default()))
}

fn routes() -> Result<Vec<KernelRoute>> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(async { Netlink::connect()?.routes().await }).context("read the routes")
}

fn desired() -> Result<Desired> {
    Ok(Desired {
        interface: "wg0".parse()?,
        backend: BackendChoice::Auto,
        listen_port: 51820,
        mtu: MTU.into(),
        addresses: prefixes(&["10.9.0.1/24", "fd52:1a9::1/64"]),
        private_key: PrivateKey::new([1; 32]),
        endpoint: None,
        fast_path: FastPathMode::Auto,
        firewall: Firewall::default(),
        peers: BTreeMap::from([
            (PHONE, peer("phone", &["10.9.0.3", "fd52:1a9::3"], &[])?),
            (HOME, peer("home", &["10.9.0.2", "fd52:1a9::2"], &["192.168.40.0/24", "fd40::/56"])?),
            (SILENT, peer("silent", &["10.9.0.5"], &["192.168.50.0/24"])?),
        ]),
    })
}

fn peer(name: &str, addresses: &[&str], lans: &[&str]) -> Result<Peer> {
    let address = |text: &&str| text.parse::<IpAddr>().expect("an address");
    Ok(Peer {
        name: name.parse()?,
        preshared_key: None,
        addresses: addresses.iter().map(address).collect(),
        lans: prefixes(lans),
        endpoint: None,
        keepalive: None,
        mtu: None,
        dns: Vec::new(),
        full_tunnel: false,
        expires: None,
    })
}

fn prefixes<Prefixes: FromIterator<IpNet>>(texts: &[&str]) -> Prefixes {
    texts.iter().map(|text| text.parse().expect("a prefix")).collect()
}

/// WireGuard as it is when two of the three have been heard of.
fn device(desired: &Desired) -> Device {
    let peer = |key: &PublicKey| {
        let endpoint = (*key != SILENT).then(|| ([203, 0, 113, 9], 51820).into());
        (*key, DevicePeer { endpoint, ..DevicePeer::default() })
    };
    Device {
        public_key: None,
        listen_port: 51820,
        fwmark: 0,
        peers: desired.peers.keys().map(peer).collect(),
    }
}
