//! The guard in the kernel: the program `uplink` on the interface that leads to the internet, and its maps.
//!
//! It is pinned like the fast path and starts in the same three steps: prepare, fill the maps, commit. The link of an XDP
//! program (kernel 5.9) is attached in one of the driver's two modes and changes neither mode nor interface; the program
//! behind it is replaced without a frame in between.

mod hook;
mod maps;

use aya::{
    Ebpf,
    programs::{Program, Xdp},
};
use relay_common::program;

pub(super) use self::maps::SHAPES;
pub use self::maps::UplinkMaps;
use super::{DatapathError, Pins, index_of, maps::SHAPES as TUNNELS, object};
use crate::{
    desired::UplinkMode,
    uplink::{UplinkDevice, XdpHook},
};

/// The guard, attached.
pub struct UplinkGuard {
    /// The maps that the attached program uses.
    pub maps: UplinkMaps,
}

/// The guard, loaded and attached to nothing.
pub struct PreparedUplink {
    device: UplinkDevice,
    mode: UplinkMode,
    pins: Pins,
    ebpf: Ebpf,
    /// The maps that the program will use; to be filled before [`PreparedUplink::commit`].
    pub maps: UplinkMaps,
}

/// Opens or makes the pinned maps and loads the program.
///
/// # Errors
/// See [`DatapathError`]; what was attached before stays attached.
pub fn prepare(
    object: &[u8],
    device: UplinkDevice,
    mode: UplinkMode,
    pins: Pins,
) -> Result<PreparedUplink, DatapathError> {
    object::check(object)?;
    pins.create()?;
    let act = format!("load the guard for {}", device.name);
    let mut ebpf = object::load(object, &act, &pins, SHAPES, TUNNELS)?;
    xdp(&mut ebpf)?.load().map_err(|error| DatapathError::program(&*act, error))?;
    let maps = UplinkMaps::from_source(|name| object::take_map(&mut ebpf, name))?;
    Ok(PreparedUplink { device, mode, pins, ebpf, maps })
}

impl PreparedUplink {
    /// Attaches the program, or replaces the running one without missing a frame, and looks whether the kernel really has
    /// it there; then removes the maps of other layouts.
    ///
    /// # Errors
    /// See [`DatapathError`]; where it cannot be attached as it shall be, it is not attached.
    pub fn commit(mut self) -> Result<UplinkGuard, DatapathError> {
        if index_of(&self.device.name) != Some(self.device.index) {
            let (name, index) = (self.device.name.to_string(), self.device.index);
            return Err(DatapathError::NoInterface { name, index });
        }
        hook::attach(xdp(&mut self.ebpf)?, &self.device, self.mode, &self.pins)?;
        self.pins.remove_other_layouts()?;
        Ok(UplinkGuard { maps: self.maps })
    }
}

fn xdp(ebpf: &mut Ebpf) -> Result<&mut Xdp, DatapathError> {
    match ebpf.program_mut(program::UPLINK) {
        Some(Program::Xdp(program)) => Ok(program),
        _ => Err(DatapathError::BadObject(format!("it has no XDP program `{}`", program::UPLINK))),
    }
}

/// Which XDP program an interface has.
///
/// # Errors
/// The kernel refuses the question.
pub fn hook(device: &UplinkDevice, pins: &Pins) -> Result<XdpHook, DatapathError> {
    hook::look(device, pins)
}

/// Takes the program off, wherever it is, and removes every pin. Does nothing where there is nothing.
///
/// # Errors
/// The kernel refuses; calling it again goes on where it stopped.
pub fn remove(pins: &Pins) -> Result<(), DatapathError> {
    hook::detach(pins)?;
    pins.remove()
}
