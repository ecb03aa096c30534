//! `relay install`: a service of systemd, of the binary where it stands.

use std::{
    fs,
    os::unix::fs::MetadataExt as _,
    path::{Path, PathBuf},
};

use anyhow::Context as _;
use nix::libc::{S_IFDIR, S_IFMT};

use super::{
    down::interface,
    systemd::{booted, is_active, make, read_again, run as run_tool},
};
use crate::{
    cli::{Files, InstallArgs},
    config::Written,
    control::server::GROUP,
    desired::BackendChoice,
    failure::Failure,
    kernel::wireguard::kernel_available,
    service::{self, Installation, PACKAGED_UNIT, PathError, Paths, UNIT},
};

/// Writes the files, makes the group and enables the unit; says each thing that it did, and what to do next.
///
/// # Errors
/// Not root; a path that a service cannot use; a file that cannot be written; a tool of systemd that refuses.
pub fn run(files: &Files, args: &InstallArgs) -> anyhow::Result<()> {
    let absolute = |path: &Path| std::path::absolute(path).context("find the current folder");
    let (config, socket) = (absolute(&files.config)?, absolute(&files.socket)?);
    let binary = std::env::current_exe().context("find this binary")?;
    let paths = Paths { binary: &binary, config: &config, socket: &socket };
    if args.print {
        return super::print(&service::unit(paths).map_err(refused)?);
    }
    super::need_root("install a service")?;
    let (interface, userspace) = (interface(&config)?, userspace(&config)?);
    let packaged = packaged()?;
    let packaged = packaged.as_deref();
    let wanted = service::files(&Installation { paths, interface: &interface, userspace, packaged })
        .map_err(refused)?;

    for path in [&binary, &config] {
        if let Some(folder) = first(path, is_closed) {
            let why = format!(
                "the service could not reach {}: its root may not pass {}, which is another user's",
                path.display(),
                folder.display()
            );
            let hint = "put relay into /usr/local/bin and its files into /etc/relay, and install that one";
            return Err(Failure::refused(why).hint(hint).into());
        }
    }
    if let Some(path) = first(&binary, is_open) {
        eprintln!(
            "warning: others than root may replace {}, and root will run what is there; `install -m 755 {} \
             /usr/local/bin/relay` puts a copy where they may not",
            path.display(),
            binary.display()
        );
    }
    if nix::unistd::Group::from_name(GROUP).context("look the group `relay` up")?.is_none() {
        run_tool("groupadd", &["--system", GROUP])?;
        eprintln!("made the group `{GROUP}`, whose members may ask for status and stats");
    }
    let mut changed = false;
    for file in &wanted {
        changed |= make(file)?;
    }
    read_again()?;
    run_tool("systemctl", &["enable", UNIT])?;
    eprintln!("{UNIT} is enabled: relay starts with this machine");
    eprintln!("{}", next(&config, changed));
    Ok(())
}

fn refused(error: PathError) -> Failure {
    Failure::refused(error.to_string()).hint(error.hint())
}

/// The unit that a package brought.
fn packaged() -> anyhow::Result<Option<String>> {
    match fs::read_to_string(PACKAGED_UNIT) {
        Ok(text) => Ok(Some(text)),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error).with_context(|| format!("reading {PACKAGED_UNIT}")),
    }
}

/// What a person does next.
fn next(config: &Path, changed: bool) -> String {
    if !config.exists() {
        format!(
            "next: `relay init` (a hub) or `relay join` (a home) writes {}, then `systemctl start relay`",
            config.display()
        )
    } else if !booted() {
        "systemd does not run here, so nothing was started: it starts relay when it does".to_owned()
    } else if !is_active(UNIT) {
        "next: `systemctl start relay`".to_owned()
    } else if changed {
        "next: `systemctl restart relay`, so that what was written takes effect".to_owned()
    } else {
        "relay runs, and everything was as it shall be".to_owned()
    }
}

/// Whether the daemon will carry the tunnel itself, as far as can be known now.
fn userspace(config: &Path) -> anyhow::Result<bool> {
    let choice = match fs::read_to_string(config) {
        Ok(text) => Written::parse(config, &text)?.interface.into_inner().backend,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => BackendChoice::Auto,
        Err(error) => return Err(error).with_context(|| format!("reading {}", config.display())),
    };
    Ok(match choice {
        BackendChoice::Kernel => false,
        BackendChoice::Userspace => true,
        BackendChoice::Auto => kernel_available().is_err(),
    })
}

/// The path itself or the folder above it of which that is true, by owner and mode.
fn first(path: &Path, is: fn(u32, u32) -> bool) -> Option<PathBuf> {
    let found = |path: &&Path| fs::metadata(path).is_ok_and(|found| is(found.uid(), found.mode()));
    path.ancestors().find(found).map(Path::to_owned)
}

/// Whether others than root can put another thing in the place of this one.
fn is_open(owner: u32, mode: u32) -> bool {
    const OTHERS_WRITE: u32 = 0o022;
    owner != 0 || mode & OTHERS_WRITE != 0
}

/// Whether a root without CAP_DAC_OVERRIDE, as the unit's, finds no way through or in.
fn is_closed(owner: u32, mode: u32) -> bool {
    /// Execute a folder, read a file (inode(7)).
    const PASS: u32 = 0o001;
    const READ: u32 = 0o004;
    let is_folder = mode & S_IFMT == S_IFDIR;
    owner != 0 && mode & if is_folder { PASS } else { READ } == 0
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_may_what() {
        let (root, anna) = (0, 1000);
        for (owner, mode, open, closed) in [
            (root, 0o040_755, false, false),
            (root, 0o040_700, false, false),
            (root, 0o100_600, false, false),
            (root, 0o041_777, true, false),
            (root, 0o100_775, true, false),
            (anna, 0o040_700, true, true),
            (anna, 0o040_755, true, false),
            (anna, 0o100_755, true, false),
            (anna, 0o100_600, true, true),
        ] {
            assert_eq!((is_open(owner, mode), is_closed(owner, mode)), (open, closed), "{owner} {mode:o}");
        }
    }
}
