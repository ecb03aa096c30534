//! Who may reach whom, and whose counters move: the same questions for both families.

use std::net::{Ipv4Addr, Ipv6Addr};

use relay_common::Verdict;

use super::{
    Case, Row, Setup,
    net::{
        BROADCAST, Family, HOME, LAPTOP, MARTIANS4, MARTIANS6, NEIGHBOURS4, NEIGHBOURS6, PHONE, Place, v4, v6,
    },
};
use crate::packet::{Ipv4, Ipv6, Transport};

pub(super) fn rows() -> Vec<Row> {
    vec![
        row("each peer's counters are its own", both(peers::<Ipv4>, peers::<Ipv6>)),
        row(
            "what goes by the fast path comes back by it",
            both(there_and_back::<Ipv4>, there_and_back::<Ipv6>),
        ),
        row("a single address comes before a prefix", both(precedence::<Ipv4>, precedence::<Ipv6>)),
        row(
            "an address is told from its neighbours in the table",
            both(neighbourhood::<Ipv4>, neighbourhood::<Ipv6>),
        ),
        row("the table answers alone while it has all", both(all_direct::<Ipv4>, all_direct::<Ipv6>)),
        row("the hub's own addresses are the stack's", both(local::<Ipv4>, local::<Ipv6>)),
        row("the subnet's broadcast is the stack's", broadcast()),
        row("an unknown destination is the stack's", both(nowhere::<Ipv4>, nowhere::<Ipv6>)),
        row("an unknown source is the stack's", both(nobody::<Ipv4>, nobody::<Ipv6>)),
        row("one peer's hairpin is the stack's", both(hairpin::<Ipv4>, hairpin::<Ipv6>)),
        row("a slot beyond the counters is the stack's", both(beyond::<Ipv4>, beyond::<Ipv6>)),
        row("a martian destination is the stack's", martian_destinations()),
        row("a martian source is the stack's", martian_sources()),
        row("a martian's neighbour is forwarded", neighbours()),
    ]
}

fn row(name: &'static str, cases: Vec<Case>) -> Row {
    Row { name, setup: Setup::TestRun, cases }
}

fn both(v4: fn() -> Vec<Case>, v6: fn() -> Vec<Case>) -> Vec<Case> {
    [v4(), v6()].concat()
}

fn transport() -> Transport {
    Transport::Udp(4000, 4001, b"hello".to_vec())
}

fn forwarded<I: Family>(from: Place, to: Place, way: (u32, u32)) -> Case {
    Case::forwarded(format!("{} {from:?} to {to:?}", I::NAME), &I::between(from, to), &transport(), way)
}

fn punted<I: Family>(from: Place, to: Place, verdict: Verdict) -> Case {
    Case::punted(format!("{} {from:?} to {to:?}", I::NAME), &I::between(from, to), &transport(), verdict)
}

/// Addresses that end alike are as different as any.
fn neighbourhood<I: Family>() -> Vec<Case> {
    vec![
        forwarded::<I>(Place::Home, Place::Twin, (HOME, LAPTOP)),
        forwarded::<I>(Place::Twin, Place::Home, (LAPTOP, HOME)),
        forwarded::<I>(Place::Phone, Place::Twin, (PHONE, LAPTOP)),
        punted::<I>(Place::Phone, Place::Lookalike, Verdict::UnknownDestination),
        punted::<I>(Place::Lookalike, Place::Phone, Verdict::UnknownSource),
        forwarded::<I>(Place::Home, Place::Namesake, (HOME, LAPTOP)),
        forwarded::<I>(Place::Namesake, Place::Home, (LAPTOP, HOME)),
        punted::<I>(Place::Phone, Place::Impostor, Verdict::UnknownDestination),
        punted::<I>(Place::Impostor, Place::Phone, Verdict::UnknownSource),
        punted::<I>(Place::Phone, Place::Alone, Verdict::UnknownDestination),
        punted::<I>(Place::Alone, Place::Phone, Verdict::UnknownSource),
    ]
}

