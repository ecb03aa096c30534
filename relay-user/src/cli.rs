//! The command line: what can be said, and nothing of what it does.

mod peer;

use std::path::PathBuf;

use crate::{
    config::DEFAULT_PATH,
    desired::{InterfaceName, PeerName},
    history::since::Since,
    kernel::namespace::NamespaceName,
};
use clap::{
    Args, Parser, Subcommand,
    builder::{PossibleValuesParser, TypedValueParser},
};
use ipnet::{Ipv4Net, Ipv6Net};
use relay_common::Verdict;

pub use self::peer::{
    HandOutArgs, OwnArgs, PeerAddArgs, PeerApproveArgs, PeerArgs, PeerCommand, PeerEnableArgs,
    PeerExportArgs, PeerInviteArgs, PeerNameArgs, PeerRenameArgs, PeerRotateArgs, PeerShowArgs, Until,
};

/// Where the daemon listens for the other commands.
pub const DEFAULT_SOCKET: &str = "/run/relay/relay.sock";

/// A WireGuard hub on a machine with a public address: homes behind carrier-grade NAT dial it, phones and laptops
/// dial it, and eBPF forwards between them.
#[derive(Debug, Parser)]
#[command(name = "relay", version, subcommand_required = true, arg_required_else_help = true)]
#[command(after_help = "Examples:
  relay init --endpoint vps.example.net
  relay up
  relay peer add home --lan 192.168.40.0/24 > home.conf
  relay peer add phone > phone.conf
  relay stats

Exit codes: 0 done, 1 failed, 2 wrong command line or configuration.")]
pub struct Cli {
    /// Where its files are.
    #[command(flatten)]
    pub files: Files,
    /// What to do.
    #[command(subcommand)]
    pub command: Command,
}

/// Where relay's files are.
#[derive(Clone, Debug, Args)]
pub struct Files {
    /// The configuration
    #[arg(long, global = true, value_name = "PATH", env = "RELAY_CONFIG", hide_env_values = true)]
    #[arg(default_value = DEFAULT_PATH)]
    pub config: PathBuf,
    /// The daemon's control socket
    #[arg(long, global = true, value_name = "PATH", env = "RELAY_SOCKET", hide_env_values = true)]
    #[arg(default_value = DEFAULT_SOCKET)]
    pub socket: PathBuf,
    /// The folder of the history; `RELAY_STATE_DIR` and this are for whoever cannot have the usual one
    #[arg(long = "state-dir", global = true, hide = true, value_name = "PATH", env = "RELAY_STATE_DIR")]
    #[arg(default_value = crate::history::DEFAULT_FOLDER)]
    pub state: PathBuf,
}

/// What relay can be told to do.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Write a first configuration and a private key
    Init(InitArgs),
    /// Make this machine a home of the hub that printed the line
    Join(JoinArgs),
    /// Run the hub, or the home, in the foreground
    Up(UpArgs),
    /// Take down what relay has brought up, also after a daemon that was killed
    #[command(after_help = "Example:\n  relay down")]
    Down,
    /// Make the running daemon follow the configuration
    #[command(after_help = "Example:\n  relay reload")]
    Reload,
    /// Say how the hub is, and what is wrong if something is
    #[command(after_help = "Examples:\n  relay status\n  relay status --json\n  relay status --adopted wg0")]
    Status(ReportArgs),
    /// Show what each peer has received and sent, and by which path
    Stats(StatsArgs),
    /// Find out what is wrong, and what to do
    Doctor(DoctorArgs),
    /// Show what becomes of packets, one by one, while it runs
    Trace(TraceArgs),
    /// Print the daemon's numbers as Prometheus takes them
    #[command(
        after_help = "Examples:\n  relay metrics\n  relay metrics --adopted wg0\n\nThe same over HTTP: `curl --unix-socket \
        /run/relay/relay.sock http://relay/metrics`, and, with \
        `listen = \"127.0.0.1:9586\"` under [metrics] in relay.toml, http://127.0.0.1:9586/metrics."
    )]
    Metrics(WhichArgs),
    /// Add, show, change and remove peers
    Peer(PeerArgs),
    /// Accelerate a WireGuard interface that somebody else keeps, in the foreground
    #[command(after_help = "Examples:
  relay adopt wg0
  relay adopt wg0 --netns $(docker inspect -f '{{.State.Pid}}' wg-easy)
  relay status --adopted wg0

