//! Why an interface cannot be adopted, or is not to be followed for the time being.

use std::{io, path::PathBuf};

use crate::kernel::{datapath::DatapathError, netlink::NetlinkError, wireguard::WireGuardError};

/// What stands in the way.
#[derive(Debug, thiserror::Error)]
pub enum AdoptError {
    /// There is none of that name.
    #[error("there is no interface {0}")]
    Absent(String),
    /// It carries relay's mark.
    #[error("the interface {0} is relay's own, kept by `relay up`")]
    Ours(String),
    /// It is of another kind.
    #[error("the interface {0} is no WireGuard interface")]
    NotWireGuard(String),
    /// It is a TUN device without a WireGuard that could be asked.
    #[error(
        "the interface {0} is a TUN device, and no WireGuard of its network namespace answers at \
         /var/run/wireguard/{0}.sock"
    )]
    Silent(String),
    /// What remembers that a qdisc is relay's cannot be kept.
    #[error("cannot read, write or remove {}, which remembers that the clsact qdisc is relay's", path.display())]
    Note {
        /// Where it stands.
        path: PathBuf,
        /// Why.
        #[source]
        cause: io::Error,
    },
    /// rtnetlink refuses.
    #[error(transparent)]
    Netlink(#[from] NetlinkError),
    /// WireGuard refuses.
    #[error(transparent)]
    WireGuard(#[from] WireGuardError),
    /// The fast path cannot be read or taken off.
    #[error(transparent)]
    Datapath(#[from] DatapathError),
}

impl AdoptError {
    /// Whether there is nothing to follow any more, as opposed to something that could not be read this time.
    #[must_use]
    pub const fn is_over(&self) -> bool {
        matches!(self, Self::Absent(_) | Self::Ours(_) | Self::NotWireGuard(_))
    }

    /// What may help.
    #[must_use]
    pub fn hint(&self) -> Option<String> {
        match self {
            Self::Absent(name) => Some(format!(
                "relay adopts what is there: `wg-quick up {name}` first; a container's is found with `--netns PID`"
            )),
            Self::Ours(_) => {
                Some("it has the fast path already: `relay status`; `relay down` takes it down".to_owned())
            }
            Self::NotWireGuard(_) => Some("`wg show interfaces` lists those that are".to_owned()),
            Self::Silent(_) => Some(
                "a userspace WireGuard is adopted only where its socket is, which a container keeps to itself; the \
                 kernel's WireGuard can be adopted anywhere"
                    .to_owned(),
            ),
            _ => None,
        }
    }
}