/// What is not in the table is in no map but that of prefixes.
fn all_direct<I: Family>() -> Vec<Case> {
    let mut cases = vec![
        forwarded::<I>(Place::Phone, Place::Home, (PHONE, HOME)),
        forwarded::<I>(Place::Phone, Place::Nas, (PHONE, HOME)),
        forwarded::<I>(Place::Nas, Place::Phone, (HOME, PHONE)),
        punted::<I>(Place::Phone, Place::Nobody, Verdict::UnknownDestination),
        punted::<I>(Place::Phone, Place::Twin, Verdict::UnknownDestination),
        punted::<I>(Place::Twin, Place::Phone, Verdict::UnknownSource),
        punted::<I>(Place::Phone, Place::Namesake, Verdict::UnknownDestination),
        punted::<I>(Place::Namesake, Place::Phone, Verdict::UnknownSource),
    ];
    for case in &mut cases {
        case.given.all_direct = true;
    }
    cases
}

fn peers<I: Family>() -> Vec<Case> {
    let peers = [
        (Place::Home, HOME),
        (Place::Phone, PHONE),
        (Place::Laptop, LAPTOP),
        (Place::Nas, HOME),
        (Place::Camera, LAPTOP),
        (Place::Printer, PHONE),
    ];
    let pairs = peers.iter().flat_map(|from| peers.iter().map(move |to| (from, to)));
    pairs
        .filter(|(from, to)| from.1 != to.1)
        .map(|(from, to)| forwarded::<I>(from.0, to.0, (from.1, to.1)))
        .collect()
}

/// From everywhere to everywhere. What is fast does not depend on which end sends, so that whoever tracks connections
/// sees both directions of one, or neither.
fn there_and_back<I: Family>() -> Vec<Case> {
    let peers = [
        (Place::Home, HOME),
        (Place::Nas, HOME),
        (Place::Phone, PHONE),
        (Place::Printer, PHONE),
        (Place::Laptop, LAPTOP),
        (Place::Camera, LAPTOP),
    ];
    let others = [Place::Hub, Place::Kept, Place::Better, Place::Nobody];
    let places = || peers.iter().map(|peer| peer.0).chain(others);
    let peer = |place| peers.iter().find(|peer| peer.0 == place).map(|peer| peer.1);
    let pairs = places().flat_map(|from| places().map(move |to| (from, to)));
    pairs
        .map(|(from, to)| match (peer(from), peer(to)) {
            (Some(sender), Some(receiver)) if sender != receiver => {
                forwarded::<I>(from, to, (sender, receiver))
            }
            (Some(_), Some(_)) => punted::<I>(from, to, Verdict::SamePeer),
            (None, Some(_)) => punted::<I>(from, to, Verdict::UnknownSource),
            (_, None) if to == Place::Nobody => punted::<I>(from, to, Verdict::UnknownDestination),
            (_, None) => punted::<I>(from, to, Verdict::Local),
        })
        .collect()
}

fn precedence<I: Family>() -> Vec<Case> {
    vec![
        forwarded::<I>(Place::Home, Place::Printer, (HOME, PHONE)),
        forwarded::<I>(Place::Printer, Place::Home, (PHONE, HOME)),
        // Of two prefixes the longer one.
        forwarded::<I>(Place::Home, Place::Camera, (HOME, LAPTOP)),
        punted::<I>(Place::Phone, Place::Kept, Verdict::Local),
        punted::<I>(Place::Phone, Place::Better, Verdict::Local),
        // What is not the phone's single address is its surroundings' peer.
        punted::<I>(Place::Laptop, Place::Camera, Verdict::SamePeer),
        punted::<I>(Place::Printer, Place::Phone, Verdict::SamePeer),
    ]
}

