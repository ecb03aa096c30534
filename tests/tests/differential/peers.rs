//! The peers of the hub, in its maps as the daemon puts them there: by its own plan, from the kernel's routes.

use std::{collections::BTreeMap, net::IpAddr, sync::LazyLock};

use anyhow::{Context as _, Result};
use ipnet::IpNet;
use relay_user::{
    datapath_plan::{desired_maps, diff},
    desired::{BackendChoice, Desired, FastPathMode, Firewall, Hub, Peer, Role, Uplink},
    kernel::netlink::Netlink,
    key::{PrivateKey, PublicKey},
    maps::{DatapathState, MapChange},
    observed::{Device, DevicePeer, KernelRoute},
};

use crate::hub::MTU;

pub(crate) static HUB_KEY: PrivateKey = PrivateKey::new([9; 32]);
pub(crate) static PHONE_KEY: PrivateKey = PrivateKey::new([1; 32]);
pub(crate) static HOME_KEY: PrivateKey = PrivateKey::new([2; 32]);

/// 10.9.0.3 and fd52:1a9::3.
pub(crate) static PHONE: LazyLock<PublicKey> = LazyLock::new(|| PHONE_KEY.public_key());
/// 10.9.0.2 and fd52:1a9::2, with 192.168.40.0/24 and fd40::/56 behind it.
pub(crate) static HOME: LazyLock<PublicKey> = LazyLock::new(|| HOME_KEY.public_key());
/// Has 192.168.50.0/24 behind it, and has never been heard of.
const SILENT: PublicKey = PublicKey::new([3; 32]);

/// What brings empty maps to what they shall hold, on a hub with this interface and the routes of the calling thread's
/// namespace.
pub(crate) fn changes(index: u32, device: &Device) -> Result<Vec<MapChange>> {
    let maps = desired_maps(&(&desired()?).into(), Some(device), index, &routes()?, &BTreeMap::new());
    Ok(diff(&maps, false, &DatapathState::default()))
}

fn routes() -> Result<Vec<KernelRoute>> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(async { Netlink::connect()?.routes().await }).context("read the routes")
}

/// The hub and its peers, as relay.toml would have them.
pub(crate) fn desired() -> Result<Desired> {
    Ok(Desired {
        interface: "wg0".parse()?,
        backend: BackendChoice::Auto,
        mtu: MTU.into(),
        addresses: prefixes(&["10.9.0.1/24", "fd52:1a9::1/64"]),
        private_key: HUB_KEY.clone(),
        role: Role::Hub(Hub {
            listen_port: 51820,
            endpoint: None,
            fast_path: FastPathMode::Auto,
            uplink: Uplink::default(),
        }),
        firewall: Firewall::default(),
        peers: BTreeMap::from([
            (*PHONE, peer("phone", &["10.9.0.3", "fd52:1a9::3"], &[])?),
            (*HOME, peer("home", &["10.9.0.2", "fd52:1a9::2"], &["192.168.40.0/24", "fd40::/56"])?),
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
pub(crate) fn heard_of() -> Result<Device> {
    let peer = |key: PublicKey| {
        let endpoint = (key != SILENT).then(|| ([203, 0, 113, 9], 51820).into());
        (key, DevicePeer { endpoint, ..DevicePeer::default() })
    };
    Ok(Device {
        public_key: None,
        listen_port: 51820,
        fwmark: 0,
        peers: desired()?.peers.into_keys().map(peer).collect(),
    })
}
