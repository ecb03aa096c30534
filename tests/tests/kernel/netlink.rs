//! Links, addresses, routes, rules.

use anyhow::{Context as _, Result};
use relay_user::{
    kernel::{
        netlink::{Netlink, NetlinkError, Uplink},
        wireguard,
    },
    observed::{LinkKind, MARK, ROUTE_PROTOCOL},
};

use crate::{
    space::{isolated, run},
    tunnel::{name, net},
};

/// Makes `tun0`, up, and returns its index.
async fn tun(netlink: &Netlink) -> Result<u32> {
    run("ip tuntap add tun0 mode tun")?;
    let link = netlink.link(&name("tun0")).await?.context("tun0")?;
    netlink.set_up(link.index).await?;
    Ok(link.index)
}

#[test]
fn links_are_read_and_changed() {
    isolated(async || {
        let netlink = Netlink::connect()?;
        assert_eq!(netlink.link(&name("wg0")).await?, None);
        run("ip tuntap add tun0 mode tun")?;
        run("ip link add veth0 type veth peer name veth1")?;

        let tun = netlink.link(&name("tun0")).await?.context("tun0")?;
        assert_eq!((tun.name.as_str(), &tun.kind, tun.mtu, tun.up), ("tun0", &LinkKind::Tun, 1500, false));
        assert!(!tun.is_ours());
        netlink.set_mtu(tun.index, 1420).await?;
        netlink.set_alias(tun.index, MARK).await?;
        netlink.set_up(tun.index).await?;
        let tun = netlink.link(&name("tun0")).await?.context("tun0")?;
        assert_eq!((tun.mtu, tun.up, tun.is_ours()), (1420, true, true));

        let mut links: Vec<_> =
            netlink.links().await?.into_iter().map(|link| (link.name, link.kind)).collect();
        links.retain(|(name, _)| name.starts_with("veth") || name == "tun0");
        links.sort_by(|one, other| one.0.cmp(&other.0));
        let veth = || LinkKind::Other("veth".to_owned());
        let expected = [("tun0", LinkKind::Tun), ("veth0", veth()), ("veth1", veth())];
        assert_eq!(links, expected.map(|(name, kind)| (name.to_owned(), kind)));

        netlink.delete_link(tun.index).await?;
        assert_eq!(netlink.link(&name("tun0")).await?, None);
        netlink.delete_link(tun.index).await.context("a second time")?;
        let error = netlink.set_up(tun.index).await.expect_err("it is gone").to_string();
        assert!(error.contains("bring up") && error.contains("hint"), "{error}");
        Ok(())
    });
}

#[test]
fn a_wireguard_interface_is_born_marked_or_not_at_all() {
    isolated(async || {
        let netlink = Netlink::connect()?;
        match wireguard::kernel_available() {
            Ok(()) => {
                let link = netlink.create_wireguard(&name("wg0")).await?;
                assert_eq!(Some(&link), netlink.link(&name("wg0")).await?.as_ref());
                assert_eq!((link.kind.clone(), link.is_ours(), link.up), (LinkKind::WireGuard, true, false));
                let error = netlink.create_wireguard(&name("wg0")).await.expect_err("taken");
                assert!(matches!(error, NetlinkError::NameTaken(_)), "{error}");
            }
            Err(reason) => {
                let error = netlink.create_wireguard(&name("wg0")).await.expect_err(&reason.to_string());
                assert!(matches!(error, NetlinkError::NoKernelWireGuard(_)), "{error}");
                assert_eq!(netlink.link(&name("wg0")).await?, None);
            }
        }
        Ok(())
    });
}

#[test]
fn addresses_come_and_go_once() {
    isolated(async || {
        let netlink = Netlink::connect()?;
        let index = tun(&netlink).await?;
        let addresses = [net("10.9.0.1/24"), net("fd52:1a9::1/64")];
        for _ in 0..2 {
            for address in addresses {
                netlink.add_address(index, address).await?;
            }
        }
        run("ip address add 169.254.7.7/16 dev tun0 scope link")?;
        assert_eq!(
            netlink.addresses(index).await?,
            addresses.into(),
            "those of the link itself do not count"
        );
        let shown = run("ip -6 address show dev tun0 scope global")?;
        assert!(shown.contains("nodad") && !shown.contains("tentative"), "{shown}");

        for _ in 0..2 {
            netlink.remove_address(index, addresses[0]).await?;
        }
        assert_eq!(netlink.addresses(index).await?, [addresses[1]].into());
        let error = netlink.add_address(9999, addresses[0]).await.expect_err("no such interface").to_string();
        assert!(error.contains("10.9.0.1/24") && error.contains("9999"), "{error}");
        Ok(())
    });
}

#[test]
fn routes_are_ours_by_their_protocol() {
    isolated(async || {
        let netlink = Netlink::connect()?;
        let index = tun(&netlink).await?;
        for destination in ["192.168.40.0/24", "10.9.0.7/32", "fd00:40::/64"].map(net) {
            for _ in 0..2 {
                netlink.add_route(destination, index).await?;
            }
            let routes = netlink.routes().await?;
            let ours: Vec<_> = routes.iter().filter(|route| route.destination == destination).collect();
            assert_eq!(ours.len(), 1, "{ours:?}");
            let route = ours[0].clone();
            assert_eq!((route.protocol, route.interface), (ROUTE_PROTOCOL, Some(index)));
            assert_eq!((route.kind, route.table, route.gateway), (1, 254, None));
            for _ in 0..2 {
                netlink.remove_route(&route).await?;
            }
            assert!(!netlink.routes().await?.contains(&route));
        }
        Ok(())
    });
}

