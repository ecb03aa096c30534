//! Decides what the route maps shall hold, and in which order they are changed to it. Pure.
//!
//! The rule behind every choice: a wrong or missing entry may send a packet to the stack, never to a peer that the
//! kernel's own routing would not choose.

mod changes;

use std::{
    cell::LazyCell,
    cmp::Reverse,
    collections::{BTreeMap, BTreeSet, HashSet},
    net::IpAddr,
};

use ipnet::IpNet;
use relay_common::{Direct6, MAX_HOSTS, MAX_LANS, MAX_PEERS, Network6, PeerSlot, Route};

pub use self::changes::diff;
use crate::{
    desired::Desired,
    key::PublicKey,
    maps::Maps,
    observed::{Device, KernelRoute, UNICAST},
    side_by_side::side_by_side,
};

/// A tunnel as the fast path sees it, whoever keeps it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Tunnel {
    /// The host's own addresses in it, each with the prefix of its subnet.
    pub addresses: BTreeSet<IpNet>,
    /// Each peer's allowed IPs.
    pub peers: BTreeMap<PublicKey, Vec<IpNet>>,
    /// Who sees to the routes into it.
    pub routes: Routes,
}

/// Who sees to the routes into a tunnel.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Routes {
    /// Relay: every prefix of a peer has one, or is about to get it.
    Relay,
    /// Somebody else: what has none is the stack's.
    SomebodyElse,
}

impl From<&Desired> for Tunnel {
    /// The tunnel that relay itself keeps.
    fn from(desired: &Desired) -> Self {
        let peers = desired.peers.iter().map(|(key, peer)| (*key, peer.allowed_ips().collect())).collect();
        Self { addresses: desired.addresses.clone(), peers, routes: Routes::Relay }
    }
}

/// What the maps shall hold.
///
/// - A peer's prefixes are there only while the device shows an endpoint for it: without one the stack can answer
///   "unreachable", which a redirect cannot.
/// - The hub's addresses, its subnets' broadcasts and router anycasts, and whatever the kernel routes elsewhere than
///   into the tunnel, or with an MTU of its own, at least as specifically as a peer's prefix go to the stack.
/// - Where somebody else sees to the routes, so does a prefix that has none into the tunnel.
/// - A prefix that has no entry of its own and lies within another peer's goes to the stack as well.
/// - Peers keep their slots (`slots`: those that the maps hold); a new peer gets the lowest free one.
/// - What finds no room goes to the stack too, and is counted.
///
/// `ifindex` is the tunnel's; `routes` are those of the main and local tables.
#[must_use]
pub fn desired_maps(
    tunnel: &Tunnel,
    device: Option<&Device>,
    ifindex: u32,
    routes: &[KernelRoute],
    slots: &BTreeMap<PublicKey, PeerSlot>,
) -> Maps {
    let (slots, overflow) = assign(&tunnel.peers, slots);
    let elsewhere = elsewhere(tunnel, ifindex, routes);
    let inward: Covers =
        routes.iter().filter(|route| into_tunnel(route, ifindex)).map(|route| route.destination).collect();
    let route_to = |prefix: &IpNet| match tunnel.routes {
        Routes::Relay => Some(our_route(&tunnel.addresses, prefix)),
        Routes::SomebodyElse => inward.length(prefix),
    };
    let claimed = LazyCell::new(|| tunnel.peers.values().flatten().copied().collect::<Covers>());

    let mut ways: Vec<(IpNet, Route)> = Vec::new();
    let none = BTreeMap::new();
    let live = device.map_or(&none, |device| &device.peers);
    for (key, prefixes, live) in side_by_side(&tunnel.peers, live) {
        let Some(prefixes) = prefixes else { continue };
        let reachable = live.is_some_and(|peer| peer.endpoint.is_some());
        let (true, Some(&slot)) = (reachable, slots.get(key)) else {
            // What its neighbour's wider prefix says is not meant for it.
            let enclosed = prefixes
                .iter()
                .map(IpNet::trunc)
                .filter(|prefix| prefix.supernet().is_some_and(|wider| claimed.length(&wider).is_some()));
            ways.extend(enclosed.map(|prefix| (prefix, Route::STACK)));
            continue;
        };
        for prefix in prefixes.iter().map(IpNet::trunc) {
            let leads_in = route_to(&prefix).is_some_and(|specific| {
                !elsewhere.iter().any(|other| other.contains(&prefix) && other.prefix_len() >= specific)
            });
            ways.push((prefix, if leads_in { Route::peer(slot) } else { Route::STACK }));
            // Holes in a LAN that the kernel routes elsewhere.
            let holes = elsewhere.iter().filter(|other| prefix.contains(*other));
            ways.extend(holes.map(|other| (*other, Route::STACK)));
        }
    }
    // Last, so that nothing overrules the hub's own.
    for address in &tunnel.addresses {
        let own = std::iter::once(address.addr()).chain(shared(address));
        ways.extend(own.map(|own| (IpNet::from(own), Route::STACK)));
    }
    last_of_each(&mut ways);

    let left_out = fit(&mut ways, capacity);
    let (hosts, lans): (Vec<_>, Vec<_>) = ways.into_iter().partition(|(prefix, _)| Kind::of(prefix).single);
    // Both are sorted, and made into maps at once.
    Maps {
        slots,
        hosts: hosts.into_iter().map(|(prefix, route)| (prefix.addr(), route)).collect(),
        lans: lans.into_iter().collect(),
        network6: network6(tunnel),
        overflow: overflow + left_out,
    }
}

