//! Our own table `inet relay`: what it shall hold, and what of it is there.
//!
//! Each interface has chains of its own in it, so that two relays on one host do not undo each other's work:
//!
//! - `mss-IF` clamps the MSS of SYNs into the tunnel to its MTU;
//! - `guard-IF` drops what enters by any other interface toward the tunnel, unless its flow is established or it is in
//!   `allow_from`. Forwarding is switched on for the tunnel's sake and must not expose the homes behind it to the
//!   hub's neighbours and containers;
//! - `exit-IF`, where there are full tunnels, masquerades what they send to the internet.
//!
//! At a home the same chains stand, with other rules ([`of_home`]): between the tunnel and the home's networks nothing
//! passes but what is for its LANs, what comes from them, and answers; and `exit-IF` masquerades toward the LANs.
//!
//! Each rule carries a hash of its text as comment, by which it is recognised: nft prints rules in words of its own
//! that change from version to version.

use std::collections::BTreeSet;

use ipnet::IpNet;

use super::{
    exit::Exit,
    packet::Version,
    ruleset::{Family, Hook, Ruleset, Source},
};
use crate::desired::{AllowFrom, InterfaceName};

/// The table's name.
pub const NAME: &str = "relay";

/// What concerns one interface in the table.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Table {
    /// The interface.
    pub interface: String,
    /// Its chains.
    pub chains: Vec<Chain>,
}

/// A chain of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Chain {
    /// Its name.
    pub name: String,
    /// The hook, `None` if it hangs on none that matters (somebody made it so).
    pub hook: Option<Hook>,
    /// Its priority.
    pub priority: i32,
    /// Whether its policy is drop; ours is accept.
    pub drops: bool,
    /// Its rules in order, each by the comment that identifies it.
    pub rules: Vec<Rule>,
}

/// A rule.
#[derive(Clone, Debug)]
pub struct Rule {
    /// In nft's language; empty when it was read back.
    pub text: String,
    /// Identifies the text.
    pub comment: String,
}

impl PartialEq for Rule {
    /// By the comment, since the text is not to be had from the kernel in the same words.
    fn eq(&self, other: &Self) -> bool {
        self.comment == other.comment
    }
}

impl Eq for Rule {}

/// The kernel's `NF_IP_PRI_MANGLE`, `NF_IP_PRI_FILTER` and `NF_IP_PRI_NAT_SRC`
/// (include/uapi/linux/netfilter_ipv4.h).
const MANGLE: i32 = -150;
const FILTER: i32 = 0;
const SOURCE_NAT: i32 = 100;

/// What shall stand for an interface.
#[must_use]
pub fn desired(interface: &str, allow_from: &BTreeSet<AllowFrom>, exits: &[Exit]) -> Table {
    let toward = format!("oifname \"{interface}\"");
    let mut guard = vec![
        // First, so that the tunnel's own traffic costs no lookup of its flow.
        format!("{toward} iifname \"{interface}\" accept"),
        format!("{toward} ct state established,related accept"),
    ];
    guard.extend(allow_from.iter().map(|from| format!("{toward} {} accept", matches(from))));
    guard.push(format!("{toward} drop"));
    let [mss_name, guard_name, exit_name] = chain_names(interface);
    let mut chains = vec![
        chain(mss_name, Hook::Forward, MANGLE, vec![clamp(interface)]),
        chain(guard_name, Hook::Forward, FILTER, guard),
    ];
    if !exits.is_empty() {
        let rules = exits.iter().map(|exit| masquerade(interface, exit)).collect();
        chains.push(chain(exit_name, Hook::Postrouting, SOURCE_NAT, rules));
    }
    Table { interface: interface.to_owned(), chains }
}

/// What shall stand for an interface at a home with these LANs.
#[must_use]
pub fn of_home(
    interface: &str,
    allow_from: &BTreeSet<AllowFrom>,
    lans: &BTreeSet<IpNet>,
    nat: bool,
) -> Table {
    let (toward, out_of) = (format!("oifname \"{interface}\""), format!("iifname \"{interface}\""));
    let lans: Vec<String> = [Version::V4, Version::V6].into_iter().filter_map(|of| set(of, lans)).collect();
    // `ip daddr { … }` for what is for a LAN, `ip saddr { … }` for what comes from one.
    let each = |way: &'static str| lans.iter().map(move |set| set.replacen("addr", way, 1));
    let mut guard = vec![format!("{toward} ct state established,related accept")];
    guard.extend(allow_from.iter().map(|from| format!("{toward} {} accept", matches(from))));
    guard.extend(each("saddr").map(|from| format!("{toward} {from} accept")));
    guard.push(format!("{toward} drop"));
    guard.push(format!("{out_of} ct state established,related accept"));
    guard.extend(each("daddr").map(|to| format!("{out_of} {to} accept")));
    // What this machine publishes, as Docker does: it was for an address of its own.
    guard.push(format!("{out_of} ct status dnat accept"));
    guard.push(format!("{out_of} drop"));
    let [mss_name, guard_name, exit_name] = chain_names(interface);
    let mut chains = vec![
        chain(mss_name, Hook::Forward, MANGLE, vec![clamp(interface)]),
        chain(guard_name, Hook::Forward, FILTER, guard),
    ];
    if nat && !lans.is_empty() {
        let rules = each("daddr").map(|to| format!("{out_of} {to} masquerade")).collect();
        chains.push(chain(exit_name, Hook::Postrouting, SOURCE_NAT, rules));
    }
    Table { interface: interface.to_owned(), chains }
}

