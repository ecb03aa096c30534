//! The switches of `tunnel`, and what a tracer asks it to tell.

use bytemuck::{Pod, Zeroable};

use crate::{PeerSlot, Verdict};

/// What `tunnel` reads first for every packet. Each word has a writer of its own, which writes nothing but that word.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Pod, Zeroable)]
#[repr(C)]
pub struct Switches {
    /// 1 when the fast path is on; 0 sends everything to the stack as [`Verdict::Off`]. Written by whoever keeps the
    /// interface.
    pub fast_path: u32,
    /// 1 while verdicts are traced, as [`Trace`] says. Set by the tracer, cleared by it or, past [`Trace::until`], by the
    /// program.
    pub trace: u32,
    /// 1 while every single IPv4 address has its place in DIRECT4, so that HOSTS4 is not asked for the others. Written by
    /// whoever keeps the interface.
    pub all_direct4: u32,
    /// The same for IPv6, DIRECT6 and HOSTS6.
    pub all_direct6: u32,
}

const _: () = assert!(size_of::<Switches>() == 16);

/// Which verdicts are told.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Pod, Zeroable)]
#[repr(C)]
pub struct Trace {
    /// Until when, in nanoseconds since boot (CLOCK_BOOTTIME): a tracer that was killed is told nothing any more.
    pub until: u64,
    /// A bit for each [`Verdict`], by its value.
    pub verdicts: u32,
    /// Only packets from or to this peer, or of [`Trace::ANYBODY`].
    pub peer: PeerSlot,
}

const _: () = assert!(size_of::<Trace>() == 16);
const _: () = assert!(Verdict::ALL.len() <= u32::BITS as usize);

impl Trace {
    /// Packets whatever their peers.
    pub const ANYBODY: PeerSlot = u32::MAX;

    /// The bit of a verdict.
    #[must_use]
    #[inline(always)]
    pub const fn bit(verdict: Verdict) -> u32 {
        1 << verdict as u32
    }
}

/// What became of a packet, as it goes through the ring buffer. Words, since the program writes nothing smaller to its
/// stack: see `maps` in relay-ebpf.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Pod, Zeroable)]
#[repr(C)]
pub struct Event {
    /// When, in nanoseconds since boot (CLOCK_BOOTTIME).
    pub time: u64,
    /// Bytes from the IP header on.
    pub bytes: u64,
    /// How many packets it is on the wire.
    pub packets: u64,
    /// The value of its [`Verdict`].
    pub verdict: u64,
    /// What the link layer says that it is, in host order: 0x0800, 0x86dd, or something that is not IP.
    pub ethertype: u64,
    /// What the IP header says: all zero where no whole one is there.
    pub header: Header,
}

/// An IP header, as far as it is told.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Pod, Zeroable)]
#[repr(C)]
pub struct Header {
    /// 4 or 6; 0 where there is no header.
    pub version: u64,
    /// Protocol, or next header.
    pub protocol: u64,
    /// The slot of the peer whose the source is, plus one; 0 for nobody.
    pub from: u64,
    /// As `from`, of the destination.
    pub to: u64,
    /// The source as it stands in the packet; an IPv4 address is the first four bytes.
    pub source: [u64; 2],
    /// As the source.
    pub destination: [u64; 2],
}

/// An event in bytes.
pub type EventBytes = [u8; size_of::<Event>()];

const _: () = assert!(size_of::<Event>() == 13 * size_of::<u64>());
