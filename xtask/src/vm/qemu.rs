//! The emulator: the host's own, or Debian's package unpacked under target/vm/qemu, as the kernels are.
//!
//! Installing it would bring thirty packages along, and take away those of other QEMU tools that came from another
//! release; unpacked it disturbs nothing and needs no root.

use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context as _, Result, ensure};

use crate::process::find_program;
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

/// Unpacks the package as `root`.
fn fetch(cache: &Path, root: &Path) -> Result<()> {
    setup::unpacked::fetch(PACKAGE, cache, root)
}
