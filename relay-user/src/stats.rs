//! Puts the counters of WireGuard and of the fast path together, peer by peer.

use std::{collections::BTreeSet, time::UNIX_EPOCH};

use ipnet::IpNet;
use relay_common::Verdict;

use crate::{
    desired::{Backend, Desired, Home, Peer},
    lan::routes_for_router,
    maps::Counters,
    observed::{Device, DevicePeer, Observed},
    report::{Bytes, FastPath, HomeStatus, LanStatus, PeerFastPath, PeerStats, Stats},
};

/// One report of it all. Peers that WireGuard does not know (yet) show zeroes; peers that only WireGuard knows are
/// drift, and the daemon removes them.
#[must_use]
pub fn collect(
    desired: &Desired,
    backend: Backend,
    fast_path: FastPath,
    device: Option<&Device>,
    counters: Option<&Counters>,
) -> Stats {
    let mut peers: Vec<_> = desired
        .peers
        .iter()
        .map(|(public_key, peer)| {
            let live = device.and_then(|device| device.peers.get(public_key));
            let carried =
                counters.and_then(|counters| counters.peers.get(public_key)).copied().unwrap_or_default();
            PeerStats {
                name: peer.name.to_string(),
                public_key: *public_key,
                addresses: peer.addresses.clone(),
                lans: peer.lans.clone(),
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
    Stats { interface: desired.interface.to_string(), backend, fast_path, peers, verdicts }
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
