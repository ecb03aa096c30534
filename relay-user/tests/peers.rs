//! A peer's whole life as a person at a terminal meets it: exit code, stdout and stderr, and what the files say.
//!
//! As in `cli.rs`: no root, no daemon, no change to the host.

mod terminal;

use std::{
    collections::BTreeSet,
    os::unix::fs::MetadataExt as _,
    path::{Path, PathBuf},
    thread,
};

use relay_user::{
    config,
    key::{PresharedKey, PrivateKey, PublicKey},
};
use terminal::{Terminal, promise, without_keys};

/// Peers that are added at the same time; one takes 10 ms.
const AT_ONCE: usize = 12;

fn mode(path: &Path) -> u32 {
    path.metadata().expect("metadata").mode() & 0o7777
}

/// The names in a folder, in order.
fn names(folder: &Path) -> Vec<String> {
    let entries = folder.read_dir().expect("folder").map(|entry| entry.expect("entry").file_name());
    let mut names: Vec<String> = entries.map(|name| name.to_string_lossy().into_owned()).collect();
    names.sort();
    names
}

/// The value of a key in a wg-quick configuration.
fn value<'a>(config: &'a str, key: &str) -> Option<&'a str> {
    config.lines().find_map(|line| line.strip_prefix(key)?.strip_prefix(" = "))
}

impl Terminal {
    fn done(&self, args: &[&str]) -> String {
        let output = self.run(args);
        let stderr = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "relay {}: {stderr}", args.join(" "));
        String::from_utf8(output.stdout).expect("UTF-8")
    }

    fn beside(&self, name: &str) -> PathBuf {
        self.config().with_file_name(name)
    }

    fn here(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    fn parsed(&self) -> config::Config {
        config::load(&self.config(), &[]).expect("a good file")
    }
}

#[test]
fn a_life() {
    let terminal = Terminal::with_hub();
    let key = |number| PublicKey::new([number; 32]).to_string();
    let (first, second) = (key(9), key(8));
    let old = "\n# A guest of the house.\n[[peer]]\nname = \"old guest\"  # Bob\npublic_key = \"KEY\"\n\
               addresses = [\"10.231.77.99\"]\nexpires = 2020-01-01 # he has left\n";
    terminal.append(&old.replace("KEY", &key(7)));
    promise(
        "a_life",
        &terminal.session(&[
            &[
                "peer",
                "add",
                "phone",
                "--full-tunnel",
                "--dns",
                "9.9.9.9",
                "--dns",
                "home.arpa",
                "--mtu",
                "1280",
                "--keepalive",
                "30",
                "--expires",
                "2126-12-24",
                "--psk",
                "--address",
                "10.231.77.50",
            ],
            &["peer", "add", "laptop", "--public-key", &first, "--psk", "--json"],
            &["peer", "add", "home", "--lan", "192.168.1.0/24"],
            &["peer", "list"],
            &["peer", "show", "old guest"],
            &["peer", "rename", "phone", "Anna's phone"],
            &["peer", "disable", "Anna's phone"],
            &["peer", "show", "Anna's phone", "--json"],
            &["peer", "enable", "Anna's phone", "--expires", "never"],
            &["peer", "enable", "old guest"],
            &["peer", "enable", "old guest", "--expires", "2126-01-01T12:00:00+02:00"],
            &["peer", "rotate", "Anna's phone"],
            &["peer", "rotate", "laptop", "--public-key", &second],
            &["peer", "export", "laptop"],
            &["peer", "export", "laptop", "--json"],
            &["peer", "remove", "laptop"],
            &["peer", "list", "--json"],
            &["peer", "add", "tablet", "--full-tunnel", "--public-key", &key(6)],
        ]),
    );
    promise("a_life-relay.toml", &without_keys(&terminal.text()));
    assert_eq!(
        names(terminal.config().parent().expect("folder")),
        ["Anna-s-phone.psk", "relay.toml", "relaytest0.key"]
    );
}

