//! Performs changes, one effect and one error each.

use std::collections::BTreeSet;

use tokio::task::block_in_place;

use super::{Applied, ApplyError, Cause, Host};
use crate::{
    desired::{Backend, Desired},
    error::chain,
    fast_path,
    kernel::{
        datapath::Interface,
        firewall as nft,
        userspace::Userspace,
        wireguard::{self, PeerChange, Settings},
    },
    key::PublicKey,
    maps::DatapathState,
    observed::Observed,
    plan::{self, Change, Plan, plan},
    report::Standing,
    uplink::{self, UplinkState},
};

/// Rounds of observe, plan and apply in one look.
const ROUNDS: usize = 4;

impl Host {
    /// Makes the host as it shall be, and says what that took. What cannot be done is a problem to report; the rest is
    /// done all the same.
    pub async fn reconcile(&mut self, desired: &Desired) -> Applied {
        let mut applied = Applied::default();
        // One change makes another possible (an interface that exists can carry the fast path), and a failed one is
        // tried again at the next look, so a few rounds are all that one look may take.
        for _ in 0..ROUNDS {
            if !self.round(desired, &mut applied).await || applied.essential_failure.is_some() {
                break;
            }
        }
        applied
    }

    /// Reads, decides and does; whether what was done may lead to more.
    async fn round(&mut self, desired: &Desired, applied: &mut Applied) -> bool {
        applied.problems.clear();
        applied.unproven = false;
        let observed = match self.observe(desired).await {
            Ok(observed) => observed,
            Err(error) => {
                applied.problems.push(chain(&error));
                applied.essential_failure.get_or_insert(error);
                return false;
            }
        };
        let fast_path = self.decide(desired, &observed);
        let (mut guarded, mut leads_on) = (true, false);
        let Plan { changes, left_out } = plan(desired, self.backend, &observed, &fast_path);
        for change in changes {
            // Without its guard, the home would lie open to the hub's neighbours.
            if !guarded && change.opens_a_way() {
                continue;
            }
            if change == Change::LoadFastPath && self.attachment.failure().is_some() {
                continue;
            }
            if let Change::LoadUplink(device) = &change
                && self.uplink.failure(Some(device)).is_some()
            {
                continue;
            }
            match self.apply(&change, desired, &observed).await {
                Ok(()) if change.is_routine() => {}
                Ok(()) => {
                    applied.unproven = true;
                    leads_on |= change.leads_on(desired, &observed);
                    let told = change.told(desired);
                    tracing::info!("{}: {told}", self.interface);
                    applied.changes.push(told);
                }
                // A hub without it is as it was before there was one: `status` says so, and nobody is woken.
                Err(cause) if let Change::LoadUplink(device) = change => {
                    self.uplink.failed(device, chain(&cause));
                }
                Err(cause) => {
                    guarded &= change != Change::ReplaceTable;
                    if change == Change::LoadFastPath {
                        self.attachment.failed(chain(&cause));
                    }
                    let essential = change.is_essential();
                    let error = ApplyError { interface: self.interface.to_string(), change, cause };
                    applied.problems.push(chain(&error));
                    if essential {
                        applied.essential_failure.get_or_insert(error.into());
                    }
                }
            }
        }
        let left_out = self.attachment.overflow() + left_out;
        if left_out > 0 {
            applied.problems.push(format!(
                "{left_out} entries did not fit into the fast path's maps; their traffic goes by the kernel's own path",
            ));
        }
        if let Some(home) = desired.home() {
            applied.problems.extend(self.home_problems(home, &observed));
        }
        applied.fast_path = Some(self.decide(desired, &observed));
        let failure = self.uplink.failure(observed.uplink.device.as_ref());
        applied.uplink = desired.uplink().map(|uplink| uplink::judge(uplink, &observed.uplink, failure));
        applied.observed = observed;
        leads_on
    }

    fn decide(&self, desired: &Desired, observed: &Observed) -> Standing {
        if desired.home().is_some() {
            return Standing::off("this is a home: nothing goes from tunnel to tunnel here");
        }
        fast_path::decide(desired.fast_path(), observed.forwarding.as_ref(), self.attachment.failure())
    }

