//! What of a frame is a datagram to the listen port.

use core::mem::offset_of;

use network_types::{
    eth::{EthHdr, EtherType},
    ip::{IpProto, Ipv4Hdr, Ipv6Hdr},
    udp::UdpHdr,
};
use relay_common::{UplinkVerdict, uplink::UplinkSettings};

use super::{frame::Frame, maps};
use crate::{maps::packed, mutant};

/// An address of either family as two words in network order, IPv4 ones mapped (RFC 4291 2.5.5.2). The second one of a
/// mapped address is its [`relay_common::uplink::SourceKey`].
pub(crate) type Address = [u64; 2];

/// A datagram to the listen port on an address of this machine.
pub(crate) struct Datagram {
    /// Where it says it comes from.
    pub(crate) from: Address,
    /// The [`relay_common::uplink::SourceKey`] of that.
    pub(crate) source: u64,
    /// Where its payload begins in the frame.
    pub(crate) payload: u32,
    /// What the IP header says about the length of what follows it.
    pub(crate) ip_length: u32,
    /// What the UDP header says about the same.
    pub(crate) udp_length: u32,
    /// The first four bytes of the payload, a number in WireGuard's byte order; [`NO_KIND`] where there are none. (Of an
    /// `Option` the verifier would see a part that nobody has written.)
    pub(crate) kind: u64,
}

/// More than four bytes can say.
pub(crate) const NO_KIND: u64 = u64::MAX;

/// Where the parts of a frame begin; a VLAN's tag would be in front, and such frames are not ours.
const IP: usize = EthHdr::LEN;
const UDP4: usize = IP + Ipv4Hdr::LEN;
const UDP6: usize = IP + Ipv6Hdr::LEN;

const UDP: u8 = IpProto::Udp as u8;

/// The datagram in a frame, or why there is none to judge. What is most of a machine's traffic is left first.
#[inline(always)]
pub(crate) fn parse(frame: &Frame, settings: &UplinkSettings) -> Result<Datagram, UplinkVerdict> {
    const IPV4: u16 = EtherType::Ipv4 as u16;
    const IPV6: u16 = EtherType::Ipv6 as u16;
    const ETHER_TYPE: usize = offset_of!(EthHdr, ether_type);
    let Some([ether_type]) = frame.words(ETHER_TYPE) else { return Err(UplinkVerdict::NotOurs) };
    match ether_type {
        IPV4 => v4(frame, settings),
        IPV6 => v6(frame, settings),
        _ => Err(UplinkVerdict::NotOurs),
    }
}

#[inline(always)]
fn v4(frame: &Frame, settings: &UplinkSettings) -> Result<Datagram, UplinkVerdict> {
    const TOTAL_LENGTH: usize = offset_of!(Ipv4Hdr, tot_len) / 2;
    const FRAGMENT: usize = offset_of!(Ipv4Hdr, frags) / 2;
    const PROTOCOL: usize = offset_of!(Ipv4Hdr, ttl) / 2;
    const SOURCE: usize = offset_of!(Ipv4Hdr, src_addr) / 2;
    const DESTINATION: usize = offset_of!(Ipv4Hdr, dst_addr) / 2;
    /// Not the first fragment, or more of them follow.
    const IS_FRAGMENT: u16 = u16::from_be_bytes([0x3f, 0xff]);

    let Some(header) = frame.words::<{ Ipv4Hdr::LEN / 2 }>(IP) else { return Err(UplinkVerdict::NotOurs) };
    let [_, protocol] = header[PROTOCOL].to_ne_bytes();
    if protocol != UDP {
        return Err(UplinkVerdict::NotOurs);
    }
    let [version_ihl, _] = header[0].to_ne_bytes();
    if version_ihl != 0x45 && !mutant::UPLINK_OPTIONS_JUDGED {
        return Err(UplinkVerdict::Odd);
    }
    if u16::from_be(header[FRAGMENT]) & IS_FRAGMENT != 0 && !mutant::UPLINK_FRAGMENTS_JUDGED {
        return Err(UplinkVerdict::Fragment);
    }
    let udp = Udp::read::<UDP4>(frame, settings)?;
    let mapped = |at: usize| [0, packed([0, u16::MAX, header[at], header[at + 1]])];
    if !is_local(&settings.usual[0], &mapped(DESTINATION)) {
        return Err(UplinkVerdict::NotOurs);
    }
    let total = u32::from(u16::from_be(header[TOTAL_LENGTH]));
    let ip_length = total.checked_sub(Ipv4Hdr::LEN as u32).ok_or(UplinkVerdict::Odd)?;
    let from = mapped(SOURCE);
    Ok(udp.datagram::<UDP4>(frame, from, from[1], ip_length))
}

