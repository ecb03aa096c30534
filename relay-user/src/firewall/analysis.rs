//! Whether the host provably leaves traffic from peer to peer alone, so that a path around its hooks changes nothing.
//!
//! Walked are the chains on `prerouting`, `forward` and `postrouting` of nftables and of both iptables, and those on
//! the tunnel's own `ingress` and `egress`; looked at besides are other programs on the tunnel, policy routing and
//! the forwarding switches. There is one answer for both families: the fast path is one program and one switch, and
//! half of it on would be hard to explain. A family in which the tunnel has no prefix does not count.
//!
//! Whatever *could* drop, mark, translate or steer such a packet is a reason to stay off, also when it would do so to
//! few packets or in odd states only (`ct state invalid drop`). Counters and log lines are no reason: they decide
//! nothing.

use ipnet::IpNet;

use super::{
    opening,
    packet::{Interface, Packet, Truth, Version},
    ruleset::{Hook, Ruleset},
    walk::{Act, BaseChain, Step, base_chains, walk},
};

/// What else the host says, besides its firewall.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct HostFacts {
    /// Programs and filters on the tunnel's TC hooks that are not ours, by name.
    pub foreign_tc_programs: Vec<String>,
    /// The policy routing rules as `ip rule` prints them, those of IPv6 with `ip -6 rule` in front; the kernel's own
    /// three may be among them.
    pub ip_rules: Vec<String>,
    /// Whether IPv4 forwarding is on.
    pub forwarding_v4: bool,
    /// Whether IPv6 forwarding is on.
    pub forwarding_v6: bool,
    /// Other sysctls by which the kernel forwards IPv4 in the tunnel otherwise than the fast path, as `sysctl` prints
    /// them.
    pub odd_sysctls_v4: Vec<String>,
    /// The same for IPv6.
    pub odd_sysctls_v6: Vec<String>,
    /// Whether somebody else keeps the tunnel, so that there is no file to say `fast_path = "always"` in.
    pub adopted: bool,
}

/// The answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum TunnelForwarding {
    /// Nothing on the host does anything to such packets.
    Free,
    /// Something could.
    Kept {
        /// What, quoted as its own tool prints it and with the place where it stands.
        by: String,
        /// What the admin can do about it.
        hint: String,
    },
}

impl TunnelForwarding {
    fn kept(by: impl Into<String>, hint: impl Into<String>) -> Self {
        Self::Kept { by: by.into(), hint: hint.into() }
    }
}

/// Whether the host leaves packets alone that come by `interface` and leave by it, from and to addresses within
/// `prefixes` (the tunnel's subnets and the LANs behind it). The first reason against it in the packet's own order is
/// the one given.
#[must_use]
pub fn tunnel_forwarding(
    ruleset: &Ruleset,
    interface: &str,
    prefixes: &[IpNet],
    facts: &HostFacts,
) -> TunnelForwarding {
    let versions: Vec<Version> = [Version::V4, Version::V6]
        .into_iter()
        .filter(|version| prefixes.iter().any(|prefix| Version::of(prefix) == *version))
        .collect();
    of_facts(interface, prefixes, &versions, facts)
        .or_else(|| of_ruleset(ruleset, interface, prefixes, &versions, facts.adopted))
        .unwrap_or(TunnelForwarding::Free)
}

fn of_facts(
    interface: &str,
    prefixes: &[IpNet],
    versions: &[Version],
    facts: &HostFacts,
) -> Option<TunnelForwarding> {
    let kept = |by: String, hint: &str| Some(TunnelForwarding::kept(by, hint));
    if versions.contains(&Version::V4) && !facts.forwarding_v4 {
        return kept("net.ipv4.ip_forward = 0".into(), "sysctl -w net.ipv4.ip_forward=1");
    }
    if versions.contains(&Version::V6) && !facts.forwarding_v6 {
        return kept("net.ipv6.conf.all.forwarding = 0".into(), "sysctl -w net.ipv6.conf.all.forwarding=1");
    }
    let odd = [(Version::V4, &facts.odd_sysctls_v4), (Version::V6, &facts.odd_sysctls_v6)];
    let ours = odd.into_iter().filter(|(version, _)| versions.contains(version));
    if let Some(sysctl) = ours.flat_map(|(_, list)| list).next() {
        return kept(sysctl.clone(), "the fast path knows only the kernel's default; set it back to that");
    }
    if let Some(program) = facts.foreign_tc_programs.first() {
        return kept(
            format!("another program on {interface}: {program}"),
            if facts.adopted {
                "it would not see what the fast path forwards"
            } else {
                "it would not see what the fast path forwards; set fast_path = \"always\" if it need not"
            },
        );
    }
    let counts = |rule: &&String| !rule.starts_with("ip -6 ") || versions.contains(&Version::V6);
    let rule = facts.ip_rules.iter().filter(counts).find(|rule| may_steer(rule, interface, prefixes))?;
    let words = rule.split_whitespace().collect::<Vec<_>>().join(" ");
    kept(
        if words.starts_with("ip ") { words } else { format!("ip rule {words}") },
        if facts.adopted {
            "it may route tunnel traffic elsewhere; narrow it (iif, from)"
        } else {
            "it may route tunnel traffic elsewhere; narrow it (iif, from), or set fast_path = \"always\""
        },
    )
}

