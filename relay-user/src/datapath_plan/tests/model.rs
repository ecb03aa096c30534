//! The maps as a model: what `kernel::datapath` writes and `tunnel` reads, in a few lines.

use std::{collections::BTreeMap, net::IpAddr};

use relay_common::Route;

use crate::{
    key::PublicKey,
    maps::{DatapathState, MapChange},
};

#[derive(Clone, Debug, Default)]
pub(super) struct Model {
    /// DIRECT4 and DIRECT6.
    table: BTreeMap<IpAddr, Route>,
    /// HOSTS4 and HOSTS6.
    rest: BTreeMap<IpAddr, Route>,
    /// Whatever else there is; its single addresses are the two above.
    others: DatapathState,
}

impl Model {
    /// Empty maps after these changes.
    pub(super) fn of(changes: &[MapChange]) -> Self {
        Self::default().after(changes)
    }

    /// What they hold after some changes.
    pub(super) fn after(&self, changes: &[MapChange]) -> Self {
        let mut after = self.clone();
        changes.iter().for_each(|change| after.perform(change));
        after
    }

    /// As they are read.
    pub(super) fn state(&self) -> DatapathState {
        let mut state = self.others.clone();
        state.hosts = self.rest.clone();
        state.hosts.extend(&self.table);
        state.crowded = self.rest.keys().copied().collect();
        state
    }

    fn perform(&mut self, change: &MapChange) {
        let others = &mut self.others;
        match change {
            MapChange::Enable(enabled) => others.enabled = *enabled,
            MapChange::AllDirect(all) => others.all_direct = *all,
            MapChange::Network6(network) => {
                assert_eq!(others.network6, None, "it is chosen once");
                others.network6 = Some(*network);
            }
            MapChange::AssignSlot(key, slot) => drop(others.slots.insert(*key, *slot)),
            MapChange::FreeSlot(key) => drop(others.slots.remove(key)),
            MapChange::SetHost(address, route) => self.set(*address, *route),
            MapChange::RemoveHost(address) => {
                self.rest.remove(address);
                self.table.remove(address);
            }
            MapChange::SetLan(lan, route) => drop(others.lans.insert(*lan, *route)),
            MapChange::RemoveLan(lan) => drop(others.lans.remove(lan)),
        }
    }

    fn set(&mut self, address: IpAddr, route: Route) {
        let place = self.others.place(address);
        let is_taken =
            |place| self.table.keys().any(|held| *held != address && self.others.place(*held) == Some(place));
        if place.is_some_and(|place| !is_taken(place)) {
            if self.table.insert(address, route) == Some(route) {
                self.rest.remove(&address);
            }
        } else {
            let all_direct = &mut self.others.all_direct;
            *(if address.is_ipv4() { &mut all_direct.v4 } else { &mut all_direct.v6 }) = false;
            self.rest.insert(address, route);
        }
    }

    /// Where an address leads, by the key of its peer; `None` for the stack.
    pub(super) fn leads_to(&self, address: IpAddr) -> Option<PublicKey> {
        let all_direct = self.others.all_direct;
        let is_asked = !(if address.is_ipv4() { all_direct.v4 } else { all_direct.v6 });
        let host = || self.table.get(&address).or_else(|| self.rest.get(&address).filter(|_| is_asked));
        let lan = || {
            let lans = self.others.lans.iter().filter(|(lan, _)| lan.contains(&address));
            lans.max_by_key(|(lan, _)| lan.prefix_len()).map(|(_, route)| route)
        };
        let slot = host().or_else(lan)?.slot()?;
        self.others.slots.iter().find(|(_, held)| **held == slot).map(|(key, _)| *key)
    }
}
