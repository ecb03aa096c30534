//! The MSS of TCP SYNs, lowered to what the tunnel carries.
//!
//! It must come out as from the stack's rule, `tcp flags syn tcp option maxseg size set rt mtu`: that finds the first
//! MSS option wherever it stands, only ever lowers it, and leaves alone a SYN that has none (net/netfilter/nft_exthdr.c).
//! Here only an option at a constant offset can be found, the first, where common stacks put it. Other SYNs with
//! options go to the stack.

use network_types::tcp::TcpHdr;
use relay_common::Verdict;

use crate::{mutant, packet::Packet};

/// A TCP header without options, in bytes.
pub(crate) const TCP_LEN: usize = TcpHdr::LEN;

/// Byte offset of the checksum, and word that holds data offset and flags.
const CHECKSUM: usize = core::mem::offset_of!(TcpHdr, check);
const OFFSET_FLAGS: usize = core::mem::offset_of!(TcpHdr, _bitfield_1) / 2;

const FIN: u8 = 0x01;
const SYN: u8 = 0x02;
const RST: u8 = 0x04;

/// Kind and length of the MSS option (RFC 9293 3.1).
const KIND_LENGTH: u16 = u16::from_ne_bytes([2, 4]);

/// An MSS to be lowered. Words as they stand in the packet.
struct Clamp {
    /// Byte offset of the TCP header.
    tcp: usize,
    old: u16,
    new: u16,
}

/// Lowers the MSS of the unfragmented TCP segment that starts at byte `TCP`, on a path of `mtu` bytes of which `headers`
/// are no payload. Does nothing to all but SYNs.
#[inline(always)]
pub(crate) fn clamp<const TCP: usize>(packet: &mut Packet, mtu: u32, headers: u32) -> Result<(), Verdict> {
    match inspect::<TCP>(packet, mtu, headers)? {
        Some(clamp) => clamp.apply(packet),
        None => Ok(()),
    }
}

#[inline(always)]
fn inspect<const TCP: usize>(packet: &mut Packet, mtu: u32, headers: u32) -> Result<Option<Clamp>, Verdict> {
    let [data_offset, flags] = offset_and_flags::<TCP>(packet)?;
    if flags & SYN == 0 {
        return Ok(None);
    }
    // Such a segment opens no connection, and rules tell it from a SYN in more ways than one.
    if flags & (RST | FIN) != 0 {
        return Err(Verdict::Mss);
    }
    let length = usize::from(data_offset >> 4) * 4;
    if length < TCP_LEN || TCP + length > packet.len() as usize {
        return Err(Verdict::Malformed);
    }
    if length == TCP_LEN {
        return Ok(None);
    }
    let [KIND_LENGTH, old] = packet.words(TCP + TCP_LEN)? else { return Err(Verdict::Mss) };
    // The rule has answers of its own for an MTU that leaves no room or does not fit the field.
    let limit =
        u16::try_from(mtu).ok().and_then(|mtu| mtu.checked_sub(headers as u16)).ok_or(Verdict::Mss)?;
    let fits = if mutant::MSS_RAISED { u16::from_be(old) == limit } else { u16::from_be(old) <= limit };
    if fits || mutant::MSS_KEPT {
        return Ok(None);
    }
    Ok(Some(Clamp { tcp: TCP, old, new: limit.to_be() }))
}

/// The bytes of data offset and flags, once a whole header without options is there.
#[inline(always)]
fn offset_and_flags<const TCP: usize>(packet: &mut Packet) -> Result<[u8; 2], Verdict> {
    let header: [u16; TCP_LEN / 2] = packet.words(TCP)?;
    Ok(header[OFFSET_FLAGS].to_ne_bytes())
}

impl Clamp {
    /// Writes the lower MSS and its checksum. The checksum goes first: only that can fail, and then the packet is
    /// still whole.
    #[inline(always)]
    fn apply(self, packet: &mut Packet) -> Result<(), Verdict> {
        if !mutant::TCP_CHECKSUM_KEPT {
            packet.update_tcp_checksum(self.tcp + CHECKSUM, self.old, self.new)?;
        }
        packet.write(self.tcp + TCP_LEN + 2, [self.new])
    }
}
