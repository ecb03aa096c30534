//! The pinned maps: what they must look like, reading them, and one write for each change.

use std::{collections::BTreeMap, io, net::IpAddr};

use aya::maps::{Array, LpmTrie, Map, MapData, MapError, MapType, PerCpuArray, PerCpuValues, lpm_trie::Key};
use ipnet::{IpNet, Ipv4Net, Ipv6Net};
use relay_common::{
    Direct4, Direct6, MAX_HOSTS, MAX_LANS, MAX_PEERS, PeerCounters, PeerSlot, Route, Switches, Trace,
    Verdict, map,
};

use super::{
    DatapathError, Pins,
    hashed::Hashed,
    hosts::{Hosts, Table4, Table6},
    shape::{self, Shape, absent_is_fine, data, is_full, shape},
    switches::Switchboard,
};
use crate::{
    key::PublicKey,
    maps::{Counters, DatapathState, MapChange},
};

const ROUTE: usize = size_of::<Route>();

/// A peer's counters as words, which can be summed one by one.
type Words = [u64; size_of::<PeerCounters>() / size_of::<u64>()];

/// Every one of them.
pub(super) const SHAPES: &[Shape] = &[
    shape(map::SWITCHES, MapType::Array, 4, size_of::<Switches>(), 1),
    shape(map::DIRECT4, MapType::Array, 4, size_of::<Direct4>(), Direct4::PLACES),
    shape(map::DIRECT6, MapType::Array, 4, size_of::<Direct6>(), Direct6::WORDS),
    shape(map::HOSTS4, MapType::Hash, 4, ROUTE, MAX_HOSTS),
    shape(map::HOSTS6, MapType::Hash, 16, ROUTE, MAX_HOSTS),
    shape(map::LANS4, MapType::LpmTrie, 4 + 4, ROUTE, MAX_LANS),
    shape(map::LANS6, MapType::LpmTrie, 4 + 16, ROUTE, MAX_LANS),
    shape(map::PEER_COUNTERS, MapType::PerCpuArray, 4, size_of::<PeerCounters>(), MAX_PEERS),
    shape(map::VERDICTS, MapType::PerCpuArray, 4, 8, Verdict::ALL.len() as u32),
    shape(map::PEERS, MapType::Hash, 32, size_of::<PeerSlot>(), MAX_PEERS),
    shape(map::TRACE, MapType::Array, 4, size_of::<Trace>(), 1),
    shape(map::TRACED, MapType::PerCpuArray, 4, 8, 1),
    shape(map::AYA_LOGS, MapType::RingBuf, 0, 0, map::TRACE_BUFFER),
];

/// The maps of one interface.
pub struct PinnedMaps {
    pub(super) switches: Switchboard,
    hosts4: Hosts<Table4>,
    hosts6: Hosts<Table6>,
    lans4: LpmTrie<MapData, [u8; 4], u32>,
    lans6: LpmTrie<MapData, [u8; 16], u32>,
    peer_counters: PerCpuArray<MapData, Words>,
    verdicts: PerCpuArray<MapData, u64>,
    peers: Hashed<[u8; 32], PeerSlot>,
    pub(super) trace: Array<MapData, [u64; size_of::<Trace>() / size_of::<u64>()]>,
    pub(super) traced: PerCpuArray<MapData, u64>,
}

impl PinnedMaps {
    /// Opens the pinned maps without loading anything: a daemon need not run.
    ///
    /// # Errors
    /// [`DatapathError::NotLoaded`] where there are none, [`DatapathError::Denied`] without CAP_BPF.
    pub fn open(pins: &Pins) -> Result<Self, DatapathError> {
        Self::from_source(|name| shape::open(pins, name))
    }

