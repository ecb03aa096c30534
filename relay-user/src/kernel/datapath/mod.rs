//! The fast path in the kernel: the program `tunnel` on the tunnel's ingress hook, and its maps.
//!
//! Everything is pinned, so traffic keeps flowing and counting while no daemon runs. A start goes in three steps, and
//! at none of them does a program run with empty maps where one was running with full ones:
//!
//! 1. [`Datapath::prepare`] opens the pinned maps or makes new ones, and loads the program, attached to nothing;
//! 2. the caller fills the maps ([`PinnedMaps::read`], [`PinnedMaps::apply`]);
//! 3. [`Prepared::commit`] attaches the program or puts it, atomically, in the place of the running one, then removes
//!    maps of other layouts.
//!
//! Loading needs CAP_NET_ADMIN and CAP_BPF. A failure leaves the kernel's own forwarding as it is.

mod error;
mod filters;
mod hashed;
mod hook;
mod hosts;
mod mapped;
mod maps;
mod object;
mod pins;
mod shape;
mod switches;
mod tcx;
mod tracer;
pub mod uplink;

use aya::{
    Ebpf,
    programs::{Program, SchedClassifier},
};
use relay_common::program;

pub use self::{
    error::DatapathError,
    hook::Hook,
    maps::PinnedMaps,
    object::EMBEDDED,
    pins::{PIN_ROOT, Pins, has_bpffs},
    tracer::{Events, LEASE, Tracer, decode, since_boot},
};
use crate::name::InterfaceName;

/// A tunnel interface of this network namespace, by both of its identities: the name stays, the index tells whether it
/// is still the same device.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Interface {
    /// Its name.
    pub name: InterfaceName,
    /// Its index.
    pub index: u32,
}

impl Interface {
    fn check(&self) -> Result<(), DatapathError> {
        if index_of(&self.name) == Some(self.index) { Ok(()) } else { Err(self.absent()) }
    }

    fn absent(&self) -> DatapathError {
        DatapathError::NoInterface { name: self.name.to_string(), index: self.index }
    }
}

fn index_of(name: &InterfaceName) -> Option<u32> {
    nix::net::if_::if_nametoindex(name.as_str()).ok()
}

/// The fast path of one interface, attached.
pub struct Datapath {
    interface: Interface,
    pins: Pins,
    /// The maps that the attached program uses.
    pub maps: PinnedMaps,
}

/// The fast path of one interface, loaded and attached to nothing.
pub struct Prepared {
    interface: Interface,
    pins: Pins,
    hook: Hook,
    ebpf: Ebpf,
    /// The maps that the program will use; to be filled before [`Prepared::commit`].
    pub maps: PinnedMaps,
}

impl Datapath {
    /// Opens or makes the pinned maps and loads the program.
    ///
    /// # Errors
    /// See [`DatapathError`]; what was attached before stays attached.
    pub fn prepare(
        object: &[u8],
        interface: Interface,
        pins: Pins,
        hook: Hook,
    ) -> Result<Prepared, DatapathError> {
        object::check(object)?;
        interface.check()?;
        pins.create()?;
        let act = format!("load the fast path for {}", interface.name);
        let mut ebpf = object::load(object, &act, &pins, maps::SHAPES, uplink::SHAPES)?;
        tunnel(&mut ebpf)?.load().map_err(|error| DatapathError::program(&*act, error))?;
        let maps = PinnedMaps::from_source(|name| object::take_map(&mut ebpf, name))?;
        Ok(Prepared { interface, pins, hook, ebpf, maps })
    }

    /// The interface it was attached to.
    #[must_use]
    pub const fn interface(&self) -> &Interface {
        &self.interface
    }

    /// Takes the program off the device that it was attached to, whatever its name is by now; the maps stay pinned.
    /// Does nothing where the device is gone.
    ///
    /// # Errors
    /// The kernel refuses; calling [`remove`] goes on where it stopped.
    pub fn detach(self) -> Result<(), DatapathError> {
        hook::detach(&self.pins, Some(self.interface.index))
    }

    /// Whether the program still sits on the interface, and how; `None` after somebody took it off or the device was
    /// made anew.
    ///
    /// # Errors
    /// The kernel refuses the question.
    pub fn attached(&self) -> Result<Option<Hook>, DatapathError> {
        attached(&self.interface, &self.pins)
    }
}

impl Prepared {
    /// Attaches the program, or replaces the running one without missing a packet; then removes the maps of other
    /// layouts.
    ///
    /// # Errors
    /// See [`DatapathError`]; what was attached before stays attached.
    pub fn commit(mut self) -> Result<Datapath, DatapathError> {
        self.interface.check()?;
        hook::attach(self.hook, tunnel(&mut self.ebpf)?, &self.interface, &self.pins)?;
        self.pins.remove_other_layouts()?;
        Ok(Datapath { interface: self.interface, pins: self.pins, maps: self.maps })
    }
}

fn tunnel(ebpf: &mut Ebpf) -> Result<&mut SchedClassifier, DatapathError> {
    match ebpf.program_mut(program::TUNNEL) {
        Some(Program::SchedClassifier(program)) => Ok(program),
        _ => Err(DatapathError::BadObject(format!("it has no TC program `{}`", program::TUNNEL))),
    }
}

/// How relay's program is attached to the interface, if it is; works without having loaded anything.
///
/// # Errors
/// The kernel refuses the question (CAP_NET_ADMIN, CAP_BPF).
pub fn attached(interface: &Interface, pins: &Pins) -> Result<Option<Hook>, DatapathError> {
    hook::attached(interface, pins)
}

/// Whatever else sits on the interface's ingress hook, described for people.
///
/// # Errors
/// The kernel refuses the question (CAP_NET_ADMIN, CAP_BPF).
pub fn foreign_programs(ifindex: u32, pins: &Pins) -> Result<Vec<String>, DatapathError> {
    hook::foreign(ifindex, pins)
}

/// Adds what a program needs to be attached by that hook, and says whether that was not there: whoever must leave an
/// interface as it was remembers it, and calls [`remove_qdisc`] at the end. TCX needs nothing.
///
/// # Errors
/// The kernel refuses.
pub fn add_qdisc(interface: &Interface, hook: Hook) -> Result<bool, DatapathError> {
    match hook {
        Hook::Tcx => Ok(false),
        Hook::Clsact => hook::add_qdisc(interface),
    }
}

/// Removes what [`add_qdisc`] added, unless somebody has put a filter on it since; whether it is gone. The kernel stops
/// the device's queues for a moment and drops what is sent meanwhile.
///
/// # Errors
/// The kernel refuses.
pub fn remove_qdisc(ifindex: u32) -> Result<bool, DatapathError> {
    hook::remove_qdisc(ifindex)
}

/// Takes the program off and removes every pin of the interface. Does nothing where there is nothing, and works after
/// the device is gone.
///
/// # Errors
/// The kernel refuses; calling it again goes on where it stopped.
pub fn remove(pins: &Pins) -> Result<(), DatapathError> {
    hook::detach(pins, index_of(pins.interface()))?;
    pins.remove()
}
