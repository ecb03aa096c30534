//! What memory a process has, by the kernel's own account (proc(5), `status`).

use std::fs;

use anyhow::{Context as _, Result};

/// What is resident of it, in KiB.
#[derive(Clone, Copy, Debug)]
pub struct Resident {
    /// All of it.
    pub all: u64,
    /// Without the pages of files that it maps, its own program among them: those the kernel has anyway.
    pub own: u64,
}

impl Resident {
    /// Of the process now.
    pub fn of(pid: u32) -> Result<Self> {
        let status = fs::read_to_string(format!("/proc/{pid}/status"))?;
        let number = |name: &str| -> Result<u64> {
            let line = status.lines().find_map(|line| line.strip_prefix(name)).context(name.to_owned())?;
            Ok(line.split_whitespace().next().context(name.to_owned())?.parse()?)
        };
        Ok(Self { all: number("VmRSS:")?, own: number("RssAnon:")? })
    }
}
