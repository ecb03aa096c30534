//! The machine that relay runs on: reads it whole, and performs one change at a time.
//!
//! This is the only place where decisions ([`crate::plan`]) meet the kernel ([`crate::kernel`]).

use std::{
    collections::{BTreeMap, BTreeSet},
    net::{IpAddr, SocketAddr},
    path::Path,
    time::SystemTime,
};

use ipnet::IpNet;
use tokio::task::block_in_place;

use crate::{
    desired::{Backend, BackendChoice, Desired, Home, Hub, InterfaceName, Role},
    firewall::{analysis, exit, opening, packet::Version, ruleset::Ruleset, table},
    kernel::{
        datapath::{self, Pins},
        firewall as nft,
        netlink::{Netlink, NetlinkError, default_interface},
        odd_sysctls,
        sysctl::{self, Journal, Sysctl},
        userspace::Userspace,
        wireguard,
    },
    lan,
    maps::Counters,
    observed::{Device, KernelRoute, Link, LinkKind, Observed, UNICAST},
    report::Standing,
    resolver::{Resolver, is_silent},
    uplink::{UplinkCounters, UplinkDevice, live},
};

mod apply;
mod attachment;
mod error;
mod tear_down;
mod uplink;

pub use self::{
    attachment::{Attached, Attachment},
    error::{ApplyError, Cause, HostError},
    tear_down::tear_down,
};

/// A route from a router advertisement (include/uapi/linux/rtnetlink.h).
const RTPROT_RA: u8 = 9;

/// The handles through which one hub is kept.
pub struct Host {
    interface: InterfaceName,
    /// Who carries the tunnel.
    pub backend: Backend,
    /// Why that one, in words.
    pub backend_reason: String,
    netlink: Netlink,
    journal: Journal,
    userspace: Option<Userspace>,
    attachment: Attachment,
    uplink: uplink::UplinkAttachment,
    ruleset: Option<Ruleset>,
    /// At a home: where the hub's name leads.
    resolver: Resolver,
    /// At a home: the hub shall be dialled where the file says, also if it is heard from elsewhere.
    dial_anew: bool,
}

/// What one turn of the loop did.
#[derive(Debug, Default)]
pub struct Applied {
    /// Each change in words.
    pub changes: Vec<String>,
    /// What could not be done, in words with a hint.
    pub problems: Vec<String>,
    /// The first failure without which a hub is no hub.
    pub essential_failure: Option<HostError>,
    /// The fast path, decided.
    pub fast_path: Option<Standing>,
    /// The guard in front of the listen port; `None` at a home.
    pub uplink: Option<Standing>,
    /// What the host was like before the last of it.
    pub observed: Observed,
    /// Something was changed after that, so that another look has to prove that nothing is left to do.
    pub unproven: bool,
}

impl Host {
    /// Chooses the backend and opens the handles. Nothing is changed yet.
    ///
    /// # Errors
    /// The interface is somebody else's; the chosen backend cannot be had.
    pub async fn open(desired: &Desired, netlink: Netlink, run_dir: &Path) -> Result<Self, HostError> {
        let link = netlink.link(&desired.interface).await?;
        if let Some(link) = link.as_ref().filter(|link| !link.is_ours()) {
            return Err(HostError::Foreign(link.name.clone()));
        }
        let (backend, backend_reason) = choose(desired.backend, link.as_ref())?;
        Ok(Self {
            interface: desired.interface.clone(),
            backend,
            backend_reason,
            netlink,
            journal: Journal::new(run_dir, &desired.interface),
            userspace: None,
            attachment: Attachment::new(Pins::new(desired.interface.clone())),
            uplink: uplink::UplinkAttachment::new(desired.interface.clone()),
            ruleset: None,
            resolver: Resolver::default(),
            // What the kernel has kept may be of an older file.
            dial_anew: true,
        })
    }

    /// Whether the tunnel interface exists.
    ///
    /// # Errors
    /// The kernel does not say.
    pub async fn exists(&self) -> Result<bool, HostError> {
        Ok(self.netlink.link(&self.interface).await?.is_some())
    }

