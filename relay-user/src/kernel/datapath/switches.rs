//! The words of the map SWITCHES, each written on its own: the map is mapped into memory, since a write by system call
//! would be one of the whole entry, and take back what another process has just switched.

use std::{
    io,
    mem::offset_of,
    num::NonZeroUsize,
    os::fd::AsFd as _,
    ptr::NonNull,
    sync::atomic::{AtomicU32, Ordering},
};

use aya::maps::MapData;
use nix::sys::mman::{MapFlags, ProtFlags, mmap, munmap};
use relay_common::Switches;

/// The entry of the map.
pub(super) struct Switchboard {
    entry: NonNull<[AtomicU32; WORDS]>,
}

const WORDS: usize = size_of::<Switches>() / size_of::<u32>();
const FAST_PATH: usize = offset_of!(Switches, fast_path) / size_of::<u32>();
const TRACE: usize = offset_of!(Switches, trace) / size_of::<u32>();

/// What is mapped: the kernel maps whole pages, and the entry is smaller than any.
const LENGTH: NonZeroUsize = NonZeroUsize::new(size_of::<Switches>()).expect("the entry has a size");

impl Switchboard {
    pub(super) fn of(map: &MapData) -> io::Result<Self> {
        let protection = ProtFlags::PROT_READ | ProtFlags::PROT_WRITE;
        // SAFETY: a mapping of its own, at an address that the kernel chooses, touches no other memory.
        let place = unsafe { mmap(None, LENGTH, protection, MapFlags::MAP_SHARED, map.fd().as_fd(), 0) }?;
        Ok(Self { entry: place.cast() })
    }

    pub(super) fn fast_path(&self) -> bool {
        self.word(FAST_PATH).load(Ordering::Relaxed) != 0
    }

    pub(super) fn set_fast_path(&self, on: bool) {
        self.word(FAST_PATH).store(on.into(), Ordering::Relaxed);
    }

    pub(super) fn trace(&self) -> bool {
        self.word(TRACE).load(Ordering::Relaxed) != 0
    }

    pub(super) fn set_trace(&self, on: bool) {
        self.word(TRACE).store(on.into(), Ordering::Relaxed);
    }

    fn word(&self, index: usize) -> &AtomicU32 {
        // SAFETY: the entry is mapped as long as `self` lives, a page is aligned for it, and whoever else has it writes
        // words whole.
        let words = unsafe { self.entry.as_ref() };
        &words[index]
    }
}

impl Drop for Switchboard {
    fn drop(&mut self) {
        // SAFETY: the mapping is ours, and nothing refers to it any more. It cannot fail for one that there is.
        let _ = unsafe { munmap(self.entry.cast(), LENGTH.get()) };
    }
}

// SAFETY: it is memory that no thread owns, and what is behind it is atomic.
unsafe impl Send for Switchboard {}
// SAFETY: as above.
unsafe impl Sync for Switchboard {}
