//! What holds whatever an import is given: a place for everything said, and a file that relay itself accepts.

use std::path::Path;

use relay_user::{
    config::{self, Config, prefix, secret::Secret},
    import::{
        At, Found,
        mapping::{Files, Surroundings, map},
    },
};

/// Where the file would be.
const CONFIG: &str = "/etc/relay/relay.toml";

/// Panics where something does not hold. `text` is all that was read as lines.
pub(crate) fn holds(found: &Found, text: &str) {
    // The end of a text is a place too.
    let lines = text.matches('\n').count() + 1;
    for note in found.notes.iter().chain(&found.obstacles) {
        if let At::Line { line, column } = note.place.at {
            assert!((1..=lines).contains(&line) && column >= 1, "{}: {}", note.place, note.message);
        }
    }
    let networks = [("eth0", "203.0.113.7/24"), ("wg0", "10.8.0.1/24")]
        .map(|(of, net)| (of.to_owned(), net.parse().expect("net")));
    let import = map(
        found,
        &Surroundings {
            config: Path::new(CONFIG),
            networks: &networks,
            endpoint: None,
            now: "2026-11-25T12:00:00Z".parse().expect("a moment"),
        },
    );
    let told = relay_user::import::render(&import.report);
    if let Some(key) = &found.hub.private_key {
        assert!(!told.contains(key.expose_base64().as_str()), "the hub's key is told");
    }
    assert_eq!(import.files.is_some(), import.report.obstacles.is_empty());
    let Some(files) = &import.files else { return };
    let config = loaded(files);
    assert_eq!(config.written.peers.len(), import.report.peers.len());
    let claims: Vec<_> = config.desired.peers.values().flat_map(|peer| peer.allowed_ips()).collect();
    for (index, a) in claims.iter().enumerate() {
        assert!(claims[..index].iter().all(|b| !prefix::overlap(*a, *b)), "{a}");
    }
    // Each peer of the source is imported, or named as a whole among those left out.
    let whole = import.report.left_out.iter().filter(|each| each.what.starts_with("peer "));
    assert_eq!(import.report.peers.len() + whole.count(), found.peers.len(), "{told}");
}

/// What relay makes of the files that the import would write.
pub(crate) fn loaded(files: &Files) -> Config {
    let read = |path: &Path| {
        let name = path.file_name().expect("name");
        let key = files.keys.iter().find(|key| *key.name == *name).expect("a key of that name");
        Ok(Secret { text: key.key.clone(), mode: 0o600 })
    };
    config::parse_with(Path::new(CONFIG), &files.text, &[], &read).expect("accepted")
}
