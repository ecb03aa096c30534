//! A peer whose time is over, while the daemon runs.

use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use relay_tests::netns::wait_for;
use serde_json::Value;

use crate::{DEADLINE, hub, machine, status};

/// How far ahead its end lies, in seconds.
const AHEAD: u64 = 3;

#[test]
fn an_expired_peer_takes_no_part_until_it_gets_more_time() -> Result<()> {
    let machine = machine("expiry")?;
    let hub = hub(&machine)?;
    // Its time ends only once it was seen to take part.
    hub.run(&["peer", "add", "guest", "--expires", "1h", "--full-tunnel", "--lan", "192.168.60.0/24"])?;
    let listed = || -> Result<Value> {
        let list: Value = serde_json::from_str(&hub.run(&["peer", "list", "--json"])?)?;
        let peers = list.as_array().context("a list")?;
        Ok(peers.iter().find(|peer| peer["name"] == "guest").context("the guest")?.clone())
    };
    let key = listed()?["public_key"].as_str().context("a key")?.to_owned();
    let takes_part = || -> Result<bool> {
        let wireguard = machine.run("wg show wg0 peers")?.contains(&key);
        let route = !machine.run("ip route show 192.168.60.0/24")?.is_empty();
        let exit = machine.run("nft list table inet relay")?.contains("masquerade");
        let stats = hub.stats()?.peer("guest").is_ok();
        ensure!([route, exit, stats] == [wireguard; 3], "{wireguard} {route} {exit} {stats}");
        Ok(wireguard)
    };
    let file = || machine.run("cat /run/lab/relay.toml");
    wait_for("the guest to take part", DEADLINE, || {
        ensure!(takes_part()?, "it does not");
        Ok(())
    })?;
    let begun = Instant::now();
    hub.run(&["peer", "enable", "guest", "--expires", &format!("{AHEAD}s")])?;
    let before = file()?;
    let until = wait_for("the guest's time to be over", DEADLINE, || {
        ensure!(!takes_part()?, "it still takes part");
        Ok(begun.elapsed())
    })?;
    ensure!(until >= Duration::from_secs(AHEAD - 1), "over after {until:?} already");
    eprintln!("over {until:?} after it was given {AHEAD} s");

    ensure!(file()? == before, "the file is the user's");
    let shown = listed()?;
    ensure!(shown["expired"] == true && shown["enabled"] == true, "{shown}");
    let status = status(&hub)?;
    ensure!(status["peers_expired"] == serde_json::json!(["guest"]) && status["peers"] == 2, "{status}");
    ensure!(hub.run(&["status"])?.contains("expired: guest"), "{}", hub.run(&["status"])?);
    ensure!(hub.log().contains("peer \"guest\" has expired"), "{}", hub.log());
    let refused = hub.run(&["peer", "enable", "guest"]).expect_err("no time is left");
    ensure!(format!("{refused:#}").contains("it has expired at"), "{refused:#}");

    hub.run(&["peer", "enable", "guest", "--expires", "1h"])?;
    ensure!(takes_part()?, "more time was of no use");
    hub.run(&["peer", "disable", "guest"])?;
    ensure!(!takes_part()?, "it was disabled");
    hub.run(&["peer", "enable", "guest", "--expires", "never"])?;
    ensure!(takes_part()? && listed()?["expires"].is_null(), "{}", listed()?);
    Ok(())
}
