//! Decides what the route maps shall hold, and in which order they are changed to it. Pure.
//!
//! The rule behind every choice: a wrong or missing entry may send a packet to the stack, never to a peer that the
//! kernel's own routing would not choose.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::IpAddr,
};

use ipnet::IpNet;
use relay_common::{MAX_PEERS, PeerSlot, Route};

use crate::{
    desired::Desired,
    key::PublicKey,
    maps::{DatapathState, MapChange, Maps},
    observed::{Device, KernelRoute},
};

/// `RTN_UNICAST`, include/uapi/linux/rtnetlink.h.
const UNICAST: u8 = 1;

/// What the maps shall hold.
///
/// - A peer's prefixes are there only while the device shows an endpoint for it: without one the stack can answer
///   "unreachable", which a redirect cannot.
/// - The hub's addresses, its subnets' broadcasts, and whatever the kernel routes elsewhere than into the tunnel at
///   least as specifically as a peer's prefix go to the stack.
/// - Peers keep their slots (`slots`: those that the maps hold); a new peer gets the lowest free one.
///
/// `ifindex` is the tunnel's; `routes` are those of the main and local tables.
#[must_use]
pub fn desired_maps(
    desired: &Desired,
    device: Option<&Device>,
    ifindex: u32,
    routes: &[KernelRoute],
    slots: &BTreeMap<PublicKey, PeerSlot>,
) -> Maps {
    let (slots, overflow) = assign(desired.peers.keys(), slots);
    let elsewhere = elsewhere(desired, ifindex, routes);

    let mut ways: BTreeMap<IpNet, Route> = BTreeMap::new();
    for (key, peer) in &desired.peers {
        let reachable =
            device.and_then(|device| device.peers.get(key)).is_some_and(|peer| peer.endpoint.is_some());
        let (true, Some(&slot)) = (reachable, slots.get(key)) else { continue };
        for prefix in peer.allowed_ips() {
            let prefix = prefix.trunc();
            let specific = our_route(desired, prefix);
            let overruled =
                elsewhere.iter().any(|other| other.contains(&prefix) && other.prefix_len() >= specific);
            ways.insert(prefix, if overruled { Route::STACK } else { Route::peer(slot) });
            // Holes in a LAN that the kernel routes elsewhere.
            for other in elsewhere.iter().filter(|other| prefix.contains(*other)) {
                ways.insert(*other, Route::STACK);
            }
        }
    }
    // Last, so that nothing overrules the hub's own.
    for address in &desired.addresses {
        ways.insert(IpNet::from(address.addr()), Route::STACK);
        if let Some(broadcast) = broadcast(address) {
            ways.insert(IpNet::from(broadcast), Route::STACK);
        }
    }

    let mut maps = Maps { slots, overflow, ..Maps::default() };
    for (prefix, route) in ways {
        if prefix.prefix_len() == prefix.max_prefix_len() {
            maps.hosts.insert(prefix.addr(), route);
        } else {
            maps.lans.insert(prefix, route);
        }
    }
    maps
}

/// What the kernel routes elsewhere, as far as it touches anything that belongs to the tunnel.
fn elsewhere(desired: &Desired, ifindex: u32, routes: &[KernelRoute]) -> Vec<IpNet> {
    let subnets = desired.addresses.iter().map(IpNet::trunc);
    let others = desired
        .peers
        .values()
        .flat_map(|peer| peer.allowed_ips())
        .filter(|prefix| !desired.addresses.iter().any(|subnet| subnet.trunc().contains(prefix)));
    let ours: BTreeSet<IpNet> = subnets.chain(others).collect();
    let touches = |other: &IpNet| ours.iter().any(|own| own.contains(other) || other.contains(own));
    routes
        .iter()
        .filter(|route| !into_tunnel(route, ifindex))
        .map(|route| route.destination.trunc())
        .filter(touches)
        .collect()
}

fn into_tunnel(route: &KernelRoute, ifindex: u32) -> bool {
    route.interface == Some(ifindex) && route.gateway.is_none() && route.kind == UNICAST
}

/// How specific the kernel's route into the tunnel is for a peer's prefix: that of the subnet for an address inside
/// one, else a route of its own.
fn our_route(desired: &Desired, prefix: IpNet) -> u8 {
    let subnets = desired.addresses.iter().filter(|subnet| subnet.trunc().contains(&prefix));
    subnets.map(IpNet::prefix_len).max().unwrap_or_else(|| prefix.prefix_len())
}

/// The broadcast address of an IPv4 subnet; /31 (RFC 3021) and /32 have none.
fn broadcast(address: &IpNet) -> Option<IpAddr> {
    match address {
        IpNet::V4(net) if net.prefix_len() < 31 => Some(IpAddr::V4(net.broadcast())),
        _ => None,
    }
}

