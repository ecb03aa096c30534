//! The lines of a wg-quick file: sections, keys, values and comments, each with its place.

/// One line, without its white space.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Line<'a> {
    /// Nothing.
    Blank,
    /// `# text`: the text.
    Comment(&'a str),
    /// `[Name]`, and the comment behind it.
    Section(&'a str, Option<&'a str>),
    /// `Key = value`, the inline comment cut off where the key has none of its own.
    Entry {
        /// The key, as written.
        key: &'a str,
        /// The value.
        value: &'a str,
        /// The column of the value, counted from 1 in characters.
        column: usize,
    },
    /// Anything else.
    Unknown(&'a str),
}

/// The lines of a file with their numbers, counted from 1. A byte order mark and carriage returns are no part of them.
pub(super) fn lines(text: &str) -> impl Iterator<Item = (usize, Line<'_>)> {
    let text = text.strip_prefix('\u{feff}').unwrap_or(text);
    text.lines().enumerate().map(|(index, line)| (index + 1, classify(line)))
}

fn classify(line: &str) -> Line<'_> {
    let trimmed = line.trim();
    if trimmed.is_empty() {
        return Line::Blank;
    }
    if let Some(comment) = trimmed.strip_prefix('#') {
        return Line::Comment(comment);
    }
    let (code, comment) = match trimmed.split_once('#') {
        Some((code, comment)) => (code.trim_end(), Some(comment)),
        None => (trimmed, None),
    };
    if let Some(section) = code.strip_prefix('[').and_then(|code| code.strip_suffix(']')) {
        return Line::Section(section.trim(), comment);
    }
    let Some((key, value)) = trimmed.split_once('=').filter(|(key, _)| !key.contains('#')) else {
        return Line::Unknown(trimmed);
    };
    let (key, value) = (key.trim_end(), value.trim_start());
    let before = line.len() - line.trim_start().len() + (trimmed.len() - value.len());
    let column = 1 + line[..before].chars().count();
    // A hook is a shell's line: `#` in it is the shell's business.
    let is_hook = ["preup", "postup", "predown", "postdown"].contains(&key.to_ascii_lowercase().as_str());
    let value = if is_hook { value } else { value.split('#').next().unwrap_or_default().trim_end() };
    Line::Entry { key, value, column }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_kind_of_line() {
        let text = "\u{feff}[Interface]\r\n\r\n  # a note\r\n  Address=10.8.0.1/24 # mine\r\nPostUp = echo '#'\r\nö\n\
                    [Peer]# phone\nKey # = 1\n= 2";
        let all: Vec<(usize, Line<'_>)> = lines(text).collect();
        assert_eq!(
            all.into_iter().map(|(_, line)| line).collect::<Vec<_>>(),
            [
                Line::Section("Interface", None),
                Line::Blank,
                Line::Comment(" a note"),
                Line::Entry { key: "Address", value: "10.8.0.1/24", column: 11 },
                Line::Entry { key: "PostUp", value: "echo '#'", column: 10 },
                Line::Unknown("ö"),
                Line::Section("Peer", Some(" phone")),
                Line::Unknown("Key # = 1"),
                Line::Entry { key: "", value: "2", column: 3 },
            ]
        );
    }
}
