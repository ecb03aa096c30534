//! firewalld with its stock zones, on a bus of its own.

use std::process::Stdio;

use anyhow::{Result, ensure};
use relay_tests::{lab::bus, netns::wait_for};

use super::{fast_path, lay_over, listen_port_is_open, manage, passes, passes_again, unpacked};
use crate::{
    DEADLINE, busy,
    star::{Star, with_two},
    status,
};

/// What keeps the fast path off whatever is opened: packets whose source has no way back by wg0, IPv6 only, go before
/// zones are asked.
const KEEPS_OFF: &str = "table inet firewalld, chain filter_PREROUTING: meta nfproto ipv6 fib saddr";

fn start(star: &Star) -> Result<()> {
    bus::start(&star.hub)?;
    let mut firewalld = star.hub.command("firewalld");
    star.hub.spawn(firewalld.args(["--nofork", "--nopid"]).stdout(Stdio::null()).stderr(Stdio::null()))?;
    wait_for("firewalld", DEADLINE, || star.hub.run("firewall-cmd --state"))?;
    for port in ["port0", "port1"] {
        star.hub.run(&format!("firewall-cmd --zone=public --add-interface={port}"))?;
        star.hub.run(&format!("firewall-cmd --permanent --zone=public --add-interface={port}"))?;
    }
    Ok(())
}

/// firewalld's own words.
fn zones(star: &Star) -> Result<String> {
    star.hub.run("firewall-cmd --list-all-zones")
}

#[test]
fn denies_until_relay_may_open_and_is_as_before_afterwards() -> Result<()> {
    let Some(root) = unpacked("RELAY_FIREWALLD") else { return Ok(()) };
    let _busy = busy();
    with_two(|star, hub| {
        lay_over(&star.hub, &root)?;
        start(star)?;
        let before = zones(star)?;
        fast_path(hub, false, KEEPS_OFF)?;
        let commands = wait_for("the commands that open", DEADLINE, || {
            let commands = status(hub)?["to_open"].to_string();
            ensure!(commands.contains("51820") && commands.contains("--add-interface=wg0"), "{commands}");
            Ok(commands)
        })?;
        ensure!(!passes(star)?, "a packet passed a firewall that rejects it: {commands}");
        listen_port_is_open(star, false, 40_001)?;
        ensure!(zones(star)? == before, "relay opened what it may not");

        manage(hub)?;
        passes_again(star)?;
        listen_port_is_open(star, true, 40_002)?;
        closed_to_the_fast_path(hub)?;

        // It forgets all that is not permanent.
        star.hub.run("firewall-cmd --reload")?;
        passes_again(star)?;
        listen_port_is_open(star, true, 40_003)?;

        hub.run(&["down"])?;
        let after = zones(star)?;
        ensure!(after == before, "not as before:\n{after}\n{before}");
        Ok(())
    })
}

/// Packets pass by the stack, and relay says why not faster.
fn closed_to_the_fast_path(hub: &relay_tests::lab::relay::Relay<'_>) -> Result<()> {
    fast_path(hub, false, KEEPS_OFF)?;
    ensure!(status(hub)?["to_open"] == serde_json::json!([]), "{}", status(hub)?);
    Ok(())
}
