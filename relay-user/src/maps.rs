//! What the maps of the fast path hold, as plain data: read by [`crate::kernel::datapath`], decided by
//! [`crate::datapath_plan`].

use std::{
    collections::{BTreeMap, BTreeSet},
    net::IpAddr,
};

use ipnet::IpNet;
use relay_common::{Direct4, Direct6, Network6, PeerCounters, PeerSlot, Route, Verdict};

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
    /// The network that DIRECT6 shall be of, should it be of none yet.
    pub network6: Option<Network6>,
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
    /// Whether the program takes the tables for all of the single addresses.
    pub all_direct: AllDirect,
    /// Those of them that stand in HOSTS4 or HOSTS6.
    pub crowded: BTreeSet<IpAddr>,
    /// The network that DIRECT6 is of, once one was chosen.
    pub network6: Option<Network6>,
}

impl DatapathState {
    /// How many places both tables have.
    pub(crate) const PLACES: usize = (Direct4::PLACES + Direct6::PLACES) as usize;

    /// The place in the tables, one behind the other, where a single address may stand, if there is one.
    #[must_use]
    pub(crate) fn place(&self, address: IpAddr) -> Option<usize> {
        let place = match address {
            // It would look like nobody's.
            IpAddr::V4(address) if address.is_unspecified() => return None,
            IpAddr::V4(address) => Direct4::place(address.octets()),
            IpAddr::V6(address) if Some(Direct6::network(address.octets())) == self.network6 => {
                Direct4::PLACES + Direct6::place(address.octets())
            }
            IpAddr::V6(_) => return None,
        };
        Some(place as usize)
    }
}

/// Of each family, whether all of its single addresses stand in the table.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct AllDirect {
    /// In DIRECT4; HOSTS4 is not asked then.
    pub v4: bool,
    /// In DIRECT6; HOSTS6 is not asked then.
    pub v6: bool,
}

impl AllDirect {
    /// What is true while these stand in HOSTS4 and HOSTS6.
    #[must_use]
    pub(crate) fn but_for(crowded: &BTreeSet<IpAddr>) -> Self {
        Self { v4: !crowded.iter().any(IpAddr::is_ipv4), v6: !crowded.iter().any(IpAddr::is_ipv6) }
    }
}

/// One write to one map.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum MapChange {
    /// Switch the fast path on or off.
    Enable(bool),
    /// Whether the program may take the tables for all of the single addresses.
    AllDirect(AllDirect),
    /// The network that DIRECT6 is of from now on; it is of none yet.
    Network6(Network6),
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
