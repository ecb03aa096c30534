//! Faults of the hub itself: a machine with an uplink and no peers yet, so that nobody need be waited for.

use std::net::UdpSocket;

use anyhow::{Result, ensure};
use relay_tests::{
    guest,
    lab::relay::{self, Relay},
    netns::Netns,
};

use crate::{Fault, doctor, named, silent};

/// With a daemon that goes on.
const RUNNING: &[Fault] = &[
    Fault {
        name: "an input chain that drops",
        inject: "nft 'add table inet filter; add chain inet filter input { type filter hook input priority 0; policy drop; }'",
        check: "listen-port",
        words: "chain input: policy drop",
        undo: "nft delete table inet filter",
    },
    Fault {
        name: "a rule of iptables that drops the port",
        inject: "iptables -A INPUT -p udp --dport 51820 -j DROP",
        check: "listen-port",
        words: "-A INPUT -p udp",
        undo: "iptables -D INPUT -p udp --dport 51820 -j DROP",
    },
    Fault {
        name: "a rule that drops the port as it comes in",
        inject: "nft 'add table netdev early; add chain netdev early in { type filter hook ingress device eth0 priority 0; }; add rule netdev early in udp dport 51820 drop'",
        check: "listen-port",
        words: "chain in: udp dport 51820 drop",
        undo: "nft delete table netdev early",
    },
    Fault {
        name: "a forward chain that drops, as Docker's",
        inject: "iptables -P FORWARD DROP",
        check: "forward",
        words: "FORWARD",
        undo: "iptables -P FORWARD ACCEPT",
    },
    Fault {
        name: "a rule that marks",
        inject: "nft 'add table inet m; add chain inet m pre { type filter hook prerouting priority -150; }; add rule inet m pre iifname \"wg0\" meta mark set 7'",
        check: "fast-path",
        words: "mark",
        undo: "nft delete table inet m",
    },
    Fault {
        name: "a rule of policy routing",
        inject: "ip rule add iif wg0 lookup 77",
        check: "fast-path",
        words: "ip rule",
        undo: "ip rule del iif wg0 lookup 77",
    },
    Fault {
        name: "a narrow uplink",
        inject: "ip link set eth0 mtu 1400",
        check: "mtu",
        words: "mtu = 1328 under",
        undo: "ip link set eth0 mtu 1500",
    },
    Fault {
        name: "strict reverse path filtering with two ways out",
        inject: "ip link add eth9 type veth peer name far9; ip link set far9 up; ip link set eth9 up
                 ip address add 203.0.113.9/24 dev eth9; ip route add default via 203.0.113.1 metric 500
                 sysctl -qw net.ipv4.conf.eth9.rp_filter=1",
        check: "rp-filter",
        words: "net.ipv4.conf.eth9.rp_filter=2",
        undo: "ip link delete eth9",
    },
    Fault {
        name: "no way out",
        inject: "ip route del default",
        check: "uplink",
        words: "no default route",
        undo: "ip route add default via 198.51.100.1",
    },
    Fault {
        name: "peers dial another machine",
        inject: "sed -i 's/^endpoint = .*/endpoint = \"203.0.113.77:51820\"/' /run/lab/relay.toml",
        check: "endpoint",
        words: "none of this host's addresses",
        undo: "sed -i 's/^endpoint = .*/endpoint = \"198.51.100.2:51820\"/' /run/lab/relay.toml",
    },
    Fault {
        name: "peers dial another port",
        inject: "sed -i 's/^endpoint = .*/endpoint = \"198.51.100.2:443\"/' /run/lab/relay.toml",
        check: "endpoint",
        words: "listens on UDP port 51820",
        undo: "sed -i 's/^endpoint = .*/endpoint = \"198.51.100.2:51820\"/' /run/lab/relay.toml",
    },
    Fault {
        name: "a file that is not in force",
        inject: "sed -i 's/^listen_port = .*/listen_port = 51999/' /run/lab/relay.toml",
        check: "drift",
        words: "relay reload",
        undo: "sed -i 's/^listen_port = .*/listen_port = 51820/' /run/lab/relay.toml",
    },
    Fault {
        name: "a file with a slip in it",
        inject: "sed -i 's/^listen_port/listen_prot/' /run/lab/relay.toml",
        check: "config",
        words: "listen_prot",
        undo: "sed -i 's/^listen_prot/listen_port/' /run/lab/relay.toml",
    },
    Fault {
        name: "a private key that others may read",
        inject: "chmod 0644 /run/lab/wg0.key",
        check: "config",
        words: "wg0.key",
        undo: "chmod 0600 /run/lab/wg0.key",
    },
    Fault {
        name: "the host is in the tunnel's own network",
        inject: "ip address add 10.9.0.77/16 dev eth0",
        check: "config",
        words: "10.9.0.0/",
        undo: "ip address del 10.9.0.77/16 dev eth0",
    },
    Fault {
        name: "a clock that went back",
        inject: "touch -d '+3 hours' /run/lab/relay.toml",
        check: "clock",
        words: "went back",
        undo: "touch /run/lab/relay.toml",
    },
    Fault {
        name: "what another relay left behind",
        inject: "ip link add wg7 type veth peer name far7; ip link set wg7 alias 'managed by relay'",
        check: "relays",
        words: "wg7",
        undo: "ip link delete wg7",
    },
];

/// Without one, and without the interface.
const DOWN: &[Fault] = &[
    Fault { name: "no daemon", inject: "", check: "daemon", words: "not running", undo: "" },
    Fault {
        name: "forwarding is off",
        inject: "sysctl -qw net.ipv4.ip_forward=0",
        check: "forwarding",
        words: "net.ipv4.ip_forward = 0",
        undo: "",
    },
    Fault {
        name: "somebody else's interface",
        inject: "ip link add wg0 type veth peer name far0",
        check: "interface",
        words: "is not relay's",
        undo: "ip link delete wg0",
    },
];

#[test]
fn each_fault_of_a_hub_is_named() -> Result<()> {
    if guest::line().is_some() {
        guest::skip("the doctor's checks of the hub itself say the same on every kernel");
        return Ok(());
    }
    let machine = Netns::with_uplink("hub")?;
    let mut hub = Relay::init(&machine, &relay::binary()?)?;
    hub.up()?;
    silent(&machine, &[])?;
    named(&machine, &machine, &[], RUNNING)?;
    silent(&machine, &[])?;

    let nobody =
        hub.run_as_nobody(&["doctor", "--json"]).expect_err("warnings have an exit code of their own");
    ensure!(format!("{nobody:#}").contains("exit status: 3"), "{nobody:#}");

    // A peer that nobody has set up yet, and nothing that knocks: the provider's firewall may be why.
    hub.run(&["peer", "add", "phone"])?;
    doctor(&machine, &[])?.names("handshake", "provider")?;
    hub.run(&["peer", "remove", "phone"])?;

    hub.run(&["down"])?;
    named(&machine, &machine, &[], DOWN)?;
    let taken = machine.inside(|| Ok(UdpSocket::bind(("0.0.0.0", 51820))?))?;
    doctor(&machine, &[])?.names("port", "51820")?;
    drop(taken);
    Ok(())
}
