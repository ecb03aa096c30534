//! The openings that relay made, found again by their tag.

use super::{
    super::{
        exit::Exit,
        iptables_save::split,
        ruleset::{Family, Match, Part, Rule, Ruleset, Source, Test},
        table::is_ours,
    },
    Way,
    command::{program, words},
    tag,
};

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
    for table in ruleset.tables.iter().filter(|table| !is_ours(table)) {
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
        Way::Exit(uplink) | Way::Return(uplink) => leads_nowhere(uplink, exits),
    };
    ours(ruleset, interface).into_iter().filter(is_stale).collect()
}

/// The same at a home, where nothing but the ways to its LANs and back is open.
#[must_use]
pub fn stale_at_home(ruleset: &Ruleset, interface: &str, exits: &[Exit]) -> Vec<Ours> {
    let is_stale = |ours: &Ours| match &ours.way {
        Way::ListenPort(_) | Way::Tunnel => true,
        Way::Exit(interface) | Way::Return(interface) => leads_nowhere(interface, exits),
    };
    ours(ruleset, interface).into_iter().filter(is_stale).collect()
}

fn leads_nowhere(interface: &str, exits: &[Exit]) -> bool {
    exits.iter().all(|exit| exit.uplink != interface)
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
