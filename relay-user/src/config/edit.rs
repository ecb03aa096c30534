//! Edits of the file's text that leave every other byte as it was: comments, order and blank lines are the user's.

use std::ops::Range;

use toml_edit::{Document, Item, Table, Value};

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
    add_peers(text, [peer])
}

/// As [`add_peer`], for as many as there are: the text is read once.
///
/// # Errors
/// As [`add_peer`].
pub fn add_peers<'a>(
    text: &str,
    peers: impl IntoIterator<Item = &'a PeerWritten>,
) -> Result<String, EditError> {
    with_peers(text, |_| Ok(()))?;
    let mut edited = text.to_owned();
    for peer in peers {
        if !edited.is_empty() && !edited.ends_with('\n') {
            edited.push('\n');
        }
        if !edited.is_empty() {
            edited.push('\n');
        }
        edited.push_str("[[peer]]\n");
        edited.push_str(&toml_edit::ser::to_string(peer)?);
    }
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

/// `text` with the key of that peer set to a value, in place of the one it has or on a line of its own after the last.
///
/// # Errors
/// There is no such peer, or the text is no TOML or has its peers inline.
pub fn set(text: &str, name: &str, key: &str, value: impl Into<Value>) -> Result<String, EditError> {
    let (peer, old) = find(text, name, key)?;
    let value = value.into().to_string();
    let value = value.trim();
    let mut edited = text.to_owned();
    match old {
        Some((_, old)) => edited.replace_range(old, value),
        None => {
            let end = text[peer.end..].find('\n').map_or(text.len(), |newline| peer.end + newline);
            let end = end - usize::from(text[..end].ends_with('\r'));
            let newline = if text[end..].starts_with("\r\n") { "\r\n" } else { "\n" };
            edited.insert_str(end, &format!("{newline}{key} = {value}"));
        }
    }
    Ok(edited)
}

/// `text` without that key of that peer. A comment behind it stays, on a line of its own.
///
/// # Errors
/// As [`set`].
pub fn unset(text: &str, name: &str, key: &str) -> Result<String, EditError> {
    let (_, Some((key, value))) = find(text, name, key)? else { return Ok(text.to_owned()) };
    let mut edited = text.to_owned();
    let rest = text[value.end..].split_inclusive('\n').next().unwrap_or_default();
    if rest.trim().is_empty() {
        let line = text[..key.start].rfind('\n').map_or(0, |newline| newline + 1);
        edited.replace_range(line..value.end + rest.len(), "");
    } else {
        edited.replace_range(key.start..value.end + (rest.len() - rest.trim_start().len()), "");
    }
    Ok(edited)
}

/// Where a peer stands, and where in it a key and its value do.
type Place = (Range<usize>, Option<(Range<usize>, Range<usize>)>);

fn find(text: &str, name: &str, key: &str) -> Result<Place, EditError> {
    with_peers(text, |peers| {
        let peer = peers.iter().find(|peer| peer.get("name").and_then(Item::as_str) == Some(name));
        let no_such_peer = || EditError::NoSuchPeer(name.to_owned());
        let peer = peer.ok_or_else(no_such_peer)?;
        let old = peer.get_key_value(key).and_then(|(key, value)| Some((key.span()?, value.span()?)));
        Ok((table_span(peer).ok_or_else(no_such_peer)?, old))
    })
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
mod tests;
