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

/// As an admin does it: kernels before 6.2 rename only what is down.
fn rename(machine: &Netns, from: &str, to: &str) -> Result<()> {
    if machine.run(&format!("ip link set {from} name {to}")).is_err() {
        machine.run_all(&format!(
            "ip link set {from} down\nip link set {from} name {to}\nip link set {to} up"
        ))?;
    }
    Ok(())
}

#[test]
fn a_renamed_interface_gets_its_name_back() -> Result<()> {
    star::with_two(|star, hub| {
        let machine = &star.hub;
        let kernel = is_kernel(hub)?;
        let (before, port) = (index(machine, "wg0")?, machine.run("wg show wg0 listen-port")?);
        rename(machine, "wg0", "old0")?;
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
    hub.up()?;
    settled(&machine, &hub)?;
    ensure!(index(&machine, "wg0")? == before && machine.run("ip link show old0").is_err());
    Ok(())
}

#[test]
fn a_stranger_under_its_name_is_left_alone() -> Result<()> {
    let machine = Netns::new("taken")?;
    let hub = hub(&machine)?;
    rename(&machine, "wg0", "old0")?;
    // Whoever comes first: relay may have given the name back already, and then this fails and proves nothing.
    if machine.run("ip link add wg0 type veth peer name far0").is_err() {
        rename(&machine, "wg0", "old0")?;
        machine.run("ip link add wg0 type veth peer name far0").context("relay was faster twice")?;
    }
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
    if kernel {
        // It keeps its socket in the namespace in which it was made (drivers/net/wireguard/socket.c), so the port is
        // taken until somebody deletes it there.
        wait_for("relay to say what holds the port", DEADLINE, || {
            let problems = status(&hub)?["problems"].to_string();
            ensure!(problems.contains("moved to another network namespace"), "{problems}");
            Ok(())
        })?;
        ensure!(programs_on(&elsewhere, "wg0")? == 0, "the fast path is still on what was moved away");
        elsewhere.run("ip link delete wg0")?;
    }
    settled(&machine, &hub)?;
    ensure!(elsewhere.run("ip link show wg0").is_err(), "the old one is still there");
    ensure!(index(&machine, "wg0")? != before, "it is not a new one");
    ensure!(machine.run("wg show wg0 listen-port")? == "51820\n");
    ensure!(machine.run("ip -4 address show wg0")?.contains("10.9.0.1/24"));
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
