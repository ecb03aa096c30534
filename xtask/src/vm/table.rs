//! What the guests' tests measured, kernel beside kernel. No I/O here.
//!
//! A fact is a JSON object that a test wrote (tests/src/guest.rs). Three kinds have a place of their own: how the program
//! is attached, what a case of the lifecycle cost, and how many instructions the verifier looked at. The others are
//! printed as they are.

use std::fmt::Write as _;

use serde_json::Value;

use super::outcome::Report;

/// What a fact is about.
enum Kind<'a> {
    /// `{"attach": "tcx"}`.
    Attach(&'a str),
    /// `{"lifecycle": case, "lost": packets, "handshakes": 0 or 1, "pings": sent}`.
    Lifecycle(&'a str, String),
    /// `{"program": name, "verified instructions": count}`.
    Verified(&'a str, String),
    /// Anything else.
    Other,
}

fn kind(fact: &Value) -> Kind<'_> {
    if let Some(attach) = fact["attach"].as_str() {
        return Kind::Attach(attach);
    }
    if let (Some(case), Some(lost), Some(handshakes)) =
        (fact["lifecycle"].as_str(), fact["lost"].as_u64(), fact["handshakes"].as_u64())
    {
        let again = if handshakes == 0 { "" } else { ", handshake" };
        return Kind::Lifecycle(case, format!("{lost} of {}{again}", fact["pings"]));
    }
    if let (Some(program), Some(count)) = (fact["program"].as_str(), fact["verified instructions"].as_u64()) {
        return Kind::Verified(program, count.to_string());
    }
    Kind::Other
}

/// How the fast path is attached on a kernel, as its tests say.
pub(super) fn attach(facts: &[Value]) -> &str {
    let said = facts.iter().find_map(|fact| match kind(fact) {
        Kind::Attach(how) => Some(how),
        _ => None,
    });
    said.unwrap_or("-")
}

/// The facts of all kernels.
pub(super) fn facts(reports: &[Report]) -> String {
    let lifecycle = |fact: &Value| match kind(fact) {
        Kind::Lifecycle(case, cell) => Some((case.to_owned(), cell)),
        _ => None,
    };
    let verified = |fact: &Value| match kind(fact) {
        Kind::Verified(program, cell) => Some((program.to_owned(), cell)),
        _ => None,
    };
    let mut text = beside("lifecycle: packets lost", reports, lifecycle);
    text.push_str(&beside("program: instructions verified", reports, verified));
    for report in reports {
        for fact in report.facts.iter().filter(|fact| matches!(kind(fact), Kind::Other)) {
            let _ = writeln!(text, "{} {}", report.kernel, sentence(fact));
        }
    }
    text
}

/// One table: a row for each thing, in the order in which it was met, and a column for each kernel.
fn beside(title: &str, reports: &[Report], cell: impl Fn(&Value) -> Option<(String, String)>) -> String {
    let mut rows: Vec<(String, Vec<String>)> = Vec::new();
    for (column, report) in reports.iter().enumerate() {
        for (name, text) in report.facts.iter().filter_map(&cell) {
            let at = rows.iter().position(|(row, _)| *row == name).unwrap_or_else(|| {
                rows.push((name, vec!["-".to_owned(); reports.len()]));
                rows.len() - 1
            });
            rows[at].1[column] = text;
        }
    }
    if rows.is_empty() {
        return String::new();
    }
    let header = (title.to_owned(), reports.iter().map(|report| report.kernel.clone()).collect());
    let first = rows.iter().map(|(name, _)| name.chars().count()).chain([title.len()]).max().unwrap_or(0);
    let mut text = String::from("\n");
    for (name, cells) in std::iter::once(&header).chain(&rows) {
        let _ = write!(text, "{name:<first$}");
        for cell in cells {
            let _ = write!(text, "  {cell:>22}");
        }
        text.push('\n');
    }
    text
}

/// A fact as words: `{"case": "reload", "lost": 0}` becomes `case=reload lost=0`.
fn sentence(fact: &Value) -> String {
    let Some(fields) = fact.as_object() else { return fact.to_string() };
    let words = fields.iter().map(|(key, value)| match value.as_str() {
        Some(text) => format!("{key}={text}"),
        None => format!("{key}={value}"),
    });
    words.collect::<Vec<_>>().join(" ")
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn kernels_stand_side_by_side() {
        let old = Report::of(
            "6.1",
            [
                json!({"attach": "clsact"}),
                json!({"lifecycle": "restart", "lost": 0, "handshakes": 0, "pings": 1500}),
                json!({"program": "tunnel", "verified instructions": 1601}),
            ],
        );
        let new = Report::of(
            "6.12",
            [
                json!({"lifecycle": "restart", "lost": 3, "handshakes": 1, "pings": 1500}),
                json!({"lifecycle": "upgrade", "lost": 0, "handshakes": 0, "pings": 1500}),
                json!({"case": "start", "seconds": 0.5}),
            ],
        );
        assert_eq!((attach(&old.facts), attach(&new.facts)), ("clsact", "-"));
        let text = facts(&[old, new]);
        let words: Vec<Vec<&str>> = text
            .lines()
            .map(|line| line.split("  ").map(str::trim).filter(|word| !word.is_empty()).collect())
            .collect();
        assert_eq!(
            words,
            [
                vec![],
                vec!["lifecycle: packets lost", "6.1", "6.12"],
                vec!["restart", "0 of 1500", "3 of 1500, handshake"],
                vec!["upgrade", "-", "0 of 1500"],
                vec![],
                vec!["program: instructions verified", "6.1", "6.12"],
                vec!["tunnel", "1601", "-"],
                vec!["6.12 case=start seconds=0.5"],
            ]
        );
    }
}
