//! In which order the maps are changed to what they shall hold.

use std::{
    cell::LazyCell,
    collections::{BTreeMap, BTreeSet},
    net::IpAddr,
};

use ipnet::IpNet;
use relay_common::{PeerSlot, Route};

use super::{Covers, Kind, capacity};
use crate::{
    key::PublicKey,
    maps::{AllDirect, DatapathState, MapChange, Maps},
    side_by_side::side_by_side,
};

/// The changes that make the maps hold `maps` and switch the fast path to `enabled`; none when they do already.
///
/// At every moment in between, an address leads where it led, where it shall lead, or to the stack:
/// off first and on last; what goes to the stack before anything else; what leads to a slot is removed before the slot
/// changes hands; exceptions go only after what they were exceptions from, and what goes from within a LAN, old or new, is one
/// until then. Where a map has no room for both the old and the new, the fast path is off meanwhile and what goes, goes first.
///
/// Whoever writes to HOSTS4 or HOSTS6 sees to it that they are asked; that they need not be any more, and who can leave them,
/// is seen when the maps are read next.
#[must_use]
pub fn diff(maps: &Maps, enabled: bool, state: &DatapathState) -> Vec<MapChange> {
    diff_within(capacity, maps, enabled, state)
}

pub(super) fn diff_within(
    capacity: impl Fn(Kind) -> usize,
    maps: &Maps,
    enabled: bool,
    state: &DatapathState,
) -> Vec<MapChange> {
    let mut changes = Vec::new();
    let all_direct = AllDirect::but_for(&state.crowded);
    if state.all_direct != all_direct {
        changes.push(MapChange::AllDirect(all_direct));
    }
    if state.network6.is_none() {
        changes.extend(maps.network6.map(MapChange::Network6));
    }
    let crowded = is_crowded(capacity, maps, state);
    let on_meanwhile = state.enabled && enabled && !crowded;
    if state.enabled && !on_meanwhile {
        changes.push(MapChange::Enable(false));
    }
    let given_away = given_away(&maps.slots, &state.slots);
    let keeps_owner = |slot: PeerSlot| !given_away.contains(&slot);
    let covers =
        LazyCell::new(|| side_by_side(&maps.lans, &state.lans).map(|(lan, ..)| *lan).collect::<Covers>());
    // While it is off, nothing leads anywhere; and what goes must make room.
    let lies_in_a_lan =
        |prefix: Option<IpNet>| !crowded && prefix.is_some_and(|it| covers.length(&it).is_some());
    let hosts = ways(&maps.hosts, &state.hosts, keeps_owner, |host| lies_in_a_lan(Some((*host).into())));
    let lans = ways(&maps.lans, &state.lans, keeps_owner, |lan| lies_in_a_lan(lan.supernet()));

    let set_host = |&(address, route): &(IpAddr, Route)| MapChange::SetHost(address, route);
    let set_lan = |&(lan, route): &(IpNet, Route)| MapChange::SetLan(lan, route);
    let to_stack = hosts.to_stack.iter().map(set_host).chain(lans.to_stack.iter().map(set_lan));
    let remove_exceptions = (hosts.remove_exceptions.iter().copied().map(MapChange::RemoveHost))
        .chain(lans.remove_exceptions.iter().copied().map(MapChange::RemoveLan));
    let remove = (hosts.remove.iter().copied().map(MapChange::RemoveHost))
        .chain(lans.remove.iter().copied().map(MapChange::RemoveLan));
    let mut at_last = None;
    if crowded {
        changes.extend(remove.chain(remove_exceptions));
        changes.extend(to_stack);
    } else {
        changes.extend(to_stack.chain(remove));
        at_last = Some(remove_exceptions);
    }

    for (key, wanted, held) in side_by_side(&maps.slots, &state.slots) {
        if held.is_some() && held != wanted {
            changes.push(MapChange::FreeSlot(*key));
        }
    }
    for (key, wanted, held) in side_by_side(&maps.slots, &state.slots) {
        if let Some(slot) = wanted.filter(|_| wanted != held) {
            changes.push(MapChange::AssignSlot(*key, *slot));
        }
    }

    changes.extend(hosts.to_peer.iter().map(set_host));
    changes.extend(lans.to_peer.iter().map(set_lan));
    changes.extend(at_last.into_iter().flatten());
    changes.extend(can_move(maps, state).iter().map(set_host));
    if enabled && !on_meanwhile {
        changes.push(MapChange::Enable(true));
    }
    changes
}

