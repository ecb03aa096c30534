//! Links, addresses, routes and rules, over rtnetlink.
//!
//! Every read asks the kernel. Every change is one request whose failure names the request; a change that is already
//! in force is no failure. Whatever lacks relay's mark (links) or relay's protocol number (routes) is read only.

mod address;
mod error;
mod link;
mod reader;
mod route;
mod rule;

pub use error::NetlinkError;
pub use reader::Reader;
pub use route::{Uplink, default_interface};

/// A connection to rtnetlink, in the network namespace of the thread that opened it. Clones share it.
#[derive(Clone, Debug)]
pub struct Netlink {
    handle: rtnetlink::Handle,
}

impl Netlink {
    /// Opens it. The socket is served by a task of the running tokio runtime, which ends with the last clone.
    ///
    /// # Errors
    /// No netlink socket to be had.
    pub fn connect() -> Result<Self, NetlinkError> {
        let (connection, handle, _) = rtnetlink::new_connection().map_err(NetlinkError::Connect)?;
        tokio::spawn(connection);
        Ok(Self { handle })
    }
}
