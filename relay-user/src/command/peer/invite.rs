//! `relay peer invite` and `relay peer approve`: a home that makes its own key, and joins by two lines.

use std::collections::BTreeSet;

use anyhow::{Context as _, Result};
use ipnet::IpNet;
use jiff::{SignedDuration, Timestamp};
use serde::Serialize;

use super::{
    add::{addresses, tell_of_lans},
    apply, endpoint,
    pending::{Invitations, Pending},
    unknown_endpoint,
};
use crate::{
    cli::{Files, PeerApproveArgs, PeerInviteArgs},
    command::{print, print_json, refused, warn},
    config::{self, Config, HostNetwork, edit, file::Editing},
    failure::Failure,
    invitation::{Approval, Invitation, Line as _, Token},
};

/// How long an invitation may be answered.
const VALID: SignedDuration = SignedDuration::from_hours(7 * 24);

/// What `relay peer invite --json` prints. The names are a promise to scripts.
#[derive(Serialize)]
struct View<'a> {
    name: &'a str,
    addresses: Vec<String>,
    lans: Vec<String>,
    /// RFC 3339.
    expires: &'a str,
    /// The line for `relay join`.
    invitation: &'a str,
    /// What to run at home.
    command: &'a str,
}

pub(super) async fn invite(files: &Files, args: &PeerInviteArgs, networks: &[HostNetwork]) -> Result<()> {
    let now = Timestamp::now();
    let editing = Editing::begin(&files.config)?;
    let text = editing.read()?;
    let config = config::parse(&files.config, &text, networks)?;
    let endpoint = endpoint(&config).await?.ok_or_else(|| unknown_endpoint(&files.config))?;
    Invitations::read(editing.path())?.remove_expired(now)?;
    let invitations = Invitations::read(editing.path())?;
    let act = format!("cannot invite \"{}\"", args.name);
    not_yet_there(&config, &invitations, args, &act)?;

    let addresses = addresses(&args.addresses, &config, &invitations, now)?;
    let expires = Timestamp::from_second((now + VALID).as_second())?;
    let pending = Pending {
        name: args.name.clone(),
        addresses,
        lans: args.lans.clone(),
        expires: expires.to_string(),
        token: Token::generate().context("cannot read /dev/urandom")?,
    };
    has_room(files, &text, networks, invitations.open(now).chain([&pending]))
        .map_err(|errors| refused(&act, &errors))?;

    let line = line(&config, endpoint, &pending, expires).to_line();
    invitations.add(&pending)?;
    warn(&config);
    let command = format!("relay join {line}");
    let printed = if args.json {
        print_json(&View {
            name: pending.name.as_str(),
            addresses: pending.addresses.iter().map(ToString::to_string).collect(),
            lans: pending.lans.iter().map(ToString::to_string).collect(),
            expires: &pending.expires,
            invitation: &line,
            command: &command,
        })
    } else {
        print(&format!("{command}\n"))
    };
    printed.with_context(|| {
        format!("{act}: its invitation cannot be printed; `relay peer remove` cancels it")
    })?;
    tell(args, &pending);
    Ok(())
}

fn tell(args: &PeerInviteArgs, pending: &Pending) {
    for advice in args.lans.iter().filter_map(config::common_home_range) {
        eprintln!("warning: {advice}");
    }
    let addresses: Vec<String> = pending.addresses.iter().map(ToString::to_string).collect();
    eprintln!(
        "invited \"{}\", which gets {}, until {}; `relay peer remove` cancels it",
        pending.name,
        addresses.join(" and "),
        pending.expires
    );
    eprintln!(
        "hint: run that line on the home server, and here what it prints; it holds no key, but whoever has it can ask to \
         be let in as \"{}\"",
        pending.name
    );
}

fn not_yet_there(
    config: &Config,
    invitations: &Invitations,
    args: &PeerInviteArgs,
    act: &str,
) -> Result<(), Failure> {
    let name = args.name.as_str();
    if config.peer(name).is_some() {
        let hint = "choose another name, or `relay peer remove` it first";
        return Err(Failure::refused(format!("{act}: a peer of that name is there")).hint(hint));
    }
    if let Some(pending) = invitations.of(name) {
        let hint = "`relay peer remove` cancels it, and its line is void then";
        let message = format!("{act}: it is invited already, until {}", pending.expires);
        return Err(Failure::refused(message).hint(hint));
    }
    Ok(())
}

