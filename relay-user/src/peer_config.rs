//! The wg-quick configuration of a peer, complete: what a home server, a phone or a laptop needs to join.
//!
//! For a peer with LANs it also forwards into them, through hooks that stock wg-quick runs.

mod hooks;

use std::{collections::BTreeSet, fmt::Write as _, net::IpAddr};

use ipnet::IpNet;
use zeroize::Zeroizing;

use crate::{
    config::DEFAULT_LISTEN_PORT,
    desired::{Desired, Peer},
    key::{PrivateKey, PublicKey},
};

/// Bytes that no configuration is expected to exceed: growing a string leaves copies behind that nobody wipes.
const CAPACITY: usize = 16 * 1024;

/// Which secrets a text shows. A comment stands where another belongs.
#[derive(Clone, Copy, Debug)]
pub enum Secrets<'a> {
    /// None: the text may be shown.
    Hidden,
    /// The preshared key, if there is one; the private key is the peer's own affair.
    Preshared,
    /// This private key, and the preshared key.
    All(&'a PrivateKey),
}

/// The text of the peer's configuration file, with all its secrets if there is a private key, else with none.
///
/// `endpoint` is what it dials, `host:port`; where nobody knows, a comment asks for it.
#[must_use]
pub fn wg_quick(
    desired: &Desired,
    endpoint: Option<&str>,
    key: &PublicKey,
    peer: &Peer,
    private_key: Option<&PrivateKey>,
) -> Zeroizing<String> {
    wg_quick_with(desired, endpoint, key, peer, private_key.map_or(Secrets::Hidden, Secrets::All))
}

/// As [`wg_quick`], with just these secrets.
#[must_use]
pub fn wg_quick_with(
    desired: &Desired,
    endpoint: Option<&str>,
    key: &PublicKey,
    peer: &Peer,
    secrets: Secrets<'_>,
) -> Zeroizing<String> {
    let mut text = Zeroizing::new(String::with_capacity(CAPACITY));
    let private_key = match secrets {
        Secrets::All(private_key) => Some(private_key),
        _ => None,
    };
    interface(&mut text, desired, key, peer, private_key);
    text.push('\n');
    hub(&mut text, desired, endpoint, peer, !matches!(secrets, Secrets::Hidden));
    text
}

fn interface(
    text: &mut String,
    desired: &Desired,
    key: &PublicKey,
    peer: &Peer,
    private_key: Option<&PrivateKey>,
) {
    line(text, format_args!("# {}", peer.name));
    line(text, format_args!("[Interface]"));
    match private_key {
        Some(key) => line(text, format_args!("PrivateKey = {}", key.expose_base64().as_str())),
        None => line(text, format_args!("# PrivateKey = (the private key of {key})")),
    }
    line(text, format_args!("Address = {}", list(peer.addresses.iter().copied().map(IpNet::from))));
    line(text, format_args!("MTU = {}", peer.mtu.unwrap_or(desired.mtu)));
    if !peer.dns.is_empty() {
        line(text, format_args!("DNS = {}", list(&peer.dns)));
    }
    hooks::write(text, desired, peer);
}

fn hub(text: &mut String, desired: &Desired, endpoint: Option<&str>, peer: &Peer, secrets: bool) {
    line(text, format_args!("[Peer]"));
    line(text, format_args!("PublicKey = {}", desired.private_key.public_key()));
    match &peer.preshared_key {
        Some(key) if secrets => {
            line(text, format_args!("PresharedKey = {}", key.expose_base64().as_str()));
        }
        Some(_) => line(text, format_args!("# PresharedKey = (the key in this peer's preshared_key_file)")),
        None => {}
    }
    match endpoint {
        Some(endpoint) => line(text, format_args!("Endpoint = {endpoint}")),
        None => {
            let port = desired.listen_port().unwrap_or(DEFAULT_LISTEN_PORT);
            line(text, format_args!("# Endpoint = (the public address or name of the hub):{port}"));
        }
    }
    line(text, format_args!("AllowedIPs = {}", list(allowed_ips(desired, peer))));
    if !peer.lans.is_empty() && !peer.full_tunnel {
        let others: Vec<String> =
            other_lans(desired, peer).map(|(net, of)| format!("{net} ({of})")).collect();
        if !others.is_empty() {
            line(
                text,
                format_args!("# To reach other homes from here, add to AllowedIPs: {}", others.join(", ")),
            );
        }
    }
    if let Some(seconds) = peer.keepalive {
        line(text, format_args!("PersistentKeepalive = {seconds}"));
    }
}

/// The tunnel's subnets and, for a peer that is no home itself, the LANs of all homes.
///
/// Only of families that the peer has: on a system without IPv6, wg-quick gives up over an IPv6 route.
///
/// A full tunnel takes both families, whatever the peer has: what the tunnel does not carry shall not go past it.
fn allowed_ips(desired: &Desired, peer: &Peer) -> Vec<IpNet> {
    if peer.full_tunnel {
        return [IpAddr::from([0; 4]), IpAddr::from([0; 16])].map(everything).to_vec();
    }
    let has_family_of =
        |net: &IpNet| peer.allowed_ips().any(|own| own.addr().is_ipv4() == net.addr().is_ipv4());
    let subnets = desired.addresses.iter().map(IpNet::trunc);
    let lans = other_lans(desired, peer).map(|(net, _)| net).filter(|_| peer.lans.is_empty());
    let unique: BTreeSet<IpNet> = lans.collect();
    subnets.chain(unique).filter(has_family_of).collect()
}

/// The prefix of length 0 of the address's family.
fn everything(address: IpAddr) -> IpNet {
    IpNet::new(address, 0).expect("0 is a length of every family")
}

fn other_lans<'a>(desired: &'a Desired, peer: &'a Peer) -> impl Iterator<Item = (IpNet, &'a str)> {
    let others = desired.peers.values().filter(|other| other.name != peer.name);
    others.flat_map(|other| other.lans.iter().map(|lan| (*lan, other.name.as_str())))
}

fn list(values: impl IntoIterator<Item = impl ToString>) -> String {
    values.into_iter().map(|value| value.to_string()).collect::<Vec<_>>().join(", ")
}

/// Adds a line.
fn line(text: &mut String, content: std::fmt::Arguments<'_>) {
    // Writing to a string cannot fail.
    let _ = writeln!(text, "{content}");
}

#[cfg(test)]
mod tests;
