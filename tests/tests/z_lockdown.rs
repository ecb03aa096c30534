//! A kernel in lockdown. There is no way back before the next boot, so it is tried in guests only, and by the last of
//! the test programs, which its name makes it: the order in a guest is that of the alphabet.

use std::{fs, time::Duration};

use anyhow::{Context as _, Result, ensure};
use nix::mount::{MsFlags, mount, umount};
use relay_tests::{
    guest,
    lab::relay::{Relay, binary, programs_on},
    netns::{Netns, wait_for},
};

const DEADLINE: Duration = Duration::from_secs(30);
const SECURITY: &str = "/sys/kernel/security";

/// Where lockdown is set, until dropped.
struct SecurityFs;

impl SecurityFs {
    fn new() -> Result<Self> {
        mount(Some("securityfs"), SECURITY, Some("securityfs"), MsFlags::empty(), None::<&str>)
            .context("mounting securityfs")?;
        Ok(Self)
    }
}

impl Drop for SecurityFs {
    fn drop(&mut self) {
        let _ = umount(SECURITY);
    }
}

/// What relay makes of it: the fast path is on with one program, or off and status says why; the kernel forwards.
fn hub(level: &str) -> Result<()> {
    let machine = Netns::new("lockdown")?;
    let mut hub = Relay::init(&machine, &binary()?)?;
    hub.run(&["peer", "add", "home", "--lan", "192.168.40.0/24"])?;
    hub.up()?;
    let status: serde_json::Value =
        wait_for("a decision", DEADLINE, || Ok(serde_json::from_str(&hub.run(&["status", "--json"])?)?))?;
    let on = status["fast_path"]["state"] == "on";
    let reason = status["fast_path"]["reason"].to_string();
    guest::fact(&serde_json::json!({ "lockdown": level, "fast_path": status["fast_path"]["state"] }));
    ensure!(programs_on(&machine, "wg0")? == usize::from(on), "{status}");
    ensure!(on || reason.contains("the kernel forwards"), "{reason}");
    // TC programs read no memory of the kernel's, which is all that lockdown keeps from BPF.
    ensure!(on, "{level}: {reason}");
    ensure!(machine.run("sysctl -n net.ipv4.ip_forward")? == "1\n");
    ensure!(machine.run("ip route")?.contains("192.168.40.0/24 dev wg0"));
    hub.run(&["down"])?;
    ensure!(machine.run("ip link show wg0").is_err(), "wg0 was left behind");
    Ok(())
}

#[test]
fn in_lockdown() -> Result<()> {
    if guest::line().is_none() {
        guest::skip("lockdown is for good until the next boot: in guests only");
        return Ok(());
    }
    let _security = SecurityFs::new()?;
    // What has to be loaded is loaded before, as on a machine that locks itself down at boot with signed modules.
    hub("none")?;
    for level in ["integrity", "confidentiality"] {
        let file = format!("{SECURITY}/lockdown");
        fs::write(&file, level).with_context(|| format!("writing {level} to {file}"))?;
        let said = fs::read_to_string(&file)?;
        ensure!(said.contains(&format!("[{level}]")), "{said}");
        hub(level)?;
    }
    Ok(())
}
