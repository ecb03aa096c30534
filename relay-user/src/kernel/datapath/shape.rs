//! What maps must look like, and maps that do.

use std::{collections::BTreeMap, io, path::PathBuf};

use aya::maps::{Map, MapData, MapError, MapType};

use super::{DatapathError, Pins, error::errno, maps, pins};

/// A map as `relay_common` describes it; sizes in bytes.
pub(super) struct Shape {
    name: &'static str,
    kind: MapType,
    key: usize,
    value: usize,
    entries: u32,
}

pub(super) const fn shape(
    name: &'static str,
    kind: MapType,
    key: usize,
    value: usize,
    entries: u32,
) -> Shape {
    Shape { name, kind, key, value, entries }
}

impl Shape {
    /// Says how a map differs; `None` when it is as described.
    fn difference(&self, map: &MapData) -> Result<Option<String>, MapError> {
        let info = map.info()?;
        let found = (info.map_type()?, info.key_size(), info.value_size(), info.max_entries());
        let expected = (self.kind, self.key as u32, self.value as u32, self.entries);
        Ok((found != expected).then(|| {
            format!("map {} has (type, key, value, entries) {found:?}, not {expected:?}", self.name)
        }))
    }
}

/// The names.
pub(super) fn names(shapes: &'static [Shape]) -> impl Iterator<Item = &'static str> {
    shapes.iter().map(|shape| shape.name)
}

/// The pin of each map, by name.
pub(super) fn pin_paths(
    shapes: &'static [Shape],
    pins: &Pins,
) -> impl Iterator<Item = (&'static str, PathBuf)> {
    let folder = pins.maps();
    names(shapes).map(move |name| (name, folder.join(name)))
}

/// Unpins maps that are not as this layout describes them: leftovers of a build that did not raise its number. A
/// program that uses them keeps them until it is replaced.
pub(super) fn unpin_leftovers(shapes: &'static [Shape], pins: &Pins) -> Result<(), DatapathError> {
    for (shape, (_, path)) in shapes.iter().zip(pin_paths(shapes, pins)) {
        if !path.exists() {
            continue;
        }
        let as_described =
            MapData::from_pin(&path).is_ok_and(|map| matches!(shape.difference(&map), Ok(None)));
        if !as_described {
            pins::remove_all(&path)?;
        }
    }
    Ok(())
}

/// Opens a pinned map.
pub(super) fn open(pins: &Pins, name: &str) -> Result<Map, DatapathError> {
    let path = pins.maps().join(name);
    MapData::from_pin(&path).and_then(Map::from_map_data).map_err(|error| {
        let absent = errno(&error).is_some_and(|error| error.kind() == io::ErrorKind::NotFound);
        if absent {
            maps::not_loaded(pins)
        } else {
            DatapathError::map(format!("open the map {}", path.display()), &error)
        }
    })
}

/// Takes the maps from wherever `source` finds them by name, and checks that they are as described.
pub(super) fn take(
    shapes: &'static [Shape],
    mut source: impl FnMut(&'static str) -> Result<Map, DatapathError>,
) -> Result<BTreeMap<&'static str, Map>, DatapathError> {
    let mut maps = BTreeMap::new();
    for shape in shapes {
        let map = source(shape.name)?;
        let difference = data(&map).map_or_else(
            || Ok(Some(format!("map {} is of another kind", shape.name))),
            |data| shape.difference(data),
        );
        let difference =
            difference.map_err(|error| DatapathError::map(format!("read map {}", shape.name), &error))?;
        if let Some(difference) = difference {
            return Err(DatapathError::BadObject(difference));
        }
        maps.insert(shape.name, map);
    }
    Ok(maps)
}

/// The map's own data, for the kinds that relay has.
pub(super) const fn data(map: &Map) -> Option<&MapData> {
    match map {
        Map::Array(data)
        | Map::HashMap(data)
        | Map::LpmTrie(data)
        | Map::LruHashMap(data)
        | Map::PerCpuArray(data)
        | Map::RingBuf(data) => Some(data),
        _ => None,
    }
}

/// A hash map that is full says E2BIG (kernel/bpf/hashtab.c), a trie ENOSPC (kernel/bpf/lpm_trie.c).
pub(super) fn is_full(error: &MapError) -> bool {
    use nix::libc::{E2BIG, ENOSPC};
    errno(error).and_then(io::Error::raw_os_error).is_some_and(|code| code == E2BIG || code == ENOSPC)
}

/// Removing what is not there.
pub(super) fn absent_is_fine(result: Result<(), MapError>) -> Result<(), MapError> {
    match result {
        Err(error)
            if matches!(error, MapError::KeyNotFound)
                || errno(&error).is_some_and(|error| error.kind() == io::ErrorKind::NotFound) =>
        {
            Ok(())
        }
        other => other,
    }
}
