//! What became of packets, told to a tracer. Nothing here runs while nobody traces, and it is no part of `tunnel`'s own
//! function, so that it costs that neither registers nor stack.

use core::mem::offset_of;

use aya_ebpf::{bindings::__sk_buff, helpers::bpf_ktime_get_boot_ns, programs::TcContext};
use aya_log_ebpf::info;
use network_types::{
    eth::EtherType,
    ip::{Ipv4Hdr, Ipv6Hdr},
};
use relay_common::{Event, EventBytes, Header, PeerSlot, Trace};

use crate::{
    maps::{self, packed},
    mutant,
    packet::Packet,
};

/// Tells what became of a packet, if the tracer wants to know.
#[inline(never)]
pub(crate) fn tell(context: *mut __sk_buff, verdict: u32) {
    const IPV4: u16 = EtherType::Ipv4 as u16;
    const IPV6: u16 = EtherType::Ipv6 as u16;

    let Some(trace) = maps::trace() else { return };
    // SAFETY: the helper takes nothing and reads a clock.
    let time = unsafe { bpf_ktime_get_boot_ns() };
    if time >= trace.until && !mutant::TRACED_FOREVER {
        return maps::end_trace();
    }
    if trace.verdicts & (1 << verdict) == 0 && !mutant::EVERY_VERDICT_TRACED {
        return;
    }
    let mut packet = Packet::new(TcContext::new(context));
    let header = match packet.protocol() {
        IPV4 => header4(&mut packet),
        IPV6 => header6(&mut packet),
        _ => None,
    };
    let header = header.unwrap_or(Header {
        version: 0,
        protocol: 0,
        from: 0,
        to: 0,
        source: [0; 2],
        destination: [0; 2],
    });
    let peer = u64::from(trace.peer) + 1;
    let concerned = trace.peer == Trace::ANYBODY || header.from == peer || header.to == peer;
    if !concerned && !mutant::EVERYBODY_TRACED {
        return;
    }
    let event = Event {
        time,
        bytes: packet.len().into(),
        packets: packet.segments(),
        verdict: verdict.into(),
        ethertype: u16::from_be(packet.protocol()).into(),
        header,
    };
    maps::count_traced();
    // SAFETY: a struct of words without padding.
    let bytes: &EventBytes = unsafe { &*(&raw const event).cast() };
    info!(context, target: "", "{:x}", bytes);
}

#[inline(always)]
fn header4(packet: &mut Packet) -> Option<Header> {
    const PROTOCOL: usize = offset_of!(Ipv4Hdr, proto);
    const SOURCE: usize = offset_of!(Ipv4Hdr, src_addr);
    const DESTINATION: usize = offset_of!(Ipv4Hdr, dst_addr);
    let header: [u16; Ipv4Hdr::LEN / 2] = packet.words(0).ok()?;
    let [_, protocol] = header[PROTOCOL / 2].to_ne_bytes();
    let address = |at: usize| [packed([header[at / 2], header[at / 2 + 1], 0, 0]), 0];
    Some(Header {
        version: 4,
        protocol: protocol.into(),
        from: plus_one(maps::owner4(packet.in_place(SOURCE).ok()?)),
        to: plus_one(maps::owner4(packet.in_place(DESTINATION).ok()?)),
        source: address(SOURCE),
        destination: address(DESTINATION),
    })
}

#[inline(always)]
fn header6(packet: &mut Packet) -> Option<Header> {
    const NEXT_HEADER: usize = offset_of!(Ipv6Hdr, next_hdr);
    const SOURCE: usize = offset_of!(Ipv6Hdr, src_addr);
    const DESTINATION: usize = offset_of!(Ipv6Hdr, dst_addr);
    let header: [u16; Ipv6Hdr::LEN / 2] = packet.words(0).ok()?;
    let [protocol, _] = header[NEXT_HEADER / 2].to_ne_bytes();
    let half =
        |at: usize| packed([header[at / 2], header[at / 2 + 1], header[at / 2 + 2], header[at / 2 + 3]]);
    let address = |at: usize| [half(at), half(at + 8)];
    Some(Header {
        version: 6,
        protocol: protocol.into(),
        from: plus_one(maps::owner6(packet.in_place(SOURCE).ok()?)),
        to: plus_one(maps::owner6(packet.in_place(DESTINATION).ok()?)),
        source: address(SOURCE),
        destination: address(DESTINATION),
    })
}

/// A slot as an event has it.
#[inline(always)]
fn plus_one(slot: Option<PeerSlot>) -> u64 {
    match slot {
        Some(slot) => u64::from(slot) + 1,
        None => 0,
    }
}
