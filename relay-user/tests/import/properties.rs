//! What holds for whatever is given: no panic, a place for everything said, and a file that relay itself accepts.

use std::path::Path;

use proptest::prelude::*;
use relay_user::{
    import::{wg_easy14, wg_quick},
    key::PrivateKey,
};

use crate::invariants::holds;

fn key(number: u8) -> String {
    PrivateKey::new([number; 32]).public_key().to_string()
}

fn some_prefix() -> impl Strategy<Value = String> {
    prop_oneof![
        4 => (0u8..12).prop_map(|last| format!("10.8.0.{last}/32")),
        1 => (0u8..12).prop_map(|last| format!("10.8.0.{last}")),
        1 => (0u8..=32).prop_map(|length| format!("10.8.0.0/{length}")),
        3 => (0u8..4, 14u8..=32).prop_map(|(third, length)| format!("192.168.{third}.0/{length}")),
        1 => (0u16..4, 40u8..=128).prop_map(|(part, length)| format!("fd08:{part}::5/{length}")),
        1 => Just("::/0".to_owned()),
        1 => "[0-9./:+-]{1,12}",
    ]
}

fn some_name() -> impl Strategy<Value = String> {
    prop_oneof![
        Just("home".to_owned()),
        Just(String::new()),
        "[a-z()\\[\\]\"'\\\\ #=é\u{202e}]{0,12}",
        ".{0,90}"
    ]
}

prop_compose! {
    fn some_peer()(
        name in some_name(), number in 1u8..9, nets in proptest::collection::vec(some_prefix(), 0..5),
        endpoint in proptest::option::of("[a-z0-9.:\\[\\]]{1,20}"), form in 0u8..5,
    ) -> String {
        let line = name.replace(['\n', '\r'], " ");
        let (above, beside) = match form {
            0 => (format!("# Client: {line} (1)\n"), String::new()),
            1 => (String::new(), format!("# friendly_name = {line}\n")),
            2 => (String::new(), format!("# {line}\n")),
            3 => (format!("# {line}\n"), String::new()),
            _ => (String::new(), String::new()),
        };
        let endpoint = endpoint.map(|endpoint| format!("Endpoint = {endpoint}\n")).unwrap_or_default();
        format!("{above}[Peer]\n{beside}PublicKey = {}\nAllowedIPs = {}\n{endpoint}\n", key(number), nets.join(", "))
    }
}

prop_compose! {
    fn some_file()(
        address in prop_oneof![
            Just("10.8.0.1/24".to_owned()), Just("10.8.0.1/32".to_owned()), Just("10.8.0.1/24, fd08::1/48".to_owned()),
            "[0-9./]{0,12}",
        ],
        mtu in proptest::option::of(0u32..70000),
        peers in proptest::collection::vec(some_peer(), 0..8),
    ) -> String {
        let mtu = mtu.map(|mtu| format!("MTU = {mtu}\n")).unwrap_or_default();
        let private = PrivateKey::new([99; 32]).expose_base64();
        format!("[Interface]\nListenPort = 51820\nAddress = {address}\nPrivateKey = {}\n{mtu}\n{}", private.as_str(), peers.concat())
    }
}

prop_compose! {
    fn some_client()(
        name in some_name(), number in 1u8..9, nets in proptest::collection::vec(some_prefix(), 0..4),
        enabled: bool, expires in proptest::option::of("[0-9TZ:-]{0,20}"),
    ) -> serde_json::Value {
        serde_json::json!({
            "name": name, "publicKey": key(number), "address": nets.join(","), "enabled": enabled, "expiredAt": expires,
        })
    }
}

proptest! {
    #[test]
    fn any_text_is_read_as_wg_quick(text in "(?s).{0,300}") {
        holds(&wg_quick::parse(Path::new("x"), &text, "wg0"), &text);
    }

    #[test]
    fn any_lines_are_read_as_wg_quick(
        lines in proptest::collection::vec("(#|\\[Peer\\]|\\[Interface\\]|[A-Za-z]{3,12} ?= ?)?[ -~é]{0,20}", 0..30),
        interface in "[ -~]{0,20}",
    ) {
        let text = lines.join("\n");
        holds(&wg_quick::parse(Path::new("x"), &text, &interface), &text);
    }

    #[test]
    fn files_of_wg_quick_become_valid_configurations(text in some_file()) {
        holds(&wg_quick::parse(Path::new("x"), &text, "wg0"), &text);
    }

    #[test]
    fn damaged_files_are_read(text in some_file(), at in 0usize..2000, with in "(?s).{0,3}") {
        let at = (0..=at.min(text.len())).rev().find(|&at| text.is_char_boundary(at)).unwrap_or(0);
        let text = text[..at].to_owned() + &with;
        holds(&wg_quick::parse(Path::new("x"), &text, "wg0"), &text);
    }

    #[test]
    fn any_text_is_read_as_wg_easy(text in "(?s)\\{?.{0,200}") {
        holds(&wg_easy14::parse(Path::new("x"), &text, None), &text);
    }

    #[test]
    fn files_of_wg_easy_become_valid_configurations(
        clients in proptest::collection::vec(some_client(), 0..8), conf in proptest::option::of(some_file()),
        cut in proptest::option::of(0usize..2000),
    ) {
        let private = PrivateKey::new([99; 32]).expose_base64();
        let clients: serde_json::Map<_, _> =
            clients.into_iter().enumerate().map(|(index, client)| (index.to_string(), client)).collect();
        let document = serde_json::json!({
            "server": { "privateKey": private.as_str(), "address": "10.8.0.1" }, "clients": clients,
        });
        let mut text = serde_json::to_string_pretty(&document).expect("JSON");
        if let Some(cut) = cut {
            let cut = (0..=cut.min(text.len())).rev().find(|&at| text.is_char_boundary(at)).unwrap_or(0);
            text.truncate(cut);
        }
        let conf = conf.as_ref().map(|conf| (Path::new("y"), conf.as_str()));
        let found = wg_easy14::parse(Path::new("x"), &text, conf);
        let both = conf.map_or_else(|| text.clone(), |(_, conf)| format!("{text}\n{conf}"));
        holds(&found, &both);
    }
}
