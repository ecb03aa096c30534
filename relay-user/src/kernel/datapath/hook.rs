//! The tunnel's ingress hook: exactly one program of ours on it, replaced in place.
//!
//! Kernels since 6.6 have TCX, whose link is pinned and updated atomically. Before, a filter of the clsact qdisc does
//! the same work; it outlives its process by itself and is found again by its name.

use std::{io, os::fd::AsFd as _};

use aya::{
    programs::{
        LinkOrder, SchedClassifier, TcAttachType,
        links::{FdLink, PinnedLink},
        tc::{self, SchedClassifierLink, TcAttachOptions},
    },
    util::KernelVersion,
};
use nix::libc::{EEXIST, EINVAL, ENODEV, ENOENT, ENOLINK};
use relay_common::program;

use super::{
    DatapathError, Interface, Pins,
    error::errno,
    filters::{self, Filter},
    pins::remove_all,
    tcx,
};

/// How the program is attached.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Hook {
    /// A TCX link, kernel 6.6 and later.
    Tcx,
    /// A filter of the clsact qdisc.
    Clsact,
}

impl Hook {
    /// The best that the running kernel has.
    #[must_use]
    pub fn of_this_kernel() -> Self {
        let tcx = KernelVersion::current().is_ok_and(|version| version >= KernelVersion::new(6, 6, 0));
        if tcx { Self::Tcx } else { Self::Clsact }
    }
}

impl std::fmt::Display for Hook {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Tcx => "tcx",
            Self::Clsact => "clsact",
        })
    }
}

/// Attaches the program, or puts it in the place of the one that is there.
pub(super) fn attach(
    hook: Hook,
    program: &mut SchedClassifier,
    interface: &Interface,
    pins: &Pins,
) -> Result<(), DatapathError> {
    match hook {
        Hook::Tcx => {
            attach_tcx(program, interface, pins)?;
            // One hook only: a filter of ours would stand behind the link and see what the link passed.
            delete(interface.index, &our_filters(interface.index)?)
        }
        Hook::Clsact => {
            attach_clsact(program, interface)?;
            unpin_link(pins)
        }
    }
}

fn attach_tcx(
    program: &mut SchedClassifier,
    interface: &Interface,
    pins: &Pins,
) -> Result<(), DatapathError> {
    if let Some(link) = link_on(interface, pins)? {
        match replace(program, link, interface) {
            Ok(()) => return Ok(()),
            // The device went away between the question and the update.
            Err(DatapathError::NoInterface { .. }) => {}
            Err(error) => return Err(error),
        }
    }
    unpin_link(pins)?;
    let act = || format!("attach the program to {}", interface.name);
    let options = TcAttachOptions::TcxOrder(LinkOrder::default());
    let attached = program
        .attach_with_options(interface.name.as_str(), TcAttachType::Ingress, options)
        .and_then(|id| program.take_link(id))
        .map_err(|error| DatapathError::program(act(), error))?;
    let link = FdLink::try_from(attached).map_err(|error| DatapathError::link(act(), &error))?;
    let path = pins.link();
    link.pin(&path)
        .map(drop)
        .map_err(|error| DatapathError::caused(format!("pin the link to {}", path.display()), &error))
}

fn replace(program: &mut SchedClassifier, link: FdLink, interface: &Interface) -> Result<(), DatapathError> {
    let act = || format!("replace the program on {}", interface.name);
    let link = SchedClassifierLink::try_from(link).map_err(|error| DatapathError::link(act(), &error))?;
    let replaced = program.attach_to_link(link).map_err(|error| {
        let gone = errno(&error).and_then(io::Error::raw_os_error) == Some(ENOLINK);
        if gone { interface.absent() } else { DatapathError::program(act(), error) }
    })?;
    // The pin holds the link; this process's handle may go.
    program.take_link(replaced).map(drop).map_err(|error| DatapathError::program(act(), error))
}

/// The pinned link, if it is one and sits on this very interface: a device that was made anew or renamed leaves a link
/// behind that leads nowhere, or elsewhere.
fn link_on(interface: &Interface, pins: &Pins) -> Result<Option<FdLink>, DatapathError> {
    let Some(link) = pinned_link(pins)? else { return Ok(None) };
    let Ok(info) = link.info() else { return Ok(None) };
    let attached = tcx_ingress(interface.index)?;
    Ok(attached.iter().any(|attached| attached.link == info.id()).then_some(link))
}

pub(super) fn pinned_link(pins: &Pins) -> Result<Option<FdLink>, DatapathError> {
    let path = pins.link();
    match PinnedLink::from_pin(&path) {
        Ok(link) => Ok(Some(FdLink::from(link))),
        Err(error) => match errno(&error).map(io::Error::kind) {
            Some(io::ErrorKind::NotFound) => Ok(None),
            _ => Err(DatapathError::link(format!("open the link {}", path.display()), &error)),
        },
    }
}

/// The ingress hook's TCX programs; none on a kernel that has no TCX.
fn tcx_ingress(ifindex: u32) -> Result<Vec<tcx::Attached>, DatapathError> {
    match tcx::ingress(ifindex) {
        // A kernel before 6.6 does not know the attach type; a device may go away at any time.
        Err(error) if matches!(error.raw_os_error(), Some(EINVAL | ENODEV | ENOENT)) => Ok(Vec::new()),
        other => other
            .map_err(|error| DatapathError::io(format!("list TCX programs of interface {ifindex}"), &error)),
    }
}

