//! relay's life on a VPS: a Debian that boots from a disk, with systemd as PID 1, and boots again.
//!
//! The machine is booted once for each of [`BOOTS`], with what its last boot left on the disk. A small initramfs
//! mounts the disk and puts what is ours into /run: a unit of systemd that runs guest-init, which runs one test and then
//! lets the machine go down.

use std::fs;
use std::path::Path;
use std::time::Duration;

use anyhow::{Context as _, Result};
use serde_json::{Value, json};

use super::console::judge;
use super::cpio::{Entry, Tree};
use super::disk::{self, Release};
use super::kernel::Kernel;
use super::machine::{self, Boot, Patience};
use super::programs::Programs;
use super::qemu::Qemu;
use super::{ENDING, Outcome, Report, SILENCE, announce, files, initramfs};
use crate::env::Env;
use crate::process::{find_program, say};

/// The test of each boot, and how the machine goes down after it.
const BOOTS: [(&str, &str); 2] = [("first_boot", "reboot"), ("second_boot", "poweroff")];

/// Longest that one boot may take: eight times what it takes a host that has time for it.
const OVERALL: Duration = Duration::from_secs(20 * 60);
/// What the test may take of that, in seconds.
const TEST_SECONDS: u64 = 15 * 60;

/// What mounts the disk.
const MODULES: [&str; 3] =
    ["kernel/drivers/block/virtio_blk.ko", "kernel/drivers/virtio/virtio_pci.ko", "kernel/fs/ext4/ext4.ko"];

/// Where what is ours is in the booted machine; the initramfs has it below [`BROUGHT`] instead.
const RUN: &str = "/run";
const BROUGHT: &str = "/laboratory";

/// Runs the test program once the machine is up as after any boot.
const UNIT: &str = "[Unit]
Description=the laboratory
After=multi-user.target

[Service]
ExecStart=/run/relay-vm/guest-init /run/relay-vm/plan.json
StandardOutput=tty
StandardError=tty
TTYPath=/dev/console
";

/// The network as a VPS has it. The device comes with the laboratory's world. systemd-networkd would take routes away and
/// add them again when it starts anew; that gap is not relay's.
const UPLINK: &str = "[Match]
Name=uplink

[Network]
KeepConfiguration=static
IPv6AcceptRA=no
Address=198.51.100.2/24
Gateway=198.51.100.1
Address=2001:db8:51::2/64
Gateway=2001:db8:51::1
";

/// Boots the machine for each test, until one fails. An error means that something could not be tried.
pub(crate) fn run(env: &Env, accelerator: &str, programs: &Programs, packages: &Path) -> Result<Outcome> {
    let cache = env.target.join("vm");
    let release = Release::for_host()?;
    let kernel = Kernel::fetch(release.kernel, &cache.join("kernels"))?;
    say(format_args!("    {}, kernel {}", release.name, kernel.release));
    let qemu = Qemu::find(&cache.join("qemu"))?;
    let image = disk::image(release, &kernel, &cache)?;
    let (run, logs) = (cache.join("run"), cache.join("logs"));
    for folder in [&run, &logs] {
        fs::create_dir_all(folder).with_context(|| format!("making {}", folder.display()))?;
    }
    let (disk, initrd) = (run.join("booted.ext4"), run.join("booted.cpio"));
    disk::copy(&image, &disk)?;
    let mut tree = tree(env, &kernel, programs, packages)?;

    let mut reports = Vec::new();
    for (number, (test, down)) in BOOTS.into_iter().enumerate() {
        let name = format!("boot {}", number + 1);
        let plan = Entry::Text(plan(programs, test, down).to_string());
        tree.put(Path::new(BROUGHT).join("relay-vm/plan.json"), plan);
        initramfs::write(&tree, &initrd)?;
        let log = logs.join(format!("boot-{}.log", number + 1));
        // With one processor, as the smallest VPSes have, no other one runs into code that is being patched.
        let machine = Boot {
            qemu: &qemu,
            image: &kernel.image,
            initrd: &initrd,
            disk: Some(&disk),
            processors: 1,
            counting: false,
            accelerator,
        };
        let patience = Patience { overall: OVERALL, silence: SILENCE, ending: ENDING };
        let run = machine::run(&machine, &log, patience, |_| {}, |result| announce(&name, result))?;
        let why = run.trouble.clone().or(judge(programs.jobs.len(), &run.results, run.end).err());
        let failed = why.is_some();
        reports.push(Report::new(&name, &kernel.release, &run, why, log));
        if failed {
            // The disk stays for whoever wants to look.
            return Ok(Outcome { reports });
        }
    }
    fs::remove_file(&disk).with_context(|| format!("removing {}", disk.display()))?;
    Ok(Outcome { reports })
}

