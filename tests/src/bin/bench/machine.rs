//! What figures depend on besides what is measured: the machine, its kernel, and how this process runs on it.

use std::{fs, process::Command};

use anyhow::{Context as _, Result};
use nix::{
    errno::Errno,
    libc,
    sched::{CpuSet, sched_setaffinity},
    unistd::Pid,
};
use serde_json::{Value, json};

/// For the header of the results.
pub(crate) fn describe() -> Value {
    let read = |path: &str| fs::read_to_string(path).map(|text| text.trim().to_owned()).unwrap_or_default();
    let model = read("/proc/cpuinfo");
    let model = model.lines().find_map(|line| line.strip_prefix("model name")?.split_once(": "));
    let first_line = |program: &str, argument: &str| {
        let output = Command::new(program).arg(argument).output().ok()?;
        String::from_utf8_lossy(&output.stdout).lines().next().map(|line| line.trim().to_owned())
    };
    json!({
        "cpu": model.map(|(_, name)| name),
        "cpus": std::thread::available_parallelism().map_or(0, usize::from),
        "kernel": read("/proc/sys/kernel/osrelease"),
        "load": read("/proc/loadavg").split(' ').next(),
        "relay": env!("CARGO_PKG_VERSION"),
        "nft": first_line("nft", "--version"),
        "iptables": first_line("iptables", "--version"),
    })
}

/// Holds this process on one CPU and lets nobody else have it meanwhile, as far as it may. Says how it is.
pub(crate) fn hold_one_cpu() -> Result<Value> {
    let cpu = std::thread::available_parallelism().map_or(1, usize::from) - 1;
    let mut set = CpuSet::new();
    set.set(cpu).context("choosing a CPU")?;
    sched_setaffinity(Pid::from_raw(0), &set).with_context(|| format!("staying on CPU {cpu}"))?;
    let real_time = libc::sched_param { sched_priority: 1 };
    // SAFETY: the call reads one sched_param, which outlives it; 0 is the calling thread.
    let refused = unsafe { libc::sched_setscheduler(0, libc::SCHED_FIFO, &raw const real_time) } != 0;
    Ok(json!({ "cpu": cpu, "real_time": !refused }))
}

/// Lets everybody else on this CPU go first: whoever has something to do does it before this process goes on.
pub(crate) fn go_last() -> Result<()> {
    let nothing = libc::sched_param { sched_priority: 0 };
    // SAFETY: the call reads one sched_param, which outlives it; 0 is the calling thread.
    Errno::result(unsafe { libc::sched_setscheduler(0, libc::SCHED_IDLE, &raw const nothing) })
        .context("choosing the idle scheduling policy")?;
    Ok(())
}
