//! `relay peer`: edits of the configuration that take effect at once, or not at all.

mod view;

use std::{
    collections::BTreeSet,
    io::{self, Write as _},
    net::{IpAddr, SocketAddr},
    path::Path,
};

use anyhow::{Context as _, Result};
use serde_spanned::Spanned;

use super::{refused, surroundings, warn};
use crate::{
    cli::{Files, PeerAddArgs, PeerArgs, PeerCommand},
    config::{self, Config, HostNetwork, PeerWritten, allocate, edit, file::Editing},
    control::client::{self, ControlError},
    failure::Failure,
    key::{PrivateKey, PublicKey},
    peer_config,
};

/// Does what `args` say.
///
/// # Errors
/// The configuration is or would become invalid, cannot be read or written, or the daemon refuses it.
pub async fn run(files: &Files, args: &PeerArgs) -> Result<()> {
    let networks = surroundings::networks().await?;
    match &args.command {
        PeerCommand::Add(args) => add(files, args, &networks).await,
        PeerCommand::Remove(args) => remove(files, &args.name, &networks).await,
        PeerCommand::List(args) => view::list(&load(files, &networks)?, args.json),
        PeerCommand::Show(args) => {
            let config = load(files, &networks)?;
            let endpoint = endpoint(&config).await?;
            view::show(&config, &args.name, endpoint.as_deref(), args.json)
        }
    }
}

fn load(files: &Files, networks: &[HostNetwork]) -> Result<Config> {
    let config = config::load(&files.config, networks)?;
    warn(&config);
    Ok(config)
}

async fn add(files: &Files, args: &PeerAddArgs, networks: &[HostNetwork]) -> Result<()> {
    let editing = Editing::begin(&files.config)?;
    let old = editing.read()?;
    let config = config::parse(&files.config, &old, networks)?;
    let endpoint = endpoint(&config).await?.ok_or_else(|| unknown_endpoint(&files.config))?;

    let (private_key, public_key) = match args.public_key {
        Some(public_key) => (None, public_key),
        None => {
            let private_key = PrivateKey::generate().context("cannot read /dev/urandom")?;
            let public_key = private_key.public_key();
            (Some(private_key), public_key)
        }
    };
    let taken: BTreeSet<IpAddr> = [&config.desired.peers, &config.disabled]
        .into_iter()
        .flat_map(|peers| peers.values())
        .flat_map(|peer| peer.addresses.iter().copied())
        .collect();
    let addresses = allocate::next_addresses(&config.desired.addresses, &taken)?;
    let new = edit::add_peer(&old, &written(args, &public_key, &addresses))?;
    let act = format!("cannot add peer \"{}\"", args.name);
    let config = config::parse(&files.config, &new, networks).map_err(|errors| refused(&act, &errors))?;
    let peer = &config.desired.peers[&public_key];
    let text =
        peer_config::wg_quick(&config.desired, Some(&endpoint), &public_key, peer, private_key.as_ref());

    apply(&editing, &old, &new, &files.socket).await.context(act)?;
    let mut stdout = io::stdout();
    if let Err(error) = stdout.write_all(text.as_bytes()).and_then(|()| stdout.flush()) {
        // A key that nobody has seen is a peer that nobody can be.
        apply(&editing, &new, &old, &files.socket).await.context("cannot take the peer back")?;
        let message = format!("cannot print the configuration, so peer \"{}\" was not added", args.name);
        return Err(anyhow::Error::new(error).context(Failure::new(message)));
    }
    warn(&config);
    let addresses: Vec<String> = addresses.iter().map(ToString::to_string).collect();
    eprintln!("added peer \"{}\", {}", args.name, addresses.join(" and "));
    if private_key.is_some() {
        eprintln!(
            "hint: this configuration holds the peer's private key and is not shown again; keep it private"
        );
    } else {
        eprintln!("hint: put the peer's private key into the configuration where the comment says");
    }
    if !args.lans.is_empty() {
        if config.desired.peers.values().any(|peer| peer.lans.is_empty()) {
            eprintln!(
                "hint: peers added earlier need the LAN in their AllowedIPs, as `relay peer show NAME` prints"
            );
        }
        eprintln!(
            "hint: on the home server save it as /etc/wireguard/relay.conf and run `wg-quick up relay`"
        );
    }
    Ok(())
}

