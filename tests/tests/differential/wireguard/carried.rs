//! What WireGuard makes of a packet on its way from a spoke to the hub, by its own rules (drivers/net/wireguard: device.c,
//! send.c, receive.c). Rows are judged by what arrives at the hub, which for a malformed packet is not what was sent.

use std::{
    net::{IpAddr, Ipv4Addr, Ipv6Addr},
    sync::LazyLock,
};

use ipnet::IpNet;
use relay_tests::tun::VnetHeader;

use crate::{
    hub::Sent,
    peers::{self, HOME, PHONE},
};

/// Plaintext is padded to a multiple of so many bytes (MESSAGE_PADDING_MULTIPLE).
const PADDING: usize = 16;

/// A spoke.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Spoke {
    Phone,
    Home,
}

/// Why WireGuard does not carry a packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Refusal {
    /// The sender sees no whole header of either version (`wg_check_packet_protocol`).
    NoHeader,
    /// The receiver finds a length that does not fit (`dishonest_packet_size`).
    Length,
    /// The source is none of the sender's allowed IPs (`dishonest_packet_peer`).
    Source,
}

/// Where a packet is sent from: from home what is its own or its LANs', else from the phone.
pub(crate) fn sender(sent: &Sent) -> Spoke {
    if source(&sent.bytes).is_some_and(|source| owner(source) == Some(Spoke::Home)) {
        Spoke::Home
    } else {
        Spoke::Phone
    }
}

/// How long what arrives of it is, in bytes: of a merged packet, each of its segments.
pub(crate) fn carry(sent: &Sent) -> Result<Vec<u64>, Refusal> {
    let bytes = &sent.bytes;
    let source = source(bytes).ok_or(Refusal::NoHeader)?;
    let lengths =
        if sent.header.gso_type == 0 { vec![single(bytes)?] } else { segments(sent.header, bytes.len()) };
    if owner(source) == Some(sender(sent)) { Ok(lengths) } else { Err(Refusal::Source) }
}

/// The padding and whatever else stands behind the end that the header names is cut off.
fn single(bytes: &[u8]) -> Result<u64, Refusal> {
    let word = |at: usize| usize::from(u16::from_be_bytes([bytes[at], bytes[at + 1]]));
    let (length, shortest) = if bytes[0] >> 4 == 4 { (word(2), 20) } else { (word(4) + 40, 40) };
    if length < shortest || length > bytes.len().next_multiple_of(PADDING) {
        return Err(Refusal::Length);
    }
    Ok(length as u64)
}

fn segments(header: VnetHeader, length: usize) -> Vec<u64> {
    let (headers, size) = (u64::from(header.header_length), u64::from(header.gso_size));
    let payload = length as u64 - headers;
    (0..payload.div_ceil(size)).map(|number| headers + size.min(payload - number * size)).collect()
}

/// The source of a packet with a whole header.
fn source(bytes: &[u8]) -> Option<IpAddr> {
    match bytes.first()? >> 4 {
        4 if bytes.len() >= 20 => Some(Ipv4Addr::from(*bytes[12..].first_chunk::<4>()?).into()),
        6 if bytes.len() >= 40 => Some(Ipv6Addr::from(*bytes[8..].first_chunk::<16>()?).into()),
        _ => None,
    }
}

/// Whose allowed IPs an address is in, as the hub has them.
fn owner(address: IpAddr) -> Option<Spoke> {
    static OWNED: LazyLock<Vec<(IpNet, Spoke)>> = LazyLock::new(|| {
        let peers = peers::desired().expect("it has no input").peers;
        let spokes = [(*PHONE, Spoke::Phone), (*HOME, Spoke::Home)];
        let owned = |(key, spoke)| peers[&key].allowed_ips().map(move |prefix| (prefix, spoke));
        spokes.into_iter().flat_map(owned).collect()
    });
    OWNED.iter().find(|(prefix, _)| prefix.contains(&address)).map(|(_, spoke)| *spoke)
}
