//! The hooks of a home server: forward between the tunnel and its LANs, and answer for the machines there.
//!
//! Those machines send their answers to their own router, which knows nothing of the tunnel; so the home server
//! masquerades, and they see its address. Each hook is one line that wg-quick runs with bash's `eval` under `set -e`,
//! after it has put the interface's name for `%i` and cut the line at any `#`. A hook that failed would take the whole
//! tunnel down, so each ends in words instead.

use std::net::IpAddr;

use ipnet::IpNet;

use super::line;
use crate::desired::{Desired, Peer};

/// What differs between the families.
struct Family {
    name: &'static str,
    ip: &'static str,
    nft: &'static str,
    iptables: &'static str,
    /// Turns forwarding on.
    forward: &'static str,
}

const V4: Family = Family {
    name: "IPv4",
    ip: "ip -4",
    nft: "ip",
    iptables: "iptables -w -t nat",
    forward: "echo 1 > /proc/sys/net/ipv4/ip_forward",
};

// A router ignores router advertisements unless accept_ra is 2 (Documentation/networking/ip-sysctl.rst): without it
// this machine would lose its own IPv6 address.
const V6: Family = Family {
    name: "IPv6",
    ip: "ip -6",
    nft: "ip6",
    iptables: "ip6tables -w -t nat",
    forward: "{ for f in /proc/sys/net/ipv6/conf/*/accept_ra; do [ \"$(cat $f)\" != 1 ] || echo 2 > $f; done; \
              echo 1 > /proc/sys/net/ipv6/conf/all/forwarding; }",
};

/// Adds the hooks of `peer`, none if it has no LAN that the tunnel could reach.
pub(super) fn write(text: &mut String, desired: &Desired, peer: &Peer) {
    for family in [V4, V6] {
        let of_family = |net: &IpNet| net.addr().is_ipv4() == (family.nft == V4.nft);
        let subnets: Vec<IpNet> = desired.addresses.iter().map(IpNet::trunc).filter(of_family).collect();
        let lans: Vec<IpNet> = peer.lans.iter().copied().filter(of_family).collect();
        if !subnets.is_empty() && !lans.is_empty() {
            write_family(text, &family, &subnets, &lans);
        }
    }
}

fn write_family(text: &mut String, family: &Family, subnets: &[IpNet], lans: &[IpNet]) {
    let Family { name, nft, iptables, forward, .. } = family;
    line(
        text,
        format_args!(
            "# Forward {name} (this stays on, others may rely on it) and masquerade toward the LAN."
        ),
    );
    line(
        text,
        format_args!(
            "PostUp = {forward} || echo \"relay: cannot turn {name} forwarding on: the LAN stays out of reach\" >&2"
        ),
    );
    line(
        text,
        format_args!(
            "PostUp = nft \"add table {nft} relay-%i; delete table {nft} relay-%i; add table {nft} relay-%i; \
             add chain {nft} relay-%i postrouting {{ type nat hook postrouting priority 100; }}\" 2>/dev/null || \
             {{ {{ {iptables} -N relay-%i 2>/dev/null || {iptables} -F relay-%i; }} && \
             {{ {iptables} -C POSTROUTING -j relay-%i 2>/dev/null || {iptables} -A POSTROUTING -j relay-%i; }}; }} || \
             echo \"relay: neither nftables nor iptables lets me masquerade: the LAN stays out of reach\" >&2"
        ),
    );
    for lan in lans {
        write_lan(text, family, subnets, *lan);
    }
    line(
        text,
        format_args!(
            "PostDown = nft delete table {nft} relay-%i 2>/dev/null || {{ {iptables} -D POSTROUTING -j relay-%i; \
             {iptables} -F relay-%i; {iptables} -X relay-%i; }} 2>/dev/null || true"
        ),
    );
}

/// The interface is that of the route to the LAN (`fibmatch`: the route itself, also where the address asked for is
/// this machine's own). A default route is no way into a LAN, nor is the tunnel.
fn write_lan(text: &mut String, family: &Family, subnets: &[IpNet], lan: IpNet) {
    let Family { ip, nft, iptables, .. } = family;
    let address = first_address(lan);
    let rules: Vec<String> = subnets
        .iter()
        .map(|subnet| {
            format!(
                "nft add rule {nft} relay-%i postrouting oifname \"$d\" {nft} saddr {subnet} {nft} daddr {lan} \
                 masquerade 2>/dev/null || {iptables} -A relay-%i -o \"$d\" -s {subnet} -d {lan} -j MASQUERADE || true"
            )
        })
        .collect();
    line(
        text,
        format_args!(
            "PostUp = r=$({ip} -o route get fibmatch {address} 2>/dev/null || {ip} -o route get {address} 2>/dev/null || true); \
             d=; case $r in default*) ;; *\" dev \"*) d=${{r/* dev /}}; d=${{d%% *}};; esac; \
             case $d in ''|lo|%i) echo \"relay: found no interface toward {lan}, which stays out of reach\" >&2;; \
             *) {};; esac",
            rules.join("; ")
        ),
    );
}

/// The first that a machine could have: of an IPv6 subnet the very first belongs to its routers.
fn first_address(lan: IpNet) -> IpAddr {
    let skip = match lan {
        IpNet::V6(lan) if lan.prefix_len() < 127 => 1,
        _ => 0, // `hosts` leaves an IPv4 subnet's own address out itself.
    };
    lan.hosts().nth(skip).unwrap_or_else(|| lan.network())
}