#[inline(always)]
fn v6(frame: &Frame, settings: &UplinkSettings) -> Result<Datagram, UplinkVerdict> {
    const PAYLOAD_LENGTH: usize = offset_of!(Ipv6Hdr, payload_len) / 2;
    const NEXT_HEADER: usize = offset_of!(Ipv6Hdr, next_hdr) / 2;
    const SOURCE: usize = offset_of!(Ipv6Hdr, src_addr) / 2;
    const DESTINATION: usize = offset_of!(Ipv6Hdr, dst_addr) / 2;
    const FRAGMENT: u8 = IpProto::Ipv6Frag as u8;

    let Some(header) = frame.words::<{ Ipv6Hdr::LEN / 2 }>(IP) else { return Err(UplinkVerdict::NotOurs) };
    let [next_header, _] = header[NEXT_HEADER].to_ne_bytes();
    match next_header {
        UDP => {}
        FRAGMENT => return Err(UplinkVerdict::Fragment),
        _ => return Err(UplinkVerdict::NotOurs),
    }
    let [version, _] = header[0].to_ne_bytes();
    if version >> 4 != 6 {
        return Err(UplinkVerdict::Odd);
    }
    let udp = Udp::read::<UDP6>(frame, settings)?;
    let address = |at: usize| {
        let word = |at: usize| packed([header[at], header[at + 1], header[at + 2], header[at + 3]]);
        [word(at), word(at + 4)]
    };
    if !is_local(&settings.usual[1], &address(DESTINATION)) {
        return Err(UplinkVerdict::NotOurs);
    }
    let ip_length = u32::from(u16::from_be(header[PAYLOAD_LENGTH]));
    let from = address(SOURCE);
    let source = if mutant::UPLINK_WHOLE_ADDRESS_IS_SOURCE { from[0] ^ from[1] } else { from[0] };
    Ok(udp.datagram::<UDP6>(frame, from, source, ip_length))
}

/// Whether an address is this machine's: the one that most comes to, or one of the others.
#[inline(always)]
fn is_local(usual: &Address, address: &Address) -> bool {
    let is_usual = usual[0] == address[0] && usual[1] == address[1] && usual[1] != 0;
    is_usual || maps::is_local(address) || mutant::UPLINK_ADDRESS_OF_OTHERS_JUDGED
}

/// A UDP header to the listen port.
struct Udp {
    length: u32,
}

impl Udp {
    #[inline(always)]
    fn read<const AT: usize>(frame: &Frame, settings: &UplinkSettings) -> Result<Self, UplinkVerdict> {
        let Some([_, to, length, _]) = frame.words::<{ UdpHdr::LEN / 2 }>(AT) else {
            return Err(UplinkVerdict::NotOurs);
        };
        if u32::from(u16::from_be(to)) != settings.port && !mutant::UPLINK_PORT_OF_OTHERS_JUDGED {
            return Err(UplinkVerdict::NotOurs);
        }
        Ok(Self { length: u16::from_be(length).into() })
    }

    #[inline(always)]
    fn datagram<const AT: usize>(
        self,
        frame: &Frame,
        from: Address,
        source: u64,
        ip_length: u32,
    ) -> Datagram {
        let kind = frame.words::<2>(AT + UdpHdr::LEN);
        let kind = kind.map_or(NO_KIND, |[low, high]| {
            u64::from(u16::from_le(low)) | u64::from(u16::from_le(high)) << 16
        });
        let payload = (AT + UdpHdr::LEN) as u32;
        Datagram { from, source, payload, ip_length, udp_length: self.length, kind }
    }
}
