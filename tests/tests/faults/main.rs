//! Faults of the host: what else may happen to the machine that a hub runs on, each as an injection and what must hold.
//!
//! `docs/faults.md` lists them all. Every test has machines (network namespaces) of its own, and drives `relay` by its
//! command line.

mod firewall;
mod full;
mod lacking;
mod limits;
mod log;
mod maps;
mod readers;
mod renamed;
mod saving;
mod scale;
mod settings;
mod star;
mod stock;
mod truncated;
mod verifier;

use std::{
    sync::{PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard},
    time::Duration,
};

use anyhow::{Context as _, Result, ensure};
use relay_tests::{
    lab::relay::{self, Relay, programs_on},
    netns::{Netns, wait_for},
};
use relay_user::kernel::datapath::{PinnedMaps, Pins};
use serde_json::Value;

/// Five times what the slowest of these waits took on a busy machine with two cores.
const DEADLINE: Duration = Duration::from_secs(30);

/// What keeps processors busy, and what measures in seconds, do not run at once.
static PROCESSORS: RwLock<()> = RwLock::new(());

/// For a test that keeps processors busy.
fn busy() -> RwLockReadGuard<'static, ()> {
    PROCESSORS.read().unwrap_or_else(PoisonError::into_inner)
}

/// For a test that measures.
fn quiet() -> RwLockWriteGuard<'static, ()> {
    PROCESSORS.write().unwrap_or_else(PoisonError::into_inner)
}

/// A hub with a home and a phone, not up yet.
fn configured(machine: &Netns) -> Result<Relay<'_>> {
    let hub = Relay::init(machine, &relay::binary()?)?;
    hub.run(&["peer", "add", "home", "--lan", "192.168.40.0/24"])?;
    hub.run(&["peer", "add", "phone"])?;
    Ok(hub)
}

/// A hub with a home and a phone, up.
fn hub(machine: &Netns) -> Result<Relay<'_>> {
    let mut hub = configured(machine)?;
    hub.up()?;
    Ok(hub)
}

/// `relay status --json`.
fn status(hub: &Relay<'_>) -> Result<Value> {
    serde_json::from_str(&hub.run(&["status", "--json"])?).context("reading relay status --json")
}

fn wait_for_fast_path(hub: &Relay<'_>, on: bool) -> Result<()> {
    wait_for(&format!("the fast path to be {}", if on { "on" } else { "off" }), DEADLINE, || {
        let status = status(hub)?;
        ensure!(status["fast_path"]["state"] == if on { "on" } else { "off" }, "{status}");
        Ok(())
    })
}

/// The maps of `wg0` on that machine.
fn maps(machine: &Netns) -> Result<PinnedMaps> {
    machine.inside(|| Ok(PinnedMaps::open(&Pins::new("wg0".parse()?))?))
}

/// The fast path is on, on `wg0`, with one program, whose maps are those that are pinned.
fn settled(machine: &Netns, hub: &Relay<'_>) -> Result<()> {
    wait_for("one program on wg0, on and pinned", DEADLINE, || {
        let status = status(hub)?;
        ensure!(status["fast_path"]["state"] == "on", "{status}");
        ensure!(status["problems"] == serde_json::json!([]), "{status}");
        ensure!(maps(machine)?.read()?.enabled, "the pinned maps are those of nobody");
        let programs = programs_on(machine, "wg0")?;
        ensure!(programs == 1, "{programs} programs on wg0");
        Ok(())
    })
}

/// Everything of the host that relay makes is gone.
fn nothing_left(machine: &Netns) -> Result<()> {
    ensure!(machine.run("ip link show wg0").is_err(), "wg0 was left behind");
    let ruleset = machine.run("nft list ruleset")?;
    ensure!(!ruleset.contains("relay"), "left behind: {ruleset}");
    let pins = machine.run("find /sys/fs/bpf -mindepth 1 -path *relay*")?;
    ensure!(pins.is_empty(), "left behind: {pins}");
    let forwarding = machine.run("sysctl -n net.ipv4.ip_forward net.ipv6.conf.all.forwarding")?;
    ensure!(forwarding == "0\n0\n", "forwarding was left on: {forwarding:?}");
    Ok(())
}
