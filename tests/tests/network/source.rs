//! The VPS's own addresses and routes change. Peers behind NATs hear only the address that they dial, so the hub must
//! answer from that one as long as it has it, whatever it would choose by itself.

use anyhow::{Context as _, Result, ensure};
use relay_tests::{
    guest,
    lab::{
        Relay, UDP_TIMEOUT, World,
        pings::Pings,
        world::{NAS4, VPS},
    },
    netns::Netns,
};
use serde_json::json;

use crate::{DEADLINE, KEEPALIVE, all_fast, back, connected, nas4, ping, seconds};

/// Another address of the VPS, in the same subnet.
const SECOND: &str = "198.51.100.3";
/// Its address on a second uplink.
const OTHER_UPLINK: &str = "198.18.5.2";

/// Pings before it happens, and after it.
const CALM: u32 = 100;

/// Pings while it happens, none of which may be lost, and all by the fast path.
fn unnoticed(case: &str, world: &World, relay: &Relay<'_>, happens: &str) -> Result<()> {
    let before = relay.stats()?;
    let pings = Pings::start(&world.phone, NAS4.parse()?)?;
    pings.more(CALM, DEADLINE)?;
    world.vps.run_all(happens)?;
    pings.more(CALM, DEADLINE)?;
    let tally = pings.end()?;
    ensure!(tally.lost.is_empty(), "{case}: {} of {} pings lost", tally.lost.len(), tally.sent);
    all_fast(relay, &before).with_context(|| case.to_owned())?;
    guest::fact(&json!({ "network": case, "pings": tally.sent, "lost": tally.lost.len() }));
    Ok(())
}

/// What the hub would answer from if it chose by itself.
fn preferred(vps: &Netns) -> Result<String> {
    let route = vps.run("ip route get 203.0.113.2")?;
    let words: Vec<&str> = route.split_whitespace().collect();
    let at = words.iter().position(|word| *word == "src").with_context(|| route.clone())?;
    Ok((*words.get(at + 1).with_context(|| route.clone())?).to_owned())
}

/// The home and the phone dial that address instead; relay is told nothing.
fn dial(world: &World, address: &str) -> Result<()> {
    for (machine, name) in [(&world.home, "home"), (&world.phone, "phone")] {
        let hub = machine.run(&format!("wg show {name} peers"))?;
        let hub = hub.trim();
        // By way of none: WireGuard sends a keepalive at once only when there was none before.
        machine.run_all(&format!(
            "wg set {name} peer {hub} persistent-keepalive 0
             wg set {name} peer {hub} endpoint {address}:51820 persistent-keepalive {}",
            KEEPALIVE.as_secs()
        ))?;
    }
    Ok(())
}

#[test]
fn the_hubs_own_addresses_and_routes() -> Result<()> {
    connected(UDP_TIMEOUT, |world, relay| {
        if relay.stats()?.0["backend"] == "kernel" {
            answers_from_what_was_dialled(world, relay)?;
        } else {
            // IP_PKTINFO would tell it which address that was; gotatun 0.10 does not ask for it.
            guest::skip(
                "userspace WireGuard answers from the address that the route prefers, not the one dialled",
            );
        }
        another_has_to_be_dialled(world, relay)
    })
}

fn answers_from_what_was_dialled(world: &World, relay: &Relay<'_>) -> Result<()> {
    unnoticed(
        "a second address that the VPS prefers",
        world,
        relay,
        &format!(
            "ip addr add {SECOND}/24 dev eth0
             ip route replace default via 198.51.100.1 dev eth0 src {SECOND}"
        ),
    )?;
    ensure!(preferred(&world.vps)? == SECOND, "the VPS prefers {}", preferred(&world.vps)?);
    world.internet.run("ip addr add 198.51.100.254/24 dev vps")?;
    unnoticed("another gateway", world, relay, "ip route replace default via 198.51.100.254 dev eth0")
}

/// The address goes away, then the whole uplink: relay needs no word of it, only the peers do.
fn another_has_to_be_dialled(world: &World, relay: &Relay<'_>) -> Result<()> {
    let another = format!(
        "ip addr del {VPS}/24 dev eth0
         ip addr replace {SECOND}/24 dev eth0
         ip route replace default via 198.51.100.1"
    );
    let other_uplink = format!(
        "ip addr add {OTHER_UPLINK}/24 dev eth1
         ip route replace default via 198.18.5.1 dev eth1"
    );
    world.internet.cable("vps2", &world.vps, "eth1")?;
    world.internet.run("ip addr add 198.18.5.1/24 dev vps2")?;
    for (case, address, happens) in [
        ("the VPS has another address", SECOND, another),
        ("the default route moves to another uplink", OTHER_UPLINK, other_uplink),
    ] {
        world.vps.run_all(&happens)?;
        dial(world, address)?;
        let took = back(&world.phone, nas4(), DEADLINE).with_context(|| case.to_owned())?;
        let before = relay.stats()?;
        ping::none_lost(world, 50).with_context(|| case.to_owned())?;
        all_fast(relay, &before).with_context(|| case.to_owned())?;
        guest::fact(&json!({ "network": case, "seconds": seconds(took) }));
    }
    Ok(())
}
