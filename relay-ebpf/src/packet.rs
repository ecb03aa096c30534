//! The one door to packet memory and to the helpers that take the packet.
//!
//! A packet is read and written as 16-bit words in network order, copied in and out. Words, because the kernel
//! aligns network headers at least so far, and one load takes two bytes; copies, because helpers may move the packet and
//! the verifier then forgets every pointer into it.
//!
//! Offsets are immediate values in the instructions: one that comes from a register, and be its value known, makes the
//! verifier ask for CAP_PERFMON besides CAP_NET_ADMIN and CAP_BPF (`sanitize_ptr_alu`, against Spectre v1).

use core::arch::asm;

use aya_ebpf::{
    Global,
    bindings::{__sk_buff, bpf_check_mtu_flags::BPF_MTU_CHK_SEGS},
    helpers::{bpf_check_mtu, bpf_redirect, bpf_set_hash},
    programs::TcContext,
};
use network_types::{eth::EthHdr, ip::IpProto};
use relay_common::{Verdict, flow};

use crate::mutant;

/// [`relay_common::global::L2_LEN`]: bytes in front of the IP header. A tunnel has none, and the only other value
/// that is understood is an Ethernet header's length.
#[unsafe(no_mangle)]
static L2_LEN: Global<u32> = Global::new(0);

/// What is made linear where headers are not: the longest that is looked at, IPv6, TCP and the MSS option.
const HEADERS: u32 = 40 + 20 + 4;

/// A packet on the tunnel. Offsets count from the IP header.
pub(crate) struct Packet {
    context: TcContext,
    l2_len: u32,
}

/// The promise of [`Packet::redirect`], to be returned from the program.
pub(crate) struct Redirect(i32);

impl Redirect {
    #[inline(always)]
    pub(crate) fn action(self) -> i32 {
        self.0
    }
}

impl Packet {
    #[inline(always)]
    pub(crate) fn new(context: TcContext) -> Self {
        let l2_len = L2_LEN.load();
        Self { context, l2_len }
    }

    /// The kernel's own context, to make another [`Packet`] of in a function of its own.
    #[inline(always)]
    pub(crate) fn context(&self) -> *mut __sk_buff {
        self.context.skb.skb
    }

    /// The EtherType that the kernel gave the packet.
    #[inline(always)]
    pub(crate) fn protocol(&self) -> u16 {
        self.context.skb.protocol() as u16
    }

    /// Bytes from the IP header on; a GSO packet's as it stands, merged.
    #[inline(always)]
    pub(crate) fn len(&self) -> u32 {
        self.context.len().saturating_sub(self.l2_len)
    }

    /// How many packets this one will be on the wire: the segments of a GSO packet, else 1.
    #[inline(always)]
    pub(crate) fn segments(&self) -> u64 {
        // SAFETY: the kernel gave this context to the program, and the field may be read by classifiers.
        let segments = unsafe { (*self.context.skb.skb).gso_segs };
        if segments == 0 || mutant::GSO_COUNTED_AS_ONE { 1 } else { u64::from(segments) }
    }

    /// Copies `N` words out, from byte `offset` on.
    ///
    /// # Errors
    ///
    /// [`Verdict::Malformed`] where the packet ends before, [`Verdict::Internal`] where the kernel would not make
    /// these bytes readable.
    #[inline(always)]
    pub(crate) fn words<const N: usize>(&mut self, offset: usize) -> Result<[u16; N], Verdict> {
        if let Some(words) = self.linear(offset) {
            // SAFETY: `linear` compared the end of these words with the packet's end.
            return Ok(unsafe { words.read() });
        }
        if self.len() < (offset + size_of::<[u16; N]>()) as u32 {
            return Err(Verdict::Malformed);
        }
        let headers = self.context.len().min(self.l2_len + HEADERS);
        self.context.pull_data(headers).map_err(|_| Verdict::Internal)?;
        let words = self.linear(offset).ok_or(Verdict::Internal)?;
        // SAFETY: as above, with the packet's bounds read anew since the helper may have moved it.
        Ok(unsafe { words.read() })
    }

    /// The `N` words from byte `offset` on where they stand, for words that were read before. Map helpers take a key from
    /// there, which saves the copy.
    ///
    /// # Errors
    ///
    /// [`Verdict::Internal`] where they were not.
    #[inline(always)]
    pub(crate) fn in_place<const N: usize>(&self, offset: usize) -> Result<&[u16; N], Verdict> {
        let words = self.linear(offset).ok_or(Verdict::Internal)?;
        // SAFETY: `linear` compared the end of these words with the packet's end, and what moves or changes the packet
        // takes `&mut self`.
        Ok(unsafe { &*words })
    }

    /// Overwrites `N` words from byte `offset` on. Words that were read before can be written: reading made them
    /// linear, and the kernel gives a program that writes its own copy of a shared packet before it starts.
    #[inline(always)]
    pub(crate) fn write<const N: usize>(&mut self, offset: usize, words: [u16; N]) -> Result<(), Verdict> {
        let place = self.linear(offset).ok_or(Verdict::Internal)?;
        // SAFETY: `linear` compared the end of these words with the packet's end, and `&mut self` is the only way in.
        unsafe { place.write(words) };
        Ok(())
    }

