//! `cargo xtask dist`: what a VPS without a toolchain installs. For each architecture a Debian package and a tarball, and
//! checksums of them all, under target/dist.

mod arch;
mod deb;
mod needs;
mod tree;

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
    time::{Instant, SystemTime},
};

use anyhow::{Context as _, Result, ensure};

pub(crate) use self::arch::Arch;
use crate::{
    build,
    env::{Env, Profile},
    next,
    process::{capture, run, run_quiet, say, time},
    setup,
};

/// Examples for `--help`.
pub(crate) const EXAMPLES: &str = "Examples:
  cargo xtask dist
  cargo xtask dist --arch arm64

On the VPS: apt install ./relay_VERSION_ARCH.deb";

/// What `dist` is told.
#[derive(clap::Args)]
pub(crate) struct Args {
    /// Architectures, by Debian's names; those that this host can build for unless given
    #[arg(long = "arch", value_name = "ARCH")]
    arches: Vec<Arch>,
}

/// The revision of the package that ordinary builds have.
const REVISION: u32 = 1;

/// What is packed, and for whom.
struct Product<'a> {
    arch: Arch,
    /// relay's own version.
    version: &'a str,
    /// The Debian revision: of two packages of one version the higher is the newer.
    revision: u32,
    binary: PathBuf,
    profile: Profile,
}

/// Builds relay for the architectures, and packs it.
pub(crate) fn run_verb(env: &Env, args: &Args) -> Result<()> {
    let begun = Instant::now();
    let arches = if args.arches.is_empty() { Arch::buildable()? } else { &args.arches };
    let out = env.target.join("dist");
    fs::create_dir_all(&out).with_context(|| format!("making {}", out.display()))?;
    setup::packing()?;
    let version = version(env)?;
    for &arch in arches {
        let binary = arch.build(env, Profile::Release)?;
        let product =
            Product { arch, version: &version, revision: REVISION, binary, profile: Profile::Release };
        let staged = tree::stage(env, &product, &out.join("stage"))?;
        let package = deb::pack(env, &product, &staged, &out)?;
        let tarball = tarball(env, &product, &staged, &out)?;
        say(format_args!("    {}\n    {}", package.display(), tarball.display()));
    }
    let stage = out.join("stage");
    fs::remove_dir_all(&stage).with_context(|| format!("removing {}", stage.display()))?;
    checksums(&out)?;
    say(format_args!("==> packages and SHA256SUMS are in {}, in {}", out.display(), time(begun.elapsed())));
    Ok(())
}

/// Packages that tests install: the host's, twice, the second one a newer package with another program in it; and
/// nothing else. Gives their folder.
pub(crate) fn for_tests(env: &Env) -> Result<PathBuf> {
    let binary = build::relay(env, Profile::Dev)?;
    let newer = next::relay(env, "next-program")?;
    let out = folder_for_tests(env);
    if out.exists() {
        fs::remove_dir_all(&out).with_context(|| format!("removing {}", out.display()))?;
    }
    for (revision, binary) in [(REVISION, binary), (REVISION + 1, newer)] {
        pack_for_tests(env, Arch::native()?, revision, binary, &out)?;
    }
    Ok(out)
}

/// The package of another architecture than the host's, for tests of it under QEMU.
pub(crate) fn foreign_for_tests(env: &Env) -> Result<PathBuf> {
    let arch = Arch::Arm64;
    let binary = arch.build(env, Profile::Foreign)?;
    pack_for_tests(env, arch, REVISION, binary, &folder_for_tests(env))
}

fn folder_for_tests(env: &Env) -> PathBuf {
    env.target.join("packages")
}

fn pack_for_tests(env: &Env, arch: Arch, revision: u32, binary: PathBuf, out: &Path) -> Result<PathBuf> {
    setup::packing()?;
    let version = version(env)?;
    let product = Product { arch, version: &version, revision, binary, profile: Profile::Dev };
    let stage = out.join("stage");
    let staged = tree::stage(env, &product, &stage)?;
    let package = deb::pack(env, &product, &staged, out)?;
    fs::remove_dir_all(&stage).with_context(|| format!("removing {}", stage.display()))?;
    Ok(package)
}

/// relay's version, by cargo.
fn version(env: &Env) -> Result<String> {
    let metadata = capture(env.cargo().args(["metadata", "--no-deps", "--format-version=1"]))?;
    let metadata: serde_json::Value = serde_json::from_str(&metadata).context("reading cargo metadata")?;
    let packages = metadata["packages"].as_array().context("cargo metadata names no packages")?;
    let relay = packages.iter().find(|package| package["name"] == "relay-user");
    let version = relay.and_then(|package| package["version"].as_str());
    Ok(version.context("cargo metadata does not know relay-user")?.to_owned())
}

/// The time that archives give their files (reproducible-builds.org): `SOURCE_DATE_EPOCH`, else that of the commit, else
/// now.
fn epoch(env: &Env) -> Result<String> {
    if let Ok(given) = std::env::var("SOURCE_DATE_EPOCH") {
        return Ok(given);
    }
    let mut commit = Command::new("git");
    commit.args(["log", "-1", "--format=%ct"]).current_dir(&env.root);
    if let Ok(text) = capture(&mut commit) {
        return Ok(text.trim().to_owned());
    }
    let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).context("the clock is before 1970")?;
    Ok(now.as_secs().to_string())
}

/// `relay-VERSION/bin` and `share`, as they may be copied to /usr/local; `relay install` makes the unit there.
fn tarball(env: &Env, product: &Product<'_>, staged: &Path, out: &Path) -> Result<PathBuf> {
    let name = format!("relay-{}-linux-{}.tar.gz", product.version, product.arch.debian());
    let mut command = Command::new("tar");
    command
        .args(["--create", "--use-compress-program=gzip -9n", "--sort=name", "--owner=0", "--group=0"])
        .args(["--numeric-owner", "--format=gnu", "--file"])
        .arg(out.join(&name))
        .arg(format!("--mtime=@{}", epoch(env)?))
        .arg(format!("--transform=s,^,relay-{}/,", product.version))
        .arg("--directory")
        .arg(staged.join("usr"))
        .args(["bin", "share"]);
    run_quiet(&format!("packing {name}"), &mut command)?;
    Ok(out.join(name))
}

/// SHA256SUMS of all packages and tarballs in the folder.
fn checksums(out: &Path) -> Result<()> {
    let act = || format!("looking into {}", out.display());
    let mut names = Vec::new();
    for entry in fs::read_dir(out).with_context(act)? {
        let name = entry.with_context(act)?.file_name().into_string().unwrap_or_default();
        if name.ends_with(".deb") || name.ends_with(".tar.gz") {
            names.push(name);
        }
    }
    names.sort();
    ensure!(!names.is_empty(), "nothing was packed");
    let sums = capture(Command::new("sha256sum").args(&names).current_dir(out))?;
    let path = out.join("SHA256SUMS");
    fs::write(&path, sums).with_context(|| format!("writing {}", path.display()))?;
    run("checking SHA256SUMS", Command::new("sha256sum").args(["--check", "SHA256SUMS"]).current_dir(out))
}
