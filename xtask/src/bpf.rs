//! The eBPF object: cargo for the BPF target, and a copy where relay-user's build script looks for it.

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context as _, Result};

use crate::{
    env::Env,
    process::{self, capture, run},
    setup::{self, Toolchain},
};

/// The BPF target with the host's byte order.
pub(crate) const TARGET: &str =
    if cfg!(target_endian = "big") { "bpfeb-unknown-none" } else { "bpfel-unknown-none" };

/// The packages that are built for BPF: what relay loads, and what its benchmarks do.
pub(crate) const RELAY: &str = "relay-ebpf";
pub(crate) const BENCH: &str = "relay-bench-ebpf";

/// Builds the programs to `relay.bpf.o`, with the toolchain made ready first.
pub(crate) fn object(env: &Env) -> Result<()> {
    let toolchain = setup::ebpf(env)?;
    build(env, &toolchain, RELAY, &[], &env.bpf.join("relay.bpf.o"))
}

/// Builds what the benchmarks need inside the kernel, `bench.bpf.o`.
pub(crate) fn bench(env: &Env) -> Result<()> {
    let toolchain = setup::ebpf(env)?;
    build(env, &toolchain, BENCH, &[], &env.bpf.join("bench.bpf.o"))
}

/// Builds one object for each seeded fault, `mutants/<name>.bpf.o`; gives their names.
pub(crate) fn mutants(env: &Env) -> Result<Vec<String>> {
    let toolchain = setup::ebpf(env)?;
    let features =
        mutant_features(&capture(env.cargo().args(["metadata", "--no-deps", "--format-version=1"]))?)?;
    let folder = env.bpf.join("mutants");
    forget_others(&folder, &features)?;
    for feature in &features {
        build(env, &toolchain, RELAY, &["--features", feature], &folder.join(format!("{feature}.bpf.o")))?;
    }
    Ok(features)
}

/// Builds the object of a relay that tests upgrade to, `<feature>.bpf.o`.
pub(crate) fn next(env: &Env, feature: &str) -> Result<()> {
    let toolchain = setup::ebpf(env)?;
    build(env, &toolchain, RELAY, &["--features", feature], &env.bpf.join(format!("{feature}.bpf.o")))
}

/// A cargo command for the BPF target. The sources of core are built along; `RUSTC_BOOTSTRAP` lets a compiler that is
/// not called nightly do that.
pub(crate) fn cargo(env: &Env, toolchain: &Toolchain, verb: &Path, package: &str, flags: &str) -> Command {
    let mut command = match &toolchain.cargo {
        Some(cargo) => env.cargo_at(cargo),
        None => env.cargo(),
    };
    let program = command.get_program().to_owned();
    if verb.is_absolute() {
        // A subcommand called by path, since the cargo in use may find another one first.
        let environment: Vec<_> =
            command.get_envs().map(|(k, v)| (k.to_owned(), v.map(ToOwned::to_owned))).collect();
        command = Command::new(verb);
        command.current_dir(&env.root).arg("clippy").env("CARGO", program);
        for (name, value) in environment {
            match value {
                Some(value) => command.env(name, value),
                None => command.env_remove(name),
            };
        }
    } else {
        command.arg(verb);
    }
    let arch = std::env::consts::ARCH;
    let path = std::env::var_os("PATH").unwrap_or_default();
    let path = std::iter::once(env.tools.join("bin")).chain(std::env::split_paths(&path));
    command
        .args(["--package", package, "-Z", "build-std=core", "--target", TARGET])
        .env("RUSTC", &toolchain.rustc)
        .env("RUSTC_BOOTSTRAP", "1")
        .env("RUSTFLAGS", format!("--cfg=bpf_target_arch=\"{arch}\" {flags}"))
        .env_remove("RUSTUP_TOOLCHAIN")
        .env_remove("CARGO_ENCODED_RUSTFLAGS");
    if let Ok(path) = std::env::join_paths(path) {
        command.env("PATH", path);
    }
    command
}

fn build(env: &Env, toolchain: &Toolchain, package: &str, extra: &[&str], object: &Path) -> Result<()> {
    let folder = env.bpf.join("build");
    let what = if folder.join(TARGET).exists() {
        format!("building {}", relative(env, object).display())
    } else {
        format!("building {} with core (about a minute, once)", relative(env, object).display())
    };
    let mut command = cargo(env, toolchain, Path::new("build"), package, "-Cdebuginfo=2 -Clink-arg=--btf");
    run(&what, command.args(["--release", "--quiet"]).args(extra).arg("--target-dir").arg(&folder))
        .with_context(|| {
            format!("the eBPF toolchain is {}; `cargo xtask setup` looks after it", toolchain.describe())
        })?;
    copy_if_changed(&folder.join(TARGET).join("release").join(package), object)
}

/// Copies only what differs: relay-user is built anew whenever the object's time changes.
fn copy_if_changed(from: &Path, to: &Path) -> Result<()> {
    let bytes = fs::read(from).with_context(|| format!("reading the built object {}", from.display()))?;
    if fs::read(to).is_ok_and(|old| old == bytes) {
        return Ok(());
    }
    if let Some(folder) = to.parent() {
        fs::create_dir_all(folder).with_context(|| format!("creating {}", folder.display()))?;
    }
    let temporary = to.with_extension("new");
    fs::write(&temporary, bytes).with_context(|| format!("writing {}", temporary.display()))?;
    fs::rename(&temporary, to).with_context(|| format!("renaming to {}", to.display()))
}

/// Removes objects of faults that the programs know no more.
fn forget_others(folder: &Path, features: &[String]) -> Result<()> {
    let Ok(entries) = fs::read_dir(folder) else { return Ok(()) };
    for file in entries.filter_map(Result::ok).map(|entry| entry.path()) {
        let name = file.file_name().unwrap_or_default().to_string_lossy().into_owned();
        if !features.iter().any(|feature| name == format!("{feature}.bpf.o")) {
            fs::remove_file(&file).with_context(|| format!("removing {}", file.display()))?;
            process::say(format_args!("    removed {}: no such fault", file.display()));
        }
    }
    Ok(())
}

/// The features of relay-ebpf that seed a fault, by what `cargo metadata` says.
fn mutant_features(metadata: &str) -> Result<Vec<String>> {
    let metadata: serde_json::Value = serde_json::from_str(metadata).context("reading cargo metadata")?;
    let packages = metadata["packages"].as_array().context("cargo metadata names no packages")?;
    let package = packages.iter().find(|package| package["name"] == "relay-ebpf");
    let features = package.and_then(|package| package["features"].as_object());
    let names = features.context("cargo metadata does not know relay-ebpf")?.keys();
    let names: Vec<String> = names.filter(|name| name.starts_with("mutant-")).cloned().collect();
    anyhow::ensure!(!names.is_empty(), "relay-ebpf has no feature `mutant-*`, so there is no fault to catch");
    Ok(names)
}

fn relative(env: &Env, path: &Path) -> PathBuf {
    path.strip_prefix(&env.root).unwrap_or(path).to_path_buf()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_seeded_faults_are_mutants() {
        let metadata = r#"{"packages": [{"name": "other", "features": {"mutant-x": []}},
            {"name": "relay-ebpf", "features": {"default": [], "mutant-ttl": [], "mutant-mtu": []}}]}"#;
        assert_eq!(mutant_features(metadata).unwrap(), ["mutant-mtu", "mutant-ttl"]);
        let none = r#"{"packages": [{"name": "relay-ebpf", "features": {"default": []}}]}"#;
        assert!(mutant_features(none).unwrap_err().to_string().contains("no feature"));
    }
}
