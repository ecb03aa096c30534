//! An interface that somebody else keeps, and relay's fast path on it.
//!
//! This is the only place where an adoption meets the kernel, and the only thing that it can change there is the fast
//! path: links, addresses and routes are behind a [`Reader`], and what would write to WireGuard, the firewall or a
//! sysctl is not called from here.

use std::{collections::BTreeMap, fs, io};

use ipnet::IpNet;
use relay_common::PeerSlot;
use tokio::task::block_in_place;

use super::{error::AdoptError, place::Place, routes};
use crate::{
    datapath_plan::{self, Routes, Tunnel},
    desired::{Backend, FastPathMode},
    error::chain,
    fast_path,
    firewall::{analysis, ruleset::Ruleset},
    host::{Attachment, facts},
    kernel::{
        datapath::{self, DatapathError, Hook, Interface},
        firewall,
        netlink::Reader,
        wireguard,
    },
    key::PublicKey,
    maps::{self, Counters, DatapathState, MapChange, Maps},
    observed::{Device, KernelRoute, Link, LinkKind},
    report::{Reloaded, Standing},
};

/// How often one look tries: to load the fast path, then to see that it holds what it shall.
const ROUNDS: usize = 3;

/// The interface as it is.
#[derive(Clone, Debug)]
pub struct Seen {
    /// The interface.
    pub link: Link,
    /// Who carries it.
    pub backend: Backend,
    /// WireGuard on it.
    pub device: Device,
    /// The tunnel that it makes.
    pub tunnel: Tunnel,
    /// The routes of this namespace.
    routes: Vec<KernelRoute>,
    /// The policy routing rules.
    rules: Vec<String>,
}

impl Seen {
    /// What the fast path would carry: the rules for the rest are of no concern to it. A peer that may send from
    /// anywhere, and whom nothing is routed to, is not carried.
    fn carried(&self) -> Vec<IpNet> {
        let maps = self.maps(&BTreeMap::new());
        let hosts = maps.hosts.iter().map(|(host, route)| (IpNet::from(*host), route));
        let entries = hosts.chain(maps.lans.iter().map(|(lan, route)| (*lan, route)));
        let carried = entries.filter(|(_, route)| route.slot().is_some()).map(|(prefix, _)| prefix);
        self.tunnel.addresses.iter().map(IpNet::trunc).chain(carried).collect()
    }

    /// What the maps shall hold; peers keep the slots that they have.
    fn maps(&self, slots: &BTreeMap<PublicKey, PeerSlot>) -> Maps {
        let device = Some(&self.device);
        datapath_plan::desired_maps(&self.tunnel, device, self.link.index, &self.routes, slots)
    }
}

/// What one look found and did.
#[derive(Clone, Debug)]
pub struct Look {
    /// Each change to the fast path, in words.
    pub changes: Vec<String>,
    /// What is amiss, each with what to do about it.
    pub problems: Vec<String>,
    /// Whether the fast path is on.
    pub fast_path: Standing,
    /// How its program is attached, if it is.
    pub attached: Option<Hook>,
    /// The interface; `None` while it is not there or could not be read.
    pub seen: Option<Seen>,
}

/// The handles through which one adoption is held.
pub struct Foreign {
    place: Place,
    reader: Reader,
    attachment: Attachment,
    ruleset: Option<Ruleset>,
}

impl Foreign {
    /// Opens the handles. Nothing is changed yet.
    ///
    /// # Errors
    /// No netlink socket to be had.
    pub fn open(place: Place) -> Result<Self, AdoptError> {
        let attachment = Attachment::new(place.pins());
        Ok(Self { place, reader: Reader::connect()?, attachment, ruleset: None })
    }

    /// The firewall is read again at the next look.
    pub fn firewall_may_have_changed(&mut self) {
        self.ruleset = None;
    }

    /// A fast path that could not be loaded is tried again at the next look.
    pub fn retry(&mut self) {
        self.attachment.retry();
    }

    /// Reads the interface.
    ///
    /// # Errors
    /// It is not there, is relay's own, is no WireGuard, or cannot be read.
    pub async fn see(&self) -> Result<Seen, AdoptError> {
        let name = &self.place.interface;
        let link = self.reader.link(name).await?.ok_or_else(|| AdoptError::Absent(name.to_string()))?;
        if link.is_ours() {
            return Err(AdoptError::Ours(name.to_string()));
        }
        let backend = match link.kind {
            LinkKind::WireGuard => Backend::Kernel,
            LinkKind::Tun if wireguard::socket_is_here(name) => Backend::Userspace,
            LinkKind::Tun => return Err(AdoptError::Silent(name.to_string())),
            LinkKind::Other(_) => return Err(AdoptError::NotWireGuard(name.to_string())),
        };
        let device = block_in_place(|| wireguard::read(name, backend))?;
        let device = device.ok_or_else(|| match backend {
            Backend::Kernel => AdoptError::Absent(name.to_string()),
            Backend::Userspace => AdoptError::Silent(name.to_string()),
        })?;
        let peers = device
            .peers
            .iter()
            .map(|(key, peer)| (*key, Vec::from_iter(peer.allowed_ips.iter().copied())))
            .collect();
        let addresses = self.reader.addresses(link.index).await?;
        Ok(Seen {
            tunnel: Tunnel { addresses, peers, routes: Routes::SomebodyElse },
            routes: self.reader.routes().await?,
            rules: self.reader.rules().await?,
            link,
            backend,
            device,
        })
    }

