//! The network that the rows play in: who is where, and what the route maps say about it.

use std::net::{Ipv4Addr, Ipv6Addr};

use ipnet::{Ipv4Net, Ipv6Net};
use relay_common::{PeerSlot, Route};

use super::bench::PEERS;
use crate::packet::{Ip, Ipv4, Ipv6};

/// Slots of the peers.
pub(super) const HOME: PeerSlot = 0;
pub(super) const PHONE: PeerSlot = 1;
pub(super) const LAPTOP: PeerSlot = 2;

/// Somebody with an address of each family.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Place {
    /// The VPS itself.
    Hub,
    /// The home peer's own address.
    Home,
    /// In the home peer's LAN, which only a prefix tells.
    Nas,
    /// The phone.
    Phone,
    /// The laptop.
    Laptop,
    /// In a longer prefix inside the home LAN, which is the laptop's.
    Camera,
    /// A single address inside both prefixes, which is the phone's.
    Printer,
    /// A single address inside the home LAN that the stack keeps.
    Kept,
    /// In a prefix inside the home LAN for which the kernel has a better way.
    Better,
    /// In nobody's prefixes.
    Nobody,
    /// A single address that shares its lower half with the home peer's, which is the laptop's.
    Twin,
    /// In nobody's prefixes, with the lower half of the home peer's address.
    Lookalike,
    /// A single address that is the home peer's but for what neither its first half nor its last bytes tell, which is the
    /// laptop's.
    Namesake,
    /// In nobody's prefixes, the same otherwise.
    Impostor,
    /// In nobody's prefixes, with a lower half that no other address has.
    Alone,
    /// A peer whose slot is beyond the counters.
    Beyond,
}

/// A family's addresses.
pub(super) trait Family: Ip {
    const NAME: &'static str;

    /// A header from one to the other.
    fn between(from: Place, to: Place) -> Self;
}

impl Family for Ipv4 {
    const NAME: &'static str = "v4";

    fn between(from: Place, to: Place) -> Self {
        Self::new(v4(from), v4(to))
    }
}

impl Family for Ipv6 {
    const NAME: &'static str = "v6";

    fn between(from: Place, to: Place) -> Self {
        Self::new(v6(from), v6(to))
    }
}

/// The tunnel subnet's broadcast address.
pub(super) const BROADCAST: Ipv4Addr = Ipv4Addr::new(10, 9, 0, 255);

pub(super) fn v4(place: Place) -> Ipv4Addr {
    match place {
        Place::Hub => [10, 9, 0, 1],
        Place::Home => [10, 9, 0, 2],
        Place::Phone => [10, 9, 0, 3],
        Place::Laptop => [10, 9, 0, 4],
        Place::Beyond => [10, 9, 0, 5],
        Place::Nas => [192, 168, 40, 10],
        Place::Camera => [192, 168, 40, 65],
        Place::Printer => [192, 168, 40, 70],
        Place::Kept => [192, 168, 40, 1],
        Place::Better => [192, 168, 40, 200],
        Place::Twin => [10, 77, 0, 2],
        Place::Lookalike => [10, 78, 0, 2],
        Place::Namesake => [10, 80, 0, 2],
        Place::Impostor => [10, 81, 0, 2],
        Place::Alone => [10, 9, 99, 99],
        Place::Nobody => [198, 51, 100, 7],
    }
    .into()
}

pub(super) fn v6(place: Place) -> Ipv6Addr {
    match place {
        Place::Hub => [0xfd52, 0x1a9, 0, 0, 0, 0, 0, 1],
        Place::Home => [0xfd52, 0x1a9, 0, 0, 0, 0, 0, 2],
        Place::Phone => [0xfd52, 0x1a9, 0, 0, 0, 0, 0, 3],
        Place::Laptop => [0xfd52, 0x1a9, 0, 0, 0, 0, 0, 4],
        Place::Beyond => [0xfd52, 0x1a9, 0, 0, 0, 0, 0, 5],
        Place::Nas => [0xfd00, 0x40, 0, 0, 0, 0, 0, 0x10],
        Place::Camera => [0xfd00, 0x40, 0, 0, 0x4000, 0, 0, 0x65],
        Place::Printer => [0xfd00, 0x40, 0, 0, 0x4000, 0, 0, 0x70],
        Place::Kept => [0xfd00, 0x40, 0, 0, 0, 0, 0, 1],
        Place::Better => [0xfd00, 0x40, 0, 0, 0x8000, 0, 0, 0x200],
        Place::Twin => [0xfd52, 0x1aa, 0, 0, 0, 0, 0, 2],
        Place::Lookalike => [0xfd52, 0x1a9, 0, 0x1ab, 0, 0, 0, 2],
        Place::Namesake => [0xfd52, 0x1a9, 0, 0, 0, 0x80, 0, 2],
        Place::Impostor => [0xfd52, 0x1a9, 0, 0, 0, 0, 0x81, 2],
        Place::Alone => [0xfd52, 0x1a9, 0, 0, 0, 0, 99, 99],
        Place::Nobody => [0x2001, 0xdb8, 0, 0, 0, 0, 0, 7],
    }
    .into()
}

