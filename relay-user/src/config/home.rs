//! `[hub]` and `[home]`: a file with them is a home's, and what only a hub has is refused in it.

use std::{
    collections::{BTreeMap, BTreeSet},
    ops::Range,
    path::PathBuf,
};

use ipnet::IpNet;
use serde_spanned::Spanned;

use super::{
    endpoint::host_and_port,
    meaning::{Context, Hub, key_file},
    prefix::{overlap, reserved},
    written::{DEFAULT_LISTEN_PORT, HomeWritten, HubWritten, Written},
};
use crate::{
    desired::{FastPathMode, Home, Peer},
    key::PublicKey,
};

/// What the hub is called where names are shown.
const NAME: &str = "hub";

/// Often enough for the shortest UDP timeout that carrier-grade NATs are known for (WireGuard's own advice).
const KEEPALIVE: u16 = 25;

/// Whether the file is a home's: it has both tables, of which one alone is refused.
pub(super) fn tables<'a>(
    context: &mut Context<'_>,
    written: &'a Written,
) -> Option<(&'a Spanned<HubWritten>, &'a Spanned<HomeWritten>)> {
    match (&written.hub, &written.home) {
        (Some(hub), Some(home)) => Some((hub, home)),
        (Some(hub), None) => {
            let message = "[hub] makes this the file of a home, and there is no [home]";
            context.problems.refuse_with_hint(hub.span(), message, "add `[home]` with `lans = […]`");
            None
        }
        (None, Some(home)) => {
            let message = "[home] makes this the file of a home, and there is no [hub] that it dials";
            let hint = "`relay join` writes both, from what `relay peer invite` prints on the hub";
            context.problems.refuse_with_hint(home.span(), message, hint);
            None
        }
        (None, None) => None,
    }
}

/// The hub as a peer, and what a home has besides.
pub(super) fn mean(
    context: &mut Context<'_>,
    own: &Hub,
    written: &Written,
    (hub, home): (&Spanned<HubWritten>, &Spanned<HomeWritten>),
) -> Option<(BTreeMap<PublicKey, Peer>, Home)> {
    only_a_hub_has(context, written);
    let (hub, home) = (hub.get_ref(), home.get_ref());
    let key = public_key(context, own, hub);
    let lans = lans(context, own, &home.lans);
    let allowed = allowed(context, &hub.allowed, &lans);
    let endpoint = endpoint(context, hub, &allowed);
    let keepalive = keepalive(context, hub);
    let preshared_key = hub.preshared_key_file.as_ref().and_then(|file| {
        let path = PathBuf::from(file.get_ref());
        key_file(context, &path, file.span(), "preshared_key_file", "it is the hub's, for this peer")
    });
    let set = |list: Vec<(IpNet, Range<usize>)>| list.into_iter().map(|(net, _)| net).collect();
    let peer = Peer {
        name: NAME.parse().ok()?,
        preshared_key,
        addresses: BTreeSet::new(),
        lans: set(allowed),
        endpoint: None,
        keepalive,
        mtu: None,
        dns: Vec::new(),
        full_tunnel: false,
        expires: None,
    };
    let home = Home { hub: key?, endpoint: endpoint?, lans: set(lans), nat: home.nat };
    Some((BTreeMap::from([(home.hub, peer)]), home))
}

fn only_a_hub_has(context: &mut Context<'_>, written: &Written) {
    let interface = written.interface.get_ref();
    let keys = [
        ("listen_port", interface.listen_port.as_ref().map(Spanned::span)),
        ("endpoint", interface.endpoint.as_ref().map(Spanned::span)),
        ("fast_path", (interface.fast_path != FastPathMode::Auto).then(|| written.interface.span())),
    ];
    for (key, span) in keys {
        if let Some(span) = span {
            let message =
                format!("{key} under [interface] is a hub's, and [hub] makes this the file of a home");
            context.problems.refuse_with_hint(
                span,
                message,
                "leave it out: a home dials, and nobody dials it",
            );
        }
    }
    if let Some(uplink) = &written.uplink {
        let message = "[uplink] is a hub's, and [hub] makes this the file of a home";
        context.problems.refuse_with_hint(uplink.span(), message, "leave it out: nobody dials a home");
    }
    if let Some(peer) = written.peers.first() {
        let message = "[[peer]] is a hub's, and [hub] makes this the file of a home";
        context.problems.refuse_with_hint(peer.span(), message, "add peers on the hub: `relay peer add`");
    }
}

fn public_key(context: &mut Context<'_>, own: &Hub, hub: &HubWritten) -> Option<PublicKey> {
    let key: PublicKey = match hub.public_key.get_ref().parse() {
        Ok(key) => key,
        Err(error) => {
            context.problems.refuse(hub.public_key.span(), format!("public_key of the hub: {error}"));
            return None;
        }
    };
    if own.private_key.as_ref().is_some_and(|own| own.public_key() == key) {
        let hint = "`relay status` on the hub shows the hub's";
        context.problems.refuse_with_hint(
            hub.public_key.span(),
            "the hub's public_key is this machine's own",
            hint,
        );
    }
    Some(key)
}

