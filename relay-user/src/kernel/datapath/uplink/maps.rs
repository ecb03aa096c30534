//! The guard's pinned maps: what they must look like, reading them, and one write for each change.

use std::{collections::BTreeMap, net::IpAddr};

use aya::maps::{Array, HashMap, LpmTrie, Map, MapData, MapError, MapType, PerCpuArray, lpm_trie::Key};
use ipnet::IpNet;
use relay_common::{
    UplinkVerdict, map,
    uplink::{
        MAX_INITIATIONS, MAX_LIVE, MAX_LOCAL, MAX_PREFIXES, MAX_SOURCES, SourceKey, UplinkSettings,
        UplinkSource, bucket, turned_away,
    },
};

use super::super::{
    DatapathError, Pins,
    shape::{self, Shape, absent_is_fine, is_full, shape},
};
use crate::uplink::{UplinkChange, UplinkCounters, UplinkSources, UplinkState};

/// Settings and sources as words.
type SettingsWords = [u64; size_of::<UplinkSettings>() / 8];
type SourceWords = [u64; size_of::<UplinkSource>() / 8];

/// Every one of them.
pub(in super::super) const SHAPES: &[Shape] = &[
    shape(map::UPLINK_SETTINGS, MapType::Array, 4, size_of::<UplinkSettings>(), 1),
    shape(map::UPLINK_LOCAL, MapType::Hash, 16, 4, MAX_LOCAL),
    shape(map::UPLINK_PREFIXES, MapType::LpmTrie, 4 + 16, 4, MAX_PREFIXES),
    shape(map::UPLINK_LIVE, MapType::Hash, 8, 8, MAX_LIVE),
    shape(map::UPLINK_SOURCES, MapType::LruHash, 8, size_of::<UplinkSource>(), MAX_SOURCES),
    shape(map::UPLINK_INITIATIONS, MapType::LruHash, 32, 8, MAX_INITIATIONS),
    shape(map::UPLINK_BUCKETS, MapType::Array, 4, 8, bucket::COUNT as u32),
    shape(map::UPLINK_TURNED_AWAY, MapType::Array, 4, 8, turned_away::COUNT as u32),
    shape(map::UPLINK_VERDICTS, MapType::PerCpuArray, 4, 8, UplinkVerdict::ALL.len() as u32),
];

/// `BPF_NOEXIST` (include/uapi/linux/bpf.h): what is there stays as it is.
const NOT_THERE_YET: u64 = 1;

/// What there is to write to and to read from; the program has the others to itself.
pub struct UplinkMaps {
    settings: Array<MapData, SettingsWords>,
    local: HashMap<MapData, [u8; 16], u32>,
    prefixes: LpmTrie<MapData, [u8; 16], u32>,
    live: HashMap<MapData, [u8; 8], u64>,
    sources: HashMap<MapData, [u8; 8], SourceWords>,
    verdicts: PerCpuArray<MapData, u64>,
}

impl UplinkMaps {
    /// Opens the pinned maps without loading anything: a daemon need not run.
    ///
    /// # Errors
    /// [`DatapathError::NotLoaded`] where there are none, [`DatapathError::Denied`] without CAP_BPF.
    pub fn open(pins: &Pins) -> Result<Self, DatapathError> {
        Self::from_source(|name| shape::open(pins, name))
    }

