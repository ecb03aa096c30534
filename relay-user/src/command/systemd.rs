//! What `install` and `uninstall` share: files that are as they shall be, and systemd's own tools.

use std::{fs, io, path::Path, process::Command};

use anyhow::{Context as _, ensure};

use crate::{failure::Failure, service::Wanted};

/// Whether systemd runs this machine (sd_booted(3)).
pub(super) fn booted() -> bool {
    sd_notify::booted().unwrap_or(false)
}

/// Writes or removes the file, and says so; whether there was anything to do.
pub(super) fn make(wanted: &Wanted) -> anyhow::Result<bool> {
    let path = Path::new(wanted.path);
    let before = match fs::read_to_string(path) {
        Ok(text) => Some(text),
        Err(error) if error.kind() == io::ErrorKind::NotFound => None,
        Err(error) => return Err(error).with_context(|| format!("reading {}", path.display())),
    };
    if before == wanted.text {
        return Ok(false);
    }
    if let Some(text) = &wanted.text {
        write(path, text).with_context(|| format!("writing {}", path.display()))?;
        eprintln!("wrote {}", path.display());
    } else {
        fs::remove_file(path).with_context(|| format!("removing {}", path.display()))?;
        // A folder for drop-ins goes with the last of them.
        if let Some(folder) = path.parent().filter(|folder| folder.extension().is_some()) {
            let _ = fs::remove_dir(folder);
        }
        eprintln!("removed {}", path.display());
    }
    Ok(true)
}

fn write(path: &Path, text: &str) -> io::Result<()> {
    if let Some(folder) = path.parent() {
        fs::create_dir_all(folder)?;
    }
    fs::write(path, text)
}

/// Runs a tool to its end and says what it said where it failed.
pub(super) fn run(program: &str, arguments: &[&str]) -> anyhow::Result<()> {
    let act = || format!("cannot run `{program} {}`", arguments.join(" "));
    let output = Command::new(program).args(arguments).output().map_err(|error| match error.kind() {
        io::ErrorKind::NotFound => anyhow::Error::new(
            Failure::new(format!("{}: there is no {program}", act()))
                .hint("without systemd, let your own init system run `relay up`"),
        ),
        _ => anyhow::Error::new(error).context(act()),
    })?;
    let stderr = String::from_utf8_lossy(&output.stderr);
    ensure!(output.status.success(), "{}: {}", act(), stderr.trim().replace('\n', "; "));
    Ok(())
}

/// Whether a unit runs.
pub(super) fn is_active(unit: &str) -> bool {
    run("systemctl", &["--quiet", "is-active", unit]).is_ok()
}

/// systemd reads its files again; networkd too, where it runs. Nobody need be told where systemd does not run.
pub(super) fn read_again() -> anyhow::Result<()> {
    if !booted() {
        return Ok(());
    }
    run("systemctl", &["daemon-reload"])?;
    if is_active("systemd-networkd.service")
        && let Err(error) = run("networkctl", &["reload"])
    {
        eprintln!("warning: {error:#}; `systemctl restart systemd-networkd` makes it read its files again");
    }
    Ok(())
}