pub(super) fn unpin_link(pins: &Pins) -> Result<(), DatapathError> {
    // With a handle open the last reference goes when it is closed, so the program is off the hook on return; without,
    // the kernel would take it off some time later.
    let link = pinned_link(pins);
    remove_all(&pins.link())?;
    drop(link);
    Ok(())
}

/// Adds the qdisc that a filter needs; whether it was not there.
pub(super) fn add_qdisc(interface: &Interface) -> Result<bool, DatapathError> {
    match tc::qdisc_add_clsact(interface.name.as_str()) {
        Ok(()) => Ok(true),
        Err(error) if errno(&error).and_then(io::Error::raw_os_error) == Some(EEXIST) => Ok(false),
        Err(error) => {
            Err(DatapathError::caused(format!("add the clsact qdisc to {}", interface.name), &error))
        }
    }
}

/// Removes that qdisc if nobody has a filter on it; whether it is gone.
pub(super) fn remove_qdisc(ifindex: u32) -> Result<bool, DatapathError> {
    let failed = |error| DatapathError::io(format!("remove the clsact qdisc of interface {ifindex}"), &error);
    let egress = filters::list_egress(ifindex).or_else(absent).map_err(failed)?;
    if !egress.is_empty() || !ingress_filters(ifindex)?.is_empty() {
        return Ok(false);
    }
    filters::delete_qdisc(ifindex).or_else(absent).map_err(failed)?;
    Ok(true)
}

fn attach_clsact(program: &SchedClassifier, interface: &Interface) -> Result<(), DatapathError> {
    let act = || format!("attach the program to {}", interface.name);
    add_qdisc(interface)?;
    let ours = our_filters(interface.index)?;
    let fd = program.fd().map_err(|error| DatapathError::program(act(), error))?;
    filters::attach(interface.index, program::TUNNEL, fd.as_fd(), ours.first())
        .map_err(|error| DatapathError::io(act(), &error))?;
    // More than one is nothing that relay leaves, but somebody may have added one by hand.
    delete(interface.index, ours.iter().skip(1))
}

fn our_filters(ifindex: u32) -> Result<Vec<Filter>, DatapathError> {
    let ours = |filter: &Filter| filter.name.as_deref() == Some(program::TUNNEL);
    Ok(ingress_filters(ifindex)?.into_iter().filter(ours).collect())
}

fn ingress_filters(ifindex: u32) -> Result<Vec<Filter>, DatapathError> {
    filters::list(ifindex)
        .or_else(absent)
        .map_err(|error| DatapathError::io(format!("list TC filters of interface {ifindex}"), &error))
}

/// A device without a qdisc for filters, or no device at all, has none.
fn absent<T: Default>(error: io::Error) -> io::Result<T> {
    if matches!(error.raw_os_error(), Some(EINVAL | ENODEV | ENOENT)) { Ok(T::default()) } else { Err(error) }
}

fn delete<'a>(ifindex: u32, filters: impl IntoIterator<Item = &'a Filter>) -> Result<(), DatapathError> {
    for filter in filters {
        filters::delete(ifindex, filter).or_else(absent).map_err(|error| {
            DatapathError::io(format!("remove relay's filter from interface {ifindex}"), &error)
        })?;
    }
    Ok(())
}

/// Takes the program off, however it is attached. `ifindex` is `None` when the device is gone.
///
/// The qdisc stays and goes with the device: whenever one is added or removed, the kernel stops the device's queues for
/// a moment and drops what is sent meanwhile (`qdisc_graft`, net/sched/sch_api.c: `dev_deactivate`).
pub(super) fn detach(pins: &Pins, ifindex: Option<u32>) -> Result<(), DatapathError> {
    unpin_link(pins)?;
    let Some(ifindex) = ifindex else { return Ok(()) };
    delete(ifindex, &our_filters(ifindex)?)
}

/// How our program is attached to the interface, if it is.
pub(super) fn attached(interface: &Interface, pins: &Pins) -> Result<Option<Hook>, DatapathError> {
    if link_on(interface, pins)?.is_some() {
        return Ok(Some(Hook::Tcx));
    }
    Ok((!our_filters(interface.index)?.is_empty()).then_some(Hook::Clsact))
}

/// The id of our program on the interface, if it is attached.
pub(super) fn program(interface: &Interface, pins: &Pins) -> Result<Option<u32>, DatapathError> {
    if let Some(link) = link_on(interface, pins)? {
        let act = || format!("ask for the program on {}", interface.name);
        let info = link.info().map_err(|error| DatapathError::link(act(), &error))?;
        return Ok(Some(info.program_id()));
    }
    Ok(our_filters(interface.index)?.iter().find_map(|filter| filter.program))
}

/// Every program on the ingress hook that is not ours, described for people. Egress is left out: what is redirected
/// passes the interface's egress hook as forwarded packets do.
pub(super) fn foreign(ifindex: u32, pins: &Pins) -> Result<Vec<String>, DatapathError> {
    let ours = pinned_link(pins)?.and_then(|link| link.info().ok()).map(|info| info.id());
    let links = tcx_ingress(ifindex)?
        .into_iter()
        .filter(|attached| Some(attached.link) != ours)
        .map(|attached| format!("TCX program {}", attached.program));
    let filters = ingress_filters(ifindex)?
        .into_iter()
        .filter(|filter| filter.name.as_deref() != Some(program::TUNNEL))
        .map(|filter| {
            let name = filter.name.as_deref().map(|name| format!(" {name}")).unwrap_or_default();
            let id = filter.program.map(|id| format!(" (program {id})")).unwrap_or_default();
            format!("TC ingress filter {}{name}, priority {}{id}", filter.kind, filter.priority())
        });
    Ok(links.chain(filters).collect())
}
