//! The network of the measurements: a phone, a home with a LAN behind it, and the hub.

use std::net::{Ipv4Addr, Ipv6Addr};

use relay_common::{PeerSlot, Route};

/// The phone's addresses.
pub(crate) const PHONE4: Ipv4Addr = Ipv4Addr::new(10, 9, 0, 3);
pub(crate) const PHONE6: Ipv6Addr = Ipv6Addr::new(0xfd52, 0x1a9, 0, 0, 0, 0, 0, 3);

/// The home's addresses.
pub(crate) const HOME4: Ipv4Addr = Ipv4Addr::new(10, 9, 0, 2);
pub(crate) const HOME6: Ipv6Addr = Ipv6Addr::new(0xfd52, 0x1a9, 0, 0, 0, 0, 0, 2);

/// Somebody in the home's LAN.
pub(crate) const NAS4: Ipv4Addr = Ipv4Addr::new(192, 168, 40, 10);
pub(crate) const NAS6: Ipv6Addr = Ipv6Addr::new(0xfd40, 0, 0, 0, 0, 0, 0, 0x10);

/// What the tunnel has, as `ip` takes it.
pub(crate) const TUNNEL: [&str; 4] = [
    "address add 10.9.0.1/24 dev wg0",
    "address add fd52:1a9::1/64 dev wg0 nodad",
    "route add 192.168.40.0/24 dev wg0",
    "route add fd40::/64 dev wg0",
];

const HOME: PeerSlot = 0;
const PHONE: PeerSlot = 1;

/// The route maps for it, as relay's daemon would fill them.
pub(crate) struct Routes {
    pub(crate) hosts4: Vec<(Ipv4Addr, Route)>,
    pub(crate) hosts6: Vec<(Ipv6Addr, Route)>,
    /// Address, prefix length, route.
    pub(crate) lans4: Vec<(Ipv4Addr, u32, Route)>,
    pub(crate) lans6: Vec<(Ipv6Addr, u32, Route)>,
}

impl Routes {
    /// Those of the phone and the home.
    pub(crate) fn of_two() -> Self {
        let (home, phone) = (Route::peer(HOME), Route::peer(PHONE));
        Self {
            hosts4: vec![
                (HOME4, home),
                (PHONE4, phone),
                (Ipv4Addr::new(10, 9, 0, 0), Route::STACK),
                (Ipv4Addr::new(10, 9, 0, 1), Route::STACK),
                (Ipv4Addr::new(10, 9, 0, 255), Route::STACK),
            ],
            hosts6: vec![
                (HOME6, home),
                (PHONE6, phone),
                (Ipv6Addr::new(0xfd52, 0x1a9, 0, 0, 0, 0, 0, 0), Route::STACK),
                (Ipv6Addr::new(0xfd52, 0x1a9, 0, 0, 0, 0, 0, 1), Route::STACK),
            ],
            lans4: vec![(Ipv4Addr::new(192, 168, 40, 0), 24, home)],
            lans6: vec![(Ipv6Addr::new(0xfd40, 0, 0, 0, 0, 0, 0, 0), 64, home)],
        }
    }

    /// Those of many peers with both families each, and of LANs that are spread over them.
    pub(crate) fn of(peers: usize, lans: usize) -> Self {
        let slot = |number: usize| Route::peer(number as PeerSlot);
        Self {
            hosts4: (0..peers).map(|number| (peer4(number), slot(number))).collect(),
            hosts6: (0..peers).map(|number| (peer6(number), slot(number))).collect(),
            lans4: (0..lans).map(|lan| (lan4(lan, 0), 24, slot(lan % peers))).collect(),
            lans6: Vec::new(),
        }
    }
}

/// The address of one of many peers.
pub(crate) fn peer4(number: usize) -> Ipv4Addr {
    Ipv4Addr::new(10, 9, (100 + number / 200) as u8, (1 + number % 200) as u8)
}

fn peer6(number: usize) -> Ipv6Addr {
    Ipv6Addr::new(0xfd52, 0x1a9, 0, 0, 0, 0, 1, number as u16)
}

/// An address in one of many LANs.
pub(crate) fn lan4(lan: usize, host: u8) -> Ipv4Addr {
    Ipv4Addr::new(10, 200, lan as u8, host)
}
