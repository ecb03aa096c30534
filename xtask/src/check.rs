//! `cargo xtask check`: formatting, lints for the host and for BPF, documentation. All run, then any failure fails.

use std::{path::Path, time::Instant};

use anyhow::{Result, bail};

use crate::{
    bpf,
    env::Env,
    process::{run as run_command, say, time},
    setup,
};

/// The crates that build for the host.
const HOST: [&str; 4] = ["relay-common", "relay-user", "relay-tests", "xtask"];

type Check = fn(&Env) -> Result<()>;

/// Runs the checks.
pub(crate) fn run(env: &Env) -> Result<()> {
    let begun = Instant::now();
    let checks: [(&str, Check); 4] = [
        ("formatting", formatting),
        ("lints", lints),
        ("lints for BPF", bpf_lints),
        ("documentation", documentation),
    ];
    let mut failed = Vec::new();
    for (name, check) in checks {
        if let Err(error) = check(env) {
            say(format_args!("{name}: {error:#}"));
            failed.push(name);
        }
    }
    if !failed.is_empty() {
        bail!("failed: {}", failed.join(", "));
    }
    say(format_args!("==> no warning, in {}", time(begun.elapsed())));
    Ok(())
}

fn formatting(env: &Env) -> Result<()> {
    run_command("formatting", env.cargo().args(["fmt", "--all", "--check"]))
}

fn lints(env: &Env) -> Result<()> {
    let mut command = env.cargo();
    command.args(["clippy", "--quiet", "--all-targets"]);
    packages(&mut command);
    run_command("clippy for the host", command.args(["--", "--deny", "warnings"]))
}

fn bpf_lints(env: &Env) -> Result<()> {
    let (toolchain, clippy) = setup::checking()?;
    let (what, verb) = match &clippy {
        Some(clippy) => ("clippy for BPF", clippy.as_path()),
        None => ("BPF, by the compiler's own warnings: this toolchain has no clippy", Path::new("check")),
    };
    for package in [bpf::RELAY, bpf::BENCH] {
        let mut command = bpf::cargo(env, &toolchain, verb, package, "-Dwarnings");
        run_command(what, command.arg("--quiet").arg("--target-dir").arg(env.bpf.join("check")))?;
    }
    Ok(())
}

fn documentation(env: &Env) -> Result<()> {
    let mut command = env.cargo();
    command
        .args(["doc", "--quiet", "--no-deps", "--document-private-items"])
        .env("RUSTDOCFLAGS", "-Dwarnings");
    packages(&mut command);
    run_command("documentation", &mut command)
}

fn packages(command: &mut std::process::Command) {
    for package in HOST {
        command.args(["--package", package]);
    }
}
