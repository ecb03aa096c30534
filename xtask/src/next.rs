//! The relays that tests upgrade to: one whose program is another, one whose layout is another. Each is relay itself with
//! a feature of that name, its object inside.

use std::{
    fs, io,
    path::{Path, PathBuf},
};

use anyhow::{Context as _, Result};

use crate::{
    bpf,
    env::{Env, Profile},
    process::run,
};

/// Features of relay-user and of relay-ebpf.
const FEATURES: [&str; 2] = ["next-program", "next-layout"];

/// The test program that upgrades.
pub(crate) const TESTS: &str = "lifecycle";

/// Builds `relay-next-program` and `relay-next-layout` beside `relay`; gives the binaries.
pub(crate) fn relays(env: &Env) -> Result<Vec<PathBuf>> {
    FEATURES.iter().map(|feature| relay(env, feature)).collect()
}

/// Builds one of them.
pub(crate) fn relay(env: &Env, feature: &str) -> Result<PathBuf> {
    bpf::next(env, feature)?;
    // With what cargo keeps for itself in the ordinary place nothing but relay's own crates is built again; with the
    // result elsewhere, `relay` stays the ordinary one.
    let folder = env.target.join("next").join(feature);
    let mut command = env.cargo();
    command
        .args(["build", "--package", "relay-user", "--bin", "relay", "--features", feature, "--target-dir"])
        .arg(&folder)
        .env("CARGO_BUILD_BUILD_DIR", &env.target);
    run(&format!("building relay-{feature}, which tests upgrade to"), &mut command)?;
    let built = folder.join(Profile::Dev.folder()).join("relay");
    let beside = env.built(Profile::Dev, &format!("relay-{feature}"));
    link(&built, &beside)?;
    Ok(beside)
}

/// Another name for the file, in place of what has that name.
fn link(file: &Path, name: &Path) -> Result<()> {
    match fs::remove_file(name) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => {
            return Err(error).with_context(|| format!("removing {}", name.display()));
        }
        _ => {}
    }
    fs::hard_link(file, name).with_context(|| format!("linking {} to {}", name.display(), file.display()))
}
