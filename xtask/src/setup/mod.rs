//! `cargo xtask setup`: what build and tests need, and why. The other verbs call the parts that they need.
//!
//! Everything is looked for before anything is done, by files and not by asking package managers, so that a machine
//! that has it all loses no time here.

mod apt;
mod arm64;
mod bpffs;
mod gotatun;
mod linker;
mod packages;
mod toolchain;
pub(crate) mod unpacked;

use anyhow::{Context as _, Result};

pub(crate) use arm64::ARM64;
pub(crate) use toolchain::Toolchain;

use crate::{env::Env, process};

/// Whether a thing that is already there is worth a line.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Voice {
    /// `setup` itself: say everything.
    All,
    /// A verb that needs a part: speak only when something is done.
    Changes,
}

impl Voice {
    fn have(self, what: &str, why: &str) {
        if self == Self::All {
            process::say(format_args!("    have {what}: {why}"));
        }
    }
}

/// The verb: every part, with a line for each.
pub(crate) fn everything(env: &Env) -> Result<()> {
    let voice = Voice::All;
    apt::ensure(voice, packages::RUN)?;
    apt::ensure(voice, packages::NETNS)?;
    apt::ensure(voice, packages::VM)?;
    apt::ensure(voice, packages::BOOT)?;
    apt::ensure(voice, packages::DIST)?;
    let toolchain = toolchain::ensure(voice)?;
    linker::ensure(env, voice, &toolchain)?;
    gotatun::ensure(env, voice)?;
    arm64::ensure(env, voice)?;
    lints(voice, &toolchain)?;
    bpffs::ensure(voice)?;
    process::say("==> everything is there");
    Ok(())
}

/// What builds the eBPF object: a rustc with the sources of core, and a bpf-linker of the same LLVM.
pub(crate) fn ebpf(env: &Env) -> Result<Toolchain> {
    let toolchain = toolchain::ensure(Voice::Changes)?;
    linker::ensure(env, Voice::Changes, &toolchain)?;
    Ok(toolchain)
}

/// What `relay up` needs of the system.
pub(crate) fn running() -> Result<()> {
    apt::ensure(Voice::Changes, packages::RUN)?;
    bpffs::ensure(Voice::Changes)
}

/// What the laboratory needs.
pub(crate) fn laboratory() -> Result<()> {
    running()?;
    apt::ensure(Voice::Changes, packages::NETNS)
}

/// What the height in network namespaces needs.
pub(crate) fn netns(env: &Env) -> Result<()> {
    laboratory()?;
    gotatun::ensure(env, Voice::Changes)
}

/// Brings apt's package lists up to date when they do not know a package.
pub(crate) fn package_lists_know(package: &str) -> Result<()> {
    apt::candidate(package).map(drop).with_context(|| format!("apt knows no package {package}"))
}

/// What building and booting guests needs. The kernels and QEMU are fetched, not installed.
pub(crate) fn guests(env: &Env) -> Result<()> {
    apt::ensure(Voice::Changes, packages::NETNS)?;
    apt::ensure(Voice::Changes, packages::VM)?;
    gotatun::ensure(env, Voice::Changes)
}

/// What a guest that boots from a disk needs. It has its own tools.
pub(crate) fn booting() -> Result<()> {
    apt::ensure(Voice::Changes, packages::VM)?;
    apt::ensure(Voice::Changes, packages::BOOT)
}

/// What packing packages needs.
pub(crate) fn packing() -> Result<()> {
    apt::ensure(Voice::Changes, packages::DIST)
}

/// What building for arm64 needs.
pub(crate) fn arm64(env: &Env) -> Result<()> {
    arm64::ensure(env, Voice::Changes)
}

/// What building libFuzzer needs.
pub(crate) fn fuzzing() -> Result<()> {
    apt::ensure(Voice::Changes, packages::LINKER)
}

/// What `check` needs: the compiler for BPF and its clippy, no linker. `None` for clippy where the chosen
/// toolchain has none and cannot be given one here.
pub(crate) fn checking() -> Result<(Toolchain, Option<std::path::PathBuf>)> {
    let toolchain = toolchain::ensure(Voice::Changes)?;
    let clippy = lints(Voice::Changes, &toolchain)?;
    Ok((toolchain, clippy))
}

/// The `cargo-clippy` of the toolchain; for Debian's compiler it is a package of its own.
fn lints(voice: Voice, toolchain: &Toolchain) -> Result<Option<std::path::PathBuf>> {
    if toolchain.debian {
        apt::ensure(voice, packages::CLIPPY)?;
    }
    let found = toolchain.clippy();
    if let Some(clippy) = &found {
        voice.have(&clippy.display().to_string(), "lints the eBPF programs");
    }
    Ok(found)
}