/// The network of most of the tunnel's single addresses, those that have no way yet included: it is chosen once.
fn network6(tunnel: &Tunnel) -> Option<Network6> {
    let own = tunnel.addresses.iter().map(IpNet::addr);
    let peers = tunnel.peers.values().flatten().filter(|prefix| Kind::of(prefix).single).map(IpNet::addr);
    let mut counts = BTreeMap::<Network6, usize>::new();
    for address in own.chain(peers) {
        if let IpAddr::V6(address) = address
            && !address.is_unicast_link_local()
        {
            *counts.entry(Direct6::network(address.octets())).or_default() += 1;
        }
    }
    // All zeros is how the table says that it is of none.
    counts.remove(&Network6::default());
    counts.into_iter().max_by_key(|(_, count)| *count).map(|(network, _)| network)
}

/// Sorts by prefix, and leaves of one prefix what was said last.
fn last_of_each(ways: &mut Vec<(IpNet, Route)>) {
    ways.sort_by_key(|(prefix, _)| *prefix);
    ways.dedup_by(|later, earlier| {
        let same = later.0 == earlier.0;
        if same {
            earlier.1 = later.1;
        }
        same
    });
}

/// Which of the kernel's maps an entry is in.
#[derive(Clone, Copy)]
struct Kind {
    v4: bool,
    single: bool,
}

impl Kind {
    /// Each at its place.
    const ALL: [Self; 4] = [
        Self { v4: false, single: false },
        Self { v4: false, single: true },
        Self { v4: true, single: false },
        Self { v4: true, single: true },
    ];

    fn place(self) -> usize {
        usize::from(self.v4) * 2 + usize::from(self.single)
    }

    fn of(prefix: &IpNet) -> Self {
        Self { v4: prefix.addr().is_ipv4(), single: prefix.prefix_len() == prefix.max_prefix_len() }
    }
}

/// How many entries a map holds.
const fn capacity(kind: Kind) -> usize {
    (if kind.single { MAX_HOSTS } else { MAX_LANS }) as usize
}

/// Leaves out what finds no room, and counts the peers' prefixes among it. An exception that is missing would lead
/// where the kernel does not, so they come first; and where not even they fit, no prefix of their family is left that
/// they could be exceptions from.
fn fit(ways: &mut Vec<(IpNet, Route)>, capacity: impl Fn(Kind) -> usize) -> usize {
    let mut room = Kind::ALL.map(|kind| Some(capacity(kind)));
    for (prefix, _) in ways.iter().filter(|(_, route)| *route == Route::STACK) {
        let left = &mut room[Kind::of(prefix).place()];
        *left = left.and_then(|left| left.checked_sub(1));
    }
    let crowded = |v4: bool| Kind::ALL.iter().any(|kind| kind.v4 == v4 && room[kind.place()].is_none());
    let crowded = [crowded(false), crowded(true)];
    let mut left_out = 0;
    ways.retain(|(prefix, route)| {
        let kind = Kind::of(prefix);
        let fits = !crowded[usize::from(kind.v4)]
            && (*route == Route::STACK || {
                let left = &mut room[kind.place()];
                let taken = left.and_then(|left| left.checked_sub(1));
                *left = taken.or(Some(0));
                taken.is_some()
            });
        left_out += usize::from(!fits && *route != Route::STACK);
        fits
    });
    left_out
}

