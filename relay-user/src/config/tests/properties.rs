//! What holds for every file: accepted ones say the same again and clash nowhere, refused ones name a line.

use std::path::Path;

use ipnet::IpNet;
use proptest::prelude::*;

use super::{key, understand};
use crate::{
    config::{
        FirewallWritten, InterfaceWritten, MetricsWritten, MomentWritten, PeerWritten, Written, prefix,
    },
    desired::{BackendChoice, FastPathMode, Peer},
};

/// Prefixes from so small a pool that they often clash.
fn some_prefix() -> impl Strategy<Value = String> {
    prop_oneof![
        (0u8..8, 8u8..=32).prop_map(|(third, length)| format!("192.168.{}.0/{length}", third * 16)),
        (0u8..8, 20u8..=28).prop_map(|(third, length)| {
            let net: IpNet = format!("192.168.{third}.0/{length}").parse().expect("net");
            net.trunc().to_string()
        }),
        (0u16..8, 44u8..=64).prop_map(|(part, length)| {
            let net: IpNet = format!("fd00:{part}::/{length}").parse().expect("net");
            net.trunc().to_string()
        }),
        Just("0.0.0.0/0".to_owned()),
        Just("224.0.0.0/4".to_owned()),
    ]
}

fn spanned<T>(value: T) -> serde_spanned::Spanned<T> {
    serde_spanned::Spanned::new(0..0, value)
}

prop_compose! {
    fn some_peer()(
        number in 1u8..40,
        name in "[a-zA-Z\"#\\\\ é]{1,6}",
        v4 in 2u8..60,
        v6 in proptest::option::of(2u8..60),
        lans in proptest::collection::vec(some_prefix(), 0..3),
        keepalive in proptest::option::of(0i64..100),
        mtu in proptest::option::of(1200i64..1500),
        dns in proptest::collection::vec("[a-z0-9.:]{1,12}", 0..2),
        full_tunnel: bool,
        expires in proptest::option::of(prop_oneof![
            Just(MomentWritten::Text("2026-12-24".to_owned())),
            Just(MomentWritten::Toml("2026-12-24T18:00:00Z".parse().expect("moment"))),
            "[ 0-9TZ:-]{0,20}".prop_map(MomentWritten::Text),
        ]),
        enabled in proptest::bool::weighted(0.9),
    ) -> PeerWritten {
        let mut addresses = vec![spanned(format!("10.9.0.{v4}"))];
        addresses.extend(v6.map(|v6| spanned(format!("fd52:1a9::{v6:x}"))));
        PeerWritten {
            name: spanned(name),
            public_key: spanned(key(number)),
            addresses: spanned(addresses),
            lans: lans.into_iter().map(spanned).collect(),
            keepalive: keepalive.map(spanned),
            preshared_key_file: None,
            endpoint: None,
            mtu: mtu.map(spanned),
            dns: dns.into_iter().map(spanned).collect(),
            full_tunnel,
            expires: expires.map(spanned),
            enabled,
        }
    }
}

prop_compose! {
    fn some_file()(
        listen_port in proptest::option::of(1i64..65536),
        mtu in proptest::option::of(1280i64..9000),
        manage: bool,
        listen in proptest::option::of("[0-9.:]{1,12}"),
        peers in proptest::collection::vec(some_peer(), 0..5),
    ) -> Written {
        Written {
            uplink: None,
            interface: spanned(InterfaceWritten {
                name: None,
                listen_port: listen_port.map(spanned),
                addresses: spanned(vec![spanned("10.9.0.1/24".to_owned()), spanned("fd52:1a9::1/64".to_owned())]),
                private_key_file: None,
                endpoint: None,
                mtu: mtu.map(spanned),
                backend: BackendChoice::Auto,
                fast_path: FastPathMode::Off,
            }),
            hub: None,
            home: None,
            firewall: FirewallWritten { manage, allow_from: vec![spanned("eth1".to_owned())] },
            metrics: MetricsWritten { listen: listen.map(spanned) },
            peers: peers.into_iter().map(spanned).collect(),
        }
    }
}

proptest! {
    #[test]
    fn accepted_configurations_round_trip_and_do_not_overlap(file in some_file()) {
        let text = file.to_toml().expect("every file has a text");
        let written = Written::parse(Path::new("relay.toml"), &text).expect("its own text is understood");
        prop_assert_eq!(&written, &file);
        match understand(&text) {
            Ok(config) => {
                prop_assert_eq!(&config.written, &file);
                let claims: Vec<IpNet> = config.desired.peers.values().flat_map(Peer::allowed_ips).collect();
                for (index, a) in claims.iter().enumerate() {
                    for b in &claims[..index] {
                        prop_assert!(!prefix::overlap(*a, *b), "{} and {}", a, b);
                    }
                    for own in &config.desired.addresses {
                        prop_assert!(!a.contains(&own.addr()), "{} has the hub's {}", a, own);
                    }
                    prop_assert!(prefix::reserved(*a).is_none(), "{} is reserved", a);
                }
            }
            Err(errors) => {
                for error in errors.as_slice() {
                    prop_assert!((1..=text.lines().count()).contains(&error.line), "{}", error);
                }
            }
        }
    }

    #[test]
    fn arbitrary_text_is_refused_with_a_line(text in "(?s).{0,200}") {
        if let Err(errors) = understand(&text) {
            prop_assert!(errors.as_slice().iter().all(|error| error.line >= 1 && error.column >= 1));
        }
    }

    #[test]
    fn damaged_files_are_refused_with_a_line(file in some_file(), at in 0usize..2000, with in "(?s).{0,3}") {
        let mut text = file.to_toml().expect("every file has a text");
        let at = (0..=at.min(text.len())).rev().find(|&at| text.is_char_boundary(at)).unwrap_or(0);
        text.truncate(at);
        text += &with;
        if let Err(errors) = understand(&text) {
            prop_assert!(!errors.as_slice().is_empty());
            prop_assert!(errors.as_slice().iter().all(|error| error.line >= 1 && error.column >= 1));
        }
    }
}
