//! `relay down` leaves the host as it was, whatever happened in between.

use anyhow::{Context as _, Result, ensure};
use relay_tests::{
    lab::relay::programs_on,
    netns::{Netns, wait_for},
};

use crate::{DEADLINE, configured, hub, machine, status};

/// Everything of the host that relay changes.
fn traces(machine: &Netns) -> Result<String> {
    let mut all = String::new();
    for question in [
        "ip -d link",
        "ip address",
        "ip route show table all",
        "ip -6 route show table all",
        "ip rule",
        "nft list ruleset",
        "sysctl net.ipv4.ip_forward net.ipv6.conf.all.forwarding net.ipv6.conf.eth0.accept_ra",
        "find /sys/fs/bpf -mindepth 1 -not -name *.debug",
        "find /run/relay /run/wireguard /var/run/wireguard -type s",
    ] {
        let answer = machine.run(question).unwrap_or_default();
        all.push_str(&format!("# {question}\n{answer}\n"));
    }
    Ok(all)
}

fn same(before: &str, after: &str) -> Result<()> {
    ensure!(before == after, "before:\n{before}\nafter:\n{after}");
    Ok(())
}

#[test]
fn down_by_command() -> Result<()> {
    let machine = machine("down")?;
    let mut hub = configured(&machine)?;
    let before = traces(&machine)?;
    hub.up()?;
    ensure!(traces(&machine)? != before, "relay up changed nothing");
    hub.run(&["down"])?;
    let daemon = hub.daemon().context("the daemon was started")?;
    let ended = wait_for("the daemon to end", DEADLINE, || machine.ended(daemon)?.context("it runs"))?;
    ensure!(ended.success(), "{ended}: {}", hub.log());
    same(&before, &traces(&machine)?)?;
    hub.run(&["down"]).context("down where nothing is up is no failure").map(drop)
}

#[test]
fn down_on_exit() -> Result<()> {
    let machine = machine("exit")?;
    let hub = configured(&machine)?;
    let before = traces(&machine)?;
    let daemon = hub.spawn(&["up", "--down-on-exit"])?;
    wait_for("relay up to answer", DEADLINE, || hub.run(&["status"]))?;
    machine.interrupt(daemon)?;
    let ended = wait_for("the daemon to end", DEADLINE, || machine.ended(daemon)?.context("it runs"))?;
    ensure!(ended.success(), "{ended}: {}", hub.log());
    same(&before, &traces(&machine)?)
}

#[test]
fn down_after_kill_9() -> Result<()> {
    let machine = machine("kill9")?;
    let mut hub = configured(&machine)?;
    let before = traces(&machine)?;
    hub.up()?;
    let kernel = status(&hub)?["backend"] == "kernel";
    machine.kill(hub.daemon().context("the daemon was started")?)?;
    let config = hub.edit("[interface]", "[interface")?;
    if !kernel {
        // The tunnel went with its daemon, and the file that named it is broken.
        ensure!(hub.run(&["down"]).is_err(), "it took down what it cannot know");
        hub.write(&config)?;
    }
    hub.run(&["down"])?;
    same(&before, &traces(&machine)?)
}

#[test]
fn up_after_kill_9() -> Result<()> {
    let machine = machine("again")?;
    let mut hub = hub(&machine)?;
    for _ in 0..3 {
        machine.kill(hub.daemon().context("the daemon was started")?)?;
        hub.up()?;
        let stats = hub.stats()?;
        ensure!(stats.fast_path_is_on(), "{}", stats.0["fast_path"]);
        // One program on the hook, whatever a killed daemon left.
        let programs = programs_on(&machine, "wg0")?;
        ensure!(programs == 1, "{programs} programs are on the hook");
    }
    hub.run(&["down"]).map(drop)
}
