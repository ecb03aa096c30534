//! What the maps of the fast path hold, as plain data: read by [`crate::kernel::datapath`], decided by
//! [`crate::datapath_plan`].

use std::{
    collections::{BTreeMap, BTreeSet},
    net::{IpAddr, Ipv4Addr},
};

use ipnet::IpNet;
use relay_common::{PeerCounters, PeerSlot, Route, Verdict};

use crate::key::PublicKey;

/// What the route maps shall hold.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Maps {
    /// Whose counters each slot holds.
    pub slots: BTreeMap<PublicKey, PeerSlot>,
    /// Single addresses.
    pub hosts: BTreeMap<IpAddr, Route>,
    /// Prefixes shorter than a single address, without host bits.
    pub lans: BTreeMap<IpNet, Route>,
    /// Peers that found no slot and prefixes that found no room; they go by the kernel's own path.
    pub overflow: usize,
}

/// What the maps hold, read from the kernel.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct DatapathState {
    /// Whose counters each slot holds.
    pub slots: BTreeMap<PublicKey, PeerSlot>,
    /// Single addresses.
    pub hosts: BTreeMap<IpAddr, Route>,
    /// Prefixes shorter than a single address.
    pub lans: BTreeMap<IpNet, Route>,
    /// Whether the fast path is switched on.
    pub enabled: bool,
    /// Whether the program takes DIRECT4 for all of the single IPv4 addresses.
    pub all_direct: bool,
    /// Those of them that stand in HOSTS4.
    pub crowded: BTreeSet<Ipv4Addr>,
}

/// One write to one map.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum MapChange {
    /// Switch the fast path on or off.
    Enable(bool),
    /// Whether the program may take DIRECT4 for all of the single IPv4 addresses.
    AllDirect(bool),
    /// Zero the slot's counters, then say whose they are.
    AssignSlot(PublicKey, PeerSlot),
    /// Nobody's counters any more.
    FreeSlot(PublicKey),
    /// The way of a single address.
    SetHost(IpAddr, Route),
    /// Forget a single address.
    RemoveHost(IpAddr),
    /// The way of a prefix.
    SetLan(IpNet, Route),
    /// Forget a prefix.
    RemoveLan(IpNet),
}

/// Changes in words: `change 3 entries of the fast path`.
#[must_use]
pub fn in_words(changes: &[MapChange]) -> String {
    match changes {
        [MapChange::Enable(true)] => "switch the fast path on".to_owned(),
        [MapChange::Enable(false)] => "switch the fast path off".to_owned(),
        [_] => "change 1 entry of the fast path".to_owned(),
        _ => format!("change {} entries of the fast path", changes.len()),
    }
}

/// What the fast path counted, summed over CPUs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Counters {
    /// By peer.
    pub peers: BTreeMap<PublicKey, PeerCounters>,
    /// Packets by [`Verdict`]'s value.
    pub verdicts: [u64; Verdict::ALL.len()],
}

impl Counters {
    /// Packets that got this verdict.
    #[must_use]
    pub const fn verdict(&self, verdict: Verdict) -> u64 {
        self.verdicts[verdict as usize]
    }
}
