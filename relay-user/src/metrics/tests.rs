//! The whole text, and names that need escaping.

use super::*;
use crate::{
    desired::Backend,
    key::PublicKey,
    report::{Bytes, PeerFastPath, Standing, UplinkStats},
};

fn snapshot() -> Snapshot {
    let peer = |name: &str, key: u8| PeerStats {
        name: name.into(),
        public_key: PublicKey::new([key; 32]),
        addresses: ["10.9.0.2".parse().unwrap(), "fd52:1a9::2".parse().unwrap()].into(),
        lans: ["192.168.40.0/24".parse().unwrap()].into(),
        endpoint: Some("203.0.113.9:41820".parse().unwrap()),
        latest_handshake: (key == 1).then_some(940),
        received: Bytes { bytes: 1536 },
        sent: Bytes { bytes: u64::MAX },
        fast_path: PeerFastPath {
            received: Packets { packets: 3, bytes: 1200 },
            sent: Packets { packets: 4, bytes: 1300 },
        },
    };
    Snapshot {
        status: Status {
            version: "0.1.0".into(),
            pid: 42,
            config: Some("/etc/relay/relay.toml".into()),
            interface: "wg0".into(),
            namespace: None,
            backend: Backend::Kernel,
            backend_reason: "this kernel has WireGuard".into(),
            public_key: Some(PublicKey::new([9; 32])),
            listen_port: 51820,
            endpoint: None,
            home: None,
            fast_path: Standing::on("nothing is in its way"),
            attached: Some("tcx".into()),
            uplink: Some(Standing::on("native, on eth0")),
            peers: 2,
            peers_connected: 1,
            peers_expired: vec!["guest".into()],
            problems: vec!["one".into()],
            beside: vec![],
            to_open: vec![],
        },
        stats: Stats {
            interface: "wg0".into(),
            backend: Backend::Kernel,
            fast_path: Standing::on("nothing is in its way"),
            peers: vec![peer("home", 1), peer("Zoë's \"x\" \\ y", 2)],
            verdicts: [("redirected".into(), 990), ("ttl_expired".into(), 10)].into(),
            uplink: Some(UplinkStats {
                passed: [("data".into(), 1000), ("initiation".into(), 3)].into(),
                dropped: [("bad_mac1".into(), 77), ("unknown_type".into(), 0)].into(),
            }),
        },
        reconcile: Reconcile { runs: 7, changes: 12, failures: 1, last: 1_795_000_000_250 },
        history: Some(true),
    }
}

#[test]
fn everything_that_is_told() {
    insta::assert_snapshot!(render(&snapshot()));
}

#[test]
fn nothing_that_is_nobodys_business() {
    let text = render(&snapshot());
    assert!(!text.contains("203.0.113.9"), "an endpoint is where a person is");
}
