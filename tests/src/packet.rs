//! Packets as plain data, built byte by byte with checksums by their definition.
//!
//! Nothing here shares code with what is under test: the checksum is RFC 1071's full sum, so that an incremental update
//! is compared with something else than itself. Every field can be set wrongly on purpose.

mod transport;

use std::net::{Ipv4Addr, Ipv6Addr};

use self::transport::Ends;
pub use self::transport::{Tcp, Transport, flag};

/// An IPv4 UDP packet without payload, from and to (address, port).
#[must_use]
pub fn empty_udp(from: ([u8; 4], u16), to: ([u8; 4], u16)) -> Vec<u8> {
    let mut packet = vec![0x45, 0, 0, 28, 0, 0, 0, 0, 64, 17, 0, 0];
    packet.extend([from.0, to.0].concat());
    let sum: u32 = packet.chunks(2).map(|pair| u32::from(u16::from_be_bytes([pair[0], pair[1]]))).sum();
    let check = !u16::try_from((sum & 0xffff) + (sum >> 16)).expect("ten words carry once");
    packet[10..12].copy_from_slice(&check.to_be_bytes());
    packet.extend([from.1.to_be_bytes(), to.1.to_be_bytes(), 8_u16.to_be_bytes(), [0, 0]].concat());
    packet
}

/// Protocol numbers (IANA), as far as the tests name them.
pub mod protocol {
    /// IPv6 hop-by-hop options.
    pub const HOP_BY_HOP: u8 = 0;
    /// ICMP.
    pub const ICMP: u8 = 1;
    /// TCP.
    pub const TCP: u8 = 6;
    /// UDP.
    pub const UDP: u8 = 17;
    /// IPv6 routing header.
    pub const ROUTING: u8 = 43;
    /// IPv6 fragment header.
    pub const FRAGMENT: u8 = 44;
    /// IPsec's encapsulation.
    pub const ESP: u8 = 50;
    /// IPsec's authentication header.
    pub const AUTHENTICATION: u8 = 51;
    /// ICMPv6.
    pub const ICMPV6: u8 = 58;
    /// Nothing follows.
    pub const NO_NEXT: u8 = 59;
    /// IPv6 destination options.
    pub const DESTINATION_OPTIONS: u8 = 60;
}

/// The checksum of RFC 1071, in host order: the complement of the sum of all 16-bit words, odd bytes padded with zero.
#[must_use]
pub fn checksum(bytes: &[u8]) -> u16 {
    !sum(bytes)
}

fn sum(bytes: &[u8]) -> u16 {
    let words =
        bytes.chunks(2).map(|pair| u64::from(pair[0]) << 8 | pair.get(1).map_or(0, |&b| u64::from(b)));
    let mut sum: u64 = words.sum();
    while sum > 0xffff {
        sum = (sum & 0xffff) + (sum >> 16);
    }
    u16::try_from(sum).expect("folded")
}

/// An IP header that can carry something.
pub trait Ip: Clone {
    /// The EtherType.
    const ETHERTYPE: u16;
    /// The shortest header, in bytes.
    const HEADER: usize;

    /// The packet with this behind its header, lengths and checksums right unless set otherwise.
    fn carry(&self, transport: &Transport) -> Vec<u8>;

    /// With this TTL or hop limit.
    #[must_use]
    fn with_hops(&self, hops: u8) -> Self;

    /// With this DSCP (high six bits) and ECN.
    #[must_use]
    fn with_class(&self, class: u8) -> Self;

    /// The same header one router later.
    #[must_use]
    fn after_hop(&self) -> Self;
}

/// An IPv4 header.
#[derive(Clone, Debug)]
pub struct Ipv4 {
    /// Source address.
    pub source: Ipv4Addr,
    /// Destination address.
    pub destination: Ipv4Addr,
    /// Time to live, in hops.
    pub ttl: u8,
    /// DSCP (high six bits) and ECN.
    pub tos: u8,
    /// Identification.
    pub id: u16,
    /// DF.
    pub dont_fragment: bool,
    /// MF.
    pub more_fragments: bool,
    /// Fragment offset, in units of eight bytes.
    pub fragment_offset: u16,
    /// Options; a multiple of four bytes.
    pub options: Vec<u8>,
    /// In place of version 4 and the true header length.
    pub version_ihl: Option<u8>,
    /// In place of the true length.
    pub total_length: Option<u16>,
    /// In place of the true checksum.
    pub checksum: Option<u16>,
}

impl Ipv4 {
    /// An ordinary header: TTL 64, DF.
    #[must_use]
    pub const fn new(source: Ipv4Addr, destination: Ipv4Addr) -> Self {
        Self {
            source,
            destination,
            ttl: 64,
            tos: 0,
            id: 0x1234,
            dont_fragment: true,
            more_fragments: false,
            fragment_offset: 0,
            options: Vec::new(),
            version_ihl: None,
            total_length: None,
            checksum: None,
        }
    }
}

impl Ip for Ipv4 {
    const ETHERTYPE: u16 = 0x0800;
    const HEADER: usize = 20;

    fn carry(&self, transport: &Transport) -> Vec<u8> {
        let (protocol, payload) = transport.bytes(&Ends::V4(self.source, self.destination));
        let header = Self::HEADER + self.options.len();
        let length = self.total_length.unwrap_or_else(|| (header + payload.len()).try_into().expect("fits"));
        let version_ihl =
            self.version_ihl.unwrap_or(0x40 | u8::try_from(header / 4).expect("at most 15 words"));
        let flags = u16::from(self.dont_fragment) << 14 | u16::from(self.more_fragments) << 13;
        let mut bytes = vec![version_ihl, self.tos];
        bytes.extend(length.to_be_bytes());
        bytes.extend(self.id.to_be_bytes());
        bytes.extend((flags | self.fragment_offset).to_be_bytes());
        bytes.extend([self.ttl, protocol, 0, 0]);
        bytes.extend(self.source.octets());
        bytes.extend(self.destination.octets());
        bytes.extend(&self.options);
        let check = self.checksum.unwrap_or_else(|| checksum(&bytes));
        bytes[10..12].copy_from_slice(&check.to_be_bytes());
        bytes.extend(payload);
        bytes
    }

