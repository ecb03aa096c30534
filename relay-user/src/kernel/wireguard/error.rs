//! What can go wrong with a WireGuard device, in words of our own: wireguard-control's contain keys.

use std::{io, path::PathBuf};

use nix::libc;

use crate::name::InterfaceName;

/// Why a WireGuard device could not be read or configured.
#[derive(Debug, thiserror::Error)]
pub enum WireGuardError {
    /// There is no such interface, and creating it is not this module's business.
    #[error("there is no interface {0} to configure")]
    Absent(String),
    /// It lacks relay's mark.
    #[error(
        "interface {0} was not made by relay, so relay leaves it alone (hint: give relay another name under \
         [interface], or remove it with `ip link delete {0}`)"
    )]
    NotOurs(String),
    /// It is ours by its mark and yet neither WireGuard nor, with the userspace backend, a TUN device.
    #[error("interface {0} is no WireGuard interface")]
    NotWireGuard(String),
    /// The userspace WireGuard is gone.
    #[error("nobody answers at {}, the socket of interface {name} (hint: its daemon has ended)", path.display())]
    NoSocket {
        /// The interface.
        name: String,
        /// Where it should answer.
        path: PathBuf,
    },
    /// The listen port cannot be bound.
    #[error(
        "interface {name} cannot listen on UDP port {port}: {cause} (hint: `ss -ulpn 'sport = :{port}'` shows who \
         does; or choose another listen_port)"
    )]
    PortTaken {
        /// The interface.
        name: String,
        /// The port.
        port: u16,
        /// Why not.
        #[source]
        cause: io::Error,
    },
    /// Anything else that the kernel or the socket refused.
    #[error("cannot {act} {name}: {cause}{}", hint(cause))]
    Failed {
        /// What was attempted.
        act: &'static str,
        /// On which interface.
        name: String,
        /// Why it failed.
        #[source]
        cause: io::Error,
    },
}

impl WireGuardError {
    /// From a failed attempt. Of wireguard-control's error only the number and the kind are kept.
    pub(super) fn failed(act: &'static str, name: &InterfaceName, error: &io::Error) -> Self {
        Self::Failed { act, name: name.to_string(), cause: plain(error) }
    }
}

/// An error without its text, which may hold a preshared key.
pub(super) fn plain(error: &io::Error) -> io::Error {
    match error.raw_os_error() {
        Some(code) => io::Error::from_raw_os_error(code.abs()),
        None => error.kind().into(),
    }
}

fn hint(cause: &io::Error) -> &'static str {
    match cause.raw_os_error() {
        Some(libc::EPERM | libc::EACCES) => " (hint: this needs root, or CAP_NET_ADMIN)",
        _ if matches!(cause.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut) => {
            " (hint: its daemon hangs)"
        }
        _ => "",
    }
}

/// Why there is no kernel WireGuard.
#[derive(Debug, thiserror::Error)]
pub enum NoKernelWireGuard {
    /// Neither built in nor loadable.
    #[error("this kernel has no WireGuard, built in or as a module that may be loaded")]
    Missing,
    /// The question itself needs privileges.
    #[error("not permitted to ask the kernel for WireGuard (hint: this needs root, or CAP_NET_ADMIN)")]
    NotPermitted,
    /// Another answer.
    #[error("cannot tell whether the kernel has WireGuard: {0}")]
    Unclear(#[source] io::Error),
}
