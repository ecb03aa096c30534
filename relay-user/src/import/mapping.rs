//! From what was found to relay's configuration: pure, so that what `--apply` would write is what was shown.
//!
//! Nothing is lost without a word: what relay refuses is left out by name, and what would make a hub that its clients
//! cannot reach stops the import.

mod claims;
mod hub;
mod names;
mod own_file;
mod peers;

use std::{collections::HashMap, io, path::Path};

use serde_spanned::Spanned;
use zeroize::Zeroizing;

use super::{
    found::{Format, Found, Note, Place},
    hooks::{self, Meaning},
    report::{self, HookSaid, LeftOut, Report},
};
use crate::config::{
    self, DEFAULT_MTU, FirewallWritten, HostNetwork, InterfaceWritten, MetricsWritten, Written, edit,
    secret::Secret,
};

/// What decides besides the source.
pub struct Surroundings<'a> {
    /// Where relay.toml will be.
    pub config: &'a Path,
    /// The networks of this host.
    pub networks: &'a [HostNetwork],
    /// What peers dial, where somebody said so.
    pub endpoint: Option<&'a str>,
    /// The time.
    pub now: jiff::Timestamp,
}

/// What becomes of a source.
#[derive(Debug)]
pub struct Import {
    /// What to tell.
    pub report: Report,
    /// What to write; `None` where something stands in the way.
    pub files: Option<Files>,
}

/// What to write: the keys first, then the file that names them.
#[derive(Debug)]
pub struct Files {
    /// Names beside the configuration, and their keys.
    pub keys: Vec<KeyFile>,
    /// relay.toml.
    pub text: String,
}

/// A file with one key.
pub struct KeyFile {
    /// Its name, beside the configuration.
    pub name: String,
    /// The key in base64.
    pub key: Zeroizing<String>,
}

impl std::fmt::Debug for KeyFile {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "KeyFile({}, hidden)", self.name)
    }
}

/// Collects what is said along the way.
struct Context<'a> {
    surroundings: &'a Surroundings<'a>,
    notes: Vec<Note>,
    left_out: Vec<LeftOut>,
    obstacles: Vec<Note>,
    keys: Vec<KeyFile>,
}

impl Context<'_> {
    fn note(&mut self, place: &Place, message: impl Into<String>) {
        self.notes.push(Note { place: place.clone(), message: message.into() });
    }

    fn obstacle(&mut self, place: &Place, message: impl Into<String>) {
        self.obstacles.push(Note { place: place.clone(), message: message.into() });
    }

    fn leave_out(&mut self, place: &Place, what: impl Into<String>, why: impl Into<String>) {
        self.left_out.push(LeftOut { place: place.clone(), what: what.into(), why: why.into() });
    }
}

/// Decides what relay makes of `found`.
#[must_use]
pub fn map(found: &Found, surroundings: &Surroundings<'_>) -> Import {
    let mut context = Context {
        surroundings,
        notes: found.notes.clone(),
        left_out: Vec::new(),
        obstacles: found.obstacles.clone(),
        keys: Vec::new(),
    };
    let hub = hub::decide(&mut context, found);
    let (said, masquerades) = hooks_said(found, &hub.interface);
    let peers = peers::decide(&mut context, found, &hub, masquerades);
    let written = written(&hub, &peers);
    let text = check(&mut context, found, &written);

    let reported = report::Hub {
        interface: hub.interface.clone(),
        public_key: found.hub.private_key.as_ref().map(|key| key.public_key()),
        addresses: hub.addresses.clone(),
        listen_port: hub.listen_port,
        mtu: hub.mtu,
        endpoint: hub.endpoint.clone(),
    };
    let beside = |name: &str| surroundings.config.with_file_name(name);
    let files = context.keys.iter().map(|key| beside(&key.name)).chain([surroundings.config.to_owned()]);
    let report = Report {
        format: found.format,
        sources: found.files.clone(),
        hub: reported,
        peers: peers.into_iter().map(|peer| peer.report).collect(),
        left_out: context.left_out,
        notes: context.notes,
        hooks: said,
        files: files.collect(),
        then: then(found, &hub.interface, surroundings.config),
        obstacles: context.obstacles,
    };
    let keys = context.keys;
    let files = text.filter(|_| report.obstacles.is_empty()).map(|text| Files { keys, text });
    Import { report, files }
}

