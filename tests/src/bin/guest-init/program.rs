//! One test program: started, listened to, ended in time, and what came of it.

use std::collections::BTreeMap;
use std::io::{BufRead as _, BufReader};
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::sync::mpsc::{self, RecvTimeoutError};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail};
use nix::errno::Errno;
use nix::sys::signal::{Signal, kill};
use nix::sys::wait::{WaitPidFlag, WaitStatus, waitpid};
use nix::unistd::Pid;
use serde_json::Value;

use crate::libtest::{Event, How, read};
use crate::tell;

/// A program as the plan has it.
#[derive(Debug)]
pub(crate) struct Planned {
    pub(crate) name: String,
    path: PathBuf,
    arguments: Vec<String>,
    environment: BTreeMap<String, String>,
    folder: PathBuf,
    patience: Duration,
    speaks: Speaks,
}

/// How a program says what came of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Speaks {
    /// By its exit code alone.
    Plain,
    /// By libtest's events, and whether one in which no test ran has failed.
    Libtest { empty_is_failure: bool },
}

impl Planned {
    pub(crate) fn read(entry: &Value, plan: &Value) -> Result<Self> {
        let text =
            |key: &str| entry[key].as_str().with_context(|| format!("the plan has a program without {key}"));
        let arguments = entry["arguments"].as_array().context("the plan has a program without arguments")?;
        let environment = plan["environment"].as_object().context("a plan without environment")?;
        let word =
            |value: &Value| value.as_str().map(str::to_owned).context("the plan has a word that is no text");
        Ok(Self {
            name: text("name")?.to_owned(),
            path: text("path")?.into(),
            arguments: arguments.iter().map(word).collect::<Result<_>>()?,
            environment: environment
                .iter()
                .map(|(key, value)| Ok((key.clone(), word(value)?)))
                .collect::<Result<_>>()?,
            folder: text("folder")?.into(),
            patience: Duration::from_secs(
                entry["seconds"].as_u64().context("the plan has a program without seconds")?,
            ),
            speaks: match text("speaks")? {
                "plain" => Speaks::Plain,
                "libtest" => {
                    let empty = plan["empty_is_failure"].as_bool();
                    Speaks::Libtest { empty_is_failure: empty.context("a plan without empty_is_failure")? }
                }
                other => bail!("the plan has a program that speaks {other}"),
            },
        })
    }
}

/// What came of a program.
#[derive(Debug, Default)]
pub(crate) struct Done {
    /// Tests that passed.
    pub(crate) tests: Vec<String>,
    /// Tests that failed, and whatever else makes the program a failed one.
    pub(crate) failures: Vec<String>,
    /// What tests left out and why.
    pub(crate) skipped: Vec<String>,
    /// What tests measured.
    pub(crate) facts: Vec<Value>,
    pub(crate) seconds: f64,
    running: Option<String>,
    suite: Option<(u64, u64, u64)>,
}

/// How often the console hears that the guest lives, so that its silence means the kernel's: a test may print nothing
/// for minutes.
const SIGN_OF_LIFE: Duration = Duration::from_secs(30);

