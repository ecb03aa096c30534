//! IPv6: what makes a packet plain, and what a router does to it.

use core::mem::offset_of;

use network_types::ip::{IpProto, Ipv6Hdr};
use relay_common::Verdict;

use crate::{
    maps::Way,
    mss, mutant,
    packet::{Packet, joined},
};

/// The fixed header, as it stands in the packet.
type Words = [u16; Ipv6Hdr::LEN / 2];

const PAYLOAD_LENGTH: usize = offset_of!(Ipv6Hdr, payload_len) / 2;
/// Next header and hop limit share a word.
const NEXT_HEADER: usize = offset_of!(Ipv6Hdr, next_hdr) / 2;
const SOURCE: usize = offset_of!(Ipv6Hdr, src_addr) / 2;
const DESTINATION: usize = offset_of!(Ipv6Hdr, dst_addr) / 2;

/// The two headers that every TCP segment has, which its MSS leaves room for.
const IP_AND_TCP: u32 = (Ipv6Hdr::LEN + mss::TCP_LEN) as u32;

/// What stands behind a header, as far as the fast path must tell it apart.
enum Next {
    Tcp,
    /// Everything else that ends the chain: UDP, ICMPv6, and ESP, which nobody on the way can read.
    Other,
}

#[inline(always)]
pub(crate) fn forward(packet: &mut Packet) -> Result<Way, Verdict> {
    let header: Words = packet.words(0)?;
    check(&header, packet.len())?;
    let way = Way::v6(packet.in_place(SOURCE * 2)?, packet.in_place(DESTINATION * 2)?)?;
    let next = next(&header)?;
    let mtu = packet.fitting_mtu()?;
    if let Next::Tcp = next {
        mss::clamp::<{ Ipv6Hdr::LEN }>(packet, mtu, IP_AND_TCP)?;
    }
    decrement_hop_limit(&header, packet)?;
    let four = |at: usize| joined([header[at], header[at + 1], header[at + 2], header[at + 3]]);
    let [protocol, _] = header[NEXT_HEADER].to_ne_bytes();
    // Hosts differ by their interface identifiers (RFC 4291 2.5.1); two of one identifier in two networks share a queue.
    packet.set_flow([four(SOURCE + 4), four(DESTINATION + 4)], protocol, Ipv6Hdr::LEN);
    Ok(way)
}

/// RFC 8200 3 (version, length, hop limit) and RFC 4291 2.5 (addresses). A jumbogram has a payload length of zero, which
/// does not fit.
#[inline(always)]
fn check(header: &Words, len: u32) -> Result<(), Verdict> {
    let [version, _] = header[0].to_ne_bytes();
    if version >> 4 != 6 {
        return Err(Verdict::Malformed);
    }
    // WireGuard cuts its padding off, so bytes behind the packet's end are as odd as missing ones.
    let length = u32::from(u16::from_be(header[PAYLOAD_LENGTH])) + Ipv6Hdr::LEN as u32;
    if length != len && !mutant::LENGTH_UNCHECKED {
        return Err(Verdict::Malformed);
    }
    let [_, hop_limit] = header[NEXT_HEADER].to_ne_bytes();
    if hop_limit <= if mutant::TTL_ONE_FORWARDED { 0 } else { 1 } {
        return Err(Verdict::TtlExpired);
    }
    if is_martian(header, SOURCE) && !mutant::MARTIAN_SOURCE_FORWARDED {
        return Err(Verdict::Martian);
    }
    if is_martian(header, DESTINATION) && !mutant::MARTIAN_DESTINATION_FORWARDED {
        return Err(Verdict::Martian);
    }
    Ok(())
}

/// Whether the address that starts at this word is never forwarded: multicast (ff00::/8), link-local (fe80::/10), and
/// all that begins with 80 zero bits: `::`, `::1`, IPv4-compatible addresses (RFC 4291 2.5.5.1, deprecated) and IPv4-mapped ones, whose use
/// on the wire the kernel refuses (`ip6_rcv_core`, draft-itojun-v6ops-v4mapped-harmful).
#[inline(always)]
fn is_martian(header: &Words, at: usize) -> bool {
    let [first, second] = header[at].to_ne_bytes();
    first == 0xff
        || (first == 0xfe && second & 0xc0 == 0x80)
        || header[at] | header[at + 1] | header[at + 2] | header[at + 3] | header[at + 4] == 0
}

/// Refuses hop-by-hop options, which a router must look at, fragments, and all headers behind which a SYN can hide.
#[inline(always)]
fn next(header: &Words) -> Result<Next, Verdict> {
    const TCP: u8 = IpProto::Tcp as u8;
    const FRAGMENT: u8 = IpProto::Ipv6Frag as u8;
    const HOP_BY_HOP: u8 = IpProto::HopOpt as u8;
    const ROUTING: u8 = IpProto::Ipv6Route as u8;
    const AUTHENTICATION: u8 = IpProto::Ah as u8;
    const DESTINATION_OPTIONS: u8 = IpProto::Ipv6Opts as u8;
    const MOBILITY: u8 = IpProto::MobilityHeader as u8;
    const HOST_IDENTITY: u8 = IpProto::Hip as u8;
    const SHIM6: u8 = IpProto::Shim6 as u8;
    let [value, _] = header[NEXT_HEADER].to_ne_bytes();
    match value {
        TCP => Ok(Next::Tcp),
        FRAGMENT if !mutant::FRAGMENTS_FORWARDED => Err(Verdict::Fragment),
        HOP_BY_HOP if mutant::HOP_BY_HOP_FORWARDED => Ok(Next::Other),
        ROUTING if mutant::ROUTING_HEADER_FORWARDED => Ok(Next::Other),
        HOP_BY_HOP | ROUTING | AUTHENTICATION | DESTINATION_OPTIONS => Err(Verdict::Options),
        MOBILITY | HOST_IDENTITY | SHIM6 => Err(Verdict::Options),
        _ => Ok(Next::Other),
    }
}

/// Hop limit − 1 (RFC 8200 3); no checksum covers it.
#[inline(always)]
fn decrement_hop_limit(header: &Words, packet: &mut Packet) -> Result<(), Verdict> {
    let [value, hop_limit] = header[NEXT_HEADER].to_ne_bytes();
    // `check` refused 0, and 1.
    let hop_limit = if mutant::HOP_LIMIT_KEPT { hop_limit } else { hop_limit - 1 };
    packet.write(NEXT_HEADER * 2, [u16::from_ne_bytes([value, hop_limit])])
}