#[test]
fn a_routes_own_mtu_is_seen() {
    isolated(async || {
        let netlink = Netlink::connect()?;
        tun(&netlink).await?;
        for (route, destination, mtu) in [
            ("ip route add 192.168.40.0/24 dev tun0 mtu 1300", net("192.168.40.0/24"), Some(1300)),
            ("ip route add 192.168.41.0/24 dev tun0 mtu lock 1300", net("192.168.41.0/24"), Some(1300)),
            ("ip -6 route add fd00:40::/64 dev tun0 mtu 1300", net("fd00:40::/64"), Some(1300)),
            ("ip route add 192.168.42.0/24 dev tun0 advmss 1200", net("192.168.42.0/24"), None),
        ] {
            run(route)?;
            let routes = netlink.routes().await?;
            let found: Vec<_> = routes.iter().filter(|route| route.destination == destination).collect();
            assert_eq!(found.iter().map(|route| route.mtu).collect::<Vec<_>>(), [mtu], "{route}");
        }
        Ok(())
    });
}

#[test]
fn foreign_routes_stay() {
    isolated(async || {
        let netlink = Netlink::connect()?;
        let index = tun(&netlink).await?;
        run("ip link add veth0 type veth peer name veth1")?;
        run("ip link set veth0 up")?;
        for (command, destination) in [
            ("ip route add 192.168.40.0/24 dev veth0", net("192.168.40.0/24")),
            ("ip -6 route add fd00:40::/64 dev veth0", net("fd00:40::/64")),
        ] {
            run(command)?;
            let taken = netlink.add_route(destination, index).await.expect_err("it is there already");
            assert!(matches!(taken, NetlinkError::RouteTaken(_)), "{taken}");
            let routes = netlink.routes().await?;
            let foreign = routes.iter().find(|route| route.destination == destination).context("foreign")?;
            let refused = netlink.remove_route(foreign).await.expect_err("it is not ours");
            assert!(matches!(refused, NetlinkError::NotOurRoute(..)), "{refused}");
            assert!(netlink.routes().await?.contains(foreign));
        }
        Ok(())
    });
}

#[test]
fn rules_are_told_in_the_words_of_ip_rule() {
    isolated(async || {
        let netlink = Netlink::connect()?;
        assert_eq!(netlink.rules().await?, Vec::<String>::new(), "an untouched namespace has none to tell");
        let rules = [
            "ip rule 100: from all fwmark 0x1 lookup 200",
            "ip rule 101: not from 10.0.0.0/8 to 192.168.40.0/24 iif lo lookup main suppress_prefixlength 0",
            "ip rule 102: from all fwmark 0x10/0xf0 blackhole",
            "ip -6 rule 100: from fd00::/8 lookup 200",
        ];
        for rule in rules {
            let (command, rule) = rule.split_once(" rule ").context("rule")?;
            let (priority, rule) = rule.split_once(": ").context("priority")?;
            let (not, rule) = rule.strip_prefix("not ").map_or(("", rule), |rule| ("not", rule));
            run(&format!("{command} rule add {not} priority {priority} {rule}"))?;
        }
        assert_eq!(netlink.rules().await?, rules);
        run("ip rule del priority 0")?;
        let told = netlink.rules().await?;
        assert!(told[0].contains("`0: from all lookup local` is missing"), "{told:?}");
        Ok(())
    });
}

#[test]
fn uplink_and_the_hosts_networks() {
    isolated(async || {
        let netlink = Netlink::connect()?;
        assert_eq!(netlink.uplink().await?, None);
        let index = tun(&netlink).await?;
        netlink.add_address(index, net("10.9.0.1/24")).await?;
        for line in [
            "ip link add veth0 type veth peer name veth1",
            "ip link set veth0 up",
            "ip link set veth1 up",
            "ip address add 203.0.113.5/24 dev veth0",
            "ip address add 2001:db8::5/64 dev veth0 nodad",
            "ip address add 172.17.0.1/16 dev veth1",
            "ip link add veth2 type veth peer name veth3",
            "ip address add 172.18.0.1/16 dev veth2",
            "ip -6 route add default via 2001:db8::1 dev veth0",
            "ip route add default via 172.17.0.2 dev veth1 metric 600",
        ] {
            run(line)?;
        }
        let interface = async || anyhow::Ok(netlink.uplink().await?.map(|uplink| uplink.interface));
        assert_eq!(interface().await?.as_deref(), Some("veth1"), "IPv4 before IPv6");
        run("ip route add default via 203.0.113.1 dev veth0 metric 100")?;
        let Uplink { interface, addresses, .. } = netlink.uplink().await?.context("uplink")?;
        assert_eq!(interface, "veth0", "the lower metric");
        assert_eq!(
            addresses,
            ["203.0.113.5", "2001:db8::5"]
                .map(|address| address.parse::<std::net::IpAddr>().expect("address"))
        );

        let expected = [("veth0", "203.0.113.0/24"), ("veth0", "2001:db8::/64"), ("veth1", "172.17.0.0/16")];
        let expected = expected.map(|(name, prefix)| (name.to_owned(), net(prefix)));
        assert_eq!(
            netlink.host_networks(index).await?,
            expected,
            "veth2 is down, lo and the tunnel do not count"
        );
        Ok(())
    });
}
