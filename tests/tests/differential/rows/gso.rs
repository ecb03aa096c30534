//! Merged packets, as WireGuard's receive offload hands them up: one header for many segments.

use aya::util::KernelVersion;
use relay_tests::{
    packet::{Ip, Tcp, checksum, flag},
    tun::VnetHeader,
};

use super::*;

pub(super) fn rows() -> Vec<Row> {
    // TUN takes merged UDP since 6.2 (commit 860b7f27b8f7); the kernels before have no way to bring it in here.
    let udp_too = KernelVersion::current().is_ok_and(|version| version >= KernelVersion::new(6, 2, 0));
    if udp_too { [tcp(), udp()].concat() } else { tcp() }
}

/// As with `ethtool -K wg0 rx-udp-gro-forwarding on`.
fn udp() -> Vec<Row> {
    let (segment4, segment6) = (MTU - 28, MTU - 48);
    vec![
        fast("gso v4 udp segments as long as the MTU", udp_merged(&v4(|_| {}), segment4)),
        stack(
            "gso v4 udp segments one byte too long",
            Verdict::TooBig,
            udp_merged(&v4(|_| {}), segment4 + 1),
        ),
        stack("gso v4 udp ttl 1", Verdict::TtlExpired, udp_merged(&v4(|ip| ip.ttl = 1), segment4)),
        fast("gso v6 udp segments as long as the MTU", udp_merged(&v6(|_| {}), segment6)),
        stack(
            "gso v6 udp segments one byte too long",
            Verdict::TooBig,
            udp_merged(&v6(|_| {}), segment6 + 1),
        ),
    ]
}

fn tcp() -> Vec<Row> {
    let segment4 = MTU - 40;
    let segment6 = MTU - 60;
    vec![
        fast("gso v4 segments as long as the MTU", four(|_| {}, segment4, 10 * usize::from(segment4))),
        fast("gso v4 last segment short", four(|_| {}, segment4, 3 * usize::from(segment4) + 1)),
        fast("gso v4 small segments", four(|_| {}, 500, 20_000)),
        fast("gso v4 without DF", four(|ip| ip.dont_fragment = false, segment4, 5000)),
        fast("gso v4 as long as one can be", four(|_| {}, segment4, 65_535 - 40)),
        fast("gso v4 with ECN", four(|ip| ip.tos = 2, segment4, 5000)),
        fast("gso v4 no longer than one segment", four(|_| {}, segment4, 1000)),
        // Nobody sends such a thing; a TUN lets it in, and the rule clamps it once for all segments.
        fast("gso v4 syn", opening(VnetHeader::TCPV4, &v4(|_| {}), segment4)),
        fast("gso v6 syn", opening(VnetHeader::TCPV6, &v6(|_| {}), segment6)),
        fast("gso v4 ttl 2", four(|ip| ip.ttl = 2, segment4, 5000)),
        stack("gso v4 segments one byte too long", Verdict::TooBig, four(|_| {}, segment4 + 1, 10_000)),
        stack("gso v4 segments too long without DF", Verdict::TooBig, {
            four(|ip| ip.dont_fragment = false, segment4 + 1, 10_000)
        }),
        stack("gso v4 ttl 1", Verdict::TtlExpired, four(|ip| ip.ttl = 1, segment4, 5000)),
        stack("gso v4 to the internet", Verdict::UnknownDestination, {
            four(|ip| ip.destination = [8, 8, 8, 8].into(), segment4, 5000)
        }),
        stack("gso v4 to its sender", Verdict::SamePeer, four(|ip| ip.source = HOME, segment4, 5000)),
        stack("gso v4 to the hub", Verdict::Local, four(|ip| ip.destination = HUB, segment4, 5000)),
        stack("gso v4 with a wrong header checksum", Verdict::Checksum, {
            four(|ip| ip.checksum = Some(1), segment4, 5000)
        }),
        fast("gso v6 segments as long as the MTU", six(|_| {}, segment6, 10 * usize::from(segment6))),
        fast("gso v6 small segments", six(|_| {}, 500, 20_000)),
        stack("gso v6 segments one byte too long", Verdict::TooBig, six(|_| {}, segment6 + 1, 10_000)),
        stack("gso v6 hop limit 1", Verdict::TtlExpired, six(|ip| ip.hop_limit = 1, segment6, 5000)),
    ]
}

fn four(change: impl FnOnce(&mut Ipv4), segment: u16, payload: usize) -> Sent {
    merged(VnetHeader::TCPV4, &v4(change), segment, payload)
}

fn six(change: impl FnOnce(&mut Ipv6), segment: u16, payload: usize) -> Sent {
    merged(VnetHeader::TCPV6, &v6(change), segment, payload)
}

fn merged<I: Ip>(gso_type: u8, ip: &I, segment: u16, payload: usize) -> Sent {
    let payload = (0..payload).map(|at| (at / 7) as u8).collect();
    of_segments(gso_type, ip, segment, Tcp { payload, ..Tcp::new(flag::ACK | flag::PSH) })
}

/// A SYN with data for three segments, which its options make shorter.
fn opening<I: Ip>(gso_type: u8, ip: &I, segment: u16) -> Sent {
    let syn = Tcp::syn(1460);
    let segment = segment - syn.options.len() as u16;
    of_segments(gso_type, ip, segment, Tcp { payload: vec![8; 3 * usize::from(segment)], ..syn })
}

fn of_segments<I: Ip>(gso_type: u8, ip: &I, segment: u16, tcp: Tcp) -> Sent {
    let headers = I::HEADER as u16;
    let tcp = Tcp { checksum_offloaded: true, ..tcp };
    let header = VnetHeader {
        flags: VnetHeader::NEEDS_CHECKSUM,
        gso_type,
        header_length: headers + 20 + tcp.options.len() as u16,
        gso_size: segment,
        checksum_start: headers,
        checksum_offset: 16,
    };
    Sent { header, bytes: ip.carry(&Transport::Tcp(tcp)) }
}

/// Ten datagrams and a bit, under one header.
fn udp_merged<I: Ip>(ip: &I, segment: u16) -> Sent {
    /// VIRTIO_NET_HDR_GSO_UDP_L4, include/uapi/linux/virtio_net.h.
    const UDP_L4: u8 = 5;
    let headers = I::HEADER as u16;
    let header = VnetHeader {
        flags: VnetHeader::NEEDS_CHECKSUM,
        gso_type: UDP_L4,
        header_length: headers + 8,
        gso_size: segment,
        checksum_start: headers,
        checksum_offset: 6,
    };
    let mut bytes = ip.carry(&super::udp(10 * usize::from(segment) + 99));
    let end = I::HEADER + 8;
    // A device expects the pseudo header's part of the sum there: the whole sum less that over the datagram.
    let whole = u16::from_be_bytes([bytes[end - 2], bytes[end - 1]]);
    bytes[end - 2..end].fill(0);
    let covered = checksum(&bytes[I::HEADER..]);
    let partial = u32::from(!whole) + u32::from(covered);
    let partial = (partial & 0xffff) + (partial >> 16);
    bytes[end - 2..end].copy_from_slice(&(partial as u16).to_be_bytes());
    Sent { header, bytes }
}
