//! A tolerant model of what hangs on the kernel's hooks: nftables and legacy iptables in one.
//!
//! Tolerant means that whatever is not understood is kept as such ([`Test::Unknown`], [`Statement::Changes`]) and
//! that every later judgement takes it for the worst.

use std::collections::BTreeMap;

use ipnet::IpNet;

/// Everything that was read.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Ruleset {
    /// Tables of all families and of all three sources.
    pub tables: Vec<Table>,
    /// What stands in the kernel and could not be read, in words for people, each with a hint.
    pub unreadable: Vec<Unreadable>,
    /// ufw's own list of rules that carry a comment (`/etc/ufw/user.rules`), since ufw puts no comment in iptables.
    pub ufw: Vec<UfwRule>,
}

/// Something in the kernel that no tool here could show.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Unreadable {
    /// What it is.
    pub what: String,
    /// The remedy.
    pub hint: String,
}

/// A rule as ufw remembers it: the command that makes it, and its comment.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct UfwRule {
    /// Arguments of `ufw` that make it, without the comment: `route allow in on wg0 out on wg0`.
    pub arguments: Vec<String>,
    /// Its comment.
    pub comment: String,
}

/// A table.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Table {
    /// Whose tool manages it.
    pub source: Source,
    /// Its family.
    pub family: Family,
    /// Its name.
    pub name: String,
    /// Its chains by name.
    pub chains: BTreeMap<String, Chain>,
}

/// Through which tool a table is read and written.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Source {
    /// nft itself.
    Nft,
    /// iptables on nftables.
    Iptables,
    /// iptables on its own hooks, which nft does not show.
    IptablesLegacy,
}

/// A table's family.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Family {
    /// IPv4.
    Ip,
    /// IPv6.
    Ip6,
    /// Both.
    Inet,
    /// A device's own hooks.
    Netdev,
}

impl Family {
    /// The name in nft's language.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Ip => "ip",
            Self::Ip6 => "ip6",
            Self::Inet => "inet",
            Self::Netdev => "netdev",
        }
    }
}

/// A chain.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Chain {
    /// Where it hangs; `None` for one that is only jumped to.
    pub base: Option<Base>,
    /// Its rules in order.
    pub rules: Vec<Rule>,
}

/// What makes a chain a base chain.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Base {
    /// The hook.
    pub hook: Hook,
    /// Lower is earlier.
    pub priority: i32,
    /// Whether what falls through is dropped.
    pub drops: bool,
    /// For `ingress` and `egress`, the devices; empty if they could not be told, which means any.
    pub devices: Vec<String>,
}

/// The hooks that matter here, in the order in which a forwarded packet meets them. `input` stands beside it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Hook {
    /// A device's ingress.
    Ingress,
    /// Before routing.
    Prerouting,
    /// For the host itself.
    Input,
    /// Through the host.
    Forward,
    /// After routing.
    Postrouting,
    /// A device's egress.
    Egress,
}

impl Hook {
    /// The hook of that name (nft's spelling, or iptables' chain name); `None` for `output` and the like.
    #[must_use]
    pub fn named(name: &str) -> Option<Self> {
        Some(match name.to_ascii_lowercase().as_str() {
            "ingress" => Self::Ingress,
            "prerouting" => Self::Prerouting,
            "input" => Self::Input,
            "forward" => Self::Forward,
            "postrouting" => Self::Postrouting,
            "egress" => Self::Egress,
            _ => return None,
        })
    }
}

/// A rule: its parts are passed in order, and a statement is reached when every match before it holds.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Rule {
    /// As its tool prints it.
    pub text: String,
    /// nftables' handle, by which it is deleted.
    pub handle: Option<u64>,
    /// Its comment.
    pub comment: Option<String>,
    /// Whether its tool hid a part of it (an extension of iptables, as nft shows it); that part counts as the worst.
    pub opaque: bool,
    /// What it does. A verdict map has one list of parts for each of its elements.
    pub variants: Vec<Vec<Part>>,
}

/// One step of a rule.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Part {
    /// Goes on only if it holds.
    Match(Match),
    /// Does something.
    Do(Statement),
}

