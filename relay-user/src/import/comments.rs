//! The names that people and programs give peers in comments, since WireGuard has no place for them.

use super::sentence::holds_key;

/// Keys of WireGuard and wg-quick: a comment that sets one is a line that somebody switched off, not a name.
const KEYS: [&str; 16] = [
    "privatekey",
    "listenport",
    "fwmark",
    "publickey",
    "presharedkey",
    "allowedips",
    "endpoint",
    "persistentkeepalive",
    "address",
    "mtu",
    "dns",
    "table",
    "preup",
    "postup",
    "predown",
    "postdown",
];

/// How sure a comment is of being a name; the surest wins, the first of equals.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Sureness {
    /// Stands right above `[Peer]`.
    Above,
    /// Stands behind or right below it.
    Beside,
    /// A program wrote it in a form of its own.
    Marked,
}

/// Collects the comments around one `[Peer]`.
#[derive(Debug, Default)]
pub(super) struct Names {
    best: Option<(Sureness, String)>,
}

impl Names {
    /// Takes the comment lines that stand right above, first to last.
    pub(super) fn above(block: &[&str]) -> Self {
        let mut names = Self::default();
        for comment in block {
            names.marked(comment);
        }
        if let Some(last) = block.last() {
            names.plain(Sureness::Above, last);
        }
        names
    }

    /// Takes a comment on the line of `[Peer]` or right below it.
    pub(super) fn beside(&mut self, comment: &str) {
        self.marked(comment);
        self.plain(Sureness::Beside, comment);
    }

    /// Takes a comment further below: there, exporters look for `friendly_name = NAME`.
    pub(super) fn below(&mut self, comment: &str) {
        if bare(comment).contains('=') {
            self.marked(comment);
        }
    }

    /// The name, empty where there is none.
    pub(super) fn name(self) -> String {
        self.best.map(|(_, name)| name).unwrap_or_default()
    }

    fn marked(&mut self, comment: &str) {
        if let Some(name) = marked(comment) {
            self.offer(Sureness::Marked, name);
        }
    }

    fn plain(&mut self, sureness: Sureness, comment: &str) {
        let text = bare(comment);
        let is_end = text.to_ascii_uppercase().starts_with("END");
        if !text.is_empty() && !is_end && marked(comment).is_none() && !is_switched_off(comment) {
            self.offer(sureness, text);
        }
    }

    fn offer(&mut self, sureness: Sureness, name: &str) {
        if name.is_empty() || holds_key(name) {
            return;
        }
        if self.best.as_ref().is_none_or(|(best, _)| *best < sureness) {
            self.best = Some((sureness, name.to_owned()));
        }
    }
}

/// Whether the comment is a line of a configuration that somebody switched off.
pub(super) fn is_switched_off(comment: &str) -> bool {
    let text = bare(comment);
    let key = text.split_once('=').map(|(key, _)| key.trim().to_ascii_lowercase());
    is_switched_off_peer(comment)
        || text.eq_ignore_ascii_case("[interface]")
        || key.is_some_and(|key| KEYS.contains(&key.as_str()))
}

/// Whether it is a `[Peer]` that somebody switched off.
pub(super) fn is_switched_off_peer(comment: &str) -> bool {
    bare(comment).eq_ignore_ascii_case("[peer]")
}

fn bare(comment: &str) -> &str {
    comment.trim_matches(['#', ' ', '\t'])
}

/// A name in a form that a program writes: `Client: NAME (ID)` is wg-easy's, `friendly_name = NAME` that of exporters and
/// wg-portal, `Client NAME` and `BEGIN_PEER NAME` those of well-known install scripts.
fn marked(comment: &str) -> Option<&str> {
    let text = bare(comment);
    if let Some(rest) = after(text, "client:") {
        return Some(without_id(rest));
    }
    if let Some((key, name)) = text.split_once('=') {
        let key = key.trim().to_ascii_lowercase();
        return ["friendly_name", "name"].contains(&key.as_str()).then(|| name.trim());
    }
    if let Some(name) = after(text, "name:").or_else(|| after(text, "BEGIN_PEER ")) {
        return Some(name);
    }
    // Two or three signs of comment set the script's heading apart from a sentence that begins with the word.
    comment.starts_with('#').then(|| after(text, "Client "))?
}

fn after<'a>(text: &'a str, prefix: &str) -> Option<&'a str> {
    let head = text.get(..prefix.len())?;
    head.eq_ignore_ascii_case(prefix).then(|| text[prefix.len()..].trim())
}

/// `NAME (ID)` without the identifier; the name itself may hold brackets.
fn without_id(text: &str) -> &str {
    match text.strip_suffix(')').and_then(|rest| rest.rsplit_once('(')) {
        Some((name, _)) => name.trim_end(),
        None => text,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_of_every_habit() {
        for (above, beside, below, expected) in [
            (&[" Client: home (2493515b-2278-4d05-8b52-43dabacdef2d)"][..], None, None, "home"),
            (&[" Client: Anna (old) (12)"], None, None, "Anna (old)"),
            (&[" Client:  (12)"], None, None, ""),
            (&["## Client laptop"], None, None, "laptop"),
            (&[" BEGIN_PEER tablet"], None, None, "tablet"),
            (&[" the phones", " Anna's phone"], None, None, "Anna's phone"),
            (&[" above"], Some("beside"), None, "beside"),
            (&[" above"], Some("beside"), Some(" friendly_name = wins"), "wins"),
            (&[" friendly_name=first"], None, Some("friendly_name = second"), "first"),
            (&[], None, Some(" a remark far below"), ""),
            (&[], None, Some("## Client next"), ""),
            (&[" END_PEER tablet"], None, None, ""),
            (&[" AllowedIPs = 10.0.0.0/8"], None, None, ""),
            (&[" [Peer]"], None, None, ""),
            (&[" Client server of the house"], None, None, "Client server of the house"),
            (&[" PrivateKey of phone = AAAA"], None, None, "PrivateKey of phone = AAAA"),
        ] {
            let mut names = Names::above(above);
            beside.into_iter().for_each(|comment| names.beside(comment));
            below.into_iter().for_each(|comment| names.below(comment));
            assert_eq!(names.name(), expected, "{above:?} {beside:?} {below:?}");
        }
    }

    #[test]
    fn a_key_is_no_name() {
        let key = crate::key::PublicKey::new([3; 32]).to_string();
        assert_eq!(Names::above(&[&key]).name(), "");
        assert_eq!(Names::above(&[&format!(" name: {key}")]).name(), "");
    }
}