#[test]
fn what_is_refused() {
    let terminal = Terminal::with_hub();
    let key = PublicKey::new([9; 32]).to_string();
    terminal.done(&["peer", "add", "home", "--lan", "192.168.40.0/24", "--public-key", &key]);
    std::fs::write(terminal.here("there"), "kept").expect("write");
    let (there, image) = (terminal.here("there"), terminal.here("a.gif"));
    let (there, image) = (there.to_str().expect("path"), image.to_str().expect("path"));
    let before = terminal.text();
    promise(
        "what_is_refused",
        &terminal.session(&[
            &["peer", "add", "x", "--expires", "2020-01-01"],
            &["peer", "add", "x", "--expires", "soon"],
            &["peer", "add", "x", "--dns", "1.1.1"],
            &["peer", "add", "x", "--mtu", "1000"],
            &["peer", "add", "x", "--keepalive", "65536"],
            &["peer", "add", "x", "--address", "10.231.77.1"],
            &["peer", "add", "x", "--address", "10.9.9.9"],
            &["peer", "add", "x", "--lan", "192.168.0.0/16", "--psk"],
            &["peer", "add", "x", "--output", there],
            &["peer", "add", "x", "--output", "/nonexistent/x.conf", "--psk"],
            &["peer", "add", "x", "--qr-file", image],
            &["peer", "add", "x", "--qr", "--lan", "192.168.41.0/24", "--lan", "fd00:41::/64"],
            &["peer", "add", "x", "--qr", "--json"],
            &["peer", "rename", "home", " "],
            &["peer", "rename", "x", "y"],
            &["peer", "enable", "x"],
            &["peer", "disable", "x"],
            &["peer", "rotate", "x"],
            &["peer", "rotate", "home", "--public-key", "short"],
            &["peer", "export"],
            &["peer", "export", "x"],
        ]),
    );
    assert_eq!(terminal.text(), before, "nothing of it changed the file");
    assert_eq!(names(terminal.folder.path()), ["relay", "there"], "and nothing of it left one");
    assert_eq!(names(terminal.config().parent().expect("folder")), ["relay.toml", "relaytest0.key"]);
    assert_eq!(std::fs::read_to_string(there).expect("read"), "kept");
}

#[test]
fn a_configuration_may_stand_beside_the_hubs() {
    let terminal = Terminal::with_hub();
    let beside = terminal.config().with_file_name("phone.conf");
    terminal.done(&["peer", "add", "phone", "--output", beside.to_str().expect("path")]);
    assert!(std::fs::read_to_string(&beside).expect("read").contains("PrivateKey"));
}

#[test]
fn files_are_private_from_birth_and_replaced_only_when_told() {
    let terminal = Terminal::with_hub();
    let (text, image) = (terminal.here("phone.conf"), terminal.here("phone.svg"));
    let (output, qr_file) = (text.to_str().expect("path"), image.to_str().expect("path"));
    let printed = terminal.done(&["peer", "add", "phone", "--output", output, "--qr-file", qr_file]);
    assert_eq!(printed, "", "it is in the file");
    assert_eq!([&text, &image].map(|path| mode(path)), [0o600; 2]);
    let first = std::fs::read_to_string(&text).expect("read");
    let private: PrivateKey = value(&first, "PrivateKey").expect("a key").parse().expect("a key");
    assert_eq!(terminal.parsed().peer("phone").map(|(key, ..)| *key), Some(private.public_key()));

    let before = terminal.text();
    assert_eq!(terminal.run(&["peer", "rotate", "phone", "--output", output]).status.code(), Some(1));
    assert_eq!((terminal.text(), std::fs::read_to_string(&text).expect("read")), (before, first.clone()));

    // Somebody else's mode does not stay on a file that is replaced, and stdout gets it where both are asked for.
    std::fs::set_permissions(&text, std::os::unix::fs::PermissionsExt::from_mode(0o644)).expect("chmod");
    let json = terminal.done(&["peer", "rotate", "phone", "--output", output, "--overwrite", "--json"]);
    let json: serde_json::Value = serde_json::from_str(&json).expect("JSON");
    let second = std::fs::read_to_string(&text).expect("read");
    assert_eq!((json["configuration"].as_str(), mode(&text)), (Some(second.as_str()), 0o600));
    assert_ne!(value(&first, "PrivateKey"), value(&second, "PrivateKey"));
    assert_eq!(names(terminal.folder.path()), ["phone.conf", "phone.svg", "relay"]);
}