/// Those prefixes of a family as a match, its direction left open: `ip addr { … }`.
fn set(of: Version, prefixes: &BTreeSet<IpNet>) -> Option<String> {
    let family = match of {
        Version::V4 => "ip",
        Version::V6 => "ip6",
    };
    let prefixes: Vec<String> =
        prefixes.iter().filter(|net| Version::of(net) == of).map(ToString::to_string).collect();
    (!prefixes.is_empty()).then(|| format!("{family} addr {{ {} }}", prefixes.join(", ")))
}

fn matches(from: &AllowFrom) -> String {
    match from {
        AllowFrom::Interface(name) => format!("iifname \"{name}\""),
        AllowFrom::Prefix(prefix @ IpNet::V4(_)) => format!("ip saddr {prefix}"),
        AllowFrom::Prefix(prefix @ IpNet::V6(_)) => format!("ip6 saddr {prefix}"),
    }
}

fn clamp(interface: &str) -> String {
    format!("oifname \"{interface}\" tcp flags syn tcp option maxseg size set rt mtu")
}

fn masquerade(interface: &str, exit: &Exit) -> String {
    let family = match exit.version {
        Version::V4 => "ip",
        Version::V6 => "ip6",
    };
    let sources: Vec<String> = exit.sources.iter().map(ToString::to_string).collect();
    let (uplink, sources) = (&exit.uplink, sources.join(", "));
    format!("iifname \"{interface}\" oifname \"{uplink}\" {family} saddr {{ {sources} }} masquerade")
}

fn chain(name: String, hook: Hook, priority: i32, texts: Vec<String>) -> Chain {
    let rule = |text: String| Rule { comment: format!("{:016x}", hash(&text)), text };
    Chain { name, hook: Some(hook), priority, drops: false, rules: texts.into_iter().map(rule).collect() }
}

/// What stands for an interface; `None` when none of its chains does. A chain that is missing is missing from the list.
#[must_use]
pub fn observed(ruleset: &Ruleset, interface: &str) -> Option<Table> {
    let table = ruleset.table(Source::Nft, Family::Inet, NAME)?;
    let chains: Vec<Chain> = chain_names(interface)
        .into_iter()
        .filter_map(|name| {
            let chain = table.chains.get(&name)?;
            let base = chain.base.as_ref();
            let comment = |rule: &super::ruleset::Rule| rule.comment.clone().unwrap_or_default();
            Some(Chain {
                name,
                hook: base.map(|base| base.hook),
                priority: base.map_or(0, |base| base.priority),
                drops: base.is_some_and(|base| base.drops),
                rules: chain
                    .rules
                    .iter()
                    .map(|r| Rule { text: String::new(), comment: comment(r) })
                    .collect(),
            })
        })
        .collect();
    (!chains.is_empty()).then(|| Table { interface: interface.to_owned(), chains })
}

/// Whether a table is ours, whichever interface it is for.
#[must_use]
pub fn is_ours(table: &super::ruleset::Table) -> bool {
    (table.source, table.family, table.name.as_str()) == (Source::Nft, Family::Inet, NAME)
}

/// Whether nothing would remain in our table without the chains of this interface.
#[must_use]
pub fn is_last(ruleset: &Ruleset, interface: &str) -> bool {
    let names = chain_names(interface);
    ruleset
        .table(Source::Nft, Family::Inet, NAME)
        .is_some_and(|table| table.chains.keys().all(|chain| names.contains(chain)))
}

/// The interfaces whose guard stands.
#[must_use]
pub fn interfaces(ruleset: &Ruleset) -> Vec<InterfaceName> {
    let table = ruleset.table(Source::Nft, Family::Inet, NAME);
    let guards =
        table.iter().flat_map(|table| table.chains.keys()).filter_map(|chain| chain.strip_prefix("guard-"));
    guards.filter_map(|name| name.replace("/e", "=").replace("/p", "+").parse().ok()).collect()
}

/// The script for `nft -f -` that puts the chains in place of whatever stood there under their names, in one
/// transaction: no packet meets half of it.
#[must_use]
pub fn script(table: &Table) -> String {
    let names = chain_names(&table.interface);
    let mut script = removal(&names.each_ref().map(String::as_str));
    for Chain { name, hook, priority, rules, .. } in &table.chains {
        let kind = match hook {
            Some(Hook::Postrouting) => "nat hook postrouting",
            _ => "filter hook forward",
        };
        script.push_str(&format!("add chain inet {NAME} {name} {{ type {kind} priority {priority}; }}\n"));
        for Rule { text, comment } in rules {
            script.push_str(&format!("add rule inet {NAME} {name} {text} comment \"{comment}\"\n"));
        }
    }
    script
}