    /// Reads the host.
    ///
    /// # Errors
    /// The kernel does not say.
    pub async fn observe(&mut self, desired: &Desired) -> Result<Observed, HostError> {
        let link = self.netlink.link(&self.interface).await?;
        if let Some(link) = link.as_ref().filter(|link| !link.is_ours()) {
            return Err(HostError::Foreign(link.name.clone()));
        }
        let mut observed = Observed { routes: self.netlink.routes().await?, ..Observed::default() };
        if link.is_none() {
            observed.renamed = self.renamed(desired).await?;
        }
        if let Some(link) = &link {
            observed.addresses = self.netlink.addresses(link.index).await?;
            observed.device = block_in_place(|| wireguard::read(&self.interface, self.backend))?;
        }
        if let Some(home) = desired.home() {
            let links = self.netlink.links().await?;
            observed.lan_interfaces =
                lan::interfaces(&home.lans, &observed.routes, &links, self.interface.as_str());
            observed.lan_addresses = lan_addresses(&self.netlink, &observed.lan_interfaces, &links).await?;
            observed.hub_addresses = self.hub_addresses(home, observed.device.as_ref());
        }
        observed.router_advertised = self.router_advertised(&observed).await?;
        observed.link = link;
        observed.sysctls = sysctls(&observed.router_advertised);
        self.observe_firewall(desired, &mut observed).await?;
        let index = observed.link.as_ref().map(|link| link.index);
        self.attachment.follow(index);
        let attached = self.attachment.observe(index)?;
        observed.maps = attached.maps;
        observed.attached = attached.hook;
        observed.fast_path_pinned = attached.pinned;
        let device = self.uplink_device(desired, &observed).await?;
        let peers = observed.device.as_ref().filter(|_| device.is_some());
        let live = peers.map(|peers| live(peers, SystemTime::now())).unwrap_or_default();
        observed.uplink = self.uplink.observe(device, live)?;
        Ok(observed)
    }

    /// Where the hub's name leads, while the hub is silent or shall be dialled anew.
    fn hub_addresses(&mut self, home: &Home, device: Option<&Device>) -> Vec<SocketAddr> {
        let Some(live) = device.and_then(|device| device.peers.get(&home.hub)) else { return Vec::new() };
        let silent = live.endpoint.is_none() || is_silent(live.latest_handshake, SystemTime::now());
        if !silent && !self.dial_anew {
            self.resolver.forget();
            return Vec::new();
        }
        let addresses = self.resolver.ask(&home.endpoint);
        if live.endpoint.is_some_and(|at| addresses.contains(&at)) {
            self.dial_anew = false;
        }
        addresses
    }

    /// What stands between a home and its hub or its LANs, in words.
    fn home_problems(&self, home: &Home, observed: &Observed) -> Vec<String> {
        let lost = home.lans.iter().filter(|lan| !observed.lan_interfaces.contains_key(lan));
        let lost = lost.map(|lan| {
            format!("no interface of this machine leads to the LAN {lan}, so nobody reaches it through here")
        });
        lost.chain(self.resolver.failure().map(str::to_owned)).collect()
    }

    /// The tunnel interface under another name. It is known by its key and its port: another relay's interface may
    /// carry relay's mark too. A userspace one is not looked for, since it goes when a new one is made.
    async fn renamed(&self, desired: &Desired) -> Result<Option<Link>, HostError> {
        if self.backend != Backend::Kernel {
            return Ok(None);
        }
        let (key, port) = (desired.private_key.public_key(), desired.listen_port());
        let links = self.netlink.links().await?;
        for link in links.into_iter().filter(|link| link.is_ours() && link.kind == LinkKind::WireGuard) {
            let Ok(name) = link.name.parse() else { continue };
            let device = block_in_place(|| wireguard::read(&name, self.backend))?;
            let same = |device: Device| {
                device.public_key == Some(key) && port.is_none_or(|port| device.listen_port == port)
            };
            if device.is_some_and(same) {
                return Ok(Some(link));
            }
        }
        Ok(None)
    }

    /// Interfaces with an IPv6 default route that a router advertised, and, while forwarding is off, those that may
    /// yet get one: relay may be up before the first advertisement of this boot has come.
    async fn router_advertised(&self, observed: &Observed) -> Result<BTreeSet<InterfaceName>, HostError> {
        let forwarding = sysctl::read(&Sysctl::Ipv6Forward).is_some_and(|value| value != "0");
        let indexes = listeners(&observed.routes, forwarding);
        if indexes.is_empty() {
            return Ok(BTreeSet::new());
        }
        let links = self.netlink.links().await?;
        let names = links.iter().filter(|link| indexes.contains(&link.index)).map(|link| &link.name);
        Ok(names.filter_map(|name| name.parse().ok()).collect())
    }

    /// The interface of the default route of each family.
    async fn uplinks(&self, routes: &[KernelRoute]) -> Result<BTreeMap<Version, String>, HostError> {
        let links = self.netlink.links().await?;
        let name = |index| links.iter().find(|link| link.index == index).map(|link| link.name.clone());
        let uplinks =
            [(Version::V4, default_interface(routes, false)), (Version::V6, default_interface(routes, true))];
        Ok(uplinks.into_iter().filter_map(|(version, index)| Some((version, name(index?)?))).collect())
    }

