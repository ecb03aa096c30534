//! bpf-linker, built against the very LLVM of the compiler: one that reads another LLVM's bitcode fails late and
//! obscurely. The link `target/tools/llvm/lib/libLLVM.so` is both what it is built with and the record of it.

use std::{fs, os::unix::fs::symlink, path::PathBuf};

use anyhow::{Context as _, Result};

use super::{Toolchain, Voice, apt, packages};
use crate::{env::Env, process};

/// The bpf-linker whose features and LLVM range we know.
const VERSION: &str = "0.13.0";

/// Builds bpf-linker into `target/tools/bin`, unless the one there was built for this toolchain's LLVM.
pub(super) fn ensure(env: &Env, voice: Voice, toolchain: &Toolchain) -> Result<()> {
    let program = env.tools.join("bin/bpf-linker");
    let prefix = env.tools.join("llvm");
    let link = prefix.join("lib/libLLVM.so");
    if program.exists() && fs::read_link(&link).is_ok_and(|target| target == toolchain.libllvm) {
        voice.have(&format!("bpf-linker {VERSION} for LLVM {}", toolchain.llvm), "links the eBPF programs");
        return Ok(());
    }
    apt::ensure(voice, packages::LINKER)?;
    // The old one goes first, so that an interrupted build is not taken for a finished one.
    remove(&program)?;
    remove(&link)?;
    fs::create_dir_all(prefix.join("lib")).with_context(|| format!("creating {}", prefix.display()))?;
    symlink(&toolchain.libllvm, &link).with_context(|| format!("linking {}", link.display()))?;

    let mut install = env.cargo();
    install
        .args(["install", "--quiet", "--locked", "--force", "--no-track", "--no-default-features"])
        .args(["--features", &format!("llvm-{}", toolchain.llvm)])
        .arg("--root")
        .arg(&env.tools)
        .arg(format!("bpf-linker@{VERSION}"))
        .env("LLVM_PREFIX", &prefix)
        .env_remove("CARGO_TARGET_DIR");
    if !toolchain.debian {
        // rustup keeps its LLVM where the dynamic linker does not look.
        let folder = toolchain.libllvm.parent().context("libLLVM stands in no folder")?;
        install.env("RUSTFLAGS", format!("-Clink-arg=-Wl,-rpath,{}", folder.display()));
    }
    process::run_quiet(
        &format!("building bpf-linker {VERSION} for LLVM {} (about a minute, once)", toolchain.llvm),
        &mut install,
    )
}

fn remove(file: &PathBuf) -> Result<()> {
    match fs::remove_file(file) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
            Err(error).with_context(|| format!("removing {}", file.display()))
        }
        _ => Ok(()),
    }
}
