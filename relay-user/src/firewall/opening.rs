//! What closes the listen port, the way from peer to peer, or that of full tunnels to the internet, and through whom to
//! open it.
//!
//! An accept in a table of our own opens nothing while another chain drops, so the opening stands where the closing
//! is, put there through the tool that owns the chain, and carries a tag. What is open already needs nothing; what is
//! ours is found by its tag in what the tools show, never remembered.
//!
//! Closed means that a plain first packet, or an answer to one, is dropped for certain. A rule that may drop some packets (a rate limit, a
//! block list) is the admin's intention and no reason to accept before it.

mod command;
mod ours;

use ipnet::IpNet;

use self::command::{firewalld, firewalld_zone, iptables, ufw};
pub use self::{
    command::{firewalld_priority, firewalld_rich_rule, program, shell, tool_prefix},
    ours::{Ours, ours, stale, stale_at_home},
};
use super::{
    analysis::{quote, tunnel_packet},
    exit::Exit,
    packet::{Interface, Packet, Truth, Version},
    ruleset::{Base, Family, Hook, Ruleset, Source},
    walk::{Act, BaseChain, Step, base_chains, walk},
};

/// What is to be let through.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Way {
    /// WireGuard's messages to this UDP port.
    ListenPort(u16),
    /// Packets from peer to peer.
    Tunnel,
    /// What full tunnels send out by this uplink.
    Exit(String),
    /// What comes back to them by it.
    Return(String),
}

/// Who owns the chain that closes.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Owner {
    /// ufw.
    Ufw,
    /// firewalld.
    Firewalld,
    /// Docker, which leaves `DOCKER-USER` to others.
    DockerUser {
        /// In legacy iptables.
        legacy: bool,
        /// In ip6tables.
        v6: bool,
    },
    /// Whoever wrote the nftables ruleset.
    Nft {
        /// The table's family.
        family: Family,
        /// The table.
        table: String,
        /// The base chain.
        chain: String,
    },
    /// Whoever wrote the iptables rules.
    Iptables {
        /// In legacy iptables.
        legacy: bool,
        /// In ip6tables.
        v6: bool,
        /// The table.
        table: String,
        /// The built-in chain.
        chain: String,
    },
}

/// One opening to make.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Opening {
    /// What it lets through.
    pub way: Way,
    /// Through whom.
    pub owner: Owner,
    /// Program and arguments; nothing is ever given to a shell.
    pub argv: Vec<String>,
    /// The same as a line that a person can paste into a shell.
    pub command: String,
    /// Whether relay leaves it to the admin, also with `manage = true`: nothing would mark it as ours.
    pub by_hand: bool,
}

/// The comment on every rule that relay puts into somebody else's chain for this interface.
#[must_use]
pub fn tag(interface: &str) -> String {
    format!("relay {interface}")
}

/// What is closed: the listen port to packets that come by `uplink` (`None`: by some interface), the way from peer to
/// peer in the families in which the tunnel has `prefixes`, and the ways of full tunnels out and back.
#[must_use]
pub fn openings(
    ruleset: &Ruleset,
    interface: &str,
    listen_port: u16,
    uplink: Option<&str>,
    prefixes: &[IpNet],
    exits: &[Exit],
) -> Vec<Opening> {
    let ways = |hook| ways(hook, interface, listen_port, uplink, prefixes, exits);
    found(ruleset, interface, uplink, ways)
}

/// What is closed at a home: the ways from the tunnel's `prefixes` to its LANs and back.
#[must_use]
pub fn of_home(ruleset: &Ruleset, interface: &str, prefixes: &[IpNet], exits: &[Exit]) -> Vec<Opening> {
    let ways = |hook| match hook {
        Hook::Forward => ways_out(interface, prefixes, exits),
        _ => Vec::new(),
    };
    found(ruleset, interface, None, ways)
}

fn found<'a>(
    ruleset: &Ruleset,
    interface: &str,
    uplink: Option<&str>,
    ways: impl Fn(Hook) -> Vec<(Way, Packet<'a>)>,
) -> Vec<Opening> {
    let mut found: Vec<Opening> = Vec::new();
    for (chain, way, _) in closing(ruleset, uplink, ways) {
        let from = if chain.base.hook == Hook::Forward { Some(interface) } else { uplink };
        let owner = owner(ruleset, &chain, &way, interface);
        let opening = by(owner, &chain, way, interface, from);
        if !found.contains(&opening) {
            found.push(opening);
        }
    }
    found
}