#[test]
fn what_cannot_be_printed_replaces_no_file() {
    let terminal = Terminal::with_hub();
    let text = terminal.here("phone.conf");
    let output = text.to_str().expect("path");
    terminal.done(&["peer", "add", "phone", "--output", output]);
    let before = (terminal.text(), std::fs::read_to_string(&text).expect("read"));
    let full = std::fs::OpenOptions::new().write(true).open("/dev/full").expect("/dev/full");
    let rotate = ["peer", "rotate", "phone", "--qr", "--output", output, "--overwrite"];
    let failed = terminal.command(&rotate).stdout(full).output().expect("relay starts");
    assert_eq!(failed.status.code(), Some(1));
    assert_eq!((terminal.text(), std::fs::read_to_string(&text).expect("read")), before);
    assert_eq!(names(terminal.folder.path()), ["phone.conf", "relay"]);
}

#[test]
fn a_file_that_cannot_be_named_takes_the_peer_back() {
    let terminal = Terminal::with_hub();
    let before = terminal.text();
    let folder = terminal.here("phone.conf");
    std::fs::create_dir(&folder).expect("folder");
    let output = folder.to_str().expect("path");
    // A file cannot take the place of a folder, which shows only when it is given its name.
    let failed = terminal.run(&["peer", "add", "phone", "--psk", "--output", output, "--overwrite"]);
    assert_eq!(failed.status.code(), Some(1));
    let stderr = String::from_utf8_lossy(&failed.stderr);
    assert!(stderr.contains("cannot add peer \"phone\": its configuration cannot be handed out"), "{stderr}");
    assert_eq!(terminal.text(), before);
    assert_eq!(names(terminal.config().parent().expect("folder")), ["relay.toml", "relaytest0.key"]);
}

#[test]
fn a_preshared_key_is_a_file_and_shown_once() {
    let terminal = Terminal::with_hub();
    let added = terminal.done(&["peer", "add", "a/b", "--psk"]);
    let first: PresharedKey = value(&added, "PresharedKey").expect("one").parse().expect("a key");
    assert_eq!(mode(&terminal.beside("a-b.psk")), 0o600);
    assert!(terminal.parsed().peer("a/b").expect("there").1.preshared_key.as_ref() == Some(&first));
    for args in [&["peer", "show", "a/b"][..], &["peer", "export", "a/b"], &["peer", "list", "--json"]] {
        assert!(!terminal.done(args).contains(first.expose_base64().as_str()), "{args:?}");
    }
    assert!(!terminal.text().contains(first.expose_base64().as_str()));

    let rotated = terminal.done(&["peer", "rotate", "a/b"]);
    let second: PresharedKey = value(&rotated, "PresharedKey").expect("one").parse().expect("a key");
    assert!(first != second && value(&added, "PrivateKey") != value(&rotated, "PrivateKey"));
    assert!(terminal.parsed().peer("a/b").expect("there").1.preshared_key.as_ref() == Some(&second));
    let folder = terminal.config().parent().expect("folder").to_owned();
    assert_eq!(names(&folder), ["a-b-2.psk", "relay.toml", "relaytest0.key"], "the old one is gone");

    // One that somebody else made, elsewhere or under another kind of name, stays.
    std::fs::rename(terminal.beside("a-b-2.psk"), terminal.beside("mine.key")).expect("rename");
    std::fs::write(terminal.config(), terminal.text().replace("a-b-2.psk", "mine.key")).expect("write");
    terminal.done(&["peer", "remove", "a/b"]);
    assert_eq!(names(&folder), ["mine.key", "relay.toml", "relaytest0.key"]);
}

