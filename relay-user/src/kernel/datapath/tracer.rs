//! Verdicts as they are found, by aya-log's ring buffer, which has one reader.
//!
//! The program is told what to tell (the map TRACE), then switched on (SWITCHES), and goes on for [`LEASE`] unless it is
//! told so again: a tracer that was killed costs nothing after that.

use std::{
    collections::BTreeMap,
    fs::{File, TryLockError},
    os::fd::{AsFd, BorrowedFd},
    time::Duration,
};

use aya::maps::MapInfo;
use aya_log::EbpfLogger;
use log::{Log, Metadata, Record};
use nix::time::{ClockId, clock_gettime};
use relay_common::{Event, EventBytes, PeerSlot, Trace, map};

use super::{DatapathError, Interface, PinnedMaps, Pins, hook};
use crate::key::PublicKey;

/// How long the program goes on without being told so.
pub const LEASE: Duration = Duration::from_secs(4);

/// A trace of one interface. Dropping it switches it off.
pub struct Tracer {
    pins: Pins,
    maps: PinnedMaps,
    /// The id of the map TRACE, which is the pinned one's as long as the program goes by it.
    id: u32,
    /// How many events there were before.
    before: u64,
    /// Whether it is switched on.
    on: bool,
    /// No other process traces this interface.
    _lock: File,
}

impl Tracer {
    /// Begins to trace the interface, and asks for nothing yet. `told` gets what [`Events::read`] finds.
    ///
    /// # Errors
    /// [`DatapathError::Traced`] when another process does already, [`DatapathError::NotLoaded`] without a fast path.
    pub fn open<F: Fn(Event) + Send + Sync>(
        interface: &Interface,
        pins: Pins,
        told: F,
    ) -> Result<(Self, Events<F>), DatapathError> {
        let maps = PinnedMaps::open(&pins)?;
        let lock = lock(&pins)?;
        let id = pinned(&pins).ok_or_else(|| super::maps::not_loaded(&pins))?;
        // Whoever was here before may have been killed.
        maps.switches.set_trace(false);
        let program = hook::program(interface, &pins)?.ok_or_else(|| super::maps::not_loaded(&pins))?;
        let act = || format!("read the ring buffer of program {program}");
        let mut stale = EbpfLogger::init_from_id_with_logger(program, Hand(drop))
            .map_err(|error| DatapathError::caused(act(), &error))?;
        stale.flush();
        let logger = EbpfLogger::init_from_id_with_logger(program, Hand(told))
            .map_err(|error| DatapathError::caused(act(), &error))?;
        let mut tracer = Self { pins, maps, id, before: 0, on: false, _lock: lock };
        tracer.before = tracer.count()?;
        Ok((tracer, Events(logger)))
    }

    /// Asks for these verdicts, for another [`LEASE`]. Says whether there was a gap, since this comes too late after the
    /// last time.
    ///
    /// # Errors
    /// The kernel refuses a write.
    pub fn ask(&mut self, verdicts: u32, peer: PeerSlot) -> Result<bool, DatapathError> {
        let until = since_boot().saturating_add(LEASE);
        let trace = Trace { until: u64::try_from(until.as_nanos()).unwrap_or(u64::MAX), verdicts, peer };
        let written = self.maps.trace.set(0, bytemuck::cast::<_, [u64; 2]>(trace), 0);
        written.map_err(|error| DatapathError::map("say what shall be traced", &error))?;
        let gap = self.on && !self.maps.switches.trace();
        self.maps.switches.set_trace(true);
        self.on = true;
        Ok(gap)
    }

    /// Switches it off.
    pub fn end(&mut self) {
        self.maps.switches.set_trace(false);
        self.on = false;
    }

    /// Whether the program still goes by what is asked here: not after `relay down`, or once a relay with another layout has
    /// put its own in place.
    #[must_use]
    pub fn stands(&self) -> bool {
        pinned(&self.pins) == Some(self.id)
    }

