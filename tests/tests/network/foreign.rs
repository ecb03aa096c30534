//! Four WireGuards in one run: the hub's, the home's (the kernel's where there is one), wireguard-go on the phone and
//! gotatun-cli on the laptop. Everybody reaches everybody and the NAS, and a reload breaks nobody's session.

use std::net::IpAddr;

use anyhow::{Context as _, Result, ensure};
use relay_tests::{
    guest,
    lab::{
        Relay, UDP_TIMEOUT, World, connect_home,
        echo::{self, Echo},
        peer::{self, Userspace},
        relay,
        web::{self, Server},
        world::{NAS4, NAS6},
    },
    netns::{Netns, wait_for},
};
use serde_json::json;

use crate::{DEADLINE, HUB, all_fast, back, early, on_the_internet, settled};

const PAGE: usize = 128 << 10;
const DATAGRAMS: u32 = 20;
const DATAGRAM: usize = 1200;

/// A machine with a WireGuard.
struct Member<'a> {
    name: &'static str,
    machine: &'a Netns,
    /// Its addresses in the tunnel.
    addresses: Vec<IpAddr>,
}

#[test]
fn everybodys_wireguard() -> Result<()> {
    let world = World::new(UDP_TIMEOUT)?;
    let laptop = on_the_internet(&world, "laptop", "198.18.7")?;
    let mut relay = Relay::init(&world.vps, &relay::binary()?)?;
    relay.up()?;
    told(&world, &laptop, &relay).inspect_err(|_| eprintln!("relay up said:\n{}", relay.log()))
}

fn told(world: &World, laptop: &Netns, relay: &Relay<'_>) -> Result<()> {
    let mut members = vec![Member {
        name: "home",
        machine: &world.home,
        addresses: peer::addresses(&connect_home(world, relay)?),
    }];
    for (name, machine, userspace) in
        [("phone", &world.phone, Userspace::WireguardGo), ("laptop", laptop, Userspace::Gotatun)]
    {
        let config = relay.run(&["peer", "add", name])?;
        peer::userspace_up(machine, userspace, name, &config)?;
        members.push(Member { name, machine, addresses: peer::addresses(&config) });
    }
    let _nas = Server::start(&world.nas, [("/", web::noise(1, PAGE))])?;
    let _pages: Vec<Server> = members
        .iter()
        .map(|at| Server::start(at.machine, [("/", web::noise(1, PAGE))]))
        .collect::<Result<_>>()?;
    let _echoes: Vec<Echo> =
        members.iter().map(|at| at.machine).chain([&world.nas]).map(Echo::start).collect::<Result<_>>()?;
    all_at_once(&members, relay)?;

    let before = relay.stats()?;
    let ways = everybody_reaches_everybody(&members)?;
    let packets = all_fast(relay, &before)?;

    // A reload, also one with something in it, is nobody's business.
    let shaken = handshakes(&members, relay)?;
    relay.run(&["peer", "add", "tablet"])?;
    relay.run(&["peer", "remove", "tablet"])?;
    relay.run(&["reload"])?;
    let before = relay.stats()?;
    everybody_reaches_everybody(&members).context("after the reload")?;
    all_fast(relay, &before).context("after the reload")?;
    let now = handshakes(&members, relay)?;
    ensure!(!early(&shaken, &now), "the reload made somebody shake hands anew: {shaken:?}, then {now:?}");

    // Each drops its session and makes another one, while the hub still has the old one.
    for member in &members {
        peer::new_session(member.machine, member.name)?;
    }
    all_at_once(&members, relay)?;
    wait_for("new handshakes of all", DEADLINE, || {
        let anew = handshakes(&members, relay)?;
        let which = members.iter().zip(anew.iter().zip(&shaken)).filter(|(_, (new, old))| new <= old);
        let missing: Vec<&str> = which.map(|(member, _)| member.name).collect();
        ensure!(missing.is_empty(), "none of {}", missing.join(" and "));
        Ok(())
    })?;
    let before = relay.stats()?;
    everybody_reaches_everybody(&members).context("by new sessions")?;
    all_fast(relay, &before).context("by new sessions")?;
    let link = world.home.run("ip -details link show home")?;
    let home = if link.contains("wireguard") { "kernel" } else { "wireguard-go" };
    guest::fact(&json!({
        "network": "wireguards", "hub": relay.stats()?.0["backend"], "home": home,
        "phone": "wireguard-go", "laptop": "gotatun-cli", "ways": ways, "packets": packets,
    }));
    Ok(())
}

/// Waits until all are connected, which takes a handshake each, and the fast path knows the way to all.
fn all_at_once(members: &[Member<'_>], relay: &Relay<'_>) -> Result<()> {
    // Nobody is reached before it has spoken.
    for from in members {
        back(from.machine, HUB.parse()?, DEADLINE)
            .with_context(|| format!("from {} to the hub", from.name))?;
    }
    members
        .iter()
        .zip(members.iter().cycle().skip(1))
        .try_for_each(|(from, to)| settled(relay, from.machine, to.addresses[0]))
}

/// TCP and UDP, IPv4 and IPv6, from each to each other and from all but the home to the NAS behind it. Gives the number
/// of ways.
fn everybody_reaches_everybody(members: &[Member<'_>]) -> Result<usize> {
    let nas: [IpAddr; 2] = [NAS4.parse()?, NAS6.parse()?];
    let page = web::sha256(&web::noise(1, PAGE));
    let mut ways = 0;
    for from in members {
        let others =
            members.iter().filter(|to| to.name != from.name).flat_map(|to| to.addresses.iter().copied());
        let nas = nas.into_iter().filter(|_| from.name != "home");
        for to in others.chain(nas) {
            let act = || format!("from {} to {to}", from.name);
            echo::ask(from.machine, to, DATAGRAMS, DATAGRAM).with_context(act)?;
            let url = if to.is_ipv4() { format!("http://{to}/") } else { format!("http://[{to}]/") };
            let got = web::fetch(from.machine, &url).with_context(act)?;
            ensure!(got.sha256 == page, "{}: the page came damaged", act());
            ways += 1;
        }
    }
    Ok(ways)
}

fn handshakes(members: &[Member<'_>], relay: &Relay<'_>) -> Result<Vec<u64>> {
    let stats = relay.stats()?;
    members.iter().map(|member| stats.handshake(member.name)).collect()
}
