//! The host's programs: relay with the eBPF object inside, and the test programs.

use std::path::PathBuf;

use anyhow::{Context as _, Result};

use crate::{
    bpf,
    env::{Env, Profile},
    process::run,
};

/// Builds the eBPF object and then `relay`, which embeds it; gives the binary.
pub(crate) fn relay(env: &Env, profile: Profile) -> Result<PathBuf> {
    bpf::object(env)?;
    let mut command = env.cargo();
    command.args(["build", "--package", "relay-user", "--bin", "relay", "--profile", profile.name()]);
    let note = if env.built(profile, "relay").exists() { "" } else { " (a few minutes, once)" };
    run(&format!("building relay{note}"), &mut command)?;
    Ok(env.built(profile, "relay"))
}

/// Builds the laboratory's driver; gives the binary.
pub(crate) fn lab(env: &Env) -> Result<PathBuf> {
    run("building the laboratory", env.cargo().args(["build", "--package", "relay-tests", "--bin", "lab"]))?;
    Ok(env.built(Profile::Dev, "lab"))
}

/// Builds what measures; gives the binary. What is measured is the kernel and another process, so it need not be optimised.
pub(crate) fn bench(env: &Env) -> Result<PathBuf> {
    run(
        "building the benchmarks",
        env.cargo().args(["build", "--package", "relay-tests", "--bin", "bench"]),
    )?;
    Ok(env.built(Profile::Dev, "bench"))
}

/// Builds PID 1 of guests; gives the binary.
pub(crate) fn guest_init(env: &Env) -> Result<PathBuf> {
    let mut command = env.cargo();
    run(
        "building PID 1 of guests",
        command.args(["build", "--package", "relay-tests", "--bin", "guest-init"]),
    )?;
    Ok(env.built(Profile::Dev, "guest-init"))
}

/// The test programs of relay-tests by name, built but not run: running needs root, cargo does not.
pub(crate) fn test_programs(env: &Env) -> Result<Vec<(String, PathBuf)>> {
    let mut command = env.cargo();
    command
        .args(["test", "--package", "relay-tests", "--tests", "--no-run"])
        .arg("--message-format=json-render-diagnostics")
        .stderr(std::process::Stdio::inherit());
    crate::process::say("==> building the tests (a few minutes the first time)");
    let output = command.output().context("starting cargo to build the tests")?;
    anyhow::ensure!(output.status.success(), "building the tests failed");
    Ok(executables(&String::from_utf8_lossy(&output.stdout)))
}

/// The executables of tests in cargo's messages, by the name of the target.
fn executables(messages: &str) -> Vec<(String, PathBuf)> {
    messages
        .lines()
        .filter_map(|line| serde_json::from_str::<serde_json::Value>(line).ok())
        .filter(|message| message["reason"] == "compiler-artifact" && message["profile"]["test"] == true)
        .filter_map(|message| {
            let name = message["target"]["name"].as_str()?.to_owned();
            Some((name, PathBuf::from(message["executable"].as_str()?)))
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn executables_are_found_among_messages() {
        let messages = concat!(
            r#"{"reason":"compiler-artifact","target":{"name":"relay_tests"},"executable":null}"#,
            "\nnot json\n",
            r#"{"reason":"compiler-artifact","target":{"name":"lab"},"profile":{"test":false},"executable":"/t/lab"}"#,
            "\n",
            r#"{"reason":"compiler-artifact","target":{"name":"program"},"profile":{"test":true},"executable":"/t/p-1"}"#,
            "\n",
            r#"{"reason":"build-finished","success":true}"#
        );
        assert_eq!(executables(messages), [("program".to_owned(), PathBuf::from("/t/p-1"))]);
    }
}
