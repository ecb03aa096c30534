//! Network interfaces.

use futures::{StreamExt as _, TryStreamExt as _};
use nix::libc;
use rtnetlink::{
    LinkUnspec, LinkWireguard,
    packet_route::link::{InfoKind, LinkAttribute, LinkFlags, LinkInfo, LinkMessage},
};

use super::{Netlink, NetlinkError, error::errno};
use crate::{
    name::InterfaceName,
    observed::{Link, LinkKind, MARK},
};

impl Netlink {
    /// The interface of this name, if there is one.
    ///
    /// # Errors
    /// The kernel refuses the request.
    pub async fn link(&self, name: &InterfaceName) -> Result<Option<Link>, NetlinkError> {
        let mut answers = self.handle.link().get().match_name(name.as_str()).execute();
        match answers.next().await {
            None => Ok(None),
            Some(Ok(message)) => Ok(Some(parse(&message))),
            Some(Err(error)) if errno(&error) == Some(libc::ENODEV) => Ok(None),
            Some(Err(error)) => Err(NetlinkError::request(format!("look up interface {name}"), &error)),
        }
    }

    /// All interfaces of this network namespace.
    ///
    /// # Errors
    /// The kernel refuses the request.
    pub async fn links(&self) -> Result<Vec<Link>, NetlinkError> {
        let links = self.handle.link().get().execute().map_ok(|message| parse(&message));
        links.try_collect().await.map_err(|error| NetlinkError::request("list the interfaces", &error))
    }

    /// Creates a WireGuard interface and marks it as ours. The kernel takes no alias with the creation, so the mark
    /// follows at once, before the interface is up or has a key; without the mark it does not stay.
    ///
    /// # Errors
    /// [`NetlinkError::NameTaken`]; [`NetlinkError::NoKernelWireGuard`]; the kernel refuses.
    pub async fn create_wireguard(&self, name: &InterfaceName) -> Result<Link, NetlinkError> {
        let act = || format!("create interface {name}");
        let created = self.handle.link().add(LinkWireguard::new(name.as_str()).build()).execute().await;
        created.map_err(|error| match errno(&error) {
            Some(libc::EEXIST) => NetlinkError::NameTaken(name.to_string()),
            Some(libc::EOPNOTSUPP) => NetlinkError::NoKernelWireGuard(name.to_string()),
            _ => NetlinkError::request(act(), &error),
        })?;
        let gone =
            || NetlinkError::Request { act: act(), cause: std::io::Error::from_raw_os_error(libc::ENODEV) };
        let link = self.link(name).await?.ok_or_else(gone)?;
        if let Err(error) = self.set_alias(link.index, MARK).await {
            // The reason that counts is why it could not be marked; if removing fails too, that is the same reason.
            let _ = self.delete_link(link.index).await;
            return Err(error);
        }
        Ok(Link { alias: Some(MARK.to_owned()), ..link })
    }

    /// Removes an interface; one that is gone already is no failure. Whether it is ours is the caller's to know.
    ///
    /// # Errors
    /// The kernel refuses.
    pub async fn delete_link(&self, index: u32) -> Result<(), NetlinkError> {
        match self.handle.link().del(index).execute().await {
            Err(error) if errno(&error) == Some(libc::ENODEV) => Ok(()),
            Err(error) => Err(NetlinkError::request(format!("remove interface number {index}"), &error)),
            Ok(()) => Ok(()),
        }
    }

    /// Brings an interface up.
    ///
    /// # Errors
    /// The kernel refuses; with WireGuard also because the listen port is in use, which the kernel finds out only here.
    pub async fn set_up(&self, index: u32) -> Result<(), NetlinkError> {
        let message = LinkUnspec::new_with_index(index).up().build();
        self.set(message, || format!("bring up interface number {index}")).await
    }

    /// Gives an interface another name. Kernels that rename only what is down get it down first.
    ///
    /// # Errors
    /// The kernel refuses, also because the name is in use.
    pub async fn rename(&self, index: u32, name: &InterfaceName) -> Result<(), NetlinkError> {
        let act = || format!("give interface number {index} the name {name}");
        let rename = || {
            let name = LinkAttribute::IfName(name.to_string());
            LinkUnspec::new_with_index(index).append_extra_attribute(name).build()
        };
        match self.set(rename(), act).await {
            Err(NetlinkError::Request { cause, .. }) if cause.raw_os_error() == Some(libc::EBUSY) => {
                self.set(LinkUnspec::new_with_index(index).down().build(), act).await?;
                self.set(rename(), act).await
            }
            done => done,
        }
    }

    /// Sets the largest packet, in bytes.
    ///
    /// # Errors
    /// The kernel refuses.
    pub async fn set_mtu(&self, index: u32, mtu: u32) -> Result<(), NetlinkError> {
        let message = LinkUnspec::new_with_index(index).mtu(mtu).build();
        self.set(message, || format!("set the MTU of interface number {index} to {mtu}")).await
    }

    /// Sets the alias, which is how relay marks what is its own ([`MARK`]).
    ///
    /// # Errors
    /// The kernel refuses.
    pub async fn set_alias(&self, index: u32, alias: &str) -> Result<(), NetlinkError> {
        let alias = LinkAttribute::IfAlias(alias.to_owned());
        let message = LinkUnspec::new_with_index(index).append_extra_attribute(alias).build();
        self.set(message, || format!("mark interface number {index} as relay's")).await
    }

    async fn set(&self, message: LinkMessage, act: impl FnOnce() -> String) -> Result<(), NetlinkError> {
        let done = self.handle.link().set(message).execute().await;
        done.map_err(|error| NetlinkError::request(act(), &error))
    }
}

fn parse(message: &LinkMessage) -> Link {
    let mut link = Link {
        index: message.header.index,
        name: String::new(),
        kind: LinkKind::Other(String::new()),
        mtu: 0,
        up: message.header.flags.contains(LinkFlags::Up),
        alias: None,
    };
    for attribute in &message.attributes {
        match attribute {
            LinkAttribute::IfName(name) => link.name.clone_from(name),
            LinkAttribute::Mtu(mtu) => link.mtu = *mtu,
            LinkAttribute::IfAlias(alias) => link.alias = Some(alias.clone()),
            LinkAttribute::LinkInfo(infos) => link.kind = kind(infos),
            _ => {}
        }
    }
    link
}

fn kind(infos: &[LinkInfo]) -> LinkKind {
    let kind = infos.iter().find_map(|info| match info {
        LinkInfo::Kind(kind) => Some(kind),
        _ => None,
    });
    match kind {
        Some(InfoKind::Wireguard) => LinkKind::WireGuard,
        Some(InfoKind::Tun) => LinkKind::Tun,
        Some(other) => LinkKind::Other(other.to_string()),
        None => LinkKind::Other(String::new()),
    }
}
