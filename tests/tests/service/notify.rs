//! What the service manager hears of a daemon's life.

use std::{
    os::unix::net::UnixDatagram,
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, ensure};
use relay_tests::{
    guest::{self, patience},
    lab::relay::{Relay, binary},
    netns::Netns,
};

use crate::DEADLINE;

const SOCKET: &str = "/run/notify";

/// The next message that holds all of these words; those before it are what came meanwhile.
fn hear(manager: &UnixDatagram, words: &[&str]) -> Result<String> {
    let begun = Instant::now();
    let mut heard = Vec::new();
    let mut buffer = [0; 4096];
    while begun.elapsed() < patience(DEADLINE) {
        let Ok(length) = manager.recv(&mut buffer) else { continue };
        let message = String::from_utf8_lossy(&buffer[..length]).into_owned();
        if words.iter().all(|word| message.contains(word)) {
            return Ok(message);
        }
        heard.push(message);
    }
    anyhow::bail!("nobody said {words:?}; heard: {heard:?}")
}

#[test]
fn a_life_is_told() -> Result<()> {
    if guest::line().is_some() {
        guest::skip("what relay says to a socket is the same on every kernel");
        return Ok(());
    }
    let machine = Netns::new("notify")?;
    let hub = Relay::init(&machine, &binary()?)?;
    hub.run(&["peer", "add", "phone"])?;
    let manager = machine.inside(|| UnixDatagram::bind(SOCKET).context("binding the manager's socket"))?;
    manager.set_read_timeout(Some(Duration::from_millis(200)))?;
    let daemon = hub.spawn_under(&["env", &format!("NOTIFY_SOCKET={SOCKET}")], &["up"])?;
    let ready = hear(&manager, &["READY=1"])?;
    ensure!(ready.contains("STATUS=wg0: 0 of 1 peers connected, fast path on"), "{ready}");
    // Who is told ready may ask at once.
    hub.run(&["status"])?;
    hear(&manager, &["WATCHDOG=1", "STATUS="])?;

    hub.run(&["reload"])?;
    hear(&manager, &["RELOADING=1", "MONOTONIC_USEC="])?;
    hear(&manager, &["READY=1"])?;
    // A refused file is a reload that is over, too.
    let before = hub.edit("[interface]", "[interfaze]")?;
    ensure!(hub.run(&["reload"]).is_err(), "relay took a bad file");
    hear(&manager, &["RELOADING=1"])?;
    hear(&manager, &["READY=1"])?;
    hub.write(&before)?;

    machine.interrupt(daemon)?;
    let stopping = hear(&manager, &["STOPPING=1"])?;
    ensure!(stopping.contains("relay down"), "{stopping}");
    ensure!(hub.log().contains("`relay down`"), "{}", hub.log());
    Ok(())
}
