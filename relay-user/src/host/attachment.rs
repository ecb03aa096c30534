//! The fast path of one interface, held by whoever keeps that interface: relay's own hub, or an adoption.

use crate::{
    kernel::datapath::{self, Datapath, DatapathError, EMBEDDED, Hook, Interface, Pins},
    maps::{Counters, DatapathState, MapChange},
};

/// A handle on it. Dropping it takes nothing off: what is pinned goes on.
pub struct Attachment {
    pins: Pins,
    datapath: Option<Datapath>,
    /// The interface's index at the last look, if there was one.
    index: Option<u32>,
    /// Why it could not be loaded there; tried again when asked to, not at every look.
    failure: Option<String>,
    overflow: usize,
}

/// What there is of it in the kernel.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Attached {
    /// What its maps hold, if it is loaded.
    pub maps: Option<DatapathState>,
    /// How its program is attached, if it is.
    pub hook: Option<Hook>,
    /// Whether anything of it is pinned, loaded by us or by a daemon before us.
    pub pinned: bool,
}

impl Attachment {
    /// Nothing is loaded yet.
    #[must_use]
    pub const fn new(pins: Pins) -> Self {
        Self { pins, datapath: None, index: None, failure: None, overflow: 0 }
    }

    /// Where it is pinned.
    #[must_use]
    pub const fn pins(&self) -> &Pins {
        &self.pins
    }

    /// The interface has this index now, or is gone. What could not be loaded on one that went, perhaps just then, may do
    /// on the one in its place.
    pub fn follow(&mut self, index: Option<u32>) {
        if self.index != index {
            self.index = index;
            self.failure = None;
        }
    }

    /// Reads it, on the interface of that index.
    ///
    /// # Errors
    /// The kernel does not say.
    pub fn observe(&self, index: Option<u32>) -> Result<Attached, DatapathError> {
        let mut attached = Attached { pinned: self.pins.exist(), ..Attached::default() };
        if let Some(datapath) = &self.datapath {
            attached.maps = Some(datapath.maps.read()?);
            // Attached to a device of the same name that was made anew is not attached.
            let same = index == Some(datapath.interface().index);
            attached.hook = if same { datapath.attached()? } else { None };
        }
        Ok(attached)
    }

    /// Loads it. The maps are full before the program runs: prepare, fill with what `fill` makes of what they hold,
    /// commit.
    ///
    /// # Errors
    /// The kernel refuses.
    pub fn load(
        &mut self,
        interface: Interface,
        fill: impl FnOnce(&DatapathState) -> Vec<MapChange>,
    ) -> Result<(), DatapathError> {
        let hook = Hook::of_this_kernel();
        let mut prepared = Datapath::prepare(EMBEDDED, interface, self.pins.clone(), hook)?;
        let state = prepared.maps.read()?;
        self.overflow = prepared.maps.apply(&fill(&state))?;
        self.datapath = Some(prepared.commit()?);
        Ok(())
    }

    /// Changes its maps, if it is loaded.
    ///
    /// # Errors
    /// The kernel refuses.
    pub fn set(&mut self, changes: &[MapChange]) -> Result<(), DatapathError> {
        if let Some(datapath) = &mut self.datapath {
            self.overflow = datapath.maps.apply(changes)?;
        }
        Ok(())
    }

    /// Takes the program off the very device that it sits on, whatever that is called by now, and keeps the maps with
    /// their counters pinned for the next one.
    ///
    /// # Errors
    /// The kernel refuses.
    pub fn detach(&mut self) -> Result<(), DatapathError> {
        self.datapath.take().map_or(Ok(()), Datapath::detach)
    }

    /// Takes it off, pins included.
    ///
    /// # Errors
    /// The kernel refuses.
    pub fn unload(&mut self) -> Result<(), DatapathError> {
        self.datapath = None;
        datapath::remove(&self.pins)
    }

    /// Lets go of it as it is.
    pub fn let_go(&mut self) {
        self.datapath = None;
    }

    /// Its counters; `None` while it is not loaded.
    ///
    /// # Errors
    /// The maps cannot be read.
    pub fn counters(&self) -> Result<Option<Counters>, DatapathError> {
        self.datapath.as_ref().map(|datapath| datapath.maps.counters()).transpose()
    }

    /// How many entries found their map full.
    #[must_use]
    pub const fn overflow(&self) -> usize {
        self.overflow
    }

    /// Why it could not be loaded, if it could not.
    #[must_use]
    pub fn failure(&self) -> Option<&str> {
        self.failure.as_deref()
    }

    /// It could not be loaded, and is not tried again before [`Attachment::retry`].
    pub fn failed(&mut self, why: String) {
        self.failure = Some(why);
    }

    /// It is tried again at the next look.
    pub fn retry(&mut self) {
        self.failure = None;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_failure_is_of_one_interface() {
        let mut attachment = Attachment::new(Pins::new("wg0".parse().expect("a name")));
        attachment.follow(Some(7));
        attachment.failed("it went meanwhile".to_owned());
        attachment.follow(Some(7));
        assert_eq!(attachment.failure(), Some("it went meanwhile"));
        attachment.follow(None);
        assert_eq!(attachment.failure(), None);

        attachment.failed("no such interface".to_owned());
        attachment.follow(Some(8));
        assert_eq!(attachment.failure(), None);
    }
}
