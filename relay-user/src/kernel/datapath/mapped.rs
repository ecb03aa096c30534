//! A map's memory, mapped into ours: where each word shall be written on its own, and whole.

use std::{io, marker::PhantomData, num::NonZeroUsize, ops::Deref, os::fd::AsFd as _, ptr::NonNull};

use aya::maps::MapData;
use nix::sys::mman::{MapFlags, ProtFlags, mmap, munmap};

/// What a map can hold that several write at once: atomic words.
///
/// # Safety
///
/// All of it must be atomic, and any bits a value of it.
pub(super) unsafe trait Words {}

/// SAFETY: an array has nothing but its elements.
unsafe impl<const N: usize> Words for [std::sync::atomic::AtomicU32; N] {}
/// SAFETY: as above.
unsafe impl<const N: usize> Words for [std::sync::atomic::AtomicU64; N] {}

/// All entries of an array that was made with BPF_F_MMAPABLE.
pub(super) struct Mapped<T: Words> {
    place: NonNull<T>,
    owns: PhantomData<T>,
}

impl<T: Words> Mapped<T> {
    /// The kernel maps whole pages.
    const LENGTH: NonZeroUsize = NonZeroUsize::new(size_of::<T>()).expect("entries have a size");

    /// Fails where the map is smaller: its pages end then.
    pub(super) fn of(map: &MapData) -> io::Result<Self> {
        let protection = ProtFlags::PROT_READ | ProtFlags::PROT_WRITE;
        // SAFETY: a mapping of its own, at an address that the kernel chooses, touches no other memory.
        let place =
            unsafe { mmap(None, Self::LENGTH, protection, MapFlags::MAP_SHARED, map.fd().as_fd(), 0) }?;
        Ok(Self { place: place.cast(), owns: PhantomData })
    }
}

impl<T: Words> Deref for Mapped<T> {
    type Target = T;

    fn deref(&self) -> &T {
        // SAFETY: it is mapped as long as `self` lives, a page is aligned for it, any bits are a value of it, and whoever
        // else has it writes words whole.
        unsafe { self.place.as_ref() }
    }
}

impl<T: Words> Drop for Mapped<T> {
    fn drop(&mut self) {
        // SAFETY: the mapping is ours, and nothing refers to it any more. It cannot fail for one that there is.
        let _ = unsafe { munmap(self.place.cast(), Self::LENGTH.get()) };
    }
}

// SAFETY: it is memory that no thread owns, and what is behind it is atomic.
unsafe impl<T: Words> Send for Mapped<T> {}
// SAFETY: as above.
unsafe impl<T: Words> Sync for Mapped<T> {}
