//! The programs a guest runs: built by cargo, found by what cargo says of them.

use std::path::{Path, PathBuf};
use std::process::Stdio;

use anyhow::{Context as _, Result, bail, ensure};
use serde_json::Value;

use crate::build;
use crate::env::Env;
use crate::process::say;

/// One program to run.
#[derive(Debug, Clone)]
pub(crate) struct Job {
    /// Its name in the package, as "datapath".
    pub(crate) name: String,
    /// The executable.
    pub(crate) path: PathBuf,
    /// How it says what came of it.
    pub(crate) speaks: Speaks,
}

/// How a program says what came of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Speaks {
    /// By libtest's events, test by test.
    Libtest,
    /// By its exit code alone; its output is for people. These are its arguments.
    Plain(Vec<String>),
}

/// All a guest needs of ours.
#[derive(Debug, Clone)]
pub(crate) struct Programs {
    /// PID 1.
    pub(crate) init: PathBuf,
    /// What PID 1 runs: the test programs, in the order of their names.
    pub(crate) jobs: Vec<Job>,
    /// Programs that tests start: `relay`, the helpers of the tests' package, and a WireGuard of others.
    pub(crate) along: Vec<PathBuf>,
}

impl Programs {
    /// Builds `relay`, the tests that are `wanted` and their helpers. The eBPF object must be there already.
    pub(crate) fn build(env: &Env, wanted: impl Fn(&str) -> bool) -> Result<Self> {
        say("==> building relay and the tests (a few minutes the first time)");
        let mut programs = Self { init: PathBuf::new(), jobs: Vec::new(), along: Vec::new() };
        // Packages built in one call share what they depend on.
        let output = env
            .cargo()
            .args(["build", "--package", "relay-user", "--package", "relay-tests", "--bins", "--test", "*"])
            .arg("--message-format=json-render-diagnostics")
            // What the compiler has to say goes to the terminal as it comes.
            .stderr(Stdio::inherit())
            .output()
            .context("starting cargo")?;
        ensure!(output.status.success(), "building relay and the tests failed");
        programs.take(&String::from_utf8_lossy(&output.stdout), &env.root.join("tests"))?;
        programs.jobs.retain(|job| wanted(&job.name));
        programs.along.push(env.gotatun());
        ensure!(programs.init.is_file(), "cargo built no guest-init");
        ensure!(!programs.jobs.is_empty(), "cargo built no test program");
        programs.jobs.sort_by(|a, b| a.name.cmp(&b.name));
        Ok(programs)
    }

    /// What measures, with these arguments, and the relay that is measured. The eBPF objects must be there already.
    pub(crate) fn measuring(
        env: &Env,
        bench: PathBuf,
        relay: PathBuf,
        arguments: Vec<String>,
    ) -> Result<Self> {
        let init = build::guest_init(env)?;
        let job = Job { name: "bench".to_owned(), path: bench, speaks: Speaks::Plain(arguments) };
        Ok(Self { init, jobs: vec![job], along: vec![relay] })
    }

    /// Sorts the executables that cargo names into what they are for. `package` is the folder of relay-tests.
    fn take(&mut self, messages: &str, package: &Path) -> Result<()> {
        for line in messages.lines().filter(|line| line.starts_with('{')) {
            let message: Value = serde_json::from_str(line).context("reading what cargo says")?;
            let Some(path) = message["executable"].as_str().map(PathBuf::from) else { continue };
            let name = message["target"]["name"].as_str().context("cargo names no target")?.to_owned();
            let test = message["profile"]["test"].as_bool().unwrap_or(false);
            let source = message["target"]["src_path"].as_str().unwrap_or_default();
            let ours = Path::new(source).starts_with(package.join("tests"));
            match (test, ours, name.as_str()) {
                (true, true, _) => self.jobs.push(Job { name, path, speaks: Speaks::Libtest }),
                // What other packages test needs no other kernel.
                (true, false, _) => {}
                (false, _, "guest-init") => self.init = path,
                (false, ..) => self.along.push(path),
            }
        }
        Ok(())
    }

    /// The helper of that name in place of the tests.
    pub(crate) fn alone(&self, name: &str, arguments: &[&str]) -> Result<Self> {
        let is = |path: &&PathBuf| path.file_name().is_some_and(|file| file == name);
        let path = self.along.iter().find(is).with_context(|| format!("cargo built no {name}"))?.clone();
        let arguments = arguments.iter().map(|word| (*word).to_owned()).collect();
        let job = Job { name: name.to_owned(), path, speaks: Speaks::Plain(arguments) };
        Ok(Self { jobs: vec![job], ..self.clone() })
    }

    /// All, or the one test program that was asked for.
    pub(crate) fn choose(&self, program: Option<&str>) -> Result<Self> {
        let mut chosen = self.clone();
        if let Some(wanted) = program {
            chosen.jobs.retain(|job| job.name == wanted);
            if chosen.jobs.is_empty() {
                let names: Vec<_> = self.jobs.iter().map(|job| job.name.as_str()).collect();
                bail!("no test program {wanted:?}; there are {}", names.join(", "));
            }
        }
        Ok(chosen)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn executables_are_sorted_by_what_they_are_for() {
        let line = |name: &str, source: &str, test: bool| {
            format!(
                r#"{{"executable":"/t/{name}","target":{{"name":"{name}","src_path":"{source}"}},"profile":{{"test":{test}}}}}"#
            )
        };
        let mut programs = Programs { init: PathBuf::new(), jobs: Vec::new(), along: Vec::new() };
        let messages = [
            line("guest-init", "/w/tests/src/bin/guest-init/main.rs", false),
            line("relay", "/w/relay-user/src/main.rs", false),
            line("datapath", "/w/tests/tests/datapath.rs", true),
            line("cli", "/w/relay-user/tests/cli/main.rs", true),
            r#"{"executable":null,"target":{"name":"x","kind":["lib"]}}"#.to_owned(),
        ];
        programs.take(&messages.join("\n"), Path::new("/w/tests")).unwrap();
        assert_eq!(programs.init, Path::new("/t/guest-init"));
        assert_eq!(programs.along, [Path::new("/t/relay")]);
        assert_eq!(programs.jobs.len(), 1);
        assert!(programs.choose(Some("datapath")).is_ok());
        assert!(programs.choose(Some("no such")).is_err());
    }
}
