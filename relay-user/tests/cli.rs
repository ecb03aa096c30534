//! What a person at a terminal meets: exit code, stdout and stderr of each command together.
//!
//! No root, no daemon, no change to the host: each test has a folder of its own. The subnets are ones that hardly any
//! machine is in, since a network of this host would be refused, as it should be; nor is any interface of that name likely.

mod terminal;

use std::{
    io::{Read as _, Write as _},
    os::unix::{
        fs::{MetadataExt as _, PermissionsExt as _},
        net::UnixListener,
    },
};

use relay_user::key::{PresharedKey, PrivateKey, PublicKey};
use terminal::{INIT, Terminal, promise, without_keys};

#[test]
fn help() {
    let commands: [&[&str]; 27] = [
        &[],
        &["init"],
        &["up"],
        &["down"],
        &["reload"],
        &["status"],
        &["stats"],
        &["metrics"],
        &["doctor"],
        &["peer"],
        &["peer", "add"],
        &["peer", "list"],
        &["peer", "show"],
        &["peer", "export"],
        &["peer", "rename"],
        &["peer", "enable"],
        &["peer", "disable"],
        &["peer", "rotate"],
        &["peer", "remove"],
        &["peer", "invite"],
        &["peer", "approve"],
        &["join"],
        &["adopt"],
        &["release"],
        &["import"],
        &["install"],
        &["uninstall"],
    ];
    for command in commands {
        let args: Vec<&str> = command.iter().copied().chain(["--help"]).collect();
        let name = if command.is_empty() { "help".to_owned() } else { format!("help-{}", command.join("-")) };
        promise(&name, &Terminal::new().session(&[&args]));
    }
}

#[test]
fn a_hub_and_its_peers() {
    let terminal = Terminal::new();
    let key = PublicKey::new([9; 32]).to_string();
    promise(
        "a_hub_and_its_peers",
        &terminal.session(&[
            &INIT,
            &["peer", "list"],
            &["peer", "add", "phone"],
            &["peer", "add", "home", "--lan", "10.231.78.0/24"],
            &["peer", "add", "Anna's laptop", "--public-key", &key],
            &["peer", "list"],
            &["peer", "list", "--json"],
            &["peer", "show", "home"],
            &["peer", "show", "phone", "--json"],
            &["peer", "remove", "phone"],
            &["peer", "add", "tablet", "--public-key", &PublicKey::new([8; 32]).to_string()],
        ]),
    );
    promise("a_hub_and_its_peers-relay.toml", &without_keys(&terminal.text()));
}

#[test]
fn what_is_refused() {
    let terminal = Terminal::with_hub();
    let key = PublicKey::new([9; 32]).to_string();
    assert!(
        terminal
            .run(&["peer", "add", "home", "--lan", "10.231.78.0/24", "--public-key", &key])
            .status
            .success()
    );
    let before = terminal.text();
    promise(
        "what_is_refused",
        &terminal.session(&[
            &INIT,
            &["peer", "add", "home"],
            &["peer", "add", "x", "--public-key", &key],
            &["peer", "add", "x", "--lan", "10.231.78.128/25"],
            &["peer", "add", "x", "--lan", "10.231.77.0/24"],
            &["peer", "add", "x", "--lan", "10.231.79.1/24", "--lan", "0.0.0.0/0"],
            &["peer", "add", "x", "--lan", "10.231.79.0"],
            &["peer", "add", "x", "--public-key", "short"],
            &["peer", "add", " x"],
            &["peer", "show", "x"],
            &["peer", "remove", "x"],
            &["peer", "rename", "x"],
            &["--config", "/nonexistent/relay.toml", "peer", "list"],
            &["--config", "/nonexistent/relay.toml", "peer", "add", "x"],
            &["init", "--listen-port", "0"],
            &["init", "--interface", "a/b"],
        ]),
    );
    assert_eq!(terminal.text(), before, "nothing of it changed the file");
}

#[test]
fn what_the_history_is_not_asked() {
    promise(
        "what_the_history_is_not_asked",
        &Terminal::with_hub().session(&[
            &["stats", "--since", "24h"],
            &["stats", "--since", "yesterday"],
            &["stats", "--since", "2999-01-01"],
            &["stats", "--csv"],
            &["stats", "--since", "24h", "--csv", "--svg", "day.svg"],
            &["metrics"],
            &["doctor"],
        ]),
    );
}

