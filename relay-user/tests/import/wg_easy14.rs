//! wg-easy 14's folder.

use std::path::Path;

use relay_user::{
    import::{self, At, wg_easy14},
    key::{PresharedKey, PrivateKey, PublicKey},
};

use crate::{
    loaded, mapped, promise, told,
    wg_easy::{Client, Deployment, five_clients, write_14},
};

fn folder(deployment: &Deployment) -> tempfile::TempDir {
    let folder = tempfile::tempdir().expect("folder");
    write_14(folder.path(), deployment);
    folder
}

#[test]
fn five_clients_one_of_them_a_home() {
    let deployment = five_clients("vps.example.net", &["1.1.1.1"]);
    let folder = folder(&deployment);
    let import = mapped(&import::read(folder.path()).expect("readable"));
    promise("wg_easy_14", &told(&import, folder.path()));
    let config = loaded(&import);
    assert_eq!(config.desired.private_key, deployment.hub, "clients know the hub by it");
    for client in &deployment.clients {
        let peer = &config.desired.peers[&client.private_key().public_key()];
        assert_eq!(peer.name.as_str(), client.name);
        assert_eq!(peer.preshared_key, Some(client.preshared_key()));
        assert_eq!(peer.addresses.iter().map(ToString::to_string).collect::<Vec<_>>(), [client.v4()]);
        assert_eq!(peer.lans.iter().map(ToString::to_string).collect::<Vec<_>>(), client.lans);
    }
}

/// Disabled, expired, not yet expired, named twice or not at all.
#[test]
fn clients_of_every_kind() {
    let mut deployment = five_clients("vps.example.net", &[]);
    deployment.clients.extend([
        Client { enabled: false, ..Client::new("phone", 7) },
        Client { expires: Some("2026-01-01T00:00:00.000Z"), ..Client::new("guest", 8) },
        Client { expires: Some("2027-01-01T00:00:00.000Z"), ..Client::new("friend", 9) },
        Client { expires: Some("some day"), ..Client::new("", 10) },
        Client::new("office", 11).with_lans(&["192.168.40.128/25", "192.168.41.0/24"]),
    ]);
    let folder = folder(&deployment);
    let import = mapped(&import::read(folder.path()).expect("readable"));
    promise("wg_easy_14_clients_of_every_kind", &told(&import, folder.path()));
    loaded(&import);
}

/// What older releases and forks write, and what people typed: nothing of it stops the others.
#[test]
fn what_occurs_in_the_wild() {
    let (hub, preshared) = (PrivateKey::new([1; 32]), PresharedKey::new([101; 32]));
    let key = |number: u8| PublicKey::new([number; 32]);
    let text = serde_json::json!({
        "server": { "privateKey": hub.expose_base64().as_str(), "publicKey": key(3), "address": "10.8.0.1" },
        "clients": {
            "no-id-no-keys-of-its-own": { "name": "keyless", "address": "10.8.0.2", "publicKey": key(2), "enabled": true },
            "fork": { "name": "fork", "address": "10.8.0.3", "publicKey": key(4), "allowedIPs": "10.8.0.3/32, 192.168.40.0/24",
                "preSharedKey": preshared.expose_base64().as_str() },
            "fork-2": { "name": ["x"], "address": "10.8.0.4", "publicKey": key(5), "allowedGWIPs": ["192.168.50.0/24"],
                "preSharedKey": 7 },
            "master": { "name": "master", "address": "10.8.0.5", "publicKey": key(6), "expiredAt": null,
                "oneTimeLink": "abc", "oneTimeLinkExpiresAt": null, "enabled": true },
            "typed": { "name": "typed", "address": "192.168.60.0/24 , 10.8.0.300, 10.8.0.6", "publicKey": key(7) },
            "bad": { "name": "bad", "address": "10.8.0.7", "publicKey": "tooshort", "preSharedKey": "tooshort" },
            "empty": {},
        },
        "more": 1,
    });
    let found = wg_easy14::parse(Path::new("wg0.json"), &text.to_string(), None);
    let import = mapped(&found);
    promise("wg_easy_14_in_the_wild", &told(&import, Path::new("/nowhere")));
    loaded(&import);
}

#[test]
fn broken_files_are_refused_with_a_place() {
    for (text, line, expected) in [
        ("", 1, "the file ends too early"),
        ("{\n  \"server\": {", 2, "the file ends too early"),
        ("{\n\n  nonsense", 3, "this is not JSON"),
        ("{ \"clients\": [1] }", 1, "this is not what wg-easy writes"),
        ("{ \"server\": \"x\" }", 1, "this is not what wg-easy writes"),
    ] {
        let found = wg_easy14::parse(Path::new("wg0.json"), text, None);
        let note = &found.obstacles[0];
        assert_eq!(note.message, expected, "{text}");
        assert!(matches!(note.place.at, At::Line { line: at, .. } if at == line), "{text}: {}", note.place);
    }
    let found = wg_easy14::parse(Path::new("wg0.json"), "{\"clients\":{}}", None);
    assert!(found.obstacles[0].message.contains("there is no `server`"));
}