    /// How many events there were, also those that found no room.
    ///
    /// # Errors
    /// The kernel refuses a read.
    pub fn events(&self) -> Result<u64, DatapathError> {
        Ok(self.count()?.wrapping_sub(self.before))
    }

    fn count(&self) -> Result<u64, DatapathError> {
        let counted = self.maps.traced.get(&0, 0);
        let counted = counted.map_err(|error| DatapathError::map("count the events", &error))?;
        Ok(counted.iter().fold(0, |sum, on_cpu| sum.wrapping_add(*on_cpu)))
    }

    /// Who has which slot.
    ///
    /// # Errors
    /// The kernel refuses a read.
    pub fn slots(&self) -> Result<BTreeMap<PeerSlot, PublicKey>, DatapathError> {
        self.maps.slots().map(|slots| slots.into_iter().map(|(key, slot)| (slot, key)).collect())
    }

    /// The slot of that peer, if it has one.
    ///
    /// # Errors
    /// The kernel refuses a read.
    pub fn slot(&self, key: &PublicKey) -> Result<Option<PeerSlot>, DatapathError> {
        self.maps.slot(key)
    }
}

impl Drop for Tracer {
    fn drop(&mut self) {
        self.end();
    }
}

/// What is in the ring buffer.
pub struct Events<F>(EbpfLogger<Hand<F>>);

impl<F: Fn(Event) + Send + Sync> Events<F> {
    /// Hands on what is there, until there is no more: without end where packets come faster than they are told.
    pub fn read(&mut self) {
        self.0.flush();
    }
}

impl<F> AsFd for Events<F> {
    /// Readable when there is something.
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

/// How aya-log hands its records on.
struct Hand<F>(F);

impl<F: Fn(Event) + Send + Sync> Log for Hand<F> {
    fn enabled(&self, _: &Metadata<'_>) -> bool {
        true
    }

    fn log(&self, record: &Record<'_>) {
        if let Some(event) = decode(&record.args().to_string()) {
            (self.0)(event);
        }
    }

    fn flush(&self) {}
}

/// The event in a record of `tunnel`'s, which is its bytes in hexadecimal.
#[must_use]
pub fn decode(record: &str) -> Option<Event> {
    let mut bytes: EventBytes = [0; size_of::<Event>()];
    if record.len() != 2 * bytes.len() {
        return None;
    }
    for (index, byte) in bytes.iter_mut().enumerate() {
        *byte = u8::from_str_radix(record.get(2 * index..2 * index + 2)?, 16).ok()?;
    }
    Some(bytemuck::pod_read_unaligned(&bytes))
}

/// The clock of [`Event::time`], which goes on while the machine sleeps.
#[must_use]
pub fn since_boot() -> Duration {
    // Linux has it; with no clock nothing would be told, and everything else works.
    clock_gettime(ClockId::CLOCK_BOOTTIME).map_or(Duration::ZERO, Duration::from)
}

/// The folder of the maps is the lock: it goes with them, and nothing is left behind.
fn lock(pins: &Pins) -> Result<File, DatapathError> {
    let folder = pins.maps();
    let act = || format!("lock the folder {}", folder.display());
    let file = File::open(&folder).map_err(|error| DatapathError::io(act(), &error))?;
    match file.try_lock() {
        Ok(()) => Ok(file),
        Err(TryLockError::WouldBlock) => Err(DatapathError::Traced(pins.interface().to_string())),
        Err(TryLockError::Error(error)) => Err(DatapathError::io(act(), &error)),
    }
}

fn pinned(pins: &Pins) -> Option<u32> {
    MapInfo::from_pin(pins.maps().join(map::TRACE)).ok().map(|info| info.id())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn records_are_events() {
        let event = Event { time: 0x0102, bytes: 84, verdict: 5, ..Event::default() };
        let record: String = bytemuck::bytes_of(&event).iter().map(|byte| format!("{byte:02x}")).collect();
        assert_eq!(decode(&record), Some(event));
        for bad in ["", "00", &record[1..], &record.replace('0', "ä")] {
            assert_eq!(decode(bad), None, "{bad:?}");
        }
    }
}