#[test]
fn a_bad_file_is_named_by_its_lines() {
    let terminal = Terminal::with_hub();
    terminal.append(
        "\n[[peer]]\nname = \"a\"\npublic_key = \"short\"\naddresses = [\"10.231.77.1\", \"10.1.1.1\"]\n",
    );
    let before = terminal.text();
    promise(
        "a_bad_file_is_named_by_its_lines",
        &terminal.session(&[&["peer", "list"], &["peer", "add", "x"]]),
    );
    assert_eq!(terminal.text(), before);
    // What is wrong can be removed.
    assert!(terminal.run(&["peer", "remove", "a"]).status.success());
    assert!(terminal.run(&["peer", "list"]).status.success());
}

#[test]
fn what_init_makes_is_private_and_stays() {
    let terminal = Terminal::new();
    assert!(terminal.run(&INIT).status.success());
    let key = terminal.config().with_file_name("relaytest0.key");
    let mode = |path: &std::path::Path| path.metadata().expect("metadata").mode() & 0o7777;
    let modes = [terminal.config().parent().expect("folder"), &terminal.config(), &key].map(mode);
    assert_eq!(modes, [0o700, 0o600, 0o600]);

    // Without the configuration, a second `init` takes the key that is there.
    let before = std::fs::read(&key).expect("key");
    std::fs::remove_file(terminal.config()).expect("remove");
    assert!(terminal.run(&INIT).status.success());
    assert_eq!(std::fs::read(&key).expect("key"), before);

    // A key that is none is not overwritten either.
    std::fs::remove_file(terminal.config()).expect("remove");
    std::fs::write(&key, "no key").expect("write");
    let output = terminal.run(&INIT);
    assert_eq!(output.status.code(), Some(2));
    assert!(String::from_utf8_lossy(&output.stderr).contains("relaytest0.key: not a WireGuard key"));
    assert_eq!(std::fs::read(&key).expect("key"), b"no key");
    assert!(!terminal.config().exists());
}

#[test]
fn a_key_that_others_may_read_is_warned_of() {
    let terminal = Terminal::with_hub();
    let key = terminal.config().with_file_name("relaytest0.key");
    std::fs::set_permissions(&key, std::fs::Permissions::from_mode(0o644)).expect("chmod");
    promise("a_key_that_others_may_read_is_warned_of", &terminal.session(&[&["peer", "list"]]));
}

#[test]
fn a_configuration_that_cannot_be_printed_is_taken_back() {
    let terminal = Terminal::with_hub();
    let before = terminal.text();
    let full = std::fs::OpenOptions::new().write(true).open("/dev/full").expect("/dev/full");
    let output = terminal.command(&["peer", "add", "x"]).stdout(full).output().expect("relay starts");
    assert_eq!(output.status.code(), Some(1));
    assert!(
        String::from_utf8_lossy(&output.stderr).contains("so the change was taken back: cannot print it")
    );
    assert_eq!(terminal.text(), before);
}

/// Answers on the control socket until it is told to do something, as a daemon would that keeps its configuration's
/// name for itself.
fn daemon_answers(terminal: &Terminal, status: &str, body: &str) -> std::thread::JoinHandle<String> {
    let path = terminal.folder.path().join("relay.sock");
    let _ = std::fs::remove_file(&path);
    let listener = UnixListener::bind(path).expect("socket");
    let answer = format!(
        "HTTP/1.1 {status}\r\ncontent-type: application/json\r\ncontent-length: {}\r\n\r\n{body}",
        body.len()
    );
    std::thread::spawn(move || {
        loop {
            let (mut stream, _) = listener.accept().expect("a command");
            let mut request = [0; 4096];
            let length = stream.read(&mut request).expect("request");
            let request = String::from_utf8_lossy(&request[..length]);
            let line = request.lines().next().unwrap_or_default();
            if line.starts_with("GET ") {
                let none = b"HTTP/1.1 404 Not Found\r\ncontent-length: 0\r\n\r\n";
                stream.write_all(none).expect("answer");
                continue;
            }
            stream.write_all(answer.as_bytes()).expect("answer");
            return line.to_owned();
        }
    })
}

