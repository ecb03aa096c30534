//! The admin's firewall is honoured within seconds, and quoted.

use anyhow::{Result, ensure};
use relay_tests::{
    lab::relay::{Relay, programs_on},
    netns::wait_for,
};

use crate::{DEADLINE, hub, machine, status};

fn wait_for_fast_path(hub: &Relay<'_>, on: bool, reason: &str) -> Result<()> {
    wait_for(&format!("the fast path to be {}", if on { "on" } else { "off" }), DEADLINE, || {
        let fast_path = &status(hub)?["fast_path"];
        ensure!(fast_path["state"] == if on { "on" } else { "off" }, "{fast_path}");
        ensure!(fast_path["reason"].as_str().is_some_and(|said| said.contains(reason)), "{fast_path}");
        Ok(())
    })
}

#[test]
fn a_drop_policy_that_appears_and_goes() -> Result<()> {
    let machine = machine("policy")?;
    let hub = hub(&machine)?;
    wait_for_fast_path(&hub, true, "")?;
    machine.nft(
        "add table ip admin\nadd chain ip admin steer { type filter hook forward priority 0; policy drop; }",
    )?;
    wait_for_fast_path(&hub, false, "policy drop")?;
    machine.nft("add rule ip admin steer iifname \"wg0\" oifname \"wg0\" accept")?;
    wait_for_fast_path(&hub, true, "")?;
    machine.nft("delete table ip admin")?;
    machine.nft("add table inet m\nadd chain inet m pre { type filter hook prerouting priority -150; }\nadd rule inet m pre iifname \"wg0\" meta mark set 7")?;
    wait_for_fast_path(&hub, false, "mark")?;
    machine.nft("delete table inet m")?;
    wait_for_fast_path(&hub, true, "")?;
    machine.run("ip rule add iif wg0 lookup 77")?;
    wait_for_fast_path(&hub, false, "ip rule")?;
    machine.run("ip rule del iif wg0 lookup 77")?;
    wait_for_fast_path(&hub, true, "")
}

#[test]
fn always_is_the_admins_word_and_off_is_off() -> Result<()> {
    let machine = machine("word")?;
    let hub = hub(&machine)?;
    machine.nft(
        "add table ip admin\nadd chain ip admin steer { type filter hook forward priority 0; policy drop; }",
    )?;
    wait_for_fast_path(&hub, false, "policy drop")?;
    hub.insert_after("[interface]\n", "fast_path = \"always\"\n")?;
    hub.run(&["reload"])?;
    wait_for_fast_path(&hub, true, "policy drop")?;
    hub.edit("\"always\"", "\"off\"")?;
    hub.run(&["reload"])?;
    wait_for_fast_path(&hub, false, "fast_path = \"off\"")?;
    ensure!(programs_on(&machine, "wg0")? == 0, "the program is still there");
    ensure!(machine.run("find /sys/fs/bpf -name wg0")?.is_empty(), "pins are still there");
    hub.edit("\"off\"", "\"auto\"")?;
    machine.nft("delete table ip admin")?;
    hub.run(&["reload"])?;
    wait_for_fast_path(&hub, true, "")
}

#[test]
fn what_is_closed_is_opened_when_relay_may_and_printed_when_not() -> Result<()> {
    let machine = machine("opening")?;
    let hub = hub(&machine)?;
    let rules = "add table inet filter\nadd chain inet filter input { type filter hook input priority 0; policy drop; }\nadd chain inet filter forward { type filter hook forward priority 0; policy drop; }";
    machine.nft(rules)?;
    let closed = machine.run("nft -s list ruleset")?;
    wait_for("status to print what opens it", DEADLINE, || {
        let to_open = status(&hub)?["to_open"].to_string();
        ensure!(to_open.contains("51820") && to_open.contains("wg0"), "{to_open}");
        Ok(())
    })?;
    ensure!(machine.run("nft -s list ruleset")? == closed, "relay opened what it may not");
    hub.edit("manage = false", "manage = true")?;
    hub.run(&["reload"])?;
    wait_for_fast_path(&hub, true, "")?;
    ensure!(status(&hub)?["to_open"] == serde_json::json!([]), "{}", status(&hub)?);
    let opened = machine.run("nft list table inet filter")?;
    ensure!(opened.matches("comment \"relay wg0\"").count() == 2, "{opened}");
    hub.run(&["reload"])?;
    ensure!(machine.run("nft list table inet filter")? == opened, "opened twice");
    hub.run(&["down"])?;
    let after = machine.run("nft -s list ruleset")?;
    ensure!(!after.contains("relay") && after.contains("policy drop"), "{after}");
    Ok(())
}
