//! Which prefixes of peers the kernel does not route into the tunnel, and what would mend that. Pure.

use ipnet::IpNet;

use crate::{
    datapath_plan::{Tunnel, into_tunnel},
    key::PublicKey,
    observed::KernelRoute,
};

/// How a peer without a name is called: by the first characters of its key, as many as tell a few thousand apart.
#[must_use]
pub fn peer_name(key: &PublicKey) -> String {
    key.to_string().chars().take(8).collect()
}

/// What is amiss, in words with the command that mends it. `entering` stands in front of that command.
#[must_use]
pub fn missing(
    tunnel: &Tunnel,
    interface: &str,
    index: u32,
    routes: &[KernelRoute],
    entering: &str,
) -> Vec<String> {
    let inward = |route: &KernelRoute| into_tunnel(route, index);
    let mut missing = Vec::new();
    for (key, prefix) in tunnel.peers.iter().flat_map(|(key, list)| list.iter().map(move |one| (key, one))) {
        let prefix = prefix.trunc();
        let partly = || routes.iter().any(|route| inward(route) && prefix.contains(&route.destination));
        let way = way(routes, &prefix);
        if is_the_internet(&prefix) || way.is_some_and(inward) || partly() {
            continue;
        }
        let name = peer_name(key);
        missing.push(if way.is_some_and(|way| way.interface == Some(index)) {
            format!(
                "{name}: {prefix} is routed into {interface} with conditions of its own (a next hop, an MTU, a source), \
                 so that it stays with the kernel; {entering}ip route replace {prefix} dev {interface}"
            )
        } else if way.is_some_and(|way| way.destination.trunc() == prefix) {
            format!(
                "{name}: {prefix} is routed elsewhere than into {interface}; `{entering}ip route show {prefix} table \
                 all` shows where"
            )
        } else {
            format!(
                "{name}: {prefix} has no route into {interface}; {entering}ip route add {prefix} dev {interface}"
            )
        });
    }
    missing
}

/// The route that the kernel takes for all of a prefix but what is narrower.
fn way<'a>(routes: &'a [KernelRoute], prefix: &IpNet) -> Option<&'a KernelRoute> {
    let covering = routes.iter().filter(|route| route.destination.trunc().contains(prefix));
    // The local table is asked before the main one, and the lowest metric wins.
    let rank = |route: &&KernelRoute| (route.destination.prefix_len(), route.table, u32::MAX - route.metric);
    covering.max_by_key(rank)
}

/// Wider than any private network (10.0.0.0/8, RFC 1918; fc00::/7, RFC 4193): a peer that carries others' traffic to
/// the internet. A route to it would take the host's own traffic away, WireGuard's included.
fn is_the_internet(prefix: &IpNet) -> bool {
    match prefix {
        IpNet::V4(net) => net.prefix_len() < 8,
        IpNet::V6(net) => net.prefix_len() < 7,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::datapath_plan::Routes;

    fn route(destination: &str, interface: u32, metric: u32) -> KernelRoute {
        KernelRoute {
            destination: destination.parse().expect("prefix"),
            interface: Some(interface),
            gateway: None,
            protocol: 3,
            metric,
            kind: 1,
            table: 254,
            mtu: None,
            narrowed: false,
        }
    }

    #[test]
    fn what_is_told() {
        const WG0: u32 = 7;
        const ETH0: u32 = 2;
        const ADD: Option<&str> = Some("has no route into wg0; ip route add LAN dev wg0");
        const CONDITIONS: Option<&str> = Some(
            "is routed into wg0 with conditions of its own (a next hop, an MTU, a source), so that it stays with the \
             kernel; ip route replace LAN dev wg0",
        );
        let via = KernelRoute { gateway: Some([10, 9, 0, 2].into()), ..route("192.168.40.0/24", WG0, 0) };
        const ELSEWHERE: Option<&str> =
            Some("is routed elsewhere than into wg0; `ip route show LAN table all` shows where");
        for (lan, routes, expected) in [
            ("192.168.40.0/24", vec![], ADD),
            ("fd00:40::/64", vec![], ADD),
            ("10.9.0.7/32", vec![], None),
            ("10.8.0.7/32", vec![], ADD),
            ("192.168.40.0/24", vec![route("192.168.40.0/24", WG0, 0)], None),
            ("192.168.40.0/24", vec![route("192.168.0.0/16", WG0, 0)], None),
            ("192.168.0.0/16", vec![route("192.168.40.0/24", WG0, 0)], None),
            ("192.168.40.0/24", vec![route("192.168.0.0/16", ETH0, 0)], ADD),
            ("192.168.40.0/24", vec![route("192.168.40.0/24", ETH0, 0)], ELSEWHERE),
            ("192.168.40.0/24", vec![via], CONDITIONS),
            (
                "192.168.40.0/24",
                vec![route("192.168.40.0/24", WG0, 5), route("192.168.40.0/24", ETH0, 1)],
                None,
            ),
            ("0.0.0.0/0", vec![], None),
            ("128.0.0.0/1", vec![], None),
            ("::/0", vec![], None),
        ] {
            let tunnel = Tunnel {
                addresses: ["10.9.0.1/24".parse().expect("address")].into(),
                peers: [(PublicKey::new([0; 32]), [lan.parse().expect("prefix")].into())].into(),
                routes: Routes::SomebodyElse,
            };
            let ordinary =
                [route("0.0.0.0/0", ETH0, 0), route("::/0", ETH0, 1024), route("10.9.0.0/24", WG0, 0)];
            let routes = [routes, ordinary.to_vec()].concat();
            let told = missing(&tunnel, "wg0", WG0, &routes, "");
            let expected: Vec<String> = expected
                .map(|words| format!("AAAAAAAA: {lan} {}", words.replace("LAN", lan)))
                .into_iter()
                .collect();
            assert_eq!(told, expected, "{lan} {routes:?}");
        }
    }
}
