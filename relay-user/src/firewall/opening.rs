//! What closes the listen port or the way from peer to peer, and through whom to open it.
//!
//! An accept in a table of our own opens nothing while another chain drops, so the opening stands where the closing
//! is, put there through the tool that owns the chain, and carries a tag. What is open already needs nothing; what is
//! ours is found by its tag in what the tools show, never remembered.
//!
//! Closed means that a plain first packet is dropped for certain. A rule that may drop some packets (a rate limit, a
//! block list) is the admin's intention and no reason to accept before it.

use ipnet::IpNet;

use super::{
    analysis::tunnel_packet,
    iptables_save::split,
    packet::{Interface, Packet, Truth, Version},
    ruleset::{Family, Hook, Match, Part, Rule, Ruleset, Source, Statement, Test},
    walk::{Act, BaseChain, base_chains, walk},
};

/// What is to be let through.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Way {
    /// WireGuard's messages to this UDP port.
    ListenPort(u16),
    /// Packets from peer to peer.
    Tunnel,
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

/// firewalld keeps no comments, so the mark of our rich rules there is their priority: -29,999 to -20,000 (of -32,768 to
/// 32,767, firewalld.richlanguage(5)), by the interface's name.
#[must_use]
pub fn firewalld_priority(interface: &str) -> i32 {
    -20_000 - i32::try_from(super::table::hash(interface) % 10_000).unwrap_or_default()
}

/// What is closed: the listen port to packets that come by `uplink` (`None`: by some interface), and the way from peer
/// to peer in the families in which the tunnel has `prefixes`.
#[must_use]
pub fn openings(
    ruleset: &Ruleset,
    interface: &str,
    listen_port: u16,
    uplink: Option<&str>,
    prefixes: &[IpNet],
) -> Vec<Opening> {
    let mut found: Vec<Opening> = Vec::new();
    for chain in base_chains(ruleset, &[Hook::Input, Hook::Forward]) {
        if super::table::is_ours(chain.table) {
            continue;
        }
        let (way, from) = match chain.base.hook {
            Hook::Input => (Way::ListenPort(listen_port), uplink),
            _ => (Way::Tunnel, Some(interface)),
        };
        let closed = [Version::V4, Version::V6].into_iter().any(|version| {
            let packet = match way {
                Way::ListenPort(port) => message(version, port, uplink),
                Way::Tunnel if !prefixes.iter().any(|prefix| Version::of(prefix) == version) => return false,
                Way::Tunnel => {
                    Packet { first: true, ..tunnel_packet(version, Hook::Forward, interface, prefixes) }
                }
            };
            version.meets(chain.table.family) && closes(&chain, &packet)
        });
        if closed {
            let opening = by(owner(ruleset, &chain, way, interface), &chain, way, interface, from);
            if !found.contains(&opening) {
                found.push(opening);
            }
        }
    }
    found
}

/// The opening of the tunnel in one chain, whether it closes or not.
#[must_use]
pub fn of_tunnel(ruleset: &Ruleset, chain: &BaseChain<'_>, interface: &str) -> Opening {
    let owner = owner(ruleset, chain, Way::Tunnel, interface);
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
        within: None,
        to_host: true,
        protocol: Some(17),
        destination_port: Some(port),
        first: true,
    }
}

fn closes(chain: &BaseChain<'_>, packet: &Packet<'_>) -> bool {
    let end = |step: &super::walk::Step<'_>| step.truth == Truth::Always && step.act != Act::Changed;
    walk(chain, packet).into_iter().find(end).is_some_and(|step| step.act == Act::Dropped)
}

fn by(owner: Owner, chain: &BaseChain<'_>, way: Way, interface: &str, from: Option<&str>) -> Opening {
    let mut by_hand = false;
    let argv = match &owner {
        Owner::Ufw => ufw(way, interface),
        Owner::Firewalld => {
            let zone = firewalld_zone(chain, from);
            by_hand = way == Way::Tunnel && zone.explicit;
            firewalld(way, interface, &zone)
        }
        Owner::DockerUser { legacy, v6 } => iptables(*legacy, *v6, "filter", "DOCKER-USER", way, interface),
        Owner::Iptables { legacy, v6, table, chain } => iptables(*legacy, *v6, table, chain, way, interface),
        Owner::Nft { family, table, chain } => {
            let rule = match way {
                Way::ListenPort(port) => format!("udp dport {port}"),
                Way::Tunnel => format!("iifname \"{interface}\" oifname \"{interface}\""),
            };
            let place = format!("{} {table} {chain}", family.name());
            vec!["nft".into(), format!("insert rule {place} {rule} accept comment \"{}\"", tag(interface))]
        }
    };
    Opening { way, owner, command: shell(&argv), argv, by_hand }
}

