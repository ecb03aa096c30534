//! A packet of which some fields are known and others are not, and what a condition says of it.

use std::ops::Not;

use ipnet::IpNet;

use super::ruleset::{Family, Match, Test};

/// Whether a condition holds, as far as the known fields tell.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Truth {
    /// For no such packet.
    Never,
    /// For some, or it cannot be told.
    Maybe,
    /// For every such packet.
    Always,
}

impl Truth {
    const fn of(known: bool) -> Self {
        if known { Self::Always } else { Self::Never }
    }
}

impl Not for Truth {
    type Output = Self;

    fn not(self) -> Self {
        match self {
            Self::Never => Self::Always,
            Self::Maybe => Self::Maybe,
            Self::Always => Self::Never,
        }
    }
}

/// An interface that a packet came by or leaves by.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Interface<'a> {
    /// This one.
    Named(&'a str),
    /// Some interface.
    Unknown,
    /// None: the packet stays here.
    None,
}

/// Either address family.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Version {
    /// IPv4.
    V4,
    /// IPv6.
    V6,
}

impl Version {
    /// The version of a prefix.
    #[must_use]
    pub const fn of(prefix: &IpNet) -> Self {
        match prefix {
            IpNet::V4(_) => Self::V4,
            IpNet::V6(_) => Self::V6,
        }
    }

    const fn number(self) -> u8 {
        match self {
            Self::V4 => 4,
            Self::V6 => 6,
        }
    }

    /// Whether packets of this version pass through tables of that family.
    #[must_use]
    pub const fn meets(self, family: Family) -> bool {
        match family {
            Family::Ip => matches!(self, Self::V4),
            Family::Ip6 => matches!(self, Self::V6),
            Family::Inet | Family::Netdev => true,
        }
    }
}

/// All packets that agree in the fields that are known.
#[derive(Clone, Copy, Debug)]
pub struct Packet<'a> {
    /// Its version.
    pub version: Version,
    /// Where it came by.
    pub input: Interface<'a>,
    /// Where it leaves by.
    pub output: Interface<'a>,
    /// Its source lies within these; `None` says nothing.
    pub from: Option<&'a [IpNet]>,
    /// Its destination lies within these; `None` says nothing.
    pub to: Option<&'a [IpNet]>,
    /// Whether it is for the host itself; else it is for another host and for one host only.
    pub to_host: bool,
    /// Its transport protocol.
    pub protocol: Option<u8>,
    /// Its destination port.
    pub destination_port: Option<u16>,
    /// What conntrack calls its flow; `None` says nothing.
    pub state: Option<&'static str>,
}

impl Packet<'_> {
    /// What the condition says of the packet.
    #[must_use]
    pub fn satisfies(&self, condition: &Match) -> Truth {
        let truth = match &condition.test {
            Test::InputInterface(names) => interface(self.input, names),
            Test::OutputInterface(names) => interface(self.output, names),
            Test::Source(prefixes) => self.within(self.from, prefixes),
            Test::Destination(prefixes) => self.within(self.to, prefixes),
            Test::Version(versions) => Truth::of(versions.contains(&self.version.number())),
            Test::Protocol(numbers) => match self.protocol {
                Some(number) => Truth::of(numbers.contains(&number)),
                None => Truth::Maybe,
            },
            Test::DestinationPort(ranges) => match self.destination_port {
                Some(port) => Truth::of(ranges.iter().any(|&(from, to)| (from..=to).contains(&port))),
                None => Truth::Maybe,
            },
            Test::State(states) => match self.state {
                Some(own) => Truth::of(states.iter().any(|state| state == own)),
                None => Truth::Maybe,
            },
            Test::DestinationType(kinds) => self.destination_type(kinds),
            // The fast path hands such packets to the stack (`Verdict::Options`), so a rule about them does not concern
            // what it forwards; nor is a WireGuard message one.
            Test::RoutingHeader => Truth::Never,
            // WireGuard clears the mark of what it decrypts (wg_packet_consume_data_done), TUN devices set none, and
            // whatever sets it later is reported by itself.
            Test::Mark(value) if !self.to_host => Truth::of(*value == 0),
            Test::Mark(_) | Test::Unknown => Truth::Maybe,
        };
        if condition.negated { !truth } else { truth }
    }

    fn within(&self, known: Option<&[IpNet]>, prefixes: &[IpNet]) -> Truth {
        let version = self.version;
        let mut same = prefixes.iter().filter(|prefix| Version::of(prefix) == version).peekable();
        if same.peek().is_none() {
            return Truth::Never;
        }
        let Some(known) = known else {
            return if same.any(|prefix| prefix.prefix_len() == 0) { Truth::Always } else { Truth::Maybe };
        };
        let same: Vec<&IpNet> = same.collect();
        let mut known = known.iter().filter(|prefix| Version::of(prefix) == version).peekable();
        if known.peek().is_none() {
            return Truth::Maybe;
        }
        let known: Vec<&IpNet> = known.collect();
        let overlap = |a: &IpNet, b: &IpNet| a.contains(b) || b.contains(a);
        if known.iter().all(|&mine| same.iter().any(|theirs| theirs.contains(mine))) {
            Truth::Always
        } else if known.iter().any(|&mine| same.iter().any(|&theirs| overlap(mine, theirs))) {
            Truth::Maybe
        } else {
            Truth::Never
        }
    }

    /// A packet from peer to peer is for one host elsewhere, so the routing table calls its destination unicast; one
    /// for the host itself goes to an address that is local.
    fn destination_type(&self, kinds: &[String]) -> Truth {
        let this = if self.to_host { "local" } else { "unicast" };
        Truth::of(kinds.iter().any(|kind| kind == this))
    }
}

