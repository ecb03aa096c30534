//! The peers: which come along, as whom, and with what.

use std::{
    collections::{BTreeSet, HashMap, HashSet},
    net::{IpAddr, SocketAddr},
};

use ipnet::IpNet;

use super::{
    Context, KeyFile,
    claims::{self, Claimant, Claims},
    hub::Hub,
    names::Names,
    own_file, spanned,
};
use crate::{
    config::{MomentWritten, PeerWritten, allocate, moment, resolver},
    import::{
        found::{Found, FoundPeer},
        report,
        sentence::shown,
    },
    key::PublicKey,
};

/// The most that WireGuard carries; relay refuses more.
const MAX_MTU: u32 = 65456;

/// A peer that comes along.
pub(super) struct Decided {
    pub(super) written: PeerWritten,
    pub(super) report: report::Peer,
}

/// A peer on its way.
pub(super) struct Candidate<'a> {
    pub(super) found: &'a FoundPeer,
    pub(super) key: PublicKey,
    pub(super) name: String,
    pub(super) claims: Claims,
    enabled: bool,
    expires: Option<jiff::Timestamp>,
}

pub(super) fn decide(context: &mut Context<'_>, found: &Found, hub: &Hub, masquerades: bool) -> Vec<Decided> {
    let mut names = Names::default();
    let mut peers = with_keys(context, found, &mut names);
    for peer in &mut peers {
        peer.claims = claims::sort(context, hub, peer.found, &peer.name);
        expiry(context, peer);
    }
    let mut enabled: Vec<Claimant<'_>> = peers
        .iter_mut()
        .filter(|peer| peer.enabled)
        .map(|peer| Claimant { name: &peer.name, place: &peer.found.place, claims: &mut peer.claims })
        .collect();
    claims::settle(context, &mut enabled);
    with_addresses(context, hub, &mut peers);

    let lans: Vec<(PublicKey, IpNet)> = peers
        .iter()
        .filter(|peer| peer.enabled)
        .flat_map(|peer| peer.claims.lans.iter().map(|lan| (peer.key, *lan)))
        .collect();
    let decided: Vec<Decided> = peers
        .iter()
        .map(|peer| {
            let full_tunnel = sends_everything(peer.found, masquerades);
            let written = write(context, hub, peer, &lans, full_tunnel, &mut names);
            let own_file = own_file::changes(found.format, hub, peer, &lans, full_tunnel);
            Decided { report: reported(peer, &written, own_file), written }
        })
        .collect();
    remarks(context, found, &decided, masquerades);
    decided
}

/// Those with a key of their own; of two with one key the last, as WireGuard has it.
fn with_keys<'a>(context: &mut Context<'_>, found: &'a Found, names: &mut Names) -> Vec<Candidate<'a>> {
    let own = found.hub.private_key.as_ref().map(|key| key.public_key());
    let supported = found.peers.iter().enumerate().filter(|(_, peer)| peer.unsupported.is_none());
    let last: HashMap<PublicKey, usize> =
        supported.filter_map(|(index, peer)| Some((peer.public_key?, index))).collect();
    let mut peers = Vec::with_capacity(found.peers.len());
    for (index, peer) in found.peers.iter().enumerate() {
        let shown_name = shown(&peer.name);
        let what = if shown_name.is_empty() {
            format!("peer number {}", index + 1)
        } else {
            format!("peer \"{shown_name}\"")
        };
        if let Some(why) = &peer.unsupported {
            context.leave_out(&peer.place, what, why.clone());
            continue;
        }
        let Some(key) = peer.public_key else {
            context.leave_out(&peer.place, what, "it has no public key that can be read");
            continue;
        };
        if own == Some(key) {
            context.leave_out(&peer.place, what, "it has the public key of the hub itself");
            continue;
        }
        if last.get(&key) != Some(&index) {
            context.leave_out(
                &peer.place,
                what,
                "a later peer has the same public key, and WireGuard takes the last",
            );
            continue;
        }
        let name = names.name(&peer.name, index + 1);
        let (claims, enabled) = (Claims::default(), peer.enabled);
        peers.push(Candidate { found: peer, key, name, claims, enabled, expires: None });
    }
    peers
}

fn expiry(context: &mut Context<'_>, peer: &mut Candidate<'_>) {
    let Some(text) = &peer.found.expires else { return };
    match moment::read(text) {
        Ok(expires) => {
            peer.expires = Some(expires);
            if expires <= context.surroundings.now && peer.enabled {
                peer.enabled = false;
                context
                    .note(&peer.found.place, format!("peer \"{}\" has expired and takes no part", peer.name));
            }
        }
        // Until when is not known, so it shall not be for ever.
        Err(_) => {
            peer.enabled = false;
            let message = format!(
                "peer \"{}\" expires at `{}`, which is no moment; it takes no part",
                peer.name,
                shown(text)
            );
            context.note(&peer.found.place, message);
        }
    }
}

/// relay asks an address of each. One that has LANs alone gets the next free one, which changes nothing for it.
fn with_addresses(context: &mut Context<'_>, hub: &Hub, peers: &mut Vec<Candidate<'_>>) {
    let subnets: BTreeSet<IpNet> = hub.addresses.iter().copied().collect();
    let mut taken: BTreeSet<IpAddr> =
        peers.iter().flat_map(|peer| peer.claims.addresses.iter().copied()).collect();
    peers.retain_mut(|peer| {
        if !peer.claims.addresses.is_empty() {
            return true;
        }
        let (place, what) = (&peer.found.place, format!("peer \"{}\"", peer.name));
        if peer.claims.lans.is_empty() {
            context.leave_out(place, what, "no address is left to it, so nothing could reach it");
            return false;
        }
        match allocate::next_addresses(&subnets, &taken) {
            Ok(addresses) => {
                let list: Vec<String> = addresses.iter().map(ToString::to_string).collect();
                let message = format!("{what} has no address in the tunnel; it gets {}", list.join(" and "));
                context.note(place, message);
                taken.extend(addresses.iter().copied());
                peer.claims.addresses.extend(addresses);
                true
            }
            Err(full) => {
                context.leave_out(place, what, format!("it has no address in the tunnel, and {full}"));
                false
            }
        }
    });
}

