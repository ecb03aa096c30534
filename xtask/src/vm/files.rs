//! Which files of the host make a small Debian in the guest: tools, their libraries, and modules of its kernel.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context as _, Result, bail};

use super::cpio::{Entry, Tree};
use super::kernel::Kernel;
use crate::process::{capture, find_program};

/// Packages of Debian whose programs every machine has; tests use them without thinking.
const EVERYDAY: [&str; 14] = [
    "bash",
    "coreutils",
    "dash",
    "diffutils",
    "findutils",
    "grep",
    "hostname",
    "iproute2",
    "kmod",
    "mount",
    "procps",
    "sed",
    "tar",
    "util-linux",
];

/// Without one of these no test can run. `cargo xtask setup` installs the packages that have them.
const NEEDED: [&str; 26] = [
    "busybox",
    "conntrack",
    "curl",
    "ethtool",
    "getent",
    "groupadd",
    "groupdel",
    "ip6tables",
    "ip6tables-legacy",
    "ip6tables-restore",
    "ip6tables-save",
    "iperf3",
    "iptables",
    "iptables-legacy",
    "iptables-legacy-save",
    "iptables-restore",
    "iptables-save",
    "journalctl",
    "ldconfig",
    "nft",
    "sh",
    "strace",
    "systemctl",
    "wg",
    "wg-quick",
    "wireguard-go",
];

/// Taken along where the host has them: other peers, and what makes a broken guest easier to read. A test that
/// needs one of them says so itself.
const WELCOME: [&str; 10] = [
    "awk",
    "boringtun-cli",
    "bpftool",
    "capsh",
    "ip6tables-legacy-save",
    "ip6tables-nft",
    "iptables-nft",
    "nc",
    "ping",
    "tcpdump",
];

/// Folders that tools load from by name at run time, and the few files of /etc they read. Of systemd what a machine of
/// the laboratory starts.
const DATA: [&str; 9] = [
    "/usr/lib/x86_64-linux-gnu/xtables",
    "/usr/lib/tc",
    "/etc/iproute2",
    "/etc/protocols",
    "/etc/services",
    "/etc/ethertypes",
    "/usr/lib/systemd/system",
    "/usr/lib/systemd/systemd",
    "/usr/lib/systemd/systemd-journald",
];

/// Where the modules live that relay and its tests meet; what they depend on comes along.
pub(super) const MODULES: [&str; 22] = [
    "kernel/drivers/char/virtio_console.ko",
    "kernel/drivers/net/bonding/",
    "kernel/drivers/net/dummy.ko",
    "kernel/drivers/net/ifb.ko",
    "kernel/drivers/net/macvlan.ko",
    "kernel/drivers/net/tun.ko",
    "kernel/drivers/net/veth.ko",
    "kernel/drivers/net/vrf.ko",
    "kernel/drivers/net/vxlan/",
    "kernel/drivers/net/wireguard/",
    "kernel/drivers/virtio/",
    "kernel/fs/overlayfs/",
    "kernel/net/8021q/",
    "kernel/net/bridge/",
    "kernel/net/core/",
    "kernel/net/ipv4/",
    "kernel/net/ipv6/",
    "kernel/net/netfilter/",
    "kernel/net/packet/",
    "kernel/net/sched/",
    "kernel/net/unix/",
    "kernel/drivers/block/loop.ko",
];

/// The tools and what they need, on the merged-/usr layout of Debian.
pub(crate) fn tools() -> Result<Tree> {
    let mut tree = Tree::default();
    for folder in ["/dev", "/proc", "/root", "/run", "/sys", "/tmp", "/var/lib", "/var/tmp", "/mnt"] {
        tree.put(folder, Entry::Directory);
    }
    for (link, to) in
        [("/bin", "usr/bin"), ("/sbin", "usr/sbin"), ("/lib", "usr/lib"), ("/lib64", "usr/lib64")]
    {
        tree.put(link, Entry::Link(to.into()));
    }
    tree.put("/var/run", Entry::Link("/run".into()));
    // The kernel opens it for PID 1 before anything could mount /dev.
    tree.put("/dev/console", Entry::Device(5, 1));
    tree.put(
        "/etc/passwd",
        Entry::Text("root:x:0:0:root:/root:/bin/sh\nnobody:x:65534:65534::/:/bin/sh\n".into()),
    );
    tree.put("/etc/group", Entry::Text("root:x:0:\nnogroup:x:65534:\n".into()));
    tree.put("/etc/hosts", Entry::Text("127.0.0.1 localhost\n::1 localhost\n".into()));
    tree.put("/etc/nsswitch.conf", Entry::Text("passwd: files\ngroup: files\nhosts: files dns\n".into()));

    let mut missing = Vec::new();
    for name in NEEDED {
        match find_program(name) {
            Some(path) => add(&mut tree, &path)?,
            None => missing.push(name),
        }
    }
    if !missing.is_empty() {
        bail!(
            "the guest needs tools that are not here: {} (`cargo xtask setup` installs them)",
            missing.join(", ")
        );
    }
    for package in EVERYDAY {
        add_package(&mut tree, package)?;
    }
    for path in WELCOME.iter().filter_map(|name| find_program(name)) {
        add(&mut tree, &path)?;
    }
    for path in DATA.iter().map(Path::new).filter(|path| path.exists()) {
        add_all(&mut tree, path)?;
    }
    add_applets(&mut tree)?;
    Ok(tree)
}

