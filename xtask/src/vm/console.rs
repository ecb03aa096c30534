//! What a guest says on its console, and what of it is believed. No I/O here.
//!
//! PID 1 of the guest (tests/src/bin/guest-init) writes lines of four kinds:
//!
//! - `relay-vm: result {…}` — one program has ended, as JSON;
//! - `relay-vm: ok 5/5` or `relay-vm: failed 4/5` — the end: how many programs passed, of how many;
//! - what programs print, after `| `, so that no test can say the first two;
//! - signs of life, after `|~ `.
//!
//! Only the end line is believed, and only if the results above it say the same; a kernel that prints an oops, or
//! a machine that goes away without an end line, has failed whatever stood there before.

use serde::Deserialize;

/// What PID 1 says of one program. Unknown fields are refused: both ends are built together.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct ProgramResult {
    /// The program's short name, as "datapath".
    pub(crate) program: String,
    /// Whether it counts as passed.
    pub(crate) passed: bool,
    /// Tests in it that passed.
    pub(crate) tests: Vec<String>,
    /// Tests in it that failed, or why the program failed as a whole.
    pub(crate) failures: Vec<String>,
    /// What tests left out, each with its reason.
    pub(crate) skipped: Vec<String>,
    /// What tests want to have in the table, as JSON.
    pub(crate) facts: Vec<serde_json::Value>,
    /// Wall clock of the guest, in seconds.
    pub(crate) seconds: f64,
}

/// What one line of the console means.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Line {
    /// A program has ended.
    Result(ProgramResult),
    /// The end: programs passed, and of how many.
    End(End),
    /// The kernel is in trouble; the line says how.
    Trouble(String),
    /// A program prints this.
    Printed(String),
    /// Everything else.
    Talk,
}

/// The guest's last word.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct End {
    /// Whether PID 1 calls it passed.
    pub(crate) ok: bool,
    /// Programs that passed.
    pub(crate) passed: usize,
    /// Programs that were to run.
    pub(crate) of: usize,
}

/// Words of the kernel after which nothing the guest says can be trusted.
const TROUBLE: [&str; 5] = ["Kernel panic", "Oops: ", "BUG: ", "kernel BUG at", "general protection fault"];

/// Tells what a line of the console means.
pub(crate) fn read(line: &str) -> Line {
    let line = line.trim_end();
    if let Some(json) = line.strip_prefix("relay-vm: result ") {
        return match serde_json::from_str(json) {
            Ok(result) => Line::Result(result),
            Err(why) => Line::Trouble(format!("a result that cannot be read ({why}): {json}")),
        };
    }
    if let Some(end) = line.strip_prefix("relay-vm: ").and_then(read_end) {
        return Line::End(end);
    }
    if let Some(printed) = line.strip_prefix("| ") {
        // After the seconds since boot and the program's name.
        let text = printed.trim_start().splitn(3, ' ').nth(2).unwrap_or_default();
        return Line::Printed(text.to_owned());
    }
    // The kernel's own lines begin with its clock; the same words in a test's output mean nothing.
    let of_kernel = line.starts_with('[');
    // An emulated processor that the host leaves waiting looks locked up to the guest.
    if of_kernel && TROUBLE.iter().any(|word| line.contains(word)) && !line.contains("soft lockup") {
        return Line::Trouble(line.to_owned());
    }
    Line::Talk
}

fn read_end(text: &str) -> Option<End> {
    let (word, counts) = text.split_once(' ')?;
    let (passed, of) = counts.split_once('/')?;
    let ok = match word {
        "ok" => true,
        "failed" => false,
        _ => return None,
    };
    Some(End { ok, passed: passed.parse().ok()?, of: of.parse().ok()? })
}

/// Why a machine's run counts as failed, or nothing when its last word can be believed and says ok.
pub(crate) fn judge(planned: usize, results: &[ProgramResult], end: Option<End>) -> Result<(), String> {
    let Some(end) = end else { return Err("the guest went away without its last line".into()) };
    let passed = results.iter().filter(|result| result.passed).count();
    if end.of != planned || results.len() != planned || end.passed != passed || end.ok != (passed == planned)
    {
        return Err(format!(
            "the guest contradicts itself: {planned} programs planned, {} results, {passed} of them passed, last line \
             {end:?}",
            results.len()
        ));
    }
    if let Some(result) = results.iter().find(|result| result.passed != result.failures.is_empty()) {
        return Err(format!("the result of {} contradicts itself", result.program));
    }
    if !end.ok {
        return Err(format!("{} of {planned} programs failed", planned - passed));
    }
    if results.iter().all(|result| result.tests.is_empty()) {
        return Err("no test ran".into());
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn result(passed: bool) -> ProgramResult {
        ProgramResult {
            program: "p".into(),
            passed,
            tests: vec!["a".into()],
            failures: if passed { vec![] } else { vec!["b".into()] },
            skipped: vec![],
            facts: vec![],
            seconds: 1.0,
        }
    }

    #[test]
    fn lines_mean_what_they_say_only_at_their_beginning() {
        let end = End { ok: true, passed: 2, of: 2 };
        assert_eq!(read("relay-vm: ok 2/2\r\n"), Line::End(end));
        assert_eq!(read("|     1.25 p relay-vm: ok 2/2"), Line::Printed("relay-vm: ok 2/2".into()));
        assert_eq!(read("relay-vm: ok two/2"), Line::Talk);
        let printed = "[    1.0] Kernel panic - not syncing";
        assert_eq!(read(&format!("|     1.25 p {printed}")), Line::Printed(printed.into()));
        assert_eq!(read("|     1.25 p"), Line::Printed(String::new()));
        assert!(matches!(read("[    1.000000] Kernel panic - not syncing"), Line::Trouble(_)));
        assert!(matches!(read("[    1.000000] BUG: kernel NULL pointer dereference"), Line::Trouble(_)));
        assert_eq!(read("[   99.0] watchdog: BUG: soft lockup - CPU#0 stuck"), Line::Talk);
        assert!(matches!(read("relay-vm: result {\"program\":"), Line::Trouble(_)));
        let json = r#"{"program":"p","passed":true,"tests":["a"],"failures":[],"skipped":[],"facts":[],"seconds":1.0}"#;
        assert_eq!(read(&format!("relay-vm: result {json}")), Line::Result(result(true)));
    }

    #[test]
    fn only_a_last_word_that_agrees_with_the_results_passes() {
        let end = |ok, passed, of| Some(End { ok, passed, of });
        assert_eq!(judge(1, &[result(true)], end(true, 1, 1)), Ok(()));
        for (planned, results, end) in [
            (1, vec![result(true)], None),
            (1, vec![result(false)], end(false, 0, 1)),
            (1, vec![result(false)], end(true, 1, 1)),
            (2, vec![result(true)], end(true, 1, 1)),
            (2, vec![result(true)], end(true, 2, 2)),
            (1, vec![result(true)], end(false, 1, 1)),
            (1, vec![ProgramResult { tests: vec![], ..result(true) }], end(true, 1, 1)),
            (1, vec![ProgramResult { failures: vec!["x".into()], ..result(true) }], end(true, 1, 1)),
        ] {
            assert!(judge(planned, &results, end).is_err(), "{planned} {results:?} {end:?}");
        }
    }
}