/// What the kernel routes elsewhere, as far as it touches anything that belongs to the tunnel.
fn elsewhere(tunnel: &Tunnel, ifindex: u32, routes: &[KernelRoute]) -> Vec<IpNet> {
    let subnets = tunnel.addresses.iter().map(IpNet::trunc);
    let others = (tunnel.peers.values().flatten().copied())
        .filter(|prefix| !tunnel.addresses.iter().any(|subnet| subnet.trunc().contains(prefix)));
    let ours: BTreeSet<IpNet> = subnets.chain(others).collect();
    let touches = |other: &IpNet| ours.iter().any(|own| own.contains(other) || other.contains(own));
    routes
        .iter()
        .filter(|route| !into_tunnel(route, ifindex))
        .map(|route| route.destination.trunc())
        .filter(touches)
        .collect()
}

/// Prefixes, to be asked for the one that covers another.
pub(crate) struct Covers {
    prefixes: HashSet<IpNet>,
    /// Their lengths, longest first: there may be ten thousand of them, of two or three lengths.
    lengths: BTreeSet<Reverse<u8>>,
}

impl FromIterator<IpNet> for Covers {
    fn from_iter<T: IntoIterator<Item = IpNet>>(prefixes: T) -> Self {
        let prefixes: HashSet<IpNet> = prefixes.into_iter().map(|prefix| prefix.trunc()).collect();
        let lengths = prefixes.iter().map(|prefix| Reverse(prefix.prefix_len())).collect();
        Self { prefixes, lengths }
    }
}

impl Covers {
    /// The length of the most specific one that covers a prefix.
    pub(crate) fn length(&self, prefix: &IpNet) -> Option<u8> {
        let lengths = self.lengths.iter().map(|Reverse(length)| *length);
        lengths.filter(|length| *length <= prefix.prefix_len()).find(|&length| {
            IpNet::new(prefix.addr(), length).is_ok_and(|wider| self.prefixes.contains(&wider.trunc()))
        })
    }
}

/// As the program does it: by the tunnel, whatever the next hop, up to the tunnel's MTU.
pub(crate) fn into_tunnel(route: &KernelRoute, ifindex: u32) -> bool {
    route.interface == Some(ifindex)
        && route.gateway.is_none()
        && route.kind == UNICAST
        && route.mtu.is_none()
        && !route.narrowed
}

/// How specific relay's own route into the tunnel is for a peer's prefix: that of the subnet for an address inside
/// one, else a route of its own.
fn our_route(addresses: &BTreeSet<IpNet>, prefix: &IpNet) -> u8 {
    let subnets = addresses.iter().filter(|subnet| subnet.trunc().contains(prefix));
    subnets.map(IpNet::prefix_len).max().unwrap_or_else(|| prefix.prefix_len())
}

/// The address of a subnet that is no single host's: IPv4's broadcast, which /31 (RFC 3021) and /32 do not have, and
/// IPv6's anycast of all routers (RFC 4291 2.6.1), which a router answers to except in /127 (RFC 6164) and /128.
fn shared(address: &IpNet) -> Option<IpAddr> {
    match address {
        IpNet::V4(net) if net.prefix_len() < 31 => Some(IpAddr::V4(net.broadcast())),
        IpNet::V6(net) if net.prefix_len() < 127 => Some(IpAddr::V6(net.network())),
        _ => None,
    }
}

/// Slots for the peers, and how many peers got none.
fn assign<P>(
    peers: &BTreeMap<PublicKey, P>,
    held: &BTreeMap<PublicKey, PeerSlot>,
) -> (BTreeMap<PublicKey, PeerSlot>, usize) {
    let mut taken = BTreeSet::new();
    let mut slots = Vec::with_capacity(peers.len());
    for (key, peer, held) in side_by_side(peers, held) {
        if peer.is_some() {
            // Two keys with one slot, or a slot out of range, are a wrong entry: the later one counts as new.
            slots.push((*key, held.copied().filter(|slot| *slot < MAX_PEERS && taken.insert(*slot))));
        }
    }
    let mut free = (0..MAX_PEERS).filter(|slot| !taken.contains(slot));
    for (_, slot) in &mut slots {
        *slot = slot.or_else(|| free.next());
    }
    let assigned: BTreeMap<_, _> = slots.iter().filter_map(|(key, slot)| Some((*key, (*slot)?))).collect();
    let overflow = slots.len() - assigned.len();
    (assigned, overflow)
}

#[cfg(test)]
mod tests;
