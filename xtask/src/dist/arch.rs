//! The architectures of VPSes and of homes, and how relay is built for one that is not the host's.

use std::path::PathBuf;

use anyhow::{Result, bail};
use clap::ValueEnum;

use crate::{
    bpf, build,
    env::{Env, Profile},
    process::run,
    setup,
};

/// An architecture, by Debian's name.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Arch {
    /// Most VPSes.
    Amd64,
    /// Ampere's VPSes, and a Raspberry Pi at home.
    Arm64,
}

impl Arch {
    /// Those that this host can build for: its own, and arm64 on amd64.
    pub(super) fn buildable() -> Result<&'static [Self]> {
        Ok(match Self::native()? {
            Self::Amd64 => &[Self::Amd64, Self::Arm64],
            Self::Arm64 => &[Self::Arm64],
        })
    }

    /// The host's.
    pub(super) fn native() -> Result<Self> {
        match std::env::consts::ARCH {
            "x86_64" => Ok(Self::Amd64),
            "aarch64" => Ok(Self::Arm64),
            other => bail!("packages are made for amd64 and arm64, and this machine is {other}"),
        }
    }

    /// Debian's name.
    pub(super) fn debian(self) -> &'static str {
        match self {
            Self::Amd64 => "amd64",
            Self::Arm64 => "arm64",
        }
    }

    /// The target triple of Rust.
    pub(super) fn triple(self) -> &'static str {
        match self {
            Self::Amd64 => "x86_64-unknown-linux-gnu",
            Self::Arm64 => setup::ARM64,
        }
    }

    /// The `strip` that knows its programs.
    pub(super) fn strip(self) -> Result<&'static str> {
        Ok(if self == Self::native()? { "strip" } else { self.tools()?.1 })
    }

    /// Compiler and `strip` of a host of the other architecture.
    fn tools(self) -> Result<(&'static str, &'static str)> {
        match self {
            Self::Amd64 => bail!("packages for amd64 are made on amd64"),
            Self::Arm64 => Ok(("aarch64-linux-gnu-gcc", "aarch64-linux-gnu-strip")),
        }
    }

    /// Builds relay for it; gives the binary. The eBPF object inside is the same for both, which have the same byte order
    /// and of which it names no register.
    pub(super) fn build(self, env: &Env, profile: Profile) -> Result<PathBuf> {
        if self == Self::native()? {
            return build::relay(env, profile);
        }
        let (compiler, _) = self.tools()?;
        setup::arm64(env)?;
        bpf::object(env)?;
        let built = env.target.join(self.triple()).join(profile.folder()).join("relay");
        let mut command = env.cargo();
        command
            .args(["build", "--package", "relay-user", "--bin", "relay", "--target", self.triple()])
            .args(["--profile", profile.name()])
            .env(format!("CARGO_TARGET_{}_LINKER", shouted(self.triple())), compiler)
            // For SQLite and ring, which are C and assembly.
            .env(format!("CC_{}", self.triple().replace('-', "_")), compiler)
            // It is built whole or not at all.
            .env("CARGO_INCREMENTAL", "0");
        let note = if built.exists() { "" } else { " (some minutes, once)" };
        run(&format!("building relay for {}{note}", self.debian()), &mut command)?;
        Ok(built)
    }
}

/// A triple as cargo's variables have it.
fn shouted(triple: &str) -> String {
    triple.replace('-', "_").to_uppercase()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_host_needs_no_other_tools() {
        let native = Arch::native().expect("an architecture that has packages");
        assert_eq!(native.strip().expect("a strip"), "strip");
        assert_eq!(shouted(Arch::Arm64.triple()), "AARCH64_UNKNOWN_LINUX_GNU");
    }
}
