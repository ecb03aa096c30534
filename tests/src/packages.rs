//! Debian's packages of relay that tests install.

use std::{fs, path::PathBuf};

use anyhow::{Context as _, Result};

/// Debian's name of this machine's architecture.
const ARCH: &str = if cfg!(target_arch = "aarch64") { "arm64" } else { "amd64" };

/// The package of that revision, of which `cargo xtask` makes two.
pub fn find(revision: u32) -> Result<PathBuf> {
    let folder =
        std::env::var_os("RELAY_PACKAGES").context("no RELAY_PACKAGES: run it with `cargo xtask test`")?;
    let end = format!("-{revision}_{ARCH}.deb");
    let mut found = fs::read_dir(&folder)?.filter_map(|entry| Some(entry.ok()?.path()));
    let found = found.find(|path| path.to_str().is_some_and(|path| path.ends_with(&end)));
    found.with_context(|| format!("no package *{end} in {}", folder.display()))
}