    /// Where the guard shall be: on the interface that the file names, else on that of IPv4's default route, else IPv6's.
    async fn uplink_device(
        &self,
        desired: &Desired,
        observed: &Observed,
    ) -> Result<Option<UplinkDevice>, HostError> {
        let Some(uplink) = desired.uplink() else { return Ok(None) };
        let route = || observed.uplink_name()?.parse().ok();
        let Some(name) = uplink.interface.clone().or_else(route) else { return Ok(None) };
        let link = self.netlink.link(&name).await?;
        Ok(link.map(|link| UplinkDevice { name, index: link.index }))
    }

    async fn observe_firewall(
        &mut self,
        desired: &Desired,
        observed: &mut Observed,
    ) -> Result<(), HostError> {
        let ruleset = match self.ruleset.take() {
            Some(ruleset) => ruleset,
            None => nft::read().await?,
        };
        observed.table = table::observed(&ruleset, desired.interface.as_str());
        match &desired.role {
            Role::Hub(hub) => self.observe_hubs_firewall(desired, hub, &ruleset, observed).await?,
            Role::Home(_) => observe_homes_firewall(desired, &ruleset, observed),
        }
        self.ruleset = Some(ruleset);
        Ok(())
    }

    async fn observe_hubs_firewall(
        &self,
        desired: &Desired,
        hub: &Hub,
        ruleset: &Ruleset,
        observed: &mut Observed,
    ) -> Result<(), HostError> {
        let name = desired.interface.as_str();
        let prefixes: Vec<_> = desired
            .addresses
            .iter()
            .map(IpNet::trunc)
            .chain(desired.peers.values().flat_map(crate::desired::Peer::allowed_ips))
            .collect();
        let rules = self.netlink.rules().await?;
        // As it is now: see `facts`.
        let link = self.netlink.link(&desired.interface).await?;
        let facts = facts(link.as_ref().or(observed.link.as_ref()), self.attachment.pins(), rules);
        observed.uplinks = self.uplinks(&observed.routes).await?;
        let uplink = observed.uplink_name();
        let port = hub.listen_port;
        let exits = exit::exits(desired, &observed.uplinks);
        observed.openings = opening::openings(ruleset, name, port, uplink, &prefixes, &exits);
        observed.stale_openings = if desired.firewall.manage {
            opening::stale(ruleset, name, port, &exits)
        } else {
            opening::ours(ruleset, name)
        };
        observed.forwarding = Some(analysis::tunnel_forwarding(ruleset, name, &prefixes, &facts));
        Ok(())
    }

    /// The firewall is read again at the next look.
    pub fn firewall_may_have_changed(&mut self) {
        self.ruleset = None;
    }

    /// The hub is dialled where the file says, wherever it is heard from.
    pub fn dial_anew(&mut self) {
        self.dial_anew = true;
    }

    /// A fast path that could not be loaded is tried again at the next look.
    pub fn retry_fast_path(&mut self) {
        self.attachment.retry();
    }

    /// The same of the guard in front of the listen port.
    pub fn retry_uplink(&mut self) {
        self.uplink.retry();
    }
}

impl Host {
    /// WireGuard's state, read for a report.
    ///
    /// # Errors
    /// The kernel or the socket refuses.
    pub fn device(&self) -> Result<Option<Device>, HostError> {
        Ok(block_in_place(|| wireguard::read(&self.interface, self.backend))?)
    }

    /// The fast path's counters; `None` while it is not loaded.
    ///
    /// # Errors
    /// The maps cannot be read.
    pub fn counters(&self) -> Result<Option<Counters>, HostError> {
        Ok(self.attachment.counters()?)
    }

    /// What the guard in front of the listen port counted; `None` while it is not loaded.
    ///
    /// # Errors
    /// The maps cannot be read.
    pub fn uplink_counters(&self) -> Result<Option<UplinkCounters>, HostError> {
        Ok(self.uplink.counters()?)
    }

    /// Ends the embedded WireGuard, if it runs, so that its interface goes.
    pub async fn stop_userspace(&mut self) {
        self.attachment.let_go();
        if let Some(userspace) = self.userspace.take() {
            userspace.stop();
        }
    }
}

/// What the machines of each LAN see of this one, by the interface that leads there.
///
/// # Errors
/// The kernel does not say.
pub async fn lan_addresses(
    netlink: &Netlink,
    interfaces: &BTreeMap<IpNet, String>,
    links: &[Link],
) -> Result<BTreeMap<IpNet, IpAddr>, NetlinkError> {
    let mut addresses = BTreeMap::new();
    for (lan, interface) in interfaces {
        let Some(link) = links.iter().find(|link| link.name == *interface) else { continue };
        let own = lan::own_address(lan, &netlink.addresses(link.index).await?);
        addresses.extend(own.map(|address| (*lan, address)));
    }
    Ok(addresses)
}

