//! What wakes, and what does not.

use std::{
    collections::BTreeSet,
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result};
use relay_tests::guest::patience;
use relay_user::{
    desired::Backend,
    kernel::{
        events::{Events, LONGEST, QUIET, Topic},
        netlink::Netlink,
        userspace::Userspace,
        wireguard,
    },
};

use crate::{
    space::{isolated, run},
    tunnel::{name, net},
};

/// How long an event may take.
const DEADLINE: Duration = Duration::from_secs(20);

/// The topics of the next event, or a failure if there is none in time.
async fn next(events: &mut Events) -> Result<BTreeSet<Topic>> {
    Ok(tokio::time::timeout(patience(DEADLINE), events.next()).await.context("no event")??)
}

/// Waits for an event of that topic. The kernel tells some changes of links up to a second late (net/core/link_watch.c),
/// so that one of a line before may come in between.
async fn told(events: &mut Events, topic: Topic) -> Result<()> {
    let mut others = Vec::new();
    let found = tokio::time::timeout(patience(DEADLINE), async {
        loop {
            let topics = events.next().await?;
            if topics.contains(&topic) {
                return Ok(());
            }
            others.push(topics);
        }
    });
    found.await.unwrap_or_else(|_| Err(anyhow::anyhow!("not told of {topic:?}, only of {others:?}")))
}

/// Longer than the kernel keeps a change of a link back.
const LATE: Duration = Duration::from_millis(1500);

/// Swallows what is still to come: until nothing has come for as long as that.
async fn settle(events: &mut Events, quiet: Duration) -> Result<()> {
    while let Ok(event) = tokio::time::timeout(quiet, events.next()).await {
        event?;
    }
    Ok(())
}

#[test]
fn each_kind_of_change_is_told_by_its_topic() {
    isolated(async || {
        let mut events = Events::subscribe()?;
        for (line, topic) in [
            ("ip tuntap add tun0 mode tun", Topic::Links),
            ("ip link set tun0 up", Topic::Links),
            ("ip address add 10.9.0.1/24 dev tun0", Topic::Addresses),
            ("ip address add fd52:1a9::1/64 dev tun0 nodad", Topic::Addresses),
            ("ip route add 192.168.40.0/24 dev tun0", Topic::Routes),
            ("ip -6 route add fd00:40::/64 dev tun0", Topic::Routes),
            ("ip rule add fwmark 1 lookup 100", Topic::Rules),
            ("ip -6 rule add fwmark 1 lookup 100", Topic::Rules),
            ("nft add table inet other", Topic::Firewall),
            ("nft delete table inet other", Topic::Firewall),
            ("tc qdisc add dev tun0 clsact", Topic::TrafficControl),
            ("tc qdisc delete dev tun0 clsact", Topic::TrafficControl),
            ("ip link delete tun0", Topic::Links),
        ] {
            settle(&mut events, QUIET * 4).await?;
            run(line)?;
            told(&mut events, topic).await.context(line)?;
        }
        Ok(())
    });
}

#[test]
fn reading_is_no_event() {
    isolated(async || {
        let userspace = Userspace::start(&name("wg0"), 1420)?;
        let netlink = Netlink::connect()?;
        let mut events = Events::subscribe()?;
        settle(&mut events, LATE).await?;
        netlink.link(&name("wg0")).await?;
        netlink.links().await?;
        netlink.routes().await?;
        netlink.rules().await?;
        netlink.uplink().await?;
        netlink.host_networks(1).await?;
        wireguard::read(&name("wg0"), Backend::Userspace)?;
        wireguard::read(&name("wg0"), Backend::Kernel).ok();
        run("nft --json list ruleset")?;
        let event = tokio::time::timeout(QUIET * 10, events.next()).await;
        assert!(event.is_err(), "{event:?}");
        drop(userspace);
        Ok(())
    });
}

#[test]
fn many_changes_are_few_events_and_none_waits_for_ever() {
    isolated(async || {
        let netlink = Netlink::connect()?;
        run("ip tuntap add tun0 mode tun")?;
        let index = netlink.link(&name("tun0")).await?.context("tun0")?.index;
        netlink.set_up(index).await?;
        let mut events = Events::subscribe()?;
        settle(&mut events, LATE).await?;

        for number in 0..200 {
            netlink.add_route(net(&format!("192.168.{number}.0/24")), index).await?;
        }
        let mut told = vec![next(&mut events).await?];
        while let Ok(event) = tokio::time::timeout(QUIET * 10, events.next()).await {
            told.push(event?);
        }
        // One, unless this thread is kept from reading for longer than the quiet that ends an event.
        assert!(told.len() <= 10, "200 changes in {} events", told.len());
        assert!(told.iter().all(|topics| *topics == [Topic::Routes].into()), "{told:?}");

        // Without a pause it is told all the same, and being dropped in between loses nothing.
        let start = Instant::now();
        let mut told = None;
        for number in 0.. {
            let address = net(&format!("10.9.{}.1/32", number % 250));
            netlink.add_address(index, address).await?;
            netlink.remove_address(index, address).await?;
            if let Ok(event) = tokio::time::timeout(Duration::from_millis(1), events.next()).await {
                told = Some(event?);
                break;
            }
            assert!(start.elapsed() < LONGEST * 20, "never told");
        }
        assert!(told.context("told")?.contains(&Topic::Addresses));
        Ok(())
    });
}

#[test]
fn lost_notifications_mean_that_anything_may_have_changed() {
    isolated(async || {
        let netlink = Netlink::connect()?;
        run("ip tuntap add tun0 mode tun")?;
        let index = netlink.link(&name("tun0")).await?.context("tun0")?.index;
        netlink.set_up(index).await?;
        let mut events = Events::subscribe()?;
        // Some hundred bytes each, many times what the socket holds.
        for round in 0..8 {
            for number in 0..1000 {
                let prefix = net(&format!("10.{}.{}.0/24", number / 250, number % 250));
                netlink.add_route(prefix, index).await.with_context(|| format!("round {round}"))?;
            }
            run("ip route flush dev tun0 proto 207")?;
        }
        let told = next(&mut events).await?;
        assert!(told.contains(&Topic::Firewall) && told.contains(&Topic::TrafficControl), "{told:?}");
        Ok(())
    });
}
