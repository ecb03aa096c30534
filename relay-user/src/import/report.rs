//! What an import will do, what it cannot, and what people have to do themselves: the same for a screen and for scripts.

use std::path::PathBuf;

use ipnet::IpNet;
use serde::Serialize;

use super::found::{Format, Note, Place};
use crate::key::PublicKey;

/// Everything worth saying. No secret is in it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Report {
    /// What kind of source it was.
    pub format: Format,
    /// The files that were read.
    pub sources: Vec<PathBuf>,
    /// Why nothing can be imported; empty where it can.
    pub obstacles: Vec<Note>,
    /// The hub.
    pub hub: Hub,
    /// The peers that come along, in the order of the source.
    pub peers: Vec<Peer>,
    /// What cannot come along, by name.
    pub left_out: Vec<LeftOut>,
    /// What else there is to know.
    pub notes: Vec<Note>,
    /// The commands of the hooks, none of which is run.
    pub hooks: Vec<HookSaid>,
    /// The files that `--apply` writes.
    pub files: Vec<PathBuf>,
    /// The commands that stop the old hub and start the new one, in order.
    pub then: Vec<String>,
}

/// The hub as it will be.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Hub {
    /// The interface.
    pub interface: String,
    /// The key that clients know it by; null where the source has none.
    pub public_key: Option<PublicKey>,
    /// Its addresses.
    pub addresses: Vec<IpNet>,
    /// The UDP port.
    pub listen_port: u16,
    /// The MTU, null for relay's default.
    pub mtu: Option<u32>,
    /// What peers dial, null where the source does not say.
    pub endpoint: Option<String>,
}

/// A peer as it will be.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Peer {
    /// Its name in relay.toml.
    pub name: String,
    /// Its name in the source, where that cannot be kept.
    pub found_as: Option<String>,
    /// Its public key.
    pub public_key: PublicKey,
    /// Its addresses in the tunnel.
    pub addresses: Vec<String>,
    /// The networks behind it.
    pub lans: Vec<IpNet>,
    /// Whether it takes part.
    pub enabled: bool,
    /// When it expires.
    pub expires: Option<String>,
    /// Whether the hub gives it the internet.
    pub full_tunnel: bool,
    /// Whether it has a preshared key.
    pub preshared_key: bool,
    /// What its own file should change. It connects without that too.
    pub own_file: Vec<String>,
}

/// Something that relay refuses or does not know.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct LeftOut {
    /// Where it stands.
    pub place: Place,
    /// What: a peer, a prefix of one, an endpoint.
    pub what: String,
    /// Why.
    pub why: String,
}

/// A command of a hook.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct HookSaid {
    /// Where it stands.
    pub place: Place,
    /// `PreUp`, `PostUp`, `PreDown` or `PostDown`.
    pub when: &'static str,
    /// The command, keys in it left out.
    pub command: String,
    /// What it is for and who does that with relay.
    pub meaning: &'static str,
}
