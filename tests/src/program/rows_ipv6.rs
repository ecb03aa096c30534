//! IPv6's header and extension headers: what is checked, what changes, and what must not.

use relay_common::Verdict;

use super::{
    Case, Row, Setup,
    net::{Family as _, HOME, PHONE, Place},
};
use crate::packet::{Ip as _, Ipv6, Tcp, Transport, flag, protocol};

pub(super) fn rows() -> Vec<Row> {
    vec![
        row("v6 hop limit falls by one", hop_limits()),
        row("v6 hop limit of one or zero is the stack's", expired()),
        row("v6 DSCP and ECN stay", classes()),
        row("v6 flow label stays", flow_labels()),
        row("v6 wrong version is the stack's", wrong_versions()),
        row("v6 wrong payload length is the stack's", wrong_lengths()),
        row("v6 TCP cut off is the stack's", cut_off()),
        row("v6 hop-by-hop options are the stack's", extensions(&[protocol::HOP_BY_HOP])),
        row("v6 other extension headers are the stack's", extensions(&OTHERS)),
        row("v6 fragments are the stack's", fragments()),
    ]
}

/// Extension headers besides hop-by-hop options and fragments: the last three are mobility, host identity and shim6.
const OTHERS: [u8; 6] =
    [protocol::ROUTING, protocol::AUTHENTICATION, protocol::DESTINATION_OPTIONS, 135, 139, 140];

fn row(name: &'static str, cases: Vec<Case>) -> Row {
    Row { name, setup: Setup::TestRun, cases }
}

fn ip() -> Ipv6 {
    Ipv6::between(Place::Phone, Place::Home)
}

fn udp() -> Transport {
    Transport::Udp(4000, 4001, b"hello".to_vec())
}

fn hop_limits() -> Vec<Case> {
    (2..=255).map(|n| forwarded(format!("hop limit {n}"), &Ipv6 { hop_limit: n, ..ip() }, &udp())).collect()
}

fn expired() -> Vec<Case> {
    (0..=1)
        .map(|n| {
            let ip = Ipv6 { hop_limit: n, ..ip() };
            punted(format!("hop limit {n}"), &ip, &udp(), Verdict::TtlExpired)
        })
        .collect()
}

fn classes() -> Vec<Case> {
    (0..=255)
        .map(|class| {
            forwarded(format!("traffic class {class:#04x}"), &Ipv6 { traffic_class: class, ..ip() }, &udp())
        })
        .collect()
}

fn flow_labels() -> Vec<Case> {
    [0, 1, 0x80000, 0xfffff]
        .map(|label| {
            forwarded(format!("flow label {label:#07x}"), &Ipv6 { flow_label: label, ..ip() }, &udp())
        })
        .to_vec()
}

fn wrong_versions() -> Vec<Case> {
    (0..16)
        .filter(|&version| version != 6)
        .map(|version| {
            punted(format!("version {version}"), &Ipv6 { version, ..ip() }, &udp(), Verdict::Malformed)
        })
        .collect()
}

/// Zero among them, which is what a jumbogram has (RFC 2675).
fn wrong_lengths() -> Vec<Case> {
    let right = u16::try_from(ip().carry(&udp()).len() - 40).expect("short");
    [0, 1, right - 1, right + 1, right + 40, 0xffff]
        .map(|length| {
            let ip = Ipv6 { payload_length: Some(length), ..ip() };
            punted(format!("payload length {length} of {right}"), &ip, &udp(), Verdict::Malformed)
        })
        .to_vec()
}

fn cut_off() -> Vec<Case> {
    [0, 13, 19]
        .map(|length| {
            let part = Transport::Raw(protocol::TCP, vec![0; length]);
            punted(format!("{length} bytes of TCP"), &ip(), &part, Verdict::Malformed)
        })
        .to_vec()
}

fn extensions(kinds: &[u8]) -> Vec<Case> {
    let syn = Transport::Tcp(Tcp::syn(1460));
    kinds
        .iter()
        .flat_map(|&kind| [("UDP", udp()), ("a SYN", syn.clone())].map(|(name, behind)| (kind, name, behind)))
        .map(|(kind, name, behind)| {
            let ip = Ipv6 { extensions: vec![Ipv6::extension(kind)], ..ip() };
            punted(format!("extension {kind} before {name}"), &ip, &behind, Verdict::Options)
        })
        .collect()
}

fn fragment(offset: u16, more: bool) -> Ipv6 {
    Ipv6 { extensions: vec![Ipv6::fragment(offset, more)], ..ip() }
}

/// All of a packet's, whatever each holds.
fn fragments() -> Vec<Case> {
    let part = |protocol, length| Transport::Raw(protocol, vec![0xa5; length]);
    let acknowledgement = Transport::Tcp(Tcp::new(flag::ACK));
    let twice = Ipv6 { extensions: vec![Ipv6::fragment(0, true), Ipv6::fragment(0, true)], ..ip() };
    let mut cases: Vec<_> = [
        ("first of UDP", fragment(0, true), part(protocol::UDP, 1000)),
        ("middle of UDP", fragment(100, true), part(protocol::UDP, 1000)),
        ("last of UDP", fragment(100, false), part(protocol::UDP, 3)),
        ("only one of UDP", fragment(0, false), udp()),
        ("first of ICMPv6", fragment(0, true), part(protocol::ICMPV6, 1000)),
        ("first of TCP, a SYN", fragment(0, true), Transport::Tcp(Tcp::syn(1460))),
        ("only one of TCP", fragment(0, false), acknowledgement),
        ("last of TCP", fragment(1, false), part(protocol::TCP, 1)),
        ("a fragment of a fragment", twice, udp()),
        ("a header cut off", ip(), part(protocol::FRAGMENT, 7)),
        ("no header at all", ip(), part(protocol::FRAGMENT, 0)),
    ]
    .map(|(label, ip, part)| punted(label, &ip, &part, Verdict::Fragment))
    .into();
    cases.extend(OTHERS.iter().chain(&[protocol::HOP_BY_HOP]).map(|&kind| {
        let ip = Ipv6 { extensions: vec![Ipv6::fragment(0, true), Ipv6::extension(kind)], ..ip() };
        punted(format!("extension {kind} in a fragment"), &ip, &udp(), Verdict::Fragment)
    }));
    cases
}

fn forwarded(label: impl std::fmt::Display, ip: &Ipv6, transport: &Transport) -> Case {
    Case::forwarded(label, ip, transport, (PHONE, HOME))
}

fn punted(label: impl std::fmt::Display, ip: &Ipv6, transport: &Transport, verdict: Verdict) -> Case {
    Case::punted(label, ip, transport, verdict)
}
