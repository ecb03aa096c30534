//! `relay peer rotate`: the same peer with other keys.

use anyhow::Result;

use super::{
    apply_and_hand_out, edited, endpoint,
    hand_out::HandOut,
    keys, no_such_peer,
    preshared::{NewPreshared, forget_unused},
    unknown_endpoint,
};
use crate::{
    cli::{Files, PeerRotateArgs},
    command::{refused, warn},
    config::{self, HostNetwork, edit, file::Editing},
    peer_config::{Secrets, wg_quick_with},
};

pub(super) async fn run(files: &Files, args: &PeerRotateArgs, networks: &[HostNetwork]) -> Result<()> {
    let name = args.name.as_str();
    let editing = Editing::begin(&files.config)?;
    let old = editing.read()?;
    let before = config::parse(&files.config, &old, networks)?;
    let endpoint = endpoint(&before).await?.ok_or_else(|| unknown_endpoint(&files.config))?;
    let (_, peer, _) = before.peer(name).ok_or_else(|| no_such_peer(name))?;

    let (private_key, public_key) = keys(args.public_key)?;
    let psk = args.psk || peer.preshared_key.is_some();
    let preshared = psk.then(|| NewPreshared::create(editing.path(), name)).transpose()?;
    let mut new = edited(name, edit::set(&old, name, "public_key", public_key.to_string()))?;
    if let Some(preshared) = &preshared {
        new = edited(name, edit::set(&new, name, "preshared_key_file", preshared.name()))?;
    }
    let act = format!("cannot give peer \"{}\" new keys", name.escape_debug());
    let config = config::parse(&files.config, &new, networks).map_err(|errors| refused(&act, &errors))?;
    let found = config.peer(name).ok_or_else(|| no_such_peer(name))?;
    let secrets = private_key.as_ref().map_or(Secrets::Preshared, Secrets::All);
    let text = wg_quick_with(&config.desired, Some(&endpoint), &public_key, found.1, secrets);
    let hand_out = HandOut::prepare(&args.hand_out, found, text)?;

    apply_and_hand_out(&editing, &old, &new, &files.socket, &act, hand_out).await?;
    let new_preshared = preshared.map(NewPreshared::keep).is_some();
    forget_unused(editing.path(), &before.written, &config.written);
    warn(&config);
    eprintln!("peer \"{name}\" has new keys; the old ones are void, and it is cut off until it has these");
    if private_key.is_some() {
        eprintln!(
            "hint: put the new configuration in place of the old one there: on a phone delete the tunnel and scan or \
             import it; with wg-quick replace the file, then `wg-quick down NAME` and `wg-quick up NAME`"
        );
        eprintln!("hint: it holds the peer's private key and is not shown again; keep it private");
    } else if new_preshared {
        eprintln!(
            "hint: at the other end put in the new private key and the new PresharedKey, then restart the tunnel"
        );
    } else {
        eprintln!("hint: at the other end put in the new private key, then restart the tunnel");
    }
    Ok(())
}