/// Whether a file leaves room for all that are invited.
pub(super) fn has_room<'a>(
    files: &Files,
    text: &str,
    networks: &[HostNetwork],
    invited: impl Iterator<Item = &'a Pending>,
) -> Result<(), config::ConfigErrors> {
    let peers = invited.map(Pending::placeholder);
    // Neither the generator nor the text fails here that did not fail before; if one does, approving says so.
    let Ok(peers) = peers.collect::<Result<Vec<_>>>() else { return Ok(()) };
    let Ok(all) = edit::add_peers(text, &peers) else { return Ok(()) };
    config::parse(&files.config, &all, networks).map(drop)
}

fn line(config: &Config, endpoint: String, pending: &Pending, expires: Timestamp) -> Invitation {
    let v4 = |net: &IpNet| net.addr().is_ipv4();
    let families: BTreeSet<bool> = pending.addresses.iter().map(std::net::IpAddr::is_ipv4).collect();
    let subnets = config.desired.addresses.iter().map(IpNet::trunc);
    Invitation {
        name: pending.name.clone(),
        hub: config.desired.private_key.public_key(),
        endpoint,
        addresses: pending.addresses.clone(),
        lans: pending.lans.clone(),
        allowed: subnets.filter(|net| families.contains(&v4(net))).collect(),
        mtu: config.desired.mtu,
        expires: expires.as_second(),
        token: pending.token.clone(),
    }
}

pub(super) async fn approve(files: &Files, args: &PeerApproveArgs, networks: &[HostNetwork]) -> Result<()> {
    let approval =
        Approval::from_line(&args.line.join(" ")).map_err(|error| Failure::refused(error.to_string()))?;
    let (name, key) = (approval.name.as_str(), &approval.public_key);
    let act = format!("cannot approve \"{name}\"");
    let editing = Editing::begin(&files.config)?;
    let old = editing.read()?;
    let config = config::parse(&files.config, &old, networks)?;
    let invitations = Invitations::read(editing.path())?;
    if let Some((existing, ..)) = config.peer(name) {
        if existing != key {
            let hint =
                "`relay peer rotate NAME --public-key KEY` gives it another, `relay peer remove` removes it";
            let message = format!("{act}: a peer of that name is there, with another key");
            return Err(Failure::refused(message).hint(hint).into());
        }
        invitations.remove(name)?;
        eprintln!("peer \"{name}\" is approved already");
        return Ok(());
    }
    let pending = answered(&invitations, &approval, &act)?;
    let new = edit::add_peer(&old, &pending.peer(key))?;
    let config = config::parse(&files.config, &new, networks).map_err(|errors| refused(&act, &errors))?;
    apply(&editing, &old, &new, &files.socket).await.with_context(|| act)?;
    // One that stays does no harm: the peer is there, and the next answer finds it.
    if let Err(error) = invitations.remove(name) {
        eprintln!("warning: {error:#}");
    }
    warn(&config);
    let addresses: Vec<String> = pending.addresses.iter().map(ToString::to_string).collect();
    eprintln!("approved \"{name}\", {}", addresses.join(" and "));
    tell_of_lans(&pending.lans, &config);
    Ok(())
}

/// The invitation that is answered.
fn answered<'a>(
    invitations: &'a Invitations,
    approval: &Approval,
    act: &str,
) -> Result<&'a Pending, Failure> {
    let refuse = |why: String, hint: &str| Err(Failure::refused(format!("{act}: {why}")).hint(hint));
    match invitations.of(approval.name.as_str()) {
        None => refuse(
            "it is not invited here, or no longer".to_owned(),
            "`relay peer list` shows who is; `relay peer invite` makes a new line",
        ),
        Some(pending) if pending.token != approval.token => refuse(
            "this answers another invitation of that name".to_owned(),
            "run `relay join` at home with the newest line",
        ),
        Some(pending) if pending.has_expired(Timestamp::now()) => refuse(
            format!("its invitation expired at {}", pending.expires),
            "`relay peer invite` makes a new line",
        ),
        Some(pending) => Ok(pending),
    }
}
