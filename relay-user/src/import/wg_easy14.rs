//! wg-easy 14: wg0.json, and wg0.conf beside it, which alone knows the port and the hooks.
//!
//! Tolerant of what older releases, the never-released master and forks write: missing ids, private keys and preshared
//! keys, `expiredAt`, `allowedIPs`, and LANs that people put into `address` because the template let them.

use std::{fmt, path::Path};

use ipnet::{IpNet, Ipv4Net};
use serde::{
    Deserialize, Deserializer,
    de::{MapAccess, Visitor},
};

use super::{
    found::{Format, Found, FoundHub, FoundPeer, Hook, Place},
    json_field::Field,
    sentence::shown,
    wg_quick::{self, list, net},
};

/// The subnet's length, which wg-easy 14 has in its source.
const PREFIX_LENGTH: u8 = 24;

/// wg-easy 14 writes wg0 and nothing else.
const INTERFACE: &str = "wg0";

/// `server` and `clients`; whatever else there is belongs to a fork.
#[derive(Deserialize)]
struct Document {
    #[serde(default)]
    server: Option<Server>,
    #[serde(default)]
    clients: Clients,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Server {
    #[serde(default)]
    private_key: Field,
    #[serde(default)]
    public_key: Field,
    #[serde(default)]
    address: Field,
}

/// A client. Its private key is skipped, not read.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Client {
    #[serde(default)]
    name: Field,
    #[serde(default)]
    address: Field,
    #[serde(default)]
    public_key: Field,
    #[serde(default)]
    pre_shared_key: Field,
    #[serde(default)]
    enabled: Field,
    #[serde(default)]
    expired_at: Field,
    #[serde(default, rename = "allowedIPs")]
    allowed_ips: Field,
    #[serde(default, rename = "allowedGWIPs")]
    allowed_gateway_ips: Field,
}

/// In the order of the file.
#[derive(Default)]
struct Clients(Vec<(String, Client)>);

impl<'de> Deserialize<'de> for Clients {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Object;
        impl<'de> Visitor<'de> for Object {
            type Value = Clients;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an object of clients")
            }

            fn visit_unit<E>(self) -> Result<Clients, E> {
                Ok(Clients::default())
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Clients, A::Error> {
                let mut clients = Vec::new();
                while let Some(entry) = map.next_entry()? {
                    clients.push(entry);
                }
                Ok(Clients(clients))
            }
        }
        deserializer.deserialize_any(Object)
    }
}

/// Reads the text of wg0.json, and that of the wg0.conf beside it where there is one.
#[must_use]
pub fn parse(file: &Path, text: &str, conf: Option<(&Path, &str)>) -> Found {
    let hub = FoundHub::new(Place::named(file, "server"), INTERFACE.to_owned());
    let mut found = Found::new(Format::WgEasy14, vec![file.to_owned()], hub);
    match serde_json::from_str::<Document>(text.trim_start_matches('\u{feff}')) {
        Ok(document) => {
            server(&mut found, file, document.server.as_ref());
            for (id, client) in &document.clients.0 {
                let place = Place::named(file, format!("clients.{}", shown(id)));
                let peer = peer(&mut found, place, client);
                found.peers.push(peer);
            }
        }
        Err(error) => {
            // The rest of serde's words may repeat a value.
            let message = match error.classify() {
                serde_json::error::Category::Eof => "the file ends too early",
                serde_json::error::Category::Data => "this is not what wg-easy writes",
                _ => "this is not JSON",
            };
            found.obstacle(&Place::line(file, error.line().max(1), error.column().max(1)), message);
        }
    }
    match conf {
        Some((path, text)) => beside(&mut found, path, text),
        None => {
            let message =
                "no wg0.conf beside it, so the port is taken for 51820 and the hooks for wg-easy's own";
            found.note(&Place::whole(file), message);
        }
    }
    found
}