/// Whether its own file sends everything into the tunnel. Where the source does not know that file, whoever gets the
/// internet from the hub might.
fn sends_everything(peer: &FoundPeer, masquerades: bool) -> bool {
    let everything = |nets: &Vec<IpNet>| nets.iter().any(|net| net.prefix_len() == 0);
    masquerades && peer.client.allowed_ips.as_ref().is_none_or(everything)
}

fn write(
    context: &mut Context<'_>,
    hub: &Hub,
    peer: &Candidate<'_>,
    lans: &[(PublicKey, IpNet)],
    full_tunnel: bool,
    names: &mut Names,
) -> PeerWritten {
    let found = peer.found;
    let preshared_key_file = found.preshared_key.as_ref().map(|key| {
        let name = names.file(&peer.name);
        context.keys.push(KeyFile { name: name.clone(), key: key.expose_base64() });
        spanned(name)
    });
    let has_v6 = peer.claims.addresses.iter().any(IpAddr::is_ipv6);
    let least = if has_v6 { 1280 } else { 576 };
    let mtu = found.client.mtu.filter(|mtu| *mtu != hub.mtu.unwrap_or(crate::config::DEFAULT_MTU));
    let mtu = mtu.filter(|mtu| (least..=MAX_MTU).contains(mtu));
    let dns = found.client.dns.iter().filter(|text| {
        let known = resolver(text).is_some();
        if !known {
            let what = format!("DNS `{}` of peer \"{}\"", shown(text), peer.name);
            context.leave_out(&found.place, what, "it is neither an address nor a search domain");
        }
        known
    });
    let dns = dns.cloned().map(spanned).collect();
    PeerWritten {
        name: spanned(peer.name.clone()),
        public_key: spanned(peer.key.to_string()),
        addresses: spanned(
            peer.claims.addresses.iter().map(|address| spanned(address.to_string())).collect(),
        ),
        lans: peer.claims.lans.iter().map(|lan| spanned(lan.to_string())).collect(),
        keepalive: found
            .client
            .keepalive
            .filter(|seconds| *seconds > 0)
            .map(|seconds| spanned(seconds.into())),
        preshared_key_file,
        endpoint: endpoint(context, hub, peer, lans).map(|endpoint| spanned(endpoint.to_string())),
        mtu: mtu.map(|mtu| spanned(mtu.into())),
        dns,
        full_tunnel,
        expires: peer.expires.map(|moment| spanned(MomentWritten::Text(moment.to_string()))),
        enabled: peer.enabled,
    }
}

/// Where the hub dials it: an address, which leads past the tunnel.
fn endpoint(
    context: &mut Context<'_>,
    hub: &Hub,
    peer: &Candidate<'_>,
    lans: &[(PublicKey, IpNet)],
) -> Option<SocketAddr> {
    let text = peer.found.endpoint.as_ref()?;
    let why = match text.parse::<SocketAddr>() {
        Ok(endpoint)
            if endpoint.port() == 0 || endpoint.ip().is_unspecified() || endpoint.ip().is_multicast() =>
        {
            "nobody can be dialled there".to_owned()
        }
        Ok(endpoint) => {
            let mut inside = hub.addresses.iter().copied().chain(lans.iter().map(|(_, lan)| *lan));
            match inside.find(|net| net.contains(&endpoint.ip())) {
                Some(net) => format!("it is inside of {}, which leads into the tunnel", net.trunc()),
                None => return Some(endpoint),
            }
        }
        Err(_) => {
            "the hub dials addresses only; if this peer does not dial the hub, write its address".to_owned()
        }
    };
    context.leave_out(
        &peer.found.place,
        format!("the endpoint `{}` of peer \"{}\"", shown(text), peer.name),
        why,
    );
    None
}

fn reported(peer: &Candidate<'_>, written: &PeerWritten, own_file: Vec<String>) -> report::Peer {
    report::Peer {
        name: peer.name.clone(),
        found_as: (peer.name != peer.found.name).then(|| shown(&peer.found.name)),
        public_key: peer.key,
        addresses: peer.claims.addresses.iter().map(ToString::to_string).collect(),
        lans: peer.claims.lans.iter().copied().collect(),
        enabled: written.enabled,
        expires: peer.expires.map(|moment| moment.to_string()),
        full_tunnel: written.full_tunnel,
        preshared_key: written.preshared_key_file.is_some(),
        own_file,
    }
}

/// What concerns all of them.
fn remarks(context: &mut Context<'_>, found: &Found, peers: &[Decided], masquerades: bool) {
    let unknown = found.peers.iter().filter(|peer| peer.client.allowed_ips.is_none());
    let unknown: HashSet<PublicKey> = unknown.filter_map(|peer| peer.public_key).collect();
    if masquerades && peers.iter().any(|peer| unknown.contains(&peer.report.public_key)) {
        let message = "which peers send everything through the hub stands in their own files; so that none of them loses \
                       the internet, all get `full_tunnel`";
        context.note(&found.hub.place, message);
    }
    if !peers.is_empty() && peers.iter().all(|peer| peer.report.lans.is_empty()) {
        let message = "no peer has a LAN; for a home, add `lans = [\"192.168.40.0/24\"]` to its [[peer]] with its own prefix";
        context.note(&found.hub.place, message);
    }
}
