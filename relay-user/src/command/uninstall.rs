//! `relay uninstall`: the service goes; the configuration, its keys and a tunnel that is up stay.

use std::path::Path;

use anyhow::Context as _;

use super::systemd::{booted, make, read_again, run as run_tool};
use crate::{
    control::server::GROUP,
    kernel::netlink::Netlink,
    service::{PACKAGED_UNIT, UNIT, no_files},
};

/// What systemd made for the service, and what of it is a person's own.
const FOLDERS: [&str; 2] = ["/etc/relay", "/var/lib/relay"];

/// Stops and disables the unit, removes the files and the group unless they are a package's; says each thing that it did,
/// and what stays.
///
/// # Errors
/// Not root; a file that cannot be removed; a tool of systemd that refuses.
pub async fn run() -> anyhow::Result<()> {
    super::need_root("remove a service")?;
    let wanted = no_files();
    let packaged = Path::new(PACKAGED_UNIT).exists();
    if packaged || Path::new(wanted[0].path).exists() {
        let now: &[&str] = if booted() { &["--now"] } else { &[] };
        run_tool("systemctl", &[&["disable"], now, &[UNIT]].concat())?;
        eprintln!("{UNIT} is stopped and disabled");
    }
    let mut found = false;
    for file in &wanted {
        found |= make(file)?;
    }
    if found {
        read_again()?;
    }
    let group = nix::unistd::Group::from_name(GROUP).context("look the group `relay` up")?;
    if packaged {
        eprintln!("the unit and the group `{GROUP}` are the package's: `apt remove relay` removes it");
        found = true;
    } else if group.is_some() {
        run_tool("groupdel", &[GROUP])?;
        eprintln!("removed the group `{GROUP}`");
        found = true;
    }
    if !found {
        eprintln!("no service of relay's was installed");
    }
    for folder in FOLDERS {
        // One that is empty is nobody's.
        let _ = std::fs::remove_dir(folder);
        if Path::new(folder).exists() {
            eprintln!("{folder} stays: what is in it is yours");
        }
    }
    for link in Netlink::connect()?.links().await?.iter().filter(|link| link.is_ours()) {
        eprintln!("{} goes on; `relay down` takes it down", link.name);
    }
    Ok(())
}
