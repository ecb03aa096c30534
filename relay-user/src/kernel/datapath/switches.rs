//! The words of the map SWITCHES, each written on its own: the map is mapped into memory, since a write by system call
//! would be one of the whole entry, and take back what another process has just switched.

use std::{
    io,
    mem::offset_of,
    sync::atomic::{AtomicU32, Ordering},
};

use aya::maps::MapData;
use relay_common::Switches;

use super::mapped::Mapped;
use crate::maps::AllDirect;

/// The entry of the map.
pub(super) struct Switchboard {
    entry: Mapped<[AtomicU32; WORDS]>,
}

const WORDS: usize = size_of::<Switches>() / size_of::<u32>();
const FAST_PATH: usize = offset_of!(Switches, fast_path) / size_of::<u32>();
const TRACE: usize = offset_of!(Switches, trace) / size_of::<u32>();
const ALL_DIRECT4: usize = offset_of!(Switches, all_direct4) / size_of::<u32>();
const ALL_DIRECT6: usize = offset_of!(Switches, all_direct6) / size_of::<u32>();

impl Switchboard {
    pub(super) fn of(map: &MapData) -> io::Result<Self> {
        Ok(Self { entry: Mapped::of(map)? })
    }

    pub(super) fn fast_path(&self) -> bool {
        self.entry[FAST_PATH].load(Ordering::Relaxed) != 0
    }

    pub(super) fn set_fast_path(&self, on: bool) {
        self.entry[FAST_PATH].store(on.into(), Ordering::Relaxed);
    }

    pub(super) fn trace(&self) -> bool {
        self.entry[TRACE].load(Ordering::Relaxed) != 0
    }

    pub(super) fn set_trace(&self, on: bool) {
        self.entry[TRACE].store(on.into(), Ordering::Relaxed);
    }

    pub(super) fn all_direct(&self) -> AllDirect {
        let is_set = |word: usize| self.entry[word].load(Ordering::Relaxed) != 0;
        AllDirect { v4: is_set(ALL_DIRECT4), v6: is_set(ALL_DIRECT6) }
    }

    pub(super) fn set_all_direct(&self, all: AllDirect) {
        self.entry[ALL_DIRECT4].store(all.v4.into(), Ordering::Relaxed);
        self.entry[ALL_DIRECT6].store(all.v6.into(), Ordering::Relaxed);
    }
}