Only the fast path is relay's: peers, addresses, routes and firewall stay with whoever made the
interface, and relay follows as they change. Ctrl-C ends relay, and the fast path goes on as it is;
`relay release` takes it off. With --netns relay ends, and takes it off, when that process or file
does: a container that starts again has another namespace, so let a service start relay again.")]
    Adopt(AdoptArgs),
    /// Take the fast path off an adopted interface, which is then as it was before
    #[command(after_help = "Examples:
  relay release wg0
  relay release wg0 --netns /run/netns/vpn")]
    Release(AdoptArgs),
    /// Move in from wg-quick or wg-easy: show what would become of it, and write it
    Import(ImportArgs),
    /// Make a service of systemd of this binary, where it stands
    Install(InstallArgs),
    /// Take the service away again
    #[command(after_help = "Example:\n  relay down && relay uninstall

The configuration and its keys stay.")]
    Uninstall,
}

/// `relay init`.
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  relay init
  relay init --endpoint vps.example.net:443 --listen-port 443
  relay init --subnet 10.20.0.0/24 --subnet6 none --manage-firewall

An existing configuration or key is never overwritten.")]
pub struct InitArgs {
    /// What peers dial; found by itself where this machine's own address is public
    #[arg(long, value_name = "HOST[:PORT]")]
    pub endpoint: Option<String>,
    /// The tunnel's interface
    #[arg(long, value_name = "NAME", default_value = crate::config::DEFAULT_INTERFACE)]
    pub interface: InterfaceName,
    /// The UDP port of the hub
    #[arg(long, value_name = "PORT", default_value_t = crate::config::DEFAULT_LISTEN_PORT)]
    #[arg(value_parser = clap::value_parser!(u16).range(1..))]
    pub listen_port: u16,
    /// The tunnel's IPv4 subnet; 10.9.0.0/24 or the next one that is free here unless given
    #[arg(long, value_name = "CIDR")]
    pub subnet: Option<Ipv4Net>,
    /// The tunnel's IPv6 subnet, or `none`; a random private one (RFC 4193) unless given
    #[arg(long, value_name = "CIDR")]
    pub subnet6: Option<Subnet6>,
    /// Whether relay may open this host's firewall where it is in the way; asked unless given
    #[arg(long, value_name = "BOOL", num_args = 0..=1, require_equals = true, default_missing_value = "true")]
    pub manage_firewall: Option<bool>,
}

/// `--subnet6`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Subnet6 {
    /// No IPv6 in the tunnel.
    None,
    /// This one.
    Net(Ipv6Net),
}

impl std::str::FromStr for Subnet6 {
    type Err = ipnet::AddrParseError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        if text == "none" { Ok(Self::None) } else { text.parse().map(Self::Net) }
    }
}

/// `relay join`.
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  relay join relay1-invite-…
  relay join relay1-invite-… --no-nat

The line comes from `relay peer invite` on the hub. The key is made here and stays here; what is
printed is for `relay peer approve` there. An existing configuration or key is never overwritten;
the same line again prints the same.")]
pub struct JoinArgs {
    /// The line
    #[arg(value_name = "LINE", required = true)]
    pub line: Vec<String>,
    /// Leave the peers' addresses as they are; the LAN's router needs a route then
    #[arg(long)]
    pub no_nat: bool,
    /// The tunnel's interface
    #[arg(long, value_name = "NAME", default_value = crate::config::DEFAULT_INTERFACE)]
    pub interface: InterfaceName,
    /// Print JSON
    #[arg(long)]
    pub json: bool,
}

