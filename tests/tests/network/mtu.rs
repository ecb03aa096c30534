//! A line that carries less than 1,500 bytes and does not say so: what is longer is dropped, fragments are too, and no
//! ICMP comes back. `mtu` in relay.toml is the remedy.

use std::net::IpAddr;

use anyhow::{Context as _, Result, bail, ensure};
use relay_tests::{
    guest,
    lab::{
        Relay, UDP_TIMEOUT, World,
        echo::{self, Echo},
        peer, relay, web,
        world::{LANS, NAS4, NAS6},
    },
    netns::{Netns, wait_for},
};
use serde_json::json;

use crate::{BULK, DEADLINE, all_fast, back, connected, nas4, settled, transfer};

/// What the home's line carries.
const OUTER: u32 = 1300;
/// 60 bytes less (IPv4, UDP and WireGuard: 20 + 8 + 32), and a multiple of 16, to which WireGuard pads packets shorter
/// than its own MTU (whitepaper 5.4.6).
const INNER: u32 = (OUTER - 60) / 16 * 16;

/// Swallows, on both ways between the home and the internet, what the line does not carry.
fn black_hole(world: &World) -> Result<()> {
    world.internet.nft(&format!(
        "table ip line {{
            chain forward {{
                type filter hook forward priority 0
                iifname != \"isp\" oifname != \"isp\" accept
                ip length > {OUTER} counter drop
                ip frag-off & 0x3fff != 0 counter drop
            }}
        }}"
    ))
}

/// Packets that the line swallowed.
fn swallowed(world: &World) -> Result<u64> {
    let rules = world.internet.run("nft list table ip line")?;
    let counts = rules.split("counter packets ").skip(1).filter_map(|rest| rest.split(' ').next());
    counts.map(|count| count.parse::<u64>().with_context(|| rules.clone())).sum()
}

#[test]
fn a_black_hole_of_1300_bytes() -> Result<()> {
    let world = World::new(UDP_TIMEOUT)?;
    let mut relay = Relay::init_with(&world.vps, &relay::binary()?, &["--subnet6", "none"])?;
    relay.up()?;
    through_the_hole(&world, &relay).inspect_err(|_| eprintln!("relay up said:\n{}", relay.log()))
}

fn through_the_hole(world: &World, relay: &Relay<'_>) -> Result<()> {
    let configs =
        [relay.run(&["peer", "add", "home", "--lan", LANS[0]])?, relay.run(&["peer", "add", "phone"])?];
    let machines = [(&world.home, "home"), (&world.phone, "phone")];
    for ((machine, name), config) in machines.iter().zip(&configs) {
        peer::wg_quick_up(machine, name, config)?;
    }
    let _nas = web::Server::start(&world.nas, [("/", b"at home".to_vec()), ("/bulk", web::noise(7, BULK))])?;
    let _echo = Echo::start(&world.nas)?;
    let url = format!("http://{NAS4}/");
    wait_for("the first page", DEADLINE, || web::fetch(&world.phone, &url).map(drop))?;
    settled(relay, &world.phone, nas4())?;

    black_hole(world)?;
    web::fetch(&world.phone, &url).context("a page, which is short")?;
    let impatient =
        world.phone.run(&format!("curl -sS --noproxy * --max-time 5 --output /dev/null {url}bulk"));
    let lost = swallowed(world)?;
    if impatient.is_ok() || lost == 0 {
        bail!("a file came through: this is no black hole ({lost} packets swallowed)");
    }

    relay.edit("# mtu = 1420", &format!("mtu = {INNER}"))?;
    relay.run(&["reload"])?;
    // The hub's own MTU alone brings TCP back, since it lowers the MSS both sides hear of.
    let before = relay.stats()?;
    let rate = transfer(world).context("the file, with the hub's MTU lowered")?;
    let body = web::noise(8, BULK);
    let got = web::post(&world.phone, &format!("{url}upload"), &body)?;
    ensure!(got == web::sha256(&body), "the upload came damaged");
    let packets = all_fast(relay, &before)?;

    // Everything else needs the peers to know, by the configuration that the hub shows for them.
    for ((machine, name), config) in machines.iter().zip(&configs) {
        let line = format!("MTU = {INNER}\n");
        ensure!(relay.run(&["peer", "show", name])?.contains(&line), "relay peer show {name} has no {line}");
        peer::wg_quick_down(machine, name)?;
        peer::wg_quick_up(machine, name, &config.replace("MTU = 1420\n", &line))?;
    }
    back(&world.phone, nas4(), DEADLINE)?;
    let (before, lost_before) = (relay.stats()?, swallowed(world)?);
    // The longest that fits: 28 bytes are IPv4 and UDP.
    echo::ask(&world.phone, nas4(), 100, INNER as usize - 28)?;
    transfer(world).context("the file, with everybody's MTU lowered")?;
    all_fast(relay, &before)?;
    let swallowed = swallowed(world)? - lost_before;
    ensure!(swallowed == 0, "the line still swallowed {swallowed} packets");
    guest::fact(&json!({
        "network": "a black hole of 1300 bytes", "mtu": INNER, "swallowed_before": lost, "swallowed": swallowed,
        "packets": packets, "mbit_per_s": rate.round(),
    }));
    Ok(())
}

/// The hub's MTU; less than the peers', and what IPv6 asks of any link (RFC 8200 5).
const HUB: u32 = 1280;

#[test]
fn what_is_longer_than_the_tunnel_is_told_so() -> Result<()> {
    connected(UDP_TIMEOUT, |world, relay| {
        let phone = relay.stats()?.peer("phone")?["addresses"].clone();
        let phone: Vec<IpAddr> = serde_json::from_value(phone).context("the phone's addresses")?;
        relay.edit("# mtu = 1420", &format!("mtu = {HUB}"))?;
        relay.run(&["reload"])?;
        settled(relay, &world.phone, nas4())?;
        let nas: [IpAddr; 2] = [NAS4.parse()?, NAS6.parse()?];
        let longs = nas.len() + phone.len();
        for (machine, to) in [(&world.phone, &nas[..]), (&world.home, &phone[..])] {
            to.iter().try_for_each(|to| is_told(machine, *to))?;
        }
        let too_big = relay.stats()?.0["verdicts"]["too_big"].as_u64();
        ensure!(
            too_big >= Some(longs as u64),
            "the fast path left {too_big:?} packets to the stack, not {longs}"
        );

        let before = relay.stats()?;
        transfer(world)?;
        all_fast(relay, &before).map(drop)
    })
}

/// A long ping that nobody may fragment: its sender learns what the tunnel carries.
fn is_told(machine: &Netns, to: IpAddr) -> Result<()> {
    wait_for(&format!("word of the tunnel's MTU on the way to {to}"), DEADLINE, || {
        // It fails: that is what it is for.
        let _ = machine.run(&format!("ping -n -q -c 1 -W 1 -M do -s 1300 {to}"));
        let route = machine.run(&format!("ip route get {to}"))?;
        ensure!(route.contains(&format!("mtu {HUB}")), "{route}");
        Ok(())
    })
}
