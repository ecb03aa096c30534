//! The Debian package: its control file and scripts beside the files, packed by dpkg-deb.

use std::{
    fs,
    os::unix::fs::PermissionsExt as _,
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context as _, Result};

use super::{Product, epoch, needs};
use crate::{
    env::{Env, Profile},
    process::{capture, run_quiet},
};

/// What dpkg runs.
const SCRIPTS: [&str; 3] = ["postinst", "prerm", "postrm"];

/// Packs what is staged; gives the package.
pub(super) fn pack(env: &Env, product: &Product<'_>, staged: &Path, out: &Path) -> Result<PathBuf> {
    let control = staged.join("DEBIAN");
    let act = || format!("writing {}", control.display());
    fs::create_dir_all(&control).with_context(act)?;
    fs::set_permissions(&control, fs::Permissions::from_mode(0o755)).with_context(act)?;
    let needs = needs::packages(&product.binary)?;
    fs::write(control.join("control"), text(product, &needs, installed_size(staged)?)).with_context(act)?;
    fs::write(control.join("md5sums"), sums(staged)?).with_context(act)?;
    for name in SCRIPTS {
        let script = control.join(name);
        fs::copy(env.root.join("dist/debian").join(name), &script).with_context(act)?;
        fs::set_permissions(&script, fs::Permissions::from_mode(0o755)).with_context(act)?;
    }
    let name = format!("relay_{}-{}_{}.deb", product.version, product.revision, product.arch.debian());
    let package = out.join(&name);
    // Tests install their packages at once, also on emulated machines.
    let compression: &[&str] = match product.profile {
        Profile::Dev | Profile::Foreign => &["-Zgzip", "-z1"],
        Profile::Release => &["-Zxz"],
    };
    let mut command = Command::new("dpkg-deb");
    command.args(["--root-owner-group"]).args(compression).arg("--build").args([staged, &package]);
    run_quiet(&format!("packing {name}"), command.env("SOURCE_DATE_EPOCH", epoch(env)?))?;
    fs::remove_dir_all(&control).with_context(|| format!("removing {}", control.display()))?;
    Ok(package)
}

/// The control file (deb-control(5)).
fn text(product: &Product<'_>, needs: &[String], kilobytes: u64) -> String {
    // nft for relay's table, groupadd for the group whose members may ask.
    let depends =
        needs.iter().map(String::as_str).chain(["nftables", "passwd"]).collect::<Vec<_>>().join(", ");
    format!(
        "Package: relay
Version: {}-{}
Architecture: {}
Maintainer: The relay authors
Installed-Size: {kilobytes}
Depends: {depends}
Recommends: wireguard-tools
Section: net
Priority: optional
Description: way home for a house behind carrier-grade NAT
 relay configures kernel WireGuard on a machine with a public address from one
 file, and forwards between homes, phones and laptops in eBPF, past the IP
 stack, conntrack and firewall that such a packet does not need. Whatever is
 not plainly forwardable goes to the kernel, unchanged.
 .
 Its peers run stock WireGuard.
",
        product.version,
        product.revision,
        product.arch.debian()
    )
}

/// Kilobytes of the files, each rounded up, as dpkg-gencontrol counts them.
fn installed_size(path: &Path) -> Result<u64> {
    let act = || format!("looking at {}", path.display());
    if !path.is_dir() {
        return Ok(fs::metadata(path).with_context(act)?.len().div_ceil(1024));
    }
    let mut sum = 1;
    for entry in fs::read_dir(path).with_context(act)? {
        sum += installed_size(&entry.with_context(act)?.path())?;
    }
    Ok(sum)
}

/// What `dpkg --verify` holds the installed files against.
fn sums(staged: &Path) -> Result<String> {
    let mut find = Command::new("find");
    find.args(["usr", "-type", "f", "-exec", "md5sum", "{}", "+"]).current_dir(staged);
    let mut lines: Vec<_> = capture(&mut find)?.lines().map(str::to_owned).collect();
    lines.sort_by(|a, b| a.get(34..).cmp(&b.get(34..)));
    Ok(lines.join("\n") + "\n")
}

#[cfg(test)]
mod tests {
    use super::{super::Arch, *};

    #[test]
    fn the_control_file() {
        let product = Product {
            arch: Arch::Arm64,
            version: "1.2.3",
            revision: 4,
            binary: PathBuf::new(),
            profile: Profile::Release,
        };
        let text = text(&product, &["libc6 (>= 2.34)".to_owned()], 5);
        let field = |name: &str| text.lines().find_map(|line| line.strip_prefix(name));
        assert_eq!(field("Version: "), Some("1.2.3-4"));
        assert_eq!(field("Architecture: "), Some("arm64"));
        assert_eq!(field("Depends: "), Some("libc6 (>= 2.34), nftables, passwd"));
        assert!(text.lines().all(|line| line.len() <= 80 && !line.is_empty()), "{text}");
    }
}
