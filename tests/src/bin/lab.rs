//! The laboratory's driver, run as root by `cargo xtask lab`: tells the story, prints the results, cleans up.

use std::{
    path::PathBuf,
    process::ExitCode,
    sync::atomic::{AtomicBool, Ordering},
};

use clap::Parser;
use nix::sys::signal::{SigSet, Signal};
use relay_tests::{
    lab::{Cabin, World, story},
    netns,
};

/// The laboratory in network namespaces.
#[derive(Parser)]
struct Cli {
    /// The relay to show
    #[arg(long)]
    relay: PathBuf,
    /// Leave it up until Ctrl-C, and say how to enter it
    #[arg(long)]
    keep: bool,
    /// Print the results as data on stdout
    #[arg(long)]
    json: bool,
}

/// What the shell calls the end by SIGINT.
const INTERRUPTED: i32 = 130;

fn main() -> ExitCode {
    let cli = Cli::parse();
    if !nix::unistd::geteuid().is_root() {
        eprintln!("error: the laboratory makes network namespaces, which needs root: run `cargo xtask lab`");
        return ExitCode::FAILURE;
    }
    clean_up_when_told_to_end();
    let outcome = story::tell(&cli.relay, |world, cabin| {
        if cli.keep {
            keep(world, cabin);
        }
    });
    if cli.json {
        println!("{:#}", outcome.json());
    }
    if outcome.is_ok() {
        eprintln!("\nEvery step worked.");
        ExitCode::SUCCESS
    } else {
        eprintln!("\nA step FAILED; see above.");
        ExitCode::FAILURE
    }
}

/// Whether the main thread waits for a signal, as somebody who looks around wants it.
static KEEPING: AtomicBool = AtomicBool::new(false);

/// Blocks the signals that end us, here and in every thread made later, and waits for them apart.
fn clean_up_when_told_to_end() {
    let signals: SigSet = [Signal::SIGINT, Signal::SIGTERM, Signal::SIGHUP].into_iter().collect();
    if signals.thread_block().is_err() {
        return;
    }
    let main = std::thread::current();
    std::thread::spawn(move || {
        while signals.wait().is_ok() {
            if KEEPING.swap(false, Ordering::SeqCst) {
                main.unpark();
            } else {
                netns::sweep_ours();
                std::process::exit(INTERRUPTED);
            }
        }
    });
}

fn keep(world: &World, cabin: &Cabin) {
    KEEPING.store(true, Ordering::SeqCst);
    eprintln!("\nIt stays up until Ctrl-C. Enter a machine with\n");
    for machine in world.machines().into_iter().chain(cabin.machines()) {
        eprintln!("  sudo {} bash", machine.entering());
    }
    eprintln!(
        "\nand, say, `curl http://192.168.40.10/` on the phone, or `relay stats --config /run/lab/relay.toml`"
    );
    eprintln!("on the VPS.");
    while KEEPING.load(Ordering::SeqCst) {
        std::thread::park();
    }
}