fn endpoint(
    context: &mut Context<'_>,
    hub: &HubWritten,
    allowed: &[(IpNet, Range<usize>)],
) -> Option<String> {
    let span = hub.endpoint.span();
    let endpoint = match host_and_port(hub.endpoint.get_ref(), DEFAULT_LISTEN_PORT) {
        Ok(endpoint) => endpoint,
        Err(error) => {
            let message = format!("endpoint of the hub: {error}");
            context.problems.refuse_with_hint(span, message, "write such as vps.example.net:51820");
            return None;
        }
    };
    let address = endpoint.parse::<std::net::SocketAddr>().ok().map(|address| address.ip());
    if let Some((net, at)) = allowed.iter().find(|(net, _)| address.is_some_and(|ip| net.contains(&ip))) {
        let line = context.problems.line(at);
        let message = format!("endpoint {endpoint} of the hub is inside of {net} (line {line})");
        let hint = format!("the tunnel cannot be dialled through itself: {net} leads into it");
        context.problems.refuse_with_hint(span, message, hint);
    }
    Some(endpoint)
}

fn keepalive(context: &mut Context<'_>, hub: &HubWritten) -> Option<u16> {
    let Some(written) = &hub.keepalive else { return Some(KEEPALIVE) };
    match u16::try_from(*written.get_ref()) {
        Ok(seconds) => (seconds != 0).then_some(seconds),
        Err(_) => {
            let message = format!("keepalive {} is not 0 to 65535 seconds", written.get_ref());
            context.problems.refuse(written.span(), message);
            None
        }
    }
}

/// The home's own networks, which are this machine's neighbours.
fn lans(context: &mut Context<'_>, own: &Hub, written: &[Spanned<String>]) -> Vec<(IpNet, Range<usize>)> {
    let mut lans = Vec::with_capacity(written.len());
    for entry in written {
        let Some(net) = network(context, entry, "LAN") else { continue };
        if let Some((address, at)) = own.addresses.iter().find(|(address, _)| overlap(*address, net)) {
            let line = context.problems.line(at);
            let message = format!("LAN {net} overlaps the tunnel's own {} (line {line})", address.trunc());
            context.problems.refuse_with_hint(entry.span(), message, "give the tunnel another subnet");
            continue;
        }
        lans.push((net, entry.span()));
    }
    lans
}

/// What goes through the tunnel, which must be none of this machine's neighbours.
fn allowed(
    context: &mut Context<'_>,
    written: &Spanned<Vec<Spanned<String>>>,
    lans: &[(IpNet, Range<usize>)],
) -> Vec<(IpNet, Range<usize>)> {
    if written.get_ref().is_empty() {
        let hint = "name the tunnel's subnets: `allowed = [\"10.9.0.0/24\"]`";
        context.problems.refuse_with_hint(written.span(), "nothing goes through the tunnel", hint);
    }
    let mut allowed = Vec::with_capacity(written.get_ref().len());
    for entry in written.get_ref() {
        let Some(net) = network(context, entry, "allowed") else { continue };
        if let Some((lan, at)) = lans.iter().find(|(lan, _)| overlap(*lan, net)) {
            let line = context.problems.line(at);
            let message = format!("allowed {net} overlaps the LAN {lan} (line {line})");
            context.problems.refuse_with_hint(entry.span(), message, "it is either here or there");
            continue;
        }
        if let Some((interface, host)) = context.host_networks.iter().find(|(_, host)| overlap(*host, net)) {
            let message = format!("allowed {net} overlaps {} of {interface} on this machine", host.trunc());
            let hint =
                "this machine could no longer reach its own neighbours: one of the two needs another range";
            context.problems.refuse_with_hint(entry.span(), message, hint);
            continue;
        }
        allowed.push((net, entry.span()));
    }
    allowed
}

fn network(context: &mut Context<'_>, entry: &Spanned<String>, what: &str) -> Option<IpNet> {
    let (text, span) = (entry.get_ref(), entry.span());
    let problems = &mut context.problems;
    let Ok(net) = text.parse::<IpNet>() else {
        let message = format!("{what} `{}` is not a network", text.escape_debug());
        problems.refuse_with_hint(span, message, "write such as 192.168.40.0/24");
        return None;
    };
    if net.prefix_len() == 0 {
        problems.refuse_with_hint(
            span,
            format!("{what} {net} is the whole internet"),
            "name the networks that are meant",
        );
        return None;
    }
    if net != net.trunc() {
        let message = format!("{what} {net} has host bits set");
        problems.refuse_with_hint(span, message, format!("the network is {}", net.trunc()));
        return None;
    }
    if let Some((range, why)) = reserved(net) {
        problems.refuse(span, format!("{what} {net} overlaps {range} ({why}), which is never routed"));
        return None;
    }
    Some(net)
}
