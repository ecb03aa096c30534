//! `relay peer rename`, `enable`, `disable` and `remove`: changes with nothing to hand out.

use anyhow::{Context as _, Result};
use jiff::Timestamp;

use super::{add::not_invited, apply, edited, no_such_peer, pending::Invitations, preshared::forget_unused};
use crate::{
    cli::{Files, PeerEnableArgs, PeerRenameArgs, Until},
    command::{refused, warn},
    config::{self, Config, HostNetwork, Written, edit, file::Editing},
    failure::Failure,
};

pub(super) async fn rename(files: &Files, args: &PeerRenameArgs, networks: &[HostNetwork]) -> Result<()> {
    let (name, new_name) = (args.name.as_str(), args.new_name.as_str());
    let act = format!("cannot rename peer \"{}\"", name.escape_debug());
    not_invited(new_name, &Invitations::read(&files.config)?, Timestamp::now())?;
    change(files, networks, name, &act, |text, _| edit::set(text, name, "name", new_name)).await?;
    eprintln!("peer \"{name}\" is called \"{new_name}\"");
    Ok(())
}

pub(super) async fn disable(files: &Files, name: &str, networks: &[HostNetwork]) -> Result<()> {
    let act = format!("cannot disable peer \"{}\"", name.escape_debug());
    change(files, networks, name, &act, |text, _| edit::set(text, name, "enabled", false)).await?;
    eprintln!("peer \"{name}\" is disabled; `relay peer enable` lets it take part again");
    Ok(())
}

pub(super) async fn enable(files: &Files, args: &PeerEnableArgs, networks: &[HostNetwork]) -> Result<()> {
    let name = args.name.as_str();
    let act = format!("cannot enable peer \"{}\"", name.escape_debug());
    if let Some(moment) =
        config::load(&files.config, networks)?.peer(name).and_then(|(_, peer, _)| peer.expires)
        && args.expires.is_none()
        && moment <= Timestamp::now()
    {
        let hint = "say until when: `--expires 30d`, or `--expires never`";
        return Err(Failure::refused(format!("{act}: it has expired at {moment}")).hint(hint).into());
    }
    let config = change(files, networks, name, &act, |text, config| {
        let enabled = match config.peer(name) {
            Some((.., false)) => edit::set(text, name, "enabled", true)?,
            _ => text.to_owned(),
        };
        match args.expires {
            None => Ok(enabled),
            Some(Until::Never) => edit::unset(&enabled, name, "expires"),
            Some(Until::Moment(moment)) => edit::set(&enabled, name, "expires", moment.to_string()),
        }
    });
    match config.await?.peer(name).and_then(|(_, peer, _)| peer.expires) {
        Some(moment) => eprintln!("peer \"{name}\" is enabled until {moment}"),
        None => eprintln!("peer \"{name}\" is enabled"),
    }
    Ok(())
}

pub(super) async fn remove(files: &Files, name: &str, networks: &[HostNetwork]) -> Result<()> {
    let editing = Editing::begin(&files.config)?;
    let old = editing.read()?;
    let removed = edit::remove_peer(&old, name);
    if matches!(removed, Err(edit::EditError::NoSuchPeer(_)))
        && Invitations::read(editing.path())?.remove(name)?
    {
        eprintln!("cancelled the invitation of \"{name}\"; its line is void");
        return Ok(());
    }
    let new = edited(name, removed)?;
    if config::parse(&files.config, &new, networks).is_err() {
        // Something else is wrong with the file: say it with the lines of the file that is there.
        config::parse(&files.config, &old, networks)?;
    }
    apply(&editing, &old, &new, &files.socket)
        .await
        .with_context(|| format!("cannot remove peer \"{name}\""))?;
    let written = |text| Written::parse(&files.config, text);
    if let (Ok(old), Ok(new)) = (written(&old), written(&new)) {
        forget_unused(editing.path(), &old, &new);
    }
    eprintln!("removed peer \"{name}\"");
    Ok(())
}

/// Changes a peer in a file that is right, and stays so.
async fn change(
    files: &Files,
    networks: &[HostNetwork],
    name: &str,
    act: &str,
    edit: impl FnOnce(&str, &Config) -> Result<String, edit::EditError>,
) -> Result<Config> {
    let editing = Editing::begin(&files.config)?;
    let old = editing.read()?;
    let before = config::parse(&files.config, &old, networks)?;
    before.peer(name).ok_or_else(|| no_such_peer(name))?;
    let new = edited(name, edit(&old, &before))?;
    let config = config::parse(&files.config, &new, networks).map_err(|errors| refused(act, &errors))?;
    apply(&editing, &old, &new, &files.socket).await.with_context(|| act.to_owned())?;
    warn(&config);
    Ok(config)
}
