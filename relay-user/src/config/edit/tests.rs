//! Edits, each against the bytes that it may change.

use std::path::Path;

use proptest::prelude::*;
use serde_spanned::Spanned;

use super::*;
use crate::config::{MomentWritten, Written};

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
    let Err(EditError::NoSuchPeer(name)) = remove_peer(&neither, "phone") else { panic!("removed twice") };
    assert_eq!(name, "phone");
}

#[test]
fn texts_that_cannot_be_edited() {
    assert!(matches!(add_peer("peer = []\n", &peer("x")), Err(EditError::Inline)));
    assert!(matches!(remove_peer("peer = [{name = \"x\"}]\n", "x"), Err(EditError::Inline)));
    assert!(matches!(add_peer("[[peer\n", &peer("x")), Err(EditError::Toml(_))));
}

#[test]
fn a_value_changes_and_nothing_else() {
    let renamed = set(FILE, "home", "name", "the \\ house").expect("set");
    let value = Value::from("the \\ house").to_string();
    assert_eq!(renamed, FILE.replace("\"home\"  # ours", &format!("{value}  # ours")));
    let disabled = set(FILE, "home", "enabled", false).expect("set");
    assert_eq!(disabled, FILE.replace("] # of one\n", "] # of one\nenabled = false\n"));
    assert_eq!(unset(&disabled, "home", "enabled").expect("unset"), FILE);
    let disabled = set(FILE, "phone", "enabled", false).expect("set");
    assert_eq!(disabled, FILE.replace("addresses = []\n", "addresses = []\nenabled = false\n"));
    assert_eq!(set(&disabled, "phone", "enabled", true).expect("set"), disabled.replace("= false", "= true"));
    assert_eq!(unset(FILE, "phone", "expires").expect("unset"), FILE);
    assert!(matches!(set(FILE, "x", "enabled", true), Err(EditError::NoSuchPeer(_))));

    let dos = "[[peer]]\r\nname = \"a\"\r\n  expires = \"2026-01-01\" # paid\r\n";
    assert_eq!(unset(dos, "a", "expires").expect("unset"), "[[peer]]\r\nname = \"a\"\r\n  # paid\r\n");
    let without = "[[peer]]\r\nname = \"a\"";
    assert_eq!(
        set("[[peer]]\r\nname = \"a\"\r\n", "a", "mtu", 7).expect("set"),
        format!("{without}\r\nmtu = 7\r\n")
    );
    assert_eq!(set(without, "a", "mtu", 7).expect("set"), format!("{without}\nmtu = 7"));
}

/// Everything that a command may do to a file.
#[derive(Clone, Debug)]
enum Edit {
    Add(String),
    Set(&'static str, Value),
    Unset(&'static str),
    Remove,
}

fn some_edit() -> impl Strategy<Value = Edit> {
    let text = "[a-z\"'\\\\#\\[é]{1,5}";
    prop_oneof![
        text.prop_map(Edit::Add),
        text.prop_map(|name| Edit::Set("name", name.into())),
        proptest::bool::ANY.prop_map(|enabled| Edit::Set("enabled", enabled.into())),
        "[A-Z]{3}".prop_map(|key| Edit::Set("public_key", key.into())),
        Just(Edit::Set("preshared_key_file", "a.psk".into())),
        Just(Edit::Set("expires", "2026-12-24T18:00:00Z".into())),
        Just(Edit::Unset("expires")),
        Just(Edit::Remove),
    ]
}

/// The comments of a text in order, wherever they stand.
fn comments(text: &str) -> Vec<&str> {
    // In no string of these files does a blank follow a `#`.
    text.lines().filter_map(|line| line.split_once("# ").map(|(_, comment)| comment)).collect()
}

proptest! {
    #[test]
    fn comments_and_order_survive_every_edit(
        edits in proptest::collection::vec((some_edit(), any::<prop::sample::Index>()), 1..12),
        dos: bool,
    ) {
        let mut text = if dos { FILE.replace('\n', "\r\n") } else { FILE.to_owned() };
        for (edit, pick) in edits {
            let before = Written::parse(Path::new("x"), &text).expect("valid");
            let mut expected = before.clone();
            let at = (!before.peers.is_empty()).then(|| pick.index(before.peers.len()));
            let name = at.map(|at| before.peers[at].get_ref().name.get_ref().clone()).unwrap_or_default();
            // Of two peers with one name, the first is meant; a file has no two.
            let is_new = |name: &str| before.peers.iter().all(|peer| peer.get_ref().name.get_ref() != name);
            let fits = match &edit {
                Edit::Add(name) => is_new(name),
                Edit::Set("name", value) => at.is_some() && is_new(value.as_str().expect("text")),
                _ => at.is_some(),
            };
            if !fits {
                continue;
            }
            let edited = match &edit {
                Edit::Add(new) => add_peer(&text, &peer(new)),
                Edit::Set(key, value) => set(&text, &name, key, value.clone()),
                Edit::Unset(key) => unset(&text, &name, key),
                Edit::Remove => remove_peer(&text, &name),
            };
            let edited = edited.expect("edited");
            let spanned = |text: &str| Spanned::new(0..0, text.to_owned());
            match (&edit, at) {
                (Edit::Add(new), _) => expected.peers.push(Spanned::new(0..0, peer(new))),
                (Edit::Remove, Some(at)) => drop(expected.peers.remove(at)),
                (Edit::Set(key, value), Some(at)) => {
                    let peer = expected.peers[at].get_mut();
                    let text = value.as_str().unwrap_or_default();
                    match *key {
                        "name" => peer.name = spanned(text),
                        "public_key" => peer.public_key = spanned(text),
                        "preshared_key_file" => peer.preshared_key_file = Some(spanned(text)),
                        "enabled" => peer.enabled = value.as_bool().expect("a bool"),
                        _ => peer.expires = Some(Spanned::new(0..0, MomentWritten::Text(text.to_owned()))),
                    }
                }
                (Edit::Unset(_), Some(at)) => expected.peers[at].get_mut().expires = None,
                _ => unreachable!("it does not fit"),
            }
            prop_assert_eq!(Written::parse(Path::new("x"), &edited).expect("valid"), expected, "{:?}", edit);
            if !matches!(edit, Edit::Remove) {
                prop_assert_eq!(comments(&edited), comments(&text), "{:?}", edit);
            } else {
                // Those of the peer go with it; the others stay, in their order.
                let mut rest = comments(&text).into_iter();
                prop_assert!(comments(&edited).into_iter().all(|comment| rest.any(|other| other == comment)));
            }
            text = edited;
        }
    }

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