    /// Updates the TCP checksum at byte `offset` for a word of the segment that changes from `old` to `new`, as
    /// the stack does: where a checksum is still to be filled in (CHECKSUM_PARTIAL) the field holds only the
    /// pseudo header's sum and stays. A failure leaves the packet as it was.
    #[inline(always)]
    pub(crate) fn update_tcp_checksum(&mut self, offset: usize, old: u16, new: u16) -> Result<(), Verdict> {
        /// The size of what changed, in the low bits of the helper's flags (BPF_F_HDR_FIELD_MASK).
        const TWO_BYTES: u64 = 2;
        self.context
            .l4_csum_replace(self.l2_len as usize + offset, old.into(), new.into(), TWO_BYTES)
            .map_err(|_| Verdict::Internal)
    }

    /// The tunnel's MTU in bytes, once the packet, or each segment that a GSO packet will be cut into, fits it.
    #[inline(always)]
    pub(crate) fn fitting_mtu(&mut self) -> Result<u32, Verdict> {
        /// The device that the packet is on.
        const SAME_DEVICE: u32 = 0;
        /// The only length change that BPF_MTU_CHK_SEGS allows.
        const NO_CHANGE: i32 = 0;
        // The only input that BPF_MTU_CHK_SEGS allows, and "take the packet's own length" to the kernel. Eight bytes for
        // the reason that `maps` gives.
        let mut answer = 0_u64;
        let mtu = (&raw mut answer).cast::<u32>();
        let flags = if mutant::GSO_MTU_IGNORED { 0 } else { BPF_MTU_CHK_SEGS };
        // SAFETY: the context is the one given to the program, and `mtu` points to a number that outlives the call.
        let verdict =
            unsafe { bpf_check_mtu(self.context.skb.skb.cast(), SAME_DEVICE, mtu, NO_CHANGE, flags.into()) };
        // SAFETY: as above; the number was 0 before the helper wrote it.
        let mtu = unsafe { *mtu };
        match verdict {
            0 => Ok(mtu),
            1.. if mutant::MTU_IGNORED => Ok(mtu),
            1.. => Err(Verdict::TooBig),
            _ => Err(Verdict::Internal),
        }
    }

    /// Tells the kernel what flow the packet is of, between these addresses. WireGuard asks for that before it encrypts
    /// (drivers/net/wireguard/send.c, `encrypt_packet`), so that queues behind it can keep flows apart, and the kernel
    /// would have to take the packet apart and hash what it finds.
    ///
    /// `behind` is where the protocol's own header stands. Ports that cannot be read at once are left out.
    #[inline(always)]
    pub(crate) fn set_flow<const N: usize>(&mut self, addresses: [u64; N], protocol: u8, behind: usize) {
        const TCP: u8 = IpProto::Tcp as u8;
        const UDP: u8 = IpProto::Udp as u8;
        let ports = match protocol {
            TCP | UDP => self.in_place(behind).copied().unwrap_or_default(),
            _ => [0; 2],
        };
        let ports = joined([protocol.into(), 0, ports[0], ports[1]]);
        // SAFETY: the context is the one given to the program. It cannot fail, and a packet without a hash gets one later.
        unsafe { bpf_set_hash(self.context.skb.skb, flow::hash(addresses, ports)) };
    }

    /// Asks the kernel to send the packet out of the device that it came in by.
    #[inline(always)]
    pub(crate) fn redirect(&mut self) -> Redirect {
        const TO_EGRESS: u64 = 0;
        // SAFETY: the kernel gave this context to the program, and the field may be read by classifiers.
        let device = unsafe { (*self.context.skb.skb).ifindex };
        // SAFETY: the helper takes two numbers and checks both.
        Redirect(unsafe { bpf_redirect(device, TO_EGRESS) } as i32)
    }

    /// Where the `N` words from byte `offset` on stand, if all of them lie in the packet's linear part.
    #[inline(always)]
    fn linear<const N: usize>(&self, offset: usize) -> Option<*mut [u16; N]> {
        let start = self.ip_header() + offset;
        let end = start + size_of::<[u16; N]>();
        (end <= self.context.data_end()).then_some(start as *mut [u16; N])
    }

    /// Where the IP header starts. The verifier knows [`L2_LEN`] and removes the branch that is not taken; the compiler,
    /// left to itself, would make of both one addition of a register.
    #[inline(always)]
    fn ip_header(&self) -> usize {
        let data = self.context.data();
        if self.l2_len == 0 { data } else { behind_ethernet(data) }
    }
}

/// Four words as one.
#[inline(always)]
pub(crate) const fn joined([a, b, c, d]: [u16; 4]) -> u64 {
    a as u64 | (b as u64) << 16 | (c as u64) << 32 | (d as u64) << 48
}

/// Fourteen bytes on, as an immediate value that no optimisation turns into a register. (`black_box` would pass the
/// pointer through the stack, with what `maps` says of that.)
#[inline(always)]
fn behind_ethernet(data: usize) -> usize {
    let ip: usize;
    // SAFETY: one addition in one register.
    unsafe {
        asm!("{0} += {len}", inlateout(reg) data => ip, len = const EthHdr::LEN, options(nomem, nostack));
    }
    ip
}