/// The programs of an installed package.
fn add_package(tree: &mut Tree, package: &str) -> Result<()> {
    let list = capture(Command::new("dpkg").args(["-L", package]))?;
    let programs = list.lines().map(Path::new).filter(|path| {
        let folder = path.parent().and_then(Path::to_str).unwrap_or_default();
        ["/bin", "/sbin", "/usr/bin", "/usr/sbin"].contains(&folder) && path.is_file()
    });
    programs.into_iter().try_for_each(|path| add(tree, path))
}

/// A link to busybox for each of its applets that no real tool stands for.
fn add_applets(tree: &mut Tree) -> Result<()> {
    for applet in capture(Command::new("busybox").arg("--list"))?.lines() {
        let known = ["/usr/bin", "/usr/sbin"].iter().any(|folder| tree.has(&Path::new(folder).join(applet)));
        if !known {
            tree.put(Path::new("/usr/bin").join(applet), Entry::Link("busybox".into()));
        }
    }
    Ok(())
}

/// Everything below a folder, or the one file.
pub(crate) fn add_all(tree: &mut Tree, path: &Path) -> Result<()> {
    if !path.is_dir() {
        return add(tree, path);
    }
    let act = || format!("reading {}", path.display());
    for entry in fs::read_dir(path).with_context(act)? {
        add_all(tree, &entry.with_context(act)?.path())?;
    }
    Ok(())
}

/// One file of the host at its own path: through all its links, with its libraries or its interpreter.
pub(crate) fn add(tree: &mut Tree, path: &Path) -> Result<()> {
    let act = || format!("taking {} into the guest", path.display());
    let folder = path.parent().with_context(act)?.canonicalize().with_context(act)?;
    let path = folder.join(path.file_name().with_context(act)?);
    if tree.has(&path) {
        return Ok(());
    }
    if let Ok(to) = fs::read_link(&path) {
        tree.put(&path, Entry::Link(to.clone()));
        return add(tree, &folder.join(to));
    }
    tree.put(&path, Entry::Copy(path.clone()));
    for needed in needs(&path)? {
        add(tree, &needed)?;
    }
    Ok(())
}

/// What a program needs to start: a script its interpreter, an ELF file its libraries.
pub(crate) fn needs(path: &Path) -> Result<Vec<PathBuf>> {
    let mut start = [0; 256];
    let length = {
        use std::io::Read as _;
        let mut file = fs::File::open(path).with_context(|| format!("opening {}", path.display()))?;
        file.read(&mut start).with_context(|| format!("reading {}", path.display()))?
    };
    let start = &start[..length];
    if let Some(line) = start.strip_prefix(b"#!") {
        let line = String::from_utf8_lossy(line);
        let interpreter = line.split_whitespace().next().context("a script without interpreter")?;
        return Ok(vec![interpreter.into()]);
    }
    if !start.starts_with(b"\x7fELF") {
        return Ok(Vec::new());
    }
    // A library that a program finds in a folder of its own may need another one of that folder. ldd fails on static
    // programs: those need nothing.
    let beside = path.parent().unwrap_or(path);
    let Ok(listing) = capture(Command::new("ldd").arg(path).env("LD_LIBRARY_PATH", beside)) else {
        return Ok(Vec::new());
    };
    libraries(&listing).with_context(|| format!("libraries of {}", path.display()))
}