/// Runs a program to its end or to the end of its time. PID 1 kills whatever it started; systemd does so at the machine's
/// end.
pub(crate) fn run(planned: &Planned) -> Result<Done> {
    let started = Instant::now();
    let (reader, writer) = std::io::pipe().context("making a pipe")?;
    let mut command = Command::new(&planned.path);
    command
        .args(&planned.arguments)
        .env_clear()
        .envs(&planned.environment)
        .current_dir(&planned.folder)
        .stdin(Stdio::null())
        .stdout(writer.try_clone().context("doubling a pipe")?)
        .stderr(writer);
    let child = command.spawn().with_context(|| format!("starting {}", planned.path.display()))?;
    // The command holds the pipe's writing end, which would keep the pipe open.
    drop(command);
    let pid = Pid::from_raw(i32::try_from(child.id()).context("a process id beyond i32")?);
    let lines = listen(BufReader::new(reader));

    let mut done = Done::default();
    let mut status = None;
    let mut said = Instant::now();
    while status.is_none() {
        if said.elapsed() > SIGN_OF_LIFE {
            said = Instant::now();
            let test = done.running.as_deref().unwrap_or_default();
            println!("|~ {} s in {} {test}", started.elapsed().as_secs(), planned.name);
        }
        if started.elapsed() > planned.patience {
            show_processes(&planned.name);
            done.failures.push(format!("not done after {} s", planned.patience.as_secs()));
            break;
        }
        match lines.recv_timeout(Duration::from_millis(100)) {
            Ok(line) => done.take(&planned.name, &line),
            Err(RecvTimeoutError::Timeout) => {}
            // Nobody can print any more: it has ended, or sits there in silence until its time is over.
            Err(RecvTimeoutError::Disconnected) => std::thread::sleep(Duration::from_millis(100)),
        }
        status = reap(pid)?;
    }
    if std::process::id() == 1 {
        end_all()?;
    } else if status.is_none() {
        kill(pid, Signal::SIGKILL).context("killing what takes too long")?;
    }
    // With everybody dead the pipe is closed, after what was still in it.
    while let Ok(line) = lines.recv() {
        done.take(&planned.name, &line);
    }
    done.seconds = started.elapsed().as_secs_f64();
    match planned.speaks {
        Speaks::Plain => done.close_plain(&planned.name, status),
        Speaks::Libtest { empty_is_failure } => done.close(status, empty_is_failure),
    }
    for failure in &done.failures {
        tell(&planned.name, &format!("failure: {failure}"));
    }
    Ok(done)
}

impl Done {
    /// Takes one line of the program's output in.
    fn take(&mut self, name: &str, line: &str) {
        match read(line) {
            Event::Started(test) => {
                tell(name, &format!("start {test}"));
                self.running = Some(test);
            }
            Event::Ended { name: test, how, seconds, output } => {
                output.lines().for_each(|line| self.show(name, &test, line));
                let word = match how {
                    How::Passed => "ok",
                    How::Failed => "FAILED",
                    How::Ignored => "ignored",
                };
                tell(name, &format!("{seconds:.1} s"));
                tell(name, &format!("{word} {test}"));
                match how {
                    How::Passed => self.tests.push(test),
                    How::Failed => self.failures.push(test),
                    How::Ignored => self.skipped.push(format!("{test}: marked #[ignore]")),
                }
                self.running = None;
            }
            Event::Suite { passed, failed, ignored } => self.suite = Some((passed, failed, ignored)),
            Event::Other => {
                let test = self.running.clone().unwrap_or_default();
                self.show(name, &test, line);
            }
        }
    }

    /// One line that a test printed: for people, or a word to the table (tests/src/guest.rs).
    fn show(&mut self, name: &str, test: &str, line: &str) {
        tell(name, line);
        if let Some(why) = line.strip_prefix("relay-skip: ") {
            self.skipped.push(format!("{test}: {why}"));
        }
        if let Some(fact) = line.strip_prefix("relay-fact: ") {
            match serde_json::from_str(fact) {
                Ok(fact) => self.facts.push(fact),
                Err(why) => self.failures.push(format!("{test}: a fact that is no JSON ({why}): {fact}")),
            }
        }
    }

    /// The last check of a program that says it by its exit code.
    fn close_plain(&mut self, name: &str, status: Option<WaitStatus>) {
        match status {
            Some(WaitStatus::Exited(_, 0)) => self.tests.push(name.to_owned()),
            Some(other) => self.failures.push(format!("the program ended with {other:?}")),
            // That it did not end in time is said already.
            None => {}
        }
    }

    /// The last checks: it ended well, it said so, and the sums agree.
    fn close(&mut self, status: Option<WaitStatus>, empty_is_failure: bool) {
        let any_failed = !self.failures.is_empty();
        if let Some(test) = self.running.take() {
            self.failures.push(test);
        }
        match status {
            // libtest's own code for failed tests, which are listed.
            Some(WaitStatus::Exited(_, 101)) if any_failed => {}
            Some(WaitStatus::Exited(_, 0)) | None => {}
            Some(other) => self.failures.push(format!("the program ended with {other:?}")),
        }
        let listed = u64::try_from(self.tests.len()).unwrap_or(u64::MAX);
        match self.suite {
            Some((passed, ..)) if passed == listed => {}
            Some((passed, ..)) => {
                self.failures.push(format!("{passed} tests passed and {listed} are listed"))
            }
            None => self.failures.push("the program did not end its tests".into()),
        }
        if empty_is_failure && self.suite == Some((0, 0, 0)) {
            self.failures.push("no test ran".into());
        }
    }
}

