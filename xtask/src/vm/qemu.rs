//! The emulator: the host's own, or Debian's package unpacked under target/vm/qemu, as the kernels are.
//!
//! Installing it would bring thirty packages along, and take away those of other QEMU tools that came from another
//! release; unpacked it disturbs nothing and needs no root.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context as _, Result, ensure};

use crate::process::{capture, find_program, say};
use crate::setup;

/// The emulator's program.
const PROGRAM: &str = "qemu-system-x86_64";
/// Debian's package of it.
const PACKAGE: &str = "qemu-system-x86";

/// An emulator that can be started.
#[derive(Debug, Clone)]
pub(crate) struct Qemu {
    program: PathBuf,
    /// Where its package and the libraries that this host lacks were unpacked; nothing when it is the host's own.
    root: Option<PathBuf>,
}

impl Qemu {
    /// The host's, else the one unpacked before, else fetched by apt and unpacked into `cache`.
    pub(crate) fn find(cache: &Path) -> Result<Self> {
        if let Some(program) = find_program(PROGRAM) {
            return Ok(Self { program, root: None });
        }
        let root = cache.join("root");
        if !root.is_dir() {
            fetch(cache, &root).with_context(|| {
                format!("no {PROGRAM} here (Debian has it in {PACKAGE}), and none fetched")
            })?;
        }
        let program = root.join("usr/bin").join(PROGRAM);
        ensure!(
            program.is_file(),
            "{} is not there: remove {} to have it anew",
            program.display(),
            root.display()
        );
        Ok(Self { program, root: Some(root) })
    }

    /// The command that starts it, arguments to follow.
    pub(crate) fn command(&self) -> Command {
        let mut command = Command::new(&self.program);
        if let Some(root) = &self.root {
            let libraries =
                ["usr/lib/x86_64-linux-gnu", "lib/x86_64-linux-gnu"].map(|folder| root.join(folder));
            // The paths have no colon: they are below the target folder, which cargo puts into such lists itself.
            let libraries = libraries.map(|folder| folder.display().to_string()).join(":");
            command.env("LD_LIBRARY_PATH", libraries);
            for data in ["usr/share/qemu", "usr/share/seabios"] {
                command.arg("-L").arg(root.join(data));
            }
        }
        command
    }
}

/// Downloads the package with all that it needs and this host lacks, and unpacks it as `root`.
fn fetch(cache: &Path, root: &Path) -> Result<()> {
    setup::package_lists_know(PACKAGE)?;
    let mut simulate = Command::new("apt-get");
    simulate.args(["install", "--simulate", "--no-install-recommends", PACKAGE]).env("LC_ALL", "C");
    let packages = to_install(&capture(&mut simulate)?);
    ensure!(!packages.is_empty(), "apt would install nothing for {PACKAGE}");
    say(format_args!("    downloading {PACKAGE} and {} that it needs", packages.len() - 1));
    let partial = cache.join("partial");
    if partial.exists() {
        fs::remove_dir_all(&partial).with_context(|| format!("removing {}", partial.display()))?;
    }
    let archives = partial.join("archives");
    fs::create_dir_all(&archives).with_context(|| format!("making {}", archives.display()))?;
    capture(Command::new("apt-get").args(["download", "-qq"]).args(&packages).current_dir(&archives))?;
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
