//! Starting other programs: said before, timed, and with an error that names the command.

use std::{
    ffi::OsStr,
    fmt::Write as _,
    path::{Path, PathBuf},
    process::{Command, Stdio},
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, bail};

/// One line of talk. Talk goes to stderr; stdout is for data.
pub(crate) fn say(line: impl std::fmt::Display) {
    eprintln!("{line}");
}

/// Runs a command whose own output is the progress. Fails when it does.
pub(crate) fn run(what: &str, command: &mut Command) -> Result<()> {
    say(format_args!("==> {what}"));
    let status = command.status().with_context(|| format!("{what}: cannot start {}", shown(command)))?;
    if !status.success() {
        bail!("{what}: {} ended with {status}", shown(command));
    }
    Ok(())
}

/// Runs a command in silence, with a line before and the time after; shows its output only when it fails.
pub(crate) fn run_quiet(what: &str, command: &mut Command) -> Result<()> {
    say(format_args!("==> {what} …"));
    let begun = Instant::now();
    let output = command
        .stdin(Stdio::null())
        .output()
        .with_context(|| format!("{what}: cannot start {}", shown(command)))?;
    if !output.status.success() {
        let mut text = String::from_utf8_lossy(&output.stdout).into_owned();
        text.push_str(&String::from_utf8_lossy(&output.stderr));
        bail!("{what}: {} ended with {}\n{}", shown(command), output.status, text.trim_end());
    }
    say(format_args!("    done in {}", time(begun.elapsed())));
    Ok(())
}

/// What a command prints; fails when it does.
pub(crate) fn capture(command: &mut Command) -> Result<String> {
    let output = command
        .stdin(Stdio::null())
        .stderr(Stdio::piped())
        .output()
        .with_context(|| format!("cannot start {}", shown(command)))?;
    if !output.status.success() {
        let text = String::from_utf8_lossy(&output.stderr).into_owned();
        bail!("{} ended with {}: {}", shown(command), output.status, text.trim_end());
    }
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}

/// The command as a person would type it.
pub(crate) fn shown(command: &Command) -> String {
    let mut text = quoted(command.get_program());
    for arg in command.get_args() {
        let _ = write!(text, " {}", quoted(arg));
    }
    text
}

fn quoted(word: &OsStr) -> String {
    let word = word.to_string_lossy();
    let plain = |c: char| c.is_ascii_alphanumeric() || "-_=/.:,+@%".contains(c);
    if !word.is_empty() && word.chars().all(plain) { word.into_owned() } else { format!("'{word}'") }
}

/// A time span as people read it: `0.4 s`, `12 s`, `3 min 05 s`.
pub(crate) fn time(span: Duration) -> String {
    let seconds = span.as_secs();
    match seconds {
        0..10 => format!("{:.1} s", span.as_secs_f64()),
        10..120 => format!("{seconds} s"),
        _ => format!("{} min {:02} s", seconds / 60, seconds % 60),
    }
}

/// The program of that name in `PATH` or where Debian keeps those of the administrator.
pub(crate) fn find_program(name: &str) -> Option<PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    std::env::split_paths(&path)
        .chain(["/usr/sbin", "/sbin", "/usr/bin"].into_iter().map(PathBuf::from))
        .map(|folder| folder.join(name))
        .find(|file| file.is_file())
}

/// Whether we run as root.
pub(crate) fn is_root() -> bool {
    nix::unistd::geteuid().is_root()
}

/// Says early that what comes will need root, where nobody can become it.
pub(crate) fn root_is_possible(what: &str) -> Result<()> {
    if !is_root() && find_program("sudo").is_none() {
        bail!("{what} needs root, and there is no sudo: run the same `cargo xtask` command as root");
    }
    Ok(())
}

/// A command as root: itself when we are root, else through sudo. `sets` are the environment it gets on top: sudo
/// drops ours.
pub(crate) fn as_root(program: &Path, sets: &[(&str, &OsStr)]) -> Result<Command> {
    if is_root() {
        let mut command = Command::new(program);
        command.envs(sets.iter().copied());
        return Ok(command);
    }
    root_is_possible(&program.display().to_string())?;
    let sudo = find_program("sudo").context("sudo is gone")?;
    let mut command = Command::new(sudo);
    if !sets.is_empty() {
        command.arg("env");
        for (name, value) in sets {
            let mut set = std::ffi::OsString::from(name);
            set.push("=");
            set.push(value);
            command.arg(set);
        }
    }
    command.arg(program);
    Ok(command)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_command_is_shown_as_typed() {
        let mut command = Command::new("apt-get");
        command.args(["install", "a b", ""]);
        assert_eq!(shown(&command), "apt-get install 'a b' ''");
    }

    #[test]
    fn times_are_read_by_people() {
        assert_eq!(time(Duration::from_millis(420)), "0.4 s");
        assert_eq!(time(Duration::from_secs(96)), "96 s");
        assert_eq!(time(Duration::from_secs(185)), "3 min 05 s");
    }

    #[test]
    fn a_failure_names_act_and_command() {
        let error = run_quiet("trying", Command::new("sh").args(["-c", "echo no >&2; exit 3"])).unwrap_err();
        let text = error.to_string();
        assert!(text.contains("trying") && text.contains("exit status: 3") && text.ends_with("no"), "{text}");
    }
}
