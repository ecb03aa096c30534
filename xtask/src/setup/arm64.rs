//! What builds for arm64 on another machine: Rust's standard library for it, and the C compiler and linker of Debian.

use std::{path::Path, process::Command};

use anyhow::{Context as _, Result, bail};

use super::{Voice, apt, packages};
use crate::{
    env::Env,
    process::{capture, find_program, run_quiet},
};

/// The target triple.
pub(crate) const ARM64: &str = "aarch64-unknown-linux-gnu";

/// Installs what is missing.
pub(super) fn ensure(env: &Env, voice: Voice) -> Result<()> {
    apt::ensure(voice, packages::ARM64)?;
    if has_std(env)? {
        voice.have(&format!("the standard library for {ARM64}"), "builds relay for arm64");
        return Ok(());
    }
    let Some(rustup) = find_program("rustup") else {
        bail!(
            "this compiler has no standard library for {ARM64}; Debian's own is another architecture's package: \
             dpkg --add-architecture arm64 && apt-get update && apt-get install libstd-rust-dev:arm64"
        );
    };
    let what = format!("installing the standard library for {ARM64} by rustup");
    run_quiet(&what, Command::new(rustup).args(["target", "add", ARM64]).current_dir(&env.root))
}

/// Whether the compiler that cargo will call has it.
fn has_std(env: &Env) -> Result<bool> {
    let mut rustc = Command::new(std::env::var_os("RUSTC").unwrap_or_else(|| "rustc".into()));
    rustc.args(["--print", "target-libdir", "--target", ARM64]).current_dir(&env.root);
    let folder = capture(&mut rustc).context("asking rustc for its libraries")?;
    Ok(Path::new(folder.trim()).is_dir())
}