    pub(super) fn from_source(
        source: impl FnMut(&'static str) -> Result<Map, DatapathError>,
    ) -> Result<Self, DatapathError> {
        let maps = shape::take(SHAPES, source)?;
        Self::typed(maps).map_err(|error| DatapathError::map("open the guard's maps", &error))
    }

    fn typed(mut maps: BTreeMap<&'static str, Map>) -> Result<Self, MapError> {
        let mut take = |name: &str| maps.remove(name).ok_or(MapError::ElementNotFound);
        Ok(Self {
            settings: take(map::UPLINK_SETTINGS)?.try_into()?,
            local: take(map::UPLINK_LOCAL)?.try_into()?,
            prefixes: take(map::UPLINK_PREFIXES)?.try_into()?,
            live: take(map::UPLINK_LIVE)?.try_into()?,
            sources: take(map::UPLINK_SOURCES)?.try_into()?,
            verdicts: take(map::UPLINK_VERDICTS)?.try_into()?,
        })
    }

    /// What the maps hold.
    ///
    /// # Errors
    /// The kernel refuses a read.
    pub fn read(&self) -> Result<UplinkState, DatapathError> {
        self.state().map_err(|error| DatapathError::map("read the guard's maps", &error))
    }

    fn state(&self) -> Result<UplinkState, MapError> {
        let settings = bytemuck::cast(self.settings.get(&0, 0)?);
        let local = self.local.keys().map(|key| key.map(unmapped)).collect::<Result<_, _>>()?;
        let mut rules = BTreeMap::new();
        for entry in self.prefixes.iter() {
            let (key, rule) = entry?;
            if let Some(prefix) = prefix(key.prefix_len(), key.data()) {
                rules.insert(prefix, bytemuck::cast(rule));
            }
        }
        let live = self.live.keys().map(|key| key.map(SourceKey)).collect::<Result<_, _>>()?;
        Ok(UplinkState { settings, local, rules, live })
    }

    /// What was counted, summed over CPUs.
    ///
    /// # Errors
    /// The kernel refuses a read.
    pub fn counters(&self) -> Result<UplinkCounters, DatapathError> {
        let mut counters = UplinkCounters { verdicts: [0; UplinkVerdict::ALL.len()] };
        for verdict in UplinkVerdict::ALL {
            let index = *verdict as u32;
            let on_cpus = self.verdicts.get(&index, 0);
            let on_cpus = on_cpus.map_err(|error| DatapathError::map("read the guard's counters", &error))?;
            counters.verdicts[index as usize] = on_cpus.iter().sum();
        }
        Ok(counters)
    }

    /// What is remembered of sources that had something dropped. Those that come and go meanwhile may be missing.
    ///
    /// # Errors
    /// The kernel refuses a read.
    pub fn sources(&self) -> Result<UplinkSources, DatapathError> {
        let mut sources = UplinkSources::new();
        for entry in self.sources.iter() {
            match entry {
                Ok((key, words)) => {
                    let source: UplinkSource = bytemuck::cast(words);
                    if source.dropped > 0 {
                        sources.insert(SourceKey(key), source);
                    }
                }
                Err(MapError::KeyNotFound) => {}
                Err(error) => return Err(DatapathError::map("read the guard's sources", &error)),
            }
        }
        Ok(sources)
    }

    /// Performs the changes in their order. What finds its map full is not guarded, or has no reserve.
    ///
    /// # Errors
    /// The kernel refuses a write; the changes before it stand.
    pub fn apply(&mut self, changes: &[UplinkChange]) -> Result<(), DatapathError> {
        for change in changes {
            match self.perform(change) {
                Ok(()) => {}
                Err(error) if is_full(&error) => {}
                Err(error) => return Err(DatapathError::map("write the guard's maps", &error)),
            }
        }
        Ok(())
    }

    fn perform(&mut self, change: &UplinkChange) -> Result<(), MapError> {
        match change {
            UplinkChange::AddLocal(address) => self.local.insert(mapped(*address), 1, 0),
            UplinkChange::RemoveLocal(address) => absent_is_fine(self.local.remove(&mapped(*address))),
            UplinkChange::SetRule(prefix, rule) => {
                self.prefixes.insert(&key(*prefix), bytemuck::cast::<_, u32>(*rule), 0)
            }
            UplinkChange::RemoveRule(prefix) => absent_is_fine(self.prefixes.remove(&key(*prefix))),
            UplinkChange::Settings(settings) => {
                self.settings.set(0, bytemuck::cast::<_, SettingsWords>(*settings), 0)
            }
            UplinkChange::AddLive(source) => there_is_fine(self.live.insert(source.0, 0, NOT_THERE_YET)),
            UplinkChange::RemoveLive(source) => absent_is_fine(self.live.remove(&source.0)),
        }
    }
}

fn there_is_fine(result: Result<(), MapError>) -> Result<(), MapError> {
    match result {
        Err(error)
            if super::super::error::errno(&error)
                .is_some_and(|error| error.kind() == std::io::ErrorKind::AlreadyExists) =>
        {
            Ok(())
        }
        other => other,
    }
}

/// Bits in front of a mapped IPv4 address.
const MAPPED: u32 = 96;

fn mapped(address: IpAddr) -> [u8; 16] {
    match address {
        IpAddr::V4(address) => address.to_ipv6_mapped().octets(),
        IpAddr::V6(address) => address.octets(),
    }
}

fn unmapped(bytes: [u8; 16]) -> IpAddr {
    IpAddr::from(bytes).to_canonical()
}

fn key(prefix: IpNet) -> Key<[u8; 16]> {
    let length = u32::from(prefix.prefix_len()) + if prefix.addr().is_ipv4() { MAPPED } else { 0 };
    Key::new(length, mapped(prefix.network()))
}

fn prefix(length: u32, bytes: [u8; 16]) -> Option<IpNet> {
    let address = unmapped(bytes);
    let length = if address.is_ipv4() { length.checked_sub(MAPPED)? } else { length };
    IpNet::new(address, u8::try_from(length).ok()?).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn prefixes_come_back_as_they_went() {
        for text in
            ["0.0.0.0/0", "203.0.113.0/24", "203.0.113.9/32", "::/0", "2001:db8::/32", "2001:db8::1/128"]
        {
            let net: IpNet = text.parse().expect("a prefix");
            let key = key(net);
            assert_eq!(prefix(key.prefix_len(), key.data()), Some(net), "{text}");
        }
    }
}
