//! The packets that are measured with.

use std::net::{Ipv4Addr, Ipv6Addr};

use relay_tests::{
    packet::{Ip, Ipv4, Ipv6, Tcp, Transport, flag},
    tun::VnetHeader,
};

use crate::net;

/// The cable's ends: where packets are sent from, and where they arrive.
pub(crate) const NEAR: [u8; 6] = [2, 0, 0, 0, 0, 1];
pub(crate) const FAR: [u8; 6] = [2, 0, 0, 0, 0, 2];

/// How many segments a merged packet has.
const MERGED: usize = 16;
/// The payload of each: what fits into 1,400 bytes with the longer header.
const SEGMENT: usize = 1400 - IPV6_HEADER - TCP_HEADER;

const IPV4_HEADER: usize = 20;
const IPV6_HEADER: usize = 40;
const UDP_HEADER: usize = 8;
const TCP_HEADER: usize = 20;
const TCP_CHECKSUM: u16 = 16;

/// A kind of packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Kind {
    pub(crate) name: &'static str,
    family: Family,
    carries: Carries,
    /// Bytes from the IP header on; of a merged packet, those of its payload.
    length: usize,
    /// Whether the destination is in a LAN, so that a prefix and not an address has to be found.
    lan: bool,
}

/// How packets come to the tunnel.
pub(crate) enum Way {
    /// From inside the kernel, by the cable: the whole frame.
    Cable(Vec<u8>),
    /// By writing to the device, which can say that they are merged.
    Device(VnetHeader, Vec<u8>),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Family {
    V4,
    V6,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Carries {
    /// UDP without a checksum: the stack tracks connections without computing one, as it does behind WireGuard, which
    /// marks what it has decrypted as good.
    Udp,
    /// TCP segments in a row, merged: one GSO packet.
    Merged,
}

/// All of them.
pub(crate) const ALL: [Kind; 8] = [
    Kind::udp("v4 64", Family::V4, 64, false),
    Kind::udp("v6 64", Family::V6, 64, false),
    Kind::udp("v4 64 to a LAN", Family::V4, 64, true),
    Kind::udp("v6 64 to a LAN", Family::V6, 64, true),
    Kind::udp("v4 1400", Family::V4, 1400, false),
    Kind::udp("v6 1400", Family::V6, 1400, false),
    Kind::merged("v4 GSO 16 x 1400", Family::V4),
    Kind::merged("v6 GSO 16 x 1400", Family::V6),
];

/// A frame of the cable with 64 bytes of UDP from one address to another.
pub(crate) fn small(from: Ipv4Addr, to: Ipv4Addr, ttl: u8) -> Vec<u8> {
    let payload = vec![0; 64 - IPV4_HEADER - UDP_HEADER];
    let mut packet = Ipv4 { ttl, ..Ipv4::new(from, to) }.carry(&Transport::Udp(40_000, 7, payload));
    packet[IPV4_HEADER + 6..IPV4_HEADER + 8].fill(0);
    [&FAR[..], &NEAR, &Ipv4::ETHERTYPE.to_be_bytes(), &packet].concat()
}

impl Kind {
    const fn udp(name: &'static str, family: Family, length: usize, lan: bool) -> Self {
        Self { name, family, carries: Carries::Udp, length, lan }
    }

    const fn merged(name: &'static str, family: Family) -> Self {
        Self { name, family, carries: Carries::Merged, length: MERGED * SEGMENT, lan: false }
    }

    /// How it comes to the tunnel.
    pub(crate) fn way(self) -> Way {
        match self.carries {
            Carries::Udp => Way::Cable(self.ethernet(&self.packet())),
            Carries::Merged => Way::Device(self.vnet(), self.packet()),
        }
    }

    /// A flow's beginning, for those who track connections: packets from either end, as IP packets.
    pub(crate) fn greeting(self) -> Vec<Vec<u8>> {
        match self.carries {
            Carries::Udp => vec![self.packet(), self.back(&Transport::Udp(7, 40_000, b"answer".to_vec()))],
            Carries::Merged => {
                let syn = Transport::Tcp(Tcp { sequence: 0, ..Tcp::new(flag::SYN) });
                let answer = Tcp {
                    source: 80,
                    destination: 40_000,
                    sequence: u32::MAX,
                    ..Tcp::new(flag::SYN | flag::ACK)
                };
                let ack = Transport::Tcp(Tcp { sequence: 1, ..Tcp::new(flag::ACK) });
                vec![self.there(&syn), self.back(&Transport::Tcp(answer)), self.there(&ack)]
            }
        }
    }

    fn header(self) -> usize {
        match self.family {
            Family::V4 => IPV4_HEADER,
            Family::V6 => IPV6_HEADER,
        }
    }

    /// What the kernel is told of a merged packet.
    fn vnet(self) -> VnetHeader {
        let gso_type = match self.family {
            Family::V4 => VnetHeader::TCPV4,
            Family::V6 => VnetHeader::TCPV6,
        };
        VnetHeader {
            flags: VnetHeader::NEEDS_CHECKSUM,
            gso_type,
            header_length: (self.header() + TCP_HEADER) as u16,
            gso_size: SEGMENT as u16,
            checksum_start: self.header() as u16,
            checksum_offset: TCP_CHECKSUM,
        }
    }

    fn packet(self) -> Vec<u8> {
        let header = self.header();
        match self.carries {
            Carries::Udp => {
                let payload = vec![0; self.length - header - UDP_HEADER];
                let mut packet = self.there(&Transport::Udp(40_000, 7, payload));
                packet[header + 6..header + 8].fill(0);
                packet
            }
            Carries::Merged => {
                let payload = vec![0; self.length];
                let tcp = Tcp { sequence: 1, payload, checksum_offloaded: true, ..Tcp::new(flag::ACK) };
                self.there(&Transport::Tcp(tcp))
            }
        }
    }

    fn there(self, transport: &Transport) -> Vec<u8> {
        match self.family {
            Family::V4 => Ipv4::new(net::PHONE4, self.destination4()).carry(transport),
            Family::V6 => Ipv6::new(net::PHONE6, self.destination6()).carry(transport),
        }
    }

    fn back(self, transport: &Transport) -> Vec<u8> {
        match self.family {
            Family::V4 => Ipv4::new(self.destination4(), net::PHONE4).carry(transport),
            Family::V6 => Ipv6::new(self.destination6(), net::PHONE6).carry(transport),
        }
    }

    fn destination4(self) -> Ipv4Addr {
        if self.lan { net::NAS4 } else { net::HOME4 }
    }

    fn destination6(self) -> Ipv6Addr {
        if self.lan { net::NAS6 } else { net::HOME6 }
    }

    fn ethernet(self, packet: &[u8]) -> Vec<u8> {
        let ethertype = match self.family {
            Family::V4 => <Ipv4 as Ip>::ETHERTYPE,
            Family::V6 => <Ipv6 as Ip>::ETHERTYPE,
        };
        [&FAR[..], &NEAR, &ethertype.to_be_bytes(), packet].concat()
    }
}