/// The script that takes an interface's chains away, and the table with the last of them.
#[must_use]
pub fn removal_script(interface: &str, last: bool) -> String {
    let names = chain_names(interface);
    let mut script = removal(&names.each_ref().map(String::as_str));
    if last {
        script.push_str(&format!("delete table inet {NAME}\n"));
    }
    script
}

/// Adding first makes deleting succeed whether it was there or not.
fn removal(chains: &[&str]) -> String {
    let mut script = format!("add table inet {NAME}\n");
    for chain in chains {
        script.push_str(&format!("add chain inet {NAME} {chain}\ndelete chain inet {NAME} {chain}\n"));
    }
    script
}

/// The names of an interface's chains. nft's identifiers know letters, digits, `_`, `.`, `-` and `/`; an interface's
/// name may also hold `=` and `+`, which no name of a chain could be told from otherwise than by `/`.
fn chain_names(interface: &str) -> [String; 3] {
    let name = interface.replace('=', "/e").replace('+', "/p");
    [format!("mss-{name}"), format!("guard-{name}"), format!("exit-{name}")]
}

/// FNV-1a, 64 bits (draft-eastlake-fnv): the same in every build, as the comments of a running host must be.
pub(super) fn hash(text: &str) -> u64 {
    text.bytes().fold(0xcbf2_9ce4_8422_2325, |hash, byte| {
        (hash ^ u64::from(byte)).wrapping_mul(0x0000_0100_0000_01b3)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_script_replaces_every_chain() {
        let allow_from =
            ["10.0.0.0/8", "fd00::/8"].map(|text| AllowFrom::Prefix(text.parse().expect("a prefix")));
        let mut allow_from = BTreeSet::from(allow_from);
        allow_from.insert(AllowFrom::Interface("docker0".parse().expect("a name")));
        let exit = |version, sources: &[&str]| Exit {
            version,
            uplink: "eth0".to_owned(),
            sources: sources.iter().map(|text| text.parse().expect("a prefix")).collect(),
        };
        let exits =
            [exit(Version::V4, &["10.9.0.3/32", "10.9.0.4/32"]), exit(Version::V6, &["fd52:1a9::3/128"])];
        insta::assert_snapshot!(script(&desired("wg0", &allow_from, &exits)), @r#"
        add table inet relay
        add chain inet relay mss-wg0
        delete chain inet relay mss-wg0
        add chain inet relay guard-wg0
        delete chain inet relay guard-wg0
        add chain inet relay exit-wg0
        delete chain inet relay exit-wg0
        add chain inet relay mss-wg0 { type filter hook forward priority -150; }
        add rule inet relay mss-wg0 oifname "wg0" tcp flags syn tcp option maxseg size set rt mtu comment "cc5d68c3551880f0"
        add chain inet relay guard-wg0 { type filter hook forward priority 0; }
        add rule inet relay guard-wg0 oifname "wg0" iifname "wg0" accept comment "72d907c93539427f"
        add rule inet relay guard-wg0 oifname "wg0" ct state established,related accept comment "43ed566ade7fcbf5"
        add rule inet relay guard-wg0 oifname "wg0" iifname "docker0" accept comment "ff4873300146f4a9"
        add rule inet relay guard-wg0 oifname "wg0" ip saddr 10.0.0.0/8 accept comment "342e9e4d3564b0c3"
        add rule inet relay guard-wg0 oifname "wg0" ip6 saddr fd00::/8 accept comment "556d389922aa72ec"
        add rule inet relay guard-wg0 oifname "wg0" drop comment "e3a45494060f3d91"
        add chain inet relay exit-wg0 { type nat hook postrouting priority 100; }
        add rule inet relay exit-wg0 iifname "wg0" oifname "eth0" ip saddr { 10.9.0.3/32, 10.9.0.4/32 } masquerade comment "8bfdb4f2e07bc11c"
        add rule inet relay exit-wg0 iifname "wg0" oifname "eth0" ip6 saddr { fd52:1a9::3/128 } masquerade comment "1d944645593be2e4"
        "#);
        let lans = ["192.168.40.0/24", "192.168.41.0/24", "fd00:40::/64"];
        let lans = lans.map(|text| text.parse().expect("a prefix")).into();
        insta::assert_snapshot!("of_home", script(&of_home("wg0", &allow_from, &lans, true)));
        let without = of_home("wg0", &BTreeSet::new(), &lans, false);
        assert_eq!(without.chains.len(), 2, "no masquerading where the router knows the way");
        assert_eq!(
            of_home("wg0", &BTreeSet::new(), &BTreeSet::new(), true).chains.len(),
            2,
            "nor to nowhere"
        );
        insta::assert_snapshot!(removal_script("wg+=_.-", true), @r"
        add table inet relay
        add chain inet relay mss-wg/p/e_.-
        delete chain inet relay mss-wg/p/e_.-
        add chain inet relay guard-wg/p/e_.-
        delete chain inet relay guard-wg/p/e_.-
        add chain inet relay exit-wg/p/e_.-
        delete chain inet relay exit-wg/p/e_.-
        delete table inet relay
        ");
    }
}
