//! What the file on a peer's own machine should say, once the hub is relay. It connects without that too.

use ipnet::IpNet;

use super::{hub::Hub, peers::Candidate};
use crate::{import::found::Format, key::PublicKey};

/// What keeps the mapping of a home's NAT alive; what relay itself writes for a peer with LANs.
const KEEPALIVE: u16 = 25;

/// What the file of a home should say. Phones are content with what they have.
pub(super) fn changes(
    format: Format,
    hub: &Hub,
    peer: &Candidate<'_>,
    lans: &[(PublicKey, IpNet)],
    full_tunnel: bool,
) -> Vec<String> {
    if peer.claims.lans.is_empty() {
        return Vec::new();
    }
    let mut changes = Vec::new();
    let keepalive = peer.found.client.keepalive;
    if keepalive.is_none_or(|seconds| seconds == 0 || seconds > KEEPALIVE) && peer.found.endpoint.is_none() {
        let was = match (keepalive, format) {
            (Some(seconds), _) => format!(" instead of {seconds}"),
            (None, Format::WgEasy14) => " (wg-easy writes 0 unless told otherwise)".to_owned(),
            (None, _) => String::new(),
        };
        let why = "or the carrier's NAT forgets it, and nobody gets in until it speaks";
        changes.push(format!("PersistentKeepalive = {KEEPALIVE}{was}, {why}"));
    }
    if full_tunnel {
        let own = |net: &IpNet| {
            peer.claims.addresses.iter().any(|address| address.is_ipv4() == net.addr().is_ipv4())
        };
        let subnets = hub.addresses.iter().map(IpNet::trunc).filter(own);
        let others = lans.iter().filter(|(key, _)| *key != peer.key).map(|(_, lan)| *lan).filter(own);
        let nets: Vec<String> = subnets.chain(others).map(|net| net.to_string()).collect();
        let why =
            "a home needs the tunnel for its peers alone; then take `full_tunnel` from it in relay.toml";
        // Only wg-easy is known to write that; what a person wrote there is unknown.
        let where_so = if format == Format::WgQuick {
            ", where it says 0.0.0.0/0"
        } else {
            " instead of 0.0.0.0/0, ::/0"
        };
        changes.push(format!("AllowedIPs = {}{where_so}: {why}", nets.join(", ")));
    }
    let name = &peer.name;
    changes.push(format!(
        "forwarding and masquerading toward its LAN, if it has neither: `relay peer show \"{}\"` prints the lines",
        name.replace('\\', "\\\\").replace('"', "\\\"")
    ));
    changes
}
