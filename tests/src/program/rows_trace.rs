//! What a tracer is told, and that nobody is told anything while none asks.

use std::net::IpAddr;

use relay_common::{Event, Header, PeerSlot, Trace, Verdict};

use super::{
    Case, Row, Setup,
    net::{Family, HOME, LAPTOP, PHONE, Place, v4, v6},
};
use crate::packet::{Ipv4, Ipv6, Transport, protocol};

/// Every verdict.
const EVERYTHING: u32 = u32::MAX;
/// Long after every test.
const ALIVE: u64 = u64::MAX;
/// A nanosecond after boot.
const KILLED: u64 = 1;

pub(super) fn rows() -> Vec<Row> {
    vec![
        row("nothing is told while nobody traces", both(untold::<Ipv4>, untold::<Ipv6>)),
        row("a tracer is told what becomes of packets", both(told::<Ipv4>, told::<Ipv6>)),
        row(
            "a tracer is told of what is not IP",
            headless(&[Case::of_bytes("ARP", 0x0806, vec![0; 28], Verdict::NotIp)]),
        ),
        row("only the chosen peer's packets are told", both(of_peer::<Ipv4>, of_peer::<Ipv6>)),
        row("only the chosen verdicts are told", both(of_verdict::<Ipv4>, of_verdict::<Ipv6>)),
        row("a tracer that was killed is told nothing more", both(expired::<Ipv4>, expired::<Ipv6>)),
        Row {
            name: "a tunnel's own packets are told",
            setup: Setup::Tun { mtu: super::bench::MTU, offload: false },
            cases: [both(bare::<Ipv4>, bare::<Ipv6>), headless(&cut_off())].concat(),
        },
    ]
}

fn row(name: &'static str, cases: Vec<Case>) -> Row {
    Row { name, setup: Setup::TestRun, cases }
}

fn both(v4: fn() -> Vec<Case>, v6: fn() -> Vec<Case>) -> Vec<Case> {
    [v4(), v6()].concat()
}

fn udp() -> Transport {
    Transport::Udp(1234, 53, b"question".to_vec())
}

/// A case of the fast path, and one of the stack.
fn forwarded<I: Family>(from: (Place, PeerSlot), to: (Place, PeerSlot)) -> Case {
    let label = format!("{} from {:?} to {:?}", I::NAME, from.0, to.0);
    Case::forwarded(label, &I::between(from.0, to.0), &udp(), (from.1, to.1))
}

fn punted<I: Family>(from: Place, to: Place, verdict: Verdict) -> Case {
    let label = format!("{} from {from:?} to {to:?}", I::NAME);
    Case::punted(label, &I::between(from, to), &udp(), verdict)
}

impl Case {
    /// With somebody tracing.
    fn asked(mut self, trace: Trace) -> Self {
        self.given.trace = (trace, true);
        self.traced = true;
        self
    }

    /// With all of it told.
    fn tells<I: Family>(self, from: (Place, Option<PeerSlot>), to: (Place, Option<PeerSlot>)) -> Self {
        let header = header::<I>(from, to);
        self.tells_header(header)
    }

    fn tells_header(mut self, header: Header) -> Self {
        self.told = Some(Event {
            time: 0,
            bytes: self.given.packet.len() as u64,
            packets: self.packets,
            verdict: self.verdict as u64,
            ethertype: self.given.ethertype.into(),
            header,
        });
        self
    }
}

fn header<I: Family>(from: (Place, Option<PeerSlot>), to: (Place, Option<PeerSlot>)) -> Header {
    let one_more = |slot: Option<PeerSlot>| slot.map_or(0, |slot| u64::from(slot) + 1);
    let words = |place: Place| {
        let address: IpAddr = if I::NAME == "v4" { v4(place).into() } else { v6(place).into() };
        let mut bytes = [0; 16];
        match address {
            IpAddr::V4(address) => bytes[..4].copy_from_slice(&address.octets()),
            IpAddr::V6(address) => bytes = address.octets(),
        }
        bytemuck::cast(bytes)
    };
    Header {
        version: if I::NAME == "v4" { 4 } else { 6 },
        protocol: protocol::UDP.into(),
        from: one_more(from.1),
        to: one_more(to.1),
        source: words(from.0),
        destination: words(to.0),
    }
}

fn everything() -> Trace {
    Trace { until: ALIVE, verdicts: EVERYTHING, peer: Trace::ANYBODY }
}

fn untold<I: Family>() -> Vec<Case> {
    let asked = (everything(), false);
    let cases = [
        forwarded::<I>((Place::Phone, PHONE), (Place::Home, HOME)),
        punted::<I>(Place::Phone, Place::Nobody, Verdict::UnknownDestination),
    ];
    cases
        .into_iter()
        .map(|mut case| {
            case.given.trace = asked;
            case
        })
        .collect()
}

