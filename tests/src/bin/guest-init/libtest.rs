//! What a Rust test program says of its tests when asked for JSON.

use serde_json::Value;

/// One event; see library/test/src/formatters/json.rs of Rust.
#[derive(Debug, PartialEq)]
pub(crate) enum Event {
    /// A test begins.
    Started(String),
    /// A test has ended.
    Ended { name: String, how: How, seconds: f64, output: String },
    /// The program has ended its tests: passed, failed, ignored.
    Suite { passed: u64, failed: u64, ignored: u64 },
    /// Anything that is not from libtest.
    Other,
}

/// How a test ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum How {
    Passed,
    Failed,
    Ignored,
}

/// Reads one line. What a child of a test printed without a newline may stand before libtest's JSON.
pub(crate) fn read(line: &str) -> Event {
    let Some(start) = line.find("{ \"type\": ") else { return Event::Other };
    let Ok(value) = serde_json::from_str::<Value>(&line[start..]) else { return Event::Other };
    let text = |key: &str| value[key].as_str().unwrap_or_default().to_owned();
    let number = |key: &str| value[key].as_u64();
    let how = match (value["type"].as_str(), value["event"].as_str()) {
        (Some("test"), Some("started")) => return Event::Started(text("name")),
        (Some("suite"), Some("ok" | "failed")) => {
            let (Some(passed), Some(failed), Some(ignored)) =
                (number("passed"), number("failed"), number("ignored"))
            else {
                return Event::Other;
            };
            return Event::Suite { passed, failed, ignored };
        }
        (Some("test"), Some("ok")) => How::Passed,
        (Some("test"), Some("failed")) => How::Failed,
        (Some("test"), Some("ignored")) => How::Ignored,
        _ => return Event::Other,
    };
    let mut output = text("stdout");
    // Why a test failed that did not panic.
    output.push_str(&text("message"));
    Event::Ended { name: text("name"), how, seconds: value["exec_time"].as_f64().unwrap_or_default(), output }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn events_are_read_and_other_lines_are_not() {
        let started = r#"{ "type": "test", "event": "started", "name": "a::b" }"#;
        assert_eq!(read(started), Event::Started("a::b".into()));
        let ended =
            r#"noise{ "type": "test", "name": "a", "event": "failed", "exec_time": 0.5, "stdout": "why\n" }"#;
        let expected =
            Event::Ended { name: "a".into(), how: How::Failed, seconds: 0.5, output: "why\n".into() };
        assert_eq!(read(ended), expected);
        let suite = r#"{ "type": "suite", "event": "ok", "passed": 2, "failed": 0, "ignored": 1, "measured": 0, "filtered_out": 0, "exec_time": 0.1 }"#;
        assert_eq!(read(suite), Event::Suite { passed: 2, failed: 0, ignored: 1 });
        assert_eq!(read("test a ... ok"), Event::Other);
        assert_eq!(read(r#"{ "type": "suite", "event": "ok" }"#), Event::Other);
    }
}
