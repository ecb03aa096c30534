//! Why userspace WireGuard could not start.

use std::{io, path::PathBuf};

use nix::libc;

use super::MAX_MTU;
use crate::name::InterfaceName;

/// Why userspace WireGuard could not start.
#[derive(Debug, thiserror::Error)]
pub enum UserspaceError {
    /// There is an interface of that name.
    #[error(
        "cannot create interface {0}: an interface of that name exists already (hint: remove it with `ip link delete \
         {0}`, or give relay another name under [interface])"
    )]
    NameTaken(String),
    /// Another process answers at the socket.
    #[error(
        "cannot create interface {name}: another WireGuard answers at {} (hint: end it, or give relay another name \
         under [interface])",
        path.display()
    )]
    SocketTaken {
        /// The interface.
        name: String,
        /// The socket.
        path: PathBuf,
    },
    /// Its packets would not fit.
    #[error(
        "cannot create interface {name} with an MTU of {mtu}: userspace WireGuard takes at most {MAX_MTU}"
    )]
    MtuTooLarge {
        /// The interface.
        name: String,
        /// The MTU asked for.
        mtu: u32,
    },
    /// It ended before it had started.
    #[error("userspace WireGuard for interface {0} crashed while starting")]
    Crashed(String),
    /// Anything else.
    #[error("cannot {act} userspace WireGuard interface {name}: {cause}{}", hint(cause))]
    Failed {
        /// What was attempted.
        act: &'static str,
        /// For which interface.
        name: String,
        /// Why it failed.
        #[source]
        cause: io::Error,
    },
}

impl UserspaceError {
    pub(super) fn failed(act: &'static str, name: &InterfaceName, cause: io::Error) -> Self {
        Self::Failed { act, name: name.to_string(), cause }
    }
}

fn hint(cause: &io::Error) -> &'static str {
    match cause.raw_os_error() {
        Some(libc::EPERM | libc::EACCES) => " (hint: this needs root, or CAP_NET_ADMIN)",
        Some(libc::ENOENT | libc::ENODEV | libc::ENXIO) => {
            " (hint: /dev/net/tun is needed; try `modprobe tun`)"
        }
        _ => "",
    }
}
