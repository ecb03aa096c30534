//! The commands of each owner's tool that open.

use super::{
    super::{
        ruleset::{Hook, Match, Part, Rule, Source, Statement, Test},
        table::hash,
        walk::BaseChain,
    },
    Way, tag,
};

pub(super) fn ufw(way: &Way, interface: &str) -> Vec<String> {
    let route = |from, to| words(&["ufw", "route", "allow", "in", "on", from, "out", "on", to]);
    let rule = match way {
        Way::ListenPort(port) => vec!["ufw".to_owned(), "allow".to_owned(), format!("{port}/udp")],
        Way::Tunnel => route(interface, interface),
        Way::Exit(uplink) => route(interface, uplink),
        // ufw lets established flows through before anything else, and its rules know no states.
        Way::Return(uplink) => route(uplink, interface),
    };
    [rule, vec!["comment".to_owned(), tag(interface)]].concat()
}

pub(super) fn iptables(
    legacy: bool,
    v6: bool,
    table: &str,
    chain: &str,
    way: &Way,
    interface: &str,
) -> Vec<String> {
    let port;
    let rule: &[&str] = match way {
        Way::ListenPort(number) => {
            port = number.to_string();
            &["-p", "udp", "-m", "udp", "--dport", &port]
        }
        Way::Tunnel => &["-i", interface, "-o", interface],
        Way::Exit(uplink) => &["-i", interface, "-o", uplink],
        Way::Return(uplink) => {
            &["-i", uplink, "-o", interface, "-m", "conntrack", "--ctstate", "RELATED,ESTABLISHED"]
        }
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
pub(super) struct Zone {
    name: String,
    /// Whether the interface was put there; else it is the default zone.
    pub(super) explicit: bool,
}

/// Reads the zone off the chain that sends packets to zones: by the interface's own rule, or by the last, which is the
/// default zone's. firewalld's own default is `public`.
pub(super) fn firewalld_zone(chain: &BaseChain<'_>, from: Option<&str>) -> Zone {
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
/// does not forward, that is their word. An uplink in the default zone, where most are, is thereby open to full tunnels;
/// toward another zone it takes a policy, which is the admin's to write.
pub(super) fn firewalld(way: &Way, interface: &str, zone: &Zone) -> Vec<String> {
    let in_zone = format!("--zone={}", zone.name);
    let act = match way {
        Way::ListenPort(port) => format!("--add-rich-rule={}", firewalld_rich_rule(interface, *port)),
        _ if zone.explicit => "--add-forward".to_owned(),
        _ => format!("--add-interface={interface}"),
    };
    vec!["firewall-cmd".to_owned(), in_zone, act]
}

/// The rich rule as firewalld prints it back.
#[must_use]
pub fn firewalld_rich_rule(interface: &str, port: u16) -> String {
    let priority = firewalld_priority(interface);
    format!("rule priority=\"{priority}\" port port=\"{port}\" protocol=\"udp\" accept")
}

/// firewalld keeps no comments, so the mark of our rich rules there is their priority: -29,999 to -20,000 (of -32,768 to
/// 32,767, firewalld.richlanguage(5)), by the interface's name.
#[must_use]
pub fn firewalld_priority(interface: &str) -> i32 {
    -20_000 - i32::try_from(hash(interface) % 10_000).unwrap_or_default()
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

pub(super) fn words(words: &[&str]) -> Vec<String> {
    words.iter().map(|&word| word.to_owned()).collect()
}
