//! Names of files after peers, whose names are free text.

use std::collections::HashSet;

/// What wg-quick takes for the name of an interface, and so of a configuration, at most.
const LONGEST: usize = 15;

/// A name for each in turn, without an ending: letters that every file system and wg-quick take, no two alike, also
/// where upper and lower case are the same.
#[must_use]
pub fn unique<'a>(names: impl IntoIterator<Item = &'a str>) -> Vec<String> {
    let mut taken = HashSet::new();
    names
        .into_iter()
        .map(|name| free(name, |candidate| !taken.insert(candidate.to_ascii_lowercase())))
        .collect()
}

/// A name after `name` that is not taken.
#[must_use]
pub fn free(name: &str, mut is_taken: impl FnMut(&str) -> bool) -> String {
    let stem = safe(name);
    if !is_taken(&stem) {
        return stem;
    }
    let numbered = (2..).map(|number: u32| {
        let number = format!("-{number}");
        format!("{}{number}", &stem[..stem.len().min(LONGEST - number.len())])
    });
    let mut free = numbered.skip_while(|candidate| is_taken(candidate));
    free.next().expect("there are more numbers than files")
}

/// Letters, digits, `_`, `.` and `-` stay, whatever else stands between them becomes one `-`; it begins with a letter or
/// a digit, is no name that Windows keeps for devices, and is never empty.
fn safe(name: &str) -> String {
    let mut safe = String::with_capacity(LONGEST);
    for c in name.chars() {
        if safe.len() == LONGEST {
            break;
        }
        if c.is_ascii_alphanumeric() || (!safe.is_empty() && "_.-".contains(c)) {
            safe.push(c);
        } else if !safe.is_empty() && !safe.ends_with('-') {
            safe.push('-');
        }
    }
    if is_device(&safe) {
        safe.insert_str(0, "peer-");
        safe.truncate(LONGEST);
    }
    safe.truncate(safe.trim_end_matches(['.', '-']).len());
    if safe.is_empty() { "peer".to_owned() } else { safe }
}

/// Whether Windows takes it for a device, whatever the ending.
fn is_device(name: &str) -> bool {
    let stem = name.split('.').next().unwrap_or_default().to_ascii_lowercase();
    let numbered = |device: &str| stem.strip_prefix(device).is_some_and(|rest| rest.len() == 1);
    ["con", "prn", "aux", "nul"].contains(&stem.as_str()) || numbered("com") || numbered("lpt")
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn table() {
        let rows = [
            ("phone", "phone"),
            ("Anna's phone (old)", "Anna-s-phone-ol"),
            ("../../etc/passwd", "etc-passwd"),
            ("日本", "peer"),
            ("Zoë", "Zo"),
            ("-rf", "rf"),
            ("NUL", "peer-NUL"),
            ("com1.x", "peer-com1.x"),
            ("a.", "a"),
        ];
        for (name, expected) in rows {
            assert_eq!(unique([name]), [expected], "{name}");
        }
        assert_eq!(
            unique(["Phone", "phone", "phone!", "日", "本"]),
            ["Phone", "phone-2", "phone-3", "peer", "peer-2"]
        );
        assert_eq!(
            unique(["a-very-long-name-1", "a-very-long-name-2"]),
            ["a-very-long-nam", "a-very-long-n-2"]
        );
    }

    proptest! {
        #[test]
        fn safe_and_unique(names in proptest::collection::vec("\\PC{0,20}", 0..40)) {
            let files = unique(names.iter().map(String::as_str));
            let distinct: HashSet<String> = files.iter().map(|file| file.to_ascii_lowercase()).collect();
            prop_assert_eq!(distinct.len(), names.len());
            for file in files {
                prop_assert!((1..=LONGEST).contains(&file.len()), "{}", file);
                prop_assert!(file.starts_with(|c: char| c.is_ascii_alphanumeric()), "{}", file);
                prop_assert!(file.bytes().all(|b| b.is_ascii_alphanumeric() || b"_.-".contains(&b)), "{}", file);
            }
        }
    }
}
