//! Which interfaces of this machine lead to a home's LANs.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::IpAddr,
};

use ipnet::IpNet;

use crate::observed::{KernelRoute, Link, UNICAST};

/// `RT_TABLE_MAIN` (include/uapi/linux/rtnetlink.h).
const MAIN: u32 = 254;

/// The interface of the kernel's best route to each LAN: the narrowest that covers it, else the widest inside of it. A
/// default route is no way into a LAN, nor is the tunnel (`except`). A LAN that nothing leads to is left out.
#[must_use]
pub fn interfaces(
    lans: &BTreeSet<IpNet>,
    routes: &[KernelRoute],
    links: &[Link],
    except: &str,
) -> BTreeMap<IpNet, String> {
    let name = |index: u32| links.iter().find(|link| link.index == index).map(|link| link.name.as_str());
    let usable: Vec<(&KernelRoute, &str)> = routes
        .iter()
        .filter(|route| route.table == MAIN && route.kind == UNICAST && route.destination.prefix_len() > 0)
        .filter_map(|route| Some((route, name(route.interface?)?)))
        .filter(|(_, name)| *name != except && *name != "lo")
        .collect();
    let best = |lan: &IpNet| {
        let covers = usable.iter().filter(|(route, _)| route.destination.contains(lan));
        let inside = || usable.iter().filter(|(route, _)| lan.contains(&route.destination));
        covers
            .min_by_key(|(route, _)| (u8::MAX - route.destination.prefix_len(), route.metric))
            .or_else(|| inside().min_by_key(|(route, _)| (route.destination.prefix_len(), route.metric)))
    };
    lans.iter().filter_map(|lan| Some((*lan, best(lan)?.1.to_owned()))).collect()
}

/// Which of an interface's addresses the machines of a LAN see: one in their own network, else one of their family.
#[must_use]
pub fn own_address(lan: &IpNet, addresses: &BTreeSet<IpNet>) -> Option<IpAddr> {
    let near = addresses.iter().find(|address| address.contains(lan) || lan.contains(&address.addr()));
    let family = || addresses.iter().find(|address| address.addr().is_ipv4() == lan.addr().is_ipv4());
    near.or_else(family).map(IpNet::addr)
}

/// The routes that a LAN's router needs where nothing is masqueraded: what is beyond the tunnel, by way of this machine.
#[must_use]
pub fn routes_for_router(
    beyond: &BTreeSet<IpNet>,
    lan_addresses: &BTreeMap<IpNet, IpAddr>,
) -> BTreeSet<(IpNet, IpAddr)> {
    let via = |net: &IpNet| {
        let net = *net;
        let same = move |address: &&IpAddr| address.is_ipv4() == net.addr().is_ipv4();
        lan_addresses.values().filter(same).map(move |address| (net, *address))
    };
    beyond.iter().flat_map(via).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::observed::LinkKind;

    fn route(destination: &str, interface: u32, metric: u32) -> KernelRoute {
        KernelRoute {
            destination: destination.parse().expect("prefix"),
            interface: Some(interface),
            gateway: None,
            protocol: 2,
            metric,
            kind: UNICAST,
            table: MAIN,
            mtu: None,
            narrowed: false,
        }
    }

    #[test]
    fn what_the_router_is_told() {
        let nets =
            |list: &[&str]| list.iter().map(|net| net.parse().expect("net")).collect::<BTreeSet<IpNet>>();
        let own = nets(&["10.0.0.5/8", "192.168.40.2/24", "fd00:40::2/64"]);
        let addresses: BTreeMap<IpNet, IpAddr> =
            nets(&["192.168.40.0/24", "192.168.50.0/24", "fd00:40::/64"])
                .into_iter()
                .filter_map(|lan| Some((lan, own_address(&lan, &own)?)))
                .collect();
        let told: Vec<String> = routes_for_router(&nets(&["10.9.0.0/24", "fd52:1a9::/64"]), &addresses)
            .iter()
            .map(|(net, via)| format!("{net} via {via}"))
            .collect();
        let expected =
            ["10.9.0.0/24 via 10.0.0.5", "10.9.0.0/24 via 192.168.40.2", "fd52:1a9::/64 via fd00:40::2"];
        assert_eq!(told, expected);
    }

    #[test]
    fn by_the_kernels_routes() {
        let link = |index, name: &str| Link {
            index,
            name: name.to_owned(),
            kind: LinkKind::Other(String::new()),
            mtu: 1500,
            up: true,
            alias: None,
        };
        let links = [link(1, "lo"), link(2, "eth0"), link(3, "eth1"), link(4, "wlan0"), link(7, "wg0")];
        let routes = [
            route("0.0.0.0/0", 2, 0),
            route("10.0.0.0/8", 3, 0),
            route("10.1.0.0/16", 4, 0),
            route("192.168.40.0/24", 4, 600),
            route("192.168.40.0/24", 2, 100),
            route("172.16.5.0/24", 3, 0),
            route("172.16.6.0/24", 99, 0),
            route("172.20.0.0/16", 7, 0),
            route("fd00:40::/64", 2, 256),
            KernelRoute { kind: 7, ..route("192.168.60.0/24", 2, 0) },
            KernelRoute { table: 255, ..route("192.168.61.0/24", 2, 0) },
        ];
        for (lan, expected) in [
            ("192.168.40.0/24", Some("eth0")),
            ("192.168.40.10/32", Some("eth0")),
            ("10.1.2.0/24", Some("wlan0")),
            ("10.2.0.0/16", Some("eth1")),
            ("172.16.0.0/16", Some("eth1")),
            ("fd00:40::/64", Some("eth0")),
            ("172.16.6.0/24", None),
            ("172.20.1.0/24", None),
            ("192.168.60.0/24", None),
            ("192.168.61.0/24", None),
            ("192.168.1.0/24", None),
        ] {
            let lan: IpNet = lan.parse().expect("prefix");
            let found = interfaces(&[lan].into(), &routes, &links, "wg0");
            assert_eq!(found.get(&lan).map(String::as_str), expected, "{lan}");
        }
    }
}
