//! The capabilities of the unit are what relay needs: with them it comes up whole, and with one less it does not.

use anyhow::{Context as _, Result, ensure};
use relay_tests::{
    guest,
    lab::relay::{Relay, binary},
    netns::{Netns, wait_for},
};
use serde_json::Value;

use crate::{DEADLINE, TCX, unit};

/// The unit's capabilities, as setpriv calls them.
fn capabilities() -> Result<Vec<String>> {
    let unit = unit()?;
    let line = unit.lines().find_map(|line| line.strip_prefix("CapabilityBoundingSet="));
    let names = line.context("the unit has no CapabilityBoundingSet=")?.split_whitespace();
    let plain = |name: &str| Some(name.strip_prefix("CAP_")?.to_lowercase());
    names.map(|name| plain(name).with_context(|| format!("{name} is no capability"))).collect()
}

/// A hub that needs all of them: its port is below 1024, and legacy iptables has rules.
fn demanding(machine: &Netns) -> Result<Relay<'_>> {
    let hub = Relay::init(machine, &binary()?)?;
    hub.edit("listen_port = 51820", "listen_port = 443")?;
    machine.run("iptables-legacy -A FORWARD -i eth7 -j ACCEPT")?;
    Ok(hub)
}

/// What relay says where it lacks one of them.
fn complaint(capability: &str) -> Result<[&'static str; 2]> {
    Ok(match capability {
        "net_admin" => ["error: ", "not permitted"],
        "bpf" => ["fast path off", "CAP_BPF"],
        "net_bind_service" => ["error: ", "443"],
        "net_raw" => ["error: ", "iptables-legacy-save"],
        other => anyhow::bail!("what is {other} for?"),
    })
}

#[test]
fn the_unit_gives_what_relay_needs_and_nothing_more() -> Result<()> {
    if guest::line().is_some() && guest::kernel_version() >= TCX {
        guest::skip(
            "here systemd itself starts relay with these rights; the host and an older kernel try each",
        );
        return Ok(());
    }
    let machine = Netns::new("rights")?;
    let hub = demanding(&machine)?;
    let all = capabilities()?;
    for one in &all {
        let others: Vec<String> = all.iter().filter(|name| *name != one).cloned().collect();
        let (words, before) = (complaint(one)?, hub.log().len());
        let daemon = hub.spawn_with_only(&others, &["up"])?;
        wait_for(&format!("relay to miss {one}"), DEADLINE, || {
            let log = hub.log();
            let said = log.get(before..).unwrap_or_default();
            ensure!(words.iter().all(|word| said.contains(word)), "it said: {said}");
            Ok(())
        })?;
        // One that gave up has left nothing behind.
        if one == "bpf" {
            machine.kill(daemon)?;
            hub.run(&["down"]).context("after a start without bpf")?;
        }
    }

    hub.spawn_with_only(&all, &["up"])?;
    wait_for("a hub with all that it needs", DEADLINE, || {
        let status: Value = serde_json::from_str(&hub.run(&["status", "--json"])?)?;
        ensure!(status["fast_path"]["state"] == "on", "{status}: {}", hub.log());
        ensure!(status["problems"] == serde_json::json!([]), "{status}");
        ensure!(status["listen_port"] == 443, "{status}");
        Ok(())
    })?;
    hub.run(&["down"]).map(drop)
}
