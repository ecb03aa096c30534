//! The maps of `uplink`, and what is looked up, counted and remembered in them. What stands on the stack is eight bytes
//! wide, for the reason that [`crate::maps`] gives.

use core::{mem::MaybeUninit, ptr};

use aya_ebpf::{
    bindings::{BPF_F_NO_PREALLOC, BPF_NOEXIST},
    btf_maps::{Array, HashMap, LpmTrie, LruHashMap, PerCpuArray},
    helpers::{bpf_ktime_get_coarse_ns, bpf_map_update_elem},
    macros::btf_map,
};
use relay_common::{
    UplinkVerdict,
    uplink::{
        MAX_INITIATIONS, MAX_LIVE, MAX_LOCAL, MAX_PREFIXES, MAX_SOURCES, PrefixRule, UplinkSettings,
        UplinkSource, bucket, turned_away,
    },
};

use super::{mac1::Scratch, parse::Address};
use crate::{
    maps::{entry, look_up},
    mutant,
};

const ON_DEMAND: usize = BPF_F_NO_PREALLOC as usize;

#[btf_map]
static UPLINK_SETTINGS: Array<UplinkSettings, 1> = Array::new();

#[btf_map]
static UPLINK_LOCAL: HashMap<[u8; 16], u32, { MAX_LOCAL as usize }, ON_DEMAND> = HashMap::new();

#[btf_map]
static UPLINK_PREFIXES: LpmTrie<[u8; 16], PrefixRule, { MAX_PREFIXES as usize }> = LpmTrie::new();

#[btf_map]
static UPLINK_LIVE: HashMap<[u8; 8], u64, { MAX_LIVE as usize }, ON_DEMAND> = HashMap::new();

#[btf_map]
static UPLINK_SOURCES: LruHashMap<[u8; 8], UplinkSource, { MAX_SOURCES as usize }> = LruHashMap::new();

#[btf_map]
static UPLINK_INITIATIONS: LruHashMap<[u8; 32], u64, { MAX_INITIATIONS as usize }> = LruHashMap::new();

#[btf_map]
static UPLINK_BUCKETS: Array<u64, { bucket::COUNT }> = Array::new();

#[btf_map]
static UPLINK_TURNED_AWAY: Array<u64, { turned_away::COUNT }> = Array::new();

#[btf_map]
static UPLINK_VERDICTS: PerCpuArray<u64, { UplinkVerdict::ALL.len() }> = PerCpuArray::new();

/// The program's own: nobody else reads it.
#[btf_map]
static UPLINK_SCRATCH: PerCpuArray<Scratch, 1> = PerCpuArray::new();

/// The clock of limits, in nanoseconds, as exact as the kernel's tick.
#[inline(always)]
pub(crate) fn now() -> u64 {
    // SAFETY: the helper takes nothing and reads a clock; every program type may call it.
    unsafe { bpf_ktime_get_coarse_ns() }
}

/// What the guard goes by.
#[inline(always)]
pub(crate) fn settings() -> Option<&'static UplinkSettings> {
    // SAFETY: the map is an array of this type.
    let settings: Option<*mut UplinkSettings> = unsafe { entry(&raw const UPLINK_SETTINGS, 0) };
    // SAFETY: an array's entries stay where they are. Userspace may write this one at any time; what is read half-new is
    // a limit, or a key that is in use by nobody (`UplinkSettings` says why).
    settings.map(|settings| unsafe { &*settings })
}

/// This CPU's own place to look at a message.
#[inline(always)]
pub(crate) fn scratch() -> Option<&'static mut Scratch> {
    // SAFETY: the map is a per-CPU array of this type.
    let scratch: Option<*mut Scratch> = unsafe { entry(&raw const UPLINK_SCRATCH, 0) };
    // SAFETY: the entry is this CPU's own, no other XDP program runs on it meanwhile, and each is asked for once.
    scratch.map(|scratch| unsafe { &mut *scratch })
}

/// Adds one to a verdict's counter, and says how many there were on this CPU.
#[inline(always)]
pub(crate) fn count(verdict: UplinkVerdict) -> u64 {
    // SAFETY: the map is an array of this type.
    let counter: Option<*mut u64> = unsafe { entry(&raw const UPLINK_VERDICTS, verdict as u32) };
    let Some(counter) = counter else { return 0 };
    // SAFETY: the entry is this CPU's own, and while an XDP program runs no other one does on its CPU.
    let counter = unsafe { &mut *counter };
    *counter = counter.wrapping_add(1);
    *counter
}

/// Whether an address is this machine's.
#[inline(always)]
pub(crate) fn is_local(address: &Address) -> bool {
    // SAFETY: the map's keys are the 16 bytes of an address.
    let found: Option<*mut u32> = unsafe { look_up(&raw const UPLINK_LOCAL, ptr::from_ref(address).cast()) };
    found.is_some()
}

/// What the longest prefix says that an address is in.
#[inline(always)]
pub(crate) fn rule(address: &Address) -> PrefixRule {
    let key = prefix_key(address);
    // SAFETY: the map's keys are a prefix length of four bytes and the 16 bytes of an address; the last four bytes of this
    // key are no longer part of it.
    let rule: Option<*mut PrefixRule> =
        unsafe { look_up(&raw const UPLINK_PREFIXES, ptr::from_ref(&key).cast()) };
    // SAFETY: one aligned word of memory that is not given back while the program runs.
    rule.map_or(PrefixRule::NONE, |rule| unsafe { *rule })
}