fn server(found: &mut Found, file: &Path, server: Option<&Server>) {
    let place = found.hub.place.clone();
    let Some(server) = server else {
        return found.obstacle(&Place::whole(file), "there is no `server`: this is not wg-easy's wg0.json");
    };
    match server.private_key.text().map(str::parse) {
        Some(Ok(key)) => found.hub.private_key = Some(key),
        Some(Err(error)) => found.obstacle(&place, format!("privateKey: {error}")),
        None => found.obstacle(&place, "the hub's privateKey is missing; clients know the hub by it"),
    }
    if let (Some(private), Some(public)) = (&found.hub.private_key, server.public_key.text())
        && public.parse() != Ok(private.public_key())
    {
        let message = "publicKey does not belong to privateKey; clients that know that one would not connect";
        found.note(&place, message);
    }
    match server.address.text().map(net) {
        // The length is in wg-easy's source, whatever stands here.
        Some(Some(IpNet::V4(address))) => {
            let net = Ipv4Net::new_assert(address.addr(), PREFIX_LENGTH);
            found.hub.addresses.push(IpNet::V4(net));
        }
        _ => found.obstacle(&place, "address is not an IPv4 address, so the tunnel's subnet is unknown"),
    }
}

fn peer(found: &mut Found, place: Place, client: &Client) -> FoundPeer {
    let mut peer = FoundPeer::new(place.clone());
    for (key, field) in [("name", &client.name), ("address", &client.address)] {
        if field.is_no_text() {
            found.note(&place, format!("{key} is no text; left out"));
        }
    }
    peer.name = client.name.text().unwrap_or_default().to_owned();
    match client.public_key.text().map(str::parse) {
        Some(Ok(key)) => peer.public_key = Some(key),
        Some(Err(error)) => found.note(&place, format!("publicKey: {error}")),
        None => {}
    }
    match client.pre_shared_key.text().filter(|text| !text.is_empty()).map(str::parse) {
        Some(Ok(key)) => peer.preshared_key = Some(key),
        Some(Err(error)) => {
            found.note(&place, format!("preSharedKey: {error}; the client is imported without one"));
        }
        None => {}
    }
    prefixes(found, &mut peer, "address", client.address.text().unwrap_or_default());
    for (key, field) in [("allowedIPs", &client.allowed_ips), ("allowedGWIPs", &client.allowed_gateway_ips)] {
        match field {
            Field::Text(text) => prefixes(found, &mut peer, key, text),
            Field::List(texts) => texts.iter().for_each(|text| prefixes(found, &mut peer, key, text)),
            _ => {}
        }
    }
    // wg-easy asks for truth, and old files may lack it.
    peer.enabled = !matches!(client.enabled, Field::Bool(false));
    if let Some(expires) = client.expired_at.text().filter(|text| !text.is_empty()) {
        peer.expires = Some(expires.to_owned());
    }
    peer
}

fn prefixes(found: &mut Found, peer: &mut FoundPeer, key: &str, text: &str) {
    for text in list(text) {
        match net(text) {
            Some(net) if peer.allowed.contains(&net) => {}
            Some(net) => peer.allowed.push(net),
            None => {
                found.note(
                    &peer.place.clone(),
                    format!("{key}: `{}` is not an address; left out", shown(text)),
                );
            }
        }
    }
}

/// The port, the MTU and the hooks; clients stand in wg0.json, which knows the disabled ones too.
fn beside(found: &mut Found, path: &Path, text: &str) {
    found.files.push(path.to_owned());
    let conf = wg_quick::parse(path, text, INTERFACE);
    found.hub.listen_port = conf.hub.listen_port;
    found.hub.mtu = conf.hub.mtu;
    if conf.hub.private_key.is_some() && conf.hub.private_key != found.hub.private_key {
        let message = "PrivateKey is another than that of wg0.json, which is taken";
        found.note(&conf.hub.place, message);
    }
    found.notes.extend(conf.notes);
    // Its own client peers are those of wg0.json; what speaks against the interface speaks against both.
    found.obstacles.extend(conf.obstacles);
    let strangers = conf.peers.iter().filter(|peer| {
        peer.public_key.is_some() && !found.peers.iter().any(|known| known.public_key == peer.public_key)
    });
    let notes: Vec<_> = strangers.map(|peer| peer.place.clone()).collect();
    for place in notes {
        found.note(&place, "this peer is not in wg0.json, so wg-easy will drop it, and it is not imported");
    }
    let hooks: Vec<Hook> = conf.hooks.unwrap_or_default();
    found.hooks = Some(hooks);
}
