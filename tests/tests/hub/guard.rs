//! Forwarding is on for the tunnel's sake, and the hub's neighbours get nothing of it: real packets from a neighbour that
//! routes the tunnel's and the home's prefixes by the hub.

use anyhow::{Context as _, Result, ensure};
use relay_tests::{
    lab::relay::Relay,
    netns::{Netns, wait_for},
};

use crate::{DEADLINE, UPLINK, configured};

/// Where the neighbour is, on the same wire as the hub.
const NEIGHBOUR: &str = "198.51.100.66";

/// A machine for the hub, and its neighbour.
fn neighbours() -> Result<(Netns, Netns)> {
    let (machine, neighbour) = (Netns::new("guarded")?, Netns::new("neighbour")?);
    machine.cable("eth0", &neighbour, "eth0")?;
    machine.run_all(&format!(
        "ip address add {UPLINK}/24 dev eth0
         ip -6 address add fd00:99::2/64 dev eth0 nodad
         ip route add default via 198.51.100.1"
    ))?;
    neighbour.run_all(&format!(
        "ip address add {NEIGHBOUR}/24 dev eth0
         ip -6 address add fd00:99::66/64 dev eth0 nodad
         ip route add 192.168.40.0/24 via {UPLINK}
         ip route add 10.9.0.0/24 via {UPLINK}"
    ))?;
    machine.nft(SPY)?;
    Ok((machine, neighbour))
}

/// Counts what of the neighbour's is about to leave into the tunnel: behind everything else, and by the interface's
/// name, so from its first moment.
const SPY: &str = "add table inet spy
add chain inet spy out { type filter hook postrouting priority 500; }
add rule inet spy out oifname \"wg0\" ip saddr 198.51.100.66 counter
add rule inet spy out oifname \"wg0\" ip6 saddr fd00:99::66 counter";

/// What the spy has counted.
fn through(machine: &Netns) -> Result<u64> {
    let table = machine.run("nft list table inet spy")?;
    let counts =
        table.split("packets ").skip(1).filter_map(|rest| rest.split(' ').next()?.parse::<u64>().ok());
    let counts: Vec<u64> = counts.collect();
    ensure!(counts.len() == 2, "{table}");
    Ok(counts.iter().sum())
}

/// Sends to every one, and waits until the hub has dealt with it: it answers what is sent last.
fn send(neighbour: &Netns, targets: &[&str]) -> Result<()> {
    for target in targets {
        // Nobody answers, which ping takes for a failure.
        let _ = neighbour.run(&format!("ping -n -q -c 3 -i 0.01 -W 0.01 {target}"));
    }
    for hub in [UPLINK, "fd00:99::2"] {
        wait_for("the hub to answer its neighbour", DEADLINE, || {
            neighbour.run(&format!("ping -n -c 1 -W 1 {hub}"))
        })?;
    }
    Ok(())
}

fn home6(hub: &Relay<'_>) -> Result<String> {
    let stats = hub.stats()?;
    let addresses = stats.peer("home")?["addresses"].as_array().context("addresses")?;
    let mut texts = addresses.iter().filter_map(|address| address.as_str());
    Ok(texts.find(|address| address.contains(':')).context("home has an IPv6 address")?.to_owned())
}

#[test]
fn neighbours_reach_neither_peers_nor_homes_unless_allowed() -> Result<()> {
    let (machine, neighbour) = neighbours()?;
    let mut hub = configured(&machine)?;
    hub.up()?;
    let home6 = home6(&hub)?;
    neighbour.run(&format!("ip -6 route add {home6}/128 via fd00:99::2"))?;
    let targets = ["192.168.40.10", "10.9.0.2", "10.9.0.3", &home6];
    send(&neighbour, &targets)?;
    ensure!(through(&machine)? == 0, "a neighbour got through");

    // The same packets, allowed, do arrive: what was held back above was held back by the guard.
    for (allow_from, reached) in [
        ("\"198.51.100.66\"", &targets[..3]),
        ("\"fd00:99::/64\"", &targets[3..]),
        ("\"eth0\"", &targets[..]),
    ] {
        let good = hub.insert_after("[firewall]\n", &format!("allow_from = [{allow_from}]\n"))?;
        hub.run(&["reload"])?;
        for target in targets {
            let before = through(&machine)?;
            send(&neighbour, &[target])?;
            let arrived = through(&machine)? - before;
            let expected = if reached.contains(&target) { 3 } else { 0 };
            ensure!(arrived == expected, "allow_from = [{allow_from}]: {arrived} of 3 reached {target}");
        }
        hub.write(&good)?;
    }
    hub.run(&["reload"])?;
    let before = through(&machine)?;
    send(&neighbour, &targets)?;
    ensure!(through(&machine)? == before, "what was allowed once is allowed still");
    Ok(())
}

#[test]
fn nobody_slips_through_while_the_hub_comes_up_or_its_guard_is_replaced() -> Result<()> {
    let (machine, neighbour) = neighbours()?;
    // As Docker leaves a host.
    machine.run("sysctl -qw net.ipv4.ip_forward=1")?;
    let mut hub = configured(&machine)?;
    let mut ping = neighbour.command("ping");
    ping.args(["-n", "-q", "-i", "0.002", "10.9.0.2"]).stdout(std::process::Stdio::null());
    let knocking = neighbour.spawn(&mut ping)?;
    hub.up()?;
    for allow in ["\"eth7\"", "\"eth8\"", "\"203.0.113.0/24\""] {
        let good = hub.insert_after("[firewall]\n", &format!("allow_from = [{allow}]\n"))?;
        hub.run(&["reload"])?;
        hub.write(&good)?;
    }
    send(&neighbour, &[])?;
    ensure!(neighbour.ended(knocking)?.is_none(), "the neighbour stopped knocking");
    ensure!(through(&machine)? == 0, "{} packets of a neighbour got through", through(&machine)?);
    // The same packets are seen where nothing holds them back.
    hub.run(&["down"])?;
    machine.run_all(
        "ip link add wg0 type veth peer name far0
         ip address add 10.9.0.1/24 dev wg0
         ip link set far0 up
         ip link set wg0 up",
    )?;
    wait_for("the spy to see an open way", DEADLINE, || {
        ensure!(through(&machine)? > 0, "nothing comes through");
        Ok(())
    })
}
