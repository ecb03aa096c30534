//! Packages that are unpacked and not installed: installing them would bring a system's worth of others along, or take
//! some away. Unpacked they disturb nothing and need no root.

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context as _, Result, ensure};

use crate::{
    env::Env,
    process::{capture, find_program, say},
};

/// Debian's package of NetworkManager; installed it would bring udev along, and a systemd to match.
const NETWORK_MANAGER: &str = "network-manager";

/// Debian's package of emulators of single programs; installed it would register them with the kernel for all programs.
const QEMU_USER: &str = "qemu-user-static";

/// What runs a program of arm64 on another machine: the host's, or the one that is unpacked.
pub(crate) fn qemu_arm64(env: &Env) -> Result<PathBuf> {
    const PROGRAM: &str = "qemu-aarch64-static";
    if let Some(found) = find_program(PROGRAM) {
        return Ok(found);
    }
    let cache = env.tools.join(QEMU_USER);
    let root = cache.join("root");
    if !root.is_dir() {
        fetch(QEMU_USER, &cache, &root)?;
    }
    Ok(root.join("usr/bin").join(PROGRAM))
}

/// Debian's package of Prometheus; installed it would bring a server along that runs from then on.
const PROMETHEUS: &str = "prometheus";

/// Prometheus' own judge of metrics and rules: the host's, or the one that is unpacked.
pub(crate) fn promtool(env: &Env) -> Result<PathBuf> {
    const PROGRAM: &str = "promtool";
    if let Some(found) = find_program(PROGRAM) {
        return Ok(found);
    }
    let cache = env.tools.join(PROMETHEUS);
    let root = cache.join("root");
    if !root.is_dir() {
        super::package_lists_know(PROMETHEUS)?;
        // It is a Go program, which needs no libraries of other packages.
        unpack(&[PROMETHEUS.to_owned()], &cache, &root)?;
    }
    Ok(root.join("usr/bin").join(PROGRAM))
}

/// Debian's packages of the firewalls that other people's hubs have; installed they would begin to close this machine.
pub(crate) const FIREWALLS: [&str; 3] = ["ufw", "firewalld", "docker.io"];

/// Where the files of one of [`FIREWALLS`] are unpacked, to be laid over those of a machine of the laboratory.
pub(crate) fn firewall(env: &Env, package: &str) -> Result<PathBuf> {
    let cache = env.tools.join(package);
    let root = cache.join("root");
    if !root.is_dir() {
        fetch(package, &cache, &root)?;
    }
    Ok(root)
}

/// Where NetworkManager's files are: the host's own root, or the one that they are unpacked in.
pub(crate) fn network_manager(env: &Env) -> Result<PathBuf> {
    if find_program("NetworkManager").is_some() && find_program("nmcli").is_some() {
        return Ok(PathBuf::from("/"));
    }
    let cache = env.tools.join(NETWORK_MANAGER);
    let root = cache.join("root");
    if !root.is_dir() {
        fetch(NETWORK_MANAGER, &cache, &root)?;
    }
    Ok(root)
}

/// Downloads a package, also where it is installed, with all that it needs and this host lacks, and unpacks it as `root`; `cache` holds what is not
/// done yet.
pub(crate) fn fetch(package: &str, cache: &Path, root: &Path) -> Result<()> {
    super::package_lists_know(package)?;
    let mut simulate = Command::new("apt-get");
    simulate.args(["install", "--simulate", "--reinstall", "--no-install-recommends", package]);
    simulate.env("LC_ALL", "C");
    let packages = to_install(&capture(&mut simulate)?);
    ensure!(!packages.is_empty(), "apt would install nothing for {package}");
    unpack(&packages, cache, root)
}

/// Downloads packages and unpacks them as `root`.
fn unpack(packages: &[String], cache: &Path, root: &Path) -> Result<()> {
    say(format_args!("    downloading {}", packages.join(" ")));
    let partial = cache.join("partial");
    if partial.exists() {
        fs::remove_dir_all(&partial).with_context(|| format!("removing {}", partial.display()))?;
    }
    let archives = partial.join("archives");
    fs::create_dir_all(&archives).with_context(|| format!("making {}", archives.display()))?;
    capture(Command::new("apt-get").args(["download", "-qq"]).args(packages).current_dir(&archives))?;
    let unpacked = partial.join("root");
    for entry in fs::read_dir(&archives).with_context(|| format!("looking into {}", archives.display()))? {
        let archive = entry.with_context(|| format!("looking into {}", archives.display()))?.path();
        capture(Command::new("dpkg-deb").arg("--extract").args([&archive, &unpacked]))?;
    }
    fs::rename(&unpacked, root).with_context(|| format!("renaming {}", unpacked.display()))?;
    fs::remove_dir_all(&partial).with_context(|| format!("removing {}", partial.display()))
}

/// Names of the packages that `apt-get --simulate` would install.
fn to_install(text: &str) -> Vec<String> {
    let lines = text.lines().filter_map(|line| line.strip_prefix("Inst "));
    lines.filter_map(|line| line.split_whitespace().next()).map(str::to_owned).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_apt_would_install() {
        let text = "Remv qemu-utils [1:10]\nInst libfdt1 (1.6.1 Debian:12 [amd64])\n\
                    Inst qemu-system-x86 (1:7.2 Debian:12 [amd64])\nConf libfdt1 (1.6.1 Debian:12 [amd64])\n";
        assert_eq!(to_install(text), ["libfdt1", "qemu-system-x86"]);
    }
}
