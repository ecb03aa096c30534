//! Two adopted interfaces on one host: their packets take the fast path and come out as without it, what their keepers
//! change is followed, and after the release nothing tells that relay was there.

use anyhow::{Context as _, Result, ensure};
use ipnet::IpNet;
use relay_tests::{
    lab::peer,
    netns::{Netns, wait_for},
};
use relay_user::key::PublicKey;

use crate::{
    DEADLINE,
    hub::Hub,
    life, wg_easy,
    world::{self, NAS, Pair, WgEasy, WgQuick},
};

#[test]
fn two_interfaces_of_others() -> Result<()> {
    let quick = WgQuick::new()?;
    let easy = WgEasy::new(&quick.vps)?;
    let hubs = [(quick.hub()?, &quick.pair, "10.6.0"), (easy.hub(&quick.vps), &easy.pair, "10.8.0")];
    let mut before = Vec::new();
    for (hub, pair, net) in &hubs {
        before.push((hub.traces()?, pair.what_comes_of_packets(net)?));
    }
    for (hub, ..) in &hubs {
        hub.adopt()?;
    }
    followed(&hubs, &before)
        .and_then(|()| life::it_ends_with_its_container(&hubs[1].0, &easy))
        .inspect_err(|_| hubs.iter().for_each(|(hub, ..)| eprintln!("relay adopt said:\n{}", hub.said())))
}

type Hubs<'a> = [(Hub<'a>, &'a Pair, &'a str); 2];

fn followed(hubs: &Hubs<'_>, before: &[(String, Vec<String>)]) -> Result<()> {
    for ((hub, pair, net), (_, packets)) in hubs.iter().zip(before) {
        carried(hub, pair).with_context(|| format!("{net}: adopted"))?;
        let now = pair.what_comes_of_packets(net)?;
        ensure!(now == *packets, "{net}: without the fast path:\n{packets:#?}\nwith it:\n{now:#?}");
    }
    let [(quick, pair, _), (container, behind, _)] = hubs;
    let deployment = world::deployment();
    let [home, phone] = [&world::HOME, &world::PHONE].map(|key| key.public_key());
    peers(quick, [home, phone])?;
    let [home, phone] = [0, 1].map(|at| deployment.clients[at].private_key().public_key());
    clients(container, [home, phone])?;
    // Whom syncconf took away has to be heard of again.
    heard_of(behind)?;

    // One of each kind is enough: the slow part of it is waiting.
    lan_without_route(container, behind)?;
    drop_policy(quick, pair)?;

    hubs.iter().try_for_each(|(hub, ..)| hub.release())?;
    for ((hub, ..), (traces, _)) in hubs.iter().zip(before) {
        let after = hub.traces()?;
        ensure!(*traces == after, "before:\n{traces}\nafter:\n{after}");
    }
    Ok(())
}

/// Every packet from the phone to the home's LAN and back takes the fast path.
fn carried(hub: &Hub<'_>, pair: &Pair) -> Result<()> {
    wait_for("all packets to take the fast path", DEADLINE, || {
        let before = hub.stats()?;
        pair.phone.run(&format!("ping -n -c 2 -i 0.2 -W 2 {NAS}"))?;
        let (redirected, seen) = hub.stats()?.since(&before)?;
        ensure!(redirected >= 4 && redirected == seen, "{redirected} of {seen} packets");
        Ok(())
    })?;
    let stats = hub.stats()?;
    let peers = stats.0["peers"].as_array().context("peers")?;
    let fast = peers.iter().filter(|peer| peer["fast_path"]["sent"]["packets"].as_u64() > Some(0)).count();
    ensure!(fast == 2, "who was sent something by the fast path: {}", stats.0);
    Ok(())
}

/// Whose is an address by the maps.
fn owner(hub: &Hub<'_>, prefix: &str) -> Result<Option<PublicKey>> {
    let (maps, prefix) = (hub.maps()?, prefix.parse::<IpNet>()?);
    let host = maps.hosts.get(&prefix.addr()).filter(|_| prefix.prefix_len() == prefix.max_prefix_len());
    let slot = host.or_else(|| maps.lans.get(&prefix)).and_then(|route| route.slot());
    Ok(maps.slots.iter().find(|(_, owned)| Some(**owned) == slot).map(|(key, _)| *key))
}