/// Reads the paths from what ldd printed.
fn libraries(listing: &str) -> Result<Vec<PathBuf>> {
    let mut paths = Vec::new();
    for line in listing.lines().map(str::trim) {
        if line.ends_with("=> not found") {
            bail!("{line}");
        }
        let path = line.split_once(" => ").map_or(line, |(_, path)| path);
        let path = path.split(" (").next().unwrap_or(path);
        if path.starts_with('/') {
            paths.push(PathBuf::from(path));
        }
    }
    Ok(paths)
}

/// The modules that are `chosen` by the beginnings of their paths, and all they depend on, unpacked below `staging` and listed by depmod.
///
/// Unpacked because an emulated machine takes longer over it than the host does.
pub(crate) fn modules(kernel: &Kernel, chosen: &[&str], staging: &Path) -> Result<Tree> {
    let base = format!("lib/modules/{}", kernel.release);
    let folder = staging.join(&base);
    let list = kernel.modules.join("modules.dep");
    let text = fs::read_to_string(&list).with_context(|| format!("reading {}", list.display()))?;
    for module in wanted(&text, chosen) {
        let to = folder.join(&module);
        let parent = to.parent().context("a module at the root")?;
        fs::create_dir_all(parent).with_context(|| format!("making {}", parent.display()))?;
        let from = kernel.modules.join(&module);
        fs::copy(&from, &to).with_context(|| format!("copying {}", from.display()))?;
        if to.extension().is_some_and(|e| e == "xz") {
            capture(Command::new("xz").args(["--decompress", "--force"]).arg(&to))?;
        }
    }
    for name in ["modules.builtin", "modules.builtin.modinfo", "modules.order"] {
        let from = kernel.modules.join(name);
        fs::copy(&from, folder.join(name)).with_context(|| format!("copying {}", from.display()))?;
    }
    let depmod = find_program("depmod").context("no depmod here; Debian has it in kmod")?;
    capture(Command::new(depmod).arg("-b").arg(staging).arg(&kernel.release))?;

    let mut tree = Tree::default();
    take(&mut tree, &folder, &Path::new("/usr").join(&base))?;
    Ok(tree)
}

/// Copies of all files below `from`, at `to` in the guest.
fn take(tree: &mut Tree, from: &Path, to: &Path) -> Result<()> {
    let act = || format!("reading {}", from.display());
    for entry in fs::read_dir(from).with_context(act)? {
        let entry = entry.with_context(act)?;
        let (path, to) = (entry.path(), to.join(entry.file_name()));
        if path.is_dir() {
            take(tree, &path, &to)?;
        } else {
            tree.put(to, Entry::Copy(path));
        }
    }
    Ok(())
}

/// The wanted modules and their dependencies, from the text of modules.dep ("a.ko: b.ko c.ko", the latter whole).
fn wanted(dependencies: &str, chosen: &[&str]) -> BTreeSet<String> {
    let mut set = BTreeSet::new();
    for line in dependencies.lines() {
        let Some((module, needs)) = line.split_once(':') else { continue };
        if chosen.iter().any(|prefix| module.starts_with(prefix)) {
            set.insert(module.to_owned());
            set.extend(needs.split_whitespace().map(str::to_owned));
        }
    }
    set
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn libraries_are_the_paths_and_a_missing_one_is_an_error() {
        let listing = "\tlinux-vdso.so.1 (0x00007ffd)\n\tlibc.so.6 => /lib/x86_64-linux-gnu/libc.so.6 (0x00007f)\n\
                       \t/lib64/ld-linux-x86-64.so.2 (0x00007f)\n";
        assert_eq!(
            libraries(listing).unwrap(),
            [Path::new("/lib/x86_64-linux-gnu/libc.so.6"), Path::new("/lib64/ld-linux-x86-64.so.2")]
        );
        assert!(libraries("\tlibnl.so.3 => not found\n").is_err());
    }

    #[test]
    fn modules_bring_what_they_depend_on_and_no_others() {
        let list = "kernel/drivers/net/wireguard/wireguard.ko.xz: kernel/net/ipv4/udp_tunnel.ko.xz kernel/lib/x.ko.xz\n\
                    kernel/drivers/hid/hid.ko:\n";
        let set: Vec<_> = wanted(list, &MODULES).into_iter().collect();
        assert_eq!(
            set,
            [
                "kernel/drivers/net/wireguard/wireguard.ko.xz",
                "kernel/lib/x.ko.xz",
                "kernel/net/ipv4/udp_tunnel.ko.xz"
            ]
        );
    }
}
