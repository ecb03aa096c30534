//! What is wrong with a configuration, and on which line.

use std::{
    fmt,
    ops::Range,
    path::{Path, PathBuf},
};

/// One thing that is wrong. It prints as `relay.toml:LINE:COLUMN: what clashes with what; hint`.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{}:{line}:{column}: {}", file.display(), self.text())]
pub struct ConfigError {
    /// The file, as the user named it.
    pub file: PathBuf,
    /// Counted from 1.
    pub line: usize,
    /// Counted from 1, in characters.
    pub column: usize,
    /// What is wrong, with both names where two things clash.
    pub message: String,
    /// What to do about it, where that is known.
    pub hint: Option<String>,
}

impl ConfigError {
    /// Message and hint without the place: for text that is in no file yet, where a line number would mislead.
    #[must_use]
    pub fn text(&self) -> String {
        match &self.hint {
            Some(hint) => format!("{}; {hint}", self.message),
            None => self.message.clone(),
        }
    }
}

/// Everything that is wrong with a file, at least one thing, in the order of the file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ConfigErrors(Vec<ConfigError>);

impl ConfigErrors {
    /// The errors.
    #[must_use]
    pub fn as_slice(&self) -> &[ConfigError] {
        &self.0
    }
}

impl fmt::Display for ConfigErrors {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, error) in self.0.iter().enumerate() {
            if index > 0 {
                writeln!(f)?;
            }
            write!(f, "{error}")?;
        }
        Ok(())
    }
}

impl std::error::Error for ConfigErrors {}

impl From<ConfigError> for ConfigErrors {
    fn from(error: ConfigError) -> Self {
        Self(vec![error])
    }
}

/// Something allowed and yet unwise.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Warning(pub String);

impl fmt::Display for Warning {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// Collects what is wrong, so that one reading names all of it.
pub(super) struct Problems<'a> {
    file: &'a Path,
    text: &'a str,
    /// Where each line begins, so that a file wrong on each of its lines is not read once for each.
    lines: Vec<usize>,
    list: Vec<ConfigError>,
}

impl<'a> Problems<'a> {
    pub(super) fn new(file: &'a Path, text: &'a str) -> Self {
        Self { file, text, lines: line_starts(text), list: Vec::new() }
    }

    pub(super) fn refuse(&mut self, span: Range<usize>, message: impl Into<String>) {
        self.push(span, message.into(), None);
    }

    pub(super) fn refuse_with_hint(
        &mut self,
        span: Range<usize>,
        message: impl Into<String>,
        hint: impl Into<String>,
    ) {
        self.push(span, message.into(), Some(hint.into()));
    }

    /// The line, counted from 1, where a span begins.
    pub(super) fn line(&self, span: &Range<usize>) -> usize {
        place(self.text, &self.lines, span.start).0
    }

    /// `value` if nothing was refused.
    pub(super) fn finish<T>(mut self, value: Option<T>) -> Result<T, ConfigErrors> {
        self.list.sort_by_key(|error| (error.line, error.column));
        match value {
            Some(value) if self.list.is_empty() => Ok(value),
            _ => {
                debug_assert!(!self.list.is_empty(), "a value is missing only where something was refused");
                Err(ConfigErrors(self.list))
            }
        }
    }

    fn push(&mut self, span: Range<usize>, message: String, hint: Option<String>) {
        let (line, column) = place(self.text, &self.lines, span.start);
        self.list.push(ConfigError { file: self.file.to_owned(), line, column, message, hint });
    }
}

fn line_starts(text: &str) -> Vec<usize> {
    std::iter::once(0).chain(text.match_indices('\n').map(|(newline, _)| newline + 1)).collect()
}

/// Line and column, counted from 1, of a byte; the end of the text for bytes beyond it.
fn place(text: &str, lines: &[usize], byte: usize) -> (usize, usize) {
    let byte = byte.min(text.len());
    let line = lines.partition_point(|&start| start <= byte);
    let start = lines[line - 1];
    (line, 1 + String::from_utf8_lossy(&text.as_bytes()[start..byte]).chars().count())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn places_count_from_one_in_characters() {
        let text = "ä = 1\nb = 2\n";
        for (byte, expected) in [(0, (1, 1)), (2, (1, 2)), (7, (2, 1)), (11, (2, 5)), (99, (3, 1))] {
            assert_eq!(place(text, &line_starts(text), byte), expected, "byte {byte}");
        }
        assert_eq!(place("", &line_starts(""), 0), (1, 1));
    }
}
