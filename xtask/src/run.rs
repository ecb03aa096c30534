//! `cargo xtask run`: from a fresh checkout to a relay that runs in the foreground.

use std::{
    ffi::OsStr,
    os::unix::process::CommandExt as _,
    path::{Path, PathBuf},
};

use anyhow::{Context as _, Result};

use crate::{
    build,
    env::{Env, Profile},
    process::{as_root, root_is_possible, run as run_command, say},
    setup,
};

/// Examples for `--help`.
pub(crate) const EXAMPLES: &str = "Examples:
  cargo xtask run
  cargo xtask run --endpoint vps.example.net:51820
  cargo xtask run --config /tmp/relay/relay.toml -- --help

Ctrl-C takes down what relay brought up.";

/// Where relay looks for its configuration by itself.
const CONFIG: &str = "/etc/relay/relay.toml";

/// What `run` is told.
#[derive(clap::Args)]
pub(crate) struct Args {
    /// relay's configuration; made by `relay init` when there is none
    #[arg(long, value_name = "PATH", default_value = CONFIG)]
    config: PathBuf,
    /// What peers dial, for `relay init`; needed where this machine's address is private
    #[arg(long, value_name = "HOST:PORT")]
    endpoint: Option<String>,
    /// More arguments for `relay up`
    #[arg(last = true, value_name = "ARGS")]
    up: Vec<String>,
}

/// Builds relay, makes a configuration when there is none, and becomes `relay up`.
pub(crate) fn run(env: &Env, args: &Args) -> Result<()> {
    root_is_possible("relay up")?;
    setup::running()?;
    let relay = build::relay(env, Profile::Release)?;
    let (given, up) = split_config(&args.up);
    let config = std::path::absolute(given.unwrap_or(&args.config)).context("finding the current folder")?;
    if !exists_for_root(&config)? {
        let mut init = as_root(&relay, &[])?;
        init.args([OsStr::new("init"), OsStr::new("--config"), config.as_os_str()]);
        if let Some(endpoint) = &args.endpoint {
            init.args(["--endpoint", endpoint]);
        }
        run_command(&format!("making a first configuration, {}", config.display()), &mut init).context(
            "relay init did not finish; where this machine's address is private, give what peers dial: \
             cargo xtask run --endpoint HOST:PORT",
        )?;
    }
    say("==> relay up (Ctrl-C takes it down)");
    let mut command = as_root(&relay, &[])?;
    command
        .args([OsStr::new("up"), OsStr::new("--down-on-exit"), OsStr::new("--config"), config.as_os_str()])
        .args(up);
    Err(command.exec()).with_context(|| format!("starting {}", relay.display()))
}

/// Takes `--config PATH` out of the arguments for `relay up`, since `relay init` must be told the same.
fn split_config(args: &[String]) -> (Option<&Path>, Vec<&String>) {
    let (mut config, mut rest) = (None, Vec::new());
    let mut args = args.iter();
    while let Some(arg) = args.next() {
        if arg == "--config" {
            config = args.next().map(Path::new);
        } else if let Some(path) = arg.strip_prefix("--config=") {
            config = Some(Path::new(path));
        } else {
            rest.push(arg);
        }
    }
    (config, rest)
}

/// Whether the file is there, asked as root: relay's folder is 0700.
fn exists_for_root(path: &Path) -> Result<bool> {
    if let Ok(there) = path.try_exists() {
        return Ok(there);
    }
    let status = as_root(Path::new("/usr/bin/test"), &[])?.arg("-e").arg(path).status();
    Ok(status.with_context(|| format!("looking for {}", path.display()))?.success())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn config_is_found_among_arguments() {
        let args = ["-v", "--config", "/a/relay.toml", "--socket=/s"].map(str::to_owned);
        let (config, rest) = split_config(&args);
        assert_eq!(config, Some(Path::new("/a/relay.toml")));
        assert_eq!(rest, ["-v", "--socket=/s"]);
        assert_eq!(split_config(&["--config=/b".to_owned()]).0, Some(Path::new("/b")));
        assert_eq!(split_config(&[]).0, None);
    }
}
