//! Single addresses of one family: a table by their last bytes, and the hash map of those whose place another one has, or
//! that have none.
//!
//! `tunnel` asks the table first. A table's place is one word, written whole through memory: a write by system call may be
//! one of bytes, and looking at 65,536 places would be as many calls.

use std::{
    collections::BTreeSet,
    io,
    net::IpAddr,
    sync::atomic::{AtomicU64, Ordering},
};

use aya::{
    Pod,
    maps::{MapData, MapError},
};
use bytemuck::AnyBitPattern;
use relay_common::{Direct4, Direct6, Network6, Route};

use super::{hashed::Hashed, mapped::Mapped, shape::absent_is_fine, switches::Switchboard};
use crate::maps::AllDirect;

/// Both of them.
pub(super) struct Hosts<T: Table> {
    pub(super) table: T,
    rest: Hashed<T::Address, u32>,
}

/// A table as `tunnel` reads it.
pub(super) trait Table {
    /// An address, in network order.
    type Address: Pod + AnyBitPattern + Eq + Into<IpAddr>;

    /// The same without the family of these.
    fn and_not_all_direct(all: AllDirect) -> AllDirect;

    /// Its words.
    fn words(&self) -> &[AtomicU64];

    /// The place where an address may stand.
    fn place(&self, address: Self::Address) -> Option<u32>;

    /// What an address' place holds when it stands there with that route.
    fn entry(&self, address: Self::Address, route: Route) -> Option<u64>;

    /// Who stands at a place, by the word that it holds.
    fn held(&self, place: u32, word: u64) -> Option<(Self::Address, Route)>;

    /// Who stands at a place.
    fn at(&self, place: u32) -> Option<(Self::Address, Route)> {
        self.held(place, self.words()[place as usize].load(Ordering::Relaxed))
    }

    /// Where an address stands, if it stands in the table.
    fn find(&self, address: Self::Address) -> Option<u32> {
        self.place(address).filter(|place| self.at(*place).is_some_and(|(held, _)| held == address))
    }
}

impl<T: Table> Hosts<T> {
    pub(super) const fn new(table: T, rest: Hashed<T::Address, u32>) -> Self {
        Self { table, rest }
    }

    /// Adds every address with its route to `hosts`: of one that stands in both the table's, as `tunnel` has it. Adds those
    /// that stand in the hash map to `crowded`.
    pub(super) fn read(
        &self,
        hosts: &mut Vec<(IpAddr, Route)>,
        crowded: &mut BTreeSet<IpAddr>,
    ) -> Result<(), MapError> {
        for (address, route) in self.rest.entries()? {
            crowded.insert(address.into());
            if self.table.find(address).is_none() {
                hosts.push((address.into(), bytemuck::cast(route)));
            }
        }
        let places = (0..).zip(self.table.words());
        let table = places.filter_map(|(place, word)| self.table.held(place, word.load(Ordering::Relaxed)));
        hosts.extend(table.map(|(address, route)| (address.into(), route)));
        Ok(())
    }

    /// Gives an address its route: in the table where its place is free, or its own; else in the hash map, which is asked
    /// from before it holds anything. One that stands in both leaves the hash map when it is given the same route once
    /// more: a packet for which the table was asked before it came there is still to find it.
    pub(super) fn set(
        &mut self,
        address: T::Address,
        route: Route,
        switches: &Switchboard,
    ) -> Result<(), MapError> {
        let place = self.table.place(address);
        let place = place.filter(|place| self.table.at(*place).is_none_or(|(held, _)| held == address));
        if let Some((place, entry)) = place.zip(self.table.entry(address, route)) {
            if self.table.words()[place as usize].swap(entry, Ordering::Relaxed) == entry {
                absent_is_fine(self.rest.remove(&address))?;
            }
            return Ok(());
        }
        switches.set_all_direct(T::and_not_all_direct(switches.all_direct()));
        self.rest.insert(address, bytemuck::cast::<_, u32>(route), 0)?;
        // With a route that has no room in the table.
        if let Some(place) = self.table.find(address) {
            self.store(place, NOBODY);
        }
        Ok(())
    }

    /// Takes an address away. From the hash map first: what is there shows only once the table has it no more.
    pub(super) fn remove(&mut self, address: T::Address) -> Result<(), MapError> {
        absent_is_fine(self.rest.remove(&address))?;
        if let Some(place) = self.table.find(address) {
            self.store(place, NOBODY);
        }
        Ok(())
    }

    fn store(&self, place: u32, word: u64) {
        self.table.words()[place as usize].store(word, Ordering::Relaxed);
    }
}

/// What a place holds that is nobody's.
const NOBODY: u64 = 0;

/// That of IPv4.
pub(super) struct Table4(Mapped<[AtomicU64; Direct4::PLACES as usize]>);

impl Table4 {
    pub(super) fn of(map: &MapData) -> io::Result<Self> {
        Ok(Self(Mapped::of(map)?))
    }
}

impl Table for Table4 {
    type Address = [u8; 4];

    fn and_not_all_direct(all: AllDirect) -> AllDirect {
        AllDirect { v4: false, ..all }
    }

    fn words(&self) -> &[AtomicU64] {
        &*self.0
    }

    fn place(&self, address: [u8; 4]) -> Option<u32> {
        Some(Direct4::place(address))
    }

    fn entry(&self, address: [u8; 4], route: Route) -> Option<u64> {
        Direct4::new(address, route).map(bytemuck::cast)
    }

    /// An address whose place is another one is not found there, and nobody's.
    fn held(&self, place: u32, word: u64) -> Option<([u8; 4], Route)> {
        let entry = Direct4::from_word(word);
        let address = entry.address().filter(|address| Direct4::place(*address) == place)?;
        Some((address, entry.route()))
    }
}

/// That of IPv6, which holds addresses of one network.
pub(super) struct Table6(Mapped<[AtomicU64; Direct6::WORDS as usize]>);

impl Table6 {
    pub(super) fn of(map: &MapData) -> io::Result<Self> {
        Ok(Self(Mapped::of(map)?))
    }

    /// The network, once one was chosen.
    pub(super) fn network(&self) -> Option<Network6> {
        let network: Network6 = self.0[Direct6::NETWORK as usize].load(Ordering::Relaxed).to_ne_bytes();
        (network != Network6::default()).then_some(network)
    }

    /// Chooses the network, if none was chosen yet.
    pub(super) fn choose(&self, network: Network6) {
        let (none, network) = (u64::default(), u64::from_ne_bytes(network));
        let word = &self.0[Direct6::NETWORK as usize];
        // Fails where there is one, which stays.
        let _ = word.compare_exchange(none, network, Ordering::Relaxed, Ordering::Relaxed);
    }
}

impl Table for Table6 {
    type Address = [u8; 16];

    fn and_not_all_direct(all: AllDirect) -> AllDirect {
        AllDirect { v6: false, ..all }
    }

    fn words(&self) -> &[AtomicU64] {
        &self.0[..Direct6::PLACES as usize]
    }

    fn place(&self, address: [u8; 16]) -> Option<u32> {
        (self.network() == Some(Direct6::network(address))).then(|| Direct6::place(address))
    }

    fn entry(&self, address: [u8; 16], route: Route) -> Option<u64> {
        Direct6::new(address, route).map(bytemuck::cast)
    }

    fn held(&self, place: u32, word: u64) -> Option<([u8; 16], Route)> {
        let entry = Direct6::from_word(word);
        // Nearly all of it is nobody's, and asks for no network.
        let route = entry.route()?;
        Some((entry.address(self.network()?, place)?, route))
    }
}
