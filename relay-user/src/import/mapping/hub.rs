//! The hub: interface, addresses, port, key.

use std::net::IpAddr;

use ipnet::IpNet;

use super::{Context, KeyFile};
use crate::{
    config::{self, DEFAULT_INTERFACE, DEFAULT_LISTEN_PORT, prefix},
    import::{
        found::{Found, FoundHub},
        sentence::shown,
    },
    name::InterfaceName,
};

/// The hub as relay will have it.
pub(super) struct Hub {
    pub(super) interface: String,
    pub(super) addresses: Vec<IpNet>,
    pub(super) listen_port: u16,
    pub(super) mtu: Option<u32>,
    pub(super) endpoint: Option<String>,
    pub(super) key_file: String,
}

impl Hub {
    /// The subnet that an address is in.
    pub(super) fn subnet_of(&self, address: IpAddr) -> Option<IpNet> {
        self.addresses.iter().copied().find(|subnet| subnet.contains(&address))
    }
}

pub(super) fn decide(context: &mut Context<'_>, found: &Found) -> Hub {
    let hub = &found.hub;
    let interface = match hub.interface.parse::<InterfaceName>() {
        Ok(name) => name.to_string(),
        Err(error) => {
            context.note(&hub.place, format!("{error}; the interface will be {DEFAULT_INTERFACE}"));
            DEFAULT_INTERFACE.to_owned()
        }
    };
    let key_file = format!("{interface}.key");
    if let Some(key) = &hub.private_key {
        context.keys.push(KeyFile { name: key_file.clone(), key: key.expose_base64() });
    }
    let listen_port = hub.listen_port.unwrap_or_else(|| {
        let message = format!("the source names no port; {DEFAULT_LISTEN_PORT} is taken: clients that dial another would not get through");
        context.note(&hub.place, message);
        DEFAULT_LISTEN_PORT
    });
    let addresses = addresses(context, found);
    let endpoint = endpoint(context, hub, listen_port, &addresses);
    Hub { interface, addresses, listen_port, mtu: hub.mtu, endpoint, key_file }
}

fn addresses(context: &mut Context<'_>, found: &Found) -> Vec<IpNet> {
    let hub = &found.hub;
    let mut addresses: Vec<IpNet> = Vec::new();
    for &net in &hub.addresses {
        let net = widened(context, found, net);
        if let Some(other) = addresses.iter().find(|other| prefix::overlap(**other, net)) {
            let why = format!("it is in the subnet of {other}, and relay has one address in each");
            context.leave_out(&hub.place, format!("the hub's address {net}"), why);
        } else {
            addresses.push(net);
        }
    }
    if addresses.is_empty() && context.obstacles.is_empty() {
        context.obstacle(&hub.place, "the hub has no address, so the tunnel's subnet is unknown");
    }
    addresses
}

/// wg-quick is content with a hub's bare address, since each peer has a route of its own; relay gives a subnet's addresses.
fn widened(context: &mut Context<'_>, found: &Found, net: IpNet) -> IpNet {
    let length = if net.addr().is_ipv4() { 24 } else { 64 };
    if net.prefix_len() != net.max_prefix_len() {
        return net;
    }
    let Ok(wide) = IpNet::new(net.addr(), length) else { return net };
    let lone = |peer_net: &IpNet| peer_net.prefix_len() == peer_net.max_prefix_len();
    let peers = found.peers.iter().flat_map(|peer| &peer.allowed);
    if !peers.filter(|net| lone(net)).any(|net| wide.contains(&net.addr())) {
        return net;
    }
    let message =
        format!("the hub's address {net} becomes {wide}, the subnet that its peers' addresses are in");
    context.note(&found.hub.place, message);
    wide
}

fn endpoint(
    context: &mut Context<'_>,
    hub: &FoundHub,
    listen_port: u16,
    addresses: &[IpNet],
) -> Option<String> {
    let Some(text) = context.surroundings.endpoint.or(hub.endpoint.as_deref()) else {
        let message =
            "the source does not tell what peers dial; `endpoint` under [interface] will, for peers to come";
        context.note(&hub.place, message);
        return None;
    };
    let endpoint = config::host_and_port(text, listen_port).map_err(|error| error.to_string());
    let inside = |endpoint: &String| {
        let address = endpoint.parse::<std::net::SocketAddr>().ok()?.ip();
        addresses
            .iter()
            .find(|net| net.contains(&address))
            .map(|net| format!("it is inside of the tunnel's {net}"))
    };
    match endpoint.and_then(|endpoint| inside(&endpoint).map_or(Ok(endpoint), Err)) {
        Ok(endpoint) => Some(endpoint),
        Err(why) => {
            context.leave_out(&hub.place, format!("the endpoint `{}`", shown(text)), why);
            None
        }
    }
}
