//! relay.toml: the one file that says what the hub shall be, or the home that dials one.
//!
//! It passes through three types. [`Written`] is the file as written, unknown keys refused; `meaning` checks it and
//! resolves every default into a [`Desired`]; what is then still to change in the kernel is not this module's business.
//! [`edit`] and [`mod@file`] are how commands change the file without losing a comment or, in bad luck, the file.

pub mod allocate;
pub mod edit;
mod endpoint;
mod error;
pub mod file;
mod home;
mod home_range;
mod interface;
mod meaning;
mod metrics;
pub mod moment;
mod own;
mod peers;
pub mod prefix;
pub mod secret;
mod uplink;
mod written;

use std::{
    collections::BTreeMap,
    net::SocketAddr,
    path::{Path, PathBuf},
};

use ipnet::IpNet;

pub use self::{
    endpoint::{EndpointError, host_and_port},
    error::{ConfigError, ConfigErrors, Warning},
    home_range::common_home_range,
    own::resolver,
    written::{
        DEFAULT_INTERFACE, DEFAULT_LISTEN_PORT, DEFAULT_MTU, FirewallWritten, HomeWritten, HubWritten,
        InterfaceWritten, MetricsWritten, MomentWritten, PeerWritten, Written,
    },
};
use crate::{
    desired::{Desired, Peer, Role},
    key::PublicKey,
};

/// Where relay looks for its file when nobody says otherwise.
pub const DEFAULT_PATH: &str = "/etc/relay/relay.toml";

/// A network that the host is in by another interface than the tunnel: the interface's name, and the prefix.
pub type HostNetwork = (String, IpNet);

/// A file that was read, understood and accepted.
#[derive(Debug)]
pub struct Config {
    /// Where it came from.
    pub path: PathBuf,
    /// The file as written.
    pub written: Written,
    /// What it means.
    pub desired: Desired,
    /// Where Prometheus may ask over TCP, if anywhere.
    pub metrics: Option<SocketAddr>,
    /// The peers with `enabled = false`: they keep their names, keys and addresses, and are not configured.
    pub disabled: BTreeMap<PublicKey, Peer>,
    /// What is allowed and yet unwise.
    pub warnings: Vec<Warning>,
}

impl Config {
    /// What works, and yet will surprise somebody: told when it is new, not each time as `warnings` are.
    #[must_use]
    pub fn advice(&self) -> Vec<Warning> {
        let lans = match &self.desired.role {
            Role::Hub(_) => self.desired.peers.values().flat_map(|peer| &peer.lans).collect(),
            Role::Home(home) => Vec::from_iter(&home.lans),
        };
        lans.into_iter().filter_map(common_home_range).collect()
    }

    /// The peers' names in the order of the file.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.written.peers.iter().map(|peer| peer.get_ref().name.get_ref().as_str())
    }

    /// The peer of this name, enabled or not, with its key; the flag says whether it is enabled.
    #[must_use]
    pub fn peer(&self, name: &str) -> Option<(&PublicKey, &Peer, bool)> {
        let of = |peers: &'_ BTreeMap<PublicKey, Peer>| {
            peers.iter().find(|(_, peer)| peer.name.as_str() == name).map(|(key, _)| *key)
        };
        if let Some(key) = of(&self.desired.peers) {
            return self.desired.peers.get_key_value(&key).map(|(key, peer)| (key, peer, true));
        }
        let key = of(&self.disabled)?;
        self.disabled.get_key_value(&key).map(|(key, peer)| (key, peer, false))
    }
}

/// Why there is no configuration.
#[derive(Debug, thiserror::Error)]
pub enum LoadError {
    /// The file cannot be read at all.
    #[error("cannot read the configuration {}", path.display())]
    Read {
        /// Which file.
        path: PathBuf,
        /// Why.
        #[source]
        source: std::io::Error,
    },
    /// It can, and is refused.
    #[error(transparent)]
    Invalid(#[from] ConfigErrors),
}

impl LoadError {
    /// What the reader can do about it, where that is known. Refused content carries its hints line by line.
    #[must_use]
    pub fn hint(&self) -> Option<&'static str> {
        match self {
            Self::Read { source, .. } => match source.kind() {
                std::io::ErrorKind::NotFound => Some("`relay init` makes one; `--config PATH` names another"),
                std::io::ErrorKind::PermissionDenied => Some("run this as root"),
                _ => None,
            },
            Self::Invalid(_) => None,
        }
    }
}

/// Reads and checks the file at `path` and the key files it names.
///
/// `host_networks` are the networks that the host is connected to; those of the tunnel's own interface are ignored, as
/// are default routes.
///
/// # Errors
/// The file cannot be read, or something in it is refused: then all that is wrong is named, not only the first.
pub fn load(path: &Path, host_networks: &[HostNetwork]) -> Result<Config, LoadError> {
    let text =
        std::fs::read_to_string(path).map_err(|source| LoadError::Read { path: path.to_owned(), source })?;
    Ok(parse(path, &text, host_networks)?)
}

/// As [`load`], with `text` in place of what the file contains, so that an edit can be judged before it is saved.
/// Key files are read relative to the folder of `path`.
///
/// # Errors
/// Something in it is refused.
pub fn parse(path: &Path, text: &str, host_networks: &[HostNetwork]) -> Result<Config, ConfigErrors> {
    parse_with(path, text, host_networks, &secret::read)
}

/// As [`parse`], with key files read by `read`: for a file whose key is not on disk yet.
///
/// # Errors
/// Something in it is refused.
pub fn parse_with(
    path: &Path,
    text: &str,
    host_networks: &[HostNetwork],
    read: &dyn Fn(&Path) -> std::io::Result<secret::Secret>,
) -> Result<Config, ConfigErrors> {
    let written = Written::parse(path, text)?;
    meaning::mean(path, text, written, host_networks, read)
}

#[cfg(test)]
mod tests;
