//! The guard in front of the listen port, held by the hub that it guards.

use std::collections::BTreeSet;

use relay_common::uplink::SourceKey;

use crate::{
    desired::{InterfaceName, UplinkMode},
    kernel::datapath::{
        DatapathError, EMBEDDED, Pins,
        uplink::{self, UplinkGuard},
    },
    uplink::{UplinkChange, UplinkCounters, UplinkDevice, UplinkObserved, UplinkState, XdpHook},
};

/// A handle on it. Dropping it takes nothing off: what is pinned goes on.
pub(super) struct UplinkAttachment {
    pins: Pins,
    guard: Option<UplinkGuard>,
    /// On which device it could not be attached, and why; tried again when asked to, not at every look.
    failure: Option<(UplinkDevice, String)>,
}

impl UplinkAttachment {
    /// Nothing is loaded yet.
    pub(super) fn new(tunnel: InterfaceName) -> Self {
        Self { pins: Pins::of_uplink(tunnel), guard: None, failure: None }
    }

    /// Reads it, on the device where it shall be.
    pub(super) fn observe(
        &self,
        device: Option<UplinkDevice>,
        live: BTreeSet<SourceKey>,
    ) -> Result<UplinkObserved, DatapathError> {
        let hook = match &device {
            Some(device) => uplink::hook(device, &self.pins)?,
            None => XdpHook::Free,
        };
        let maps = self.guard.as_ref().map(|guard| guard.maps.read()).transpose()?;
        Ok(UplinkObserved { device, hook, maps, pinned: self.pins.exist(), live })
    }

    /// Loads it: prepare, fill the maps with what `fill` makes of what they hold, commit.
    pub(super) fn load(
        &mut self,
        device: UplinkDevice,
        mode: UplinkMode,
        fill: impl FnOnce(&UplinkState) -> Vec<UplinkChange>,
    ) -> Result<(), DatapathError> {
        let mut prepared = uplink::prepare(EMBEDDED, device, mode, self.pins.clone())?;
        let state = prepared.maps.read()?;
        prepared.maps.apply(&fill(&state))?;
        match prepared.commit() {
            Ok(guard) => {
                self.guard = Some(guard);
                Ok(())
            }
            Err(error) => {
                // Maps that no program uses are of no use.
                self.guard = None;
                uplink::remove(&self.pins)?;
                Err(error)
            }
        }
    }

    /// Changes its maps, if it is loaded.
    pub(super) fn set(&mut self, changes: &[UplinkChange]) -> Result<(), DatapathError> {
        self.guard.as_mut().map_or(Ok(()), |guard| guard.maps.apply(changes))
    }

    /// Takes it off, pins included.
    pub(super) fn unload(&mut self) -> Result<(), DatapathError> {
        self.guard = None;
        uplink::remove(&self.pins)
    }

    /// Its counters; `None` while it is not loaded.
    pub(super) fn counters(&self) -> Result<Option<UplinkCounters>, DatapathError> {
        self.guard.as_ref().map(|guard| guard.maps.counters()).transpose()
    }

    /// Why it could not be attached to this device, if it could not.
    pub(super) fn failure(&self, device: Option<&UplinkDevice>) -> Option<&str> {
        let (failed, why) = self.failure.as_ref()?;
        (Some(failed) == device).then_some(why.as_str())
    }

    /// It could not be attached to this device, and is not tried again there before [`UplinkAttachment::retry`].
    pub(super) fn failed(&mut self, device: UplinkDevice, why: String) {
        self.failure = Some((device, why));
    }

    /// It is tried again at the next look.
    pub(super) fn retry(&mut self) {
        self.failure = None;
    }
}