/// `relay import`.
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  relay import /etc/wireguard/wg0.conf
  relay import ~/.wg-easy
  relay import /var/lib/docker/volumes/etc_wireguard/_data/wg-easy.db --apply

Without --apply nothing is written. The source is never changed and its hooks are never run. The hub's key and the
peers' preshared keys come along, so that no client has to change anything; clients' private keys are not read.")]
pub struct ImportArgs {
    /// A wg-quick file, wg-easy's wg0.json or wg-easy.db, or the folder that it is in
    #[arg(value_name = "PATH")]
    pub path: PathBuf,
    /// Write the configuration and the keys; existing ones are never overwritten
    #[arg(long)]
    pub apply: bool,
    /// What peers dial, where the source does not say
    #[arg(long, value_name = "HOST[:PORT]")]
    pub endpoint: Option<String>,
    /// Print JSON
    #[arg(long)]
    pub json: bool,
}

/// `relay install`.
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  relay install
  relay install --print
  relay --config /srv/relay/relay.toml install

Writes a unit, enables it and makes the group `relay`, whose members may ask for status and stats; then
`systemctl start relay`. Running it again brings the unit up to date.")]
pub struct InstallArgs {
    /// Print the unit and change nothing
    #[arg(long)]
    pub print: bool,
}

/// `relay up`.
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  relay up
  relay up --down-on-exit

Ctrl-C ends the daemon. Tunnel and fast path go on without it unless --down-on-exit is given.")]
pub struct UpArgs {
    /// Take down what was brought up when the daemon ends
    #[arg(long)]
    pub down_on_exit: bool,
}

/// `relay adopt` and `relay release`.
#[derive(Debug, Args)]
pub struct AdoptArgs {
    /// The interface
    #[arg(value_name = "INTERFACE")]
    pub interface: InterfaceName,
    /// The network namespace that it is in: a process in it, or its file
    #[arg(long, value_name = "PATH|PID")]
    pub netns: Option<NamespaceName>,
}

/// What all commands that only show take.
#[derive(Debug, Args)]
pub struct ShowArgs {
    /// Print JSON
    #[arg(long)]
    pub json: bool,
}

/// `relay stats`.
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  relay stats
  relay stats --watch
  relay stats --since 24h
  relay stats --since 2026-11-01 --csv > november.csv
  relay stats --since 7d --svg week.svg
  relay stats --adopted wg0

While watching: q quits, s sorts by another column, r reverses, arrows pick a peer. Where the
output is no terminal, --watch prints a table a second, and with --json a line of JSON.

The history has buckets of five minutes for a week, of an hour for 90 days and of a day for 400
days; totals stay. It is written while `relay up` runs, and is read also when it does not.")]
pub struct StatsArgs {
    /// Whose, and how to print them.
    #[command(flatten)]
    pub report: ReportArgs,
    /// Show them as they move, once a second, with rates
    #[arg(long)]
    pub watch: bool,
    /// What was carried since then: a time ago (24h, 7d), a day by this machine's clock, or a moment
    #[arg(long, value_name = "WHEN", conflicts_with_all = ["watch", "adopted"])]
    pub since: Option<Since>,
    /// Print each bucket as a line of CSV
    #[arg(long, requires = "since", conflicts_with_all = ["json", "svg"])]
    pub csv: bool,
    /// Draw a chart into this file, `-` for stdout
    #[arg(long, value_name = "FILE", requires = "since", conflicts_with = "json")]
    pub svg: Option<PathBuf>,
}

/// `relay status`, and a part of `relay stats`.
#[derive(Debug, Args)]
pub struct ReportArgs {
    /// How to print it.
    #[command(flatten)]
    pub show: ShowArgs,
    /// Whose.
    #[command(flatten)]
    pub which: WhichArgs,
}

