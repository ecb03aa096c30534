//! What stands behind the IP header: UDP, TCP and ICMP with their checksums over the pseudo header.

use std::net::{Ipv4Addr, Ipv6Addr};

use super::{checksum, protocol, sum};

/// TCP flags.
pub mod flag {
    /// No more data.
    pub const FIN: u8 = 0x01;
    /// Opens a connection.
    pub const SYN: u8 = 0x02;
    /// Refuses one.
    pub const RST: u8 = 0x04;
    /// Hand this on.
    pub const PSH: u8 = 0x08;
    /// Answers.
    pub const ACK: u8 = 0x10;
}

/// What an IP packet carries.
#[derive(Clone, Debug)]
pub enum Transport {
    /// UDP from and to these ports.
    Udp(u16, u16, Vec<u8>),
    /// TCP.
    Tcp(Tcp),
    /// ICMP, or ICMPv6 in IPv6: type, code, the four bytes behind the checksum, and the rest.
    Icmp(u8, u8, [u8; 4], Vec<u8>),
    /// These bytes under this protocol number.
    Raw(u8, Vec<u8>),
}

/// A TCP segment.
#[derive(Clone, Debug)]
pub struct Tcp {
    /// Source port.
    pub source: u16,
    /// Destination port.
    pub destination: u16,
    /// Sequence number.
    pub sequence: u32,
    /// Flags, see [`flag`].
    pub flags: u8,
    /// Options; a multiple of four bytes.
    pub options: Vec<u8>,
    /// What follows the header.
    pub payload: Vec<u8>,
    /// Header length in units of four bytes, in place of the true one.
    pub data_offset: Option<u8>,
    /// The checksum field holds the pseudo header's sum only, for a device to complete (CHECKSUM_PARTIAL).
    pub checksum_offloaded: bool,
}

impl Tcp {
    /// A segment without options.
    #[must_use]
    pub const fn new(flags: u8) -> Self {
        Self {
            source: 40_000,
            destination: 80,
            sequence: 0x0102_0304,
            flags,
            options: Vec::new(),
            payload: Vec::new(),
            data_offset: None,
            checksum_offloaded: false,
        }
    }

    /// A SYN as Linux sends it, with the MSS in front.
    #[must_use]
    pub fn syn(mss: u16) -> Self {
        let [high, low] = mss.to_be_bytes();
        let mut options = vec![2, 4, high, low];
        // SACK permitted, timestamps, no operation, window scale.
        options.extend([4, 2, 8, 10, 0, 1, 2, 3, 0, 0, 0, 0, 1, 3, 3, 7]);
        Self { options, ..Self::new(flag::SYN) }
    }
}

/// The pseudo header's addresses.
pub(super) enum Ends {
    V4(Ipv4Addr, Ipv4Addr),
    V6(Ipv6Addr, Ipv6Addr),
}

impl Ends {
    fn pseudo_header(&self, protocol: u8, length: usize) -> Vec<u8> {
        let length = u32::try_from(length).expect("a packet").to_be_bytes();
        match self {
            Self::V4(source, destination) => {
                let [_, _, high, low] = length;
                [&source.octets()[..], &destination.octets(), &[0, protocol, high, low]].concat()
            }
            Self::V6(source, destination) => {
                [&source.octets()[..], &destination.octets(), &length, &[0, 0, 0, protocol]].concat()
            }
        }
    }
}

impl Transport {
    /// The protocol number, and the bytes with their checksum.
    pub(super) fn bytes(&self, ends: &Ends) -> (u8, Vec<u8>) {
        match self {
            Self::Udp(source, destination, payload) => {
                let length = u16::try_from(8 + payload.len()).expect("fits");
                let mut bytes = Vec::new();
                for word in [*source, *destination, length, 0] {
                    bytes.extend(word.to_be_bytes());
                }
                bytes.extend(payload);
                let check = match checksum_over(ends, protocol::UDP, &bytes) {
                    // RFC 768: zero says that there is none.
                    0 => 0xffff,
                    check => check,
                };
                bytes[6..8].copy_from_slice(&check.to_be_bytes());
                (protocol::UDP, bytes)
            }
            Self::Tcp(tcp) => (protocol::TCP, tcp.bytes(ends)),
            Self::Icmp(kind, code, rest, payload) => {
                let mut bytes = vec![*kind, *code, 0, 0];
                bytes.extend(rest);
                bytes.extend(payload);
                let (protocol, check) = match ends {
                    Ends::V4(..) => (protocol::ICMP, checksum(&bytes)),
                    Ends::V6(..) => (protocol::ICMPV6, checksum_over(ends, protocol::ICMPV6, &bytes)),
                };
                bytes[2..4].copy_from_slice(&check.to_be_bytes());
                (protocol, bytes)
            }
            Self::Raw(protocol, bytes) => (*protocol, bytes.clone()),
        }
    }
}

fn checksum_over(ends: &Ends, protocol: u8, bytes: &[u8]) -> u16 {
    checksum(&[&ends.pseudo_header(protocol, bytes.len())[..], bytes].concat())
}

impl Tcp {
    fn bytes(&self, ends: &Ends) -> Vec<u8> {
        let words = u8::try_from(5 + self.options.len() / 4).expect("at most 15 words");
        let mut bytes = Vec::new();
        bytes.extend(self.source.to_be_bytes());
        bytes.extend(self.destination.to_be_bytes());
        bytes.extend(self.sequence.to_be_bytes());
        bytes.extend([0; 4]);
        bytes.extend([self.data_offset.unwrap_or(words) << 4, self.flags]);
        bytes.extend(0xfaf0_u16.to_be_bytes());
        bytes.extend([0; 4]);
        bytes.extend(&self.options);
        bytes.extend(&self.payload);
        let check = if self.checksum_offloaded {
            sum(&ends.pseudo_header(protocol::TCP, bytes.len()))
        } else {
            checksum_over(ends, protocol::TCP, &bytes)
        };
        bytes[16..18].copy_from_slice(&check.to_be_bytes());
        bytes
    }
}