/// The rules for which [`openings`] finds something to open, each with the way that it closes.
#[must_use]
pub fn closers(
    ruleset: &Ruleset,
    interface: &str,
    listen_port: u16,
    uplink: Option<&str>,
    prefixes: &[IpNet],
    exits: &[Exit],
) -> Vec<(Way, String)> {
    let ways = |hook| ways(hook, interface, listen_port, uplink, prefixes, exits);
    let closing = closing(ruleset, uplink, ways).into_iter();
    closing.map(|(chain, way, step)| (way, quote(&chain, &step))).collect()
}

/// The base chains of others that close a way, and how.
fn closing<'r, 'p>(
    ruleset: &'r Ruleset,
    uplink: Option<&str>,
    ways: impl Fn(Hook) -> Vec<(Way, Packet<'p>)>,
) -> Vec<(BaseChain<'r>, Way, Step<'r>)> {
    let hooks = [Hook::Ingress, Hook::Prerouting, Hook::Input, Hook::Forward];
    let passed = |chain: &BaseChain<'_>| {
        !super::table::is_ours(chain.table) && (chain.base.hook != Hook::Ingress || is_of(uplink, chain.base))
    };
    let mut found = Vec::new();
    for chain in base_chains(ruleset, &hooks).into_iter().filter(passed) {
        for (way, packet) in ways(chain.base.hook) {
            if packet.version.meets(chain.table.family)
                && let Some(step) = closer(&chain, &packet)
            {
                found.push((chain, way, step));
            }
        }
    }
    found
}

/// Whether a chain on a device's ingress is one that every packet from the uplink meets.
fn is_of(uplink: Option<&str>, base: &Base) -> bool {
    uplink.is_some_and(|uplink| base.devices.iter().any(|device| device == uplink))
}

/// What shall pass a hook, with a packet of each family that does.
fn ways<'a>(
    hook: Hook,
    interface: &'a str,
    listen_port: u16,
    uplink: Option<&'a str>,
    prefixes: &'a [IpNet],
    exits: &'a [Exit],
) -> Vec<(Way, Packet<'a>)> {
    let versions = [Version::V4, Version::V6].into_iter();
    if hook != Hook::Forward {
        // Connections are tracked between the two (net/netfilter/nf_conntrack_core.c), at a priority of prerouting.
        let state = (hook == Hook::Input).then_some("new");
        let message = |version| Packet { state, ..message(version, listen_port, uplink) };
        return versions.map(|version| (Way::ListenPort(listen_port), message(version))).collect();
    }
    let has = |version: &Version| prefixes.iter().any(|prefix| Version::of(prefix) == *version);
    let mut ways: Vec<(Way, Packet<'a>)> =
        versions.filter(has).map(|version| (Way::Tunnel, tunnel(version, interface, prefixes))).collect();
    ways.extend(ways_out(interface, prefixes, exits));
    ways
}

/// The first packet of a flow from peer to peer.
fn tunnel<'a>(version: Version, interface: &'a str, prefixes: &'a [IpNet]) -> Packet<'a> {
    Packet { state: Some("new"), ..tunnel_packet(version, Hook::Forward, interface, prefixes) }
}

/// Out of the tunnel and back, by each exit.
fn ways_out<'a>(interface: &'a str, prefixes: &'a [IpNet], exits: &'a [Exit]) -> Vec<(Way, Packet<'a>)> {
    let mut ways = Vec::new();
    for Exit { version, uplink, sources } in exits {
        let (inside, outside) = (Interface::Named(interface), Interface::Named(uplink));
        let out = Packet {
            output: outside,
            from: Some(sources),
            to: None,
            ..tunnel(*version, interface, prefixes)
        };
        let back = Packet {
            input: outside,
            output: inside,
            from: None,
            to: Some(sources),
            state: Some("established"),
            ..out
        };
        ways.extend([(Way::Exit(uplink.clone()), out), (Way::Return(uplink.clone()), back)]);
    }
    ways
}

/// The opening of the tunnel in one chain, whether it closes or not.
#[must_use]
pub fn of_tunnel(ruleset: &Ruleset, chain: &BaseChain<'_>, interface: &str) -> Opening {
    let owner = owner(ruleset, chain, &Way::Tunnel, interface);
    by(owner, chain, Way::Tunnel, interface, Some(interface))
}

