//! How text from a source is repeated: in one line, not endlessly, and without any key that stands in it.

use crate::key::PublicKey;

/// Characters of a source's text that are repeated.
const LIMIT: usize = 160;

/// `text` in a form that may be shown: escaped, cut, and `(a key)` for whatever could be one.
pub(super) fn shown(text: &str) -> String {
    let mut escaped =
        without_keys(text.trim()).escape_debug().to_string().replace("\\'", "'").replace("\\\"", "\"");
    if let Some((cut, _)) = escaped.char_indices().nth(LIMIT) {
        escaped.truncate(cut);
        escaped.push('…');
    }
    escaped
}

/// Whether the text holds something that is a key by its form.
pub(super) fn holds_key(text: &str) -> bool {
    without_keys(text) != text
}

fn without_keys(text: &str) -> String {
    let is_base64 = |c: char| c.is_ascii_alphanumeric() || "+/".contains(c);
    let mut result = String::new();
    let mut rest = text;
    while let Some(start) = rest.find(is_base64) {
        result.push_str(&rest[..start]);
        let word = &rest[start..];
        let body = word.find(|c| !is_base64(c)).unwrap_or(word.len());
        let end = body + word[body..].len() - word[body..].trim_start_matches('=').len();
        // A key is 43 characters and `=`; it may be glued to something in front, as in `key=…`.
        let key = (end == body + 1 && body >= 43).then(|| &word[body - 43..end]);
        match key {
            Some(key) if key.parse::<PublicKey>().is_ok() => {
                result.push_str(&word[..body - 43]);
                result.push_str("(a key)");
            }
            _ => result.push_str(&word[..end]),
        }
        rest = &word[end..];
    }
    result.push_str(rest);
    result
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_are_not_repeated() {
        let key = PublicKey::new([9; 32]).to_string();
        assert_eq!(shown(&format!("wg set wg0 peer {key} x")), "wg set wg0 peer (a key) x");
        assert_eq!(shown(&format!("key=aa{key}")), "key=aa(a key)");
        assert!(!shown(&format!("{key}{key}")).contains(&key));
        assert!(!holds_key("a name = b") && holds_key(&key));
    }

    #[test]
    fn one_line_and_not_endless() {
        assert_eq!(shown(" a\nb\u{1b}[1m'\" "), "a\\nb\\u{1b}[1m'\"");
        assert_eq!(shown(&"é".repeat(500)).chars().count(), LIMIT + 1);
    }
}
