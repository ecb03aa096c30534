//! The file as written: its keys, and where in the text each value stands.
//!
//! Values that people type as text stay text here; [`super::meaning`] reads them, so that one run names everything
//! that is wrong with them.

use std::path::Path;

use serde::{Deserialize, Serialize};
use serde_spanned::Spanned;

use super::error::{ConfigErrors, Problems};
use crate::desired::{BackendChoice, FastPathMode, UplinkMode};

/// The tunnel's interface unless the file names another.
pub const DEFAULT_INTERFACE: &str = "wg0";

/// WireGuard's customary port.
pub const DEFAULT_LISTEN_PORT: u16 = 51820;

/// What wg-quick takes for a path of 1,500 bytes: 80 less, the cost of WireGuard over IPv6.
pub const DEFAULT_MTU: u32 = 1420;

/// relay.toml.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Written {
    /// `[interface]`.
    pub interface: Spanned<InterfaceWritten>,
    /// `[hub]`: the file is a home's, and this is whom it dials.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub hub: Option<Spanned<HubWritten>>,
    /// `[home]`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub home: Option<Spanned<HomeWritten>>,
    /// `[firewall]`.
    #[serde(default, skip_serializing_if = "is_default")]
    pub firewall: FirewallWritten,
    /// `[metrics]`.
    #[serde(default, skip_serializing_if = "is_default")]
    pub metrics: MetricsWritten,
    /// `[uplink]`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub uplink: Option<Spanned<UplinkWritten>>,
    /// `[[peer]]`, each.
    #[serde(default, rename = "peer", skip_serializing_if = "Vec::is_empty")]
    pub peers: Vec<Spanned<PeerWritten>>,
}

/// `[interface]`: the hub.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct InterfaceWritten {
    /// [`DEFAULT_INTERFACE`] unless given.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<Spanned<String>>,
    /// [`DEFAULT_LISTEN_PORT`] unless given.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub listen_port: Option<Spanned<i64>>,
    /// The hub's addresses with the length of their subnet's prefix.
    pub addresses: Spanned<Vec<Spanned<String>>>,
    /// `<name>.key` beside the file unless given.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub private_key_file: Option<Spanned<String>>,
    /// What peers dial.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub endpoint: Option<Spanned<String>>,
    /// [`DEFAULT_MTU`] unless given.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub mtu: Option<Spanned<i64>>,
    /// `auto` unless given.
    #[serde(default, skip_serializing_if = "is_default")]
    pub backend: BackendChoice,
    /// `auto` unless given.
    #[serde(default, skip_serializing_if = "is_default")]
    pub fast_path: FastPathMode,
}

/// `[hub]`: whom a home dials.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct HubWritten {
    /// Base64.
    pub public_key: Spanned<String>,
    /// Where it is dialled; a name is looked up again when the hub falls silent.
    pub endpoint: Spanned<String>,
    /// What goes through the tunnel: its subnets, and other homes' LANs that shall be reached from here.
    pub allowed: Spanned<Vec<Spanned<String>>>,
    /// Seconds; 0 for none; 25 unless given.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub keepalive: Option<Spanned<i64>>,
    /// A file with a preshared key.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub preshared_key_file: Option<Spanned<String>>,
}

/// `[home]`: what is behind a home.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct HomeWritten {
    /// The networks that the tunnel reaches through this machine.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub lans: Vec<Spanned<String>>,
    /// Whether the LANs see this machine's address in place of the peers'.
    #[serde(default = "yes", skip_serializing_if = "is_yes")]
    pub nat: bool,
}

/// `[firewall]`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct FirewallWritten {
    /// Whether relay itself opens what the host's firewall closes.
    #[serde(default, skip_serializing_if = "is_default")]
    pub manage: bool,
    /// Interfaces and prefixes that may open connections into the tunnel.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub allow_from: Vec<Spanned<String>>,
}

/// `[metrics]`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct MetricsWritten {
    /// `ADDRESS:PORT`, or a port alone for loopback; no TCP listener unless given.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub listen: Option<Spanned<String>>,
}

/// `[uplink]`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct UplinkWritten {
    /// The one with the default route unless given.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub interface: Option<Spanned<String>>,
    /// `native` unless given.
    #[serde(default, skip_serializing_if = "is_default")]
    pub mode: UplinkMode,
    /// Prefixes from which nothing gets to the listen port.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub deny: Vec<Spanned<String>>,
    /// Prefixes from which handshakes are not limited.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub allow: Vec<Spanned<String>>,
}

