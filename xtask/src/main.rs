//! Verbs for people who work on relay: `cargo xtask <verb>`. This file only reads the command line and dispatches.

mod bench;
mod bpf;
mod build;
mod check;
mod dist;
mod env;
mod fuzz;
mod lab;
mod next;
mod process;
mod run;
mod setup;
mod test;
mod vm;

use std::process::ExitCode;

use clap::{Parser, Subcommand};

/// Everything repeated is a verb. `run` and `test` install what they need themselves.
#[derive(Parser)]
#[command(name = "cargo xtask", bin_name = "cargo xtask", max_term_width = 110)]
struct Cli {
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Subcommand)]
enum Verb {
    /// Install what build and tests need; says what and why, changes nothing when all is there
    #[command(after_help = "Example:\n  cargo xtask setup")]
    Setup,
    /// Build relay and start it in the foreground as root; the first time, make its configuration too
    #[command(after_help = run::EXAMPLES)]
    Run(run::Args),
    /// Run the tests, all heights or those named
    #[command(after_help = test::EXAMPLES)]
    Test(test::Args),
    /// Formatting, clippy for the host and for BPF, documentation; no warning passes
    #[command(after_help = "Example:\n  cargo xtask check")]
    Check,
    /// Debian packages and tarballs of relay, for amd64 and arm64, with checksums
    #[command(after_help = dist::EXAMPLES)]
    Dist(dist::Args),
    /// A phone behind NAT fetches a page from a NAS behind carrier-grade NAT, in network namespaces
    #[command(after_help = lab::EXAMPLES)]
    Lab(lab::Args),
    /// Measure relay beside the stack that it bypasses; docs/performance.md says how and what came of it
    #[command(after_help = bench::EXAMPLES)]
    Bench(bench::Args),
    /// Feed every parser of text and files from elsewhere with what a fuzzer thinks of
    #[command(after_help = fuzz::EXAMPLES)]
    Fuzz(fuzz::Args),
}

fn main() -> ExitCode {
    match dispatch() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            process::say(format_args!("error: {error:#}"));
            ExitCode::FAILURE
        }
    }
}

fn dispatch() -> anyhow::Result<()> {
    let cli = Cli::parse();
    let env = env::Env::find()?;
    match cli.verb {
        Verb::Setup => setup::everything(&env),
        Verb::Run(args) => run::run(&env, &args),
        Verb::Test(args) => test::run(&env, &args),
        Verb::Check => check::run(&env),
        Verb::Dist(args) => dist::run_verb(&env, &args),
        Verb::Lab(args) => lab::run(&env, &args),
        Verb::Bench(args) => bench::run(&env, &args),
        Verb::Fuzz(args) => fuzz::run(&env, &args),
    }
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory as _;

    #[test]
    fn command_line_is_consistent() {
        super::Cli::command().debug_assert();
    }
}