/// At trace level, over every command that makes keys.
#[test]
fn keys_are_told_once_and_to_stdout_alone() {
    let terminal = Terminal::with_hub();
    let mut told = String::new();
    for args in [&["peer", "add", "phone", "--psk"][..], &["peer", "rotate", "phone"]] {
        let output = terminal.command(args).env("RELAY_LOG", "trace").output().expect("relay starts");
        let stdout = String::from_utf8(output.stdout).expect("UTF-8");
        told += &String::from_utf8(output.stderr).expect("UTF-8");
        let secrets =
            ["PrivateKey", "PresharedKey"].map(|key| value(&stdout, key).expect("a key").to_owned());
        for secret in secrets {
            assert_eq!(stdout.matches(&secret).count(), 1);
            assert!(!terminal.text().contains(&secret));
            assert!(!told.contains(&secret), "{args:?}");
            for args in
                [&["peer", "show", "phone", "--json"][..], &["peer", "export", "phone"], &["peer", "list"]]
            {
                assert!(!terminal.done(args).contains(&secret), "{args:?}");
            }
        }
    }
}

#[test]
fn all_are_exported_under_safe_names_of_their_own() {
    let terminal = Terminal::with_hub();
    for (number, name) in (1..).zip(["../phone", "Phone", "日本", "phone"]) {
        terminal.done(&["peer", "add", name, "--public-key", &PublicKey::new([number; 32]).to_string()]);
    }
    terminal.done(&["peer", "disable", "phone"]);
    let folder = terminal.here("peers");
    let export = ["peer", "export", "--folder", folder.to_str().expect("path")];
    terminal.done(&export);
    assert_eq!(names(&folder), ["Phone-2.conf", "peer.conf", "phone-3.conf", "phone.conf"]);
    assert_eq!(mode(&folder), 0o700);
    for name in names(&folder) {
        assert_eq!(mode(&folder.join(&name)), 0o600);
        let text = std::fs::read_to_string(folder.join(&name)).expect("read");
        assert!(text.contains("[Interface]\n# PrivateKey = (the private key of "), "{name}: {text}");
    }
    // One in the way stops all of it.
    for name in ["Phone-2.conf", "peer.conf", "phone-3.conf"] {
        std::fs::remove_file(folder.join(name)).expect("remove");
    }
    assert_eq!(terminal.run(&export).status.code(), Some(1));
    assert_eq!(names(&folder), ["phone.conf"]);
    terminal.done(&[&export[..], &["--overwrite"]].concat());
    assert_eq!(names(&folder).len(), 4);
}

#[test]
fn many_commands_at_once_lose_no_edit() {
    let terminal = Terminal::with_hub();
    for number in 0..AT_ONCE {
        terminal.done(&["peer", "add", &format!("old {number}")]);
    }
    thread::scope(|scope| {
        for number in 0..AT_ONCE {
            let terminal = &terminal;
            scope.spawn(move || terminal.done(&["peer", "add", &format!("new {number}"), "--psk"]));
            let act = ["remove", "disable", "rotate"][number % 3];
            scope.spawn(move || terminal.done(&["peer", act, &format!("old {number}")]));
        }
    });
    let config = terminal.parsed();
    let peers = || config.desired.peers.values().chain(config.disabled.values());
    let expected = (0..AT_ONCE).map(|number| format!("new {number}"));
    let expected = expected.chain((0..AT_ONCE).filter(|number| number % 3 != 0).map(|n| format!("old {n}")));
    assert_eq!(config.names().map(str::to_owned).collect::<BTreeSet<_>>(), expected.collect::<BTreeSet<_>>());
    assert_eq!(config.disabled.len(), AT_ONCE / 3);
    let addresses: Vec<_> = peers().flat_map(|peer| &peer.addresses).collect();
    assert_eq!(addresses.iter().collect::<BTreeSet<_>>().len(), addresses.len(), "each has its own");
    assert_eq!(peers().filter(|peer| peer.preshared_key.is_some()).count(), AT_ONCE);
}