/// `[[peer]]`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PeerWritten {
    /// Unique in the file.
    pub name: Spanned<String>,
    /// Base64, unique in the file.
    pub public_key: Spanned<String>,
    /// Its addresses in the tunnel.
    pub addresses: Spanned<Vec<Spanned<String>>>,
    /// The networks behind it.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub lans: Vec<Spanned<String>>,
    /// Seconds; 0 for none; 25 for a peer with LANs unless given.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub keepalive: Option<Spanned<i64>>,
    /// A file with a preshared key.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub preshared_key_file: Option<Spanned<String>>,
    /// Where the hub dials this peer, for peers with a public address.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub endpoint: Option<Spanned<String>>,
    /// The largest packet that the peer's own configuration allows in the tunnel; the interface's unless given.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub mtu: Option<Spanned<i64>>,
    /// Resolvers and search domains for the peer's own configuration.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub dns: Vec<Spanned<String>>,
    /// Whether it sends everything through the hub, the internet included.
    #[serde(default, skip_serializing_if = "is_default")]
    pub full_tunnel: bool,
    /// When it stops to take part: a moment or a date, as text or as TOML's own.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub expires: Option<Spanned<MomentWritten>>,
    /// Whether it takes part.
    #[serde(default = "yes", skip_serializing_if = "is_yes")]
    pub enabled: bool,
}

/// A moment as people write it: `"2026-12-24T18:00:00Z"`, or the same without quotes, which TOML knows too.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(untagged, expecting = "expected a moment such as \"2026-12-24T18:00:00Z\"")]
pub enum MomentWritten {
    /// In quotes.
    Text(String),
    /// TOML's own form.
    Toml(toml_edit::Datetime),
}

impl std::fmt::Display for MomentWritten {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Text(text) => f.write_str(text),
            Self::Toml(moment) => moment.fmt(f),
        }
    }
}

impl Written {
    /// Reads the keys of `text`; `file` is for the errors.
    ///
    /// # Errors
    /// The text is no TOML, or a key is unknown, missing or of the wrong type.
    pub fn parse(file: &Path, text: &str) -> Result<Self, ConfigErrors> {
        toml::from_str(text).map_err(|error| {
            let mut problems = Problems::new(file, text);
            let span = error.span().unwrap_or_default();
            // `message` alone: the whole error would quote the line, which may hold a key that belongs in a file.
            let message = without_value(&error.message().lines().collect::<Vec<_>>().join(": "));
            match remedy(&message) {
                Some(hint) => problems.refuse_with_hint(span, message, hint),
                None => problems.refuse(span, message),
            }
            problems.finish::<()>(None).expect_err("one was refused")
        })
    }

    /// The text of a file that says this.
    ///
    /// # Errors
    /// None that is known: every value here has a form in TOML.
    pub fn to_toml(&self) -> Result<String, toml_edit::ser::Error> {
        toml_edit::ser::to_string_pretty(self)
    }
}

/// The message without the text that was found in place of a number or a list: it may be a key in the wrong place.
fn without_value(message: &str) -> String {
    match (message.split_once("string \""), message.rsplit_once("\", expected")) {
        (Some((before, _)), Some((_, after))) => format!("{before}string, expected{after}"),
        _ => message.to_owned(),
    }
}

/// Keys that people who know wg-quick try, and where the thing is written here.
fn remedy(message: &str) -> Option<&'static str> {
    let key = message.strip_prefix("unknown field `")?.split('`').next()?;
    Some(match key.to_ascii_lowercase().replace('_', "").as_str() {
        "privatekey" => "keep the private key in a file of mode 0600 and name it: `private_key_file`",
        "presharedkey" => "keep the preshared key in a file of mode 0600 and name it: `preshared_key_file`",
        "allowedips" => "write a peer's own addresses as `addresses` and the networks behind it as `lans`",
        "address" => "it is a list: `addresses = [\"10.9.0.1/24\"]`",
        "lan" => "it is a list: `lans = [\"192.168.40.0/24\"]`",
        "port" | "listenport" => "it is `listen_port`",
        "expiry" | "expiresat" => "it is `expires`, a moment such as \"2026-12-24T18:00:00Z\"",
        "persistentkeepalive" => "it is `keepalive`, in seconds",
        "publickey" => "it is `public_key`",
        "peers" => "each peer is a table of its own under `[[peer]]`",
        _ => return None,
    })
}

fn yes() -> bool {
    true
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde passes the field by reference")]
fn is_yes(value: &bool) -> bool {
    *value
}

fn is_default<T: Default + PartialEq>(value: &T) -> bool {
    *value == T::default()
}
