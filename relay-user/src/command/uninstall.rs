//! `relay uninstall`: the service goes; the configuration, its keys and a tunnel that is up stay.

use std::path::Path;

use anyhow::Context as _;

use super::{
    down::interface,
    systemd::{booted, make, read_again, run as run_tool},
};
use crate::{
    cli::Files,
    control::server::GROUP,
    kernel::netlink::Netlink,
    observed::Link,
    service::{UNIT, no_files},
};

/// What systemd made for the service, and what of it is a person's own.
const FOLDERS: [&str; 2] = ["/etc/relay", "/var/lib/relay"];

/// Stops and disables the unit, removes the files and the group; says each thing that it did, and what stays.
///
/// # Errors
/// Not root; a file that cannot be removed; a tool of systemd that refuses.
pub async fn run(files: &Files) -> anyhow::Result<()> {
    super::need_root("remove a service")?;
    let wanted = no_files();
    if Path::new(wanted[0].path).exists() {
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
    if nix::unistd::Group::from_name(GROUP).context("look the group `relay` up")?.is_some() {
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
    let interface = interface(&files.config)?;
    if Netlink::connect()?.link(&interface).await?.is_some_and(|link| Link::is_ours(&link)) {
        eprintln!("{interface} goes on; `relay down` takes it down");
    }
    Ok(())
}
