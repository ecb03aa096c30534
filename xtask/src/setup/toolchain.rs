//! Which compiler builds the eBPF programs. They need a nightly's features, the sources of core, and an LLVM that a
//! bpf-linker can be built against; everything else in the workspace builds with plain stable.
//!
//! In order of preference: a rustup nightly that has rust-src (the ordinary way of aya's users), Debian's rustc-web
//! with rust-web-src; else one of the two is installed.

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context as _, Result, bail};

use super::{Voice, apt, packages};
use crate::process::{capture, find_program, run};

/// Debian's compiler. By path, since a rustup in `PATH` has a `rustc` too.
pub(super) const DEBIAN_RUSTC: &str = "/usr/bin/rustc";
/// Where Debian's compiler looks for the sources of core.
pub(super) const DEBIAN_CORE: &str = "/usr/lib/rustlib/src/rust/library/core/src/lib.rs";
/// The oldest compiler that our dependencies take (`rust-version` of the workspace).
const OLDEST: (u32, u32) = (1, 95);

/// A compiler that can build for BPF.
pub(crate) struct Toolchain {
    /// The compiler.
    pub(crate) rustc: PathBuf,
    /// Its own cargo, where it comes with one; else the cargo that runs us will do.
    pub(crate) cargo: Option<PathBuf>,
    /// LLVM's major version, which names bpf-linker's feature.
    pub(super) llvm: u32,
    /// The library that holds its LLVM; bpf-linker is built against this very file, so they match by construction.
    pub(super) libllvm: PathBuf,
    /// Whether it is Debian's, and its other parts come as packages.
    pub(super) debian: bool,
}

impl Toolchain {
    /// One line for people.
    pub(crate) fn describe(&self) -> String {
        format!("{} (LLVM {})", self.rustc.display(), self.llvm)
    }

    /// Its `cargo-clippy`, when it is installed.
    pub(super) fn clippy(&self) -> Option<PathBuf> {
        let clippy = self.rustc.with_file_name("cargo-clippy");
        (clippy.exists() && self.rustc.with_file_name("clippy-driver").exists()).then_some(clippy)
    }
}

/// Finds a toolchain, or installs one.
pub(super) fn ensure(voice: Voice) -> Result<Toolchain> {
    if let Some(found) = find()? {
        voice.have(&found.describe(), "compiles the eBPF programs");
        return Ok(found);
    }
    install()?;
    find()?.context("a compiler for the eBPF programs was installed, yet none is found")
}

fn find() -> Result<Option<Toolchain>> {
    match rustup_nightly()? {
        Some(found) => Ok(Some(found)),
        None => debian(),
    }
}

fn rustup_nightly() -> Result<Option<Toolchain>> {
    let Some(rustup) = find_program("rustup") else { return Ok(None) };
    // Fails when there is no nightly, which is an answer.
    let Ok(rustc) = capture(Command::new(rustup).args(["which", "--toolchain", "nightly", "rustc"])) else {
        return Ok(None);
    };
    let rustc = PathBuf::from(rustc.trim());
    let Some(sysroot) = rustc.ancestors().nth(2) else { return Ok(None) };
    if !sysroot.join("lib/rustlib/src/rust/library/core/src/lib.rs").exists() {
        return Ok(None);
    }
    let Some(version) = version(&rustc)? else { return Ok(None) };
    let Some(libllvm) = library(&sysroot.join("lib"), version.llvm) else { return Ok(None) };
    let cargo = Some(rustc.with_file_name("cargo")).filter(|cargo| cargo.exists());
    Ok(Some(Toolchain { rustc, cargo, llvm: version.llvm, libllvm, debian: false }))
}

fn debian() -> Result<Option<Toolchain>> {
    let rustc = PathBuf::from(DEBIAN_RUSTC);
    if !rustc.exists() || !Path::new(DEBIAN_CORE).exists() {
        return Ok(None);
    }
    let Some(version) = version(&rustc)? else { return Ok(None) };
    let folder = format!("/usr/lib/{}-linux-gnu", std::env::consts::ARCH);
    let Some(libllvm) = library(Path::new(&folder), version.llvm) else { return Ok(None) };
    Ok(Some(Toolchain { rustc, cargo: None, llvm: version.llvm, libllvm, debian: true }))
}

/// The shared library of that LLVM in a folder: `libLLVM.so.22.1`, or with rustup's suffix.
fn library(folder: &Path, llvm: u32) -> Option<PathBuf> {
    let prefix = format!("libLLVM.so.{llvm}.");
    fs::read_dir(folder)
        .ok()?
        .filter_map(Result::ok)
        .find(|entry| entry.file_name().to_string_lossy().starts_with(&prefix))
        .map(|entry| entry.path())
}

struct Version {
    llvm: u32,
}

/// What a compiler says of itself; `None` when it is too old for our dependencies.
fn version(rustc: &Path) -> Result<Option<Version>> {
    let text = capture(Command::new(rustc).arg("-vV").env_remove("RUSTUP_TOOLCHAIN"))?;
    let (release, llvm) = parse_version(&text)
        .with_context(|| format!("{} -vV says neither release nor LLVM version: {text}", rustc.display()))?;
    Ok((release >= OLDEST).then_some(Version { llvm }))
}

fn parse_version(text: &str) -> Option<((u32, u32), u32)> {
    let field = |name: &str| text.lines().find_map(|line| line.strip_prefix(name));
    let release = major_minor(field("release: ")?)?;
    let llvm = field("LLVM version: ")?.split('.').next()?.parse().ok()?;
    Some((release, llvm))
}

/// `1.96.0+dfsg1-1` → (1, 96).
fn major_minor(version: &str) -> Option<(u32, u32)> {
    let mut parts = version.split('.');
    Some((parts.next()?.parse().ok()?, parts.next()?.parse().ok()?))
}

fn install() -> Result<()> {
    let offered = apt::candidate("rustc-web").and_then(|version| major_minor(&version));
    if offered.is_some_and(|version| version >= OLDEST) {
        match apt::ensure(Voice::Changes, packages::COMPILER) {
            Ok(()) => return Ok(()),
            Err(error) => crate::process::say(format_args!("    {error:#}\n    trying rustup instead")),
        }
    }
    if let Some(rustup) = find_program("rustup") {
        return run(
            "installing a nightly with the sources of core by rustup (about a minute, once)",
            Command::new(rustup).args(RUSTUP_ARGS),
        )
        .context(HOW_TO);
    }
    bail!("{HOW_TO}")
}

const RUSTUP_ARGS: [&str; 7] =
    ["toolchain", "install", "nightly", "--profile", "minimal", "--component", "rust-src,clippy"];

const HOW_TO: &str = "there is no compiler for the eBPF programs; either of these gives one:
  rustup toolchain install nightly --profile minimal --component rust-src,clippy
  apt-get install --no-install-recommends rustc-web rust-web-src   (Debian 12 and later, security updates included)";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_are_read() {
        let text = "rustc 1.96.0 (built from a source tarball)\nbinary: rustc\nrelease: 1.96.0\nLLVM version: 22.1.8\n";
        assert_eq!(parse_version(text), Some(((1, 96), 22)));
        assert_eq!(parse_version("release: 1.97.0-nightly\nLLVM version: 22.1.4"), Some(((1, 97), 22)));
        assert_eq!(parse_version("release: 1.97.0"), None);
        assert_eq!(major_minor("1.85.0+dfsg3-1~deb12u3"), Some((1, 85)));
    }
}