fn belongs_to(hub: &Hub<'_>, prefix: &str, whom: Option<PublicKey>) -> Result<()> {
    wait_for(&format!("{prefix} to change hands"), DEADLINE, || {
        let owner = owner(hub, prefix)?;
        ensure!(owner == whom, "{prefix} is {owner:?}'s, not {whom:?}'s");
        Ok(())
    })
}

/// By `wg syncconf` a peer comes and goes, and a LAN moves to another and back.
fn peers(hub: &Hub<'_>, [home, phone]: [PublicKey; 2]) -> Result<()> {
    let tablet = world::TABLET.public_key();
    belongs_to(hub, "192.168.40.0/24", Some(home))?;
    hub.sync(&world::grown(false, &world::tablet()))?;
    belongs_to(hub, "192.168.40.0/24", Some(phone))?;
    belongs_to(hub, "10.6.0.4/32", Some(tablet))?;
    ensure!(hub.stats()?.0["peers"].as_array().is_some_and(|peers| peers.len() == 3));
    hub.sync(&world::grown(true, ""))?;
    belongs_to(hub, "10.6.0.4/32", None)?;
    belongs_to(hub, "192.168.40.0/24", Some(home))?;
    ensure!(!hub.maps()?.slots.contains_key(&tablet), "its counters are kept");
    Ok(())
}

/// In wg-easy's panel the phone is switched off and on again.
fn clients(hub: &Hub<'_>, [home, phone]: [PublicKey; 2]) -> Result<()> {
    let mut deployment = world::deployment();
    belongs_to(hub, "10.8.0.3/32", Some(phone))?;
    deployment.clients[1].enabled = false;
    hub.sync(&wg_easy::conf_14(&deployment))?;
    belongs_to(hub, "10.8.0.3/32", None)?;
    belongs_to(hub, "192.168.40.0/24", Some(home))?;
    hub.sync(&wg_easy::conf_14(&world::deployment()))
}

fn heard_of(pair: &Pair) -> Result<()> {
    peer::new_session(&pair.phone, "wg0")?;
    wait_for("the hub to answer", DEADLINE, || pair.phone.run("ping -n -c 1 -W 1 10.8.0.1")).map(drop)
}

/// The command that relay names for a LAN without a route, typed as it stands, mends it.
fn lan_without_route(hub: &Hub<'_>, pair: &Pair) -> Result<()> {
    hub.run(&format!("ip route del 192.168.40.0/24 dev {}", hub.interface))?;
    belongs_to(hub, "192.168.40.0/24", None)?;
    let told = wait_for("relay to tell it", DEADLINE, || {
        let problems = hub.status()?["problems"].clone();
        let told = problems[0].as_str().unwrap_or_default();
        ensure!(told.contains("192.168.40.0/24 has no route into"), "{problems}");
        Ok(told.to_owned())
    })?;
    let (_, command) = told.split_once("; ").with_context(|| told.clone())?;
    hub.vps.run(command)?;
    carried(hub, pair)?;
    let problems = hub.status()?["problems"].clone();
    ensure!(problems == serde_json::json!([]), "{problems}");
    Ok(())
}

/// Nothing goes around a rule that drops.
fn drop_policy(hub: &Hub<'_>, pair: &Pair) -> Result<()> {
    let reaches = |phone: &Netns| phone.run(&format!("ping -n -c 1 -W 1 {NAS}")).is_ok();
    hub.run("nft add table ip strict")?;
    hub.run("nft add chain ip strict forward { type filter hook forward priority 10 ; policy drop ; }")?;
    hub.wait_for_fast_path("off", "table ip strict, chain forward: policy drop")?;
    ensure!(!hub.maps()?.enabled && !reaches(&pair.phone), "a drop policy drops nothing");
    hub.run("nft delete table ip strict")?;
    hub.wait_for_fast_path("on", "")?;
    carried(hub, pair)
}
