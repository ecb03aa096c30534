//! How a home joins, as a person at two terminals meets it.
//!
//! As in `cli.rs`: no root, no daemon, no change to the host.

mod terminal;

use std::{fs, os::unix::fs::MetadataExt as _};

use relay_user::{
    config,
    invitation::{Approval, Invitation, Line as _},
    key::PublicKey,
};
use terminal::Terminal;

/// No machine that runs tests is in it.
const LAN: &str = "10.231.78.0/24";

impl Terminal {
    /// What a command prints.
    fn done(&self, args: &[&str]) -> String {
        let (ok, stdout, stderr) = self.said(args);
        assert!(ok == Some(0), "relay {}: {stderr}", args.join(" "));
        stdout
    }

    /// The exit code, stdout and stderr.
    fn said(&self, args: &[&str]) -> (Option<i32>, String, String) {
        let output = self.run(args);
        let text = |bytes| String::from_utf8(bytes).expect("UTF-8");
        (output.status.code(), text(output.stdout), text(output.stderr))
    }

    /// Why a command is refused, with exit code 2, in one line and a hint.
    fn refusal(&self, args: &[&str]) -> String {
        let (code, stdout, stderr) = self.said(args);
        assert!(code == Some(2) && stdout.is_empty(), "relay {}: {code:?} {stdout}{stderr}", args.join(" "));
        stderr
    }

    fn join(&self, line: &str) -> String {
        let printed = self.done(&["join", line, "--interface", "relaytest1"]);
        printed.trim_end().strip_prefix("relay peer approve ").expect("a command").to_owned()
    }
}

/// An invitation for that name, without a LAN, which would have to be here.
fn invited(hub: &Terminal, name: &str) -> String {
    let printed = hub.done(&["peer", "invite", name]);
    printed.trim_end().strip_prefix("relay join ").expect("a command").to_owned()
}

#[test]
fn two_lines_and_a_home_is_a_peer() {
    let (hub, home) = (Terminal::with_hub(), Terminal::new());
    let line = invited(&hub, "home");
    let answer = home.join(&line);

    let made = config::load(&home.config(), &[]).expect("a good file");
    let own = made.desired.private_key.public_key();
    let invitation = Invitation::from_line(&line).expect("its own line");
    let dials = made.desired.home().expect("a home");
    assert_eq!((dials.hub, dials.endpoint.as_str()), (invitation.hub, "vps.example.net:51820"));
    let key_file = home.config().with_file_name("relaytest1.key");
    assert_eq!(fs::metadata(&key_file).expect("the key").mode() & 0o777, 0o600);
    let secret = made.desired.private_key.expose_base64();
    for text in [&line, &answer, &home.text()] {
        assert!(!text.contains(secret.as_str()), "{text}");
    }
    assert_eq!(Approval::from_line(&answer).expect("its own line").public_key, own);

    // The same again prints the same: the window with the answer may be closed already.
    assert_eq!(home.join(&line), answer);
    hub.done(&["peer", "approve", &answer]);
    let approved = config::load(&hub.config(), &[]).expect("a good file");
    let (key, peer, _) = approved.peer("home").expect("approved");
    assert_eq!(*key, own);
    assert!(peer.addresses.iter().eq(&invitation.addresses), "{peer:?}");
    let before = hub.text();
    let (code, _, stderr) = hub.said(&["peer", "approve", &answer]);
    assert_eq!((code, stderr.as_str()), (Some(0), "peer \"home\" is approved already\n"));
    assert_eq!(hub.text(), before, "twice changes nothing");
    assert!(hub.done(&["peer", "list"]).contains(&own.to_string()));
}

#[test]
fn an_answer_is_good_once_and_for_what_was_invited() {
    let hub = Terminal::with_hub();
    let line = invited(&hub, "home");
    let (one, other) = (Terminal::new(), Terminal::new());
    let (first, second) = (one.join(&line), other.join(&line));
    let mut forged = Approval::from_line(&first).expect("a line");
    forged.token = relay_user::invitation::Token::generate().expect("token");
    let refused = hub.refusal(&["peer", "approve", &forged.to_line()]);
    assert!(refused.contains("answers another invitation of that name"), "{refused}");
    hub.done(&["peer", "approve", &first]);
    let refused = hub.refusal(&["peer", "approve", &second]);
    assert!(refused.contains("a peer of that name is there, with another key"), "{refused}");
    let mut stranger = Approval::from_line(&second).expect("a line");
    stranger.name = "cabin".parse().expect("name");
    let refused = hub.refusal(&["peer", "approve", &stranger.to_line()]);
    assert!(refused.contains("it is not invited here, or no longer"), "{refused}");
}

