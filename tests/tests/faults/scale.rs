//! A thousand peers in the file, twenty of them connected: what that takes is printed, what one change touches is
//! asserted.

use std::{
    collections::BTreeMap,
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, ensure};
use relay_tests::{
    guest,
    lab::{
        relay::{Relay, binary},
        world::VPS,
    },
    netns::{Netns, wait_for},
    resident::Resident,
};
use relay_user::{kernel::wireguard::kernel_available, key::PublicKey};
use serde_json::json;

use crate::{busy, settled, star::Star, status};

const PEERS: usize = 1000;

/// Starting with a thousand peers took 4 s on the host.
const LONG: Duration = Duration::from_secs(60);

/// WireGuard shakes hands anew by itself after this long (REKEY_AFTER_TIME, whitepaper 6.1).
const REKEY: Duration = Duration::from_secs(120);

/// How many are connected: as many as this machine carries.
fn live() -> usize {
    if kernel_available().is_ok() {
        return 20;
    }
    guest::skip("20 connected peers: 4, since without kernel WireGuard each takes a process of its own");
    4
}

/// 10.9.1.0 and upward.
fn address(number: usize) -> String {
    format!("10.9.{}.{}", 1 + number / 200, 1 + number % 200)
}

fn peer(number: usize, key: &str) -> String {
    format!(
        "\n[[peer]]\nname = \"peer{number}\"\npublic_key = \"{key}\"\naddresses = [\"{}\"]\n",
        address(number)
    )
}

/// A key that nobody has.
fn nobodys(number: usize) -> String {
    let mut bytes = [7; 32];
    bytes[..8].copy_from_slice(&(number as u64).to_be_bytes());
    PublicKey::new(bytes).to_string()
}

fn connect(machine: &Netns, number: usize, hub_key: &str) -> Result<()> {
    if machine.run("ip link add tunnel type wireguard").is_err() {
        machine.run("wireguard-go tunnel")?;
    }
    machine.run_all(&format!(
        "wg set tunnel private-key /run/key peer {hub_key} endpoint {VPS}:51820 allowed-ips 10.9.0.0/16
         ip address add {}/16 dev tunnel
         ip link set tunnel mtu 1420 up",
        address(number)
    ))
}

/// From one machine to many, each once, all answered.
fn ping_all(machine: &Netns, addresses: &[String]) -> Result<()> {
    let script = format!(
        "for address in {}; do ping -n -q -c 1 -W 5 $address > /dev/null || {{ echo no answer from $address; exit 1; }}; done",
        addresses.join(" ")
    );
    let output = machine.command("sh").args(["-c", &script]).output()?;
    ensure!(output.status.success(), "{}: {}", machine.name(), String::from_utf8_lossy(&output.stdout));
    Ok(())
}

fn milliseconds(time: Duration) -> u64 {
    u64::try_from(time.as_millis()).unwrap_or(u64::MAX)
}

#[test]
fn a_thousand_peers() -> Result<()> {
    let _busy = busy();
    let live = live();
    let star = Star::new(live)?;
    let mut hub = Relay::init(&star.hub, &binary()?)?;
    hub.edit("10.9.0.1/24", "10.9.0.1/16")?;
    let mut peers = String::new();
    for (number, machine) in star.peers.iter().enumerate() {
        let output = machine
            .command("sh")
            .args(["-c", "umask 077; wg genkey > /run/key; wg pubkey < /run/key"])
            .output()?;
        peers += &peer(number, String::from_utf8(output.stdout)?.trim());
    }
    (live..PEERS).for_each(|number| peers += &peer(number, &nobodys(number)));
    let text = star.hub.run("cat /run/lab/relay.toml")?;
    hub.write(&format!("{text}{peers}"))?;

    let begun = Instant::now();
    hub.up()?;
    let start = begun.elapsed();
    let said = status(&hub)?;
    ensure!(said["peers"] == PEERS, "{said}");
    let hub_key = said["public_key"].as_str().context("no key")?.to_owned();
    ensure!(star.hub.run("wg show wg0 peers")?.lines().count() == PEERS);
    for (number, machine) in star.peers.iter().enumerate() {
        connect(machine, number, &hub_key)?;
    }
    for machine in &star.peers {
        wait_for("a handshake", LONG, || ping_all(machine, &["10.9.0.1".to_owned()]))?;
    }
    wait_for("all to count as connected", LONG, || {
        let said = status(&hub)?;
        ensure!(said["peers_connected"] == live, "{said}");
        Ok(())
    })?;
    settled(&star.hub, &hub)?;
    // Published once the daemon has seen where they are.
    wait_for("all ways in the maps", LONG, || {
        let state = crate::maps(&star.hub)?.read()?;
        let ways = state.hosts.values().filter(|route| route.slot().is_some()).count();
        ensure!(ways == live, "{ways} of {live}");
        Ok(())
    })?;

    let before = hub.stats()?;
    let mut pings = 0;
    for (number, machine) in star.peers.iter().enumerate() {
        let others: Vec<String> = (number + 1..live).map(address).collect();
        ping_all(machine, &others)?;
        pings += others.len() as u64;
    }
    let begun = Instant::now();
    let after = hub.stats()?;
    let stats = begun.elapsed();
    let (redirected, _) = after.since(&before)?;
    ensure!(redirected == 2 * pings, "{redirected} packets were redirected for {pings} pings and answers");

    let handshakes = || -> Result<BTreeMap<String, u64>> {
        let text = star.hub.run("wg show wg0 latest-handshakes")?;
        let peers = text.lines().map(|line| line.split_once('\t').context("no time"));
        peers.map(|peer| peer.and_then(|(key, time)| Ok((key.to_owned(), time.parse()?)))).collect()
    };
    let shook = handshakes()?;
    let said = hub.log().lines().count();
    hub.edit(&format!("\"{}\"", address(PEERS - 1)), "\"10.9.200.1\"")?;
    let begun = Instant::now();
    hub.run(&["reload"])?;
    let reload = begun.elapsed();
    let log = hub.log();
    let news: Vec<&str> = log.lines().skip(said).collect();
    ensure!(news.len() == 1 && news[0].contains("set the peer "), "one change did more: {news:?}");
    let shaken = handshakes()?;
    ensure!(shaken.keys().eq(shook.keys()), "the hub has other peers");
    for (before, after) in shook.values().zip(shaken.values()) {
        // Both are rounded to seconds, so one is missing; gotatun's may be a second off.
        let due = *before != 0 && *after >= before + REKEY.as_secs() - 1;
        ensure!(
            after.abs_diff(*before) <= 1 || due,
            "somebody had to shake hands anew: {before}, then {after}"
        );
    }
    ping_all(star.peers.first().context("nobody")?, &[address(live - 1)])?;
    let pid = status(&hub)?["pid"].as_u64().context("no pid")?;
    guest::fact(&json!({
        "scale": PEERS, "live": live, "start_ms": milliseconds(start), "reload_ms": milliseconds(reload),
        "stats_ms": milliseconds(stats), "rss_kb": Resident::of(u32::try_from(pid)?)?.all
    }));
    Ok(())
}
