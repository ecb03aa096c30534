//! `relay peer`: what can be said about peers.

use std::{net::IpAddr, path::PathBuf};

use clap::{Args, Subcommand};
use ipnet::IpNet;
use jiff::Timestamp;

use super::ShowArgs;
use crate::{
    config::{self, moment},
    desired::{PeerName, Resolver},
    key::PublicKey,
};

/// `relay peer`.
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  relay peer add home --lan 192.168.40.0/24 > home.conf
  relay peer add phone --qr
  relay peer list
  relay peer remove phone")]
pub struct PeerArgs {
    /// What to do with peers.
    #[command(subcommand)]
    pub command: PeerCommand,
}

/// What can be done with peers.
#[derive(Debug, Subcommand)]
pub enum PeerCommand {
    /// Add a peer and print its wg-quick configuration, once
    Add(PeerAddArgs),
    /// Invite a home server that runs relay itself: print the line with which it joins
    Invite(PeerInviteArgs),
    /// Let a home server in by the line that `relay join` printed there
    Approve(PeerApproveArgs),
    /// List the peers of the configuration
    #[command(after_help = "Examples:\n  relay peer list\n  relay peer list --json")]
    List(ShowArgs),
    /// Show a peer and its wg-quick configuration without its secrets
    #[command(after_help = "Examples:\n  relay peer show home\n  relay peer show home --json")]
    Show(PeerShowArgs),
    /// Print the wg-quick configuration of a peer, or write those of all, without their secrets
    Export(PeerExportArgs),
    /// Call a peer something else
    #[command(after_help = "Example:\n  relay peer rename phone \"Anna's phone\"")]
    Rename(PeerRenameArgs),
    /// Let a peer take part again
    Enable(PeerEnableArgs),
    /// Keep a peer out; it keeps its name, key and addresses
    #[command(after_help = "Example:\n  relay peer disable phone")]
    Disable(PeerNameArgs),
    /// Make new keys for a peer and print its new wg-quick configuration, once
    Rotate(PeerRotateArgs),
    /// Remove a peer
    #[command(after_help = "Example:\n  relay peer remove phone")]
    Remove(PeerNameArgs),
}

/// `relay peer add`.
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  relay peer add phone --qr
  relay peer add phone --full-tunnel --dns 9.9.9.9 --output phone.conf
  relay peer add guest --expires 30d --qr-file guest.png
  relay peer add home --lan 192.168.40.0/24 --lan fd00:40::/64 > home.conf
  relay peer add laptop --public-key \"$(cat laptop.pub)\"

The private key that relay makes is handed out once and kept nowhere. With --public-key the peer's key stays on the
peer.")]
pub struct PeerAddArgs {
    /// What to call it
    #[arg(value_name = "NAME")]
    pub name: PeerName,
    /// A network behind it; may be given several times
    #[arg(long = "lan", value_name = "CIDR", value_parser = lan)]
    pub lans: Vec<IpNet>,
    /// Its address in the tunnel, in place of the next free one of each family; may be given several times
    #[arg(long = "address", value_name = "IP")]
    pub addresses: Vec<IpAddr>,
    /// The public key that belongs to a private key it has already
    #[arg(long, value_name = "KEY")]
    pub public_key: Option<PublicKey>,
    /// Make a preshared key as well, kept in a file of mode 0600 beside the configuration
    #[arg(long)]
    pub psk: bool,
    /// What stands in its own configuration.
    #[command(flatten)]
    pub own: OwnArgs,
    /// Where its configuration goes.
    #[command(flatten)]
    pub hand_out: HandOutArgs,
}

/// `relay peer invite`.
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  relay peer invite home --lan 192.168.40.0/24
  relay peer invite home --lan 192.168.40.0/24 --lan fd00:40::/64 --json

The line is for `relay join` at home, which makes the key there and prints the line for `relay
peer approve` here. It holds no key; it is good for seven days, and whoever has it can ask to be
let in by that name. `relay peer list` shows who is invited, `relay peer remove` cancels it.")]
pub struct PeerInviteArgs {
    /// What to call it
    #[arg(value_name = "NAME")]
    pub name: PeerName,
    /// A network behind it; may be given several times
    #[arg(long = "lan", value_name = "CIDR", value_parser = lan)]
    pub lans: Vec<IpNet>,
    /// Its address in the tunnel, in place of the next free one of each family; may be given several times
    #[arg(long = "address", value_name = "IP")]
    pub addresses: Vec<IpAddr>,
    /// Print JSON
    #[arg(long)]
    pub json: bool,
}

/// `relay peer approve`.
#[derive(Debug, Args)]
#[command(after_help = "Example:
  relay peer approve relay1-approve-…

The line comes from `relay join` at home. Giving it twice changes nothing.")]
pub struct PeerApproveArgs {
    /// The line
    #[arg(value_name = "LINE", required = true)]
    pub line: Vec<String>,
}

