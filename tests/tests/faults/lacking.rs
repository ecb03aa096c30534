//! A kernel that lacks something, or takes it away while the hub runs.

use std::{fs, path::Path, process::Command};

use anyhow::{Context as _, Result, ensure};
use relay_tests::{
    guest,
    netns::{Netns, checked, wait_for},
};
use relay_user::kernel::wireguard::kernel_available;

use crate::{
    DEADLINE, configured, hub, nothing_left, settled,
    star::{self, with_two},
    status,
};

#[test]
fn a_bpf_file_system_that_is_unmounted() -> Result<()> {
    with_two(|star, hub| {
        let machine = &star.hub;
        // It is busy while a look has the pins' folder open.
        wait_for("the BPF file system to go", DEADLINE, || machine.run("umount /sys/fs/bpf"))?;
        wait_for("the pins to be back", DEADLINE, || {
            ensure!(machine.run("findmnt -n -t bpf /sys/fs/bpf").is_ok(), "nothing is mounted");
            machine.run("ls /sys/fs/bpf/relay/wg0").map(drop)
        })?;
        settled(machine, hub)?;
        star::goes_fast(star, hub)?;
        // Taken over, not beside: the next daemon finds what this one pinned.
        machine.kill(hub.daemon().context("the daemon was started")?)?;
        hub.up()?;
        settled(machine, hub)
    })
}

#[test]
fn a_kernel_without_btf() -> Result<()> {
    let machine = Netns::new("no-btf")?;
    ensure!(Path::new("/sys/kernel/btf/vmlinux").exists(), "this kernel has no BTF to hide");
    machine.run("mount -t tmpfs tmpfs /sys/kernel/btf")?;
    ensure!(machine.run("cat /sys/kernel/btf/vmlinux").is_err(), "BTF is not hidden");
    let hub = hub(&machine)?;
    // The program reads no structure of the kernel's, so it needs none.
    settled(&machine, &hub)
}

/// A sysctl of the whole machine, put back when dropped.
struct Sysctl {
    path: String,
    before: String,
}

impl Sysctl {
    fn set(name: &str, value: &str) -> Result<Self> {
        let path = format!("/proc/sys/{name}");
        let before = fs::read_to_string(&path).with_context(|| format!("reading {path}"))?;
        fs::write(&path, value).with_context(|| format!("writing {value} to {path}"))?;
        Ok(Self { path, before })
    }
}

impl Drop for Sysctl {
    fn drop(&mut self) {
        if let Err(error) = fs::write(&self.path, &self.before) {
            eprintln!("{} stays changed: {error}", self.path);
        }
    }
}

#[test]
fn no_room_for_compiled_programs() -> Result<()> {
    if guest::line().is_none() {
        guest::skip("net.core.bpf_jit_limit is one for the whole host, and others use it");
        return Ok(());
    }
    let machine = Netns::new("jit")?;
    let _limit = Sysctl::set("net/core/bpf_jit_limit", "1")?;
    let hub = hub(&machine)?;
    // The limit is for those without CAP_BPF (kernel/bpf/core.c, bpf_jit_charge_modmem); a daemon that has it goes on.
    settled(&machine, &hub)?;
    hub.run(&["down"])?;
    nothing_left(&machine)
}

/// No kernel WireGuard, and none to be loaded, until dropped.
struct NoWireGuard {
    forbidden: bool,
}

const FORBIDDEN: &str = "/etc/modprobe.d/relay-test.conf";

impl NoWireGuard {
    fn here() -> Result<Option<Self>> {
        if kernel_available().is_err() {
            return Ok(Some(Self { forbidden: false }));
        }
        if guest::line().is_none() {
            guest::skip("a kernel without WireGuard: this host's is not ours to unload");
            return Ok(None);
        }
        fs::create_dir_all("/etc/modprobe.d")?;
        fs::write(FORBIDDEN, "install wireguard /bin/false\n").context("forbidding WireGuard")?;
        let none = Self { forbidden: true };
        // The interfaces of an earlier test may be going still.
        wait_for("WireGuard to be unloaded", DEADLINE, || {
            checked(Command::new("modprobe").args(["-r", "wireguard"])).map(drop)
        })?;
        ensure!(kernel_available().is_err(), "the kernel still has WireGuard");
        Ok(Some(none))
    }
}

impl Drop for NoWireGuard {
    fn drop(&mut self) {
        if self.forbidden {
            let _ = fs::remove_file(FORBIDDEN);
            let back = checked(Command::new("modprobe").arg("wireguard"));
            if let Err(error) = back {
                eprintln!("WireGuard does not come back: {error:#}");
            }
        }
    }
}

#[test]
fn a_kernel_without_wireguard() -> Result<()> {
    let Some(lack) = NoWireGuard::here()? else { return Ok(()) };
    let machine = Netns::new("no-wireguard")?;
    let mut hub = configured(&machine)?;
    hub.insert_after("[interface]\n", "backend = \"kernel\"\n")?;
    let daemon = hub.spawn(&["up"])?;
    let ended = wait_for("relay up to give up", DEADLINE, || machine.ended(daemon)?.context("it runs"))?;
    let log = hub.log();
    ensure!(ended.code() == Some(1), "{ended}: {log}");
    ensure!(log.matches("error:").count() == 1 && log.contains("backend = \"auto\""), "{log}");
    nothing_left(&machine)?;

    hub.edit("backend = \"kernel\"", "backend = \"auto\"")?;
    hub.up()?;
    let said = status(&hub)?;
    ensure!(said["backend"] == "userspace", "{said}");
    ensure!(said["backend_reason"].as_str().is_some_and(|why| why.contains("WireGuard")), "{said}");
    settled(&machine, &hub)?;
    hub.run(&["down"])?;
    nothing_left(&machine)?;

    let forbidden = lack.forbidden;
    drop(lack);
    ensure!(!forbidden || kernel_available().is_ok(), "WireGuard did not come back");
    Ok(())
}
