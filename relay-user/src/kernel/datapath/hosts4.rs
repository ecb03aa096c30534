//! Single IPv4 addresses: a table by their lower halves, and the hash map of those whose place another one has.
//!
//! `tunnel` asks the table first. A table's place is one word, written whole through memory: a write by system call may be
//! one of bytes, and looking at 65,536 places would be as many calls.

use std::{
    collections::BTreeSet,
    net::{IpAddr, Ipv4Addr},
    sync::atomic::{AtomicU64, Ordering},
};

use aya::maps::MapError;
use relay_common::{Direct, Route};

use super::{hashed::Hashed, mapped::Mapped, shape::absent_is_fine, switches::Switchboard};

/// The table's places.
pub(super) type Table = Mapped<[AtomicU64; Direct::PLACES as usize]>;

/// Both of them.
pub(super) struct Hosts4 {
    table: Table,
    rest: Hashed<[u8; 4], u32>,
}

/// What both of them hold.
pub(super) struct Held {
    /// Every address with its route; of one that stands in both, the table's, as `tunnel` has it.
    pub(super) hosts: Vec<(IpAddr, Route)>,
    /// Those that stand in the hash map.
    pub(super) crowded: BTreeSet<Ipv4Addr>,
}

impl Hosts4 {
    pub(super) const fn new(table: Table, rest: Hashed<[u8; 4], u32>) -> Self {
        Self { table, rest }
    }

    /// What both hold.
    pub(super) fn read(&self) -> Result<Held, MapError> {
        let rest = self.rest.entries()?;
        let crowded = rest.iter().map(|(address, _)| Ipv4Addr::from(*address)).collect();
        let rest = rest.into_iter().filter(|(address, _)| !self.held_at(*address).is_of(*address));
        let rest = rest.map(|(address, route)| (address, bytemuck::cast(route)));
        let table = (0..Direct::PLACES).filter_map(|place| {
            let entry = self.at(place);
            Some((entry.address()?, entry.route()))
        });
        let hosts = rest.chain(table).map(|(address, route)| (IpAddr::from(address), route)).collect();
        Ok(Held { hosts, crowded })
    }

    /// Gives an address its route: in the table where its place is free, or its own; else in the hash map, which is asked
    /// from before it holds anything.
    pub(super) fn set(
        &mut self,
        address: [u8; 4],
        route: Route,
        switches: &Switchboard,
    ) -> Result<(), MapError> {
        let held = self.held_at(address).address();
        match Direct::new(address, route) {
            Some(entry) if held.is_none() || held == Some(address) => {
                self.place(address).store(bytemuck::cast(entry), Ordering::Relaxed);
                absent_is_fine(self.rest.remove(&address))
            }
            _ => {
                switches.set_all_direct(false);
                self.rest.insert(address, bytemuck::cast::<_, u32>(route), 0)
            }
        }
    }

    /// Takes an address away. From the hash map first: what is there shows only once the table has it no more.
    pub(super) fn remove(&mut self, address: [u8; 4]) -> Result<(), MapError> {
        absent_is_fine(self.rest.remove(&address))?;
        if self.held_at(address).is_of(address) {
            self.place(address).store(0, Ordering::Relaxed);
        }
        Ok(())
    }

    /// What stands at an address's place.
    fn held_at(&self, address: [u8; 4]) -> Direct {
        self.at(Direct::place(address))
    }

    /// What stands at a place. An address whose place is another one is not found there, and nobody's.
    fn at(&self, place: u32) -> Direct {
        let entry = Direct::from_word(self.table[place as usize].load(Ordering::Relaxed));
        let is_right = entry.address().is_some_and(|address| Direct::place(address) == place);
        if is_right { entry } else { Direct::default() }
    }

    fn place(&self, address: [u8; 4]) -> &AtomicU64 {
        &self.table[Direct::place(address) as usize]
    }
}
