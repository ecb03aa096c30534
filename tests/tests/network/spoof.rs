//! A peer that sends under another's name. WireGuard knows which addresses are whose and drops the rest before anything
//! else sees it; the fast path is no way round.

use std::net::IpAddr;

use anyhow::{Context as _, Result, ensure};
use relay_tests::{
    guest,
    lab::{Relay, UDP_TIMEOUT, World, world::NAS6},
    netns::{Netns, wait_for},
};
use serde_json::json;

use crate::{DEADLINE, all_fast, connected, nas4, ping};

const PINGS: u32 = 10;
/// Bytes of an IPv4 ping with ping's 56 bytes of data: some WireGuards count their own headers, others do not.
const LEAST: u64 = 84;

/// An address for the phone to lie with, and a target of the same family.
fn lies(relay: &Relay<'_>) -> Result<Vec<(&'static str, IpAddr)>> {
    let stats = relay.stats()?;
    let home: Vec<IpAddr> = serde_json::from_value(stats.peer("home")?["addresses"].clone())?;
    let mut lies: Vec<(&str, IpAddr)> = home.into_iter().map(|address| ("the home's", address)).collect();
    lies.extend([
        ("the hub's own", "10.9.0.1".parse()?),
        ("one of the home's LAN", "192.168.40.77".parse()?),
        ("one of the home's LAN", "fd00:40::77".parse()?),
        ("nobody's", "10.9.0.200".parse()?),
        ("one on the internet", "192.0.2.99".parse()?),
    ]);
    Ok(lies)
}

/// Packets that WireGuard dropped for their source (`rx_frame_errors` of its device).
fn refused(vps: &Netns) -> Result<u64> {
    let text = vps.run("cat /sys/class/net/wg0/statistics/rx_frame_errors")?;
    text.trim().parse().context(text)
}

/// Bytes that the hub has received from the phone, by WireGuard's count; the kernel's leaves out what it refuses.
fn received(relay: &Relay<'_>) -> Result<u64> {
    relay.stats()?.peer("phone")?["received"]["bytes"].as_u64().context("no count of the phone's bytes")
}

/// Sends pings with a source that is not the phone's.
fn lie(world: &World, source: IpAddr, to: IpAddr) -> Result<()> {
    let (length, flags) = if source.is_ipv4() { (32, "") } else { (128, "nodad") };
    world.phone.run(&format!("ip addr add {source}/{length} dev phone {flags}"))?;
    // It fails, since nobody answers; what came of it is in the counters.
    let _ = world.phone.run(&format!("ping -n -q -c {PINGS} -i 0.02 -W 1 -I {source} {to}"));
    world.phone.run(&format!("ip addr del {source}/{length} dev phone")).map(drop)
}

#[test]
fn a_peer_that_sends_under_anothers_name() -> Result<()> {
    connected(UDP_TIMEOUT, |world, relay| {
        let kernel = relay.stats()?.0["backend"] == "kernel";
        let nas6: IpAddr = NAS6.parse()?;
        let (lies, mut all_refused) = (lies(relay)?, 0);
        for &(whose, source) in &lies {
            let to = if source.is_ipv4() { nas4() } else { nas6 };
            let (before, bytes, errors) = (relay.stats()?, received(relay)?, refused(&world.vps)?);
            lie(world, source, to)?;
            // What shows that the lies were told, and heard: WireGuard may still be at the last of them.
            let all = u64::from(PINGS);
            let errors = wait_for("the lies to be heard", DEADLINE, || {
                let (bytes, errors) = (received(relay)? - bytes, refused(&world.vps)? - errors);
                let heard = if kernel { errors >= all } else { bytes >= all * LEAST };
                ensure!(heard, "{source}, {whose}: {bytes} bytes reached the hub, {errors} packets refused");
                Ok(errors)
            })?;
            ensure!(!kernel || errors == all, "{source}, {whose}: WireGuard refused {errors} of {PINGS}");
            let (redirected, seen) = relay.stats()?.since(&before)?;
            ensure!(
                redirected == 0 && seen == 0,
                "{source}, {whose}: the fast path saw {seen} of {PINGS} packets and redirected {redirected}"
            );
            all_refused += errors;
        }
        if !kernel {
            guest::skip("how many packets WireGuard refused: userspace WireGuard counts none of them");
        }
        // Under its own name it gets through.
        let before = relay.stats()?;
        ping::none_lost(world, PINGS).context("honest pings")?;
        all_fast(relay, &before)?;
        guest::fact(&json!({
            "network": "inner sources that are others'", "lies": lies.len() * PINGS as usize, "refused": all_refused,
        }));
        Ok(())
    })
}