/// Whether a policy routing rule may take part in the routing of a packet from the tunnel. The kernel's own three do
/// not count, nor do rules for another input interface, for packets with a mark (those from the tunnel have none), for
/// the host's own sockets (`oif`, `uidrange`), or for sources that are none of the tunnel's.
fn may_steer(rule: &str, interface: &str, prefixes: &[IpNet]) -> bool {
    let (_, rule) = rule.split_once(':').unwrap_or(("", rule));
    let words: Vec<&str> = rule.split_whitespace().collect();
    if let ["from", "all", "lookup", "local" | "main" | "default" | "255" | "254" | "253"] = words.as_slice()
    {
        return false;
    }
    if words.contains(&"not") {
        return true;
    }
    let after = |word: &str| words.iter().position(|w| *w == word).and_then(|at| words.get(at + 1).copied());
    let zero = |mark: &str| mark.split('/').next().is_some_and(|value| value == "0" || value == "0x0");
    let outside = |from: &str| {
        let from: Option<IpNet> =
            from.parse().ok().or_else(|| from.parse().ok().map(|ip: std::net::IpAddr| ip.into()));
        from.is_some_and(|from| !prefixes.iter().any(|ours| ours.contains(&from) || from.contains(ours)))
    };
    let elsewhere = after("iif").is_some_and(|name| name != interface)
        || after("oif").is_some()
        || after("uidrange").is_some()
        || after("fwmark").is_some_and(|mark| !zero(mark))
        || after("from").is_some_and(outside);
    !elsewhere
}

fn of_ruleset(
    ruleset: &Ruleset,
    interface: &str,
    prefixes: &[IpNet],
    versions: &[Version],
    adopted: bool,
) -> Option<TunnelForwarding> {
    if let Some(unreadable) = ruleset.unreadable.first() {
        return Some(TunnelForwarding::kept(&unreadable.what, &unreadable.hint));
    }
    let hooks = [Hook::Ingress, Hook::Prerouting, Hook::Forward, Hook::Postrouting, Hook::Egress];
    for chain in base_chains(ruleset, &hooks) {
        if super::table::is_ours(chain.table) || !hangs_on(&chain, interface) {
            continue;
        }
        for &version in versions.iter().filter(|version| version.meets(chain.table.family)) {
            let packet = tunnel_packet(version, chain.base.hook, interface, prefixes);
            let meddles = |step: &&Step<'_>| step.act != Act::Accepted;
            if let Some(step) = walk(&chain, &packet).iter().find(meddles) {
                return Some(TunnelForwarding::kept(
                    quote(&chain, step),
                    hint(ruleset, &chain, interface, step, adopted),
                ));
            }
        }
    }
    None
}

/// Whether the chain is on the tunnel: all are, but for those of other devices. An unknown device is taken for it.
fn hangs_on(chain: &BaseChain<'_>, interface: &str) -> bool {
    if !matches!(chain.base.hook, Hook::Ingress | Hook::Egress) || chain.base.devices.is_empty() {
        return true;
    }
    let fits = |device: &String| match device.strip_suffix('*') {
        Some(stem) => interface.starts_with(stem),
        None => device == interface,
    };
    chain.base.devices.iter().any(fits)
}

/// A packet from peer to peer as it is known at that hook: before routing nobody knows where it leaves.
pub(super) fn tunnel_packet<'a>(
    version: Version,
    hook: Hook,
    interface: &'a str,
    prefixes: &'a [IpNet],
) -> Packet<'a> {
    let routed = !matches!(hook, Hook::Ingress | Hook::Prerouting);
    Packet {
        version,
        input: Interface::Named(interface),
        output: if routed { Interface::Named(interface) } else { Interface::Unknown },
        from: Some(prefixes),
        to: Some(prefixes),
        to_host: false,
        protocol: None,
        destination_port: None,
        state: None,
    }
}

/// The place and the words of what a step does: ``ip filter ufw6-before-forward: -A … -j DROP``.
#[must_use]
pub fn quote(chain: &BaseChain<'_>, step: &Step<'_>) -> String {
    let table = chain.table;
    let place = format!("{}table {} {}", opening::tool_prefix(table.source), table.family.name(), table.name);
    match step.rule {
        Some(rule) => format!("{place}, chain {}: {}", step.chain, rule.text),
        None => format!("{place}, chain {}: policy drop", step.chain),
    }
}

/// What closes for certain is opened through its owner; what may drop some packets needs an accept before it.
fn hint(ruleset: &Ruleset, chain: &BaseChain<'_>, interface: &str, step: &Step<'_>, adopted: bool) -> String {
    let always = (!adopted).then(|| {
        format!("set fast_path = \"always\" if traffic from {interface} to {interface} need not pass it")
    });
    let drops = chain.base.hook == Hook::Forward && step.act == Act::Dropped;
    let opening = match step.truth {
        Truth::Always => Some(opening::of_tunnel(ruleset, chain, interface)),
        _ => opening::of_tunnel_at_top(chain, interface),
    };
    let narrower = match opening {
        Some(opening) if drops => Some(opening.command),
        None if drops && !adopted => None,
        _ => Some(format!("limit it to other interfaces than {interface}")),
    };
    narrower.into_iter().chain(always).collect::<Vec<_>>().join(", or ")
}
