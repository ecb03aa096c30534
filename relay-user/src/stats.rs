//! Puts the counters of WireGuard and of the fast path together, peer by peer.

use std::time::UNIX_EPOCH;

use relay_common::Verdict;

use crate::{
    desired::{Backend, Desired},
    maps::Counters,
    observed::Device,
    report::{Bytes, FastPath, PeerFastPath, PeerStats, Stats},
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
                latest_handshake: live
                    .and_then(|live| live.latest_handshake)
                    .and_then(|time| time.duration_since(UNIX_EPOCH).ok())
                    .map(|since| since.as_secs())
                    .filter(|&seconds| seconds > 0),
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
