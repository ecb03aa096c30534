//! `relay peer`: edits of the configuration that take effect at once, or not at all.

mod add;
mod change;
mod export;
mod hand_out;
mod invite;
mod pending;
mod preshared;
mod private_file;
mod rotate;
mod view;

use std::{net::SocketAddr, path::Path};

use anyhow::{Context as _, Result};

use self::hand_out::HandOut;
use super::{surroundings, warn};
use crate::{
    cli::{Files, PeerArgs, PeerCommand},
    config::{self, Config, edit, file::Editing},
    control::client::{self, ControlError},
    failure::Failure,
    key::{PrivateKey, PublicKey},
};

/// Does what `args` say.
///
/// # Errors
/// The configuration is or would become invalid, cannot be read or written, or the daemon refuses it.
pub async fn run(files: &Files, args: &PeerArgs) -> Result<()> {
    let networks = surroundings::networks().await?;
    // A file that cannot be read at all is told by whoever needs it.
    let config = config::load(&files.config, &networks);
    if config.as_ref().is_ok_and(|config| config.desired.home().is_some()) {
        let message =
            format!("{} is the file of a home, which has no peers but its hub", files.config.display());
        return Err(Failure::refused(message).hint("run this on the hub").into());
    }
    // Who changes the file reads it again, under its lock.
    let config = || {
        let config = config?;
        warn(&config);
        anyhow::Ok(config)
    };
    match &args.command {
        PeerCommand::Invite(args) => invite::invite(files, args, &networks).await,
        PeerCommand::Approve(args) => invite::approve(files, args, &networks).await,
        PeerCommand::Add(args) => add::run(files, args, &networks).await,
        PeerCommand::Rotate(args) => rotate::run(files, args, &networks).await,
        PeerCommand::Rename(args) => change::rename(files, args, &networks).await,
        PeerCommand::Enable(args) => change::enable(files, args, &networks).await,
        PeerCommand::Disable(args) => change::disable(files, &args.name, &networks).await,
        PeerCommand::Remove(args) => change::remove(files, &args.name, &networks).await,
        PeerCommand::List(args) => {
            let invitations = pending::Invitations::read(&files.config)?;
            view::list(&config()?, &invitations, args.json)
        }
        PeerCommand::Show(args) => {
            let config = config()?;
            let endpoint = endpoint(&config).await?;
            view::show(&config, &args.name, endpoint.as_deref(), args.json)
        }
        PeerCommand::Export(args) => {
            let config = config()?;
            let endpoint = endpoint(&config).await?;
            export::run(&config, endpoint.as_deref(), args)
        }
    }
}

fn no_such_peer(name: &str) -> Failure {
    Failure::new(format!("no peer is called \"{}\"", name.escape_debug())).hint("`relay peer list` shows all")
}

/// An edit of one peer, the name in words of our own where there is none.
fn edited(name: &str, result: Result<String, edit::EditError>) -> Result<String> {
    result.map_err(|error| match error {
        edit::EditError::NoSuchPeer(_) => no_such_peer(name).into(),
        other => anyhow::Error::new(other),
    })
}

/// The keys of a peer: the public one that it brings, or a pair made here.
fn keys(brought: Option<PublicKey>) -> Result<(Option<PrivateKey>, PublicKey)> {
    if let Some(public_key) = brought {
        return Ok((None, public_key));
    }
    let private_key = PrivateKey::generate().context("cannot read /dev/urandom")?;
    let public_key = private_key.public_key();
    Ok((Some(private_key), public_key))
}

/// What peers dial: what the file says, else what can be found.
async fn endpoint(config: &Config) -> Result<Option<String>> {
    if let Some(endpoint) = config.desired.endpoint() {
        return Ok(Some(endpoint.to_owned()));
    }
    let address = surroundings::uplink().await?.as_ref().and_then(surroundings::public_address);
    let found = address.zip(config.desired.listen_port());
    Ok(found.map(|(address, port)| SocketAddr::new(address, port).to_string()))
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

/// As [`apply`], for a change with a configuration that is handed out once: a key that nobody has seen is a peer that
/// nobody can be, so what cannot be handed out is taken back.
async fn apply_and_hand_out(
    editing: &Editing,
    old: &str,
    new: &str,
    socket: &Path,
    act: &str,
    hand_out: HandOut,
) -> Result<()> {
    apply(editing, old, new, socket).await.with_context(|| act.to_owned())?;
    if let Err(error) = hand_out.deliver() {
        apply(editing, new, old, socket).await.context("cannot take the change back")?;
        return Err(error.context(Failure::new(format!(
            "{act}: its configuration cannot be handed out, so the change was taken back"
        ))));
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
