//! A host that lacks something: the hub works by the kernel's own path, and says what is missing.

use anyhow::{Result, ensure};
use relay_tests::netns::wait_for;

use crate::{DEADLINE, configured, machine, status};

#[test]
fn without_the_right_to_load_programs() -> Result<()> {
    let machine = machine("no-bpf")?;
    let hub = configured(&machine)?;
    hub.spawn_without(&["sys_admin", "bpf", "perfmon"], &["up"])?;
    wait_for("a hub whose kernel forwards", DEADLINE, || {
        let status = status(&hub)?;
        ensure!(status["fast_path"]["state"] == "off", "{status}");
        let reason = status["fast_path"]["reason"].to_string();
        ensure!(reason.contains("CAP_BPF") && reason.contains("the kernel forwards"), "{reason}");
        Ok(())
    })?;
    ensure!(machine.run("sysctl -n net.ipv4.ip_forward")?.trim() == "1");
    ensure!(machine.run("ip route")?.contains("192.168.40.0/24 dev wg0"));
    Ok(())
}

#[test]
fn without_a_bpf_file_system_one_is_mounted_or_the_lack_is_told() -> Result<()> {
    let machine = machine("no-bpffs")?;
    machine.run("umount /sys/fs/bpf")?;
    let mut hub = configured(&machine)?;
    hub.up()?;
    let status = status(&hub)?;
    let mounted = machine.run("findmnt -n /sys/fs/bpf").is_ok();
    let on = status["fast_path"]["state"] == "on";
    ensure!(on == mounted, "{status}");
    ensure!(on || status["fast_path"]["reason"].to_string().contains("mount -t bpf"), "{status}");
    Ok(())
}

#[test]
fn without_ipv6() -> Result<()> {
    let machine = machine("no-ipv6")?;
    machine.run("sysctl -qw net.ipv6.conf.all.disable_ipv6=1 net.ipv6.conf.default.disable_ipv6=1")?;
    let mut hub = configured(&machine)?;
    hub.up()?;
    ensure!(machine.run("ip -4 address show wg0")?.contains("10.9.0.1/24"));
    Ok(())
}
