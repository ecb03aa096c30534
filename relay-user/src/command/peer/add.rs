//! `relay peer add`.

use std::{collections::BTreeSet, net::IpAddr};

use anyhow::Result;
use ipnet::IpNet;
use jiff::Timestamp;
use serde_spanned::Spanned;

use super::{
    apply_and_hand_out, endpoint, hand_out::HandOut, invite::has_room, keys, pending::Invitations,
    preshared::NewPreshared, unknown_endpoint,
};
use crate::{
    cli::{Files, PeerAddArgs},
    command::{refused, warn},
    config::{self, Config, HostNetwork, MomentWritten, PeerWritten, allocate, edit, file::Editing},
    failure::Failure,
    key::PublicKey,
    peer_config::{Secrets, wg_quick_with},
};

pub(super) async fn run(files: &Files, args: &PeerAddArgs, networks: &[HostNetwork]) -> Result<()> {
    let editing = Editing::begin(&files.config)?;
    let old = editing.read()?;
    let config = config::parse(&files.config, &old, networks)?;
    let endpoint = endpoint(&config).await?.ok_or_else(|| unknown_endpoint(&files.config))?;

    let (now, invitations) = (Timestamp::now(), Invitations::read(editing.path())?);
    not_invited(args.name.as_str(), &invitations, now)?;
    let (private_key, public_key) = keys(args.public_key)?;
    let addresses = addresses(&args.addresses, &config, &invitations, now)?;
    let preshared = args.psk.then(|| NewPreshared::create(editing.path(), args.name.as_str())).transpose()?;
    let written = written(args, &public_key, &addresses, preshared.as_ref().map(NewPreshared::name));
    let new = edit::add_peer(&old, &written)?;
    let act = format!("cannot add peer \"{}\"", args.name);
    let config = config::parse(&files.config, &new, networks).map_err(|errors| refused(&act, &errors))?;
    has_room(files, &new, networks, invitations.open(now)).map_err(|errors| refused(&act, &errors))?;
    let peer = &config.desired.peers[&public_key];
    let secrets = private_key.as_ref().map_or(Secrets::Preshared, Secrets::All);
    let text = wg_quick_with(&config.desired, Some(&endpoint), &public_key, peer, secrets);
    let hand_out = HandOut::prepare(&args.hand_out, (&public_key, peer, true), text)?;

    apply_and_hand_out(&editing, &old, &new, &files.socket, &act, hand_out).await?;
    preshared.into_iter().for_each(NewPreshared::keep);
    warn(&config);
    tell(args, &config, &addresses, private_key.is_some());
    Ok(())
}

fn tell(args: &PeerAddArgs, config: &Config, addresses: &[IpAddr], has_private_key: bool) {
    for advice in args.lans.iter().filter_map(config::common_home_range) {
        eprintln!("warning: {advice}");
    }
    let addresses: Vec<String> = addresses.iter().map(ToString::to_string).collect();
    eprintln!("added peer \"{}\", {}", args.name, addresses.join(" and "));
    if has_private_key {
        eprintln!(
            "hint: this configuration holds the peer's private key and is not shown again; keep it private"
        );
    } else {
        eprintln!("hint: put the peer's private key into the configuration where the comment says");
    }
    if args.own.full_tunnel && args.own.dns.is_empty() {
        eprintln!(
            "hint: where the peer's resolver is its own router, a full tunnel cuts it off from it; `--dns 9.9.9.9` \
             gives it one that the hub reaches"
        );
    }
    tell_of_lans(&args.lans, config);
    if !args.lans.is_empty() {
        eprintln!(
            "hint: on the home server save it as /etc/wireguard/relay.conf and run `wg-quick up relay`"
        );
    }
}

/// Who else has to hear of new LANs.
pub(super) fn tell_of_lans(lans: &[IpNet], config: &Config) {
    if !lans.is_empty() && config.desired.peers.values().any(|peer| peer.lans.is_empty()) {
        eprintln!(
            "hint: peers added earlier need the LAN in their AllowedIPs, as `relay peer show NAME` prints"
        );
    }
}

/// Whom an invitation keeps a place for is not to be pushed out of it.
pub(super) fn not_invited(name: &str, invitations: &Invitations, now: Timestamp) -> Result<(), Failure> {
    if invitations.open(now).all(|pending| pending.name.as_str() != name) {
        return Ok(());
    }
    let hint = "`relay peer remove` cancels the invitation";
    Err(Failure::refused(format!("no other peer can be called \"{name}\": it is invited")).hint(hint))
}

/// Those that were asked for, or the next that neither a peer nor an invitation has.
pub(super) fn addresses(
    given: &[IpAddr],
    config: &Config,
    invitations: &Invitations,
    now: Timestamp,
) -> Result<Vec<IpAddr>> {
    if !given.is_empty() {
        return Ok(given.to_vec());
    }
    let mut taken = taken(config);
    taken.extend(invitations.open(now).flat_map(|pending| pending.addresses.iter().copied()));
    Ok(allocate::next_addresses(&config.desired.addresses, &taken)?)
}

fn taken(config: &Config) -> BTreeSet<IpAddr> {
    let peers = [&config.desired.peers, &config.disabled].into_iter().flat_map(|peers| peers.values());
    peers.flat_map(|peer| peer.addresses.iter().copied()).collect()
}

fn written(
    args: &PeerAddArgs,
    public_key: &PublicKey,
    addresses: &[IpAddr],
    preshared_key_file: Option<&str>,
) -> PeerWritten {
    PeerWritten {
        keepalive: args.own.keepalive.map(|seconds| spanned(seconds.into())),
        preshared_key_file: preshared_key_file.map(|name| spanned(name.to_owned())),
        mtu: args.own.mtu.map(|mtu| spanned(mtu.into())),
        dns: args.own.dns.iter().map(|resolver| spanned(resolver.to_string())).collect(),
        full_tunnel: args.own.full_tunnel,
        expires: args.own.expires.map(|moment| spanned(MomentWritten::Text(moment.to_string()))),
        ..plain(args.name.as_str(), public_key, addresses, &args.lans)
    }
}

/// A peer with nothing but what each must have.
pub(super) fn plain(name: &str, public_key: &PublicKey, addresses: &[IpAddr], lans: &[IpNet]) -> PeerWritten {
    PeerWritten {
        name: spanned(name.to_owned()),
        public_key: spanned(public_key.to_string()),
        addresses: spanned(addresses.iter().map(|address| spanned(address.to_string())).collect()),
        lans: lans.iter().map(|lan| spanned(lan.to_string())).collect(),
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

/// A value that stands in no text yet.
fn spanned<T>(value: T) -> Spanned<T> {
    Spanned::new(0..0, value)
}