#[test]
fn the_daemon_follows_or_the_change_is_taken_back() {
    let terminal = Terminal::with_hub();
    let key = PublicKey::new([9; 32]).to_string();
    let add = ["peer", "add", "x", "--public-key", &key];
    let before = terminal.text();

    let daemon = daemon_answers(&terminal, "422 Unprocessable Entity", r#"{"message":"route taken"}"#);
    let refused = terminal.session(&[&add]);
    assert_eq!(daemon.join().expect("daemon"), "POST /reload HTTP/1.1");
    assert_eq!(terminal.text(), before);

    let body = r#"{"changes":["add peer x"],"problems":["cannot set net.ipv4.ip_forward"]}"#;
    let daemon = daemon_answers(&terminal, "200 OK", body);
    let followed = terminal.session(&[&add]);
    daemon.join().expect("daemon");
    assert_ne!(terminal.text(), before);
    promise("the_daemon_follows_or_the_change_is_taken_back", &(refused + &followed));
}

/// At trace level, over every command that reads or makes keys.
#[test]
fn no_secret_is_ever_told() {
    let terminal = Terminal::new();
    assert!(terminal.run(&INIT).status.success());
    let folder = terminal.config().parent().expect("folder").to_owned();
    let hub = PrivateKey::generate().expect("key").expose_base64();
    let preshared = PresharedKey::generate().expect("key").expose_base64();
    std::fs::write(folder.join("relaytest0.key"), hub.as_str()).expect("write");
    std::fs::write(folder.join("home.psk"), preshared.as_str()).expect("write");
    let home = "\n[[peer]]\nname = \"home\"\npublic_key = \"{}\"\naddresses = [\"10.231.77.9\"]\n";
    let home =
        home.replace("{}", &PublicKey::new([9; 32]).to_string()) + "preshared_key_file = \"home.psk\"\n";
    terminal.append(&home);

    let told = |args: &[&str]| {
        let output = terminal.command(args).env("RELAY_LOG", "trace").output().expect("relay starts");
        let [stdout, stderr] =
            [output.stdout, output.stderr].map(|bytes| String::from_utf8(bytes).expect("UTF-8"));
        for secret in [&hub, &preshared] {
            assert!(!stdout.contains(secret.as_str()), "stdout of {args:?}");
            assert!(!stderr.contains(secret.as_str()), "stderr of {args:?}");
        }
        (output.status.success(), stdout, stderr)
    };
    for args in [&["peer", "list"][..], &["peer", "show", "home"], &["peer", "show", "home", "--json"]] {
        assert!(told(args).0, "{args:?}");
    }

    // The key that is made for a peer goes to stdout, once, and nowhere else.
    let (done, stdout, stderr) = told(&["peer", "add", "phone"]);
    assert!(done);
    let made = stdout.lines().find_map(|line| line.strip_prefix("PrivateKey = ")).expect("a private key");
    assert!(made.parse::<PrivateKey>().is_ok());
    assert_eq!(stdout.matches(made).count(), 1);
    assert!(!stderr.contains(made));
    let (_, shown, _) = told(&["peer", "show", "phone"]);
    assert!(!shown.contains(made) && !terminal.text().contains(made), "it is kept nowhere");
    assert!(told(&["peer", "remove", "phone"]).0);

    // A secret in the wrong place is refused without being repeated.
    let good = terminal.text();
    for (line, secret) in [
        ("private_key_file = \"relaytest0.key\"", "private_key_file = \"{}\""),
        ("private_key_file = \"relaytest0.key\"", "private_key = \"{}\""),
        ("listen_port = 51820", "listen_port = \"{}\""),
        ("preshared_key_file = \"home.psk\"", "preshared_key = \"{}\""),
        ("preshared_key_file = \"home.psk\"", "preshared_key_file = \"{}\""),
        ("addresses = [\"10.231.77.9\"]", "addresses = \"{}\""),
    ] {
        assert!(good.contains(line));
        std::fs::write(terminal.config(), good.replace(line, &secret.replace("{}", &hub))).expect("write");
        assert!(!told(&["peer", "list"]).0, "{secret}");
    }
}