    fn with_hops(&self, ttl: u8) -> Self {
        Self { ttl, ..self.clone() }
    }

    fn with_class(&self, tos: u8) -> Self {
        Self { tos, ..self.clone() }
    }

    fn after_hop(&self) -> Self {
        self.with_hops(self.ttl - 1)
    }
}

/// An IPv6 header and the extension headers behind it.
#[derive(Clone, Debug)]
pub struct Ipv6 {
    /// Source address.
    pub source: Ipv6Addr,
    /// Destination address.
    pub destination: Ipv6Addr,
    /// Hop limit.
    pub hop_limit: u8,
    /// DSCP (high six bits) and ECN.
    pub traffic_class: u8,
    /// Flow label, 20 bits.
    pub flow_label: u32,
    /// Extension headers in their order: the kind of each and its bytes behind the "next header" byte.
    pub extensions: Vec<(u8, Vec<u8>)>,
    /// In place of version 6.
    pub version: u8,
    /// In place of the true length.
    pub payload_length: Option<u16>,
}

impl Ipv6 {
    /// An ordinary header: hop limit 64.
    #[must_use]
    pub const fn new(source: Ipv6Addr, destination: Ipv6Addr) -> Self {
        Self {
            source,
            destination,
            hop_limit: 64,
            traffic_class: 0,
            flow_label: 0xabcde,
            extensions: Vec::new(),
            version: 6,
            payload_length: None,
        }
    }

    /// A fragment header: `offset` in units of eight bytes.
    #[must_use]
    pub fn fragment(offset: u16, more: bool) -> (u8, Vec<u8>) {
        let [high, low] = (offset << 3 | u16::from(more)).to_be_bytes();
        (protocol::FRAGMENT, vec![0, high, low, 0xde, 0xad, 0xbe, 0xef])
    }

    /// An extension header of this kind that says nothing, eight bytes long (padding where it has options).
    #[must_use]
    pub fn extension(kind: u8) -> (u8, Vec<u8>) {
        (kind, vec![0, 1, 4, 0, 0, 0, 0])
    }
}

impl Ip for Ipv6 {
    const ETHERTYPE: u16 = 0x86dd;
    const HEADER: usize = 40;

    fn carry(&self, transport: &Transport) -> Vec<u8> {
        let (protocol, payload) = transport.bytes(&Ends::V6(self.source, self.destination));
        let kinds: Vec<u8> = self.extensions.iter().map(|(kind, _)| *kind).chain([protocol]).collect();
        let length = self.extensions.iter().map(|(_, bytes)| 1 + bytes.len()).sum::<usize>() + payload.len();
        let length = self.payload_length.unwrap_or_else(|| length.try_into().expect("fits"));
        let first = u32::from(self.version) << 28 | u32::from(self.traffic_class) << 20 | self.flow_label;
        let mut bytes = first.to_be_bytes().to_vec();
        bytes.extend(length.to_be_bytes());
        bytes.extend([kinds[0], self.hop_limit]);
        bytes.extend(self.source.octets());
        bytes.extend(self.destination.octets());
        for ((_, body), next) in self.extensions.iter().zip(&kinds[1..]) {
            bytes.push(*next);
            bytes.extend(body);
        }
        bytes.extend(payload);
        bytes
    }

    fn with_hops(&self, hop_limit: u8) -> Self {
        Self { hop_limit, ..self.clone() }
    }

    fn with_class(&self, traffic_class: u8) -> Self {
        Self { traffic_class, ..self.clone() }
    }

    fn after_hop(&self) -> Self {
        self.with_hops(self.hop_limit - 1)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The example of RFC 1071 3.
    #[test]
    fn checksum_of_the_rfc() {
        assert_eq!(sum(&[0x00, 0x01, 0xf2, 0x03, 0xf4, 0xf5, 0xf6, 0xf7]), 0xddf2);
        assert_eq!(checksum(&[0xff]), 0x00ff);
    }

    /// A receiver's view: the sum over what a checksum covers, itself included, is zero.
    #[test]
    fn checksums_hold() {
        let ip = Ipv4::new([10, 9, 0, 3].into(), [10, 9, 0, 2].into());
        let packet = ip.carry(&Transport::Icmp(8, 0, [0x12, 0x34, 0, 1], Vec::new()));
        assert_eq!(packet[..4], [0x45, 0, 0, 28]);
        assert_eq!(checksum(&packet[..20]), 0, "the sum over a header with its checksum");
        assert_eq!(checksum(&packet[20..]), 0, "the sum over an ICMP message with its checksum");
    }

    #[test]
    fn extension_headers_chain() {
        let mut ip = Ipv6::new(Ipv6Addr::LOCALHOST, Ipv6Addr::LOCALHOST);
        ip.extensions = vec![Ipv6::extension(protocol::HOP_BY_HOP), Ipv6::fragment(3, true)];
        let packet = ip.carry(&Transport::Udp(1, 2, b"x".to_vec()));
        assert_eq!(packet[6], protocol::HOP_BY_HOP);
        assert_eq!(packet[40], protocol::FRAGMENT);
        assert_eq!(packet[48..52], [protocol::UDP, 0, 0, 25]);
        assert_eq!(packet[4..6], [0, 25]);
        assert_eq!(packet.len(), 40 + 8 + 8 + 9);
    }
}