/// What the initramfs holds, but for the plan.
fn tree(env: &Env, kernel: &Kernel, programs: &Programs, packages: &Path) -> Result<Tree> {
    let cache = env.target.join("vm");
    let staging = cache.join("cache").join(format!("disk-modules-{}", kernel.release));
    let mut tree = files::modules(kernel, &MODULES, &staging)?;
    tree.put("/lib", Entry::Link("usr/lib".into()));
    for folder in ["/dev", "/disk", "/proc", RUN] {
        tree.put(folder, Entry::Directory);
    }
    // The kernel opens it for PID 1 before anything could mount /dev.
    tree.put("/dev/console", Entry::Device(5, 1));
    let busybox = find_program("busybox").context("no busybox here; Debian has it in busybox-static")?;
    tree.put("/bin/busybox", Entry::Copy(busybox));
    tree.put("/init", Entry::Copy(env.root.join("xtask/src/vm/booted-init")));

    let ours = Path::new(BROUGHT).join("relay-vm");
    tree.put(ours.join("guest-init"), Entry::Copy(initramfs::stripped(&cache, &programs.init)?));
    for job in &programs.jobs {
        tree.put(ours.join(&job.name), Entry::Copy(initramfs::stripped(&cache, &job.path)?));
    }
    let act = || format!("looking for packages in {}", packages.display());
    for package in fs::read_dir(packages).with_context(act)? {
        let package = package.with_context(act)?;
        // Those of the other architecture stay where they are.
        if package.file_name().to_str().is_some_and(|name| name.ends_with("_amd64.deb")) {
            tree.put(ours.join(package.file_name()), Entry::Copy(package.path()));
        }
    }

    let systemd = Path::new(BROUGHT).join("systemd");
    let units = systemd.join("system");
    let wants = units.join("multi-user.target.wants");
    tree.put(systemd.join("network/20-uplink.network"), Entry::Text(UPLINK.into()));
    tree.put(
        wants.join("systemd-networkd.service"),
        Entry::Link("/usr/lib/systemd/system/systemd-networkd.service".into()),
    );
    tree.put(units.join("laboratory.service"), Entry::Text(UNIT.into()));
    tree.put(wants.join("laboratory.service"), Entry::Link("../laboratory.service".into()));
    // One would ask for a name where results are told, the others change the disk twice a day.
    for unit in ["serial-getty@ttyS0.service", "apt-daily.timer", "apt-daily-upgrade.timer"] {
        tree.put(units.join(unit), Entry::Link("/dev/null".into()));
    }
    Ok(tree)
}

/// What guest-init reads: one test, and how the machine goes down after it.
fn plan(programs: &Programs, test: &str, down: &str) -> Value {
    let ours = Path::new(RUN).join("relay-vm");
    let mut arguments = initramfs::LIBTEST.to_vec();
    arguments.extend(["--exact", test]);
    let jobs = programs.jobs.iter().map(|job| {
        json!({
            "name": job.name,
            "path": ours.join(&job.name),
            "speaks": "libtest",
            "arguments": arguments,
            "folder": ours,
            "seconds": TEST_SECONDS,
        })
    });
    let jobs: Vec<_> = jobs.collect();
    json!({
        "programs": jobs,
        "empty_is_failure": true,
        "down": down,
        "environment": {
            "HOME": "/root",
            "PATH": "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin",
            "RELAY_PACKAGES": ours,
            "RUSTC_BOOTSTRAP": "1",
            "RUST_BACKTRACE": "1",
            "TMPDIR": "/tmp",
        },
    })
}
