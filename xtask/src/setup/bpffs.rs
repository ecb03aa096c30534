//! The BPF file system, where links and maps are pinned. systemd mounts it; containers and bare machines may not have it.

use std::path::Path;

use anyhow::{Context as _, Result};
use nix::{
    mount::{MsFlags, mount},
    sys::statfs::{BPF_FS_MAGIC, statfs},
};

use super::Voice;
use crate::process;

const PATH: &str = "/sys/fs/bpf";

/// Mounts it when it is missing and we are root. Without root nothing that needs it can run, and that says so itself.
pub(super) fn ensure(voice: Voice) -> Result<()> {
    let there = statfs(Path::new(PATH)).is_ok_and(|found| found.filesystem_type() == BPF_FS_MAGIC);
    if there {
        voice.have(&format!("bpffs on {PATH}"), "keeps the fast path while relay restarts");
        return Ok(());
    }
    if !process::is_root() {
        return Ok(());
    }
    process::say(format_args!("==> mounting bpffs on {PATH}"));
    mount(Some("bpf"), PATH, Some("bpf"), MsFlags::empty(), None::<&str>)
        .with_context(|| format!("mounting bpffs on {PATH}"))
}