/// Every command of the hooks, and whether they give clients the internet. wg-easy's own do, where none are found.
fn hooks_said(found: &Found, interface: &str) -> (Vec<HookSaid>, bool) {
    let mut said = Vec::new();
    let mut masquerades = found.hooks.is_none();
    for hook in found.hooks.iter().flatten() {
        for each in hooks::explain(hook, interface) {
            masquerades |= each.meaning == Meaning::Masquerade;
            let (place, when) = (hook.place.clone(), hook.when);
            said.push(HookSaid { place, when, command: each.command, meaning: each.meaning.sentence() });
        }
    }
    (said, masquerades)
}

fn written(hub: &hub::Hub, peers: &[peers::Decided]) -> Written {
    let interface = InterfaceWritten {
        name: Some(spanned(hub.interface.clone())),
        listen_port: Some(spanned(hub.listen_port.into())),
        addresses: spanned(hub.addresses.iter().map(|net| spanned(net.to_string())).collect()),
        private_key_file: Some(spanned(hub.key_file.clone())),
        endpoint: hub.endpoint.clone().map(spanned),
        mtu: hub.mtu.filter(|mtu| *mtu != DEFAULT_MTU).map(|mtu| spanned(mtu.into())),
        backend: Default::default(),
        fast_path: Default::default(),
    };
    Written {
        uplink: None,
        interface: spanned(interface),
        hub: None,
        home: None,
        firewall: FirewallWritten::default(),
        metrics: MetricsWritten::default(),
        peers: peers.iter().map(|peer| spanned(peer.written.clone())).collect(),
    }
}

/// The text, if relay itself accepts it. What it refuses beyond what was left out stops the import.
fn check(context: &mut Context<'_>, found: &Found, written: &Written) -> Option<String> {
    if !context.obstacles.is_empty() {
        return None;
    }
    let text = match text(found, written) {
        Ok(text) => text,
        Err(error) => {
            context.obstacle(&found.hub.place, format!("cannot write the configuration: {error}"));
            return None;
        }
    };
    let path = context.surroundings.config;
    let keys: HashMap<&str, &Zeroizing<String>> =
        context.keys.iter().map(|key| (key.name.as_str(), &key.key)).collect();
    let read = |path: &Path| {
        let key = path.file_name().and_then(|name| keys.get(name.to_str()?));
        key.map(|key| Secret { text: (*key).clone(), mode: 0o600 })
            .ok_or(io::Error::from(io::ErrorKind::NotFound))
    };
    match config::parse_with(path, &text, context.surroundings.networks, &read) {
        Ok(config) => {
            let warnings: Vec<String> = config.warnings.iter().map(ToString::to_string).collect();
            warnings.into_iter().for_each(|warning| context.note(&Place::whole(path), warning));
            Some(text)
        }
        Err(errors) => {
            let place = &found.hub.place;
            errors.as_slice().iter().for_each(|error| context.obstacle(place, error.text()));
            None
        }
    }
}

fn text(found: &Found, written: &Written) -> Result<String, edit::EditError> {
    let mut without_peers = written.clone();
    without_peers.peers.clear();
    let text = format!(
        "# Imported from {}. Edit it and run `relay reload`, or use `relay peer`.\n\n{}",
        found.format,
        without_peers.to_toml()?
    );
    edit::add_peers(&text, written.peers.iter().map(Spanned::get_ref))
}

/// How to stop the old hub and start the new one: two on one port cannot be.
fn then(found: &Found, interface: &str, config: &Path) -> Vec<String> {
    let option = match config == Path::new(config::DEFAULT_PATH) {
        true => String::new(),
        false => format!(" --config {}", config.display()),
    };
    let stop = match found.format {
        Format::WgQuick => {
            // wg-quick takes a name for a file in its own folder, and a path for one elsewhere.
            let path = &found.hub.place.file;
            let is_own = path.parent() == Some(Path::new("/etc/wireguard"));
            let argument = if is_own { interface.to_owned() } else { path.display().to_string() };
            vec![
                format!("systemctl disable --now wg-quick@{interface}    # where systemd starts it"),
                format!("wg-quick down {argument}    # where you start it yourself"),
            ]
        }
        Format::WgEasy14 | Format::WgEasy15 => vec![
            "docker update --restart=no wg-easy && docker stop wg-easy    # by whatever name the container has".to_owned(),
        ],
    };
    stop.into_iter().chain([format!("relay up{option}")]).collect()
}

fn spanned<T>(value: T) -> Spanned<T> {
    Spanned::new(0..0, value)
}
