//! Policy routing rules, in the words of `ip rule`.

use futures::TryStreamExt as _;
use rtnetlink::{
    IpVersion,
    packet_core::Nla as _,
    packet_route::rule::{RuleAction, RuleAttribute, RuleFlags, RuleMessage},
};

use super::{Netlink, NetlinkError};

impl Netlink {
    /// The rules that an untouched kernel does not have, as `ip rule` prints them: `ip rule 100: from all fwmark 0x1
    /// lookup 200`, `ip -6 rule …`. A missing default that would steer packets elsewhere is named too.
    ///
    /// # Errors
    /// The kernel refuses the request.
    pub async fn rules(&self) -> Result<Vec<String>, NetlinkError> {
        let mut rules = Vec::new();
        for (version, words) in [(IpVersion::V4, "ip rule"), (IpVersion::V6, "ip -6 rule")] {
            let messages = self.handle.rule().get(version).execute();
            let messages: Vec<RuleMessage> = messages
                .try_collect()
                .await
                .map_err(|error| NetlinkError::request("list the routing rules", &error))?;
            let printed: Vec<String> = messages.iter().map(print).collect();
            // The third matters to nobody: its table is empty, and IPv6 has none (net/ipv6/fib6_rules.c).
            for missing in DEFAULTS[..2].iter().filter(|default| !printed.iter().any(|rule| rule == *default))
            {
                rules.push(format!("{words}: the default rule `{missing}` is missing"));
            }
            let others = printed.iter().filter(|rule| !DEFAULTS.contains(&rule.as_str()));
            rules.extend(others.map(|rule| format!("{words} {rule}")));
        }
        Ok(rules)
    }
}

/// What every network namespace is born with.
const DEFAULTS: [&str; 3] =
    ["0: from all lookup local", "32766: from all lookup main", "32767: from all lookup default"];

fn print(message: &RuleMessage) -> String {
    let header = &message.header;
    let mut priority = 0;
    let mut table = u32::from(header.table);
    let mut from = "all".to_owned();
    let mut to = String::new();
    let mut rest = String::new();
    let mut suffix = String::new();
    let mut goto = 0;
    let mut mask = None;
    let mut mark = None;
    let mut l3mdev = false;
    for attribute in &message.attributes {
        match attribute {
            RuleAttribute::Priority(value) => priority = *value,
            RuleAttribute::Table(value) => table = *value,
            RuleAttribute::Goto(value) => goto = *value,
            RuleAttribute::FwMark(value) => mark = Some(*value),
            RuleAttribute::FwMask(value) => mask = Some(*value),
            RuleAttribute::L3MDev(set) => l3mdev = *set,
            RuleAttribute::Source(address) => from = format!("{address}/{}", header.src_len),
            RuleAttribute::Destination(address) => to = format!(" to {address}/{}", header.dst_len),
            RuleAttribute::Iifname(name) => rest += &format!(" iif {name}"),
            RuleAttribute::Oifname(name) => rest += &format!(" oif {name}"),
            RuleAttribute::UidRange(range) => rest += &format!(" uidrange {}-{}", range.start, range.end),
            RuleAttribute::IpProtocol(protocol) => rest += &format!(" ipproto {}", i32::from(*protocol)),
            RuleAttribute::SourcePortRange(range) => rest += &format!(" sport {}-{}", range.start, range.end),
            RuleAttribute::DestinationPortRange(range) => {
                rest += &format!(" dport {}-{}", range.start, range.end);
            }
            RuleAttribute::TunId(id) => rest += &format!(" tun_id {id}"),
            RuleAttribute::Realm(realm) => {
                suffix += &format!(" realms {}/{}", realm.source, realm.destination);
            }
            // The kernel always says who made the rule, and the two "suppress" attributes, all ones for "not set".
            RuleAttribute::Protocol(_)
            | RuleAttribute::SuppressPrefixLen(u32::MAX)
            | RuleAttribute::SuppressIfGroup(u32::MAX) => {}
            RuleAttribute::SuppressPrefixLen(length) => {
                suffix += &format!(" suppress_prefixlength {length}");
            }
            RuleAttribute::SuppressIfGroup(group) => suffix += &format!(" suppress_ifgroup {group}"),
            other => rest += &format!(" attribute-{}", other.kind()),
        }
    }
    let not = if header.flags.contains(RuleFlags::Invert) { "not " } else { "" };
    let tos = if header.tos == 0 { String::new() } else { format!(" tos {:#x}", header.tos) };
    let mark = match (mark, mask) {
        (None, None) => String::new(),
        (mark, None | Some(u32::MAX)) => format!(" fwmark {:#x}", mark.unwrap_or(0)),
        (mark, Some(mask)) => format!(" fwmark {:#x}/{mask:#x}", mark.unwrap_or(0)),
    };
    let action = match header.action {
        RuleAction::ToTable if l3mdev => " lookup [l3mdev-table]".to_owned(),
        RuleAction::ToTable => format!(" lookup {}", table_name(table)),
        RuleAction::Goto => format!(" goto {goto}"),
        RuleAction::Nop => " nop".to_owned(),
        RuleAction::Blackhole => " blackhole".to_owned(),
        RuleAction::Unreachable => " unreachable".to_owned(),
        RuleAction::Prohibit => " prohibit".to_owned(),
        other => format!(" action {}", u8::from(other)),
    };
    format!("{priority}: {not}from {from}{to}{tos}{mark}{rest}{action}{suffix}")
}

fn table_name(table: u32) -> String {
    match table {
        253 => "default".to_owned(),
        254 => "main".to_owned(),
        255 => "local".to_owned(),
        other => other.to_string(),
    }
}
