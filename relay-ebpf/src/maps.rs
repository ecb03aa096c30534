//! The maps, and what is looked up and counted in them. Names, keys and values are relay-common's.
//!
//! Keys come from the packet itself or are written to the stack eight bytes at a time, whatever their size: kernel 6.1
//! takes a smaller write to a place that holds a number it knows something about for an attempt to corrupt a pointer,
//! unless the loader has CAP_PERFMON (`check_stack_write_fixed_off`; 6.12 does not). So what is on the stack is all of
//! one size, and the compiler may reuse its places as it likes.

use core::{ffi::c_void, ptr};

use aya_ebpf::{
    bindings::{BPF_F_MMAPABLE, BPF_F_NO_PREALLOC},
    btf_maps::{Array, HashMap, LpmTrie, PerCpuArray},
    helpers::bpf_map_lookup_elem,
    macros::btf_map,
};
use relay_common::{
    Direct4, Direct6, MAX_HOSTS, MAX_LANS, MAX_PEERS, PeerCounters, PeerSlot, Route, Switches, Trace,
    Traffic, Verdict,
};

use crate::mutant;

/// Memory is taken as entries come: most hubs have a dozen.
const ON_DEMAND: usize = BPF_F_NO_PREALLOC as usize;

#[btf_map]
static SWITCHES: Array<Switches, 1, { BPF_F_MMAPABLE as usize }> = Array::new();

#[btf_map]
static DIRECT4: Array<Direct4, { Direct4::PLACES as usize }, { BPF_F_MMAPABLE as usize }> = Array::new();

#[btf_map]
static DIRECT6: Array<u64, { Direct6::WORDS as usize }, { BPF_F_MMAPABLE as usize }> = Array::new();

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

#[btf_map]
static TRACE: Array<Trace, 1> = Array::new();

#[btf_map]
static TRACED: PerCpuArray<u64, 1> = PerCpuArray::new();

/// What is switched on; nothing where the map has no answer.
#[inline(always)]
pub(crate) fn switches() -> Switches {
    // SAFETY: the map is an array of this type.
    let switches: Option<*mut Switches> = unsafe { entry(&raw const SWITCHES, 0) };
    // SAFETY: an array's entries stay where they are, and userspace writes each word whole.
    switches.map_or(Switches { fast_path: 0, trace: 0, all_direct4: 0, all_direct6: 0 }, |switches| unsafe {
        *switches
    })
}

/// Switches the tracing off.
#[inline(always)]
pub(crate) fn end_trace() {
    // SAFETY: the map is an array of this type.
    let switches: Option<*mut Switches> = unsafe { entry(&raw const SWITCHES, 0) };
    if let Some(switches) = switches {
        // SAFETY: an array's entries stay where they are.
        let word = unsafe { &raw mut (*switches).trace };
        // SAFETY: as above, one aligned word.
        unsafe { word.write(0) };
    }
}

/// What the tracer wants to be told.
#[inline(always)]
pub(crate) fn trace() -> Option<Trace> {
    // SAFETY: the map is an array of this type.
    let trace: *mut Trace = unsafe { entry(&raw const TRACE, 0) }?;
    // SAFETY: an array's entries stay where they are. Userspace may write this one meanwhile, and then a packet is told,
    // or not, by half of what was asked before.
    Some(unsafe { *trace })
}

/// Counts an event for the tracer.
#[inline(always)]
pub(crate) fn count_traced() {
    // SAFETY: the map is an array of this type.
    let counter: Option<*mut u64> = unsafe { entry(&raw const TRACED, 0) };
    if let Some(counter) = counter {
        // SAFETY: the entry is this CPU's own, and while a TC program runs no other one does on its CPU.
        let counter = unsafe { &mut *counter };
        *counter = counter.wrapping_add(1);
    }
}

/// Whose an IPv4 address is, as it stands in a packet.
#[inline(always)]
pub(crate) fn owner4(address: &[u16; 2]) -> Option<PeerSlot> {
    route4(address).and_then(Route::slot)
}

