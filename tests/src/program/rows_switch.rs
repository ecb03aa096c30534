//! What is decided before any header is read: the switch, the EtherType, and that a plain packet is forwarded at all.

use relay_common::Verdict;

use super::{
    Case, Row, Setup,
    net::{Family, HOME, PHONE, Place},
};
use crate::packet::{Ipv4, Ipv6, Tcp, Transport, flag, protocol};

pub(super) fn rows() -> Vec<Row> {
    vec![
        row("a plain packet is forwarded", [plain::<Ipv4>(), plain::<Ipv6>()].concat()),
        row("off sends everything to the stack", [off::<Ipv4>(), off::<Ipv6>()].concat()),
        row("what is not IP goes to the stack", not_ip()),
    ]
}

fn row(name: &'static str, cases: Vec<Case>) -> Row {
    Row { name, setup: Setup::TestRun, cases }
}

fn plain<I: Family>() -> Vec<Case> {
    let transports = [
        ("UDP", Transport::Udp(1234, 53, b"question".to_vec())),
        ("empty UDP", Transport::Udp(1234, 53, Vec::new())),
        ("TCP", Transport::Tcp(Tcp { payload: vec![7; 1000], ..Tcp::new(flag::ACK | flag::PSH) })),
        ("TCP with options", Transport::Tcp(Tcp { flags: flag::ACK, ..Tcp::syn(1460) })),
        ("TCP reset", Transport::Tcp(Tcp::new(flag::RST | flag::ACK))),
        ("TCP end", Transport::Tcp(Tcp::new(flag::FIN | flag::ACK))),
        ("echo", Transport::Icmp(if I::NAME == "v4" { 8 } else { 128 }, 0, [0, 1, 0, 2], vec![1; 56])),
        ("IPsec", Transport::Raw(protocol::ESP, vec![9; 40])),
        ("an unknown protocol", Transport::Raw(200, vec![9; 3])),
        ("nothing but a header", Transport::Raw(protocol::NO_NEXT, Vec::new())),
    ];
    let cases = transports.iter().flat_map(|(name, transport)| {
        [(Place::Phone, Place::Home, (PHONE, HOME)), (Place::Home, Place::Phone, (HOME, PHONE))].map(
            |(from, to, way)| {
                let label = format!("{} {name} from {from:?} to {to:?}", I::NAME);
                Case::forwarded(label, &I::between(from, to), transport, way)
            },
        )
    });
    cases.collect()
}

fn off<I: Family>() -> Vec<Case> {
    let transport = Transport::Udp(1234, 53, b"question".to_vec());
    let ip = I::between(Place::Phone, Place::Home);
    let mut plain = Case::punted(format!("{} plain", I::NAME), &ip, &transport, Verdict::Off);
    plain.given.enabled = false;
    let mut expired =
        Case::punted(format!("{} expired", I::NAME), &ip.with_hops(1), &transport, Verdict::Off);
    expired.given.enabled = false;
    let mut alien = Case::of_bytes("not IP", 0x0806, vec![0; 28], Verdict::Off);
    alien.given.enabled = false;
    let on_again = Case::forwarded(format!("{} on again", I::NAME), &ip, &transport, (PHONE, HOME));
    vec![plain, expired, alien, on_again]
}

fn not_ip() -> Vec<Case> {
    [("ARP", 0x0806), ("LLDP", 0x88cc), ("MPLS", 0x8847)]
        .map(|(name, ethertype)| Case::of_bytes(name, ethertype, vec![0x45; 64], Verdict::NotIp))
        .to_vec()
}
