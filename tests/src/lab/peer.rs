//! A machine that runs a WireGuard that is not ours, with the configuration that relay printed for it.

use std::{
    env, fs,
    io::Write as _,
    os::unix::fs::OpenOptionsExt as _,
    path::PathBuf,
    process::{Command, Stdio},
    time::Duration,
};

use anyhow::{Context as _, Result};

use crate::netns::{Netns, checked, wait_for};

/// How long a userspace WireGuard may take to start; it takes 100 ms.
const DEADLINE: Duration = Duration::from_secs(20);

/// Gives a configuration to wg-quick as it stands; the interface gets the name. The kernel's WireGuard where it has
/// one, else wireguard-go.
pub fn wg_quick_up(machine: &Netns, name: &str, config: &str) -> Result<()> {
    let path = format!("/run/{name}.conf");
    save(machine, &path, config)?;
    let mut command = machine.command("wg-quick");
    command.args(["up", &path]).env("WG_QUICK_USERSPACE_IMPLEMENTATION", "wireguard-go");
    checked(&mut command).with_context(|| format!("wg-quick up {name}")).map(drop)
}

/// Takes it down again.
pub fn wg_quick_down(machine: &Netns, name: &str) -> Result<()> {
    machine.run(&format!("wg-quick down /run/{name}.conf"))?;
    machine.run(&format!("rm /run/{name}.conf")).map(drop)
}

/// A WireGuard in userspace.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Userspace {
    /// wireguard-go, as Debian has it.
    WireguardGo,
    /// gotatun-cli, which `cargo xtask setup` builds.
    Gotatun,
}

impl Userspace {
    /// A command that carries the interface in the foreground.
    fn command(self, machine: &Netns, name: &str) -> Result<Command> {
        let mut command = match self {
            Self::WireguardGo => machine.command("wireguard-go"),
            Self::Gotatun => {
                let mut command = machine.command(gotatun()?);
                command.arg("--disable-drop-privileges");
                command
            }
        };
        command.args(["--foreground", name]).stdin(Stdio::null()).stdout(Stdio::null());
        Ok(command)
    }
}

/// The gotatun of gotatun-cli to test against: `GOTATUN_BIN`, which `cargo xtask` sets, or the one it built for itself beside the
/// tests.
fn gotatun() -> Result<PathBuf> {
    if let Some(path) = env::var_os("GOTATUN_BIN") {
        return Ok(path.into());
    }
    let own = env::current_exe()?;
    let found = own.ancestors().map(|folder| folder.join("tools/bin/gotatun")).find(|path| path.is_file());
    found.context("no gotatun beside the tests: `cargo xtask setup` builds it")
}

/// Does with a configuration what wg-quick would do, by that WireGuard also where the kernel has one, which wg-quick
/// always prefers. Hooks are left out.
pub fn userspace_up(machine: &Netns, userspace: Userspace, name: &str, config: &str) -> Result<()> {
    let (whole, bare) = (format!("/run/{name}.conf"), format!("/run/{name}.wg"));
    save(machine, &whole, config)?;
    save(machine, &bare, &machine.run(&format!("wg-quick strip {whole}"))?)?;
    let mut command = userspace.command(machine, name)?;
    let daemon = machine.spawn(&mut command)?;
    wait_for(&format!("{command:?} to answer"), DEADLINE, || {
        anyhow::ensure!(machine.ended(daemon)?.is_none(), "it ended");
        machine.run(&format!("wg show {name}"))
    })?;
    machine.run(&format!("wg setconf {name} {bare}"))?;
    for address in values(config, "Address") {
        machine.run(&format!("ip address add {address} dev {name}"))?;
    }
    let mtu = values(config, "MTU").next().context("the configuration has no MTU")?;
    machine.run(&format!("ip link set {name} mtu {mtu} up"))?;
    for prefix in values(config, "AllowedIPs") {
        machine.run(&format!("ip route add {prefix} dev {name}"))?;
    }
    Ok(())
}

/// Makes a machine forget its session with the hub and begin another one with the next packet.
pub fn new_session(machine: &Netns, name: &str) -> Result<()> {
    let path = format!("/run/{name}.now");
    save(machine, &path, &machine.run(&format!("wg showconf {name}"))?)?;
    // That replaces the peer by one that is the same and has no session.
    machine.run(&format!("wg setconf {name} {path}"))?;
    machine.run(&format!("rm {path}")).map(drop)
}

/// Writes a secret into the machine's own /run.
fn save(machine: &Netns, path: &str, text: &str) -> Result<()> {
    machine.inside(|| {
        let mut file = fs::File::options().write(true).create_new(true).mode(0o600).open(path)?;
        file.write_all(text.as_bytes()).with_context(|| format!("writing {path}"))
    })
}

/// The tunnel addresses in a wg-quick configuration, without prefix lengths.
pub fn addresses(config: &str) -> Vec<std::net::IpAddr> {
    values(config, "Address").filter_map(|address| address.split('/').next()?.parse().ok()).collect()
}

/// Everything that a wg-quick configuration lists under that key.
fn values<'a>(config: &'a str, key: &'a str) -> impl Iterator<Item = &'a str> {
    config
        .lines()
        .filter_map(move |line| line.split_once('=').filter(|(found, _)| found.trim() == key))
        .flat_map(|(_, value)| value.split(','))
        .map(str::trim)
}
