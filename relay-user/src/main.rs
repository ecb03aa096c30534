//! `relay`: reads the command line, starts what it asks for, and puts every failure into the same words.

use std::process::ExitCode;

use anyhow::{Context as _, Result};
use clap::Parser as _;

use relay_user::{
    cli::{Cli, Command},
    command, failure,
    kernel::namespace::Namespace,
    log::{self, Speaker},
    memory,
};

fn main() -> ExitCode {
    let cli = Cli::parse();
    let is_daemon = matches!(cli.command, Command::Up(_) | Command::Adopt(_));
    log::start(if is_daemon { Speaker::Daemon } else { Speaker::Command });
    if is_daemon {
        memory::one_pool();
    }
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
            Command::Uninstall => command::uninstall::run().await,
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
