//! Addresses of interfaces.

use std::{collections::BTreeSet, net::IpAddr};

use futures::TryStreamExt as _;
use ipnet::IpNet;
use nix::libc;
use rtnetlink::packet_route::{
    AddressFamily,
    address::{AddressAttribute, AddressFlags, AddressHeaderFlags, AddressMessage, AddressScope},
};

use super::{Netlink, NetlinkError, error::errno};

impl Netlink {
    /// The addresses of one interface with their prefixes, those of the link itself (fe80::/10, 169.254/16) left out.
    ///
    /// # Errors
    /// The kernel refuses the request.
    pub async fn addresses(&self, index: u32) -> Result<BTreeSet<IpNet>, NetlinkError> {
        let all = self.all_addresses().await?;
        Ok(all.into_iter().filter(|address| address.index == index).map(|address| address.local).collect())
    }

    /// Adds an address; the route to its prefix comes with it. IPv6 without duplicate address detection, which has
    /// nobody to ask on a tunnel and would only delay. One that is there already is no failure.
    ///
    /// # Errors
    /// The kernel refuses.
    pub async fn add_address(&self, index: u32, address: IpNet) -> Result<(), NetlinkError> {
        let mut request = self.handle.address().add(index, address.addr(), address.prefix_len());
        if address.addr().is_ipv6() {
            let message = request.message_mut();
            message.header.flags |= AddressHeaderFlags::Nodad;
            message.attributes.push(AddressAttribute::Flags(AddressFlags::Nodad));
        }
        match request.execute().await {
            Err(error) if errno(&error) == Some(libc::EEXIST) => Ok(()),
            Err(error) => {
                Err(NetlinkError::request(format!("add {address} to interface number {index}"), &error))
            }
            Ok(()) => Ok(()),
        }
    }

    /// Removes an address; one that is gone already is no failure. The kernel may take others of the same IPv4 subnet
    /// with it (`promote_secondaries`), so what is left must be read again.
    ///
    /// # Errors
    /// The kernel refuses.
    pub async fn remove_address(&self, index: u32, address: IpNet) -> Result<(), NetlinkError> {
        let mut message = AddressMessage::default();
        message.header.family = family(address.addr());
        message.header.prefix_len = address.prefix_len();
        message.header.index = index;
        message.attributes.push(AddressAttribute::Local(address.addr()));
        match self.handle.address().del(message).execute().await {
            Err(error) if errno(&error) == Some(libc::EADDRNOTAVAIL) => Ok(()),
            Err(error) => {
                Err(NetlinkError::request(format!("remove {address} from interface number {index}"), &error))
            }
            Ok(()) => Ok(()),
        }
    }

    /// The networks that this host stands in: (interface, prefix) of every other interface that is up, the loopback
    /// left out.
    ///
    /// # Errors
    /// The kernel refuses the request.
    pub async fn host_networks(&self, except: u32) -> Result<Vec<(String, IpNet)>, NetlinkError> {
        let links = self.links().await?;
        let mut networks = Vec::new();
        for address in self.all_addresses().await? {
            let link = links.iter().find(|link| link.index == address.index);
            let Some(link) = link.filter(|link| link.up && link.index != except) else { continue };
            if !address.local.addr().is_loopback() {
                networks.push((link.name.clone(), address.network));
            }
        }
        networks.sort();
        networks.dedup();
        Ok(networks)
    }

    async fn all_addresses(&self) -> Result<Vec<Address>, NetlinkError> {
        let messages = self.handle.address().get().execute();
        let messages: Vec<AddressMessage> = messages
            .try_collect()
            .await
            .map_err(|error| NetlinkError::request("list the addresses", &error))?;
        Ok(messages.iter().filter_map(parse).collect())
    }
}

/// An address that is valid beyond its link.
struct Address {
    index: u32,
    /// The address with its prefix.
    local: IpNet,
    /// What is reached through it: the same prefix, or a point-to-point interface's other end.
    network: IpNet,
}

fn parse(message: &AddressMessage) -> Option<Address> {
    let mut local = None;
    let mut network = None;
    for attribute in &message.attributes {
        match attribute {
            AddressAttribute::Local(address) => local = Some(*address),
            AddressAttribute::Address(address) => network = Some(*address),
            _ => {}
        }
    }
    let address = local.or(network)?;
    let of_the_link = match address {
        IpAddr::V4(v4) => v4.is_link_local(),
        IpAddr::V6(v6) => v6.is_unicast_link_local(),
    };
    if of_the_link || message.header.scope == AddressScope::Link {
        return None;
    }
    let prefix = |address| IpNet::new(address, message.header.prefix_len).ok();
    Some(Address {
        index: message.header.index,
        local: prefix(address)?,
        network: prefix(network.unwrap_or(address))?.trunc(),
    })
}

fn family(address: IpAddr) -> AddressFamily {
    match address {
        IpAddr::V4(_) => AddressFamily::Inet,
        IpAddr::V6(_) => AddressFamily::Inet6,
    }
}
