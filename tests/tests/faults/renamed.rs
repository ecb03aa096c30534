//! The tunnel interface under another name, or in another network namespace: it comes back, or is told of, and the
//! fast path is where the tunnel is.

use anyhow::{Context as _, Result, ensure};
use relay_tests::{
    guest,
    lab::relay::{Relay, programs_on},
    netns::{Netns, wait_for},
};

use crate::{DEADLINE, hub, settled, star, status};

fn is_kernel(hub: &Relay<'_>) -> Result<bool> {
    Ok(status(hub)?["backend"] == "kernel")
}

fn index(machine: &Netns, name: &str) -> Result<u32> {
    Ok(machine.run(&format!("cat /sys/class/net/{name}/ifindex"))?.trim().parse()?)
}

/// Lines for `ip`, one after the other. A daemon, which looks once a second whatever happens, may come in between unless it
/// stands still.
fn batch(machine: &Netns, lines: &str) -> Result<()> {
    let script = format!("printf '{lines}' | ip -batch -");
    let output = machine.command("sh").args(["-c", &script]).output()?;
    ensure!(output.status.success(), "{lines:?}: {}", String::from_utf8_lossy(&output.stderr));
    Ok(())
}

/// Kernels before 6.2 rename only what is down.
fn rename(machine: &Netns, from: &str, to: &str) -> Result<()> {
    batch(machine, &format!("link set {from} down\\nlink set {from} name {to}\\nlink set {to} up\\n"))
}

#[test]
fn a_renamed_interface_gets_its_name_back() -> Result<()> {
    star::with_two(|star, hub| {
        let machine = &star.hub;
        let kernel = is_kernel(hub)?;
        let (before, port) = (index(machine, "wg0")?, machine.run("wg show wg0 listen-port")?);
        hub.while_halted(|| rename(machine, "wg0", "old0"))?;
        wait_for("wg0 to be back", DEADLINE, || {
            let now = index(machine, "wg0")?;
            // A userspace tunnel is made anew, since its process is the daemon; a kernel one keeps its sessions.
            ensure!((now == before) == kernel, "its index was {before} and is {now}");
            ensure!(machine.run("ip link show old0").is_err(), "old0 is still there");
            ensure!(machine.run("ip -4 address show wg0")?.contains("10.9.0.1/24"));
            ensure!(machine.run("ip route")?.contains("192.168.40.0/24 dev wg0"));
            ensure!(machine.run("wg show wg0 listen-port")? == port);
            Ok(())
        })?;
        let log = hub.log();
        let done = if kernel { "its name back, from old0" } else { "create the interface" };
        ensure!(log.matches(done).count() == if kernel { 1 } else { 2 }, "nothing was injected: {log}");
        settled(machine, hub)?;
        star::goes_fast(star, hub)
    })
}

#[test]
fn renamed_while_nobody_looked() -> Result<()> {
    let machine = Netns::new("asleep")?;
    let mut hub = hub(&machine)?;
    if !is_kernel(&hub)? {
        guest::skip("renamed while no daemon ran: a userspace tunnel ends with its daemon");
        return Ok(());
    }
    let before = index(&machine, "wg0")?;
    machine.kill(hub.daemon().context("the daemon was started")?)?;
    rename(&machine, "wg0", "old0")?;
    // Before its key can be asked for, it is an interface like any other that is in the tunnel's subnet.
    let daemon = hub.spawn(&["up"])?;
    let ended = wait_for("relay up to refuse it", DEADLINE, || machine.ended(daemon)?.context("it runs"))?;
    let log = hub.log();
    ensure!(ended.code() == Some(2) && log.contains("old0"), "{ended}: {log}");
    ensure!(machine.run("ip link show wg0").is_err() && index(&machine, "old0")? == before);
    rename(&machine, "old0", "wg0")?;
    hub.up()?;
    settled(&machine, &hub)?;
    ensure!(index(&machine, "wg0")? == before, "it was made anew");
    Ok(())
}

#[test]
fn a_stranger_under_its_name_is_left_alone() -> Result<()> {
    let machine = Netns::new("taken")?;
    let hub = hub(&machine)?;
    hub.while_halted(|| {
        batch(
            &machine,
            "link set wg0 down\\nlink set wg0 name old0\\nlink add wg0 type veth peer name far0\\n",
        )
    })?;
    wait_for("relay to say so", DEADLINE, || {
        let problems = status(&hub)?["problems"].to_string();
        ensure!(problems.contains("is not relay's"), "{problems}");
        Ok(())
    })?;
    ensure!(machine.run("ip -d link show wg0")?.contains("veth"), "the stranger was touched");
    ensure!(programs_on(&machine, "wg0")? == 0, "the fast path is on the stranger");
    machine.run("ip link delete wg0")?;
    settled(&machine, &hub)?;
    ensure!(machine.run("ip link show old0").is_err(), "old0 is still there");
    Ok(())
}

#[test]
fn moved_to_another_namespace() -> Result<()> {
    let machine = Netns::new("moved")?;
    let elsewhere = Netns::new("elsewhere")?;
    let hub = hub(&machine)?;
    let kernel = is_kernel(&hub)?;
    let before = index(&machine, "wg0")?;
    // A namespace is named by a process in it: the machine's own /run does not know the other's name.
    let holder = elsewhere.spawn(elsewhere.command("sleep").arg("600"))?;
    machine.run(&format!("ip link set wg0 netns {holder}"))?;
    settled(&machine, &hub)?;
    ensure!(index(&machine, "wg0")? != before, "it is not a new one");
    ensure!(machine.run("wg show wg0 listen-port")? == "51820\n");
    ensure!(machine.run("ip -4 address show wg0")?.contains("10.9.0.1/24"));
    if kernel {
        // The move has closed it. Its socket would be in the namespace in which it was made
        // (drivers/net/wireguard/socket.c), where the new one has the port.
        ensure!(programs_on(&elsewhere, "wg0")? == 0, "the fast path is still on what was moved away");
        ensure!(elsewhere.run("ip link set wg0 up").is_err(), "two listen on one port");
        elsewhere.run("ip link delete wg0")?;
    }
    ensure!(elsewhere.run("ip link show wg0").is_err(), "the old one is still there");
    hub.run(&["down"])?;
    crate::nothing_left(&machine)
}

#[test]
fn an_index_that_another_device_gets() -> Result<()> {
    let machine = Netns::new("index")?;
    let mut hub = hub(&machine)?;
    let index = index(&machine, "wg0")?;
    machine.kill(hub.daemon().context("the daemon was started")?)?;
    let _ = machine.run("ip link delete wg0");
    // The number that the pins, if any, were made for belongs to somebody else.
    machine.run(&format!("ip link add other index {index} type veth peer name far0"))?;
    hub.up()?;
    settled(&machine, &hub)?;
    ensure!(programs_on(&machine, "other")? == 0, "the fast path is on another device");
    Ok(())
}
