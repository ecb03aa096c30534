//! Reads what `iptables-save` and `ip6tables-save` print, of either iptables (iptables-save(8)).
//!
//! An extension or an option that is not known here becomes [`Test::Unknown`], a target [`Statement::Changes`].

use std::{collections::BTreeMap, net::IpAddr};

use ipnet::IpNet;

use super::{
    packet::protocol_number,
    ruleset::{Base, Chain, Family, Hook, Match, Part, Rule, Source, Statement, Table, Test},
};

/// The tables of one family. Lines that iptables-save does not print are passed over.
#[must_use]
pub fn parse(text: &str, family: Family, source: Source) -> Vec<Table> {
    let mut tables: Vec<Table> = Vec::new();
    for line in text.lines() {
        if let Some(name) = line.strip_prefix('*') {
            tables.push(Table { source, family, name: name.trim().to_owned(), chains: BTreeMap::new() });
            continue;
        }
        let Some(table) = tables.last_mut() else { continue };
        if let Some(declared) = line.strip_prefix(':') {
            let mut words = declared.split_whitespace();
            let (Some(name), Some(policy)) = (words.next(), words.next()) else { continue };
            let base = base(&table.name, name, policy);
            table.chains.insert(name.to_owned(), Chain { base, rules: Vec::new() });
        } else if line.starts_with("-A ") || line.starts_with('[') {
            let line = line.split_once("] ").filter(|_| line.starts_with('[')).map_or(line, |(_, rule)| rule);
            let words = split(line);
            let Some(chain) = words.get(1) else { continue };
            table.chains.entry(chain.clone()).or_default().rules.push(rule(line, &words));
        }
    }
    tables
}

/// The hook and priority of a built-in chain (include/uapi/linux/netfilter_ipv4.h, `enum nf_ip_hook_priorities`).
fn base(table: &str, chain: &str, policy: &str) -> Option<Base> {
    if policy == "-" {
        return None;
    }
    let hook = Hook::named(chain)?;
    let priority = match (table, hook) {
        ("raw", _) => -300,
        ("mangle", _) => -150,
        ("nat", Hook::Prerouting) => -100,
        ("security", _) => 50,
        ("nat", _) => 100,
        _ => 0,
    };
    Some(Base { hook, priority, drops: policy == "DROP", devices: Vec::new() })
}

/// Splits a line as iptables-save quotes it: words, and `"…"` with backslashes inside.
#[must_use]
pub fn split(line: &str) -> Vec<String> {
    let mut words = Vec::new();
    let mut word: Option<String> = None;
    let mut quoted = false;
    let mut characters = line.chars();
    while let Some(character) = characters.next() {
        match character {
            '"' => {
                quoted = !quoted;
                word.get_or_insert_default();
            }
            '\\' if quoted => word.get_or_insert_default().extend(characters.next()),
            c if c.is_whitespace() && !quoted => words.extend(word.take()),
            c => word.get_or_insert_default().push(c),
        }
    }
    words.extend(word);
    words
}

/// A rule from its words, `-A CHAIN …`.
fn rule(line: &str, words: &[String]) -> Rule {
    let mut parts = Vec::new();
    let mut comment = None;
    let mut target = None;
    let mut rest = words.get(2..).unwrap_or_default();
    while let Some((first, after)) = rest.split_first() {
        let negated = first == "!";
        let (option, after) = if negated {
            let Some((option, after)) = after.split_first() else { break };
            (option, after)
        } else {
            (first, after)
        };
        if ["-j", "-g", "--jump", "--goto"].contains(&option.as_str()) {
            target = Some((option.contains('g'), after));
            break;
        }
        let values = after.iter().take_while(|word| !word.starts_with('-') && *word != "!").count();
        let (values, after) = after.split_at(if option == "--comment" { after.len().min(1) } else { values });
        if option == "--comment" {
            comment = values.first().cloned();
        } else if let Some(test) = test(option, values) {
            parts.push(Part::Match(Match { negated, test }));
        }
        rest = after;
    }
    if let Some((goes, words)) = target {
        parts.push(Part::Do(statement(goes, words)));
    }
    Rule { text: line.to_owned(), handle: None, comment, opaque: false, variants: vec![parts] }
}

/// What an option asks; `None` for those that ask nothing by themselves.
fn test(option: &str, values: &[String]) -> Option<Test> {
    let value = values.first().map(String::as_str).unwrap_or_default();
    let known = match option {
        "-m" => match value {
            // Their conditions are in their options.
            "comment" | "conntrack" | "state" | "tcp" | "udp" | "addrtype" | "mark" | "multiport"
            | "icmp" | "icmp6" => {
                return None;
            }
            // Whatever its options ask, of a packet without such a header it holds never (rt_mt6).
            "rt" => Some(Test::RoutingHeader),
            _ => None,
        },
        "-i" => Some(Test::InputInterface(vec![interface(value)])),
        "-o" => Some(Test::OutputInterface(vec![interface(value)])),
        "-s" => prefix(value).map(|prefix| Test::Source(vec![prefix])),
        "-d" => prefix(value).map(|prefix| Test::Destination(vec![prefix])),
        "-p" => protocol_number(value).map(|number| Test::Protocol(vec![number])),
        "--dport" | "--dports" => {
            value.split(',').map(port_range).collect::<Option<_>>().map(Test::DestinationPort)
        }
        "--ctstate" | "--state" => Some(Test::State(value.split(',').map(str::to_ascii_lowercase).collect())),
        "--dst-type" => Some(Test::DestinationType(value.split(',').map(str::to_ascii_lowercase).collect())),
        "--mark" => mark(value),
        _ => None,
    };
    Some(known.unwrap_or(Test::Unknown))
}