/// Slots for the peers, and how many peers got none.
fn assign<'a>(
    peers: impl Iterator<Item = &'a PublicKey> + Clone,
    held: &BTreeMap<PublicKey, PeerSlot>,
) -> (BTreeMap<PublicKey, PeerSlot>, usize) {
    let mut taken = BTreeSet::new();
    let mut slots = BTreeMap::new();
    for key in peers.clone() {
        // Two keys with one slot, or a slot out of range, are a wrong entry: the later one counts as new.
        if let Some(&slot) = held.get(key)
            && slot < MAX_PEERS
            && taken.insert(slot)
        {
            slots.insert(*key, slot);
        }
    }
    let mut free = (0..MAX_PEERS).filter(|slot| !taken.contains(slot));
    let mut overflow = 0;
    for key in peers {
        if slots.contains_key(key) {
            continue;
        }
        match free.next() {
            Some(slot) => {
                slots.insert(*key, slot);
            }
            None => overflow += 1,
        }
    }
    (slots, overflow)
}

/// The changes that make the maps hold `maps` and switch the fast path to `enabled`; none when they do already.
///
/// At every moment in between, an address leads where it led, where it shall lead, or to the stack:
/// off first and on last; what goes to the stack before anything else; what leads to a slot is removed before the slot
/// changes hands; exceptions go only after what they were exceptions from.
#[must_use]
pub fn diff(maps: &Maps, enabled: bool, state: &DatapathState) -> Vec<MapChange> {
    let mut changes = Vec::new();
    if !enabled && state.enabled {
        changes.push(MapChange::Enable(false));
    }
    let (wanted, held) = (owners(&maps.slots), owners(&state.slots));
    let keeps_owner = |slot: PeerSlot| wanted.get(&slot) == held.get(&slot);
    let hosts = ways(&maps.hosts, &state.hosts, keeps_owner);
    let lans = ways(&maps.lans, &state.lans, keeps_owner);

    let set_host = |&(address, route): &(IpAddr, Route)| MapChange::SetHost(address, route);
    let set_lan = |&(lan, route): &(IpNet, Route)| MapChange::SetLan(lan, route);
    changes.extend(hosts.to_stack.iter().map(set_host));
    changes.extend(lans.to_stack.iter().map(set_lan));
    changes.extend(hosts.remove.iter().copied().map(MapChange::RemoveHost));
    changes.extend(lans.remove.iter().copied().map(MapChange::RemoveLan));

    let moved = |(key, slot): &(&PublicKey, &PeerSlot)| state.slots.get(key) != Some(slot);
    changes.extend(
        state
            .slots
            .iter()
            .filter(|(key, slot)| maps.slots.get(key) != Some(slot))
            .map(|(key, _)| MapChange::FreeSlot(*key)),
    );
    changes.extend(maps.slots.iter().filter(moved).map(|(key, slot)| MapChange::AssignSlot(*key, *slot)));

    changes.extend(hosts.to_peer.iter().map(set_host));
    changes.extend(lans.to_peer.iter().map(set_lan));
    changes.extend(hosts.remove_exceptions.iter().copied().map(MapChange::RemoveHost));
    changes.extend(lans.remove_exceptions.iter().copied().map(MapChange::RemoveLan));
    if enabled && !state.enabled {
        changes.push(MapChange::Enable(true));
    }
    changes
}

/// Who holds each slot; `None` where more than one key claims it.
fn owners(slots: &BTreeMap<PublicKey, PeerSlot>) -> BTreeMap<PeerSlot, Option<PublicKey>> {
    let mut owners = BTreeMap::new();
    for (key, slot) in slots {
        owners.entry(*slot).and_modify(|owner| *owner = None).or_insert(Some(*key));
    }
    owners
}

/// The changes of one kind of map, in the order in which they may happen.
struct Ways<K> {
    to_stack: Vec<(K, Route)>,
    remove: Vec<K>,
    to_peer: Vec<(K, Route)>,
    remove_exceptions: Vec<K>,
}

fn ways<K: Ord + Copy>(
    wanted: &BTreeMap<K, Route>,
    held: &BTreeMap<K, Route>,
    keeps_owner: impl Fn(PeerSlot) -> bool,
) -> Ways<K> {
    let mut ways =
        Ways { to_stack: Vec::new(), remove: Vec::new(), to_peer: Vec::new(), remove_exceptions: Vec::new() };
    for (&key, &route) in wanted {
        let same = held.get(&key) == Some(&route);
        match route.slot() {
            None if !same => ways.to_stack.push((key, route)),
            Some(slot) if !same || !keeps_owner(slot) => ways.to_peer.push((key, route)),
            _ => {}
        }
    }
    for (&key, &route) in held {
        match (route.slot(), wanted.get(&key)) {
            (None, None) => ways.remove_exceptions.push(key),
            (Some(_), None) => ways.remove.push(key),
            // The slot gets another owner, so nothing may lead to it meanwhile.
            (Some(slot), Some(wanted)) if wanted.slot().is_some() && !keeps_owner(slot) => {
                ways.remove.push(key);
            }
            _ => {}
        }
    }
    ways
}

#[cfg(test)]
mod tests;