#[test]
fn an_invitation_keeps_its_place_until_it_is_cancelled() {
    let hub = Terminal::with_hub();
    let line = hub.done(&["peer", "invite", "home", "--lan", LAN, "--json"]);
    let line: serde_json::Value = serde_json::from_str(&line).expect("JSON");
    let addresses = line["addresses"].as_array().expect("addresses").clone();
    let listed: serde_json::Value =
        serde_json::from_str(&hub.done(&["peer", "list", "--json"])).expect("JSON");
    assert_eq!((&listed[0]["name"], &listed[0]["invited_until"]), (&"home".into(), &line["expires"]));
    assert!(listed[0]["public_key"].is_null() && hub.done(&["peer", "list"]).contains("invited"));

    // Neither its name, nor its addresses, nor its LAN.
    for args in [&["peer", "invite", "home"][..], &["peer", "add", "home"]] {
        assert!(hub.refusal(args).contains("it is invited"), "{args:?}");
    }
    let refused = hub.refusal(&["peer", "invite", "cabin", "--lan", LAN]);
    assert!(refused.contains("is also LAN 10.231.78.0/24 of peer \"home\""), "{refused}");
    let phone: serde_json::Value =
        serde_json::from_str(&hub.done(&["peer", "add", "phone", "--json"])).expect("JSON");
    let taken = phone["addresses"].as_array().expect("addresses");
    assert!(taken.iter().all(|address| !addresses.contains(address)), "{taken:?} {addresses:?}");

    let refused = Terminal::new().refusal(&["join", line["invitation"].as_str().expect("a line")]);
    assert!(refused.contains("no interface of this machine leads to 10.231.78.0/24"), "{refused}");
    let (code, _, stderr) = hub.said(&["peer", "remove", "home"]);
    assert!(code == Some(0) && stderr.contains("cancelled the invitation of \"home\""), "{stderr}");
    assert!(!hub.done(&["peer", "list"]).contains("invited"));
    let folder = hub.config().with_file_name("invitations");
    assert_eq!(folder.read_dir().expect("folder").count(), 0);
}

#[test]
fn an_expired_invitation_is_void_and_its_place_free() {
    let hub = Terminal::with_hub();
    let answer = Terminal::new().join(&invited(&hub, "home"));
    let file = hub.config().with_file_name("invitations").join("home.toml");
    let kept = fs::read_to_string(&file).expect("the invitation");
    let at = kept.find("expires = \"").expect("expires") + "expires = \"".len();
    let expired = kept.replacen(&kept[at..at + 4], "2020", 1);
    fs::write(&file, expired).expect("write");
    let refused = hub.refusal(&["peer", "approve", &answer]);
    assert!(refused.contains("its invitation expired at 2020-"), "{refused}");
    assert!(!hub.done(&["peer", "list"]).contains("invited"));
    invited(&hub, "home");
}

#[test]
fn what_is_refused() {
    let (hub, home) = (Terminal::with_hub(), Terminal::new());
    let line = invited(&hub, "home");
    let cut = &line[..line.len() - 7];
    for (args, expected) in [
        (["join", cut], "an invitation that was cut off or changed"),
        (["join", "hello"], "this is not an invitation, which begins with relay1-invite-"),
    ] {
        assert!(home.refusal(&args).contains(expected), "{args:?}");
    }
    assert!(
        hub.refusal(&["peer", "approve", &line]).contains("this is an invitation, for `relay join` at home")
    );
    assert!(!home.config().exists(), "nothing is written for a line that is none");

    // A hub is no home, and a home no hub.
    let before = hub.text();
    let refused = hub.refusal(&["join", &line]);
    assert!(refused.contains("exists already, and is not of this invitation"), "{refused}");
    assert_eq!(hub.text(), before);
    home.join(&line);
    let key = PublicKey::new([9; 32]).to_string();
    for args in
        [&["peer", "list"][..], &["peer", "add", "phone", "--public-key", &key], &["peer", "invite", "x"]]
    {
        let refused = home.refusal(args);
        assert!(refused.contains("is the file of a home, which has no peers but its hub"), "{refused}");
    }
}