fn local<I: Family>() -> Vec<Case> {
    let mut cases = vec![];
    for from in [Place::Phone, Place::Home, Place::Nas, Place::Nobody] {
        cases.push(punted::<I>(from, Place::Hub, Verdict::Local));
    }
    cases
}

fn broadcast() -> Vec<Case> {
    [Place::Phone, Place::Laptop]
        .map(|from| {
            let ip = Ipv4::new(v4(from), BROADCAST);
            Case::punted(format!("{from:?} to {BROADCAST}"), &ip, &transport(), Verdict::Local)
        })
        .to_vec()
}

fn nowhere<I: Family>() -> Vec<Case> {
    vec![
        punted::<I>(Place::Phone, Place::Nobody, Verdict::UnknownDestination),
        punted::<I>(Place::Nobody, Place::Nobody, Verdict::UnknownDestination),
    ]
}

fn nobody<I: Family>() -> Vec<Case> {
    vec![
        punted::<I>(Place::Nobody, Place::Home, Verdict::UnknownSource),
        punted::<I>(Place::Nobody, Place::Nas, Verdict::UnknownSource),
        // The hub sends nothing into its own ingress; somebody who says so is not believed.
        punted::<I>(Place::Hub, Place::Home, Verdict::UnknownSource),
        punted::<I>(Place::Better, Place::Phone, Verdict::UnknownSource),
    ]
}

fn hairpin<I: Family>() -> Vec<Case> {
    vec![
        punted::<I>(Place::Home, Place::Home, Verdict::SamePeer),
        punted::<I>(Place::Home, Place::Nas, Verdict::SamePeer),
        punted::<I>(Place::Nas, Place::Home, Verdict::SamePeer),
        punted::<I>(Place::Phone, Place::Phone, Verdict::SamePeer),
    ]
}

fn beyond<I: Family>() -> Vec<Case> {
    vec![
        punted::<I>(Place::Phone, Place::Beyond, Verdict::Internal),
        punted::<I>(Place::Beyond, Place::Phone, Verdict::Internal),
    ]
}

fn martian_destinations() -> Vec<Case> {
    let v4 = MARTIANS4.iter().map(|&to| addressed4(v4(Place::Phone), to, Verdict::Martian));
    let v6 = MARTIANS6.iter().map(|&to| addressed6(v6(Place::Phone), to, Verdict::Martian));
    v4.chain(v6).collect()
}

fn martian_sources() -> Vec<Case> {
    let v4 = MARTIANS4.iter().map(|&from| addressed4(from, v4(Place::Phone), Verdict::Martian));
    let v6 = MARTIANS6.iter().map(|&from| addressed6(from, v6(Place::Phone), Verdict::Martian));
    v4.chain(v6).collect()
}

fn neighbours() -> Vec<Case> {
    let phone = (v4(Place::Phone), v6(Place::Phone));
    let v4 = NEIGHBOURS4.iter().flat_map(|&home| {
        [
            Case::forwarded(format!("to {home}"), &Ipv4::new(phone.0, home), &transport(), (PHONE, HOME)),
            Case::forwarded(format!("from {home}"), &Ipv4::new(home, phone.0), &transport(), (HOME, PHONE)),
        ]
    });
    let v6 = NEIGHBOURS6.iter().flat_map(|&home| {
        [
            Case::forwarded(format!("to {home}"), &Ipv6::new(phone.1, home), &transport(), (PHONE, HOME)),
            Case::forwarded(format!("from {home}"), &Ipv6::new(home, phone.1), &transport(), (HOME, PHONE)),
        ]
    });
    v4.chain(v6).collect()
}

fn addressed4(from: Ipv4Addr, to: Ipv4Addr, verdict: Verdict) -> Case {
    Case::punted(format!("{from} to {to}"), &Ipv4::new(from, to), &transport(), verdict)
}

fn addressed6(from: Ipv6Addr, to: Ipv6Addr, verdict: Verdict) -> Case {
    Case::punted(format!("{from} to {to}"), &Ipv6::new(from, to), &transport(), verdict)
}