/// As [`owner4`].
#[inline(always)]
pub(crate) fn owner6(address: &[u16; 8]) -> Option<PeerSlot> {
    route6(address).and_then(Route::slot)
}

/// Adds packets to a verdict's counter.
#[inline(always)]
pub(crate) fn count_verdict(verdict: Verdict, packets: u64) {
    // SAFETY: the map is an array of this type.
    let counter: Option<*mut u64> = unsafe { entry(&raw const VERDICTS, verdict as u32) };
    if let Some(counter) = counter {
        // SAFETY: the entry is this CPU's own, and while a TC program runs no other one does on its CPU.
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
    pub(crate) fn v4(source: &[u16; 2], destination: &[u16; 2]) -> Result<Self, Verdict> {
        Self::between(route4(destination), || route4(source))
    }

    /// The way between two IPv6 addresses, as they stand in the packet.
    #[inline(always)]
    pub(crate) fn v6(source: &[u16; 8], destination: &[u16; 8]) -> Result<Self, Verdict> {
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
        // SAFETY: the map is an array of this type.
        let from = unsafe { entry(&raw const PEER_COUNTERS, from) }.ok_or(Verdict::Internal)?;
        // SAFETY: as above.
        let to = unsafe { entry(&raw const PEER_COUNTERS, to) }.ok_or(Verdict::Internal)?;
        Ok(if mutant::WRONG_PEER_COUNTED { Self { from: to, to: from } } else { Self { from, to } })
    }

    /// Counts what goes this way.
    #[inline(always)]
    pub(crate) fn count(self, packets: u64, bytes: u32) {
        // SAFETY: the entry is this CPU's own, and while a TC program runs no other one does on its CPU.
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

/// The exact match, else the longest prefix: so that the tries stay as small as the LANs are few. Of the exact ones the
/// table is asked first, since that costs no call; it answers alone where it has them all, which is nearly everywhere.
#[inline(always)]
fn route4(address: &[u16; 2]) -> Option<Route> {
    // SAFETY: the map's keys are the four bytes of an address, its values routes.
    let crowded = || unsafe { crowded(switches().all_direct4, &raw const HOSTS4, address) };
    let host = || direct4(address).or_else(crowded);
    let lan = || {
        let [high, low] = words(32);
        let key = [packed([high, low, address[0], address[1]])];
        // SAFETY: the map's keys are a prefix length of four bytes and the four bytes of an address, its values routes.
        unsafe { route(&raw const LANS4, &key) }
    };
    if mutant::LPM_BEFORE_EXACT { lan().or_else(host) } else { host().or_else(lan) }
}

/// As [`route4`].
#[inline(always)]
fn route6(address: &[u16; 8]) -> Option<Route> {
    // SAFETY: the map's keys are the 16 bytes of an address, its values routes.
    let crowded = || unsafe { crowded(switches().all_direct6, &raw const HOSTS6, address) };
    let host = || direct6(address).or_else(crowded);
    let lan = || {
        let [high, low] = words(128);
        let [a, b, c, d, e, f, g, h] = *address;
        let key = [packed([high, low, a, b]), packed([c, d, e, f]), packed([g, h, 0, 0])];
        // SAFETY: the map's keys are a prefix length of four bytes and the 16 bytes of an address, its values routes; the
        // last four bytes of this key are no longer part of it.
        unsafe { route(&raw const LANS6, &key) }
    };
    if mutant::LPM_BEFORE_EXACT { lan().or_else(host) } else { host().or_else(lan) }
}

/// What stands in the table for the address.
#[inline(always)]
fn direct4(address: &[u16; 2]) -> Option<Route> {
    let ([a, b], [c, d]) = (address[0].to_ne_bytes(), address[1].to_ne_bytes());
    let address = [a, b, c, d];
    // SAFETY: the map is an array of this type.
    let entry: *mut Direct4 = unsafe { entry(&raw const DIRECT4, Direct4::place(address)) }?;
    // SAFETY: an array's entries stay where they are. Read as the one word as which userspace writes it.
    let entry = Direct4::from_word(unsafe { entry.cast::<u64>().read_volatile() });
    (entry.is_of(address) || mutant::PLACE_IS_ENOUGH).then(|| entry.route())
}

/// As [`direct4`], in the one network that the table is of.
#[inline(always)]
fn direct6(address: &[u16; 8]) -> Option<Route> {
    let [a, b, c, d, e, f, g, place] = *address;
    // SAFETY: the map is an array of words.
    let network: *mut u64 = unsafe { entry(&raw const DIRECT6, Direct6::NETWORK) }?;
    // SAFETY: an array's entries stay where they are, and userspace writes each word whole.
    let network = unsafe { network.read_volatile() };
    if (network == 0 || network != packed([a, b, c, d])) && !mutant::NETWORK_IGNORED {
        return None;
    }
    // SAFETY: the map is an array of words.
    let entry: *mut u64 = unsafe { entry(&raw const DIRECT6, u16::from_be(place).into()) }?;
    // SAFETY: as above.
    let entry = Direct6::from_word(unsafe { entry.read_volatile() });
    let ([a, b], [c, d], [e, f]) = (e.to_ne_bytes(), f.to_ne_bytes(), g.to_ne_bytes());
    let is_right = entry.is_of([a, b, c, d, e, f]) || mutant::MIDDLE_IGNORED;
    entry.route().filter(|_| is_right)
}

/// What a map holds for the key, unless all that it could hold is in the table.
///
/// # Safety
///
/// That of [`route`].
#[inline(always)]
unsafe fn crowded<Map, K>(all_direct: u32, map: *const Map, key: &K) -> Option<Route> {
    if all_direct != 0 || mutant::CROWDED_FORGOTTEN {
        return None;
    }
    // SAFETY: that of the caller.
    unsafe { route(map, key) }
}

/// A number as two words in memory order.
const fn words(number: u32) -> [u16; 2] {
    let [a, b, c, d] = number.to_ne_bytes();
    [u16::from_ne_bytes([a, b]), u16::from_ne_bytes([c, d])]
}

/// Four words in memory order as one number, put together in a register.
#[inline(always)]
pub(crate) fn packed(words: [u16; 4]) -> u64 {
    let [a, b, c, d] = words.map(u64::from);
    if cfg!(target_endian = "big") {
        a << 48 | b << 32 | c << 16 | d
    } else {
        a | b << 16 | c << 32 | d << 48
    }
}

/// The route that a map holds for the key at this place.
///
/// # Safety
///
/// The map's keys must not be longer than `K`, and its values must be routes.
#[inline(always)]
unsafe fn route<Map, K>(map: *const Map, key: &K) -> Option<Route> {
    // SAFETY: that of the caller.
    let route: *mut Route = unsafe { look_up(map, ptr::from_ref(key).cast()) }?;
    // SAFETY: the entry's memory is not given back while the program runs. It may be reused for another entry at any
    // time; the route is one aligned word, so what is read is whole, and the packet one that was on its way while
    // the map changed.
    Some(unsafe { *route })
}

/// An array's entry.
///
/// # Safety
///
/// The map must be an array of `V`, or a per-CPU one.
#[inline(always)]
pub(crate) unsafe fn entry<Map, V>(map: *const Map, index: u32) -> Option<*mut V> {
    let [high, low] = words(index);
    let key = packed([high, low, 0, 0]);
    // SAFETY: an array's keys have four bytes, and this has eight; the values are the caller's promise.
    unsafe { look_up(map, ptr::from_ref(&key).cast()) }
}

/// # Safety
///
/// `map` must be one of the program's maps, `key` point to as many bytes as its keys have, and `V` be its values' type.
#[inline(always)]
pub(crate) unsafe fn look_up<Map, V>(map: *const Map, key: *const c_void) -> Option<*mut V> {
    // SAFETY: that of the caller.
    let value: *mut V = unsafe { bpf_map_lookup_elem(map.cast_mut().cast(), key) }.cast();
    (!value.is_null()).then_some(value)
}
