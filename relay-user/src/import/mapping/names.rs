//! Names that relay takes: one line, not too long, each once.

use std::collections::{HashMap, HashSet};

use crate::{file_name, import::sentence::holds_key, name::PeerName};

/// Characters of a name, as [`PeerName`] has it.
const LIMIT: usize = 64;

/// Gives every peer a name, and every key file.
#[derive(Default)]
pub(super) struct Names {
    taken: HashSet<String>,
    last_number: HashMap<String, u32>,
    files: HashSet<String>,
}

impl Names {
    /// The name closest to the one found, `number` counting the peers from 1.
    pub(super) fn name(&mut self, found: &str, number: usize) -> String {
        let mut name = one_line(found);
        if name.is_empty() || holds_key(&name) {
            name = format!("peer {number}");
        }
        self.unique(&name)
    }

    /// The name of the file with a peer's preshared key.
    pub(super) fn file(&mut self, name: &str) -> String {
        let stem = file_name::free(name, |stem| self.files.contains(&stem.to_ascii_lowercase()));
        self.files.insert(stem.to_ascii_lowercase());
        format!("{stem}.psk")
    }

    fn unique(&mut self, name: &str) -> String {
        if self.taken.insert(name.to_owned()) {
            return name.to_owned();
        }
        // Counted on from the last of that name, so that ten thousand of one name cost what ten cost.
        let mut number = self.last_number.get(name).copied().unwrap_or(1);
        loop {
            number += 1;
            let suffix = format!(" ({number})");
            let kept: String = name.chars().take(LIMIT - suffix.len()).collect();
            let candidate = format!("{}{suffix}", kept.trim_end());
            if self.taken.insert(candidate.clone()) {
                self.last_number.insert(name.to_owned(), number);
                return candidate;
            }
        }
    }
}

fn one_line(text: &str) -> String {
    // Not only control characters: marks of direction would let a name pose as another.
    let hidden = |c: char| {
        c.is_control()
            || matches!(c, '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2060}'..='\u{2069}' | '\u{feff}')
    };
    let visible: String = text.chars().map(|c| if hidden(c) { ' ' } else { c }).collect();
    let words: Vec<&str> = visible.split_whitespace().collect();
    let cut: String = words.join(" ").chars().take(LIMIT).collect();
    let name = cut.trim().to_owned();
    if name.parse::<PeerName>().is_ok() { name } else { String::new() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_peer_gets_a_name_of_its_own() {
        let mut names = Names::default();
        let key = crate::key::PublicKey::new([5; 32]).to_string();
        let long = "x".repeat(70);
        for (number, (found, expected)) in [
            ("home", "home"),
            ("home", "home (2)"),
            ("Anna's phone (old)", "Anna's phone (old)"),
            ("home (2)", "home (2) (2)"),
            ("", "peer 5"),
            ("a\nb\u{1b}[1m\tc", "a b [1m c"),
            ("\u{202e}", "peer 7"),
            (&key, "peer 8"),
            (&long, &long[..64]),
            (&long, &format!("{} (2)", &long[..60])),
        ]
        .into_iter()
        .enumerate()
        {
            assert_eq!(names.name(found, number + 1), expected, "{found:?}");
        }
    }
}
