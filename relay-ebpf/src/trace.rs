//! What became of packets, told to a tracer. Nothing here runs while nobody traces.
//!
//! An event goes through aya-log's ring buffer in aya-log's format, and aya-log reads it. It is not written by aya-log's
//! macros: their bounds are checked at run time, and on a path that a CPU might mispredict kernel 6.1 sees the check fail,
//! and asks for CAP_PERFMON. A record that is always alike has none to check.

use core::mem::offset_of;

use aya_ebpf::{
    bindings::__sk_buff, btf_maps::RingBuf, helpers::bpf_ktime_get_boot_ns, macros::btf_map,
    programs::TcContext,
};
use aya_log_common::{ArgumentKind, DisplayHint, Level, RecordFieldKind};
use network_types::{
    eth::EtherType,
    ip::{Ipv4Hdr, Ipv6Hdr},
};
use relay_common::{Event, Header, PeerSlot, Trace, map};

use crate::{
    maps::{self, packed},
    mutant,
    packet::Packet,
};

// No type of its records: libbpf, and with it bpftool, takes none of a ring buffer.
#[btf_map]
static AYA_LOGS: RingBuf<(), { map::TRACE_BUFFER as usize }> = RingBuf::new();

/// Words of an event.
const EVENT: usize = size_of::<Event>() / size_of::<u64>();

/// What stands in front of an event: the size of the whole, then fields, each of them a tag, a length of two bytes and a
/// value. The target is as long as it is so that the event stands on a word.
const PREFIX: [u64; 5] = {
    let [size, size_high] = ((size_of::<[u64; 5]>() + size_of::<Event>()) as u16).to_ne_bytes();
    let [length, length_high] = (size_of::<Event>() as u16).to_ne_bytes();
    let [one, one_high] = 1_u16.to_ne_bytes();
    let [four, four_high] = 4_u16.to_ne_bytes();
    let target = *b"tell";
    let [line, arguments] = [0_u32.to_ne_bytes(), 2_u32.to_ne_bytes()];
    [
        u64::from_ne_bytes([
            size,
            size_high,
            RecordFieldKind::Target as u8,
            four,
            four_high,
            target[0],
            target[1],
            target[2],
        ]),
        u64::from_ne_bytes([
            target[3],
            RecordFieldKind::Level as u8,
            one,
            one_high,
            Level::Info as u8,
            RecordFieldKind::Module as u8,
            0,
            0,
        ]),
        u64::from_ne_bytes([
            RecordFieldKind::File as u8,
            0,
            0,
            RecordFieldKind::Line as u8,
            four,
            four_high,
            line[0],
            line[1],
        ]),
        u64::from_ne_bytes([
            line[2],
            line[3],
            RecordFieldKind::NumArgs as u8,
            four,
            four_high,
            arguments[0],
            arguments[1],
            arguments[2],
        ]),
        u64::from_ne_bytes([
            arguments[3],
            ArgumentKind::DisplayHint as u8,
            one,
            one_high,
            DisplayHint::LowerHex as u8,
            ArgumentKind::Bytes as u8,
            length,
            length_high,
        ]),
    ]
};

/// Tells what became of a packet, if the tracer wants to know.
#[inline(always)]
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
    maps::count_traced();
    let Some(mut record) = AYA_LOGS.reserve_untyped::<[u64; PREFIX.len() + EVENT]>(0) else { return };
    let event = [
        time,
        packet.len().into(),
        packet.segments(),
        verdict.into(),
        u16::from_be(packet.protocol()).into(),
        header.version,
        header.protocol,
        header.from,
        header.to,
        header.source[0],
        header.source[1],
        header.destination[0],
        header.destination[1],
    ];
    record.write(words(event));
    record.submit(0);
}

/// A record, of an event's words in their order.
#[inline(always)]
fn words(event: [u64; EVENT]) -> [u64; PREFIX.len() + EVENT] {
    let [a, b, c, d, e] = PREFIX;
    let [f, g, h, i, j, k, l, m, n, o, p, q, r] = event;
    [a, b, c, d, e, f, g, h, i, j, k, l, m, n, o, p, q, r]
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
