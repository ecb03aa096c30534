//! Counters per peer, summed over CPUs by the reader.

use bytemuck::{Pod, Zeroable};

/// Packets and bytes in one direction. A GSO packet counts its segments as packets; bytes are those of the IP packet
/// as the program sees it (headers of a merged packet once).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Pod, Zeroable)]
#[repr(C)]
pub struct Traffic {
    /// Packets.
    pub packets: u64,
    /// Bytes, from the IP header on.
    pub bytes: u64,
}

/// What the fast path carried for one peer. A redirect is an attempt: WireGuard's own counters tell delivery.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Pod, Zeroable)]
#[repr(C)]
pub struct PeerCounters {
    /// What the next layout of the tests has in front of the rest, so that nothing stands where it stood.
    #[cfg(feature = "next-layout")]
    pub next: Traffic,
    /// From the peer.
    pub received: Traffic,
    /// To the peer.
    pub sent: Traffic,
}

const _: () = assert!(size_of::<PeerCounters>() == if cfg!(feature = "next-layout") { 48 } else { 32 });