/// Reads lines in a thread until nobody has the pipe open.
fn listen(mut reader: BufReader<std::io::PipeReader>) -> mpsc::Receiver<String> {
    let (send, lines) = mpsc::channel();
    std::thread::spawn(move || {
        let mut bytes = Vec::new();
        while reader.read_until(b'\n', &mut bytes).is_ok_and(|n| n > 0) {
            let line = String::from_utf8_lossy(&bytes).trim_end_matches('\n').to_owned();
            bytes.clear();
            if send.send(line).is_err() {
                break;
            }
        }
    });
    lines
}

/// Buries the dead: those that lost their parents come to PID 1. Gives the status of `wanted` if it is among them.
fn reap(wanted: Pid) -> Result<Option<WaitStatus>> {
    let mut found = None;
    loop {
        match waitpid(None, Some(WaitPidFlag::WNOHANG)) {
            Ok(WaitStatus::StillAlive) | Err(Errno::ECHILD) => return Ok(found),
            Ok(status) if status.pid() == Some(wanted) => found = Some(status),
            Ok(_) | Err(Errno::EINTR) => {}
            Err(why) => return Err(why).context("waiting for processes"),
        }
    }
}

/// Kills every process but this one and waits until they are gone.
fn end_all() -> Result<()> {
    loop {
        // For PID 1, -1 means all others. Kernel threads do not listen.
        match kill(Pid::from_raw(-1), Signal::SIGKILL) {
            Ok(()) | Err(Errno::ESRCH) => {}
            Err(why) => return Err(why).context("killing what is left"),
        }
        match waitpid(None, None) {
            Err(Errno::ECHILD) => return Ok(()),
            Ok(_) | Err(Errno::EINTR) => {}
            Err(why) => return Err(why).context("waiting for processes"),
        }
    }
}

/// Where every process of the guest stands, for the one that has to find out why nothing moves.
fn show_processes(name: &str) {
    let Ok(entries) = std::fs::read_dir("/proc") else { return };
    for folder in entries.flatten().map(|entry| entry.path()) {
        let part = |file: &str| std::fs::read_to_string(folder.join(file)).unwrap_or_default();
        let command = part("cmdline").replace('\0', " ");
        if !command.is_empty() {
            tell(name, &format!("still here: {} {command} in {}", folder.display(), part("wchan")));
            part("stack").lines().for_each(|line| tell(name, line));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SUITE: &str = r#"{ "type": "suite", "event": "ok", "passed": 1, "failed": 0, "ignored": 0 }"#;
    const A: &str = r#"{ "type": "test", "name": "a", "event": "ok", "exec_time": 0.5, "stdout": "relay-skip: why\nrelay-fact: {\"lost\": 0}\n" }"#;

    fn ended(lines: &[&str], code: i32) -> Done {
        let mut done = Done::default();
        lines.iter().for_each(|line| done.take("p", line));
        done.close(Some(WaitStatus::Exited(Pid::from_raw(2), code)), true);
        done
    }

    #[test]
    fn a_program_that_says_it_passed_has() {
        let done = ended(&[A, SUITE], 0);
        assert_eq!((done.tests, done.failures), (vec!["a".to_owned()], vec![]));
        assert_eq!(done.skipped, ["a: why"]);
        assert_eq!(done.facts, [serde_json::json!({"lost": 0})]);
    }

    #[test]
    fn a_program_that_ends_in_any_other_way_has_not() {
        let started = r#"{ "type": "test", "event": "started", "name": "b" }"#;
        let empty = r#"{ "type": "suite", "event": "ok", "passed": 0, "failed": 0, "ignored": 0 }"#;
        for (lines, code) in [
            (vec![A], 0),
            (vec![A, SUITE], 101),
            (vec![A, A, SUITE], 0),
            (vec![SUITE], 0),
            (vec![started, A, SUITE], 134),
            (vec![empty], 0),
            (vec!["relay-fact: not json", A, SUITE], 0),
        ] {
            assert!(!ended(&lines, code).failures.is_empty(), "{lines:?} {code}");
        }
    }
}