/// What else than its firewall the host says about traffic from peer to peer. `rules` are those of policy routing. The
/// link should have been read just before: its MTU is held against a sysctl, and in between both may change.
#[must_use]
pub fn facts(link: Option<&Link>, pins: &Pins, rules: Vec<String>) -> analysis::HostFacts {
    let one = |sysctl| sysctl::read(&sysctl).is_some_and(|value| value == "1");
    analysis::HostFacts {
        odd_sysctls_v6: link.map_or_else(Vec::new, |link| odd_sysctls::v6(&link.name, link.mtu)),
        odd_sysctls_v4: link.map_or_else(Vec::new, |link| odd_sysctls::v4(&link.name)),
        foreign_tc_programs: match link {
            // What cannot be listed may be anything, so the fast path must not take the hook for free.
            Some(link) => datapath::foreign_programs(link.index, pins)
                .unwrap_or_else(|error| vec![format!("unknown TC programs ({error})")]),
            None => Vec::new(),
        },
        ip_rules: rules,
        forwarding_v4: one(Sysctl::Ipv4Forward),
        forwarding_v6: one(Sysctl::Ipv6Forward),
        adopted: false,
    }
}

/// What closes the ways between the tunnel and the LANs.
fn observe_homes_firewall(desired: &Desired, ruleset: &Ruleset, observed: &mut Observed) {
    let name = desired.interface.as_str();
    let prefixes: Vec<_> = desired.peers.values().flat_map(crate::desired::Peer::allowed_ips).collect();
    let exits = exit::of_home(desired, &observed.lan_interfaces);
    observed.openings = opening::of_home(ruleset, name, &prefixes, &exits);
    observed.stale_openings = if desired.firewall.manage {
        opening::stale_at_home(ruleset, name, &exits)
    } else {
        opening::ours(ruleset, name)
    };
}

fn listeners(routes: &[KernelRoute], forwarding: bool) -> BTreeSet<u32> {
    routes
        .iter()
        .filter(|route| route.destination.prefix_len() == 0 && route.kind == UNICAST)
        .filter(|route| !forwarding || (route.destination.addr().is_ipv6() && route.protocol == RTPROT_RA))
        .filter_map(|route| route.interface)
        .collect()
}

fn sysctls(router_advertised: &BTreeSet<InterfaceName>) -> BTreeMap<Sysctl, String> {
    let accept_ra = router_advertised.iter().cloned().map(Sysctl::AcceptRa);
    [Sysctl::Ipv4Forward, Sysctl::Ipv6Forward, Sysctl::all_send_redirects()]
        .into_iter()
        .chain(accept_ra)
        .filter_map(|sysctl| sysctl::read(&sysctl).map(|value| (sysctl, value)))
        .collect()
}

fn choose(choice: BackendChoice, link: Option<&Link>) -> Result<(Backend, String), HostError> {
    // An interface of ours that is already there decides: its backend cannot change under it.
    match (choice, link.map(|link| &link.kind)) {
        (BackendChoice::Userspace, _) => {
            Ok((Backend::Userspace, "backend = \"userspace\" in the configuration".into()))
        }
        (BackendChoice::Kernel, _) => {
            wireguard::kernel_available()?;
            Ok((Backend::Kernel, "backend = \"kernel\" in the configuration".into()))
        }
        (BackendChoice::Auto, Some(LinkKind::WireGuard)) => {
            Ok((Backend::Kernel, "the interface is the kernel's already".into()))
        }
        (BackendChoice::Auto, _) => match wireguard::kernel_available() {
            Ok(()) => Ok((Backend::Kernel, "this kernel has WireGuard".into())),
            Err(reason) => Ok((Backend::Userspace, reason.to_string())),
        },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_listens_to_routers() {
        const STATIC: u8 = 4;
        let route = |destination: &str, interface, protocol| KernelRoute {
            destination: destination.parse().expect("prefix"),
            interface: Some(interface),
            gateway: None,
            protocol,
            metric: 0,
            kind: 1,
            table: 254,
            mtu: None,
            narrowed: false,
        };
        let routes = [
            route("0.0.0.0/0", 2, STATIC),
            route("::/0", 3, RTPROT_RA),
            route("2001:db8::/64", 4, RTPROT_RA),
            route("10.0.0.0/8", 5, STATIC),
            KernelRoute { kind: 7, ..route("::/0", 1, STATIC) },
        ];
        assert_eq!(listeners(&routes, true), [3].into());
        assert_eq!(listeners(&routes, false), [2, 3].into(), "the uplink may hear its router yet");
    }
}