/// Length and address, three words in memory order.
#[inline(always)]
fn prefix_key([first, second]: &Address) -> [u64; 3] {
    const WHOLE: u64 = 128;
    if cfg!(target_endian = "big") {
        [WHOLE << 32 | first >> 32, first << 32 | second >> 32, second << 32]
    } else {
        [WHOLE | first << 32, first >> 32 | second << 32, second >> 32]
    }
}

/// The state of a source's reserve, if it has a live session.
#[inline(always)]
pub(crate) fn live(source: u64) -> Option<*mut u64> {
    if mutant::UPLINK_RESERVE_MISSING {
        return None;
    }
    // SAFETY: the map's keys are a source's eight bytes, its values such states.
    unsafe { look_up(&raw const UPLINK_LIVE, ptr::from_ref(&source).cast()) }
}

/// What is remembered of a source, if anything is.
#[inline(always)]
pub(crate) fn known(source: u64) -> Option<*mut UplinkSource> {
    // SAFETY: the map's keys are a source's eight bytes, its values this type.
    unsafe { look_up(&raw const UPLINK_SOURCES, ptr::from_ref(&source).cast()) }
}

/// What is remembered of a source; from this moment on if nothing was.
#[inline(always)]
pub(crate) fn source(source: u64) -> Option<*mut UplinkSource> {
    let key = ptr::from_ref(&source).cast();
    if let Some(entry) = known(source) {
        return Some(entry);
    }
    let mut nothing = MaybeUninit::<[u64; size_of::<UplinkSource>() / 8]>::uninit();
    for at in 0..size_of::<UplinkSource>() / 8 {
        let word = nothing.as_mut_ptr().cast::<u64>().wrapping_add(at);
        // SAFETY: the word is in the array. Volatile, since the compiler would call `memset` instead, whose offsets vary.
        unsafe { ptr::write_volatile(word, 0) };
    }
    let map = (&raw const UPLINK_SOURCES).cast_mut().cast();
    // SAFETY: key and value are as long as the map's. Where another CPU was faster, its entry stays.
    let _ = unsafe { bpf_map_update_elem(map, key, nothing.as_ptr().cast(), BPF_NOEXIST.into()) };
    known(source)
}

/// Remembers that so many packets of this source were dropped.
#[inline(always)]
pub(crate) fn blame(of: u64, packets: u64) {
    if let Some(entry) = source(of) {
        // SAFETY: an entry of the map, whose memory is not given back while the program runs; one count more or less does
        // not matter where two CPUs write.
        let entry = unsafe { &mut *entry };
        entry.dropped = entry.dropped.wrapping_add(packets);
        entry.last = now();
    }
}

/// Whether an initiation with this ephemeral key passed before.
#[inline(always)]
pub(crate) fn came_before(ephemeral: &[u32; 8]) -> bool {
    // SAFETY: the map's keys have as many bytes.
    let found: Option<*mut u64> =
        unsafe { look_up(&raw const UPLINK_INITIATIONS, ptr::from_ref(ephemeral).cast()) };
    found.is_some()
}

/// Remembers the ephemeral key of an initiation that passes.
#[inline(always)]
pub(crate) fn remember(ephemeral: &[u32; 8]) {
    let now = now();
    let map = (&raw const UPLINK_INITIATIONS).cast_mut().cast();
    // SAFETY: key and value are as long as the map's.
    let _ = unsafe {
        bpf_map_update_elem(map, ptr::from_ref(ephemeral).cast(), ptr::from_ref(&now).cast(), BPF_ANY)
    };
}

/// Whatever is there (include/uapi/linux/bpf.h).
const BPF_ANY: u64 = 0;

/// The state of a limit that all sources share.
#[inline(always)]
pub(crate) fn bucket(at: u32) -> Option<*mut u64> {
    // SAFETY: the map is an array of this type.
    unsafe { entry(&raw const UPLINK_BUCKETS, at) }
}

/// Whether a source was turned away a while ago, or is taken for one that was.
#[inline(always)]
pub(crate) fn was_turned_away(source: u64, now: u64) -> bool {
    if mutant::UPLINK_RETURNING_TURNED_AWAY {
        return false;
    }
    let (cell, bits) = turned_away::place(source);
    let half = now >> turned_away::CLOCK_SHIFT;
    let knows = |half: u64| {
        cell_of(half, cell).is_some_and(|entry| {
            // SAFETY: an array's entry, read whole.
            let entry = unsafe { *entry };
            entry >> turned_away::BITS == tag(half) && entry & bits == bits
        })
    };
    knows(half) || knows(half.wrapping_sub(1))
}

/// Remembers that a source was turned away.
#[inline(always)]
pub(crate) fn turn_away(source: u64, now: u64) {
    let (cell, bits) = turned_away::place(source);
    let half = now >> turned_away::CLOCK_SHIFT;
    if let Some(entry) = cell_of(half, cell) {
        // SAFETY: an array's entry, read whole.
        let before = unsafe { *entry };
        let after = if before >> turned_away::BITS == tag(half) {
            before | bits
        } else {
            tag(half) << turned_away::BITS | bits
        };
        // SAFETY: as above, written whole; where two CPUs write, one source may be forgotten.
        unsafe { *entry = after };
    }
}

/// What the cells of a half carry.
#[inline(always)]
fn tag(half: u64) -> u64 {
    half & ((1 << (64 - turned_away::BITS)) - 1)
}

#[inline(always)]
fn cell_of(half: u64, cell: u32) -> Option<*mut u64> {
    let index = (half as u32 & 1) * turned_away::CELLS + cell;
    // SAFETY: the map is an array of this type.
    unsafe { entry(&raw const UPLINK_TURNED_AWAY, index) }
}
