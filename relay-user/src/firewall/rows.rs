//! The named rows: rule sets that people really have, and what must come of each.

use ipnet::IpNet;

use super::{
    analysis::{HostFacts, TunnelForwarding, tunnel_forwarding},
    exit::Exit,
    opening::openings,
    packet::Version,
    printed::Printed,
    ruleset::{Family, Ruleset, Source},
};

/// A fixture, as `fixtures/README.md` describes it.
fn printed(dump: &str) -> Printed {
    let mut printed = Printed { nft_json: r#"{"nftables": []}"#.into(), ..Printed::default() };
    for section in dump.split("=== ").filter(|section| !section.is_empty()) {
        let (command, text) = section.split_once('\n').expect("a command and its output");
        let text = text.to_owned();
        match command {
            "nft -j list ruleset" => printed.nft_json = text,
            "nft -s -a list ruleset" => printed.nft_text = text,
            "iptables-nft-save" => printed.iptables.push((Family::Ip, Source::Iptables, text)),
            "ip6tables-nft-save" => printed.iptables.push((Family::Ip6, Source::Iptables, text)),
            "iptables-legacy-save" => printed.iptables.push((Family::Ip, Source::IptablesLegacy, text)),
            "ip6tables-legacy-save" => printed.iptables.push((Family::Ip6, Source::IptablesLegacy, text)),
            other => panic!("unknown section {other}"),
        }
    }
    printed
}

fn ruleset(dump: &str) -> Ruleset {
    printed(dump).ruleset().expect("nft's JSON")
}

const V4: &[&str] = &["10.8.0.0/24", "10.9.0.0/24", "192.168.40.0/24"];
const BOTH: &[&str] =
    &["10.8.0.0/24", "10.9.0.0/24", "192.168.40.0/24", "fd52:1a9::/64", "fdcc:ad94:bacf:61a4::/112"];

fn prefixes(list: &[&str]) -> Vec<IpNet> {
    list.iter().map(|text| text.parse().expect("a prefix")).collect()
}

fn forwarding_on() -> HostFacts {
    HostFacts {
        ip_rules: [
            "0:\tfrom all lookup local",
            "32766:\tfrom all lookup main",
            "32767:\tfrom all lookup default",
        ]
        .map(str::to_owned)
        .to_vec(),
        forwarding_v4: true,
        forwarding_v6: true,
        ..HostFacts::default()
    }
}

/// On, or off with (a part of) the words that are quoted.
enum Fast {
    On,
    Off(&'static str),
}
use Fast::{Off, On};

struct Row {
    name: &'static str,
    dump: &'static str,
    prefixes: &'static [&'static str],
    fast: Fast,
    why: &'static str,
    open: &'static [&'static str],
}

macro_rules! row {
    ($name:literal, $prefixes:expr, $fast:expr, $why:literal, $open:expr) => {
        Row {
            name: $name,
            dump: include_str!(concat!("fixtures/", $name, ".dump")),
            prefixes: $prefixes,
            fast: $fast,
            why: $why,
            open: $open,
        }
    };
}

const UFW_PORT: &str = "ufw allow 51820/udp comment 'relay wg0'";
const UFW_TUNNEL: &str = "ufw route allow in on wg0 out on wg0 comment 'relay wg0'";
const FIREWALLD_PORT: &str = "firewall-cmd --zone=public '--add-rich-rule=rule priority=\"-PRIORITY\" port port=\"51820\" protocol=\"udp\" accept'";
const FIREWALLD_TUNNEL: &str = "firewall-cmd --zone=public --add-interface=wg0";
const DOCKER_USER: &str =
    "iptables-nft -w -t filter -I DOCKER-USER 1 -i wg0 -o wg0 -m comment --comment 'relay wg0' -j ACCEPT";
const NFT_TUNNEL: &str =
    r#"nft 'insert rule inet filter forward iifname "wg0" oifname "wg0" accept comment "relay wg0"'"#;

