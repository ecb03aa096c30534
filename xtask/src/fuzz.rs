//! `cargo xtask fuzz`: every parser of text and files from elsewhere, given what libFuzzer thinks of, for a bounded time.
//!
//! Coverage comes from LLVM's own passes, which plain stable Rust has; cargo-fuzz works in the same folder. What is
//! fuzzed is safe Rust, so no sanitizer is missed there.

use std::{path::PathBuf, time::Duration};

use anyhow::{Context as _, Result, ensure};

use crate::{
    env::Env,
    process::{capture, run as run_command, say, time},
    setup,
};

/// Examples for `--help`.
pub(crate) const EXAMPLES: &str = "Examples:
  cargo xtask fuzz
  cargo xtask fuzz wg_easy15 --seconds 600

A failing input is kept in fuzz/artifacts; corpora grow in fuzz/corpus.";

/// What is fuzzed: the targets in fuzz/fuzz_targets.
const TARGETS: [&str; 4] = ["wg_quick", "wg_easy14", "wg_easy15", "relay_toml"];

/// What cargo-fuzz passes too (`cargo fuzz build --sanitizer none`).
const COVERAGE: &str = "-Cpasses=sancov-module -Cllvm-args=-sanitizer-coverage-level=4 \
                        -Cllvm-args=-sanitizer-coverage-inline-8bit-counters \
                        -Cllvm-args=-sanitizer-coverage-pc-table -Cllvm-args=-sanitizer-coverage-trace-compares \
                        -Ccodegen-units=1 --cfg fuzzing";

/// The longest input, bytes: several times the largest seed of text, some more than a database of wg-easy's.
const LONGEST: u32 = 128 * 1024;

/// What `fuzz` is told.
#[derive(clap::Args)]
pub(crate) struct Args {
    /// Targets; all when none is named
    #[arg(value_parser = TARGETS)]
    targets: Vec<String>,
    /// How long each target runs
    #[arg(long, value_name = "N", default_value_t = 30)]
    seconds: u64,
}

/// Builds the targets and their first inputs, then runs them one after the other.
pub(crate) fn run(env: &Env, args: &Args) -> Result<()> {
    setup::fuzzing()?;
    let folder = env.root.join("fuzz");
    let host = host(env)?;
    let mut command = env.cargo();
    // A target is named so that build scripts are built without coverage.
    command
        .args(["build", "--release", "--bins", "--target", &host])
        .current_dir(&folder)
        .env("RUSTFLAGS", COVERAGE);
    command.env_remove("CARGO_TARGET_DIR");
    run_command("building what is fuzzed (a few minutes the first time)", &mut command)?;
    let built = folder.join("target").join(&host).join("release");
    let corpora = folder.join("corpus");
    let mut seeds = env.cargo();
    seeds.args(["run", "--quiet", "--package", "relay-user", "--example", "fuzz-seeds", "--"]).arg(&corpora);
    run_command("making the first inputs", &mut seeds)?;

    let all = TARGETS.map(str::to_owned);
    let targets = if args.targets.is_empty() { &all[..] } else { &args.targets };
    let mut failed = Vec::new();
    for target in targets {
        let artifacts = folder.join("artifacts").join(target);
        std::fs::create_dir_all(&artifacts).with_context(|| format!("making {}", artifacts.display()))?;
        let mut command = std::process::Command::new(built.join(target));
        command.arg(corpora.join(target));
        command.arg(format!("-artifact_prefix={}", PathBuf::from(&artifacts).join("").display()));
        command.args([format!("-max_total_time={}", args.seconds), format!("-max_len={LONGEST}")]);
        // An input that takes longer than this hangs; the slowest took 0.1 s.
        command.args(["-timeout=10", "-print_funcs=0", "-print_final_stats=1"]);
        let what = format!("fuzzing {target} for {}", time(Duration::from_secs(args.seconds)));
        if let Err(error) = run_command(&what, &mut command) {
            say(format_args!("    {error:#}"));
            failed.push(target.as_str());
        }
    }
    ensure!(failed.is_empty(), "failing inputs of {} are in fuzz/artifacts", failed.join(", "));
    say(format_args!("==> no failing input in {} targets", targets.len()));
    Ok(())
}

/// The host's target triple.
fn host(env: &Env) -> Result<String> {
    let text = capture(env.cargo().arg("-vV"))?;
    let host = text.lines().find_map(|line| line.strip_prefix("host: "));
    Ok(host.context("cargo -vV names no host")?.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_target_is_run() {
        let root = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("workspace");
        let files = root.join("fuzz/fuzz_targets").read_dir().expect("targets");
        let mut names: Vec<String> = files
            .map(|entry| {
                entry.expect("entry").path().file_stem().expect("name").to_string_lossy().into_owned()
            })
            .collect();
        names.sort();
        let mut targets = TARGETS;
        targets.sort_unstable();
        assert_eq!(names, targets);
    }
}
