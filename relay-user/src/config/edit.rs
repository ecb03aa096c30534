//! Edits of the file's text that leave every other byte as it was: comments, order and blank lines are the user's.

use std::ops::Range;

use toml_edit::{Document, Item, Table};

use super::written::PeerWritten;

/// Why the text cannot be edited.
#[derive(Debug, thiserror::Error)]
pub enum EditError {
    /// No TOML.
    #[error("the file is not valid TOML: {0}")]
    Toml(String),
    /// `peer = […]` instead of `[[peer]]`.
    #[error(
        "the peers are written as `peer = […]`; write each under a `[[peer]]` of its own so that relay can edit them"
    )]
    Inline,
    /// Nobody is called that.
    #[error("no peer is called \"{0}\"")]
    NoSuchPeer(String),
    /// A value has no form in TOML.
    #[error("cannot write the peer as TOML: {0}")]
    Write(#[from] toml_edit::ser::Error),
}

/// `text` with a `[[peer]]` appended.
///
/// # Errors
/// The text is no TOML or has its peers inline.
pub fn add_peer(text: &str, peer: &PeerWritten) -> Result<String, EditError> {
    with_peers(text, |_| Ok(()))?;
    let mut edited = text.to_owned();
    if !edited.is_empty() && !edited.ends_with('\n') {
        edited.push('\n');
    }
    if !edited.is_empty() {
        edited.push('\n');
    }
    edited.push_str("[[peer]]\n");
    edited.push_str(&toml_edit::ser::to_string(peer)?);
    Ok(edited)
}

/// `text` without the peer of that name, without the comment that stands right above it, and without the blank lines
/// that set it off.
///
/// # Errors
/// There is no such peer, or the text is no TOML or has its peers inline.
pub fn remove_peer(text: &str, name: &str) -> Result<String, EditError> {
    let span = with_peers(text, |peers| {
        let of_that_name = |peer: &&Table| peer.get("name").and_then(Item::as_str) == Some(name);
        let peer = peers.iter().copied().find(of_that_name);
        peer.and_then(table_span).ok_or_else(|| EditError::NoSuchPeer(name.to_owned()))
    })?;
    let before = &text[..begin(text, span.start)];
    let after = text[span.end..].split_once('\n').map_or("", |(_rest_of_line, after)| after);
    let mut edited = before.trim_end_matches([' ', '\t', '\r', '\n']).to_owned();
    if !edited.is_empty() {
        edited.push('\n');
        // The blank lines after it, if any, set the next thing off as well as those before it did.
        if !after.is_empty() && !after.starts_with('\n') && !after.starts_with("\r\n") {
            edited.push_str(&text[edited.len().min(before.len())..before.len()]);
        }
    }
    edited.push_str(if edited.is_empty() { after.trim_start_matches(['\r', '\n']) } else { after });
    Ok(edited)
}

fn with_peers<T>(text: &str, act: impl FnOnce(&[&Table]) -> Result<T, EditError>) -> Result<T, EditError> {
    let document = Document::parse(text).map_err(|error| EditError::Toml(error.message().to_owned()))?;
    let peers: Vec<&Table> = match document.as_table().get("peer") {
        None => Vec::new(),
        Some(Item::ArrayOfTables(peers)) => peers.iter().collect(),
        Some(_) => return Err(EditError::Inline),
    };
    act(&peers)
}

/// From its header to the end of its last value.
fn table_span(table: &Table) -> Option<Range<usize>> {
    let header = table.span()?;
    let values = table.iter().filter_map(|(_, item)| item.span());
    Some(header.start..values.map(|span| span.end).fold(header.end, usize::max))
}