/// What stands in a peer's own configuration.
#[derive(Debug, Args)]
pub struct OwnArgs {
    /// Send everything through the hub, the internet included
    #[arg(long)]
    pub full_tunnel: bool,
    /// A resolver or search domain for it; may be given several times
    #[arg(long, value_name = "IP|DOMAIN", value_parser = resolver)]
    pub dns: Vec<Resolver>,
    /// Its largest packet in the tunnel, bytes; the hub's own unless given
    #[arg(long, value_name = "BYTES")]
    pub mtu: Option<u32>,
    /// How often it keeps its NAT's mapping alive; 0 for never; 25 for a peer with LANs unless given
    #[arg(long, value_name = "SECONDS")]
    pub keepalive: Option<u16>,
    /// When it stops to take part: 30d, 12h, 2026-12-24 or 2026-12-24T18:00:00Z
    #[arg(long, value_name = "WHEN", value_parser = expiry)]
    pub expires: Option<Timestamp>,
}

/// Where a configuration that is shown once goes: to stdout, unless it goes to a file.
#[derive(Debug, Args)]
pub struct HandOutArgs {
    /// Print it as a QR code to scan with a phone's WireGuard app
    #[arg(long, conflicts_with = "json")]
    pub qr: bool,
    /// Write the QR code into a new file, by its ending a PNG or an SVG image
    #[arg(long, value_name = "FILE", value_parser = image)]
    pub qr_file: Option<PathBuf>,
    /// Write it into a new file that only its owner may read
    #[arg(long, value_name = "FILE")]
    pub output: Option<PathBuf>,
    /// Replace files that exist
    #[arg(long)]
    pub overwrite: bool,
    /// Print JSON, the configuration in it
    #[arg(long)]
    pub json: bool,
}

/// `relay peer rotate`.
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  relay peer rotate phone --qr
  relay peer rotate home --output home.conf
  relay peer rotate laptop --public-key \"$(cat laptop.pub)\"

The old keys are void at once. A preshared key is made anew where there is one.")]
pub struct PeerRotateArgs {
    /// Which peer
    #[arg(value_name = "NAME")]
    pub name: String,
    /// The public key that belongs to a new private key that the peer has made
    #[arg(long, value_name = "KEY")]
    pub public_key: Option<PublicKey>,
    /// Make a preshared key, also where there was none
    #[arg(long)]
    pub psk: bool,
    /// Where its configuration goes.
    #[command(flatten)]
    pub hand_out: HandOutArgs,
}

/// `relay peer enable`.
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  relay peer enable phone
  relay peer enable guest --expires 30d")]
pub struct PeerEnableArgs {
    /// Which peer
    #[arg(value_name = "NAME")]
    pub name: String,
    /// Until when: 30d, 12h, 2026-12-24, 2026-12-24T18:00:00Z or never
    #[arg(long, value_name = "WHEN", value_parser = until)]
    pub expires: Option<Until>,
}

/// `--expires` of a peer that may have an expiry already.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Until {
    /// No end.
    Never,
    /// Until then.
    Moment(Timestamp),
}

/// `relay peer export`.
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  relay peer export home > home.conf
  relay peer export --folder peers

Comments stand where secrets belong. Files are named after peers, in letters that every system takes, and none that
exists is replaced unless --overwrite is given.")]
pub struct PeerExportArgs {
    /// Which peer
    #[arg(value_name = "NAME", required_unless_present = "folder")]
    pub name: Option<String>,
    /// Write those of all peers into this folder, a file each
    #[arg(long, value_name = "FOLDER", conflicts_with = "name")]
    pub folder: Option<PathBuf>,
    /// Replace files that exist
    #[arg(long)]
    pub overwrite: bool,
    /// Print JSON
    #[arg(long, conflicts_with = "folder")]
    pub json: bool,
}

/// `relay peer show`.
#[derive(Debug, Args)]
pub struct PeerShowArgs {
    /// Which peer
    #[arg(value_name = "NAME")]
    pub name: String,
    /// Print JSON
    #[arg(long)]
    pub json: bool,
}

/// `relay peer rename`.
#[derive(Debug, Args)]
pub struct PeerRenameArgs {
    /// Which peer
    #[arg(value_name = "NAME")]
    pub name: String,
    /// What to call it
    #[arg(value_name = "NEW_NAME")]
    pub new_name: PeerName,
}

/// A peer by its name.
#[derive(Debug, Args)]
pub struct PeerNameArgs {
    /// Which peer
    #[arg(value_name = "NAME")]
    pub name: String,
}

/// A prefix with its length: a bare address would be taken for one machine where a network was meant.
fn lan(text: &str) -> Result<IpNet, &'static str> {
    text.parse()
        .map_err(|_| "a network is written such as 192.168.40.0/24, a single machine 192.168.40.10/32")
}

fn resolver(text: &str) -> Result<Resolver, &'static str> {
    config::resolver(text).ok_or("neither an IP address nor a search domain")
}

fn expiry(text: &str) -> Result<Timestamp, moment::BadExpiry> {
    moment::read_from(text, Timestamp::now())
}

fn until(text: &str) -> Result<Until, moment::BadExpiry> {
    if text == "never" { Ok(Until::Never) } else { expiry(text).map(Until::Moment) }
}

fn image(text: &str) -> Result<PathBuf, &'static str> {
    let path = PathBuf::from(text);
    crate::qr::Image::of(&path).ok_or("the name of an image ends in .png or .svg")?;
    Ok(path)
}
