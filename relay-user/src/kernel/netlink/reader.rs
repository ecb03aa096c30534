//! A connection that can only look.

use std::collections::BTreeSet;

use ipnet::IpNet;

use super::{Netlink, NetlinkError};
use crate::{
    name::InterfaceName,
    observed::{KernelRoute, Link},
};

/// As [`Netlink`], without anything that changes what it looks at: for interfaces that somebody else keeps.
#[derive(Debug)]
pub struct Reader(Netlink);

impl Reader {
    /// Opens it.
    ///
    /// # Errors
    /// As [`Netlink::connect`].
    pub fn connect() -> Result<Self, NetlinkError> {
        Netlink::connect().map(Self)
    }

    /// The interface of this name, if there is one.
    ///
    /// # Errors
    /// The kernel refuses the request.
    pub async fn link(&self, name: &InterfaceName) -> Result<Option<Link>, NetlinkError> {
        self.0.link(name).await
    }

    /// The addresses of one interface, as [`Netlink::addresses`].
    ///
    /// # Errors
    /// The kernel refuses the request.
    pub async fn addresses(&self, index: u32) -> Result<BTreeSet<IpNet>, NetlinkError> {
        self.0.addresses(index).await
    }

    /// The routes of the main and local tables.
    ///
    /// # Errors
    /// The kernel refuses the request.
    pub async fn routes(&self) -> Result<Vec<KernelRoute>, NetlinkError> {
        self.0.routes().await
    }

    /// The policy routing rules.
    ///
    /// # Errors
    /// The kernel refuses the request.
    pub async fn rules(&self) -> Result<Vec<String>, NetlinkError> {
        self.0.rules().await
    }
}
