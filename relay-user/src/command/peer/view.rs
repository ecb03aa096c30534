//! What `relay peer list` and `relay peer show` print.

use std::{collections::HashMap, fmt::Write as _};

use anyhow::Result;
use jiff::Timestamp;
use serde::Serialize;
use zeroize::Zeroizing;

use super::{
    no_such_peer,
    pending::{Invitations, Pending},
};
use crate::{
    command::{print, print_json},
    config::Config,
    desired::Peer,
    key::PublicKey,
    peer_config::wg_quick,
    table::columns,
};

/// A peer as the file has it, secrets left out. The names are a promise to scripts.
#[derive(Serialize)]
pub(super) struct PeerView<'a> {
    name: &'a str,
    /// Null for one that is invited and has not answered.
    public_key: Option<&'a PublicKey>,
    addresses: Vec<String>,
    lans: Vec<String>,
    /// Seconds, null for none.
    keepalive: Option<u16>,
    /// Where the hub dials it, null where it dials the hub.
    endpoint: Option<String>,
    /// Whether it has a preshared key.
    preshared_key: bool,
    /// Bytes, null for the hub's.
    mtu: Option<u32>,
    dns: Vec<String>,
    full_tunnel: bool,
    enabled: bool,
    /// RFC 3339, null for never.
    expires: Option<String>,
    /// Whether that moment has come.
    expired: bool,
    /// RFC 3339, until when an invitation may be answered; null for a peer.
    invited_until: Option<&'a str>,
    /// The wg-quick configuration, where it was asked for.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[serde(serialize_with = "as_text")]
    pub(super) configuration: Option<Zeroizing<String>>,
}

fn as_text<S: serde::Serializer>(text: &Option<Zeroizing<String>>, serializer: S) -> Result<S::Ok, S::Error> {
    text.as_ref().map(|text| text.as_str()).serialize(serializer)
}

impl<'a> PeerView<'a> {
    /// Of a peer as [`Config::peer`] finds it.
    pub(super) fn new((public_key, peer, enabled): (&'a PublicKey, &'a Peer, bool)) -> Self {
        Self {
            name: peer.name.as_str(),
            public_key: Some(public_key),
            addresses: peer.addresses.iter().map(ToString::to_string).collect(),
            lans: peer.lans.iter().map(ToString::to_string).collect(),
            keepalive: peer.keepalive,
            endpoint: peer.endpoint.map(|endpoint| endpoint.to_string()),
            preshared_key: peer.preshared_key.is_some(),
            mtu: peer.mtu,
            dns: peer.dns.iter().map(ToString::to_string).collect(),
            full_tunnel: peer.full_tunnel,
            enabled,
            expires: peer.expires.map(|moment| moment.to_string()),
            expired: peer.has_expired(Timestamp::now()),
            invited_until: None,
            configuration: None,
        }
    }

    /// Of one that is invited.
    fn invited(pending: &'a Pending) -> Self {
        Self {
            name: pending.name.as_str(),
            public_key: None,
            addresses: pending.addresses.iter().map(ToString::to_string).collect(),
            lans: pending.lans.iter().map(ToString::to_string).collect(),
            keepalive: None,
            endpoint: None,
            preshared_key: false,
            mtu: None,
            dns: Vec::new(),
            full_tunnel: false,
            enabled: false,
            expires: None,
            expired: false,
            invited_until: Some(&pending.expires),
            configuration: None,
        }
    }

    /// Whether it takes part, in a word.
    fn state(&self) -> &'static str {
        match (self.enabled, self.expired) {
            _ if self.invited_until.is_some() => "invited",
            (false, _) => "disabled",
            (true, true) => "expired",
            (true, false) => "enabled",
        }
    }
}

/// All peers in the order of the file, then those that are invited.
pub(super) fn list(config: &Config, invitations: &Invitations, json: bool) -> Result<()> {
    let of = |enabled| {
        let peers = if enabled { &config.desired.peers } else { &config.disabled };
        peers.iter().map(move |(key, peer)| (peer.name.as_str(), (key, peer, enabled)))
    };
    let by_name: HashMap<&str, _> = of(true).chain(of(false)).collect();
    let peers = config.names().filter_map(|name| by_name.get(name)).map(|&peer| PeerView::new(peer));
    let peers: Vec<PeerView<'_>> =
        peers.chain(invitations.open(Timestamp::now()).map(PeerView::invited)).collect();
    if json {
        return print_json(&peers);
    }
    if peers.is_empty() {
        eprintln!("no peers yet; `relay peer add NAME` adds one");
        return Ok(());
    }
    let header = ["NAME", "ADDRESSES", "LANS", "STATE", "EXPIRES", "PUBLIC KEY"].map(str::to_owned).to_vec();
    let rows = peers.iter().map(|peer| {
        vec![
            peer.name.to_owned(),
            peer.addresses.join(","),
            if peer.lans.is_empty() { "-".to_owned() } else { peer.lans.join(",") },
            peer.state().to_owned(),
            peer.invited_until.or(peer.expires.as_deref()).unwrap_or("never").to_owned(),
            peer.public_key.map_or_else(|| "-".to_owned(), ToString::to_string),
        ]
    });
    print(&columns(&std::iter::once(header).chain(rows).collect::<Vec<_>>(), &[]))
}

/// One peer; as comments and a configuration, so that the whole is what wg-quick reads.
pub(super) fn show(config: &Config, name: &str, endpoint: Option<&str>, json: bool) -> Result<()> {
    let found = config.peer(name).ok_or_else(|| no_such_peer(name))?;
    let (key, peer, _) = found;
    let configuration = wg_quick(&config.desired, endpoint, key, peer, None);
    let mut view = PeerView::new(found);
    if json {
        view.configuration = Some(configuration);
        return print_json(&view);
    }
    let keepalive = view.keepalive.map_or("off".to_owned(), |seconds| format!("every {seconds} s"));
    let or_none = |list: &[String]| if list.is_empty() { "none".to_owned() } else { list.join(", ") };
    let mut text = String::new();
    for (what, value) in [
        ("public key", key.to_string()),
        ("addresses", view.addresses.join(", ")),
        ("LANs", or_none(&view.lans)),
        ("keepalive", keepalive),
        ("dialled at", view.endpoint.clone().unwrap_or_else(|| "nowhere, it dials the hub".to_owned())),
        ("preshared key", if view.preshared_key { "yes" } else { "no" }.to_owned()),
        ("full tunnel", if view.full_tunnel { "yes" } else { "no" }.to_owned()),
        ("state", view.state().to_owned()),
        ("expires", view.expires.clone().unwrap_or_else(|| "never".to_owned())),
    ] {
        let _ = writeln!(text, "# {what}: {value}");
    }
    print(&format!("{text}\n{}", configuration.as_str()))
}
