//! IPv4: what makes a packet plain, and what a router does to it.

use core::mem::offset_of;

use network_types::ip::{IpProto, Ipv4Hdr};
use relay_common::{Verdict, checksum};

use crate::{
    maps::Way,
    mss, mutant,
    packet::{Packet, joined},
};

/// A header without options, as it stands in the packet.
type Words = [u16; Ipv4Hdr::LEN / 2];

const TOTAL_LENGTH: usize = offset_of!(Ipv4Hdr, tot_len) / 2;
const FRAGMENT: usize = offset_of!(Ipv4Hdr, frags) / 2;
/// TTL and protocol share a word, and the checksum follows.
const TTL: usize = offset_of!(Ipv4Hdr, ttl) / 2;
const CHECKSUM: usize = offset_of!(Ipv4Hdr, check) / 2;
const SOURCE: usize = offset_of!(Ipv4Hdr, src_addr) / 2;
const DESTINATION: usize = offset_of!(Ipv4Hdr, dst_addr) / 2;
const _: () = assert!(CHECKSUM == TTL + 1);

/// The two headers that every TCP segment has, which its MSS leaves room for.
const IP_AND_TCP: u32 = (Ipv4Hdr::LEN + mss::TCP_LEN) as u32;

/// Not the first fragment, or more of them follow.
const IS_FRAGMENT: u16 = u16::from_be_bytes([0x3f, 0xff]);

#[inline(always)]
pub(crate) fn forward(packet: &mut Packet) -> Result<Way, Verdict> {
    let header: Words = packet.words(0)?;
    check(&header, packet.len())?;
    let way = Way::v4(packet.in_place(SOURCE * 2)?, packet.in_place(DESTINATION * 2)?)?;
    if u16::from_be(header[FRAGMENT]) & IS_FRAGMENT != 0 && !mutant::FRAGMENTS_FORWARDED {
        return Err(Verdict::Fragment);
    }
    let mtu = packet.fitting_mtu()?;
    if protocol(&header) == IpProto::Tcp as u8 {
        mss::clamp::<{ Ipv4Hdr::LEN }>(packet, mtu, IP_AND_TCP)?;
    }
    decrement_ttl(&header, packet)?;
    let addresses =
        joined([header[SOURCE], header[SOURCE + 1], header[DESTINATION], header[DESTINATION + 1]]);
    packet.set_flow([addresses], protocol(&header), Ipv4Hdr::LEN);
    Ok(way)
}

/// RFC 1812 5.2.2 (validity), 5.3.13 (options), 5.3.1 (TTL) and 5.3.7 (addresses).
#[inline(always)]
fn check(header: &Words, len: u32) -> Result<(), Verdict> {
    let [version_ihl, _] = header[0].to_ne_bytes();
    match version_ihl {
        0x45 => {}
        0x46..=0x4f if !mutant::OPTIONS_FORWARDED => return Err(Verdict::Options),
        0x46..=0x4f => {}
        _ => return Err(Verdict::Malformed),
    }
    // WireGuard cuts its padding off, so bytes behind the packet's end are as odd as missing ones.
    if u32::from(u16::from_be(header[TOTAL_LENGTH])) != len && !mutant::LENGTH_UNCHECKED {
        return Err(Verdict::Malformed);
    }
    // WireGuard marks inner packets as having good checksums, but nobody has looked at the header's.
    if version_ihl == 0x45 && !checksum::ipv4_header_holds(*header) && !mutant::CHECKSUM_UNCHECKED {
        return Err(Verdict::Checksum);
    }
    let [ttl, _] = header[TTL].to_ne_bytes();
    if ttl <= if mutant::TTL_ONE_FORWARDED { 0 } else { 1 } {
        return Err(Verdict::TtlExpired);
    }
    if is_martian(header[SOURCE]) && !mutant::MARTIAN_SOURCE_FORWARDED {
        return Err(Verdict::Martian);
    }
    if is_martian(header[DESTINATION]) && !mutant::MARTIAN_DESTINATION_FORWARDED {
        return Err(Verdict::Martian);
    }
    Ok(())
}

/// Whether an address that starts with this word is never forwarded: 0/8, 127/8, 169.254/16 (RFC 3927 2.7),
/// 224/4, 240/4 with the limited broadcast (RFC 1812 5.3.7, 4.2.2.11).
#[inline(always)]
fn is_martian(first_word: u16) -> bool {
    matches!(first_word.to_ne_bytes(), [0 | 127 | 224.., _] | [169, 254])
}

#[inline(always)]
fn protocol(header: &Words) -> u8 {
    let [_, protocol] = header[TTL].to_ne_bytes();
    protocol
}

/// TTL − 1, and the checksum with it (RFC 1812 5.3.1, 4.2.2.5).
#[inline(always)]
fn decrement_ttl(header: &Words, packet: &mut Packet) -> Result<(), Verdict> {
    let [ttl, protocol] = header[TTL].to_ne_bytes();
    // `check` refused 0, and 1.
    let ttl = if mutant::TTL_KEPT { ttl } else { ttl - 1 };
    let word = u16::from_ne_bytes([ttl, protocol]);
    let check = mutant::checksum(header[CHECKSUM], header[TTL], word, checksum::update);
    packet.write(TTL * 2, [word, check])
}