/// The start of the comment lines that stand right above the line of `byte`, or of that line.
fn begin(text: &str, byte: usize) -> usize {
    let mut begin = text[..byte].rfind('\n').map_or(0, |newline| newline + 1);
    while begin > 0 {
        let line = text[..begin - 1].rfind('\n').map_or(0, |newline| newline + 1);
        if !text[line..begin].trim_start().starts_with('#') {
            break;
        }
        begin = line;
    }
    begin
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use proptest::prelude::*;
    use serde_spanned::Spanned;

    use super::*;
    use crate::config::Written;

    const FILE: &str = "# The hub\n[interface] # here\naddresses = [\"10.9.0.1/24\"]\n\n# Everybody.\n\n# The house.\n\
                        # (behind a NAT)\n[[peer]]\nname = \"home\"  # ours\npublic_key = \"A\"\naddresses = [\n  \
                        \"10.9.0.2\", # first\n] # of one\n# after home\n\n[[peer]]\npublic_key = \"B\"\nname = \
                        'phone'\naddresses = []\n\n[firewall]\nmanage = true\n# end\n";

    fn peer(name: &str) -> PeerWritten {
        let spanned = |text: &str| Spanned::new(0..0, text.to_owned());
        PeerWritten {
            name: spanned(name),
            public_key: spanned("C"),
            addresses: Spanned::new(0..0, vec![spanned("10.9.0.9"), spanned("fd52::9")]),
            lans: vec![spanned("192.168.40.0/24")],
            keepalive: None,
            preshared_key_file: None,
            endpoint: None,
            mtu: None,
            dns: Vec::new(),
            full_tunnel: false,
            expires: None,
            enabled: true,
        }
    }

    #[test]
    fn a_new_peer_stands_at_the_end() {
        let added = add_peer(FILE, &peer("new")).expect("added");
        let rest = added.strip_prefix(FILE).expect("every byte kept");
        assert_eq!(
            rest,
            "\n[[peer]]\nname = \"new\"\npublic_key = \"C\"\naddresses = [\"10.9.0.9\", \"fd52::9\"]\nlans = \
             [\"192.168.40.0/24\"]\n"
        );
        assert!(add_peer("a = 1", &peer("new")).expect("added").starts_with("a = 1\n\n[[peer]]\n"));
    }

    #[test]
    fn a_removed_peer_takes_its_comment_along_and_nothing_else() {
        let without_home = remove_peer(FILE, "home").expect("removed");
        assert_eq!(
            without_home,
            "# The hub\n[interface] # here\naddresses = [\"10.9.0.1/24\"]\n\n# Everybody.\n\n# after home\n\n[[peer]]\n\
             public_key = \"B\"\nname = 'phone'\naddresses = []\n\n[firewall]\nmanage = true\n# end\n"
        );
        let neither = remove_peer(&without_home, "phone").expect("removed");
        assert_eq!(
            neither,
            "# The hub\n[interface] # here\naddresses = [\"10.9.0.1/24\"]\n\n# Everybody.\n\n# after home\n\n\
             [firewall]\nmanage = true\n# end\n"
        );
        let Err(EditError::NoSuchPeer(name)) = remove_peer(&neither, "phone") else {
            panic!("removed twice")
        };
        assert_eq!(name, "phone");
    }

    #[test]
    fn texts_that_cannot_be_edited() {
        assert!(matches!(add_peer("peer = []\n", &peer("x")), Err(EditError::Inline)));
        assert!(matches!(remove_peer("peer = [{name = \"x\"}]\n", "x"), Err(EditError::Inline)));
        assert!(matches!(add_peer("[[peer\n", &peer("x")), Err(EditError::Toml(_))));
    }

    proptest! {
        #[test]
        fn adding_and_removing_meet(names in proptest::collection::btree_set("[a-z\"'\\\\#\\[ é]{1,5}", 1..5), pick: prop::sample::Index) {
            let mut text = FILE.to_owned();
            for name in &names {
                text = add_peer(&text, &peer(name)).expect("added");
            }
            let names: Vec<&String> = names.iter().collect();
            let gone = *pick.get(&names);
            let edited = remove_peer(&text, gone).expect("removed");
            let mut expected = Written::parse(Path::new("x"), &text).expect("valid");
            let at = expected.peers.iter().position(|peer| peer.get_ref().name.get_ref() == gone).expect("there");
            expected.peers.remove(at);
            prop_assert_eq!(Written::parse(Path::new("x"), &edited).expect("valid"), expected);
            if *gone == *names[names.len() - 1] && names.len() == 1 {
                prop_assert_eq!(&edited, FILE);
            }
        }
    }
}