/// Through whom to open the chain: ufw, firewalld and Docker have places for it, and where an opening of ours stands in
/// such a place already and something before it still closes, it is the base chain's own top.
fn owner(ruleset: &Ruleset, chain: &BaseChain<'_>, way: Way, interface: &str) -> Owner {
    let has = |name: &str| chain.table.chains.contains_key(name);
    let Some(top) = at_top(chain) else { return Owner::Firewalld };
    let Owner::Iptables { legacy, v6, .. } = top else { return top };
    let ours = ours(ruleset, interface);
    let stands = |program: &str, place: &str| {
        ours.iter().any(|ours| ours.way == way && ours.remove[0] == program && ours.text.contains(place))
    };
    if (has("ufw-user-input") || has("ufw6-user-input")) && !stands("ufw", "") {
        Owner::Ufw
    } else if way == Way::Tunnel && has("DOCKER-USER") && !stands(program(legacy, v6), "DOCKER-USER") {
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

fn ufw(way: Way, interface: &str) -> Vec<String> {
    let rule = match way {
        Way::ListenPort(port) => vec!["ufw".to_owned(), "allow".to_owned(), format!("{port}/udp")],
        Way::Tunnel => words(&["ufw", "route", "allow", "in", "on", interface, "out", "on", interface]),
    };
    [rule, vec!["comment".to_owned(), tag(interface)]].concat()
}

fn iptables(legacy: bool, v6: bool, table: &str, chain: &str, way: Way, interface: &str) -> Vec<String> {
    let port;
    let rule: &[&str] = match way {
        Way::ListenPort(number) => {
            port = number.to_string();
            &["-p", "udp", "-m", "udp", "--dport", &port]
        }
        Way::Tunnel => &["-i", interface, "-o", interface],
    };
    let tag = tag(interface);
    let place = [program(legacy, v6), "-w", "-t", table, "-I", chain, "1"];
    words(&[place.as_slice(), rule, &["-m", "comment", "--comment", &tag, "-j", "ACCEPT"]].concat())
}

/// The iptables that reads and writes these rules.
#[must_use]
pub const fn program(legacy: bool, v6: bool) -> &'static str {
    match (legacy, v6) {
        (false, false) => "iptables-nft",
        (false, true) => "ip6tables-nft",
        (true, false) => "iptables-legacy",
        (true, true) => "ip6tables-legacy",
    }
}

/// How a table's tool is named in front of a quoted rule; nothing for nft itself.
#[must_use]
pub const fn tool_prefix(source: Source) -> &'static str {
    match source {
        Source::Nft => "",
        Source::Iptables => "iptables ",
        Source::IptablesLegacy => "legacy iptables ",
    }
}

/// The zone in which firewalld has an interface.
struct Zone {
    name: String,
    /// Whether the interface was put there; else it is the default zone.
    explicit: bool,
}

/// Reads the zone off the chain that sends packets to zones: by the interface's own rule, or by the last, which is the
/// default zone's. firewalld's own default is `public`.
fn firewalld_zone(chain: &BaseChain<'_>, from: Option<&str>) -> Zone {
    let by_zone = chain.table.chains.iter().find(|(name, _)| match chain.base.hook {
        Hook::Input => name.ends_with("INPUT_ZONES"),
        _ => name.ends_with("FORWARD_ZONES"),
    });
    let of_rule = |rule: &Rule| {
        let parts = rule.variants.first()?;
        let Some(Part::Do(Statement::Goto(target))) = parts.last() else { return None };
        let name = target.rsplit_once("IN_").or_else(|| target.rsplit_once("FWD_"))?.1.to_owned();
        match parts.as_slice() {
            [_] => Some(Zone { name, explicit: false }),
            [Part::Match(Match { negated: false, test: Test::InputInterface(names) }), _] => {
                names.iter().any(|name| Some(name.as_str()) == from).then_some(Zone { name, explicit: true })
            }
            _ => None,
        }
    };
    let fallback = || Zone { name: "public".to_owned(), explicit: false };
    by_zone.and_then(|(_, chain)| chain.rules.iter().find_map(of_rule)).unwrap_or_else(fallback)
}

/// All of it at run time only: what relay opens is not to outlive it in the admin's files. For the tunnel the interface
/// is put where it already counts as being, into the default zone, since a zone forwards between its own interfaces
/// only when they are named (`forward`, on by default from firewalld 1.0). Where the admin has put it into a zone that
/// does not forward, that is their word.
fn firewalld(way: Way, interface: &str, zone: &Zone) -> Vec<String> {
    let in_zone = format!("--zone={}", zone.name);
    let act = match way {
        Way::ListenPort(port) => format!("--add-rich-rule={}", firewalld_rich_rule(interface, port)),
        Way::Tunnel if zone.explicit => "--add-forward".to_owned(),
        Way::Tunnel => format!("--add-interface={interface}"),
    };
    vec!["firewall-cmd".to_owned(), in_zone, act]
}

/// The rich rule as firewalld prints it back.
#[must_use]
pub fn firewalld_rich_rule(interface: &str, port: u16) -> String {
    let priority = firewalld_priority(interface);
    format!("rule priority=\"{priority}\" port port=\"{port}\" protocol=\"udp\" accept")
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
        let way = port.map_or(Way::Tunnel, Way::ListenPort);
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
            found.push(Ours { way: way_of(rule), text: rule.text.clone(), remove });
        }
    }
    found
}

/// Those of ours that open another port than the one that is listened on.
#[must_use]
pub fn stale(ruleset: &Ruleset, interface: &str, listen_port: u16) -> Vec<Ours> {
    let other = |ours: &Ours| matches!(ours.way, Way::ListenPort(port) if port != listen_port);
    ours(ruleset, interface).into_iter().filter(other).collect()
}

fn way_of(rule: &Rule) -> Way {
    let port = rule.variants.iter().flatten().find_map(|part| match part {
        Part::Match(Match { test: Test::DestinationPort(ranges), .. }) => ranges.first().map(|range| range.0),
        _ => None,
    });
    port.map_or(Way::Tunnel, Way::ListenPort)
}

fn words(words: &[&str]) -> Vec<String> {
    words.iter().map(|&word| word.to_owned()).collect()
}

/// A command as a shell would have to be given it.
#[must_use]
pub fn shell(argv: &[String]) -> String {
    let plain = |word: &String| {
        !word.is_empty()
            && word.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"_-+=./:,@%".contains(&byte))
    };
    let quote =
        |word: &String| if plain(word) { word.clone() } else { format!("'{}'", word.replace('\'', r"'\''")) };
    argv.iter().map(quote).collect::<Vec<_>>().join(" ")
}