    /// Looks once, and makes the fast path follow what it saw.
    pub async fn look(&mut self) -> Look {
        let seen = match self.see().await {
            Ok(seen) => seen,
            Err(error) => return self.without(&error),
        };
        self.attachment.follow(Some(seen.link.index));
        let mut look = Look::off("");
        let forwarding = self.forwarding(&seen, &mut look.problems).await;
        if let Err(error) = self.follow(&seen, forwarding.as_ref(), &mut look) {
            look.problems.push(chain(&error));
        }
        look.fast_path =
            fast_path::decide(FastPathMode::Auto, forwarding.as_ref(), self.attachment.failure());
        if seen.link.up {
            let (link, entering) = (&seen.link, self.place.entering());
            look.problems.extend(routes::missing(
                &seen.tunnel,
                &link.name,
                link.index,
                &seen.routes,
                &entering,
            ));
        } else {
            let hint = format!("{}ip link set {} up", self.place.entering(), seen.link.name);
            look.problems.push(format!("{} is down; {hint}", seen.link.name));
        }
        if self.attachment.overflow() > 0 {
            look.problems.push(format!(
                "{} entries did not fit into the fast path's maps; their traffic goes by the kernel's own path",
                self.attachment.overflow()
            ));
        }
        look.seen = Some(seen);
        look
    }

    /// Nothing to follow: the program goes off an interface that is not there, or not any more what it was, and is
    /// switched off on one that could not be read.
    fn without(&mut self, error: &AdoptError) -> Look {
        let mut look = Look::off(chain(error));
        self.attachment.follow(None);
        let done = if error.is_over() { self.attachment.detach() } else { self.switch_off() };
        look.problems.push(chain(error));
        look.problems.extend(done.err().map(|error| chain(&error)));
        look
    }

    fn switch_off(&mut self) -> Result<(), DatapathError> {
        let on = self.attachment.observe(None)?.maps.is_some_and(|maps| maps.enabled);
        if on { self.attachment.set(&[MapChange::Enable(false)]) } else { Ok(()) }
    }

    /// Whether the host leaves traffic from peer to peer alone; `None` where its firewall could not be read.
    async fn forwarding(
        &mut self,
        seen: &Seen,
        problems: &mut Vec<String>,
    ) -> Option<analysis::TunnelForwarding> {
        if self.ruleset.is_none() {
            match firewall::read().await {
                Ok(ruleset) => self.ruleset = Some(ruleset),
                Err(error) => problems.push(chain(&error)),
            }
        }
        // As it is now: see `facts`.
        let link = self.reader.link(&self.place.interface).await.ok().flatten();
        let (link, pins) = (link.as_ref().unwrap_or(&seen.link), self.attachment.pins());
        let facts = analysis::HostFacts { adopted: true, ..facts(Some(link), pins, seen.rules.clone()) };
        let prefixes = seen.carried();
        let ruleset = self.ruleset.as_ref()?;
        let mut forwarding = analysis::tunnel_forwarding(ruleset, &seen.link.name, &prefixes, &facts);
        if let (analysis::TunnelForwarding::Kept { hint, .. }, Some(_)) =
            (&mut forwarding, &self.place.namespace)
        {
            *hint = format!(
                "{hint}; there, that is with `{}` in front of a command",
                self.place.entering().trim()
            );
        }
        Some(forwarding)
    }

    fn follow(
        &mut self,
        seen: &Seen,
        forwarding: Option<&analysis::TunnelForwarding>,
        look: &mut Look,
    ) -> Result<(), AdoptError> {
        for _ in 0..ROUNDS {
            let attached = self.attachment.observe(Some(seen.link.index))?;
            look.attached = attached.hook;
            let on = fast_path::decide(FastPathMode::Auto, forwarding, None).is_on();
            let wanted = |state: &DatapathState| datapath_plan::diff(&seen.maps(&state.slots), on, state);
            // As for a hub: a filter of clsact goes on without its pins, and would lose its maps with this process.
            let stands = attached.hook.is_some() && attached.pinned;
            if let Some(state) = attached.maps.filter(|_| stands) {
                let changes = wanted(&state);
                if changes.is_empty() {
                    return Ok(());
                }
                self.attachment.set(&changes)?;
                look.changes.push(maps::in_words(&changes));
            } else if self.attachment.failure().is_none() {
                let interface = Interface { name: self.place.interface.clone(), index: seen.link.index };
                let loaded = self
                    .remember_qdisc(&interface)
                    .and_then(|()| Ok(self.attachment.load(interface, wanted)?));
                if let Err(error) = loaded {
                    self.attachment.failed(chain(&error));
                    return Err(error);
                }
                look.changes.push("load and attach the fast path".to_owned());
            } else {
                return Ok(());
            }
        }
        Ok(())
    }