fn interface(known: Interface<'_>, names: &[String]) -> Truth {
    let fits = |pattern: &String, name: &str| match pattern.strip_suffix('*') {
        Some(stem) => name.starts_with(stem),
        None => pattern == name,
    };
    match known {
        Interface::Named(name) => Truth::of(names.iter().any(|pattern| fits(pattern, name))),
        Interface::None => Truth::Never,
        Interface::Unknown if names.iter().any(|pattern| pattern == "*") => Truth::Always,
        Interface::Unknown => Truth::Maybe,
    }
}

/// The number of a transport protocol (IANA protocol-numbers) by the name that nft and iptables print, or the number
/// itself.
#[must_use]
pub fn protocol_number(name: &str) -> Option<u8> {
    Some(match name {
        "icmp" => 1,
        "igmp" => 2,
        "tcp" => 6,
        "udp" => 17,
        "gre" => 47,
        "esp" => 50,
        "ah" => 51,
        "icmpv6" | "ipv6-icmp" => 58,
        "ospf" => 89,
        "sctp" => 132,
        "udplite" => 136,
        other => return other.parse().ok(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tunnel(within: &[IpNet]) -> Packet<'_> {
        Packet {
            version: Version::V4,
            input: Interface::Named("wg0"),
            output: Interface::Named("wg0"),
            from: Some(within),
            to: Some(within),
            to_host: false,
            protocol: None,
            destination_port: None,
            state: None,
        }
    }

    fn nets(list: &[&str]) -> Vec<IpNet> {
        list.iter().map(|text| text.parse().expect("a prefix")).collect()
    }

    #[test]
    fn truth_of_conditions() {
        let inside = nets(&["10.9.0.0/24", "192.168.40.0/24"]);
        let packet = tunnel(&inside);
        let input = |names: &[&str]| Test::InputInterface(names.iter().map(|&n| n.to_owned()).collect());
        for (test, expected) in [
            (input(&["wg0"]), Truth::Always),
            (input(&["eth0", "wg*"]), Truth::Always),
            (input(&["wg1", "wg01", "wg"]), Truth::Never),
            (input(&["*"]), Truth::Always),
            (Test::Source(nets(&["10.9.0.0/24"])), Truth::Maybe),
            (Test::Source(nets(&["10.0.0.0/8", "192.168.0.0/16"])), Truth::Always),
            (Test::Source(nets(&["10.9.0.7/32"])), Truth::Maybe),
            (Test::Destination(nets(&["172.16.0.0/12", "fd00::/8"])), Truth::Never),
            (Test::Destination(nets(&["fd00::/8"])), Truth::Never),
            (Test::Version(vec![4]), Truth::Always),
            (Test::Version(vec![6]), Truth::Never),
            (Test::Protocol(vec![17]), Truth::Maybe),
            (Test::State(vec!["established".into()]), Truth::Maybe),
            (Test::Mark(0), Truth::Always),
            (Test::Mark(1), Truth::Never),
            (Test::DestinationType(vec!["local".into()]), Truth::Never),
            (Test::RoutingHeader, Truth::Never),
            (Test::Unknown, Truth::Maybe),
        ] {
            let condition = |negated| Match { negated, test: test.clone() };
            assert_eq!(packet.satisfies(&condition(false)), expected, "{test:?}");
            assert_eq!(packet.satisfies(&condition(true)), !expected, "not {test:?}");
        }
    }
}
