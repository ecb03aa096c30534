//! From a bare kernel to a system in which tests can run.

use std::fs;
use std::net::UdpSocket;
use std::os::unix::fs::{PermissionsExt as _, symlink};
use std::path::Path;
use std::process::Command;

use anyhow::{Context as _, Result, ensure};
use nix::mount::{MsFlags, mount};
use nix::sys::reboot::{RebootMode, reboot};
use nix::sys::resource::{Resource, setrlimit};
use nix::sys::socket::{setsockopt, sockopt::ReceiveTimestamp};

/// What a booted Debian has mounted: where, the file system's type, its options.
const MOUNTS: [(&str, &str, &str); 9] = [
    ("/proc", "proc", ""),
    ("/sys", "sysfs", ""),
    ("/dev", "devtmpfs", "mode=0755"),
    ("/dev/pts", "devpts", "gid=5,mode=620,ptmxmode=666"),
    ("/dev/shm", "tmpfs", "mode=1777"),
    ("/run", "tmpfs", "mode=0755"),
    ("/sys/fs/bpf", "bpf", "mode=0700"),
    ("/sys/fs/cgroup", "cgroup2", ""),
    ("/sys/kernel/tracing", "tracefs", ""),
];

/// Modules that have to be there before something asks for them: /dev/net/tun is made by tun alone, and the sysctls of
/// conntrack come with it. The others are here so that a guest without them ends at once.
const MODULES: [&str; 9] =
    ["wireguard", "tun", "veth", "nf_conntrack", "nf_tables", "sch_ingress", "cls_bpf", "sch_netem", "dummy"];

/// Open files a test may have: a daemon of the distribution is given more than a bare PID 1.
const OPEN_FILES: u64 = 65_536;

/// Mounts, names, modules, limits.
pub(crate) fn prepare() -> Result<()> {
    for (place, kind, options) in MOUNTS {
        fs::create_dir_all(place).with_context(|| format!("making {place}"))?;
        mount(Some(kind), place, Some(kind), MsFlags::empty(), Some(options))
            .with_context(|| format!("mounting {kind} on {place}"))?;
    }
    // Nothing is mounted on it: the root is in memory as well, and a checkout below /tmp has its programs there.
    fs::create_dir_all("/tmp").context("making /tmp")?;
    fs::set_permissions("/tmp", fs::Permissions::from_mode(0o1777)).context("opening /tmp to all")?;
    // The shell's <(…), which wg-quick uses, is a path below /dev/fd.
    for (link, to) in
        [("fd", "self/fd"), ("stdin", "self/fd/0"), ("stdout", "self/fd/1"), ("stderr", "self/fd/2")]
    {
        symlink(Path::new("/proc").join(to), Path::new("/dev").join(link))
            .with_context(|| format!("linking /dev/{link}"))?;
    }
    fs::write("/proc/sys/kernel/hostname", "relay-guest").context("naming the guest")?;
    setrlimit(Resource::RLIMIT_NOFILE, OPEN_FILES, OPEN_FILES).context("raising the limit of open files")?;
    run("modprobe", &[&["-a"][..], &MODULES].concat())?;
    keep_time_stamps_on()?;
    run("ip", &["link", "set", "lo", "up"])?;
    // The first hook for incoming packets on any device, and the last to go, make the kernel patch the code that takes
    // them in (`ingress_needed_key`, net/core/dev.c). An emulated processor may run into the breakpoint that stands
    // there meanwhile when it is gone already, which is an oops. With one hook that stays nothing is patched.
    run("tc", &["qdisc", "add", "dev", "lo", "clsact"])
}

/// Keeps a socket that wants to know when packets came. Each ping is one that does, and the first to come and the last
/// to go make the kernel rewrite its receive path (`netstamp_needed_key`, net/core/dev.c), at which QEMU's emulation
/// sometimes leaves a processor in the breakpoint that stands there meanwhile, for good.
fn keep_time_stamps_on() -> Result<()> {
    let socket = UdpSocket::bind("0.0.0.0:0").context("binding a socket")?;
    setsockopt(&socket, ReceiveTimestamp, &true).context("asking for time stamps")?;
    // Open for as long as the machine is.
    std::mem::forget(socket);
    Ok(())
}

/// Runs one of the guest's tools to its end.
pub(crate) fn run(program: &str, arguments: &[&str]) -> Result<()> {
    let act = || format!("{program} {}", arguments.join(" "));
    let output = Command::new(program)
        .args(arguments)
        .env("PATH", "/usr/sbin:/usr/bin")
        .output()
        .with_context(|| format!("starting {}", act()))?;
    ensure!(output.status.success(), "{}: {}", act(), String::from_utf8_lossy(&output.stderr).trim());
    Ok(())
}

/// The end of the machine. Returns only when the kernel refuses.
pub(crate) fn power_off() -> Result<()> {
    match reboot(RebootMode::RB_POWER_OFF) {
        Ok(never) => match never {},
        Err(why) => Err(why).context("powering off"),
    }
}
