//! gotatun-cli, a userspace WireGuard that is not ours: tests give it to a peer. No distribution has it.

use anyhow::Result;

use super::{Voice, apt, packages};
use crate::{env::Env, process};

/// The release that is known to work as a peer, and the one whose library relay embeds.
const VERSION: &str = "0.10.2";

/// Builds it into `target/tools/bin`, unless the one there is of that version.
pub(super) fn ensure(env: &Env, voice: Voice) -> Result<()> {
    let program = env.gotatun();
    let says = process::capture(std::process::Command::new(&program).arg("--version")).unwrap_or_default();
    if says.split_whitespace().any(|word| word == VERSION) {
        voice.have(&format!("gotatun {VERSION}"), "a WireGuard of others, for tests");
        return Ok(());
    }
    apt::ensure(voice, packages::LINKER)?;
    let mut install = env.cargo();
    install
        .args(["install", "--quiet", "--locked", "--force", "--no-track", "--root"])
        .arg(&env.tools)
        .arg(format!("gotatun-cli@{VERSION}"))
        .env_remove("CARGO_TARGET_DIR");
    process::run_quiet(&format!("building gotatun-cli {VERSION} (some minutes, once)"), &mut install)
}
