//! Prometheus' text format, version 0.0.4.
//!
//! `prometheus-client` writes OpenMetrics, whose counters have another name in `# TYPE` than in their samples; readers
//! of 0.0.4, `promtool` among them, take such samples for untyped.

use std::fmt::Write as _;

/// What a metric is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    /// Only grows, except when it begins anew.
    Counter,
    /// Goes up and down.
    Gauge,
}

/// A text that is being written, family by family.
#[derive(Debug, Default)]
pub(super) struct Text {
    text: String,
    name: &'static str,
}

impl Text {
    /// Begins a family: the samples that follow are its.
    pub(super) fn family(&mut self, name: &'static str, kind: Kind, help: &str) {
        self.name = name;
        let kind = match kind {
            Kind::Counter => "counter",
            Kind::Gauge => "gauge",
        };
        let help = help.replace('\\', r"\\").replace('\n', r"\n");
        let _ = writeln!(self.text, "# HELP {name} {help}\n# TYPE {name} {kind}");
    }

    /// One sample of the family.
    pub(super) fn sample(&mut self, labels: &[(&str, &str)], value: u64) {
        self.line(labels, &value.to_string());
    }

    /// As [`Text::sample`], of a value in thousandths.
    pub(super) fn sample_milli(&mut self, labels: &[(&str, &str)], thousandths: u64) {
        self.line(labels, &format!("{}.{:03}", thousandths / 1000, thousandths % 1000));
    }

    fn line(&mut self, labels: &[(&str, &str)], value: &str) {
        let labels: Vec<String> =
            labels.iter().map(|(name, value)| format!("{name}=\"{}\"", escaped(value))).collect();
        let _ = writeln!(self.text, "{}{{{}}} {value}", self.name, labels.join(","));
    }

    /// The text.
    pub(super) fn finish(self) -> String {
        self.text
    }
}

/// A label's value, between quotes.
fn escaped(value: &str) -> String {
    value.replace('\\', r"\\").replace('"', "\\\"").replace('\n', r"\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn labels_are_escaped() {
        let mut text = Text::default();
        text.family("a_total", Kind::Counter, "two\nlines \\");
        text.sample(&[("name", "Zoë's \"x\" \\ y\nz"), ("b", "")], 7);
        text.family("b_seconds", Kind::Gauge, "time");
        text.sample_milli(&[("b", "c")], 1_005);
        let expected = "# HELP a_total two\\nlines \\\\\n# TYPE a_total counter\n\
                        a_total{name=\"Zoë's \\\"x\\\" \\\\ y\\nz\",b=\"\"} 7\n\
                        # HELP b_seconds time\n# TYPE b_seconds gauge\nb_seconds{b=\"c\"} 1.005\n";
        assert_eq!(text.finish(), expected);
    }
}