#[rustfmt::skip]
fn rows() -> Vec<Row> {
    vec![
        Row { name: "empty", dump: "", prefixes: BOTH, fast: On, why: "there is nothing", open: &[] },
        row!("wg-easy-14", BOTH, On, "its accepts decide nothing, and it masquerades toward eth0 only", &[]),
        row!("wg-easy-14-legacy", BOTH, On, "the same in the other iptables", &[]),
        row!("wg-easy-15", BOTH, On, "the same in both families", &[]),
        row!("wg-easy-15-drop-policy", BOTH, On, "its accept for wg0 comes before the policy", &[]),
        row!("wg-quick", BOTH, On, "the usual PostUp accepts wg0, and masquerades toward eth0 only", &[]),
        row!("wg-quick-stateful", V4, Off("table ip filter, chain FORWARD: policy drop"), "it accepts wg0 to eth0 only",
            &["iptables-nft -w -t filter -I FORWARD 1 -i wg0 -o wg0 -m comment --comment 'relay wg0' -j ACCEPT"]),
        row!("ufw", BOTH, Off("chain FORWARD: policy drop"), "routed traffic is denied", &[UFW_PORT, UFW_TUNNEL]),
        row!("ufw-route-allow", BOTH, On, "the route rule comes before the policy; what is dropped before it has a routing header, \
            which the fast path leaves to the stack", &[]),
        row!("firewalld", V4, Off("chain filter_FORWARD: ct state invalid drop"), "and wg0 in no zone is rejected",
            &[FIREWALLD_PORT, FIREWALLD_TUNNEL]),
        row!("firewalld-opened", BOTH, Off("fib saddr . mark . iif oif missing drop"), "reverse path and invalid states", &[]),
        row!("firewalld-trusted", V4, Off("ct state invalid drop"), "what conntrack calls invalid goes before zones are asked", &[]),
        row!("firewalld-iptables", V4, Off("-A FORWARD -m conntrack --ctstate INVALID -j DROP"), "as with nftables",
            &[FIREWALLD_PORT, FIREWALLD_TUNNEL]),
        row!("docker-20", BOTH, Off("table ip filter, chain FORWARD: policy drop"), "Docker sets the policy", &[DOCKER_USER]),
        row!("docker-28", BOTH, Off("table ip filter, chain FORWARD: policy drop"), "Docker sets the policy", &[DOCKER_USER]),
        row!("docker-28-user", BOTH, On, "DOCKER-USER comes first; published ports concern the host's own addresses", &[]),
        row!("docker-28-legacy", BOTH, Off("legacy iptables table ip filter, chain FORWARD: policy drop"), "nft does not show it",
            &["iptables-legacy -w -t filter -I DOCKER-USER 1 -i wg0 -o wg0 -m comment --comment 'relay wg0' -j ACCEPT"]),
        row!("docker-29-nftables", BOTH, On, "its tables name its own bridges and no policy drops", &[]),
        row!("debian-nftables", BOTH, On, "three empty chains that accept", &[]),
        row!("nft-drop", BOTH, Off("table inet filter, chain forward: policy drop"), "a default-deny host",
            &[r#"nft 'insert rule inet filter input udp dport 51820 accept comment "relay wg0"'"#, NFT_TUNNEL]),
        row!("nft-drop-accept-wg0", BOTH, On, "the accept for wg* to wg0 stands before the policy and the states", &[]),
        row!("nft-invalid-first", BOTH, Off("ct state vmap"), "an invalid packet goes before the accept is reached", &[]),
        row!("nft-two-tables", BOTH, Off("table inet b, chain f: policy drop"), "an accept in one table opens nothing in another",
            &[r#"nft 'insert rule inet b f iifname "wg0" oifname "wg0" accept comment "relay wg0"'"#]),
        row!("legacy-drop", BOTH, Off("legacy iptables table ip filter, chain FORWARD: policy drop"), "nft does not show it",
            &["iptables-legacy -w -t filter -I FORWARD 1 -i wg0 -o wg0 -m comment --comment 'relay wg0' -j ACCEPT"]),
        row!("legacy-drop-accept-wg0", BOTH, On, "accepted before the policy, in both families", &[]),
        row!("masquerade-anywhere", V4, Off("-A POSTROUTING -s 10.9.0.0/24 -j MASQUERADE"), "it translates peers' addresses toward peers", &[]),
        row!("nft-masquerade-anywhere", V4, Off("ip saddr 10.9.0.0/24 masquerade"), "the same in nftables", &[]),
        row!("nft-masquerade-elsewhere", V4, On, "one leaves wg0 out, the other's sources are no peers'", &[]),
        row!("mark-prerouting", V4, Off("-A PREROUTING -i wg0 -j MARK --set-xmark 0x7/0xffffffff"), "a mark may steer", &[]),
        row!("mark-elsewhere", V4, On, "wg0's packets have no mark", &[]),
        row!("mss-clamp", BOTH, On, "the fast path clamps as well", &[]),
        row!("mss-fixed", V4, Off("--set-mss 1300"), "the fast path would not set that", &[]),
        row!("ingress-wg0", V4, Off("table netdev t, chain i: ip saddr 10.9.0.66 drop"), "it stands behind the fast path's own hook", &[]),
        row!("ingress-eth0", BOTH, On, "another device's, by which peers come to the port",
            &[r#"nft 'insert rule netdev t i udp dport 51820 accept comment "relay wg0"'"#]),
        row!("notrack", V4, Off("udp dport 53 notrack"), "a later decision may rest on it", &[]),
        row!("fail2ban", BOTH, On, "input only", &[]),
        row!("flowtable", BOTH, Off("flow add @f"), "another path around the hooks, with state of its own", &[]),
    ]
}

#[test]
fn fast_path() {
    for row in rows() {
        let verdict = tunnel_forwarding(&ruleset(row.dump), "wg0", &prefixes(row.prefixes), &forwarding_on());
        match (&row.fast, &verdict) {
            (On, TunnelForwarding::Free) => {}
            (Off(words), TunnelForwarding::Kept { by, hint }) => {
                assert!(by.contains(words), "{} ({}): quotes {by}", row.name, row.why);
                assert!(hint.contains("wg0"), "{}: {hint}", row.name);
            }
            _ => panic!("{} ({}): {verdict:?}", row.name, row.why),
        }
    }
}

/// Whoever adopts an interface has no file to say `always` in, and the answer is the same.
#[test]
fn an_adopted_interface_is_told_no_word_of_the_file() {
    for row in rows() {
        let verdict = |adopted| {
            let facts = HostFacts { adopted, ..forwarding_on() };
            tunnel_forwarding(&ruleset(row.dump), "wg0", &prefixes(row.prefixes), &facts)
        };
        match (verdict(false), verdict(true)) {
            (TunnelForwarding::Free, TunnelForwarding::Free) => {}
            (TunnelForwarding::Kept { by, .. }, TunnelForwarding::Kept { by: same, hint }) => {
                assert_eq!(by, same, "{}", row.name);
                assert!(hint.contains("wg0") && !hint.contains("fast_path"), "{}: {hint}", row.name);
            }
            (hub, adopted) => panic!("{}: {hub:?}, adopted {adopted:?}", row.name),
        }
    }
}

#[test]
fn what_is_closed_and_how_to_open_it() {
    let priority = super::opening::firewalld_priority("wg0").to_string();
    for row in rows() {
        let found = openings(&ruleset(row.dump), "wg0", 51820, Some("eth0"), &prefixes(row.prefixes), &[]);
        let commands: Vec<String> = found.into_iter().map(|opening| opening.command).collect();
        let expected: Vec<String> =
            row.open.iter().map(|text| text.replace("-PRIORITY", &priority)).collect();
        assert_eq!(commands, expected, "{} ({})", row.name, row.why);
    }
}

/// What full tunnels need besides: the way out, and the way back where nothing lets established flows through.
#[test]
fn what_closes_an_exit() {
    let exits: Vec<Exit> = [(Version::V4, "10.9.0.3/32"), (Version::V6, "fd52:1a9::3/128")]
        .map(|(version, source)| Exit { version, uplink: "eth0".into(), sources: prefixes(&[source]) })
        .to_vec();
    let docker = |rule: &str, place: &str| {
        format!("iptables-{place} 1 {rule} -m comment --comment 'relay wg0' -j ACCEPT")
    };
    let nft =
        |place: &str, rule: &str| format!("nft 'insert rule {place} {rule} accept comment \"relay wg0\"'");
    let (out, back) = (r#"iifname "wg0" oifname "eth0""#, r#"iifname "eth0" oifname "wg0""#);
    let (out4, back4) = ("-i wg0 -o eth0", "-i eth0 -o wg0 -m conntrack --ctstate RELATED,ESTABLISHED");
    let states = "ct state established,related";
    let expected: [(&str, Vec<String>); 9] = [
        ("debian-nftables", vec![]),
        ("wg-quick", vec![]),
        ("wg-easy-15-drop-policy", vec![]),
        ("wg-quick-stateful", vec![]),
        ("ufw", vec!["ufw route allow in on wg0 out on eth0 comment 'relay wg0'".into()]),
        (
            "docker-28",
            vec![
                docker(out4, "nft -w -t filter -I DOCKER-USER"),
                docker(back4, "nft -w -t filter -I DOCKER-USER"),
            ],
        ),
        (
            "legacy-drop",
            vec![
                docker(out4, "legacy -w -t filter -I FORWARD"),
                docker(back4, "legacy -w -t filter -I FORWARD"),
            ],
        ),
        (
            "nft-drop",
            vec![nft("inet filter forward", out), nft("inet filter forward", &format!("{back} {states}"))],
        ),
        // Its default zone forwards between the interfaces in it, and wg0 counts as one of them.
        ("firewalld", vec![]),
    ];
    for (name, expected) in expected {
        let row = rows().into_iter().find(|row| row.name == name).expect("a row");
        let found = |exits: &[Exit]| {
            openings(&ruleset(row.dump), "wg0", 51820, Some("eth0"), &prefixes(row.prefixes), exits)
        };
        let without = found(&[]);
        let more: Vec<String> =
            found(&exits).into_iter().filter(|o| !without.contains(o)).map(|o| o.command).collect();
        assert_eq!(more, expected, "{name}");
    }
}

/// Where wg0 is let through by name and the rest is dropped, a tunnel of another name is among the rest.
#[test]
fn another_interface_is_not_wg0() {
    for name in ["wg-easy-15-drop-policy", "docker-28-user", "legacy-drop-accept-wg0"] {
        let row = rows().into_iter().find(|row| row.name == name).expect("a row");
        let verdict = tunnel_forwarding(&ruleset(row.dump), "wg1", &prefixes(V4), &forwarding_on());
        assert!(matches!(verdict, TunnelForwarding::Kept { .. }), "{name}: {verdict:?}");
    }
}

#[test]
fn facts_of_the_host() {
    let verdict =
        |facts: HostFacts, list| tunnel_forwarding(&Ruleset::default(), "wg0", &prefixes(list), &facts);
    let kept = |verdict, words: &str| match verdict {
        TunnelForwarding::Kept { by, .. } => assert!(by.contains(words), "{by}"),
        TunnelForwarding::Free => panic!("free in spite of {words}"),
    };
    let with_rule = |rule: &str| {
        let mut facts = forwarding_on();
        facts.ip_rules.push(rule.to_owned());
        verdict(facts, V4)
    };
    kept(verdict(HostFacts { forwarding_v4: false, ..forwarding_on() }, V4), "net.ipv4.ip_forward");
    kept(
        verdict(HostFacts { forwarding_v6: false, ..forwarding_on() }, BOTH),
        "net.ipv6.conf.all.forwarding",
    );
    assert_eq!(verdict(HostFacts { forwarding_v6: false, ..forwarding_on() }, V4), TunnelForwarding::Free);
    let forwarding =
        || HostFacts { odd_sysctls_v4: vec!["net.ipv4.conf.wg0.forwarding = 0".into()], ..forwarding_on() };
    kept(verdict(forwarding(), V4), "net.ipv4.conf.wg0.forwarding = 0");
    let mtu = || HostFacts { odd_sysctls_v6: vec!["net.ipv6.conf.wg0.mtu = 1280".into()], ..forwarding_on() };
    kept(verdict(mtu(), BOTH), "net.ipv6.conf.wg0.mtu = 1280");
    assert_eq!(verdict(mtu(), V4), TunnelForwarding::Free);
    kept(
        verdict(HostFacts { foreign_tc_programs: vec!["cil_from_x".into()], ..forwarding_on() }, V4),
        "cil_from_x",
    );
    for steering in [
        "5270:\tfrom all lookup 52",
        "32764:\tfrom all lookup main suppress_prefixlength 0",
        "32765:\tnot from all fwmark 0xca6c lookup 51820",
        "100:\tfrom 10.9.0.3 lookup 100",
        "100:\tfrom all iif wg0 lookup 100",
        "100:\tfrom all to 192.168.40.0/24 blackhole",
        "1000:\tfrom all lookup [l3mdev-table]",
        "ip rule 100: from all to 192.168.0.0/16 lookup 7",
        "ip rule: the default rule `0: from all lookup local` is missing",
    ] {
        kept(with_rule(steering), &steering.replace('\t', " "));
        kept(with_rule(steering), "ip rule");
    }
    for harmless in [
        "100:\tfrom all iif eth0 lookup 100",
        "5210:\tfrom all fwmark 0x80000/0xff0000 lookup main",
        "100:\tfrom 172.17.0.0/16 lookup 100",
        "100:\tfrom all oif eth1 lookup 100",
        "ip -6 rule 100: from all lookup 100",
    ] {
        assert_eq!(with_rule(harmless), TunnelForwarding::Free, "{harmless}");
    }
}
