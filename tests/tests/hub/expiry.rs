//! A peer whose time is over, while the daemon runs.

use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use relay_tests::{guest, netns::wait_for};
use serde_json::Value;

use crate::{DEADLINE, hub, machine, status};

/// How far ahead its end lies, in seconds: time enough to see it take part.
fn ahead() -> u64 {
    if guest::line().is_some() { 25 } else { 6 }
}

#[test]
fn an_expired_peer_takes_no_part_until_it_gets_more_time() -> Result<()> {
    let machine = machine("expiry")?;
    let hub = hub(&machine)?;
    let begun = Instant::now();
    let ahead = ahead();
    let expires = format!("{ahead}s");
    hub.run(&["peer", "add", "guest", "--expires", &expires, "--full-tunnel", "--lan", "192.168.60.0/24"])?;
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
    let before = file()?;
    wait_for("the guest to take part", DEADLINE, || {
        ensure!(takes_part()?, "it does not, {:?} after it was added", begun.elapsed());
        Ok(())
    })?;
    let until = wait_for("the guest's time to be over", DEADLINE, || {
        ensure!(!takes_part()?, "it still takes part");
        Ok(begun.elapsed())
    })?;
    ensure!(until >= Duration::from_secs(ahead - 1), "over after {until:?} already");
    eprintln!("over {until:?} after it was added for {expires}");

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
