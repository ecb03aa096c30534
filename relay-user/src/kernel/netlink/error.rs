//! What can go wrong with rtnetlink, in words: the act, the thing, the kernel's reason, and a remedy if there is one.

use std::io;

use ipnet::IpNet;
use nix::libc;

/// Why a request to rtnetlink failed.
#[derive(Debug, thiserror::Error)]
pub enum NetlinkError {
    /// No socket.
    #[error("cannot open a netlink socket: {0}")]
    Connect(#[source] io::Error),
    /// The name is in use, and creating means creating.
    #[error(
        "cannot create interface {0}: an interface of that name exists already (hint: remove it with `ip link delete \
         {0}`, or give relay another name under [interface])"
    )]
    NameTaken(String),
    /// The kernel knows no links of kind `wireguard`.
    #[error(
        "cannot create interface {0}: this kernel has no WireGuard (hint: `modprobe wireguard`, or backend = \
         \"userspace\")"
    )]
    NoKernelWireGuard(String),
    /// A route to the same destination is there and is not relay's.
    #[error(
        "cannot add the route to {0}: another one to the same destination exists (hint: see `ip route show {0}`; two \
         owners of one network cannot both have it)"
    )]
    RouteTaken(IpNet),
    /// Asked to remove a route that relay did not make.
    #[error("the route to {0} is not relay's (protocol {1}): it stays")]
    NotOurRoute(IpNet, u8),
    /// Anything else that the kernel refused.
    #[error("cannot {act}: {cause}{}", hint(cause))]
    Request {
        /// What was attempted, and on what.
        act: String,
        /// The kernel's reason.
        #[source]
        cause: io::Error,
    },
}

impl NetlinkError {
    /// From a failed request that meant to do `act`.
    pub(super) fn request(act: impl Into<String>, error: &rtnetlink::Error) -> Self {
        Self::Request { act: act.into(), cause: io_error(error) }
    }
}

/// The kernel's error number, or rtnetlink's own words where it never came to one.
fn io_error(error: &rtnetlink::Error) -> io::Error {
    match errno(error) {
        Some(code) => io::Error::from_raw_os_error(code),
        None => io::Error::other(error.to_string()),
    }
}

/// The kernel's error number (positive), if the kernel gave one.
pub(super) fn errno(error: &rtnetlink::Error) -> Option<i32> {
    match error {
        rtnetlink::Error::NetlinkError(message) => message.code.map(|code| code.get().saturating_neg()),
        _ => None,
    }
}

fn hint(cause: &io::Error) -> &'static str {
    match cause.raw_os_error() {
        Some(libc::EPERM | libc::EACCES) => " (hint: this needs root, or CAP_NET_ADMIN)",
        Some(libc::ENODEV) => " (hint: the interface is gone; something else removed it)",
        Some(libc::ENETDOWN) => " (hint: the interface is down)",
        _ => "",
    }
}
