//! A peer whose time is over, while the daemon runs.

use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use relay_tests::netns::wait_for;
use serde_json::Value;

use crate::{DEADLINE, hub, machine, status};

/// How far ahead its end lies. Adding it takes well under a second.
const AHEAD: &str = "4s";

#[test]
fn an_expired_peer_takes_no_part_until_it_gets_more_time() -> Result<()> {
    let machine = machine("expiry")?;
    let hub = hub(&machine)?;
    let begun = Instant::now();
    hub.run(&["peer", "add", "guest", "--expires", AHEAD, "--full-tunnel", "--lan", "192.168.60.0/24"])?;
    let guest = || -> Result<Value> {
        let list: Value = serde_json::from_str(&hub.run(&["peer", "list", "--json"])?)?;
        let peers = list.as_array().context("a list")?;
        Ok(peers.iter().find(|peer| peer["name"] == "guest").context("the guest")?.clone())
    };
    let key = guest()?["public_key"].as_str().context("a key")?.to_owned();
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
    ensure!(takes_part()? || guest()?["expired"] == true, "it never took part");
    let until = wait_for("the guest's time to be over", DEADLINE, || {
        ensure!(!takes_part()?, "it still takes part");
        Ok(begun.elapsed())
    })?;
    ensure!(until >= Duration::from_secs(3), "over after {until:?} already");
    eprintln!("over {until:?} after it was added for {AHEAD}");

    ensure!(file()? == before, "the file is the user's");
    let shown = guest()?;
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
    ensure!(takes_part()? && guest()?["expires"].is_null(), "{}", guest()?);
    Ok(())
}