/// Whom what only shows is about.
#[derive(Debug, Args)]
pub struct WhichArgs {
    /// An adopted interface in place of the hub
    #[arg(long, value_name = "INTERFACE")]
    pub adopted: Option<InterfaceName>,
    /// The network namespace that it is in, as `relay adopt` was told
    #[arg(long, value_name = "PATH|PID", requires = "adopted")]
    pub netns: Option<NamespaceName>,
}

impl Command {
    /// The network namespace to do it in, if not our own.
    #[must_use]
    pub const fn namespace(&self) -> Option<&NamespaceName> {
        match self {
            Self::Adopt(args) | Self::Release(args) => args.netns.as_ref(),
            Self::Metrics(which) => which.netns.as_ref(),
            Self::Status(args) => args.which.netns.as_ref(),
            Self::Stats(args) => args.report.which.netns.as_ref(),
            Self::Trace(args) => args.which.netns.as_ref(),
            _ => None,
        }
    }
}

/// `relay trace`.
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  relay trace
  relay trace --peer phone
  relay trace --peer phone --verdict unknown_destination --verdict local
  relay trace --json | jq -c 'select(.protocol == \"TCP\")'
  relay trace --adopted wg0

A line for each packet that comes out of the tunnel: when, the verdict, from which peer to which
(`-` is none), the addresses, the protocol, the size. `redirected` took the fast path; every other
verdict says why a packet was left to the kernel's own path. Ctrl-C ends it, and packets cost
nothing more then. Only root may: the lines tell who talks to whom. Where packets come faster than
they can be told, some are left out, and stderr says how many.")]
pub struct TraceArgs {
    /// Only packets from or to this peer
    #[arg(long, value_name = "NAME")]
    pub peer: Option<String>,
    /// Only packets with this verdict; may be given more than once
    #[arg(long = "verdict", value_name = "REASON", value_parser = verdict())]
    pub verdicts: Vec<Verdict>,
    /// Print a line of JSON for each
    #[arg(long)]
    pub json: bool,
    /// Whose.
    #[command(flatten)]
    pub which: WhichArgs,
}

/// A verdict by its name; clap lists them in the help and where another word is given.
fn verdict() -> impl TypedValueParser<Value = Verdict> {
    let names = Verdict::ALL.iter().map(|verdict| verdict.name());
    PossibleValuesParser::new(names).try_map(|name| {
        let named = Verdict::ALL.iter().copied().find(|verdict| verdict.name() == name);
        named.ok_or("no verdict has that name")
    })
}

/// `relay doctor`.
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  relay doctor
  relay doctor home
  relay doctor --json

Each line is a check: ok, a warning or a fault, what was seen, and what to do. With a peer, it
follows that one from end to end and says where the way breaks. It changes nothing. Where a peer
is not connected it listens six seconds for those who knock. Through the tunnel it pings the homes
that are connected, at most eight unless one is named, and behind each up to 254 addresses of each
IPv4 LAN (4,096 together), which takes some seconds.

Exit codes: 0 nothing amiss, 3 warnings, 1 a fault (or it could not look), 2 wrong command line.")]
pub struct DoctorArgs {
    /// The peer to follow
    #[arg(value_name = "PEER")]
    pub peer: Option<PeerName>,
    /// Print JSON
    #[arg(long)]
    pub json: bool,
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory as _;

    use super::Cli;

    #[test]
    fn the_command_line_is_consistent() {
        Cli::command().debug_assert();
    }

    #[test]
    fn every_command_has_an_example() {
        fn visit(command: &clap::Command) {
            let help = command.get_after_help().map(ToString::to_string).unwrap_or_default();
            assert!(help.contains("Example"), "{} has none", command.get_name());
            command.get_subcommands().filter(|command| command.get_name() != "help").for_each(visit);
        }
        visit(&Cli::command());
    }
}
