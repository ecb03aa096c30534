//! The daemon on a host of its own: what it makes, what it heals, what it refuses, and what it leaves behind.
//!
//! Every test has a machine (a network namespace with its own `/run`, `/sys` and BPF file system), drives `relay` by its
//! command line, and asks the kernel.

mod drift;
mod expiry;
mod firewall;
mod guard;
mod leaves_nothing;
mod refuses;
mod secrets;
mod two;
mod watch;
mod without;

use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use relay_tests::{
    lab::relay,
    netns::{Netns, wait_for},
};

/// Five times what the slowest of these waits took on a busy machine with two cores.
const DEADLINE: Duration = Duration::from_secs(20);

/// The address of the hub's machine on its uplink.
const UPLINK: &str = "198.51.100.2";

/// A machine with an uplink whose far end is nobody.
fn machine(role: &str) -> Result<Netns> {
    let machine = Netns::new(role)?;
    machine.run_all(&format!(
        "ip link add eth0 type veth peer name far
         ip link set far addrgenmode none
         ip link set eth0 addrgenmode none
         ip address add {UPLINK}/24 dev eth0
         ip link set far up
         ip link set eth0 up
         ip route add default via 198.51.100.1"
    ))?;
    // The kernel tells of a carrier up to a second after it is there.
    wait_for("the carrier", DEADLINE, || {
        for end in ["eth0", "far"] {
            ensure!(machine.run(&format!("ip link show dev {end}"))?.contains("state UP"), "{end}");
        }
        Ok(())
    })?;
    Ok(machine)
}

/// A hub with a home and a phone, up.
fn hub(machine: &Netns) -> Result<relay::Relay<'_>> {
    let mut hub = configured(machine)?;
    hub.up()?;
    Ok(hub)
}

/// A hub with a home and a phone, not up yet.
fn configured(machine: &Netns) -> Result<relay::Relay<'_>> {
    let hub = relay::Relay::init(machine, &relay::binary()?)?;
    hub.run(&["peer", "add", "home", "--lan", "192.168.40.0/24"])?;
    hub.run(&["peer", "add", "phone"])?;
    Ok(hub)
}

/// `relay status --json`.
fn status(hub: &relay::Relay<'_>) -> Result<serde_json::Value> {
    serde_json::from_str(&hub.run(&["status", "--json"])?).context("reading relay status --json")
}
