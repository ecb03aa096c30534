//! The maps, and what is looked up and counted in them. Names, keys and values are relay-common's.

use aya_ebpf::{
    bindings::BPF_F_NO_PREALLOC,
    btf_maps::{Array, HashMap, LpmTrie, PerCpuArray, lpm_trie::Key},
    macros::btf_map,
};
use relay_common::{MAX_HOSTS, MAX_LANS, MAX_PEERS, PeerCounters, Route, Traffic, Verdict};

use crate::mutant;

/// Memory is taken as entries come: most hubs have a dozen.
const ON_DEMAND: usize = BPF_F_NO_PREALLOC as usize;

#[btf_map]
static ENABLED: Array<u32, 1> = Array::new();

#[btf_map]
static HOSTS4: HashMap<[u8; 4], Route, { MAX_HOSTS as usize }, ON_DEMAND> = HashMap::new();

#[btf_map]
static HOSTS6: HashMap<[u8; 16], Route, { MAX_HOSTS as usize }, ON_DEMAND> = HashMap::new();

#[btf_map]
static LANS4: LpmTrie<[u8; 4], Route, { MAX_LANS as usize }> = LpmTrie::new();

#[btf_map]
static LANS6: LpmTrie<[u8; 16], Route, { MAX_LANS as usize }> = LpmTrie::new();

#[btf_map]
static PEER_COUNTERS: PerCpuArray<PeerCounters, { MAX_PEERS as usize }> = PerCpuArray::new();

#[btf_map]
static VERDICTS: PerCpuArray<u64, { Verdict::ALL.len() }> = PerCpuArray::new();

/// Userspace's own: it stands here so that it is pinned with the others.
#[btf_map]
static PEERS: HashMap<[u8; 32], u32, { MAX_PEERS as usize }, ON_DEMAND> = HashMap::new();

/// Whether the fast path is switched on.
#[inline(always)]
pub(crate) fn enabled() -> bool {
    ENABLED.get(0).is_some_and(|&enabled| enabled != 0)
}

/// Adds packets to a verdict's counter.
#[inline(always)]
pub(crate) fn count_verdict(verdict: Verdict, packets: u64) {
    if let Some(counter) = VERDICTS.get_ptr_mut(verdict as u32) {
        // SAFETY: the slot is this CPU's own, and while a TC program runs no other one does on its CPU.
        let counter = unsafe { &mut *counter };
        *counter = counter.wrapping_add(packets);
    }
}

/// From one peer to another: where their counters are.
pub(crate) struct Way {
    from: *mut PeerCounters,
    to: *mut PeerCounters,
}

impl Way {
    /// The way between two IPv4 addresses, as they stand in the packet.
    #[inline(always)]
    pub(crate) fn v4(source: [u16; 2], destination: [u16; 2]) -> Result<Self, Verdict> {
        Self::between(route4(destination), || route4(source))
    }

    /// The way between two IPv6 addresses, as they stand in the packet.
    #[inline(always)]
    pub(crate) fn v6(source: [u16; 8], destination: [u16; 8]) -> Result<Self, Verdict> {
        Self::between(route6(destination), || route6(source))
    }

    /// The destination first: most of what is not for a peer is known by it.
    #[inline(always)]
    fn between(destination: Option<Route>, source: impl FnOnce() -> Option<Route>) -> Result<Self, Verdict> {
        let to = mutant::stack_slot(destination.ok_or(Verdict::UnknownDestination)?).ok_or(Verdict::Local)?;
        let from = mutant::source_slot(source().and_then(Route::slot), to).ok_or(Verdict::UnknownSource)?;
        if from == to && !mutant::SAME_PEER_FORWARDED {
            return Err(Verdict::SamePeer);
        }
        // A slot beyond the array is the loader's mistake; found before the packet is touched.
        let from = PEER_COUNTERS.get_ptr_mut(from).ok_or(Verdict::Internal)?;
        let to = PEER_COUNTERS.get_ptr_mut(to).ok_or(Verdict::Internal)?;
        Ok(if mutant::WRONG_PEER_COUNTED { Self { from: to, to: from } } else { Self { from, to } })
    }

    /// Counts what goes this way.
    #[inline(always)]
    pub(crate) fn count(self, packets: u64, bytes: u32) {
        // SAFETY: the slot is this CPU's own, and while a TC program runs no other one does on its CPU.
        add(unsafe { &mut (*self.from).received }, packets, bytes);
        // SAFETY: as above; the reference made there is gone.
        add(unsafe { &mut (*self.to).sent }, packets, bytes);
    }
}

#[inline(always)]
fn add(traffic: &mut Traffic, packets: u64, bytes: u32) {
    traffic.packets = traffic.packets.wrapping_add(packets);
    traffic.bytes = traffic.bytes.wrapping_add(bytes.into());
}

/// The exact match, else the longest prefix: so that the tries stay as small as the LANs are few.
#[inline(always)]
fn route4(address: [u16; 2]) -> Option<Route> {
    // SAFETY: both types are plain bytes of the same size.
    let address: [u8; 4] = unsafe { core::mem::transmute(address) };
    let lan = || LANS4.get(&Key::new(32, address)).copied();
    if mutant::LPM_BEFORE_EXACT {
        return lan().or_else(|| read(HOSTS4.get_ptr(address)));
    }
    read(HOSTS4.get_ptr(address)).or_else(lan)
}

/// As [`route4`].
#[inline(always)]
fn route6(address: [u16; 8]) -> Option<Route> {
    // SAFETY: both types are plain bytes of the same size.
    let address: [u8; 16] = unsafe { core::mem::transmute(address) };
    let lan = || LANS6.get(&Key::new(128, address)).copied();
    if mutant::LPM_BEFORE_EXACT {
        return lan().or_else(|| read(HOSTS6.get_ptr(address)));
    }
    read(HOSTS6.get_ptr(address)).or_else(lan)
}

#[inline(always)]
fn read(route: Option<*const Route>) -> Option<Route> {
    // SAFETY: the entry's memory is not given back while the program runs. It may be reused for another entry at any
    // time; the route is one aligned word, so what is read is whole, and the packet one that was on its way while
    // the map changed.
    route.map(|route| unsafe { *route })
}
