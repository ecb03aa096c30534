//! The MSS of SYNs: lowered where it stands first, left alone where it fits, the stack's where it stands elsewhere.

use relay_common::Verdict;

use super::{
    Case, Row, Setup,
    bench::MTU,
    net::{Family, HOME, PHONE, Place},
};
use crate::packet::{Ip, Ipv4, Ipv6, Tcp, Transport, flag, protocol};

pub(super) fn rows() -> Vec<Row> {
    vec![
        row("a SYN's MSS is lowered to the tunnel's", both(lowered::<Ipv4>, lowered::<Ipv6>)),
        row("a SYN's MSS that fits stays", both(fitting::<Ipv4>, fitting::<Ipv6>)),
        row("a SYN without an MSS stays", both(without::<Ipv4>, without::<Ipv6>)),
        row("a SYN whose MSS stands elsewhere is the stack's", both(elsewhere::<Ipv4>, elsewhere::<Ipv6>)),
        row("a SYN with a wrong header length is the stack's", both(lengths::<Ipv4>, lengths::<Ipv6>)),
        row("only a SYN's MSS is lowered", both(others::<Ipv4>, others::<Ipv6>)),
    ]
}

fn row(name: &'static str, cases: Vec<Case>) -> Row {
    Row { name, setup: Setup::TestRun, cases }
}

fn both(v4: fn() -> Vec<Case>, v6: fn() -> Vec<Case>) -> Vec<Case> {
    [v4(), v6()].concat()
}

/// The largest MSS that a tunnel with this MTU carries: without the IP header and TCP's.
pub(super) fn limit<I: Ip>(mtu: u32) -> u16 {
    u16::try_from(mtu).expect("an MTU") - u16::try_from(I::HEADER).expect("short") - 20
}

/// A packet whose TCP segment comes out with another MSS.
pub(super) fn clamped<I: Family>(label: &str, before: &Tcp, after: &Tcp) -> Case {
    let ip = I::between(Place::Phone, Place::Home);
    let transport = Transport::Tcp(before.clone());
    let mut case = Case::forwarded(format!("{} {label}", I::NAME), &ip, &transport, (PHONE, HOME));
    case.out = ip.after_hop().carry(&Transport::Tcp(after.clone()));
    case
}

fn forwarded<I: Family>(label: &str, tcp: &Tcp) -> Case {
    clamped::<I>(label, tcp, tcp)
}

fn punted<I: Family>(label: &str, tcp: &Tcp, verdict: Verdict) -> Case {
    let ip = I::between(Place::Phone, Place::Home);
    Case::punted(format!("{} {label}", I::NAME), &ip, &Transport::Tcp(tcp.clone()), verdict)
}

fn lowered<I: Family>() -> Vec<Case> {
    let limit = limit::<I>(MTU);
    let mut cases = vec![];
    for mss in [limit + 1, 1460, 1440, 1461, 8960, 0x7fff, 0xff00, 0xffff] {
        for flags in [flag::SYN, flag::SYN | flag::ACK] {
            // Many sequence numbers, so that the checksum passes every carry.
            for sequence in [0, 0x0102_0304, 0xffff_0000, 0x8000_7fff] {
                let before = Tcp { flags, sequence, ..Tcp::syn(mss) };
                let after = Tcp { flags, sequence, ..Tcp::syn(limit) };
                let label = format!("MSS {mss}, flags {flags:#04x}, sequence {sequence:#x}");
                cases.push(clamped::<I>(&label, &before, &after));
            }
        }
    }
    let alone = |mss: u16| Tcp { options: [&[2, 4][..], &mss.to_be_bytes()].concat(), ..Tcp::new(flag::SYN) };
    cases.push(clamped::<I>("nothing but an MSS", &alone(1460), &alone(limit)));
    let twice = |mss: u16| Tcp { options: [alone(mss).options, alone(1460).options].concat(), ..alone(mss) };
    cases.push(clamped::<I>("the first of two", &twice(1460), &twice(limit)));
    let opening = |mss| Tcp { payload: b"fast open".to_vec(), ..Tcp::syn(mss) };
    cases.push(clamped::<I>("with data", &opening(1460), &opening(limit)));
    cases
}

fn fitting<I: Family>() -> Vec<Case> {
    let limit = limit::<I>(MTU);
    [0, 1, 536, 1220, limit - 1, limit]
        .iter()
        .flat_map(|&mss| {
            [flag::SYN, flag::SYN | flag::ACK].map(|flags| {
                forwarded::<I>(&format!("MSS {mss}, flags {flags:#04x}"), &Tcp { flags, ..Tcp::syn(mss) })
            })
        })
        .collect()
}

/// As the stack's rule has it, which adds no option.
fn without<I: Family>() -> Vec<Case> {
    vec![
        forwarded::<I>("SYN", &Tcp::new(flag::SYN)),
        forwarded::<I>("SYN and ACK", &Tcp::new(flag::SYN | flag::ACK)),
        forwarded::<I>("SYN with data", &Tcp { payload: vec![2, 4, 5, 0xb4], ..Tcp::new(flag::SYN) }),
    ]
}

fn elsewhere<I: Family>() -> Vec<Case> {
    let options: [(&str, &[u8]); 6] = [
        ("behind two no-operations", &[1, 1, 2, 4, 5, 0xb4, 1, 1]),
        ("behind the window scale", &[3, 3, 7, 2, 4, 5, 0xb4, 0]),
        ("nowhere", &[1, 3, 3, 7]),
        ("end of options first", &[0, 0, 0, 0]),
        ("of a wrong length", &[2, 3, 5, 1]),
        ("of another wrong length", &[2, 6, 5, 0xb4, 0, 0, 0, 0]),
    ];
    let mut cases: Vec<_> = options
        .iter()
        .map(|(name, options)| {
            let tcp = Tcp { options: options.to_vec(), ..Tcp::new(flag::SYN) };
            punted::<I>(&format!("MSS {name}"), &tcp, Verdict::Mss)
        })
        .collect();
    for flags in [flag::SYN | flag::RST, flag::SYN | flag::FIN] {
        let tcp = Tcp { flags, ..Tcp::syn(1460) };
        cases.push(punted::<I>(&format!("flags {flags:#04x}"), &tcp, Verdict::Mss));
    }
    cases
}

fn lengths<I: Family>() -> Vec<Case> {
    let with = |data_offset| Tcp { data_offset: Some(data_offset), ..Tcp::syn(1460) };
    vec![
        punted::<I>("no header", &with(0), Verdict::Malformed),
        punted::<I>("16 bytes", &with(4), Verdict::Malformed),
        punted::<I>("four more than there are", &with(11), Verdict::Malformed),
        punted::<I>("60 bytes", &with(15), Verdict::Malformed),
    ]
}

fn others<I: Family>() -> Vec<Case> {
    let mut cases: Vec<_> = [flag::ACK, flag::PSH | flag::ACK, flag::RST, flag::FIN | flag::ACK, 0]
        .iter()
        .map(|&flags| forwarded::<I>(&format!("flags {flags:#04x}"), &Tcp { flags, ..Tcp::syn(1460) }))
        .collect();
    // The bytes of a SYN, but not of TCP.
    let ip = I::between(Place::Phone, Place::Home);
    let segment = ip.carry(&Transport::Tcp(Tcp::syn(1460))).split_off(I::HEADER);
    let disguised = Transport::Raw(protocol::UDP, segment);
    cases.push(Case::forwarded(format!("{} under UDP's number", I::NAME), &ip, &disguised, (PHONE, HOME)));
    cases
}