/// iptables' wildcard is a trailing `+`.
fn interface(name: &str) -> String {
    name.strip_suffix('+').map_or_else(|| name.to_owned(), |stem| format!("{stem}*"))
}

fn prefix(text: &str) -> Option<IpNet> {
    text.parse().ok().or_else(|| text.parse::<IpAddr>().ok().map(IpNet::from))
}

fn port_range(text: &str) -> Option<(u16, u16)> {
    let (from, to) = text.split_once(':').unwrap_or((text, text));
    Some((from.parse().ok()?, to.parse().ok()?))
}

fn mark(text: &str) -> Option<Test> {
    let number = |text: &str| match text.strip_prefix("0x") {
        Some(digits) => u32::from_str_radix(digits, 16).ok(),
        None => text.parse().ok(),
    };
    number(text.split_once('/').map_or(text, |(value, _)| value)).map(Test::Mark)
}

/// The target and its options. A name that is none of the kernel's own targets is a chain; if there is no such chain
/// it is an extension, which the walk finds out.
fn statement(goes: bool, words: &[String]) -> Statement {
    let name = words.first().cloned().unwrap_or_default();
    if goes {
        return Statement::Goto(name);
    }
    match name.as_str() {
        "ACCEPT" => Statement::Accept,
        "DROP" | "REJECT" => Statement::Drop,
        "RETURN" => Statement::Return,
        "LOG" | "NFLOG" | "ULOG" => Statement::Harmless,
        "TCPMSS" if words.iter().any(|word| word == "--clamp-mss-to-pmtu") => Statement::Harmless,
        _ => Statement::Jump(name),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_are_split_as_iptables_quotes_them() {
        assert_eq!(
            split(r#"-A X --comment "a \"b\" -j" -j DROP"#),
            ["-A", "X", "--comment", r#"a "b" -j"#, "-j", "DROP"]
        );
        assert_eq!(split(r#"--log-prefix "" -x"#), ["--log-prefix", "", "-x"]);
    }

    fn parts(line: &str) -> Vec<Part> {
        rule(line, &split(line)).variants.remove(0)
    }

    fn is(test: Test) -> Part {
        Part::Match(Match { negated: false, test })
    }

    #[test]
    fn options_become_conditions() {
        assert_eq!(
            parts(
                "-A FORWARD -i wg+ ! -o eth0 -p udp -m udp --dport 51820 -m comment --comment \"-j DROP\" -j ACCEPT"
            ),
            [
                is(Test::InputInterface(vec!["wg*".into()])),
                Part::Match(Match { negated: true, test: Test::OutputInterface(vec!["eth0".into()]) }),
                is(Test::Protocol(vec![17])),
                is(Test::DestinationPort(vec![(51820, 51820)])),
                Part::Do(Statement::Accept),
            ]
        );
        assert_eq!(
            parts("-A F -m mark ! --mark 0x4000/0x4000 -g KUBE"),
            [
                Part::Match(Match { negated: true, test: Test::Mark(0x4000) }),
                Part::Do(Statement::Goto("KUBE".into())),
            ]
        );
    }

    #[test]
    fn what_is_unknown_counts_as_such() {
        for line in [
            "-A F -m socket -j DROP",
            "-A F -m limit --limit 3/min --limit-burst 10 -j DROP",
            "-A F -m set --match-set bad src,dst -j DROP",
            "-A F -f -j DROP",
            "-A F -m conntrack --ctdir ORIGINAL -j DROP",
            "-A F -p tcp -m tcp ! --tcp-flags FIN,SYN,RST,ACK SYN -j DROP",
        ] {
            let parts = parts(line);
            let unknown = |part: &Part| matches!(part, Part::Match(Match { test: Test::Unknown, .. }));
            assert!(parts.iter().any(unknown), "{line}: {parts:?}");
            assert_eq!(parts.last(), Some(&Part::Do(Statement::Drop)), "{line}");
        }
        assert_eq!(parts("-A P -j MASQUERADE --random"), [Part::Do(Statement::Jump("MASQUERADE".into()))]);
        assert_eq!(parts("-A F -j TCPMSS --set-mss 1300"), [Part::Do(Statement::Jump("TCPMSS".into()))]);
        assert_eq!(parts("-A F -j TCPMSS --clamp-mss-to-pmtu"), [Part::Do(Statement::Harmless)]);
    }

    #[test]
    fn chains_have_policies_and_hooks() {
        let text = "# x\n*mangle\n:PREROUTING ACCEPT [0:0]\n:FORWARD DROP [1:2]\n:mine - [0:0]\n[3:4] -A FORWARD -j mine\nCOMMIT\n";
        let tables = parse(text, Family::Ip6, Source::IptablesLegacy);
        let chains = &tables[0].chains;
        let forward = chains["FORWARD"].base.clone().expect("a base chain");
        assert_eq!((forward.hook, forward.priority, forward.drops), (Hook::Forward, -150, true));
        assert_eq!(chains["mine"].base, None);
        assert_eq!(chains["FORWARD"].rules[0].text, "-A FORWARD -j mine");
    }
}
