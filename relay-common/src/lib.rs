//! The line between relay's eBPF programs and its userspace.
//!
//! Everything that crosses that line is here and nowhere else: the names of maps and globals, their keys and
//! values, the verdicts, and the arithmetic that both sides (and the tests) must agree on. A shared value has a fixed
//! size and no padding, proved by `bytemuck`'s derive and an assertion beside the type. Addresses are arrays in
//! network order, as they stand in the packet.
//!
//! Whoever changes the meaning or the size of anything here raises [`LAYOUT`].

#![cfg_attr(not(test), no_std)]

pub mod checksum;
mod counters;
mod direct;
pub mod flow;
pub mod mac1;
mod route;
mod trace;
pub mod uplink;
mod verdict;

pub use counters::{PeerCounters, Traffic};
pub use direct::{Direct4, Direct6, Network6};
pub use route::{PeerSlot, Route};
pub use trace::{Event, EventBytes, Header, Switches, Trace};
pub use uplink::UplinkVerdict;
pub use verdict::Verdict;

/// The number of this layout. It stands in the object as a global ([`global::LAYOUT`]) and in the pin path
/// (`/sys/fs/bpf/relay/<interface>/<LAYOUT>/`); a loader refuses an object whose number is not its own.
///
/// The feature `next-layout` makes the next one, which tests upgrade to and come back from.
pub const LAYOUT: u32 = 6 + cfg!(feature = "next-layout") as u32;

/// How many peers have counters and take the fast path. Slots run from 0 to `MAX_PEERS - 1`; what does not fit goes
/// by the kernel's own path.
pub const MAX_PEERS: u32 = 16_384;

/// How many single addresses per family the exact-match maps hold (peers' own, the hub's own, broadcasts).
pub const MAX_HOSTS: u32 = 65_536;

/// How many LAN prefixes per family the tries hold.
pub const MAX_LANS: u32 = 16_384;

/// Names of the programs in the object.
pub mod program {
    /// TC classifier on the tunnel interface's ingress.
    pub const TUNNEL: &str = "tunnel";
    /// XDP program on the interface that leads to the internet.
    pub const UPLINK: &str = "uplink";
}

/// Names of the globals that the loader sets before it loads the object.
pub mod global {
    /// `u32`: [`crate::LAYOUT`] as the object was built with; read by the loader, never overridden.
    pub const LAYOUT: &str = "LAYOUT";
    /// `u32`: bytes in front of the IP header, 0 on a tunnel. Tests that run `tunnel` by `BPF_PROG_TEST_RUN` set 14,
    /// since the kernel gives such packets an Ethernet header.
    pub const L2_LEN: &str = "L2_LEN";
}

/// Names of the maps, with key and value.
pub mod map {
    /// Array, 1 entry of [`crate::Switches`], which can be mapped into memory.
    pub const SWITCHES: &str = "SWITCHES";
    /// Array, [`crate::Direct4::PLACES`] entries of [`crate::Direct4`], which can be mapped into memory: single IPv4
    /// addresses, each at the place that its lower half says.
    pub const DIRECT4: &str = "DIRECT4";
    /// Array, [`crate::Direct6::WORDS`] entries of `u64`, which can be mapped into memory: single IPv6 addresses of one
    /// network, each a [`crate::Direct6`] at the place that its last two bytes say; then the network.
    pub const DIRECT6: &str = "DIRECT6";
    /// Hash `[u8; 4]` → [`crate::Route`]: single IPv4 addresses whose place in DIRECT4 another one has; not asked while
    /// [`crate::Switches::all_direct4`].
    pub const HOSTS4: &str = "HOSTS4";
    /// Hash `[u8; 16]` → [`crate::Route`]: single IPv6 addresses whose place in DIRECT6 another one has, or of another
    /// network; not asked while [`crate::Switches::all_direct6`].
    pub const HOSTS6: &str = "HOSTS6";
    /// LPM trie over `[u8; 4]` → [`crate::Route`]: IPv4 prefixes shorter than /32.
    pub const LANS4: &str = "LANS4";
    /// LPM trie over `[u8; 16]` → [`crate::Route`]: IPv6 prefixes shorter than /128.
    pub const LANS6: &str = "LANS6";
    /// Per-CPU array by slot of [`crate::PeerCounters`].
    pub const PEER_COUNTERS: &str = "PEER_COUNTERS";
    /// Per-CPU array by [`crate::Verdict`] of `u64` packets (segments of a GSO packet counted as packets).
    pub const VERDICTS: &str = "VERDICTS";
    /// Hash `[u8; 32]` (public key) → `u32` slot. Only userspace reads and writes it: it tells whose counters a slot
    /// holds, also when no daemon runs.
    pub const PEERS: &str = "PEERS";
    /// Array, 1 entry of [`crate::Trace`]: what the tracer wants to be told.
    pub const TRACE: &str = "TRACE";
    /// Per-CPU array, 1 entry of `u64`: how many events there were for a tracer, those for which its ring buffer had no
    /// room included.
    pub const TRACED: &str = "TRACED";
    /// Ring buffer of [`TRACE_BUFFER`] bytes with the events themselves, as aya-log writes them.
    pub const AYA_LOGS: &str = "AYA_LOGS";
    /// aya-log's own choice.
    pub const TRACE_BUFFER: u32 = 128 << 10;
    /// Array, 1 entry of [`crate::uplink::UplinkSettings`].
    pub const UPLINK_SETTINGS: &str = "UPLINK_SETTINGS";
    /// Hash `[u8; 16]` → `u32`, always 1: this machine's addresses, IPv4 ones mapped (RFC 4291 2.5.5.2).
    pub const UPLINK_LOCAL: &str = "UPLINK_LOCAL";
    /// LPM trie over `[u8; 16]`, IPv4 mapped → [`crate::uplink::PrefixRule`].
    pub const UPLINK_PREFIXES: &str = "UPLINK_PREFIXES";
    /// Hash [`crate::uplink::SourceKey`] → `u64`: sources with a live session, and the state of their
    /// [`crate::uplink::UplinkSettings::reserve`].
    pub const UPLINK_LIVE: &str = "UPLINK_LIVE";
    /// LRU hash [`crate::uplink::SourceKey`] → [`crate::uplink::UplinkSource`].
    pub const UPLINK_SOURCES: &str = "UPLINK_SOURCES";
    /// LRU hash `[u8; 32]` (the ephemeral key of an initiation that passed) → `u64`, the time.
    pub const UPLINK_INITIATIONS: &str = "UPLINK_INITIATIONS";
    /// Array by [`crate::uplink::bucket`] of `u64`.
    pub const UPLINK_BUCKETS: &str = "UPLINK_BUCKETS";
    /// Array of cells of [`crate::uplink::turned_away`], each a `u64`.
    pub const UPLINK_TURNED_AWAY: &str = "UPLINK_TURNED_AWAY";
    /// Per-CPU array by [`crate::UplinkVerdict`] of `u64` packets.
    pub const UPLINK_VERDICTS: &str = "UPLINK_VERDICTS";
}
