//! What can go wrong between a decision and the kernel.

use crate::{
    kernel::{
        datapath::DatapathError,
        firewall::FirewallError,
        netlink::NetlinkError,
        sysctl::SysctlError,
        userspace::UserspaceError,
        wireguard::{NoKernelWireGuard, WireGuardError},
    },
    plan::Change,
};

/// Why there is no hub to keep.
#[derive(Debug, thiserror::Error)]
pub enum HostError {
    /// An interface of that name is there and is not relay's.
    #[error(
        "the interface {0} exists and is not relay's: it is left alone. Take it down first (`wg-quick down {0}`?), \
         choose another `name` under [interface], or accelerate it as it is: `relay adopt {0}`"
    )]
    Foreign(String),
    /// `backend = "kernel"`, and the kernel has none.
    #[error(
        "backend = \"kernel\" in the configuration; `backend = \"auto\"` would carry the tunnel in userspace"
    )]
    NoKernelWireGuard(#[from] NoKernelWireGuard),
    /// rtnetlink refuses.
    #[error(transparent)]
    Netlink(#[from] NetlinkError),
    /// WireGuard refuses.
    #[error(transparent)]
    WireGuard(#[from] WireGuardError),
    /// The firewall cannot be read.
    #[error(transparent)]
    Firewall(#[from] FirewallError),
    /// The fast path cannot be read.
    #[error(transparent)]
    Datapath(#[from] DatapathError),
    /// A step without which a hub is no hub failed.
    #[error(transparent)]
    Change(Box<ApplyError>),
}

impl From<ApplyError> for HostError {
    fn from(error: ApplyError) -> Self {
        Self::Change(Box::new(error))
    }
}

/// A change that could not be made.
#[derive(Debug, thiserror::Error)]
#[error("cannot {change} ({interface})")]
pub struct ApplyError {
    /// On which interface.
    pub interface: String,
    /// What.
    pub change: Change,
    /// Why.
    #[source]
    pub cause: Cause,
}

/// Why a change could not be made.
#[derive(Debug, thiserror::Error)]
pub enum Cause {
    /// The interface went away in between.
    #[error("the interface {0} is gone")]
    Gone(String),
    /// The host could not be read.
    #[error(transparent)]
    Observe(Box<HostError>),
    /// rtnetlink refuses.
    #[error(transparent)]
    Netlink(#[from] NetlinkError),
    /// WireGuard refuses.
    #[error(transparent)]
    WireGuard(#[from] WireGuardError),
    /// The embedded WireGuard cannot start.
    #[error(transparent)]
    Userspace(#[from] UserspaceError),
    /// A sysctl cannot be set.
    #[error(transparent)]
    Sysctl(#[from] SysctlError),
    /// The firewall refuses.
    #[error(transparent)]
    Firewall(#[from] FirewallError),
    /// The fast path cannot be loaded or changed.
    #[error(transparent)]
    Datapath(#[from] DatapathError),
}
