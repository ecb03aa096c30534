//! Rows that only a real device knows the answer to: MTUs, merged packets, checksums left to the device, and the path
//! without an Ethernet header.

use relay_common::Verdict;

use super::{
    Case, Row, Setup,
    net::{Family, HOME, PHONE, Place},
    rows_mss::{clamped, limit},
};
use crate::{
    packet::{Ip, Ipv4, Ipv6, Tcp, Transport, flag},
    tun::VnetHeader,
};

/// WireGuard's usual MTU, the smallest of IPv6, and a large one (so that headers can lie apart from payload), in bytes.
const USUAL: u32 = 1420;
const SMALLEST: u32 = 1280;
const LARGE: u32 = 9000;

pub(super) fn rows() -> Vec<Row> {
    let mut rows = vec![
        row("a tunnel's packets have no Ethernet header", USUAL, false, both(bare::<Ipv4>, bare::<Ipv6>)),
        row("an IP header cut off is the stack's", USUAL, false, both(cut_off::<Ipv4>, cut_off::<Ipv6>)),
        row("longer than the MTU is the stack's", USUAL, false, lengths(USUAL)),
        row("longer than the smallest MTU is the stack's", SMALLEST, false, lengths(SMALLEST)),
        row("longer than a large MTU is the stack's", LARGE, false, lengths(LARGE)),
        row(
            "headers apart from their payload are found",
            LARGE,
            false,
            both(scattered::<Ipv4>, scattered::<Ipv6>),
        ),
        row("an MSS follows the device's MTU", SMALLEST, false, both(mss::<Ipv4>, mss::<Ipv6>)),
        row(
            "a checksum left to the device comes out right",
            USUAL,
            false,
            both(completed::<Ipv4>, completed::<Ipv6>),
        ),
        row("a checksum left to the device stays left", USUAL, true, both(left::<Ipv4>, left::<Ipv6>)),
        row("merged packets are forwarded whole", USUAL, true, both(merged::<Ipv4>, merged::<Ipv6>)),
        row(
            "merged from segments over the MTU is the stack's",
            USUAL,
            true,
            both(too_big::<Ipv4>, too_big::<Ipv6>),
        ),
    ];
    rows.push(Row {
        name: "segments of merged packets are counted",
        setup: Setup::TestRun,
        cases: both(segments::<Ipv4>, segments::<Ipv6>),
    });
    rows
}

fn row(name: &'static str, mtu: u32, offload: bool, cases: Vec<Case>) -> Row {
    Row { name, setup: Setup::Tun { mtu, offload }, cases }
}

fn both(v4: fn() -> Vec<Case>, v6: fn() -> Vec<Case>) -> Vec<Case> {
    [v4(), v6()].concat()
}

fn ip<I: Family>() -> I {
    I::between(Place::Phone, Place::Home)
}

fn bare<I: Family>() -> Vec<Case> {
    let udp = Transport::Udp(4000, 4001, b"hello".to_vec());
    let ack = Transport::Tcp(Tcp { payload: vec![1; 1200], ..Tcp::new(flag::ACK) });
    vec![
        Case::forwarded(format!("{} UDP", I::NAME), &ip::<I>(), &udp, (PHONE, HOME)),
        Case::forwarded(format!("{} TCP", I::NAME), &ip::<I>(), &ack, (PHONE, HOME)),
        Case::punted(format!("{} expired", I::NAME), &ip::<I>().with_hops(1), &udp, Verdict::TtlExpired),
        Case::punted(
            format!("{} local", I::NAME),
            &I::between(Place::Phone, Place::Hub),
            &udp,
            Verdict::Local,
        ),
    ]
}

/// BPF_PROG_TEST_RUN takes no such packets.
fn cut_off<I: Family>() -> Vec<Case> {
    let packet = ip::<I>().carry(&Transport::Udp(4000, 4001, b"hello".to_vec()));
    (1..I::HEADER)
        .map(|length| {
            let label = format!("{} {length} bytes", I::NAME);
            Case::of_bytes(label, I::ETHERTYPE, packet[..length].to_vec(), Verdict::Malformed)
        })
        .collect()
}

fn lengths(mtu: u32) -> Vec<Case> {
    let mut cases = [exactly(&ip::<Ipv4>(), mtu, "v4 DF"), exactly(&ip::<Ipv6>(), mtu, "v6")].concat();
    cases.extend(exactly(&Ipv4 { dont_fragment: false, ..ip() }, mtu, "v4 no DF"));
    cases
}

/// Packets around this MTU.
fn exactly<I: Ip>(ip: &I, mtu: u32, name: &str) -> Vec<Case> {
    let packet = |length: u32| Transport::Udp(4000, 4001, vec![0x5a; length as usize - I::HEADER - 8]);
    let fits = [mtu - 14, mtu - 1, mtu]
        .map(|length| Case::forwarded(format!("{name} {length}"), ip, &packet(length), (PHONE, HOME)));
    let over = [mtu + 1, mtu + 4, mtu + 14, mtu + 1000]
        .map(|length| Case::punted(format!("{name} {length}"), ip, &packet(length), Verdict::TooBig));
    [fits.to_vec(), over.to_vec()].concat()
}

