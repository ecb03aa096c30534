//! `cargo xtask run`: from a fresh checkout to a relay that runs in the foreground.

use std::{
    ffi::OsStr,
    io::{self, IsTerminal as _},
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
    let given = Given::among(&args.up);
    let config = given.config.unwrap_or(&args.config);
    let config = std::path::absolute(config).context("finding the current folder")?;
    if !exists_for_root(&config)? {
        init(&relay, &config, args.endpoint.as_deref().or(given.endpoint))?;
    }
    say("==> relay up (Ctrl-C takes it down)");
    let mut command = as_root(&relay, &[])?;
    command
        .args([OsStr::new("up"), OsStr::new("--down-on-exit"), OsStr::new("--config"), config.as_os_str()])
        .args(given.rest);
    Err(command.exec()).with_context(|| format!("starting {}", relay.display()))
}

/// `relay init`; where it cannot find out what peers dial and somebody sits at the terminal, with their answer.
fn init(relay: &Path, config: &Path, endpoint: Option<&str>) -> Result<()> {
    let what = format!("making a first configuration, {}", config.display());
    let attempt = |endpoint: Option<&str>| {
        let mut command = as_root(relay, &[])?;
        command.args([OsStr::new("init"), OsStr::new("--config"), config.as_os_str()]);
        command.args(endpoint.into_iter().flat_map(|endpoint| ["--endpoint", endpoint]));
        run_command(&what, &mut command)
    };
    let Err(error) = attempt(endpoint) else { return Ok(()) };
    if endpoint.is_none() && io::stdin().is_terminal() {
        eprint!("What do peers dial, HOST or HOST:PORT? ");
        let mut answer = String::new();
        io::stdin().read_line(&mut answer).context("reading what peers dial")?;
        if !answer.trim().is_empty() {
            return attempt(Some(answer.trim()));
        }
    }
    Err(error).context("where this machine's address is private: cargo xtask run --endpoint HOST:PORT")
}

/// What stands among the arguments for `relay up` and is for `relay init` as well, or for it alone.
#[derive(Debug, Default, PartialEq, Eq)]
struct Given<'a> {
    config: Option<&'a Path>,
    endpoint: Option<&'a str>,
    rest: Vec<&'a str>,
}

impl<'a> Given<'a> {
    fn among(args: &'a [String]) -> Self {
        let mut given = Self::default();
        let mut args = args.iter().map(String::as_str);
        while let Some(arg) = args.next() {
            let (name, value) = match arg.split_once('=') {
                Some((name, value)) => (name, Some(value)),
                None => (arg, None),
            };
            match name {
                "--config" => given.config = value.or_else(|| args.next()).map(Path::new),
                "--endpoint" => given.endpoint = value.or_else(|| args.next()),
                _ => given.rest.push(arg),
            }
        }
        given
    }
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
    fn what_init_must_know_is_found_among_arguments() {
        let args = ["-v", "--config", "/a/relay.toml", "--socket=/s", "--endpoint=vps:1"].map(str::to_owned);
        let given = Given::among(&args);
        assert_eq!(given.config, Some(Path::new("/a/relay.toml")));
        assert_eq!(given.endpoint, Some("vps:1"));
        assert_eq!(given.rest, ["-v", "--socket=/s"]);
        assert_eq!(Given::among(&["--config=/b".to_owned()]).config, Some(Path::new("/b")));
        assert_eq!(Given::among(&[]), Given::default());
    }
}
