//! Two relays on one host, and commands that mean the other one.

use std::process::Stdio;

use anyhow::{Context as _, Result, ensure};
use relay_tests::{
    lab::relay,
    netns::{Netns, checked, wait_for},
};

use crate::{DEADLINE, hub, machine};

const CONFIG: &str = "/run/second/relay.toml";
const SOCKET: &str = "/run/second/relay.sock";

/// A command of the relay of `wg1`, with a socket of its own.
fn second(machine: &Netns, args: &[&str]) -> Result<String> {
    checked(machine.command(relay::binary()?).args(args).args(["--config", CONFIG, "--socket", SOCKET]))
}

fn second_up(machine: &Netns) -> Result<u32> {
    machine.run("mkdir -m 0700 /run/second")?;
    let subnets = ["--subnet", "10.10.0.0/24", "--subnet6", "fd00:10::/64"];
    let own = ["--interface", "wg1", "--listen-port", "51821", "--endpoint", "198.51.100.2"];
    second(machine, &[&["init"], &own[..], &subnets[..]].concat())?;
    let mut command = machine.command(relay::binary()?);
    command.args(["up", "--config", CONFIG, "--socket", SOCKET]);
    let daemon = machine.spawn(command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()))?;
    wait_for("the second relay to answer", DEADLINE, || second(machine, &["status"]))?;
    Ok(daemon)
}

#[test]
fn each_takes_down_what_is_its_own() -> Result<()> {
    let machine = machine("two")?;
    second_up(&machine)?;
    let hub = hub(&machine)?;
    // The first to come set the sysctls; it goes, and the other needs them still.
    second(&machine, &["down"])?;
    ensure!(machine.run("sysctl -n net.ipv4.ip_forward net.ipv6.conf.all.forwarding")? == "1\n1\n");
    let table = machine.run("nft list table inet relay")?;
    ensure!(table.contains("guard-wg0") && !table.contains("wg1"), "{table}");
    ensure!(machine.run("ip link show wg1").is_err() && machine.run("ip link show wg0").is_ok());
    hub.run(&["reload"])?;
    let log = hub.log();
    ensure!(!log.contains("forwarding = 1") && !log.contains("ip_forward"), "it was off for a moment: {log}");
    hub.run(&["down"])?;
    ensure!(machine.run("sysctl -n net.ipv4.ip_forward net.ipv6.conf.all.forwarding")? == "0\n0\n");
    ensure!(machine.run("nft list ruleset")?.is_empty());
    Ok(())
}

#[test]
fn a_second_one_of_the_same_interface_is_refused_whatever_its_socket() -> Result<()> {
    let machine = machine("same")?;
    let hub = hub(&machine)?;
    let daemon = hub.spawn(&["up", "--socket", "/run/elsewhere/relay.sock"])?;
    let ended = wait_for("it to give up", DEADLINE, || machine.ended(daemon)?.context("it runs"))?;
    ensure!(
        !ended.success() && hub.log().contains("another relay already runs interface wg0"),
        "{}",
        hub.log()
    );
    hub.run(&["status"]).context("the first one answers still").map(drop)
}

#[test]
fn a_command_about_one_file_does_not_reach_the_daemon_of_another() -> Result<()> {
    let machine = machine("other")?;
    let hub = hub(&machine)?;
    machine.run("mkdir -m 0700 /run/second")?;
    let other = |args: &[&str]| {
        let output = machine.command(relay::binary()?).args(args).args(["--config", CONFIG]).output()?;
        ensure!(output.status.success(), "{args:?}: {}", String::from_utf8_lossy(&output.stderr));
        Ok(String::from_utf8_lossy(&output.stderr).into_owned())
    };
    other(&["init", "--interface", "wg1", "--endpoint", "198.51.100.2", "--subnet", "10.10.0.0/24"])?;
    let said = other(&["peer", "add", "stranger"])?;
    ensure!(said.contains("follows /run/lab/relay.toml, so it was not told"), "{said}");
    let said = other(&["down"])?;
    ensure!(said.contains("nothing of relay's was up"), "{said}");
    hub.run(&["status"]).context("the daemon of the other file").map(drop)
}
