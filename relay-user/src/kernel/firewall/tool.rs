//! Runs a tool: arguments as they are, input through stdin, one error.

use std::{env, io, path::PathBuf, process::Stdio, time::Duration};

use tokio::{io::AsyncWriteExt as _, process::Command, time::timeout};

use super::FirewallError;
use crate::firewall::opening::shell;

/// How long a tool may take. They take milliseconds, firewall-cmd and ufw half a second; but iptables waits for a lock
/// that others hold.
const PATIENCE: Duration = Duration::from_secs(30);

/// Runs it and returns what it wrote to stdout.
pub(super) async fn run(argv: &[impl AsRef<str>]) -> Result<String, FirewallError> {
    let words: Vec<String> = argv.iter().map(|word| word.as_ref().to_owned()).collect();
    perform(&words, "", &format!("run `{}`", shell(&words))).await
}

/// Gives a script to nft.
pub(super) async fn script(act: &str, script: &str) -> Result<(), FirewallError> {
    perform(&["nft", "-f", "-"].map(str::to_owned), script, act).await.map(drop)
}

async fn perform(argv: &[String], input: &str, act: &str) -> Result<String, FirewallError> {
    let (program, arguments) = argv.split_first().map_or(("", argv), |(first, rest)| (first.as_str(), rest));
    let failed = |cause: io::Error| match cause.kind() {
        io::ErrorKind::NotFound => FirewallError::Missing { program: program.to_owned() },
        _ => FirewallError::Run { program: program.to_owned(), cause },
    };
    // By its path: a name alone, with a PATH of ours, would fork this process with all its memory instead of spawning.
    let mut child = Command::new(find(program))
        .args(arguments)
        .env("PATH", path())
        .env("LC_ALL", "C")
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .kill_on_drop(true)
        .spawn()
        .map_err(failed)?;
    let mut stdin = child.stdin.take();
    let talk = async {
        if let Some(mut stdin) = stdin.take() {
            match stdin.write_all(input.as_bytes()).await {
                // It has heard enough; its exit status tells the rest.
                Err(error) if error.kind() == io::ErrorKind::BrokenPipe => {}
                other => other?,
            }
        }
        child.wait_with_output().await
    };
    let output = match timeout(PATIENCE, talk).await {
        Ok(output) => output.map_err(failed)?,
        Err(_) => return Err(FirewallError::Stuck { act: act.to_owned(), after: PATIENCE }),
    };
    if !output.status.success() {
        let stderr = String::from_utf8_lossy(&output.stderr);
        let first =
            stderr.lines().map(str::trim).find(|line| !line.is_empty() && !line.starts_with("# Warning"));
        let reason = first.map_or_else(|| output.status.to_string(), str::to_owned);
        return Err(FirewallError::Refused { act: act.to_owned(), reason });
    }
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}

/// The program's path; its name where there is none, which then fails to start with the right words.
fn find(program: &str) -> PathBuf {
    let path = path();
    let found = env::split_paths(&path).map(|folder| folder.join(program)).find(|path| path.is_file());
    found.unwrap_or_else(|| program.into())
}

/// The caller's, and where Debian has these tools: the path of root by `su` lacks it.
fn path() -> String {
    let path = env::var("PATH").unwrap_or_default();
    [path.as_str(), "/usr/sbin", "/sbin", "/usr/bin", "/bin"].join(":")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn programs_are_found_where_they_are() {
        assert!(find("sh").is_absolute());
        assert_eq!(find("no-such-program"), PathBuf::from("no-such-program"));
    }
}
