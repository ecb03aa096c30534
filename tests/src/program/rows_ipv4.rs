//! IPv4's header: what is checked in it, what changes in it, and what must not.

use relay_common::Verdict;

use super::{
    Case, Row, Setup,
    net::{Family as _, HOME, PHONE, Place},
};
use crate::packet::{Ip as _, Ipv4, Tcp, Transport, checksum, flag, protocol};

pub(super) fn rows() -> Vec<Row> {
    vec![
        row("v4 TTL falls by one, its checksum with it", ttl()),
        row("v4 TTL of one or zero is the stack's", expired()),
        row("v4 checksum is right for every carry", carries()),
        row("v4 DSCP and ECN stay", classes()),
        row("v4 flags, ID and padding bits stay", untouched()),
        row("v4 wrong header checksum is the stack's", wrong_checksums()),
        row("v4 wrong version or header length is the stack's", wrong_versions()),
        row("v4 wrong total length is the stack's", wrong_lengths()),
        row("v4 TCP cut off is the stack's", cut_off()),
        row("v4 options are the stack's", options()),
        row("v4 fragments are the stack's", fragments()),
    ]
}

fn row(name: &'static str, cases: Vec<Case>) -> Row {
    Row { name, setup: Setup::TestRun, cases }
}

fn ip() -> Ipv4 {
    Ipv4::between(Place::Phone, Place::Home)
}

fn udp() -> Transport {
    Transport::Udp(4000, 4001, b"hello".to_vec())
}

fn ttl() -> Vec<Case> {
    (2..=255).map(|ttl| forwarded(format!("TTL {ttl}"), &Ipv4 { ttl, ..ip() }, &udp())).collect()
}

fn expired() -> Vec<Case> {
    (0..=1)
        .map(|ttl| punted(format!("TTL {ttl}"), &Ipv4 { ttl, ..ip() }, &udp(), Verdict::TtlExpired))
        .collect()
}

/// Header checksums around the values where adding in 16 bits wraps, for every parity of the TTL: the ID is chosen so
/// that the checksum comes out as wanted.
fn carries() -> Vec<Case> {
    let wanted: [u16; 8] = [0x0000, 0x0001, 0x00ff, 0x0100, 0xfeff, 0xff00, 0xfefe, 0xfffe];
    let cases = wanted.iter().flat_map(|&wanted| {
        [2, 3, 64, 128, 255].map(|ttl| {
            let mut ip = Ipv4 { ttl, id: 0, ..ip() };
            let header = &ip.carry(&udp())[..20];
            let mut plain = header.to_vec();
            plain[10..12].fill(0);
            // With an ID of zero the sum is the complement of this checksum, so the ID adds what is missing.
            let missing = u32::from(checksum(&plain)) + 0xffff - u32::from(wanted);
            ip.id = ((missing & 0xffff) + (missing >> 16)) as u16;
            forwarded(format!("TTL {ttl}, checksum {wanted:#06x}"), &ip, &udp())
        })
    });
    cases.collect()
}

fn classes() -> Vec<Case> {
    (0..=255).map(|tos| forwarded(format!("TOS {tos:#04x}"), &Ipv4 { tos, ..ip() }, &udp())).collect()
}

fn untouched() -> Vec<Case> {
    let ids = [0, 1, 0x00ff, 0xff00, 0xffff];
    let mut cases: Vec<_> =
        ids.iter().map(|&id| forwarded(format!("ID {id:#06x}"), &Ipv4 { id, ..ip() }, &udp())).collect();
    cases.push(forwarded("DF not set", &Ipv4 { dont_fragment: false, ..ip() }, &udp()));
    // The reserved bit of RFC 791 stands above DF; nothing says that a router may clear it.
    cases.push(forwarded("reserved bit", &Ipv4 { fragment_offset: 0x8000, ..ip() }, &udp()));
    cases
}

fn wrong_checksums() -> Vec<Case> {
    let right = ip().carry(&udp());
    let right = u16::from_be_bytes([right[10], right[11]]);
    let wrong =
        (0..16).map(|bit| right ^ 1 << bit).chain([0, 0xffff, right.swap_bytes(), right.wrapping_add(1)]);
    wrong
        .map(|wrong| {
            let ip = Ipv4 { checksum: Some(wrong), ..ip() };
            punted(format!("checksum {wrong:#06x}"), &ip, &udp(), Verdict::Checksum)
        })
        .collect()
}

