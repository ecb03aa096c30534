//! A disk with Debian on it, as a VPS is given: made by debootstrap, once, and kept under target/vm/cache.
//!
//! Beside Debian's own files it holds the modules of its kernel, which is booted from outside, and the mark by which tests
//! know a guest.

use std::collections::hash_map::DefaultHasher;
use std::fs;
use std::hash::{Hash as _, Hasher as _};
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context as _, Result};

use super::kernel::Kernel;
use crate::process::{as_root, capture, root_is_possible, run_quiet};

/// A release of Debian, and its own kernel.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Release {
    pub(super) codename: &'static str,
    pub(super) name: &'static str,
    /// The kernel line.
    pub(super) kernel: &'static str,
}

const BOOKWORM: Release = Release { codename: "bookworm", name: "Debian 12", kernel: "6.1" };
const TRIXIE: Release = Release { codename: "trixie", name: "Debian 13", kernel: "6.12" };

impl Release {
    /// The one that runs what this host builds: programs ask for the glibc they were built with, or a newer one.
    pub(super) fn for_host() -> Result<Self> {
        let file = "/etc/os-release";
        let text = fs::read_to_string(file).with_context(|| format!("reading {file}"))?;
        let is_bookworm = text.lines().any(|line| line == "VERSION_CODENAME=bookworm");
        Ok(if is_bookworm { BOOKWORM } else { TRIXIE })
    }
}

/// What a VPS has beside Debian's minimum, and what tests do there.
const PACKAGES: [&str; 10] = [
    "curl",
    "dbus",
    "iproute2",
    "iputils-ping",
    "kmod",
    "nftables",
    "procps",
    "systemd-sysv",
    "udev",
    "wireguard-tools",
];

/// Where Debian is fetched from unless the host's apt knows better.
const MIRROR: &str = "http://deb.debian.org/debian";

/// What root has to do: files of a Debian belong to several users.
const MAKE: &str = r#"set -eu
umask 022
trap 'rm -rf "$STAGE"' EXIT
rm -rf "$STAGE"
debootstrap --variant=minbase --include="$PACKAGES" "$CODENAME" "$STAGE" "$MIRROR"
mkdir -p "$STAGE/usr/lib/modules"
cp -r --no-preserve=ownership "$MODULES" "$STAGE/usr/lib/modules/"
echo vps > "$STAGE/etc/hostname"
echo "$LINE" > "$STAGE/etc/relay-vm-guest"
rm -f "$STAGE/etc/resolv.conf" "$STAGE"/var/cache/apt/archives/*.deb
mke2fs -q -t ext4 -d "$STAGE" "$IMAGE.partial" 1G
chmod 0644 "$IMAGE.partial"
mv "$IMAGE.partial" "$IMAGE""#;

/// The image for that release with that kernel.
pub(super) fn image(release: Release, kernel: &Kernel, cache: &Path) -> Result<PathBuf> {
    let folder = cache.join("cache");
    fs::create_dir_all(&folder).with_context(|| format!("making {}", folder.display()))?;
    let mut hasher = DefaultHasher::new();
    (MAKE, PACKAGES, &kernel.release).hash(&mut hasher);
    let image = folder.join(format!("{}-{:016x}.ext4", release.codename, hasher.finish()));
    if image.is_file() {
        return Ok(image);
    }
    root_is_possible("debootstrap")?;
    let (stage, packages, mirror, proxy) =
        (image.with_extension("stage"), PACKAGES.join(","), mirror(), proxy());
    let mut sets = vec![
        ("CODENAME", release.codename.as_ref()),
        ("IMAGE", image.as_os_str()),
        ("LINE", kernel.line.as_ref()),
        ("MIRROR", mirror.as_ref()),
        ("MODULES", kernel.modules.as_os_str()),
        ("PACKAGES", packages.as_ref()),
        ("STAGE", stage.as_os_str()),
    ];
    sets.extend(proxy.as_ref().map(|proxy| ("http_proxy", proxy.as_ref())));
    let mut make = as_root(Path::new("sh"), &sets)?;
    let what = format!("making a disk of {} by debootstrap (a minute or two, once)", release.name);
    run_quiet(&what, make.args(["-c", MAKE]))?;
    Ok(image)
}

/// A copy of the image to write to, in place of the last one.
pub(super) fn copy(image: &Path, to: &Path) -> Result<()> {
    capture(Command::new("cp").args(["--sparse=always", "--reflink=auto"]).args([image, to])).map(drop)
}

/// The mirror that the host's apt has Debian from.
fn mirror() -> String {
    let mut targets = Command::new("apt-get");
    targets.args(["indextargets", "--format", "$(ORIGIN) $(COMPONENT) $(SITE)", "Created-By: Packages"]);
    let known = capture(&mut targets).ok().and_then(|text| mirror_in(&text));
    known.unwrap_or_else(|| MIRROR.to_owned())
}

/// The first that has all of Debian. Security updates have a place of their own.
fn mirror_in(targets: &str) -> Option<String> {
    let sites = targets.lines().filter_map(|line| line.strip_prefix("Debian main "));
    sites.filter(|site| site.starts_with("http") && !site.contains("security")).map(str::to_owned).next()
}

/// The proxy that the host's apt asks, if any.
fn proxy() -> Option<String> {
    let mut dump = Command::new("apt-config");
    dump.args(["dump", "--no-empty", "--format", "%v%n", "Acquire::http::Proxy"]);
    let text = capture(&mut dump).ok()?;
    text.lines().find(|proxy| proxy.starts_with("http")).map(str::to_owned)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_mirror_is_debians_own() {
        let targets = "other main http://example.org/debian\n\
                       Debian main http://deb.debian.org/debian-security\n\
                       Debian main http://mirror.example/debian\nDebian contrib http://x/debian\n";
        assert_eq!(mirror_in(targets).as_deref(), Some("http://mirror.example/debian"));
        assert_eq!(mirror_in("Ubuntu main http://archive.ubuntu.com/ubuntu\n"), None);
    }
}
