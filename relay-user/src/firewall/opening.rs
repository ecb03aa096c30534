//! What closes the listen port or the way from peer to peer, and through whom to open it.
//!
//! An accept in a table of our own opens nothing while another chain drops, so the opening stands where the closing
//! is, put there through the tool that owns the chain, and carries a tag. What is open already needs nothing; what is
//! ours is found by its tag in what the tools show, never remembered.
//!
//! Closed means that a plain first packet is dropped for certain. A rule that may drop some packets (a rate limit, a
//! block list) is the admin's intention and no reason to accept before it.

mod command;

use ipnet::IpNet;

use self::command::{firewalld, firewalld_zone, iptables, ufw, words};
pub use self::command::{firewalld_priority, firewalld_rich_rule, program, shell, tool_prefix};
use super::{
    analysis::tunnel_packet,
    exit::Exit,
    iptables_save::split,
    packet::{Interface, Packet, Truth, Version},
    ruleset::{Family, Hook, Match, Part, Rule, Ruleset, Source, Test},
    walk::{Act, BaseChain, base_chains, walk},
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

/// A rule that carries our tag.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Ours {
    /// What it lets through.
    pub way: Way,
    /// The rule as its tool prints it.
    pub text: String,
    /// Program and arguments that take exactly this rule away.
    pub remove: Vec<String>,
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
    let mut found: Vec<Opening> = Vec::new();
    for chain in base_chains(ruleset, &[Hook::Input, Hook::Forward]) {
        if super::table::is_ours(chain.table) {
            continue;
        }
        let from = if chain.base.hook == Hook::Input { uplink } else { Some(interface) };
        for (way, packet) in ways(chain.base.hook, interface, listen_port, uplink, prefixes, exits) {
            if packet.version.meets(chain.table.family) && closes(&chain, &packet) {
                let owner = owner(ruleset, &chain, &way, interface);
                let opening = by(owner, &chain, way, interface, from);
                if !found.contains(&opening) {
                    found.push(opening);
                }
            }
        }
    }
    found
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
    if hook == Hook::Input {
        let message = |version| (Way::ListenPort(listen_port), message(version, listen_port, uplink));
        return versions.map(message).collect();
    }
    let tunnel =
        |version| Packet { state: Some("new"), ..tunnel_packet(version, Hook::Forward, interface, prefixes) };
    let has = |version: &Version| prefixes.iter().any(|prefix| Version::of(prefix) == *version);
    let mut ways: Vec<(Way, Packet<'a>)> =
        versions.filter(has).map(|version| (Way::Tunnel, tunnel(version))).collect();
    for Exit { version, uplink, sources } in exits {
        let (inside, outside) = (Interface::Named(interface), Interface::Named(uplink));
        let out = Packet { output: outside, from: Some(sources), to: None, ..tunnel(*version) };
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

fn closes(chain: &BaseChain<'_>, packet: &Packet<'_>) -> bool {
    let end = |step: &super::walk::Step<'_>| step.truth == Truth::Always && step.act != Act::Changed;
    walk(chain, packet).into_iter().find(end).is_some_and(|step| step.act == Act::Dropped)
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

/// The rules that carry our tag for this interface. firewalld's are not among them: it keeps no comments, and
/// [`crate::kernel::firewall::close_all`] asks it by itself.
#[must_use]
pub fn ours(ruleset: &Ruleset, interface: &str) -> Vec<Ours> {
    let tag = tag(interface);
    let mut found = Vec::new();
    for rule in ruleset.ufw.iter().filter(|rule| rule.comment == tag) {
        let at = usize::from(rule.arguments.first().is_some_and(|word| word == "route"));
        let mut remove = vec!["ufw".to_owned()];
        remove.extend(rule.arguments.iter().cloned());
        remove.insert(1 + at, "delete".to_owned());
        let port = rule.arguments.iter().find_map(|word| word.strip_suffix("/udp")?.parse().ok());
        let after = |direction: &str| {
            let at = rule.arguments.windows(3).find(|words| words[0] == direction && words[1] == "on")?;
            Some(at[2].as_str())
        };
        let way = way_between(interface, port, after("in"), after("out"));
        found.push(Ours { way, text: format!("ufw {}", rule.arguments.join(" ")), remove });
    }
    for table in ruleset.tables.iter().filter(|table| !super::table::is_ours(table)) {
        for (chain, rule) in
            table.chains.iter().flat_map(|(name, chain)| chain.rules.iter().map(move |r| (name, r)))
        {
            if rule.comment.as_deref() != Some(&tag) {
                continue;
            }
            let remove = match (table.source, rule.handle) {
                (Source::Nft, Some(handle)) => {
                    let place = format!("{} {} {chain}", table.family.name(), table.name);
                    vec!["nft".to_owned(), format!("delete rule {place} handle {handle}")]
                }
                (Source::Nft, None) => continue,
                (source, _) => {
                    let program = program(source == Source::IptablesLegacy, table.family == Family::Ip6);
                    let specification = split(&rule.text).split_off(1);
                    [words(&[program, "-w", "-t", &table.name, "-D"]), specification].concat()
                }
            };
            found.push(Ours { way: way_of(rule, interface), text: rule.text.clone(), remove });
        }
    }
    found
}

/// Those of ours that open another port than the one that is listened on, or a way out that no full tunnel takes.
#[must_use]
pub fn stale(ruleset: &Ruleset, interface: &str, listen_port: u16, exits: &[Exit]) -> Vec<Ours> {
    let is_stale = |ours: &Ours| match &ours.way {
        Way::ListenPort(port) => *port != listen_port,
        Way::Tunnel => false,
        Way::Exit(uplink) | Way::Return(uplink) => exits.iter().all(|exit| exit.uplink != *uplink),
    };
    ours(ruleset, interface).into_iter().filter(is_stale).collect()
}

fn way_of(rule: &Rule, interface: &str) -> Way {
    let tests = || {
        rule.variants.iter().flatten().filter_map(|part| match part {
            Part::Match(Match { test, .. }) => Some(test),
            Part::Do(_) => None,
        })
    };
    let port = tests().find_map(|test| match test {
        Test::DestinationPort(ranges) => ranges.first().map(|range| range.0),
        _ => None,
    });
    let input = tests().find_map(|test| match test {
        Test::InputInterface(names) => names.first().map(String::as_str),
        _ => None,
    });
    let output = tests().find_map(|test| match test {
        Test::OutputInterface(names) => names.first().map(String::as_str),
        _ => None,
    });
    way_between(interface, port, input, output)
}

/// What a rule of ours opens, by the port or the interfaces that it names.
fn way_between(interface: &str, port: Option<u16>, input: Option<&str>, output: Option<&str>) -> Way {
    match (port, input, output) {
        (Some(port), ..) => Way::ListenPort(port),
        (_, Some(input), Some(output)) if input == interface && output != interface => {
            Way::Exit(output.to_owned())
        }
        (_, Some(input), Some(output)) if input != interface && output == interface => {
            Way::Return(input.to_owned())
        }
        _ => Way::Tunnel,
    }
}

#[cfg(test)]
mod tests {
    use super::{
        super::{iptables_save::parse, ruleset::UfwRule},
        *,
    };

    fn commands(chains: &str, rules: &str, ufw: &[&str]) -> Vec<String> {
        let text = format!("*filter\n:INPUT ACCEPT [0:0]\n:FORWARD DROP [0:0]\n{chains}{rules}COMMIT\n");
        let rule = |text: &&str| UfwRule {
            arguments: text.split(' ').map(str::to_owned).collect(),
            comment: tag("wg0"),
        };
        let ruleset = Ruleset {
            tables: parse(&text, Family::Ip, Source::Iptables),
            ufw: ufw.iter().map(rule).collect(),
            ..Ruleset::default()
        };
        let prefixes = ["10.9.0.0/24".parse().expect("a prefix")];
        openings(&ruleset, "wg0", 51820, None, &prefixes, &[])
            .into_iter()
            .map(|opening| opening.command)
            .collect()
    }

    /// Where something closes before the place that its owner keeps for others, another rule in that place would help
    /// as little as the first.
    #[test]
    fn a_place_that_did_not_help_is_not_tried_again() {
        let top =
            "iptables-nft -w -t filter -I FORWARD 1 -i wg0 -o wg0 -m comment --comment 'relay wg0' -j ACCEPT";
        let before = "-A FORWARD -j DROP\n";
        let ufw = ":ufw-user-input - [0:0]\n";
        let route = "route allow in on wg0 out on wg0";
        assert_eq!(commands(ufw, before, &[]), [format!("ufw {route} comment 'relay wg0'")]);
        assert_eq!(commands(ufw, before, &[route]), [top]);
        let docker = ":DOCKER-USER - [0:0]\n";
        let ours = "-A DOCKER-USER -i wg0 -o wg0 -m comment --comment \"relay wg0\" -j ACCEPT\n";
        assert_eq!(commands(docker, before, &[]), [top.replace("FORWARD", "DOCKER-USER")]);
        assert_eq!(commands(docker, &format!("{before}{ours}"), &[]), [top]);
    }

    #[test]
    fn what_is_removed_is_what_was_printed() {
        let text = "*filter\n-A FORWARD -i wg0 -o wg0 -m comment --comment \"relay wg0\" -j ACCEPT\n\
                    -A INPUT -p udp -m udp --dport 4500 -m comment --comment \"relay wg0\" -j ACCEPT\n\
                    -A INPUT -m comment --comment \"relay wg01\" -j ACCEPT\nCOMMIT\n";
        let tables = parse(text, Family::Ip6, Source::IptablesLegacy);
        let ruleset = Ruleset { tables, ..Ruleset::default() };
        let found: Vec<(Way, String)> =
            ours(&ruleset, "wg0").iter().map(|ours| (ours.way.clone(), shell(&ours.remove))).collect();
        let start = "ip6tables-legacy -w -t filter -D";
        let end = "-m comment --comment 'relay wg0' -j ACCEPT";
        let expected = [
            (Way::Tunnel, format!("{start} FORWARD -i wg0 -o wg0 {end}")),
            (Way::ListenPort(4500), format!("{start} INPUT -p udp -m udp --dport 4500 {end}")),
        ];
        assert_eq!(found, expected);
        assert_eq!(stale(&ruleset, "wg0", 4500, &[]), []);
        assert_eq!(stale(&ruleset, "wg0", 51820, &[]).len(), 1);
    }

    #[test]
    fn an_exit_that_nobody_takes_is_closed() {
        let text = "*filter\n-A FORWARD -i wg0 -o eth0 -m comment --comment \"relay wg0\" -j ACCEPT\n\
                    -A FORWARD -i eth0 -o wg0 -m conntrack --ctstate RELATED,ESTABLISHED -m comment --comment \
                    \"relay wg0\" -j ACCEPT\nCOMMIT\n";
        let arguments = "route allow in on wg0 out on eth0".split(' ').map(str::to_owned).collect();
        let ruleset = Ruleset {
            tables: parse(text, Family::Ip, Source::Iptables),
            ufw: vec![UfwRule { arguments, comment: tag("wg0") }],
            ..Ruleset::default()
        };
        let ways: Vec<Way> = ours(&ruleset, "wg0").into_iter().map(|ours| ours.way).collect();
        let (out, back) = (Way::Exit("eth0".into()), Way::Return("eth0".into()));
        assert_eq!(ways, [out.clone(), out, back]);
        let exit = |uplink: &str| Exit {
            version: Version::V4,
            uplink: uplink.into(),
            sources: vec!["10.9.0.3/32".parse().expect("a prefix")],
        };
        assert_eq!(stale(&ruleset, "wg0", 51820, &[exit("eth0")]), []);
        assert_eq!(stale(&ruleset, "wg0", 51820, &[exit("eth1")]).len(), 3);
        assert_eq!(stale(&ruleset, "wg0", 51820, &[]).len(), 3);
    }

    /// A rate limit or a block list is the admin's intention, and no reason to accept before it.
    #[test]
    fn what_drops_some_packets_closes_nothing() {
        let accept = "-A FORWARD -j ACCEPT\n";
        let limit = "-A INPUT -p udp -m hashlimit --hashlimit-above 9/sec -j DROP\n-A INPUT -s 192.0.2.0/24 -j DROP\n";
        assert_eq!(commands("", &format!("{limit}{accept}"), &[]), [""; 0]);
        let port = "iptables-nft -w -t filter -I INPUT 1 -p udp -m udp --dport 51820 -m comment --comment 'relay wg0' \
                    -j ACCEPT";
        assert_eq!(commands("", &format!("{limit}{accept}-A INPUT -p udp -j REJECT\n"), &[]), [port]);
    }
}
