//! `relay`: reads the command line, starts what it asks for, and puts every failure into the same words.

use std::{io::IsTerminal as _, process::ExitCode};

use anyhow::{Context as _, Result};
use clap::Parser as _;
use tracing_subscriber::{EnvFilter, filter::LevelFilter};

use relay_user::{
    cli::{Cli, Command},
    command, failure,
    kernel::namespace::Namespace,
};

fn main() -> ExitCode {
    let cli = Cli::parse();
    log_to_stderr(&cli.command);
    match run(cli) {
        Ok(code) => code,
        Err(error) => failure::report(&error),
    }
}

fn run(cli: Cli) -> Result<ExitCode> {
    // Before there is a second thread, which would stay behind.
    let namespace = cli.command.namespace().map(Namespace::enter).transpose()?.flatten();
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()
        .context("cannot start the asynchronous runtime")?;
    let Cli { files, command } = cli;
    let adoption = |interface| command::adoption(&files, interface, namespace.clone());
    runtime.block_on(async {
        let done = match command {
            Command::Doctor(args) => return command::doctor::run(&files, &args).await,
            Command::Init(args) => command::init::run(&files, &args).await,
            Command::Join(args) => command::join::run(&files, &args).await,
            Command::Import(args) => command::import::run(&files, &args).await,
            Command::Install(args) => command::install::run(&files, &args),
            Command::Uninstall => command::uninstall::run(&files).await,
            Command::Peer(args) => command::peer::run(&files, &args).await,
            Command::Up(args) => command::up::run(files.clone(), args.down_on_exit).await,
            Command::Down => command::down::run(&files.config, &files.socket).await,
            Command::Reload => command::reload::run(&files.socket).await,
            Command::Metrics(which) => {
                let adopted = which.adopted.map(adoption);
                command::metrics::run(&files.socket, adopted.as_ref()).await
            }
            Command::Adopt(args) => command::adopt::run(adoption(args.interface)).await,
            Command::Release(args) => command::release::run(&adoption(args.interface)).await,
            Command::Status(args) => match args.which.adopted.map(adoption) {
                Some(adoption) => command::status::of_adopted(&adoption, args.show.json).await,
                None => command::status::run(&files.socket, args.show.json).await,
            },
            Command::Trace(args) => {
                let adopted = args.which.adopted.clone().map(adoption);
                command::trace::run(&files, adopted.as_ref(), &args).await
            }
            Command::Stats(args) => {
                let adopted = args.report.which.adopted.clone().map(adoption);
                command::stats::run(&files, adopted.as_ref(), &args).await
            }
        };
        done.map(|()| ExitCode::SUCCESS)
    })
}

/// `RELAY_LOG` chooses what is told, as `RUST_LOG` does elsewhere; stdout stays data.
fn log_to_stderr(command: &Command) {
    let level = if matches!(command, Command::Up(_) | Command::Adopt(_)) {
        LevelFilter::INFO
    } else {
        LevelFilter::WARN
    };
    // What matters of gotatun's, the daemon tells in its own words.
    let default = || EnvFilter::new(format!("{level},gotatun=off"));
    let filter = EnvFilter::try_from_env("RELAY_LOG").unwrap_or_else(|_| default());
    let colour =
        std::io::stderr().is_terminal() && std::env::var_os("NO_COLOR").is_none_or(|set| set.is_empty());
    tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr).with_ansi(colour).init();
}
