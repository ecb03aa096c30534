//! What came of the guests, as data and as a table.

use std::fmt;
use std::fs;
use std::path::PathBuf;

use anyhow::{Result, bail};

use super::machine::Run;
use super::table;

/// What came of one kernel.
#[derive(Debug, Clone)]
pub(crate) struct Report {
    /// The line, as "6.1", or which boot it was.
    pub(crate) kernel: String,
    /// What `uname -r` says there.
    pub(crate) release: String,
    /// Tests that passed, as "program::test".
    pub(crate) passed: Vec<String>,
    /// Tests that failed, as "program::test" or "program: reason".
    pub(crate) failed: Vec<String>,
    /// What tests left out, each with its reason.
    pub(crate) skipped: Vec<String>,
    /// What tests measured: JSON objects, as the tests wrote them.
    pub(crate) facts: Vec<serde_json::Value>,
    /// Why the run as a whole did not pass; nothing when it did.
    pub(crate) why: Option<String>,
    /// From start to end.
    pub(crate) seconds: f64,
    /// The console, kept until the next run of this kernel.
    pub(crate) log: PathBuf,
}

impl Report {
    pub(super) fn new(name: &str, release: &str, run: &Run, why: Option<String>, log: PathBuf) -> Self {
        let mut report = Self {
            kernel: name.to_owned(),
            release: release.to_owned(),
            passed: Vec::new(),
            failed: Vec::new(),
            skipped: Vec::new(),
            facts: Vec::new(),
            why,
            seconds: run.seconds,
            log,
        };
        for result in &run.results {
            let name = |test: &String| format!("{}::{test}", result.program);
            report.passed.extend(result.tests.iter().map(name));
            report.failed.extend(result.failures.iter().map(name));
            report.skipped.extend(result.skipped.iter().map(name));
            report.facts.extend(result.facts.iter().cloned());
        }
        report
    }

    /// One whose tests only measured, for tests of the table.
    #[cfg(test)]
    pub(super) fn of(kernel: &str, facts: impl IntoIterator<Item = serde_json::Value>) -> Self {
        Self {
            kernel: kernel.to_owned(),
            release: kernel.to_owned(),
            passed: Vec::new(),
            failed: Vec::new(),
            skipped: Vec::new(),
            facts: facts.into_iter().collect(),
            why: None,
            seconds: 0.0,
            log: PathBuf::new(),
        }
    }

    /// The lines of the console that tell a person what went wrong.
    pub(crate) fn excerpt(&self) -> String {
        match fs::read_to_string(&self.log) {
            Ok(text) => excerpt(&text, &self.failed),
            Err(why) => format!("{} cannot be read: {why}\n", self.log.display()),
        }
    }
}

/// What came of all kernels.
#[derive(Debug, Clone)]
pub(crate) struct Outcome {
    /// In the order in which they were asked for.
    pub(crate) reports: Vec<Report>,
}

impl Outcome {
    /// What passed, in one line; an error if anything did not.
    pub(crate) fn verdict(&self) -> Result<String> {
        let words = |r: &Report| match &r.why {
            None => format!("{}: {} tests", r.kernel, r.passed.len()),
            Some(why) => format!("{}: {why}", r.kernel),
        };
        let line = self.reports.iter().map(words).collect::<Vec<_>>().join("; ");
        let passed = !self.reports.is_empty() && self.reports.iter().all(|report| report.why.is_none());
        if passed { Ok(line) } else { bail!("{line}") }
    }
}

impl fmt::Display for Outcome {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(
            f,
            "{:<8}{:<28}{:<8}{:>7}{:>8}{:>9}{:>9}  outcome",
            "kernel", "release", "attach", "passed", "failed", "skipped", "seconds"
        )?;
        for r in &self.reports {
            let counts = (r.passed.len(), r.failed.len(), r.skipped.len());
            write!(f, "{:<8}{:<28}{:<8}", r.kernel, r.release, table::attach(&r.facts))?;
            write!(f, "{:>7}{:>8}{:>9}{:>9.0}", counts.0, counts.1, counts.2, r.seconds)?;
            writeln!(f, "  {}", r.why.as_deref().unwrap_or("ok"))?;
        }
        f.write_str(&table::facts(&self.reports))?;
        for r in &self.reports {
            r.skipped.iter().try_for_each(|line| writeln!(f, "{} skipped {line}", r.kernel))?;
        }
        for r in self.reports.iter().filter(|r| r.why.is_some()) {
            writeln!(f, "\nkernel {}, the part of {} that matters:", r.kernel, r.log.display())?;
            f.write_str(&r.excerpt())?;
        }
        Ok(())
    }
}

/// At most this many lines for each failure, and of the end where no failure is named.
const LINES: usize = 60;

/// From a console, the lines of each failed test; the last lines if none is named there.
fn excerpt(console: &str, failed: &[String]) -> String {
    let lines: Vec<&str> = console.lines().collect();
    let mut out = String::new();
    for name in failed {
        let test = name.split_once("::").map_or(name.as_str(), |(_, test)| test);
        // PID 1 ends what it shows of a test with this line.
        let Some(end) = lines.iter().position(|line| line.ends_with(&format!("FAILED {test}"))) else {
            continue;
        };
        let start =
            lines[..end].iter().rposition(|line| line.ends_with(&format!("start {test}"))).unwrap_or(0);
        for line in &lines[start.max((end + 1).saturating_sub(LINES))..=end] {
            out.push_str(line);
            out.push('\n');
        }
    }
    if out.is_empty() {
        for line in &lines[lines.len().saturating_sub(LINES)..] {
            out.push_str(line);
            out.push('\n');
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_excerpt_is_the_failed_test_or_else_the_end() {
        let console = "boot\n| p start a\n| p ok a\n| p start b\n| p because\n| p FAILED b\nend\n";
        assert_eq!(excerpt(console, &["p::b".into()]), "| p start b\n| p because\n| p FAILED b\n");
        assert_eq!(excerpt(console, &["p::took too long".into()]), console);
        assert_eq!(excerpt(&"x\n".repeat(100), &[]).lines().count(), LINES);
    }
}