/// A condition.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Match {
    /// Whether it must *not* hold.
    pub negated: bool,
    /// What is asked.
    pub test: Test,
}

/// What a condition asks. A list holds if one of its entries does.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Test {
    /// The interface it came by; a trailing `*` stands for anything.
    InputInterface(Vec<String>),
    /// The interface it leaves by.
    OutputInterface(Vec<String>),
    /// The source address.
    Source(Vec<IpNet>),
    /// The destination address.
    Destination(Vec<IpNet>),
    /// IPv4 (4) or IPv6 (6).
    Version(Vec<u8>),
    /// The transport protocol's number.
    Protocol(Vec<u8>),
    /// The destination port, inclusive ranges.
    DestinationPort(Vec<(u16, u16)>),
    /// conntrack's state, lower case.
    State(Vec<String>),
    /// The packet's mark, whole or under a mask.
    Mark(u32),
    /// What kind of address the destination is (`local`, `broadcast`, …), lower case.
    DestinationType(Vec<String>),
    /// Whether an IPv6 routing header is there.
    RoutingHeader,
    /// Anything else.
    Unknown,
}

/// What a rule does.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Statement {
    /// Ends this base chain; those of other tables still follow.
    Accept,
    /// Ends the packet, with an answer or without.
    Drop,
    /// Goes through a chain and comes back.
    Jump(String),
    /// Goes through a chain and comes back to the caller's caller.
    Goto(String),
    /// Ends the chain.
    Return,
    /// Leaves the packet and its way as they are: counters and logs (the log line of a packet that took the fast path
    /// is missing, as is its count: nothing is decided by either), and the clamping of a SYN's MSS to the path MTU,
    /// which the fast path does too.
    Harmless,
    /// Changes the packet, its marks, its addresses, its way, or what a later decision rests on; or is unknown.
    Changes,
}

impl Ruleset {
    /// The table of that source, family and name.
    #[must_use]
    pub fn table(&self, source: Source, family: Family, name: &str) -> Option<&Table> {
        self.tables.iter().find(|t| t.source == source && t.family == family && t.name == name)
    }

    /// Takes over what `iptables-nft-save` printed of tables that nft has shown.
    ///
    /// nft shows an extension of iptables by its name only, so a rule with one is taken from iptables. All others are
    /// taken from nft, which shows them exactly, while iptables prints what another tool put in its table as well as
    /// it can. A chain whose rules do not pair up stays as nft showed it, its extensions unknown.
    pub fn merge_iptables(&mut self, saved: Vec<Table>) {
        for mut saved in saved {
            let same =
                |t: &&mut Table| t.source == Source::Nft && t.family == saved.family && t.name == saved.name;
            let Some(table) = self.tables.iter_mut().find(same) else { continue };
            table.source = Source::Iptables;
            for (name, chain) in &mut table.chains {
                let Some(other) = saved.chains.remove(name) else { continue };
                if other.rules.len() != chain.rules.len() {
                    continue;
                }
                for (rule, saved) in chain.rules.iter_mut().zip(other.rules) {
                    rule.text = saved.text;
                    rule.comment = saved.comment;
                    if rule.opaque {
                        rule.variants = saved.variants;
                        rule.opaque = false;
                    }
                }
            }
        }
    }

    /// The families (`ip`, `ip6`) in which nft showed tables that look like iptables': its table names, with a base
    /// chain spelled as iptables spells it.
    #[must_use]
    pub fn families_of_iptables(&self) -> Vec<Family> {
        let looks = |table: &&Table| {
            table.source == Source::Nft
                && ["filter", "nat", "mangle", "raw", "security"].contains(&table.name.as_str())
                && table
                    .chains
                    .iter()
                    .any(|(name, chain)| chain.base.is_some() && name.bytes().all(|b| b.is_ascii_uppercase()))
        };
        let found = |family| self.tables.iter().filter(looks).any(|table| table.family == family);
        [Family::Ip, Family::Ip6].into_iter().filter(|&family| found(family)).collect()
    }
}