/// What stands in HOSTS4 or HOSTS6 though its place in the tables is nobody's, or its own, and stays as it is: written anew, it
/// gets there, and written once more, it leaves the map.
fn can_move(maps: &Maps, state: &DatapathState) -> Vec<(IpAddr, Route)> {
    if state.crowded.is_empty() {
        return Vec::new();
    }
    let mut taken = vec![false; DatapathState::PLACES];
    for (address, ..) in side_by_side(&maps.hosts, &state.hosts) {
        if let Some(place) = state.place(*address).filter(|_| !state.crowded.contains(address)) {
            taken[place] = true;
        }
    }
    let stays = |address: &IpAddr| {
        let route = maps.hosts.get(address).filter(|route| state.hosts.get(address) == Some(route))?;
        Some((*address, *route))
    };
    let crowded = state.crowded.iter();
    crowded
        .filter_map(|address| Some((state.place(*address)?, stays(address)?)))
        .filter(|(place, _)| !taken[*place])
        .map(|(_, way)| way)
        .collect()
}

/// Whether a map would be too small for what it holds and what it shall hold together.
fn is_crowded(capacity: impl Fn(Kind) -> usize, maps: &Maps, state: &DatapathState) -> bool {
    let mut entries = [0; Kind::ALL.len()];
    for (host, ..) in side_by_side(&maps.hosts, &state.hosts) {
        entries[Kind::of(&IpNet::from(*host)).place()] += 1;
    }
    for (lan, ..) in side_by_side(&maps.lans, &state.lans) {
        entries[Kind::of(lan).place()] += 1;
    }
    Kind::ALL.into_iter().any(|kind| entries[kind.place()] > capacity(kind))
}

/// The slots that do not stay whose they are.
fn given_away(
    wanted: &BTreeMap<PublicKey, PeerSlot>,
    held: &BTreeMap<PublicKey, PeerSlot>,
) -> BTreeSet<PeerSlot> {
    if wanted == held {
        return BTreeSet::new();
    }
    let (wanted, held) = (owners(wanted), owners(held));
    side_by_side(&wanted, &held).filter(|(_, wanted, held)| wanted != held).map(|(slot, ..)| *slot).collect()
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
    lies_in_a_lan: impl Fn(&K) -> bool,
) -> Ways<K> {
    let mut ways =
        Ways { to_stack: Vec::new(), remove: Vec::new(), to_peer: Vec::new(), remove_exceptions: Vec::new() };
    for (&key, wanted, held) in side_by_side(wanted, held) {
        if let Some(&route) = wanted {
            let same = held == Some(&route);
            match route.slot() {
                None if !same => ways.to_stack.push((key, route)),
                Some(slot) if !same || !keeps_owner(slot) => ways.to_peer.push((key, route)),
                _ => {}
            }
        }
        let goes = wanted.is_none();
        match held.map(|held| held.slot()) {
            Some(None) if goes => ways.remove_exceptions.push(key),
            // Where the slot gets another owner, nothing may lead to it meanwhile.
            Some(Some(slot))
                if goes || wanted.is_some_and(|it| it.slot().is_some()) && !keeps_owner(slot) =>
            {
                if lies_in_a_lan(&key) {
                    ways.to_stack.push((key, Route::STACK));
                    ways.remove_exceptions.extend(goes.then_some(key));
                } else {
                    ways.remove.push(key);
                }
            }
            _ => {}
        }
    }
    ways
}
