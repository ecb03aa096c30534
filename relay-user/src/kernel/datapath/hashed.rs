//! A hash map that is read whole in a few calls of the kernel. One by one, ten thousand entries take twenty thousand, and
//! longer than all that is done with them.

use std::{
    io,
    ops::{Deref, DerefMut},
    os::fd::{AsFd as _, AsRawFd as _, OwnedFd},
};

use aya::{
    Pod,
    maps::{HashMap, Map, MapData, MapError},
    sys::SyscallError,
};
use bytemuck::{AnyBitPattern, Zeroable};
use nix::libc;

use super::shape::data;

/// How many entries the kernel is asked for at a time, at first.
const AT_A_TIME: usize = 1024;

/// `BPF_MAP_LOOKUP_BATCH` (include/uapi/linux/bpf.h), which hash maps have since 5.6. aya has no call for it.
const LOOKUP_BATCH: libc::c_long = 24;

/// The part of `union bpf_attr` that it takes (include/uapi/linux/bpf.h, "struct used by BPF_MAP_*_BATCH commands").
#[repr(C)]
struct Request {
    /// Address of the place to go on from; 0 for the beginning.
    in_batch: u64,
    /// Address where the kernel writes the next such place: for a hash map the number of a bucket.
    out_batch: u64,
    keys: u64,
    values: u64,
    /// How many fit; the kernel writes how many there were.
    count: u32,
    map_fd: u32,
    elem_flags: u64,
    flags: u64,
}

/// The map.
pub(super) struct Hashed<K, V> {
    map: HashMap<MapData, K, V>,
    /// aya keeps its own to itself.
    fd: OwnedFd,
}

impl<K: Pod, V: Pod> TryFrom<Map> for Hashed<K, V> {
    type Error = MapError;

    fn try_from(map: Map) -> Result<Self, MapError> {
        let fd = data(&map).map(|data| data.fd().as_fd().try_clone_to_owned()).transpose()?;
        let fd = fd.ok_or(MapError::ElementNotFound)?;
        Ok(Self { map: map.try_into()?, fd })
    }
}

impl<K: Pod + AnyBitPattern, V: Pod + AnyBitPattern> Hashed<K, V> {
    /// Everything in it, in no order.
    pub(super) fn entries(&self) -> Result<Vec<(K, V)>, MapError> {
        let (mut keys, mut values) = (room(AT_A_TIME), room(AT_A_TIME));
        let mut entries = Vec::new();
        let mut from = None;
        loop {
            match self.some(from, &mut keys, &mut values) {
                Ok((count, next)) => {
                    entries.extend(keys.iter().copied().zip(values.iter().copied()).take(count));
                    let Some(next) = next else { return Ok(entries) };
                    from = Some(next);
                }
                // More entries in one bucket than there is room for.
                Err(error) if error.raw_os_error() == Some(libc::ENOSPC) => {
                    (keys, values) = (room(2 * keys.len()), room(2 * values.len()));
                }
                Err(io_error) => return Err(SyscallError { call: "BPF_MAP_LOOKUP_BATCH", io_error }.into()),
            }
        }
    }

    /// Some of the entries from a bucket on, how many, and the bucket to go on from; no such bucket when these are the last.
    fn some(&self, from: Option<u32>, keys: &mut [K], values: &mut [V]) -> io::Result<(usize, Option<u32>)> {
        let mut next = 0_u32;
        let mut request = Request {
            in_batch: from.as_ref().map_or(0, |from| std::ptr::from_ref(from) as u64),
            out_batch: (&raw mut next) as u64,
            keys: keys.as_mut_ptr() as u64,
            values: values.as_mut_ptr() as u64,
            count: keys.len().min(values.len()) as u32,
            map_fd: self.fd.as_raw_fd().cast_unsigned(),
            elem_flags: 0,
            flags: 0,
        };
        // SAFETY: the kernel reads and writes `request`, whose size it is told, and by it `from`, `next` and at most `count`
        // keys and values. All of them outlive the call; aya has checked that keys and values of the map have the sizes of
        // `K` and `V`, and of these any bits are values.
        let done =
            unsafe { libc::syscall(libc::SYS_bpf, LOOKUP_BATCH, &raw mut request, size_of::<Request>()) };
        match (done, io::Error::last_os_error()) {
            (0.., _) => Ok((request.count as usize, Some(next))),
            // The end was met (kernel/bpf/hashtab.c, __htab_map_lookup_and_delete_batch).
            (_, error) if error.raw_os_error() == Some(libc::ENOENT) => Ok((request.count as usize, None)),
            (_, error) => Err(error),
        }
    }
}

fn room<T: Zeroable + Clone>(entries: usize) -> Vec<T> {
    vec![T::zeroed(); entries]
}

impl<K, V> Deref for Hashed<K, V> {
    type Target = HashMap<MapData, K, V>;

    fn deref(&self) -> &Self::Target {
        &self.map
    }
}

impl<K, V> DerefMut for Hashed<K, V> {
    fn deref_mut(&mut self) -> &mut Self::Target {
        &mut self.map
    }
}
