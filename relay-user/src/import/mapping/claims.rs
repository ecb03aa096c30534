//! Which of the prefixes that WireGuard let a peer have are its addresses, which are LANs, and which relay refuses.

use std::{
    collections::{BTreeSet, HashMap},
    net::IpAddr,
};

use ipnet::IpNet;

use super::{Context, hub::Hub};
use crate::{
    config::prefix,
    import::found::{FoundPeer, Place},
};

/// What a peer gets.
#[derive(Debug, Default)]
pub(super) struct Claims {
    pub(super) addresses: BTreeSet<IpAddr>,
    pub(super) lans: BTreeSet<IpNet>,
}

impl Claims {
    fn nets(&self) -> impl Iterator<Item = IpNet> + '_ {
        self.addresses.iter().map(|address| IpNet::from(*address)).chain(self.lans.iter().copied())
    }
}

/// Sorts the prefixes of one peer, which is called `name`.
pub(super) fn sort(context: &mut Context<'_>, hub: &Hub, peer: &FoundPeer, name: &str) -> Claims {
    let mut claims = Claims::default();
    for &net in &peer.allowed {
        match kind(context, hub, net) {
            Ok(Kind::Address(address, remark)) => {
                if let Some(remark) = remark {
                    context.note(&peer.place, format!("peer \"{name}\": {remark}"));
                }
                claims.addresses.insert(address);
            }
            Ok(Kind::Lan) => {
                if net != net.trunc() {
                    let message = format!(
                        "peer \"{name}\": {net} is the network {}, as WireGuard takes it",
                        net.trunc()
                    );
                    context.note(&peer.place, message);
                }
                claims.lans.insert(net.trunc());
            }
            Err(why) => context.leave_out(&peer.place, format!("{net} of peer \"{name}\""), why),
        }
    }
    claims
}

enum Kind {
    Address(IpAddr, Option<String>),
    Lan,
}

fn kind(context: &Context<'_>, hub: &Hub, net: IpNet) -> Result<Kind, String> {
    if net.prefix_len() == 0 {
        return Err("it would send this host's whole internet to that peer".to_owned());
    }
    if let Some((range, why)) = prefix::reserved(net) {
        return Err(format!("it overlaps {range} ({why}), which is never routed"));
    }
    let is_host = net.prefix_len() == net.max_prefix_len();
    if let Some(subnet) = hub.subnet_of(net.addr()).filter(|_| is_host || net != net.trunc()) {
        let address = net.addr();
        if address == subnet.addr() {
            return Err("it is the hub's own address".to_owned());
        }
        if let Some(what) = prefix::is_reserved_in(subnet, address) {
            return Err(format!("it is {what} of {}", subnet.trunc()));
        }
        let remark = (!is_host).then(|| format!("{net} is taken for the address {address}"));
        return Ok(Kind::Address(address, remark));
    }
    if let Some(subnet) = hub.addresses.iter().find(|subnet| prefix::overlap(**subnet, net)) {
        return Err(format!("it overlaps the tunnel's own subnet {}, which all peers share", subnet.trunc()));
    }
    let is_other = |of: &str, host: &IpNet| of != hub.interface && host.prefix_len() > 0;
    let mut networks = context.surroundings.networks.iter();
    if let Some((of, host)) = networks.find(|(of, host)| is_other(of, host) && prefix::overlap(*host, net)) {
        let host = host.trunc();
        return Err(format!(
            "it overlaps {host} of {of} on this host, which could no longer reach its own neighbours"
        ));
    }
    Ok(Kind::Lan)
}

/// One peer may name a network and a part of it; relay takes the whole alone.
fn within_itself(context: &mut Context<'_>, place: &Place, name: &str, claims: &mut Claims) {
    let lans: Vec<IpNet> = claims.lans.iter().copied().collect();
    for lan in &lans {
        if let Some(whole) = lans.iter().find(|whole| *whole != lan && whole.contains(&lan.network())) {
            claims.lans.remove(lan);
            context.note(place, format!("peer \"{name}\": {lan} is part of its {whole}"));
        }
    }
}

/// A peer that takes part, for [`settle`].
pub(super) struct Claimant<'a> {
    pub(super) name: &'a str,
    pub(super) place: &'a Place,
    pub(super) claims: &'a mut Claims,
}

/// Leaves each prefix to one peer: of equal ones to the last, as the kernel does, of others that overlap to the first.
pub(super) fn settle(context: &mut Context<'_>, peers: &mut [Claimant<'_>]) {
    let mut last: HashMap<IpNet, (usize, &str)> = HashMap::new();
    for (index, peer) in peers.iter().enumerate() {
        last.extend(peer.claims.nets().map(|net| (net, (index, peer.name))));
    }
    for (index, peer) in peers.iter_mut().enumerate() {
        for net in peer.claims.nets().collect::<Vec<_>>() {
            let (owner, name) = last[&net];
            if owner != index {
                let why = format!("peer \"{name}\" has it too, and WireGuard gives it to the last");
                peer.lose(context, net, why);
            }
        }
        within_itself(context, peer.place, peer.name, peer.claims);
    }
    // Sorting tells in no time that there are none; addresses in the tunnel overlap nothing but their equals.
    let lans: Vec<IpNet> = peers.iter().flat_map(|peer| peer.claims.lans.iter().copied()).collect();
    if prefix::clashes(&lans).is_empty() {
        return;
    }
    let mut kept: Vec<(IpNet, &str)> = Vec::new();
    for peer in peers.iter_mut() {
        for lan in peer.claims.lans.iter().copied().collect::<Vec<_>>() {
            match kept.iter().find(|(other, _)| prefix::overlap(*other, lan)) {
                Some((other, of)) => {
                    let why =
                        format!("it overlaps {other} of peer \"{of}\"; relay gives an address to one peer");
                    peer.lose(context, lan, why);
                }
                None => kept.push((lan, peer.name)),
            }
        }
    }
}

impl Claimant<'_> {
    fn lose(&mut self, context: &mut Context<'_>, net: IpNet, why: String) {
        context.leave_out(self.place, format!("{net} of peer \"{}\"", self.name), why);
        self.claims.lans.remove(&net);
        if net.prefix_len() == net.max_prefix_len() {
            self.claims.addresses.remove(&net.addr());
        }
    }
}
