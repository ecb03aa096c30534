//! What relay tells people and programs about itself: `status` and `stats`, as data.
//!
//! `--json`, the control socket and the tables on the screen are the same structs.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::{IpAddr, SocketAddr},
};

use ipnet::IpNet;
use relay_common::UplinkVerdict;
use serde::{Deserialize, Serialize};

use crate::{desired::Backend, key::PublicKey, uplink::UplinkCounters};

/// Counters per peer and in total.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Stats {
    /// The tunnel interface.
    pub interface: String,
    /// Who carries the tunnel.
    pub backend: Backend,
    /// Whether the fast path is on.
    pub fast_path: Standing,
    /// By name.
    pub peers: Vec<PeerStats>,
    /// Packets by what `tunnel` decided, every verdict present.
    pub verdicts: BTreeMap<String, u64>,
    /// What the guard in front of the listen port counted; null while there is none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub uplink: Option<UplinkStats>,
}

/// What the guard in front of the listen port counted, since it was attached first.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct UplinkStats {
    /// Packets that the kernel got, by what they were.
    pub passed: BTreeMap<String, u64>,
    /// Packets that went no further, by the reason.
    pub dropped: BTreeMap<String, u64>,
}

impl UplinkStats {
    /// Packets that went no further.
    #[must_use]
    pub fn all_dropped(&self) -> u64 {
        self.dropped.values().sum()
    }
}

impl From<&UplinkCounters> for UplinkStats {
    fn from(counters: &UplinkCounters) -> Self {
        let counted = |drops: bool| {
            UplinkVerdict::ALL
                .iter()
                .filter(|verdict| verdict.drops() == drops)
                .map(|verdict| (verdict.name().to_owned(), counters.verdict(*verdict)))
                .collect()
        };
        Self { passed: counted(false), dropped: counted(true) }
    }
}

impl Stats {
    /// Packets redirected ÷ packets that `tunnel` saw, 0 to 1; `None` when it saw none.
    #[must_use]
    pub fn fast_path_share(&self) -> Option<f64> {
        let seen: u64 = self.verdicts.values().sum();
        let redirected = self.verdicts.get(relay_common::Verdict::Redirected.name()).copied().unwrap_or(0);
        (seen > 0).then(|| redirected as f64 / seen as f64)
    }
}

/// One peer's counters.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PeerStats {
    /// Its name in the configuration; of an adopted interface, the first characters of its key.
    pub name: String,
    /// Its key.
    pub public_key: PublicKey,
    /// Its addresses in the tunnel.
    pub addresses: BTreeSet<IpAddr>,
    /// Networks behind it.
    pub lans: BTreeSet<IpNet>,
    /// Where its last valid packet came from.
    pub endpoint: Option<SocketAddr>,
    /// Unix seconds; `None` for never.
    pub latest_handshake: Option<u64>,
    /// By WireGuard's own count, outer messages included.
    pub received: Bytes,
    /// By WireGuard's own count.
    pub sent: Bytes,
    /// What took the fast path.
    pub fast_path: PeerFastPath,
}

/// Bytes in one direction.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Bytes {
    /// Bytes.
    pub bytes: u64,
}

/// A peer's share of the fast path.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct PeerFastPath {
    /// From the peer.
    pub received: Packets,
    /// To the peer.
    pub sent: Packets,
}

/// Packets (segments of merged ones) and bytes of IP packets.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Packets {
    /// Packets.
    pub packets: u64,
    /// Bytes.
    pub bytes: u64,
}

impl From<relay_common::Traffic> for Packets {
    fn from(traffic: relay_common::Traffic) -> Self {
        Self { packets: traffic.packets, bytes: traffic.bytes }
    }
}

/// Whether a part of the hub is on, and why: the fast path, or the guard in front of the listen port.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Standing {
    /// On or off.
    pub state: Switch,
    /// In words; names what keeps it off.
    pub reason: String,
}