fn wrong_versions() -> Vec<Case> {
    let malformed = [0x05, 0x15, 0x35, 0x40, 0x44, 0x55, 0x60, 0x65, 0x6f, 0xf5];
    malformed
        .iter()
        .map(|&first| {
            let ip = Ipv4 { version_ihl: Some(first), ..ip() };
            punted(format!("first byte {first:#04x}"), &ip, &udp(), Verdict::Malformed)
        })
        .collect()
}

fn wrong_lengths() -> Vec<Case> {
    let right = u16::try_from(ip().carry(&udp()).len()).expect("short");
    let wrong = [0, 1, 19, 20, 27, right - 1, right + 1, right + 16, 0x7fff, 0xffff];
    wrong
        .iter()
        .map(|&length| {
            let ip = Ipv4 { total_length: Some(length), ..ip() };
            punted(format!("total length {length} of {right}"), &ip, &udp(), Verdict::Malformed)
        })
        .collect()
}

fn cut_off() -> Vec<Case> {
    [0, 1, 12, 14, 19]
        .map(|length| {
            let part = Transport::Raw(protocol::TCP, vec![0; length]);
            punted(format!("{length} bytes of TCP"), &ip(), &part, Verdict::Malformed)
        })
        .to_vec()
}

fn options() -> Vec<Case> {
    let some: [(&str, Vec<u8>); 5] = [
        ("no operation", vec![1, 1, 1, 0]),
        ("router alert", vec![148, 4, 0, 0]),
        ("record route", vec![7, 7, 4, 0, 0, 0, 0, 0]),
        ("loose source route", vec![131, 7, 4, 10, 9, 0, 1, 0]),
        ("40 bytes", vec![1; 40]),
    ];
    some.into_iter()
        .map(|(name, options)| punted(name, &Ipv4 { options, ..ip() }, &udp(), Verdict::Options))
        .collect()
}

/// All of a packet's, whatever each holds; and not what only looks like one.
fn fragments() -> Vec<Case> {
    let part = |protocol, length| Transport::Raw(protocol, vec![0xa5; length]);
    let first = Ipv4 { dont_fragment: false, more_fragments: true, ..ip() };
    let middle = Ipv4 { fragment_offset: 100, ..first.clone() };
    let last = Ipv4 { more_fragments: false, ..middle.clone() };
    let second = Ipv4 { fragment_offset: 1, ..last.clone() };
    let farthest = Ipv4 { fragment_offset: 0x1fff, ..last.clone() };
    let acknowledgement = Transport::Tcp(Tcp { payload: vec![1; 100], ..Tcp::new(flag::ACK) });
    let cases = [
        ("first of UDP", first.clone(), part(protocol::UDP, 1000)),
        ("first with DF", Ipv4 { dont_fragment: true, ..first.clone() }, part(protocol::UDP, 1000)),
        ("middle of UDP", middle.clone(), part(protocol::UDP, 1000)),
        ("last of UDP", last.clone(), part(protocol::UDP, 3)),
        ("first of TCP", first.clone(), acknowledgement),
        ("first of TCP, a SYN", first.clone(), Transport::Tcp(Tcp::syn(1460))),
        ("first of TCP without its flags", first, part(protocol::TCP, 8)),
        ("middle of TCP", middle, part(protocol::TCP, 1000)),
        ("last of TCP, one byte", last, part(protocol::TCP, 1)),
        ("at the lowest offset", second, part(protocol::TCP, 16)),
        ("at the highest offset", farthest, part(protocol::UDP, 8)),
    ];
    cases.map(|(label, ip, part)| punted(label, &ip, &part, Verdict::Fragment)).into()
}

fn forwarded(label: impl std::fmt::Display, ip: &Ipv4, transport: &Transport) -> Case {
    Case::forwarded(label, ip, transport, (PHONE, HOME))
}

fn punted(label: impl std::fmt::Display, ip: &Ipv4, transport: &Transport, verdict: Verdict) -> Case {
    Case::punted(label, ip, transport, verdict)
}