    async fn apply(&mut self, change: &Change, desired: &Desired, observed: &Observed) -> Result<(), Cause> {
        match change {
            Change::UnloadFastPath => self.attachment.unload()?,
            Change::SetMaps(changes) => self.attachment.set(changes)?,
            Change::TakeBack(link) => self.netlink.rename(link.index, &self.interface).await?,
            Change::CreateLink(Backend::Kernel) => {
                drop(self.netlink.create_wireguard(&self.interface).await?)
            }
            Change::CreateLink(Backend::Userspace) => {
                self.userspace = None;
                self.userspace = Some(block_in_place(|| Userspace::start(&self.interface, desired.mtu))?);
            }
            Change::SetMtu(mtu) => self.netlink.set_mtu(self.index().await?, *mtu).await?,
            Change::Configure { key, port } => {
                let settings = Settings {
                    private_key: key.then_some(&desired.private_key),
                    listen_port: desired.listen_port().filter(|_| *port),
                };
                block_in_place(|| wireguard::configure(&self.interface, self.backend, settings))?;
            }
            Change::RemovePeers(keys) => {
                let changes: Vec<_> = keys.iter().copied().map(PeerChange::Remove).collect();
                block_in_place(|| wireguard::set_peers(&self.interface, self.backend, &changes))?;
            }
            Change::SetPeers(keys) => {
                let changes = peer_changes(desired, observed, keys);
                block_in_place(|| wireguard::set_peers(&self.interface, self.backend, &changes))?;
            }
            Change::Dial(key, endpoint) => {
                let change = PeerChange::Dial { public_key: *key, endpoint: *endpoint };
                block_in_place(|| wireguard::set_peers(&self.interface, self.backend, &[change]))?;
            }
            Change::RemoveAddress(address) => {
                self.netlink.remove_address(self.index().await?, *address).await?;
            }
            Change::AddAddress(address) => self.netlink.add_address(self.index().await?, *address).await?,
            Change::SetUp => self.netlink.set_up(self.index().await?).await?,
            Change::ReplaceTable => {
                let table = plan::wanted_table(desired, observed);
                self.firewall_may_have_changed();
                nft::replace_table(&table).await?;
            }
            Change::SetSysctl(sysctl, value) => drop(self.journal.set(sysctl, value)?),
            Change::RemoveRoute(route) => self.netlink.remove_route(route).await?,
            Change::AddRoute(prefix) => self.netlink.add_route(*prefix, self.index().await?).await?,
            Change::Open(opening) => {
                self.firewall_may_have_changed();
                nft::open(opening).await?;
            }
            Change::Close(ours) => {
                self.firewall_may_have_changed();
                nft::close(ours).await?;
            }
            Change::LoadFastPath => self.load_fast_path(desired).await?,
            Change::UnloadUplink => self.uplink.unload()?,
            Change::SetUplink(changes) => self.uplink.set(changes)?,
            Change::LoadUplink(device) => {
                let Some(uplink) = desired.uplink() else { return Ok(()) };
                let fill = |state: &UplinkState| plan::uplink_changes(desired, uplink, observed, state);
                self.uplink.load(device.clone(), uplink.mode, fill)?;
            }
        }
        Ok(())
    }

    async fn index(&self) -> Result<u32, Cause> {
        let link = self.netlink.link(&self.interface).await?;
        link.map(|link| link.index).ok_or_else(|| Cause::Gone(self.interface.to_string()))
    }

    async fn load_fast_path(&mut self, desired: &Desired) -> Result<(), Cause> {
        let observed = self.observe(desired).await.map_err(|error| Cause::Observe(Box::new(error)))?;
        let fast_path = fast_path::decide(desired.fast_path(), observed.forwarding.as_ref(), None);
        let interface = Interface { name: self.interface.clone(), index: self.index().await? };
        let fill = |state: &DatapathState| plan::map_changes(desired, &observed, fast_path.is_on(), state);
        Ok(self.attachment.load(interface, fill)?)
    }
}

fn peer_changes(desired: &Desired, observed: &Observed, keys: &BTreeSet<PublicKey>) -> Vec<PeerChange> {
    let set = |key: &PublicKey| {
        let peer = desired.peers.get(key)?;
        Some(PeerChange::Set {
            public_key: *key,
            preshared_key: peer.preshared_key.clone(),
            endpoint: plan::gets_endpoint(key, desired, observed),
            allowed_ips: peer.allowed_ips().collect(),
            keepalive: desired.keepalive_toward(peer),
        })
    };
    keys.iter().filter_map(set).collect()
}