impl Standing {
    /// On, with the reason.
    pub fn on(reason: impl Into<String>) -> Self {
        Self { state: Switch::On, reason: reason.into() }
    }

    /// Off, with the reason.
    pub fn off(reason: impl Into<String>) -> Self {
        Self { state: Switch::Off, reason: reason.into() }
    }

    /// Whether it is on.
    #[must_use]
    pub fn is_on(&self) -> bool {
        self.state == Switch::On
    }
}

impl std::fmt::Display for Standing {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let state = if self.is_on() { "on" } else { "off" };
        write!(f, "{state}: {}", self.reason)
    }
}

/// On or off.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Switch {
    /// On.
    On,
    /// Off.
    Off,
}

/// How the daemon is.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Status {
    /// relay's version.
    pub version: String,
    /// The daemon's process id.
    pub pid: u32,
    /// The file that is in force; none for an adopted interface.
    pub config: Option<String>,
    /// The tunnel interface.
    pub interface: String,
    /// The network namespace that it is in, by what it was named; none for our own.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub namespace: Option<String>,
    /// Who carries the tunnel.
    pub backend: Backend,
    /// Why that one.
    pub backend_reason: String,
    /// The hub's public key, if it has one.
    pub public_key: Option<PublicKey>,
    /// UDP port that peers dial; at a home, whom nobody dials, the one that it happens to have.
    pub listen_port: u16,
    /// What peers dial.
    pub endpoint: Option<String>,
    /// What a home has besides; null at a hub.
    #[serde(default)]
    pub home: Option<HomeStatus>,
    /// Whether the fast path is on.
    pub fast_path: Standing,
    /// How the program is attached: `tcx`, `clsact`; `None` when it is not.
    pub attached: Option<String>,
    /// Whether the guard in front of the listen port stands; null where nobody dials this machine.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub uplink: Option<Standing>,
    /// Peers that take part: enabled in the file, and not expired.
    pub peers: usize,
    /// Peers with a handshake in the last three minutes (WireGuard's REJECT_AFTER_TIME, 180 s).
    pub peers_connected: usize,
    /// The names of enabled peers whose time is over.
    #[serde(default)]
    pub peers_expired: Vec<String>,
    /// What could not be done, each with what to do about it.
    pub problems: Vec<String>,
    /// Those of `problems` that no traffic suffers from: the history's, the metrics'.
    #[serde(default)]
    pub beside: Vec<String>,
    /// Commands that would open what a firewall closes, since `firewall.manage` is off.
    pub to_open: Vec<String>,
}

/// How a home is.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct HomeStatus {
    /// The hub's key.
    pub hub: PublicKey,
    /// Where the hub is dialled, as the file has it.
    pub endpoint: String,
    /// Where that is now; null while nobody knows.
    pub address: Option<SocketAddr>,
    /// Unix seconds; null for never.
    pub latest_handshake: Option<u64>,
    /// By WireGuard's own count.
    pub received: Bytes,
    /// By WireGuard's own count.
    pub sent: Bytes,
    /// The networks that are reached through this machine.
    pub lans: Vec<LanStatus>,
    /// Whether the LANs see this machine's address in place of the peers'.
    pub nat: bool,
    /// The routes that the LANs' router needs, since `nat` is off: `10.9.0.0/24 via 192.168.40.2`.
    pub routes_for_router: Vec<String>,
}

/// One LAN of a home.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct LanStatus {
    /// Its prefix.
    pub lan: IpNet,
    /// The interface that leads to it; null where none does.
    pub interface: Option<String>,
}

/// What a reload did.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Reloaded {
    /// Each change in words; empty when nothing had to change.
    pub changes: Vec<String>,
    /// What could not be done.
    pub problems: Vec<String>,
}

/// Why a request was refused.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, thiserror::Error)]
#[error("{message}")]
pub struct Refusal {
    /// In words, with the place.
    pub message: String,
}