/// The opening of the tunnel at the top of a chain, before everything else in it; `None` where the chain's owner leaves
/// no such place (firewalld).
#[must_use]
pub fn of_tunnel_at_top(chain: &BaseChain<'_>, interface: &str) -> Option<Opening> {
    let owner = at_top(chain)?;
    Some(by(owner, chain, Way::Tunnel, interface, Some(interface)))
}

/// A WireGuard message from a peer whose flow is not known yet.
fn message(version: Version, port: u16, uplink: Option<&str>) -> Packet<'_> {
    Packet {
        version,
        input: uplink.map_or(Interface::Unknown, Interface::Named),
        output: Interface::None,
        from: None,
        to: None,
        to_host: true,
        protocol: Some(17),
        destination_port: Some(port),
        state: Some("new"),
    }
}

/// What drops the packet for certain.
fn closer<'a>(chain: &BaseChain<'a>, packet: &Packet<'_>) -> Option<Step<'a>> {
    let end = |step: &Step<'_>| step.truth == Truth::Always && step.act != Act::Changed;
    walk(chain, packet).into_iter().find(end).filter(|step| step.act == Act::Dropped)
}

fn by(owner: Owner, chain: &BaseChain<'_>, way: Way, interface: &str, from: Option<&str>) -> Opening {
    let mut by_hand = false;
    let argv = match &owner {
        Owner::Ufw => ufw(&way, interface),
        Owner::Firewalld => {
            let zone = firewalld_zone(chain, from);
            by_hand = !matches!(way, Way::ListenPort(_)) && zone.explicit;
            firewalld(&way, interface, &zone)
        }
        Owner::DockerUser { legacy, v6 } => iptables(*legacy, *v6, "filter", "DOCKER-USER", &way, interface),
        Owner::Iptables { legacy, v6, table, chain } => iptables(*legacy, *v6, table, chain, &way, interface),
        Owner::Nft { family, table, chain } => {
            let rule = match &way {
                Way::ListenPort(port) => format!("udp dport {port}"),
                Way::Tunnel => format!("iifname \"{interface}\" oifname \"{interface}\""),
                Way::Exit(uplink) => format!("iifname \"{interface}\" oifname \"{uplink}\""),
                Way::Return(uplink) => {
                    format!("iifname \"{uplink}\" oifname \"{interface}\" ct state established,related")
                }
            };
            let place = format!("{} {table} {chain}", family.name());
            vec!["nft".into(), format!("insert rule {place} {rule} accept comment \"{}\"", tag(interface))]
        }
    };
    Opening { way, owner, command: shell(&argv), argv, by_hand }
}

/// Through whom to open the chain: ufw, firewalld and Docker have places for it, and where an opening of ours stands in
/// such a place already and something before it still closes, it is the base chain's own top.
fn owner(ruleset: &Ruleset, chain: &BaseChain<'_>, way: &Way, interface: &str) -> Owner {
    let has = |name: &str| chain.table.chains.contains_key(name);
    let Some(top) = at_top(chain) else { return Owner::Firewalld };
    let Owner::Iptables { legacy, v6, .. } = top else { return top };
    let ours = ours(ruleset, interface);
    let stands = |program: &str, place: &str| {
        ours.iter().any(|ours| ours.way == *way && ours.remove[0] == program && ours.text.contains(place))
    };
    if (has("ufw-user-input") || has("ufw6-user-input")) && !stands("ufw", "") {
        Owner::Ufw
    } else if !matches!(way, Way::ListenPort(_))
        && has("DOCKER-USER")
        && !stands(program(legacy, v6), "DOCKER-USER")
    {
        Owner::DockerUser { legacy, v6 }
    } else {
        top
    }
}

/// Who opens a chain at its own top; `None` for firewalld's, which it writes anew as it likes.
fn at_top(chain: &BaseChain<'_>) -> Option<Owner> {
    let (table, name) = (chain.table, chain.name.to_owned());
    let firewalld = match table.source {
        Source::Nft => table.family == Family::Inet && table.name == "firewalld",
        _ => ["INPUT_ZONES", "FORWARD_ZONES"].iter().any(|name| table.chains.contains_key(*name)),
    };
    if firewalld {
        return None;
    }
    Some(match table.source {
        Source::Nft => Owner::Nft { family: table.family, table: table.name.clone(), chain: name },
        source => Owner::Iptables {
            legacy: source == Source::IptablesLegacy,
            v6: table.family == Family::Ip6,
            table: table.name.clone(),
            chain: name,
        },
    })
}

#[cfg(test)]
mod tests;
