//! The eBPF object: the one in this binary, and whether an object is one of ours.

use aya::{Btf, Ebpf, EbpfLoader, maps::Map};
use object::{Object as _, ObjectSection as _, ObjectSymbol as _};
use relay_common::{LAYOUT, global};

use super::{
    DatapathError, Pins,
    shape::{self, Shape},
};

/// The object that this binary was built with; empty where there was no eBPF toolchain. A constant would stand in the
/// binary once for each place that uses it, and there are two: `tunnel`'s loader and `uplink`'s.
pub static EMBEDDED: &[u8] = aya::include_bytes_aligned!(concat!(env!("OUT_DIR"), "/relay.bpf.o"));

/// Refuses an object that is none, or not of this binary's [`LAYOUT`].
pub(super) fn check(object: &[u8]) -> Result<(), DatapathError> {
    if object.is_empty() {
        return Err(DatapathError::NoObject);
    }
    let found = layout(object)?;
    if found == LAYOUT { Ok(()) } else { Err(DatapathError::ForeignLayout { found, expected: LAYOUT }) }
}

/// The `LAYOUT` global of an object.
fn layout(bytes: &[u8]) -> Result<u32, DatapathError> {
    let bad = |detail: &str| DatapathError::BadObject(detail.to_owned());
    let file = object::File::parse(bytes).map_err(|error| DatapathError::BadObject(error.to_string()))?;
    let symbol = file
        .symbols()
        .find(|symbol| symbol.name() == Ok(global::LAYOUT))
        .ok_or_else(|| bad("it has no global LAYOUT"))?;
    let section = symbol
        .section_index()
        .and_then(|index| file.section_by_index(index).ok())
        .ok_or_else(|| bad("its global LAYOUT has no section"))?;
    let value = section
        .data_range(symbol.address(), size_of::<u32>() as u64)
        .ok()
        .flatten()
        .and_then(|value| value.try_into().ok())
        .ok_or_else(|| bad("its global LAYOUT has no value"))?;
    // The target is bpfel: little-endian whatever the host.
    Ok(u32::from_le_bytes(value))
}

/// Loads the object for one of its programs, whose maps have the shapes `ours` and are found or left in `pins`. `act` is
/// for the error.
pub(super) fn load(
    object: &[u8],
    act: &str,
    pins: &Pins,
    ours: &'static [Shape],
    others: &'static [Shape],
) -> Result<Ebpf, DatapathError> {
    shape::unpin_leftovers(ours, pins)?;
    let mut loader = EbpfLoader::new();
    // The programs read no kernel structures, so they need no kernel BTF either.
    loader.btf(None::<&Btf>);
    for (name, path) in shape::pin_paths(ours, pins) {
        loader.map_pin_path(name, path);
    }
    // The other program's maps come with the object, and would take memory for nothing.
    for name in shape::names(others) {
        loader.map_max_entries(name, 1);
    }
    loader.load(object).map_err(|error| DatapathError::object(act, error))
}

/// Takes a map out of the loaded object.
pub(super) fn take_map(ebpf: &mut Ebpf, name: &str) -> Result<Map, DatapathError> {
    ebpf.take_map(name).ok_or_else(|| DatapathError::BadObject(format!("it has no map {name}")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_no_object_is_refused() {
        assert!(matches!(check(&[]), Err(DatapathError::NoObject)));
        assert!(matches!(check(b"not an object"), Err(DatapathError::BadObject(_))));
    }

    #[test]
    fn the_embedded_object_is_ours_or_absent() {
        assert!(matches!(check(EMBEDDED), Ok(()) | Err(DatapathError::NoObject)));
    }
}