const HOSTS: [(Place, Route); 9] = [
    (Place::Hub, Route::STACK),
    (Place::Home, Route::peer(HOME)),
    (Place::Phone, Route::peer(PHONE)),
    (Place::Laptop, Route::peer(LAPTOP)),
    (Place::Printer, Route::peer(PHONE)),
    (Place::Kept, Route::STACK),
    (Place::Twin, Route::peer(LAPTOP)),
    (Place::Namesake, Route::peer(LAPTOP)),
    (Place::Beyond, Route::peer(PEERS)),
];

pub(super) fn hosts4() -> Vec<(Ipv4Addr, Route)> {
    let border = MARTIANS4.iter().chain(NEIGHBOURS4).map(|&address| (address, Route::peer(HOME)));
    HOSTS
        .iter()
        .map(|&(place, route)| (v4(place), route))
        .chain([(BROADCAST, Route::STACK)])
        .chain(border)
        .collect()
}

pub(super) fn hosts6() -> Vec<(Ipv6Addr, Route)> {
    let border = MARTIANS6.iter().chain(NEIGHBOURS6).map(|&address| (address, Route::peer(HOME)));
    HOSTS.iter().map(|&(place, route)| (v6(place), route)).chain(border).collect()
}

pub(super) fn lans4() -> Vec<(Ipv4Net, Route)> {
    vec![
        (net("192.168.40.0/24"), Route::peer(HOME)),
        (net("192.168.40.64/26"), Route::peer(LAPTOP)),
        (net("192.168.40.192/27"), Route::STACK),
    ]
}

pub(super) fn lans6() -> Vec<(Ipv6Net, Route)> {
    vec![
        (net("fd00:40::/64"), Route::peer(HOME)),
        (net("fd00:40:0:0:4000::/66"), Route::peer(LAPTOP)),
        (net("fd00:40:0:0:8000::/65"), Route::STACK),
    ]
}

fn net<N: std::str::FromStr<Err: std::fmt::Debug>>(text: &str) -> N {
    text.parse().expect("a prefix")
}

/// The first and the last address of every IPv4 prefix that is never forwarded. The route maps give them all to the home
/// peer, so that only the program's own check keeps them back.
pub(super) const MARTIANS4: &[Ipv4Addr] = &[
    Ipv4Addr::new(0, 0, 0, 0),
    Ipv4Addr::new(0, 255, 255, 255),
    Ipv4Addr::new(127, 0, 0, 0),
    Ipv4Addr::new(127, 0, 0, 1),
    Ipv4Addr::new(127, 255, 255, 255),
    Ipv4Addr::new(169, 254, 0, 0),
    Ipv4Addr::new(169, 254, 255, 255),
    Ipv4Addr::new(224, 0, 0, 0),
    Ipv4Addr::new(239, 255, 255, 255),
    Ipv4Addr::new(240, 0, 0, 0),
    Ipv4Addr::new(255, 255, 255, 255),
];

/// The addresses just outside, which are nothing special.
pub(super) const NEIGHBOURS4: &[Ipv4Addr] = &[
    Ipv4Addr::new(1, 0, 0, 0),
    Ipv4Addr::new(126, 255, 255, 255),
    Ipv4Addr::new(128, 0, 0, 0),
    Ipv4Addr::new(169, 253, 255, 255),
    Ipv4Addr::new(169, 255, 0, 0),
    Ipv4Addr::new(223, 255, 255, 255),
];

const LAST: u16 = 0xffff;

/// As [`MARTIANS4`].
pub(super) const MARTIANS6: &[Ipv6Addr] = &[
    Ipv6Addr::UNSPECIFIED,
    Ipv6Addr::LOCALHOST,
    // IPv4-compatible and IPv4-mapped.
    Ipv6Addr::new(0, 0, 0, 0, 0, 0, 0x0a09, 0x0002),
    Ipv6Addr::new(0, 0, 0, 0, 0, LAST, 0x0a09, 0x0002),
    Ipv6Addr::new(0, 0, 0, 0, 0, LAST, LAST, LAST),
    Ipv6Addr::new(0xfe80, 0, 0, 0, 0, 0, 0, 0),
    Ipv6Addr::new(0xfebf, LAST, LAST, LAST, LAST, LAST, LAST, LAST),
    Ipv6Addr::new(0xff00, 0, 0, 0, 0, 0, 0, 0),
    Ipv6Addr::new(0xff02, 0, 0, 0, 0, 0, 0, 1),
    Ipv6Addr::new(LAST, LAST, LAST, LAST, LAST, LAST, LAST, LAST),
];

/// As [`NEIGHBOURS4`].
pub(super) const NEIGHBOURS6: &[Ipv6Addr] = &[
    Ipv6Addr::new(0, 0, 0, 0, 1, 0, 0, 0),
    Ipv6Addr::new(0, 0, 0, 1, 0, 0, 0, 0),
    Ipv6Addr::new(0, 0, 1, 0, 0, 0, 0, 0),
    Ipv6Addr::new(0, 1, 0, 0, 0, 0, 0, 0),
    Ipv6Addr::new(1, 0, 0, 0, 0, 0, 0, 0),
    // NAT64's well-known prefix.
    Ipv6Addr::new(0x64, 0xff9b, 0, 0, 0, 0, 0x0a09, 0x0002),
    Ipv6Addr::new(0xfe7f, LAST, LAST, LAST, LAST, LAST, LAST, LAST),
    Ipv6Addr::new(0xfec0, 0, 0, 0, 0, 0, 0, 0),
    Ipv6Addr::new(0xfeff, LAST, LAST, LAST, LAST, LAST, LAST, LAST),
];