    /// Takes the maps from wherever `source` finds them by name, and checks that they are as described.
    pub(super) fn from_source(
        source: impl FnMut(&'static str) -> Result<Map, DatapathError>,
    ) -> Result<Self, DatapathError> {
        let maps = shape::take(SHAPES, source)?;
        let switches = mapped(&maps, map::SWITCHES, Switchboard::of)?;
        let table4 = mapped(&maps, map::DIRECT4, Table4::of)?;
        let table6 = mapped(&maps, map::DIRECT6, Table6::of)?;
        Self::typed(switches, table4, table6, maps)
            .map_err(|error| DatapathError::map("open the maps", &error))
    }

    fn typed(
        switches: Switchboard,
        table4: Table4,
        table6: Table6,
        mut maps: BTreeMap<&'static str, Map>,
    ) -> Result<Self, MapError> {
        let mut take = |name: &str| maps.remove(name).ok_or(MapError::ElementNotFound);
        Ok(Self {
            switches,
            hosts4: Hosts::new(table4, take(map::HOSTS4)?.try_into()?),
            hosts6: Hosts::new(table6, take(map::HOSTS6)?.try_into()?),
            lans4: take(map::LANS4)?.try_into()?,
            lans6: take(map::LANS6)?.try_into()?,
            peer_counters: take(map::PEER_COUNTERS)?.try_into()?,
            verdicts: take(map::VERDICTS)?.try_into()?,
            peers: take(map::PEERS)?.try_into()?,
            trace: take(map::TRACE)?.try_into()?,
            traced: take(map::TRACED)?.try_into()?,
        })
    }

    /// What the maps hold.
    ///
    /// # Errors
    /// The kernel refuses a read.
    pub fn read(&self) -> Result<DatapathState, DatapathError> {
        self.state().map_err(|error| DatapathError::map("read the route maps", &error))
    }

    fn state(&self) -> Result<DatapathState, MapError> {
        let mut state = DatapathState {
            enabled: self.switches.fast_path(),
            all_direct: self.switches.all_direct(),
            network6: self.hosts6.table.network(),
            ..DatapathState::default()
        };
        state.slots = self.owners()?;
        let mut hosts = Vec::new();
        self.hosts4.read(&mut hosts, &mut state.crowded)?;
        self.hosts6.read(&mut hosts, &mut state.crowded)?;
        // Sorted at once, which takes a fraction of one search for each.
        state.hosts = hosts.into_iter().collect();
        for entry in self.lans4.iter() {
            let (key, route) = entry?;
            if let Some(prefix) = prefix(IpAddr::from(key.data()), key.prefix_len()) {
                state.lans.insert(prefix, bytemuck::cast(route));
            }
        }
        for entry in self.lans6.iter() {
            let (key, route) = entry?;
            if let Some(prefix) = prefix(IpAddr::from(key.data()), key.prefix_len()) {
                state.lans.insert(prefix, bytemuck::cast(route));
            }
        }
        Ok(state)
    }

    /// Whose counters each slot holds.
    ///
    /// # Errors
    /// The kernel refuses a read.
    pub fn slots(&self) -> Result<BTreeMap<PublicKey, PeerSlot>, DatapathError> {
        self.owners().map_err(|error| DatapathError::map("read the peers' slots", &error))
    }

    fn owners(&self) -> Result<BTreeMap<PublicKey, PeerSlot>, MapError> {
        Ok(self.peers.entries()?.into_iter().map(|(key, slot)| (PublicKey::new(key), slot)).collect())
    }

    /// The slot of one peer, if it has one.
    ///
    /// # Errors
    /// The kernel refuses a read.
    pub fn slot(&self, key: &PublicKey) -> Result<Option<PeerSlot>, DatapathError> {
        match self.peers.get(key.as_bytes(), 0) {
            Ok(slot) => Ok(Some(slot)),
            Err(MapError::KeyNotFound) => Ok(None),
            Err(error) => Err(DatapathError::map("read a peer's slot", &error)),
        }
    }

    /// What was counted, summed over CPUs, for every peer that has a slot.
    ///
    /// # Errors
    /// The kernel refuses a read.
    pub fn counters(&self) -> Result<Counters, DatapathError> {
        self.sums().map_err(|error| DatapathError::map("read the counters", &error))
    }

    fn sums(&self) -> Result<Counters, MapError> {
        let mut counters = Counters { peers: BTreeMap::new(), verdicts: [0; Verdict::ALL.len()] };
        for verdict in Verdict::ALL {
            let index = *verdict as u32;
            counters.verdicts[index as usize] = self.verdicts.get(&index, 0)?.iter().sum();
        }
        for (key, slot) in self.owners()? {
            let mut sum = Words::default();
            for on_cpu in self.peer_counters.get(&slot, 0)?.iter() {
                for (sum, value) in sum.iter_mut().zip(on_cpu) {
                    *sum = sum.wrapping_add(*value);
                }
            }
            counters.peers.insert(key, bytemuck::cast::<_, PeerCounters>(sum));
        }
        Ok(counters)
    }

    /// Performs the changes in their order. Returns how many found their map full: those go by the kernel's own path.
    ///
    /// # Errors
    /// The kernel refuses a write; the changes before it stand.
    pub fn apply(&mut self, changes: &[MapChange]) -> Result<usize, DatapathError> {
        let mut overflow = 0;
        for change in changes {
            match self.perform(change) {
                Ok(()) => {}
                Err(error) if is_full(&error) => overflow += 1,
                Err(error) => return Err(DatapathError::map(act(change), &error)),
            }
        }
        Ok(overflow)
    }

    fn perform(&mut self, change: &MapChange) -> Result<(), MapError> {
        match change {
            MapChange::Enable(enabled) => {
                self.switches.set_fast_path(*enabled);
                Ok(())
            }
            MapChange::AllDirect(all) => {
                self.switches.set_all_direct(*all);
                Ok(())
            }
            MapChange::Network6(network) => {
                self.hosts6.table.choose(*network);
                Ok(())
            }
            MapChange::AssignSlot(key, slot) => {
                let cpus = aya::util::nr_cpus().map_err(|(_, error)| error)?;
                self.peer_counters.set(*slot, PerCpuValues::try_from(vec![Words::default(); cpus])?, 0)?;
                self.peers.insert(key.as_bytes(), slot, 0)
            }
            MapChange::FreeSlot(key) => absent_is_fine(self.peers.remove(key.as_bytes())),
            MapChange::SetHost(IpAddr::V4(address), route) => {
                self.hosts4.set(address.octets(), *route, &self.switches)
            }
            MapChange::SetHost(IpAddr::V6(address), route) => {
                self.hosts6.set(address.octets(), *route, &self.switches)
            }
            MapChange::RemoveHost(IpAddr::V4(address)) => self.hosts4.remove(address.octets()),
            MapChange::RemoveHost(IpAddr::V6(address)) => self.hosts6.remove(address.octets()),
            MapChange::SetLan(IpNet::V4(lan), route) => self.lans4.insert(&key4(lan), word(*route), 0),
            MapChange::SetLan(IpNet::V6(lan), route) => self.lans6.insert(&key6(lan), word(*route), 0),
            MapChange::RemoveLan(IpNet::V4(lan)) => absent_is_fine(self.lans4.remove(&key4(lan))),
            MapChange::RemoveLan(IpNet::V6(lan)) => absent_is_fine(self.lans6.remove(&key6(lan))),
        }
    }
}

/// That there is no fast path where its maps would be.
pub(super) fn not_loaded(pins: &Pins) -> DatapathError {
    DatapathError::NotLoaded { interface: pins.interface().to_string(), path: pins.maps() }
}

/// Maps the memory of a map into ours.
fn mapped<T>(
    maps: &BTreeMap<&'static str, Map>,
    name: &'static str,
    of: fn(&MapData) -> io::Result<T>,
) -> Result<T, DatapathError> {
    let mapped = maps.get(name).and_then(data).map(of);
    mapped
        .unwrap_or_else(|| Err(io::ErrorKind::NotFound.into()))
        .map_err(|error| DatapathError::io(format!("map {name} into memory"), &error))
}

fn word(route: Route) -> u32 {
    bytemuck::cast(route)
}

fn key4(lan: &Ipv4Net) -> Key<[u8; 4]> {
    Key::new(u32::from(lan.prefix_len()), lan.network().octets())
}

fn key6(lan: &Ipv6Net) -> Key<[u8; 16]> {
    Key::new(u32::from(lan.prefix_len()), lan.network().octets())
}

fn prefix(address: IpAddr, length: u32) -> Option<IpNet> {
    IpNet::new(address, u8::try_from(length).ok()?).ok()
}

fn act(change: &MapChange) -> String {
    match change {
        MapChange::Enable(true) => "switch the fast path on".into(),
        MapChange::Enable(false) => "switch the fast path off".into(),
        MapChange::AllDirect(_) => "say where single addresses are".into(),
        MapChange::Network6(_) => "choose the /64 of the table of IPv6 addresses".into(),
        MapChange::AssignSlot(key, slot) => format!("give peer {key} the counters in slot {slot}"),
        MapChange::FreeSlot(key) => format!("free the counters of peer {key}"),
        MapChange::SetHost(address, _) => format!("put {address} in the route map"),
        MapChange::RemoveHost(address) => format!("take {address} from the route map"),
        MapChange::SetLan(lan, _) => format!("put {lan} in the route map"),
        MapChange::RemoveLan(lan) => format!("take {lan} from the route map"),
    }
}
