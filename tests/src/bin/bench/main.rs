//! The measurements of `cargo xtask bench`, run as root: prints one JSON object on stdout, talks on stderr.
//!
//! Nothing here judges: a figure is printed with its spread, and a run that lost packets says so.

mod daemon;
mod forward;
mod hub;
mod kinds;
mod lane;
mod machine;
mod net;
mod profile;
mod programs;
mod rules;
mod scale;
mod spoke;
mod spread;
mod tunnel;
mod uplink;

use std::{path::PathBuf, process::ExitCode};

use anyhow::{Result, ensure};
use clap::{Parser, Subcommand};
use relay_tests::guest;

/// Measures relay and the stack that it bypasses.
#[derive(Parser)]
struct Cli {
    #[command(subcommand)]
    what: What,
    /// The folder with relay.bpf.o and bench.bpf.o
    #[arg(long, env = "RELAY_BPF_DIR", global = true, default_value = "target/bpf")]
    objects: PathBuf,
    /// The relay whose daemon is measured
    #[arg(long, env = "RELAY_BIN", global = true, default_value = "target/release/relay")]
    relay: PathBuf,
    /// A few packets, to see that it works; the figures mean nothing
    #[arg(long, global = true)]
    quick: bool,
    /// Print the result as a guest's programs tell what they measured
    #[arg(long, global = true)]
    fact: bool,
}

#[derive(Subcommand)]
enum What {
    /// The forwarding stage on this kernel: relay's program, the stack, and the stack with rules
    Forward {
        /// In a guest whose clock counts instructions, which hardly vary: a few rounds
        #[arg(long)]
        instructions: bool,
    },
    /// Many peers and LANs: a packet's cost, and the daemon's
    Scale {
        /// The daemon alone, whose cost depends on how WireGuard is had
        #[arg(long)]
        daemon: bool,
    },
    /// A whole hub with kernel WireGuard, in a guest whose clock counts instructions
    Hub,
    /// The guard in front of the listen port
    Uplink {
        /// What floods cost a hub with kernel WireGuard, in a guest whose clock counts instructions
        #[arg(long)]
        floods: bool,
    },
    /// The daemon's memory and that of the maps
    Memory,
}

fn main() -> ExitCode {
    let cli = Cli::parse();
    match run(&cli) {
        Ok(result) if cli.fact => {
            guest::fact(&result);
            ExitCode::SUCCESS
        }
        Ok(result) => {
            println!("{result:#}");
            ExitCode::SUCCESS
        }
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn run(cli: &Cli) -> Result<serde_json::Value> {
    ensure!(nix::unistd::geteuid().is_root(), "measuring needs root: run `cargo xtask bench`");
    match cli.what {
        What::Forward { instructions } => forward::run(&cli.objects, instructions, cli.quick),
        What::Scale { daemon } => scale::run(&cli.objects, &cli.relay, daemon, cli.quick),
        What::Hub => hub::measure(&cli.objects, cli.quick),
        What::Uplink { floods: false } => uplink::measure(&cli.objects, cli.quick),
        What::Uplink { floods: true } => uplink::floods(&cli.objects, cli.quick),
        What::Memory => scale::memory(&cli.relay, cli.quick),
    }
}
