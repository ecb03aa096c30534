//! relay as a service of systemd: its unit as systemd judges it, what it needs of root's rights, and what it tells.

mod booted;
mod notify;
mod rights;
mod unit_file;

use std::time::Duration;

use anyhow::Result;
use relay_tests::{
    lab::relay::{Relay, binary},
    netns::{Netns, checked},
};

/// Five times what the slowest of these waits took on a busy machine with two cores.
const DEADLINE: Duration = Duration::from_secs(30);

/// A hub with a home and a phone, not up yet.
fn configured(machine: &Netns) -> Result<Relay<'_>> {
    let hub = Relay::init(machine, &binary()?)?;
    hub.run(&["peer", "add", "home", "--lan", "192.168.40.0/24"])?;
    hub.run(&["peer", "add", "phone"])?;
    Ok(hub)
}

/// The unit that `relay install` would write.
fn unit() -> Result<String> {
    checked(std::process::Command::new(binary()?).args(["install", "--print"]))
}