/// Packets of which the kernel keeps only the first bytes in one piece.
fn scattered<I: Family>() -> Vec<Case> {
    let udp = Transport::Udp(4000, 4001, vec![3; 8000]);
    let ack = Transport::Tcp(Tcp { payload: vec![3; 8000], ..Tcp::new(flag::ACK) });
    let syn = |mss| Tcp { payload: vec![3; 8000], ..Tcp::syn(mss) };
    let mut cases = vec![];
    for linear in [1, 20, 40, 50] {
        let label = format!("{} {linear} bytes in one piece,", I::NAME);
        cases.push((linear, Case::forwarded(format!("{label} UDP"), &ip::<I>(), &udp, (PHONE, HOME))));
        cases.push((linear, Case::forwarded(format!("{label} TCP"), &ip::<I>(), &ack, (PHONE, HOME))));
        let lowered =
            clamped::<I>(&format!("{linear} bytes in one piece, SYN"), &syn(9000), &syn(limit::<I>(LARGE)));
        cases.push((linear, lowered));
    }
    let with_header = |(linear, mut case): (u16, Case)| {
        case.given.header.header_length = linear;
        case
    };
    cases.into_iter().map(with_header).collect()
}

fn mss<I: Family>() -> Vec<Case> {
    let limit = limit::<I>(SMALLEST);
    vec![
        clamped::<I>("MSS 1460", &Tcp::syn(1460), &Tcp::syn(limit)),
        clamped::<I>("MSS one over", &Tcp::syn(limit + 1), &Tcp::syn(limit)),
        clamped::<I>("MSS that fits", &Tcp::syn(limit), &Tcp::syn(limit)),
    ]
}

/// What a device is told that shall complete the checksum of a TCP segment behind this IP header.
fn unfinished<I: Ip>() -> VnetHeader {
    VnetHeader {
        flags: VnetHeader::NEEDS_CHECKSUM,
        checksum_start: I::HEADER as u16,
        checksum_offset: 16,
        ..VnetHeader::default()
    }
}

/// A SYN without a finished checksum, and the same as it must come out.
fn unfinished_syns<I: Family>(finish: bool) -> Vec<Case> {
    let limit = limit::<I>(USUAL);
    let syn = |mss, checksum_offloaded| Tcp { checksum_offloaded, ..Tcp::syn(mss) };
    [(1460, limit), (0xffff, limit), (1220, 1220)]
        .map(|(mss, expected)| {
            let label = format!("MSS {mss}");
            let mut case = clamped::<I>(&label, &syn(mss, true), &syn(expected, !finish));
            case.given.header = unfinished::<I>();
            case
        })
        .to_vec()
}

/// The device wants whole checksums, so the kernel finishes them on the way out.
fn completed<I: Family>() -> Vec<Case> {
    unfinished_syns::<I>(true)
}

fn left<I: Family>() -> Vec<Case> {
    unfinished_syns::<I>(false)
        .into_iter()
        .map(|case| Case { out_header: Some(unfinished::<I>()), ..case })
        .collect()
}

/// `count` segments of this payload size, merged; the last one shorter by `missing` bytes.
fn super_packet<I: Family>(size: u16, count: u16, missing: u16) -> (Tcp, VnetHeader) {
    let payload = vec![0xc3; usize::from(size) * usize::from(count) - usize::from(missing)];
    let tcp = Tcp { payload, checksum_offloaded: true, ..Tcp::new(flag::ACK) };
    let header = VnetHeader {
        gso_type: if I::NAME == "v4" { VnetHeader::TCPV4 } else { VnetHeader::TCPV6 },
        gso_size: size,
        header_length: I::HEADER as u16 + 20,
        ..unfinished::<I>()
    };
    (tcp, header)
}

fn merged<I: Family>() -> Vec<Case> {
    let fits = limit::<I>(USUAL);
    [(fits, 2, 0), (fits, 10, 1), (fits, 40, 700), (fits - 1, 3, 0), (536, 4, 0), (64, 100, 0)]
        .map(|(size, count, missing)| {
            let (tcp, header) = super_packet::<I>(size, count, missing);
            let label = format!("{} {count} segments of {size} bytes", I::NAME);
            let mut case = Case::forwarded(label, &ip::<I>(), &Transport::Tcp(tcp), (PHONE, HOME));
            case.given.header = header;
            case.out_header = Some(header);
            case
        })
        .to_vec()
}

fn too_big<I: Family>() -> Vec<Case> {
    let fits = limit::<I>(USUAL);
    [(fits + 1, 2), (fits + 14, 3), (1460, 10), (8000, 4)]
        .map(|(size, count)| {
            let (tcp, header) = super_packet::<I>(size, count, 0);
            let label = format!("{} {count} segments of {size} bytes", I::NAME);
            let mut case = Case::punted(label, &ip::<I>(), &Transport::Tcp(tcp), Verdict::TooBig);
            case.given.header = header;
            case
        })
        .to_vec()
}

/// With the kernel's own count, which a TUN does not give: WireGuard's receive path merges and counts.
fn segments<I: Family>() -> Vec<Case> {
    let tcp = Transport::Tcp(Tcp { payload: vec![1; 1300], ..Tcp::new(flag::ACK) });
    let mut cases = vec![];
    for (count, size) in [(1, 1300), (2, 700), (13, 100), (44, 30), (1300, 1)] {
        let label = format!("{} {count} segments", I::NAME);
        let mut forwarded = Case::forwarded(&label, &ip::<I>(), &tcp, (PHONE, HOME));
        let mut expired =
            Case::punted(format!("{label}, expired"), &ip::<I>().with_hops(1), &tcp, Verdict::TtlExpired);
        for case in [&mut forwarded, &mut expired] {
            case.given.merged = Some((count, size));
            case.packets = count.into();
        }
        cases.extend([forwarded, expired]);
    }
    cases
}
