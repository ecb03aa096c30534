//! What an adoption tells of itself: the same structs as a hub's.

use std::time::SystemTime;

use super::{foreign::Look, place::Place};
use crate::{
    desired::Backend,
    maps::Counters,
    observed::Device,
    report::{Standing, Stats, Status},
    stats::{self, connected},
};

/// How it is.
#[must_use]
pub fn status(place: &Place, look: &Look) -> Status {
    let now = SystemTime::now();
    let device = look.seen.as_ref().map(|seen| &seen.device);
    Status {
        uplink: None,
        version: env!("CARGO_PKG_VERSION").to_owned(),
        pid: std::process::id(),
        config: None,
        interface: place.interface.to_string(),
        namespace: place.namespace.as_ref().map(|namespace| namespace.path().display().to_string()),
        backend: look.seen.as_ref().map_or(Backend::Kernel, |seen| seen.backend),
        backend_reason: "somebody else's".to_owned(),
        public_key: device.and_then(|device| device.public_key),
        listen_port: device.map_or(0, |device| device.listen_port),
        endpoint: None,
        home: None,
        fast_path: look.fast_path.clone(),
        attached: look.attached.map(|hook| hook.to_string()),
        peers: device.map_or(0, |device| device.peers.len()),
        peers_connected: device.map_or(0, |device| connected(device, now)),
        peers_expired: Vec::new(),
        problems: look.problems.clone(),
        beside: Vec::new(),
        to_open: Vec::new(),
    }
}

/// Counters; peers are called by the first characters of their keys.
#[must_use]
pub fn stats(
    place: &Place,
    backend: Backend,
    fast_path: Standing,
    device: Option<&Device>,
    counters: Option<&Counters>,
) -> Stats {
    let peers = device.into_iter().flat_map(|device| &device.peers).map(|(key, peer)| {
        let single = |net: &&ipnet::IpNet| net.prefix_len() == net.max_prefix_len();
        stats::Named {
            public_key: *key,
            name: super::routes::peer_name(key),
            addresses: peer.allowed_ips.iter().filter(single).map(ipnet::IpNet::addr).collect(),
            lans: peer.allowed_ips.iter().filter(|net| !single(net)).copied().collect(),
        }
    });
    stats::of(place.interface.as_str(), peers, backend, fast_path, device, counters)
}