fn told<I: Family>() -> Vec<Case> {
    let (phone, home) = ((Place::Phone, Some(PHONE)), (Place::Home, Some(HOME)));
    let mut merged = forwarded::<I>((Place::Phone, PHONE), (Place::Nas, HOME));
    (merged.label, merged.packets, merged.given.merged) = (format!("{} merged", I::NAME), 3, Some((3, 4)));
    let mut off = punted::<I>(Place::Phone, Place::Home, Verdict::Off);
    (off.label, off.given.enabled) = (format!("{} off", I::NAME), false);
    let last_hop = I::between(Place::Phone, Place::Home).with_hops(1);
    let cases = vec![
        forwarded::<I>((Place::Phone, PHONE), (Place::Home, HOME)).tells::<I>(phone, home),
        merged.tells::<I>(phone, (Place::Nas, Some(HOME))),
        off.tells::<I>(phone, home),
        Case::punted(format!("{} expired", I::NAME), &last_hop, &udp(), Verdict::TtlExpired)
            .tells::<I>(phone, home),
        punted::<I>(Place::Phone, Place::Hub, Verdict::Local).tells::<I>(phone, (Place::Hub, None)),
        punted::<I>(Place::Phone, Place::Nobody, Verdict::UnknownDestination)
            .tells::<I>(phone, (Place::Nobody, None)),
        punted::<I>(Place::Nobody, Place::Home, Verdict::UnknownSource)
            .tells::<I>((Place::Nobody, None), home),
        punted::<I>(Place::Home, Place::Nas, Verdict::SamePeer).tells::<I>(home, (Place::Nas, Some(HOME))),
    ];
    cases.into_iter().map(|case| case.asked(everything())).collect()
}

/// What has no header that could be told, and is told unless a peer is chosen.
fn headless(cases: &[Case]) -> Vec<Case> {
    let told = cases.iter().cloned().map(|case| case.tells_header(Header::default()).asked(everything()));
    let of_phone = Trace { peer: PHONE, ..everything() };
    told.chain(cases.iter().cloned().map(|case| case.asked(of_phone))).collect()
}

fn of_peer<I: Family>() -> Vec<Case> {
    let (phone, home) = ((Place::Phone, Some(PHONE)), (Place::Home, Some(HOME)));
    let cases = vec![
        forwarded::<I>((Place::Phone, PHONE), (Place::Home, HOME)).tells::<I>(phone, home),
        forwarded::<I>((Place::Home, HOME), (Place::Phone, PHONE)).tells::<I>(home, phone),
        punted::<I>(Place::Phone, Place::Nobody, Verdict::UnknownDestination)
            .tells::<I>(phone, (Place::Nobody, None)),
        forwarded::<I>((Place::Home, HOME), (Place::Laptop, LAPTOP)),
        punted::<I>(Place::Home, Place::Nobody, Verdict::UnknownDestination),
    ];
    cases.into_iter().map(|case| case.asked(Trace { peer: PHONE, ..everything() })).collect()
}

fn of_verdict<I: Family>() -> Vec<Case> {
    let home = (Place::Home, Some(HOME));
    let cases = vec![
        punted::<I>(Place::Nobody, Place::Home, Verdict::UnknownSource)
            .tells::<I>((Place::Nobody, None), home),
        punted::<I>(Place::Home, Place::Nas, Verdict::SamePeer).tells::<I>(home, (Place::Nas, Some(HOME))),
        forwarded::<I>((Place::Phone, PHONE), (Place::Home, HOME)),
        punted::<I>(Place::Phone, Place::Nobody, Verdict::UnknownDestination),
    ];
    let verdicts = Trace::bit(Verdict::UnknownSource) | Trace::bit(Verdict::SamePeer);
    cases.into_iter().map(|case| case.asked(Trace { verdicts, ..everything() })).collect()
}

fn expired<I: Family>() -> Vec<Case> {
    let mut case = forwarded::<I>((Place::Phone, PHONE), (Place::Home, HOME))
        .asked(Trace { until: KILLED, ..everything() });
    case.traced = false;
    vec![case]
}

fn bare<I: Family>() -> Vec<Case> {
    let (phone, home) = ((Place::Phone, Some(PHONE)), (Place::Home, Some(HOME)));
    let cases = vec![
        forwarded::<I>((Place::Phone, PHONE), (Place::Home, HOME)).tells::<I>(phone, home),
        punted::<I>(Place::Phone, Place::Hub, Verdict::Local).tells::<I>(phone, (Place::Hub, None)),
    ];
    cases.into_iter().map(|case| case.asked(everything())).collect()
}

fn cut_off() -> [Case; 2] {
    [
        Case::of_bytes("v4 cut off", 0x0800, vec![0x45; 19], Verdict::Malformed),
        Case::of_bytes("v6 cut off", 0x86dd, vec![0x60; 39], Verdict::Malformed),
    ]
}
