//! Puts the counters of WireGuard and of the fast path together, peer by peer.

use std::{
    collections::BTreeSet,
    net::IpAddr,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use ipnet::IpNet;
use relay_common::Verdict;

use crate::{
    desired::{Backend, Desired, Home, Peer},
    key::PublicKey,
    lan::routes_for_router,
    maps::Counters,
    observed::{Device, DevicePeer, Observed},
    report::{Bytes, HomeStatus, LanStatus, PeerFastPath, PeerStats, Standing, Stats},
};

/// How long ago a handshake may be for a peer to count as connected: WireGuard's REJECT_AFTER_TIME (whitepaper 6.1).
const CONNECTED: Duration = Duration::from_secs(180);

/// How many peers are connected.
#[must_use]
pub fn connected(device: &Device, now: SystemTime) -> usize {
    let recent = |at: SystemTime| now.duration_since(at).is_ok_and(|age| age < CONNECTED);
    device.peers.values().filter(|peer| peer.latest_handshake.is_some_and(recent)).count()
}

/// A peer, and what people call it.
#[derive(Clone, Debug)]
pub struct Named {
    /// Its key.
    pub public_key: PublicKey,
    /// Its name.
    pub name: String,
    /// Its addresses in the tunnel.
    pub addresses: BTreeSet<IpAddr>,
    /// Networks behind it.
    pub lans: BTreeSet<IpNet>,
}

/// One report of a hub. Peers that WireGuard does not know (yet) show zeroes; peers that only WireGuard knows are
/// drift, and the daemon removes them.
#[must_use]
pub fn collect(
    desired: &Desired,
    backend: Backend,
    fast_path: Standing,
    device: Option<&Device>,
    counters: Option<&Counters>,
) -> Stats {
    let peers = desired.peers.iter().map(|(public_key, peer)| Named {
        public_key: *public_key,
        name: peer.name.to_string(),
        addresses: peer.addresses.clone(),
        lans: peer.lans.clone(),
    });
    of(desired.interface.as_str(), peers, backend, fast_path, device, counters)
}

/// One report of these peers.
pub fn of(
    interface: &str,
    peers: impl Iterator<Item = Named>,
    backend: Backend,
    fast_path: Standing,
    device: Option<&Device>,
    counters: Option<&Counters>,
) -> Stats {
    let mut peers: Vec<_> = peers
        .map(|Named { public_key, name, addresses, lans }| {
            let live = device.and_then(|device| device.peers.get(&public_key));
            let carried =
                counters.and_then(|counters| counters.peers.get(&public_key)).copied().unwrap_or_default();
            PeerStats {
                name,
                public_key,
                addresses,
                lans,
                endpoint: live.and_then(|live| live.endpoint),
                latest_handshake: live.and_then(latest_handshake),
                received: Bytes { bytes: live.map_or(0, |live| live.received) },
                sent: Bytes { bytes: live.map_or(0, |live| live.sent) },
                fast_path: PeerFastPath { received: carried.received.into(), sent: carried.sent.into() },
            }
        })
        .collect();
    peers.sort_by(|a, b| a.name.cmp(&b.name));
    let verdicts = Verdict::ALL
        .iter()
        .map(|verdict| (verdict.name().to_owned(), counters.map_or(0, |counters| counters.verdict(*verdict))))
        .collect();
    Stats { interface: interface.to_owned(), backend, fast_path, peers, verdicts, uplink: None }
}

/// What a home has to say of itself besides: its hub, and its LANs.
#[must_use]
pub fn of_home(desired: &Desired, home: &Home, device: Option<&Device>, observed: &Observed) -> HomeStatus {
    let live = device.and_then(|device| device.peers.get(&home.hub));
    let lan = |lan: &IpNet| LanStatus { lan: *lan, interface: observed.lan_interfaces.get(lan).cloned() };
    let routes = match home.nat {
        true => BTreeSet::new(),
        false => {
            let beyond = desired.peers.values().flat_map(Peer::allowed_ips).collect();
            routes_for_router(&beyond, &observed.lan_addresses)
        }
    };
    HomeStatus {
        hub: home.hub,
        endpoint: home.endpoint.clone(),
        address: live.and_then(|live| live.endpoint),
        latest_handshake: live.and_then(latest_handshake),
        received: Bytes { bytes: live.map_or(0, |live| live.received) },
        sent: Bytes { bytes: live.map_or(0, |live| live.sent) },
        lans: home.lans.iter().map(lan).collect(),
        nat: home.nat,
        routes_for_router: routes.iter().map(|(net, via)| format!("{net} via {via}")).collect(),
    }
}

/// Unix seconds; `None` for never, which some backends write as the epoch.
fn latest_handshake(live: &DevicePeer) -> Option<u64> {
    let since = live.latest_handshake?.duration_since(UNIX_EPOCH).ok()?;
    Some(since.as_secs()).filter(|&seconds| seconds > 0)
}
