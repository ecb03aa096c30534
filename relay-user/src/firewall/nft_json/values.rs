//! The left and right sides of a match, as conditions of the model.

use std::net::IpAddr;

use ipnet::{IpNet, Ipv4Subnets, Ipv6Subnets};
use serde_json::Value;

use super::super::{
    packet::protocol_number,
    ruleset::{Match, Test},
};

/// What one `match` asks. A field of a protocol's header implies the protocol, so that may be two conditions; a
/// negated one still implies it.
pub(super) fn matches(body: &Value) -> Vec<Match> {
    let negated = match body["op"].as_str() {
        Some("==" | "in") => Some(false),
        Some("!=") => Some(true),
        _ => None,
    };
    let mut found: Vec<Match> =
        implied(&body["left"]).into_iter().map(|test| Match { negated: false, test }).collect();
    let test = match negated {
        Some(_) => test(&body["left"], &body["right"]).unwrap_or(Test::Unknown),
        None => Test::Unknown,
    };
    found.push(Match { negated: negated.unwrap_or(false), test });
    found
}

/// What a header field implies of the packet.
fn implied(left: &Value) -> Option<Test> {
    let left = left["&"].get(0).unwrap_or(left);
    if left["exthdr"]["field"].is_string() {
        let routing = left["exthdr"]["name"] == "rt";
        return Some(if routing { Test::RoutingHeader } else { Test::Version(vec![6]) });
    }
    if left.get("tcp option").is_some() {
        return Some(Test::Protocol(vec![6]));
    }
    match left["payload"]["protocol"].as_str()? {
        "ip" => Some(Test::Version(vec![4])),
        "ip6" => Some(Test::Version(vec![6])),
        "th" => None,
        other => protocol_number(other).map(|number| Test::Protocol(vec![number])),
    }
}

fn test(left: &Value, right: &Value) -> Option<Test> {
    if left.get("&").is_some() {
        return if left["&"][0]["meta"]["key"] == "mark" { number(right).map(Test::Mark) } else { None };
    }
    if let Some(key) = left["meta"]["key"].as_str() {
        return meta(key, right);
    }
    if left["ct"]["key"] == "state" && left["ct"]["dir"].is_null() {
        return strings(right).map(Test::State);
    }
    if left["fib"]["result"] == "type" && left["fib"]["flags"] == serde_json::json!(["daddr"]) {
        return strings(right).map(Test::DestinationType);
    }
    match (left["payload"]["protocol"].as_str()?, left["payload"]["field"].as_str()?) {
        ("ip" | "ip6", "saddr") => prefixes(right).map(Test::Source),
        ("ip" | "ip6", "daddr") => prefixes(right).map(Test::Destination),
        ("ip", "protocol") => protocols(right),
        ("udp" | "tcp" | "th" | "sctp" | "dccp", "dport") => ports(right).map(Test::DestinationPort),
        _ => None,
    }
}

fn meta(key: &str, right: &Value) -> Option<Test> {
    match key {
        "iifname" | "iif" => strings(right).map(Test::InputInterface),
        "oifname" | "oif" => strings(right).map(Test::OutputInterface),
        "l4proto" => protocols(right),
        "mark" => number(right).map(Test::Mark),
        "nfproto" | "protocol" => {
            let version = |name: String| match name.as_str() {
                "ipv4" | "ip" => Some(4),
                "ipv6" | "ip6" => Some(6),
                // Other protocols (arp, vlan) are none of an IP packet's: a version that no packet has.
                _ => Some(0),
            };
            strings(right)?.into_iter().map(version).collect::<Option<_>>().map(Test::Version)
        }
        _ => None,
    }
}

/// The entries of a set or list, or the one value; `None` for what is neither, such as a named set.
fn entries(right: &Value) -> Option<Vec<&Value>> {
    match right {
        Value::Array(list) => Some(list.iter().map(plain).collect()),
        Value::Object(object) => match object.get("set") {
            Some(set) => set.as_array().map(|list| list.iter().map(plain).collect()),
            None => Some(vec![plain(right)]),
        },
        Value::String(name) if name.starts_with('@') => None,
        _ => Some(vec![right]),
    }
}

/// An element without its comment, counter and timeout.
fn plain(element: &Value) -> &Value {
    element["elem"].get("val").unwrap_or(element)
}

fn strings(right: &Value) -> Option<Vec<String>> {
    entries(right)?.into_iter().map(|value| value.as_str().map(str::to_owned)).collect()
}

fn number(value: &Value) -> Option<u32> {
    value.as_u64().and_then(|number| u32::try_from(number).ok())
}

fn protocols(right: &Value) -> Option<Test> {
    let number = |value: &Value| match value {
        Value::String(name) => protocol_number(name),
        other => other.as_u64().and_then(|number| u8::try_from(number).ok()),
    };
    entries(right)?.into_iter().map(number).collect::<Option<_>>().map(Test::Protocol)
}

fn ports(right: &Value) -> Option<Vec<(u16, u16)>> {
    let port = |value: &Value| value.as_u64().and_then(|number| u16::try_from(number).ok());
    let range = |value: &Value| match value["range"].as_array().map(Vec::as_slice) {
        Some([from, to]) => Some((port(from)?, port(to)?)),
        _ => port(value).map(|port| (port, port)),
    };
    entries(right)?.into_iter().map(range).collect()
}

fn prefixes(right: &Value) -> Option<Vec<IpNet>> {
    let mut found = Vec::new();
    for value in entries(right)? {
        if let Some(address) = value.as_str() {
            found.push(IpNet::from(address.parse::<IpAddr>().ok()?));
        } else if let Some(address) = value["prefix"]["addr"].as_str() {
            let length = u8::try_from(value["prefix"]["len"].as_u64()?).ok()?;
            found.push(IpNet::new(address.parse().ok()?, length).ok()?);
        } else {
            let range = value["range"].as_array()?;
            let (from, to) = (range.first()?.as_str()?, range.get(1)?.as_str()?);
            found.extend(range_of(from.parse().ok()?, to.parse().ok()?)?);
        }
    }
    Some(found)
}

fn range_of(from: IpAddr, to: IpAddr) -> Option<Vec<IpNet>> {
    match (from, to) {
        (IpAddr::V4(from), IpAddr::V4(to)) => Some(Ipv4Subnets::new(from, to, 0).map(IpNet::V4).collect()),
        (IpAddr::V6(from), IpAddr::V6(to)) => Some(Ipv6Subnets::new(from, to, 0).map(IpNet::V6).collect()),
        _ => None,
    }
}