fn written(args: &PeerAddArgs, public_key: &PublicKey, addresses: &[IpAddr]) -> PeerWritten {
    let spanned = |text: String| Spanned::new(0..0, text);
    PeerWritten {
        name: spanned(args.name.to_string()),
        public_key: spanned(public_key.to_string()),
        addresses: Spanned::new(0..0, addresses.iter().map(|address| spanned(address.to_string())).collect()),
        lans: args.lans.iter().map(|lan| spanned(lan.to_string())).collect(),
        keepalive: None,
        preshared_key_file: None,
        endpoint: None,
        mtu: None,
        dns: Vec::new(),
        full_tunnel: false,
        expires: None,
        enabled: true,
    }
}

async fn remove(files: &Files, name: &str, networks: &[HostNetwork]) -> Result<()> {
    let editing = Editing::begin(&files.config)?;
    let old = editing.read()?;
    let new = edit::remove_peer(&old, name).map_err(|error| match error {
        edit::EditError::NoSuchPeer(_) => no_such_peer(name).into(),
        other => anyhow::Error::new(other),
    })?;
    if config::parse(&files.config, &new, networks).is_err() {
        // Something else is wrong with the file: say it with the lines of the file that is there.
        config::parse(&files.config, &old, networks)?;
    }
    apply(&editing, &old, &new, &files.socket)
        .await
        .with_context(|| format!("cannot remove peer \"{name}\""))?;
    eprintln!("removed peer \"{name}\"");
    Ok(())
}

fn no_such_peer(name: &str) -> Failure {
    Failure::new(format!("no peer is called \"{}\"", name.escape_debug())).hint("`relay peer list` shows all")
}

/// What peers dial: what the file says, else what can be found.
async fn endpoint(config: &Config) -> Result<Option<String>> {
    if let Some(endpoint) = &config.desired.endpoint {
        return Ok(Some(endpoint.clone()));
    }
    let address = surroundings::uplink().await?.as_ref().and_then(surroundings::public_address);
    Ok(address.map(|address| SocketAddr::new(address, config.desired.listen_port).to_string()))
}

fn unknown_endpoint(path: &Path) -> Failure {
    Failure::refused("what the peer shall dial is unknown: this host's own address is not public")
        .hint(format!("add `endpoint = \"HOST\"` to [interface] in {}", path.display()))
}

/// Saves `new` and makes the daemon follow; if it does not, the file says `old` again.
async fn apply(editing: &Editing, old: &str, new: &str, socket: &Path) -> Result<()> {
    editing.save(new)?;
    if let Err(error) = notify_daemon(editing.path(), socket).await {
        editing.save(old).context("the change is in the file, and cannot be taken back")?;
        return Err(anyhow::Error::new(error).context("the change was taken back"));
    }
    Ok(())
}

/// Makes the daemon apply the file, and waits until it has; without a daemon there is nobody to wait for.
async fn notify_daemon(config: &Path, socket: &Path) -> Result<(), ControlError> {
    if let Some(other) = super::follows_another(config, socket).await {
        eprintln!(
            "the relay on {} follows {}, so it was not told; `--socket PATH` names the one that follows {}",
            socket.display(),
            other.display(),
            config.display()
        );
        return Ok(());
    }
    match client::reload(socket).await {
        Ok(reloaded) => {
            for problem in &reloaded.problems {
                eprintln!("warning: {problem}");
            }
            Ok(())
        }
        Err(ControlError::NotRunning(_)) => {
            eprintln!("relay is not running; `relay up` will apply it");
            Ok(())
        }
        Err(error) => Err(error),
    }
}
