//! Settings of the host and of the file that are odd, and bear.

use std::process::Command;

use anyhow::{Context as _, Result, ensure};
use relay_common::Verdict;
use relay_tests::netns::{Netns, checked, wait_for};

use crate::{
    DEADLINE, configured, maps, settled,
    star::{keep_pinging, reach, with_two},
    status, wait_for_fast_path,
};

#[test]
fn forwarding_switched_off_stops_the_fast_path_too() -> Result<()> {
    with_two(|star, hub| {
        // Where relay may write it, it switches forwarding on again before anybody could see the fast path off; in a
        // container it may not.
        star.hub.run("mount --bind /proc/sys /proc/sys")?;
        star.hub.run("mount -o remount,bind,ro /proc/sys")?;
        let sysctl = |value: &str| {
            let net = format!("--net={}", star.hub.path().display());
            checked(Command::new("nsenter").args([
                &net,
                "sysctl",
                "-qw",
                &format!("net.ipv4.ip_forward={value}"),
            ]))
        };
        let maps = maps(&star.hub)?;
        let count = |verdict| -> Result<u64> { Ok(maps.counters()?.verdict(verdict)) };
        let pinging = keep_pinging(star.phone(), "10.9.0.2")?;
        sysctl("0")?;
        wait_for_fast_path(hub, false)?;
        let reason = status(hub)?["fast_path"]["reason"].to_string();
        ensure!(reason.contains("net.ipv4.ip_forward = 0"), "{reason}");
        let (off, redirected) = (count(Verdict::Off)?, count(Verdict::Redirected)?);
        wait_for("packets that are not redirected", DEADLINE, || {
            let now = count(Verdict::Off)?;
            ensure!(now >= off + 50, "{} packets", now - off);
            Ok(())
        })?;
        ensure!(
            count(Verdict::Redirected)? == redirected,
            "packets were redirected while forwarding was off"
        );
        star.phone().kill(pinging)?;
        sysctl("1")?;
        wait_for_fast_path(hub, true)?;
        reach(star.phone(), "10.9.0.2")
    })
}

#[test]
fn a_port_below_1024() -> Result<()> {
    let machine = Netns::new("low-port")?;
    let mut hub = configured(&machine)?;
    hub.edit("51820", "443")?;
    hub.up()?;
    settled(&machine, &hub)?;
    ensure!(machine.run("wg show wg0 listen-port")? == "443\n");
    Ok(())
}

#[test]
fn names_that_nobody_resolves() -> Result<()> {
    let machine = Netns::new("no-dns")?;
    // No resolver answers here, and none is reached.
    let mut hub = configured(&machine)?;
    hub.edit("endpoint = \"198.51.100.2:51820\"", "endpoint = \"vps.invalid:51820\"")?;
    hub.up().context("the hub's own name is for its peers, not for itself")?;
    settled(&machine, &hub)?;
    hub.run(&["down"])?;

    // A peer's endpoint is an address, so that a start never waits for a resolver.
    hub.insert_after("name = \"home\"\n", "endpoint = \"home.invalid:51820\"\n")?;
    let daemon = hub.spawn(&["up"])?;
    let ended = wait_for("relay up to refuse it", DEADLINE, || machine.ended(daemon)?.context("it runs"))?;
    let log = hub.log();
    ensure!(ended.code() == Some(2), "{ended}: {log}");
    ensure!(
        log.contains("relay.toml:") && log.contains("home.invalid") && log.contains("192.0.2.1:51820"),
        "{log}"
    );
    crate::nothing_left(&machine)
}
