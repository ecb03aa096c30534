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
    command.args(["build", "--package", "relay-user", "--bin", "relay"]);
    if profile == Profile::Release {
        command.arg("--release");
    }
    let note = if env.built(profile, "relay").exists() { "" } else { " (a few minutes, once)" };
    run(&format!("building relay{note}"), &mut command)?;
    Ok(env.built(profile, "relay"))
}

/// Builds the laboratory's driver; gives the binary.
pub(crate) fn lab(env: &Env) -> Result<PathBuf> {
    run("building the laboratory", env.cargo().args(["build", "--package", "relay-tests", "--bin", "lab"]))?;
    Ok(env.built(Profile::Dev, "lab"))
}

/// Builds a test program of relay-tests without running it: it needs root, cargo does not.
pub(crate) fn test_program(env: &Env, name: &str) -> Result<PathBuf> {
    let mut command = env.cargo();
    command
        .args(["test", "--package", "relay-tests", "--test", name, "--no-run"])
        .arg("--message-format=json-render-diagnostics")
        .stderr(std::process::Stdio::inherit());
    crate::process::say(format_args!("==> building the {name} tests"));
    let output = command.output().with_context(|| format!("starting cargo to build the {name} tests"))?;
    anyhow::ensure!(output.status.success(), "building the {name} tests failed");
    executable(&String::from_utf8_lossy(&output.stdout), name)
        .with_context(|| format!("cargo built no test program {name}"))
}

/// The executable of that test in cargo's messages.
fn executable(messages: &str, name: &str) -> Option<PathBuf> {
    messages
        .lines()
        .filter_map(|line| serde_json::from_str::<serde_json::Value>(line).ok())
        .filter(|message| message["reason"] == "compiler-artifact" && message["target"]["name"] == name)
        .find_map(|message| message["executable"].as_str().map(PathBuf::from))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_executable_is_found_among_messages() {
        let messages = concat!(
            r#"{"reason":"compiler-artifact","target":{"name":"relay_tests"},"executable":null}"#,
            "\nnot json\n",
            r#"{"reason":"compiler-artifact","target":{"name":"program"},"executable":"/t/program-1"}"#,
            "\n",
            r#"{"reason":"build-finished","success":true}"#
        );
        assert_eq!(executable(messages, "program"), Some(PathBuf::from("/t/program-1")));
        assert_eq!(executable(messages, "netns"), None);
    }
}
