//! A machine that runs a WireGuard that is not ours, with the configuration that relay printed for it.

use std::{fs, io::Write as _, os::unix::fs::OpenOptionsExt as _};

use anyhow::{Context as _, Result};

use crate::netns::{Netns, checked};

/// Gives a configuration to wg-quick as it stands; the interface gets the name. The kernel's WireGuard where it has
/// one, else wireguard-go.
pub fn wg_quick_up(machine: &Netns, name: &str, config: &str) -> Result<()> {
    let path = format!("/run/{name}.conf");
    machine.inside(|| {
        let mut file = fs::File::options().write(true).create_new(true).mode(0o600).open(&path)?;
        file.write_all(config.as_bytes()).with_context(|| format!("writing {path}"))
    })?;
    let mut command = machine.command("wg-quick");
    command.args(["up", &path]).env("WG_QUICK_USERSPACE_IMPLEMENTATION", "wireguard-go");
    checked(&mut command).with_context(|| format!("wg-quick up {name}")).map(drop)
}

/// Takes it down again.
pub fn wg_quick_down(machine: &Netns, name: &str) -> Result<()> {
    machine.run(&format!("wg-quick down /run/{name}.conf"))?;
    machine.run(&format!("rm /run/{name}.conf")).map(drop)
}

/// The tunnel addresses in a wg-quick configuration, without prefix lengths.
pub fn addresses(config: &str) -> Vec<std::net::IpAddr> {
    config
        .lines()
        .filter_map(|line| line.split_once('=').filter(|(key, _)| key.trim() == "Address"))
        .flat_map(|(_, value)| value.split(','))
        .filter_map(|address| address.trim().split('/').next()?.parse().ok())
        .collect()
}
