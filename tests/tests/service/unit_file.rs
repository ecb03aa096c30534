//! What systemd says of the unit: nothing it does not understand, and little that it leaves open.

use std::{fs, path::Path, process::Command};

use anyhow::{Context as _, Result, ensure};
use relay_tests::{guest, lab::relay::binary, netns::checked};

use crate::unit;

/// The worst exposure allowed, in tenths of systemd's points.
const EXPOSURE: &str = "20";

fn systemd_analyze(arguments: &[&str], unit: &Path) -> Result<String> {
    checked(Command::new("systemd-analyze").args(arguments).arg(unit))
        .with_context(|| format!("systemd-analyze {}", arguments.join(" ")))
}

#[test]
fn systemd_understands_it_and_finds_little_open() -> Result<()> {
    if guest::line().is_some() {
        guest::skip("what systemd-analyze says of a file is the same on every kernel");
        return Ok(());
    }
    let folder = tempfile::tempdir()?;
    let path = folder.path().join("relay.service");
    fs::write(&path, unit()?)?;
    let said = Command::new("systemd-analyze").arg("verify").arg(&path).output()?;
    let text = String::from_utf8_lossy(&said.stderr);
    ensure!(said.status.success() && text.is_empty(), "systemd-analyze verify: {text}");
    let security = ["security", "--offline=true", "--no-pager"];
    let exposure = [&security[..], &["--threshold", EXPOSURE]].concat();
    systemd_analyze(&exposure, &path)?;

    // The same judge does find what is left open.
    let open = unit()?.replace("ProtectKernelTunables=yes\n", "").replace("PrivateDevices=yes\n", "");
    fs::write(&path, open)?;
    ensure!(systemd_analyze(&exposure, &path).is_err(), "an open unit passes too");
    Ok(())
}

#[test]
fn each_setting_has_its_reason() -> Result<()> {
    let unit = unit()?;
    let (mut reason, mut settings) = (false, 0);
    for line in unit.lines() {
        match line.chars().next() {
            Some('#') => reason = true,
            // A reason holds for the lines below it, up to an empty one.
            None | Some('[') => reason = false,
            Some(_) if line.starts_with("Protect") || line.contains("Path") || line.contains("Capab") => {
                settings += 1;
                ensure!(reason, "no reason above {line}");
            }
            Some(_) => {}
        }
    }
    ensure!(settings > 10, "{settings} settings in {unit}");
    let binary = binary()?.canonicalize()?;
    ensure!(unit.contains(&format!("ExecStart={} up\n", binary.display())), "{unit}");
    Ok(())
}
