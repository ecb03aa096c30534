//! Whatever is done behind the daemon's back is undone, and nothing else is touched.

use anyhow::{Result, ensure};
use relay_tests::netns::wait_for;

use crate::{DEADLINE, hub, machine};

/// (what happens, how, a question to the kernel, what its answer must contain again)
const ROWS: &[(&str, &str, &str, &str)] = &[
    ("the interface goes down", "ip link set wg0 down", "ip -br link show wg0", "LOWER_UP"),
    ("its MTU changes", "ip link set wg0 mtu 1300", "ip link show wg0", "mtu 1420"),
    ("its addresses are flushed", "ip address flush dev wg0", "ip -4 address show wg0", "10.9.0.1/24"),
    ("its routes are flushed", "ip route flush dev wg0", "ip route", "192.168.40.0/24 dev wg0"),
    (
        "an address is added",
        "ip address add 10.77.0.1/24 dev wg0",
        "ip -4 -br address show wg0",
        "UNKNOWN        10.9.0.1/24 \n",
    ),
    ("the ruleset is flushed", "nft flush ruleset", "nft list table inet relay", "guard-wg0"),
    (
        "a chain of ours is flushed",
        "nft flush chain inet relay guard-wg0",
        "nft list table inet relay",
        "drop",
    ),
    (
        "IPv4 forwarding is switched off",
        "sysctl -qw net.ipv4.ip_forward=0",
        "sysctl net.ipv4.ip_forward",
        "= 1",
    ),
    (
        "IPv6 forwarding is switched off",
        "sysctl -qw net.ipv6.conf.all.forwarding=0",
        "sysctl net.ipv6.conf.all.forwarding",
        "= 1",
    ),
    ("the port is changed", "wg set wg0 listen-port 4242", "wg show wg0 listen-port", "51820"),
    ("the interface is deleted", "ip link delete wg0", "ip -4 address show wg0", "10.9.0.1/24"),
];

#[test]
fn heals() -> Result<()> {
    let machine = machine("drift")?;
    let hub = hub(&machine)?;
    for (what, injection, question, answer) in ROWS {
        ensure!(
            machine.run(question)?.contains(answer),
            "{what}: {question} does not say {answer:?} to begin with"
        );
        machine.run(injection)?;
        wait_for(&format!("relay to heal it when {what}"), DEADLINE, || {
            let said = machine.run(question)?;
            ensure!(said.contains(answer), "{question} says: {said}");
            Ok(())
        })?;
        wait_for(&format!("the fast path after {what}"), DEADLINE, || {
            let stats = hub.stats()?;
            ensure!(stats.fast_path_is_on(), "{}", stats.0["fast_path"]);
            Ok(())
        })?;
    }
    Ok(())
}

#[test]
fn a_peer_set_and_a_peer_removed_by_hand() -> Result<()> {
    let machine = machine("wg-set")?;
    let _hub = hub(&machine)?;
    let peers = || -> Result<Vec<String>> {
        let mut peers: Vec<String> =
            machine.run("wg show wg0 allowed-ips")?.lines().map(str::to_owned).collect();
        peers.sort();
        Ok(peers)
    };
    let before = peers()?;
    ensure!(before.len() == 2, "{before:?}");
    let key = before[0].split_whitespace().next().unwrap_or_default();
    machine.run(&format!("wg set wg0 peer {key} remove"))?;
    let stranger = "hzJ3pVRzCkgQzbsJL2g6ZsRQRPl1rgu1oDJ4CoIG3Xk=";
    machine.run(&format!("wg set wg0 peer {stranger} allowed-ips 10.9.0.66/32"))?;
    wait_for("the peers to be those of the file", DEADLINE, || {
        let now = peers()?;
        ensure!(now == before, "{now:?}");
        Ok(())
    })
}

#[test]
fn in_peace_nothing_is_written() -> Result<()> {
    let machine = machine("peace")?;
    let hub = hub(&machine)?;
    let said = |hub: &relay_tests::lab::relay::Relay<'_>| hub.log().lines().count();
    let answer = hub.run(&["reload"])?;
    ensure!(answer.is_empty(), "stdout is for data: {answer}");
    let before = said(&hub);
    // Three looks of the loop, each of which would say what it changes.
    for _ in 0..3 {
        hub.run(&["reload"])?;
    }
    ensure!(said(&hub) == before, "{}", hub.log());
    Ok(())
}
