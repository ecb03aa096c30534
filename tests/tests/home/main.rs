//! A home server that runs relay itself, in the laboratory's world: how it joins, what it makes, heals, follows and
//! leaves behind.

mod joins;
mod moves;

use std::time::Duration;

use anyhow::{Result, ensure};
use relay_tests::{
    lab::{Relay, web},
    netns::{Netns, wait_for},
};

/// For what is over in 2 s; a lost initiation is repeated after 5 s.
const DEADLINE: Duration = Duration::from_secs(40);
/// How long one fetch may take before it is tried again; it takes 10 ms.
const PATIENCE: Duration = Duration::from_secs(5);

/// Waits until a server sees a visitor by that address.
fn sees(visitor: &Netns, server: &str, expected: &str) -> Result<()> {
    wait_for(&format!("{server} to see {expected}"), DEADLINE, || {
        let seen = web::who(visitor, server, PATIENCE)?;
        ensure!(seen == expected, "it sees {seen}");
        Ok(())
    })
}

/// `relay status --json`.
fn status(relay: &Relay<'_>) -> Result<serde_json::Value> {
    Ok(serde_json::from_str(&relay.run(&["status", "--json"])?)?)
}
