//! The XDP hook of an interface: one program in all, ours or somebody else's.

use std::io;

use aya::programs::{Xdp, XdpMode, links::FdLink, xdp::XdpLink};
use nix::libc::{EBUSY, EEXIST, EINVAL, ENODEV, ENOLINK, EOPNOTSUPP};
use rtnetlink::packet_route::link::{LinkXdp, XdpAttached};

use super::super::{DatapathError, Pins, error::errno, filters, hook::pinned_link, hook::unpin_link};
use crate::{
    desired::UplinkMode,
    uplink::{UplinkDevice, XdpHook},
};

/// What netlink says of an interface's hook.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Seen {
    mode: UplinkMode,
    program: u32,
}

/// Attaches the program, or puts it in the place of the one that is there.
pub(super) fn attach(
    program: &mut Xdp,
    device: &UplinkDevice,
    mode: UplinkMode,
    pins: &Pins,
) -> Result<(), DatapathError> {
    if look(device, pins)? == XdpHook::Ours(mode)
        && let Some(link) = pinned_link(pins)?
        && replace(program, link, device)?
    {
        return Ok(());
    }
    // A link on another interface, in another mode, or on a device that is gone.
    unpin_link(pins)?;
    if let Some(Seen { program, .. }) = seen(device)? {
        tracing::debug!("XDP program {program} is on {}", device.name);
        return Err(DatapathError::XdpTaken { interface: device.name.to_string() });
    }
    attach_anew(program, device, mode, pins)?;
    // Some drivers have said yes and done nothing, or something else.
    match look(device, pins)? {
        XdpHook::Ours(as_it_is) if as_it_is == mode => Ok(()),
        other => {
            unpin_link(pins)?;
            Err(DatapathError::NotInstalled {
                interface: device.name.to_string(),
                found: match other {
                    XdpHook::Free => "none".to_owned(),
                    XdpHook::Ours(_) => "it in another mode".to_owned(),
                    XdpHook::Foreign(id) => format!("program {id}"),
                },
            })
        }
    }
}

fn attach_anew(
    program: &mut Xdp,
    device: &UplinkDevice,
    mode: UplinkMode,
    pins: &Pins,
) -> Result<(), DatapathError> {
    let act = || format!("attach the guard to {}", device.name);
    let interface = || device.name.to_string();
    let flags = match mode {
        UplinkMode::Generic => XdpMode::Skb,
        UplinkMode::Native | UplinkMode::Off => XdpMode::Driver,
    };
    let attached = program
        .attach_to_if_index(device.index, flags)
        .and_then(|id| program.take_link(id))
        .map_err(|error| match code(&error) {
            Some(EBUSY | EEXIST) => DatapathError::XdpTaken { interface: interface() },
            Some(EOPNOTSUPP | EINVAL) if mode == UplinkMode::Native => {
                let detail = errno(&error).map(ToString::to_string).unwrap_or_default();
                DatapathError::NoNativeXdp { interface: interface(), detail }
            }
            _ => DatapathError::program(act(), error),
        })?;
    let link = FdLink::try_from(attached).map_err(|error| DatapathError::link(act(), &error))?;
    let path = pins.link();
    link.pin(&path)
        .map(drop)
        .map_err(|error| DatapathError::caused(format!("pin the link to {}", path.display()), &error))
}

/// Puts the program in the place of the one behind the link; false where the device went away meanwhile.
fn replace(program: &mut Xdp, link: FdLink, device: &UplinkDevice) -> Result<bool, DatapathError> {
    let act = || format!("replace the guard on {}", device.name);
    let link = XdpLink::try_from(link).map_err(|error| DatapathError::link(act(), &error))?;
    match program.attach_to_link(link) {
        // The pin holds the link; this process's handle may go.
        Ok(id) => {
            program.take_link(id).map(drop).map_err(|error| DatapathError::program(act(), error))?;
            Ok(true)
        }
        Err(error) if matches!(code(&error), Some(ENOLINK | ENODEV)) => Ok(false),
        Err(error) => Err(DatapathError::program(act(), error)),
    }
}

fn code(error: &(dyn std::error::Error + 'static)) -> Option<i32> {
    errno(error).and_then(io::Error::raw_os_error)
}

/// Takes the program off, wherever it is.
pub(super) fn detach(pins: &Pins) -> Result<(), DatapathError> {
    unpin_link(pins)
}

/// Which program the interface has. Ours is the one behind the pinned link.
pub(super) fn look(device: &UplinkDevice, pins: &Pins) -> Result<XdpHook, DatapathError> {
    let Some(Seen { mode, program }) = seen(device)? else { return Ok(XdpHook::Free) };
    let ours = pinned_link(pins)?.and_then(|link| link.info().ok()).map(|info| info.program_id());
    Ok(if ours == Some(program) { XdpHook::Ours(mode) } else { XdpHook::Foreign(program) })
}

fn seen(device: &UplinkDevice) -> Result<Option<Seen>, DatapathError> {
    let attributes = filters::xdp(device.index)
        .map_err(|error| DatapathError::io(format!("ask for the XDP program of {}", device.name), &error))?;
    Ok(of_attributes(&attributes))
}

/// What the attributes of `IFLA_XDP` say. A program in hardware counts as native, and of several that in the driver is
/// named: such an interface is taken anyway.
fn of_attributes(attributes: &[LinkXdp]) -> Option<Seen> {
    let id = attributes.iter().find_map(|attribute| match attribute {
        LinkXdp::ProgId(id) | LinkXdp::DrvProgId(id) => Some(*id),
        _ => None,
    });
    let other = || {
        attributes.iter().find_map(|attribute| match attribute {
            LinkXdp::SkbProgId(id) | LinkXdp::HwProgId(id) => Some(*id),
            _ => None,
        })
    };
    let mode = attributes.iter().find_map(|attribute| match attribute {
        LinkXdp::Attached(XdpAttached::None) => None,
        LinkXdp::Attached(XdpAttached::SocketBuffer) => Some(UplinkMode::Generic),
        LinkXdp::Attached(_) => Some(UplinkMode::Native),
        _ => None,
    })?;
    Some(Seen { mode, program: id.or_else(other).unwrap_or_default() })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_netlink_says() {
        let row = |attributes: &[LinkXdp]| of_attributes(attributes).map(|seen| (seen.mode, seen.program));
        let attached = LinkXdp::Attached;
        assert_eq!(row(&[]), None);
        assert_eq!(row(&[attached(XdpAttached::None)]), None);
        let native = [attached(XdpAttached::Driver), LinkXdp::ProgId(7), LinkXdp::DrvProgId(7)];
        assert_eq!(row(&native), Some((UplinkMode::Native, 7)));
        let generic = [attached(XdpAttached::SocketBuffer), LinkXdp::ProgId(8), LinkXdp::SkbProgId(8)];
        assert_eq!(row(&generic), Some((UplinkMode::Generic, 8)));
        let both = [attached(XdpAttached::Multiple), LinkXdp::SkbProgId(8), LinkXdp::DrvProgId(7)];
        assert_eq!(row(&both), Some((UplinkMode::Native, 7)));
        assert_eq!(
            row(&[attached(XdpAttached::Hardware), LinkXdp::HwProgId(9)]),
            Some((UplinkMode::Native, 9))
        );
    }
}