    /// Adds the qdisc that older kernels need, and notes that it is ours. Nothing in the kernel could tell.
    fn remember_qdisc(&self, interface: &Interface) -> Result<(), AdoptError> {
        if datapath::add_qdisc(interface, Hook::of_this_kernel())? {
            let path = self.place.qdisc();
            let written = path.parent().map_or(Ok(()), fs::create_dir_all);
            let written = written.and_then(|()| fs::write(&path, interface.index.to_string()));
            written.map_err(|cause| AdoptError::Note { path, cause })?;
        }
        Ok(())
    }

    /// Takes the fast path off, whoever put it there: this process, or one that was killed.
    pub async fn release(&mut self) -> Reloaded {
        let mut done = Reloaded::default();
        let pinned = self.attachment.pins().exist();
        match self.attachment.unload() {
            Ok(()) if pinned => done.changes.push("took the fast path off".to_owned()),
            Ok(()) => {}
            Err(error) => done.problems.push(chain(&error)),
        }
        match self.forget_qdisc().await {
            Ok(true) => done.changes.push("removed the clsact qdisc".to_owned()),
            Ok(false) => {}
            Err(error) => done.problems.push(chain(&error)),
        }
        done
    }

    async fn forget_qdisc(&self) -> Result<bool, AdoptError> {
        let path = self.place.qdisc();
        let noted = match fs::read_to_string(&path) {
            Ok(text) => text.trim().parse::<u32>().ok(),
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(false),
            Err(cause) => return Err(AdoptError::Note { path, cause }),
        };
        let index = self.reader.link(&self.place.interface).await?.map(|link| link.index);
        let removed = match index.filter(|index| Some(*index) == noted) {
            Some(index) => datapath::remove_qdisc(index)?,
            // It went with its device.
            None => false,
        };
        fs::remove_file(&path).map_err(|cause| AdoptError::Note { path, cause })?;
        Ok(removed)
    }

    /// Lets go of the fast path, which goes on.
    pub fn let_go(&mut self) {
        self.attachment.let_go();
    }

    /// WireGuard's state, read for a report.
    ///
    /// # Errors
    /// The kernel or the socket refuses.
    pub fn device(&self, seen: &Seen) -> Result<Option<Device>, AdoptError> {
        Ok(block_in_place(|| wireguard::read(&self.place.interface, seen.backend))?)
    }

    /// The fast path's counters; `None` while it is not loaded.
    ///
    /// # Errors
    /// The maps cannot be read.
    pub fn counters(&self) -> Result<Option<Counters>, AdoptError> {
        Ok(self.attachment.counters()?)
    }
}

impl Look {
    /// Nothing was found.
    pub fn off(reason: impl Into<String>) -> Self {
        Self {
            changes: Vec::new(),
            problems: Vec::new(),
            fast_path: Standing::off(reason),
            attached: None,
            seen: None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::observed::DevicePeer;

    #[test]
    fn what_nothing_is_routed_to_is_not_carried() {
        const WG0: u32 = 7;
        let net = |text: &str| text.parse::<IpNet>().expect("prefix");
        let route = |destination, interface| KernelRoute {
            destination: net(destination),
            interface: Some(interface),
            gateway: None,
            protocol: 3,
            metric: 0,
            kind: 1,
            table: 254,
            mtu: None,
            narrowed: false,
        };
        let key = PublicKey::new([1; 32]);
        let heard = DevicePeer { endpoint: "203.0.113.9:51820".parse().ok(), ..DevicePeer::default() };
        let seen = Seen {
            link: Link {
                index: WG0,
                name: "wg0".to_owned(),
                kind: LinkKind::WireGuard,
                mtu: 1420,
                up: true,
                alias: None,
            },
            backend: Backend::Kernel,
            device: Device { public_key: None, listen_port: 51820, fwmark: 0, peers: [(key, heard)].into() },
            tunnel: Tunnel {
                addresses: [net("10.9.0.1/24")].into(),
                peers: [(key, ["10.9.0.2/32", "192.168.40.0/24", "0.0.0.0/0"].map(net).into())].into(),
                routes: Routes::SomebodyElse,
            },
            routes: vec![route("0.0.0.0/0", 2), route("10.9.0.0/24", WG0), route("192.168.40.0/24", WG0)],
            rules: Vec::new(),
        };
        assert_eq!(seen.carried(), ["10.9.0.0/24", "10.9.0.2/32", "192.168.40.0/24"].map(net));
    }
}
