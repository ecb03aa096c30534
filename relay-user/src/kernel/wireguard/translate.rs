//! Between relay's types and wireguard-control's, which are large, split and full of keys.

use std::collections::BTreeMap;

use ipnet::IpNet;
use wireguard_control as wg;
use zeroize::Zeroize as _;

use super::PeerChange;
use crate::{
    desired::Backend,
    key::{KEY_LEN, PresharedKey, PublicKey},
    observed::{Device, DevicePeer},
};

/// A change in messages of not more than `prefixes` allowed IPs: the first replaces, the others add.
pub(super) fn pieces(change: &PeerChange, prefixes: usize) -> Vec<wg::PeerConfigBuilder> {
    let key = wg::Key(*change.public_key().as_bytes());
    let (preshared_key, endpoint, allowed_ips, keepalive) = match change {
        PeerChange::Set { preshared_key, endpoint, allowed_ips, keepalive, .. } => {
            (preshared_key, endpoint, allowed_ips, keepalive)
        }
        PeerChange::Dial { endpoint, .. } => {
            return vec![wg::PeerConfigBuilder::new(&key).set_endpoint(*endpoint)];
        }
        PeerChange::Remove(_) => return vec![wg::PeerConfigBuilder::new(&key).remove()],
    };
    let mut chunks = allowed_ips.chunks(prefixes);
    let mut first = with_prefixes(wg::PeerConfigBuilder::new(&key), chunks.next().unwrap_or_default())
        .replace_allowed_ips()
        .set_persistent_keepalive_interval(keepalive.unwrap_or(0));
    first = match preshared_key {
        Some(preshared) => first.set_preshared_key(wg::Key(*preshared.expose())),
        None => first.unset_preshared_key(),
    };
    if let Some(endpoint) = endpoint {
        first = first.set_endpoint(*endpoint);
    }
    let others = chunks.map(|chunk| with_prefixes(wg::PeerConfigBuilder::new(&key), chunk));
    std::iter::once(first).chain(others).collect()
}

fn with_prefixes(builder: wg::PeerConfigBuilder, prefixes: &[IpNet]) -> wg::PeerConfigBuilder {
    prefixes
        .iter()
        .fold(builder, |builder, prefix| builder.add_allowed_ip(prefix.network(), prefix.prefix_len()))
}

/// Out of wireguard-control's types; the private key is wiped unread.
pub(super) fn device(mut device: wg::Device) -> Device {
    if let Some(key) = &mut device.private_key {
        key.0.zeroize();
    }
    Device {
        public_key: device.public_key.map(|key| PublicKey::new(key.0)),
        listen_port: device.listen_port.unwrap_or(0),
        fwmark: device.fwmark.unwrap_or(0),
        peers: merge_peers(device.peers),
    }
}

/// One entry per peer, whatever the number of messages it came in.
fn merge_peers(parts: Vec<wg::PeerInfo>) -> BTreeMap<PublicKey, DevicePeer> {
    let mut peers: BTreeMap<PublicKey, DevicePeer> = BTreeMap::new();
    for mut part in parts {
        let peer = peers.entry(PublicKey::new(part.config.public_key.0)).or_default();
        if let Some(key) = &mut part.config.preshared_key {
            // All zero is how "none" is written, in the kernel and in the protocol.
            if key.0 != [0; KEY_LEN] {
                peer.preshared_key = Some(PresharedKey::new(key.0));
            }
            key.0.zeroize();
        }
        peer.endpoint = peer.endpoint.or(part.config.endpoint);
        peer.keepalive =
            peer.keepalive.or(part.config.persistent_keepalive_interval.filter(|&seconds| seconds > 0));
        peer.latest_handshake = peer.latest_handshake.or(part.stats.last_handshake_time);
        peer.received = peer.received.max(part.stats.rx_bytes);
        peer.sent = peer.sent.max(part.stats.tx_bytes);
        let prefixes = part.config.allowed_ips.iter();
        peer.allowed_ips.extend(prefixes.filter_map(|ip| IpNet::new(ip.address, ip.cidr).ok()));
    }
    peers
}

/// Every [`crate::desired::InterfaceName`] is a valid name to wireguard-control, which asks for less.
pub(super) fn name(name: &str) -> wg::InterfaceName {
    name.parse().unwrap_or_else(|_| unreachable!("an interface name of 1 to 15 plain characters"))
}

impl From<Backend> for wg::Backend {
    fn from(backend: Backend) -> Self {
        match backend {
            Backend::Kernel => Self::Kernel,
            Backend::Userspace => Self::Userspace,
        }
    }
}

#[cfg(test)]
mod tests;
