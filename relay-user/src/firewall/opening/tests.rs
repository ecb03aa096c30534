//! What is opened where, and what is found again.

use super::{
    super::{iptables_save::parse, nft_json, ruleset::UfwRule},
    *,
};

fn commands(chains: &str, rules: &str, ufw: &[&str]) -> Vec<String> {
    let text = format!("*filter\n:INPUT ACCEPT [0:0]\n:FORWARD DROP [0:0]\n{chains}{rules}COMMIT\n");
    let rule = |text: &&str| UfwRule {
        arguments: text.split(' ').map(str::to_owned).collect(),
        comment: tag("wg0"),
    };
    let ruleset = Ruleset {
        tables: parse(&text, Family::Ip, Source::Iptables),
        ufw: ufw.iter().map(rule).collect(),
        ..Ruleset::default()
    };
    let prefixes = ["10.9.0.0/24".parse().expect("a prefix")];
    openings(&ruleset, "wg0", 51820, None, &prefixes, &[])
        .into_iter()
        .map(|opening| opening.command)
        .collect()
}

/// Where something closes before the place that its owner keeps for others, another rule in that place would help
/// as little as the first.
#[test]
fn a_place_that_did_not_help_is_not_tried_again() {
    let top =
        "iptables-nft -w -t filter -I FORWARD 1 -i wg0 -o wg0 -m comment --comment 'relay wg0' -j ACCEPT";
    let before = "-A FORWARD -j DROP\n";
    let ufw = ":ufw-user-input - [0:0]\n";
    let route = "route allow in on wg0 out on wg0";
    assert_eq!(commands(ufw, before, &[]), [format!("ufw {route} comment 'relay wg0'")]);
    assert_eq!(commands(ufw, before, &[route]), [top]);
    let docker = ":DOCKER-USER - [0:0]\n";
    let ours = "-A DOCKER-USER -i wg0 -o wg0 -m comment --comment \"relay wg0\" -j ACCEPT\n";
    assert_eq!(commands(docker, before, &[]), [top.replace("FORWARD", "DOCKER-USER")]);
    assert_eq!(commands(docker, &format!("{before}{ours}"), &[]), [top]);
}

#[test]
fn what_is_removed_is_what_was_printed() {
    let text = "*filter\n-A FORWARD -i wg0 -o wg0 -m comment --comment \"relay wg0\" -j ACCEPT\n\
                -A INPUT -p udp -m udp --dport 4500 -m comment --comment \"relay wg0\" -j ACCEPT\n\
                -A INPUT -m comment --comment \"relay wg01\" -j ACCEPT\nCOMMIT\n";
    let tables = parse(text, Family::Ip6, Source::IptablesLegacy);
    let ruleset = Ruleset { tables, ..Ruleset::default() };
    let found: Vec<(Way, String)> =
        ours(&ruleset, "wg0").iter().map(|ours| (ours.way.clone(), shell(&ours.remove))).collect();
    let start = "ip6tables-legacy -w -t filter -D";
    let end = "-m comment --comment 'relay wg0' -j ACCEPT";
    let expected = [
        (Way::Tunnel, format!("{start} FORWARD -i wg0 -o wg0 {end}")),
        (Way::ListenPort(4500), format!("{start} INPUT -p udp -m udp --dport 4500 {end}")),
    ];
    assert_eq!(found, expected);
    assert_eq!(stale(&ruleset, "wg0", 4500, &[]), []);
    assert_eq!(stale(&ruleset, "wg0", 51820, &[]).len(), 1);
}

#[test]
fn an_exit_that_nobody_takes_is_closed() {
    let text = "*filter\n-A FORWARD -i wg0 -o eth0 -m comment --comment \"relay wg0\" -j ACCEPT\n\
                -A FORWARD -i eth0 -o wg0 -m conntrack --ctstate RELATED,ESTABLISHED -m comment --comment \
                \"relay wg0\" -j ACCEPT\nCOMMIT\n";
    let arguments = "route allow in on wg0 out on eth0".split(' ').map(str::to_owned).collect();
    let ruleset = Ruleset {
        tables: parse(text, Family::Ip, Source::Iptables),
        ufw: vec![UfwRule { arguments, comment: tag("wg0") }],
        ..Ruleset::default()
    };
    let ways: Vec<Way> = ours(&ruleset, "wg0").into_iter().map(|ours| ours.way).collect();
    let (out, back) = (Way::Exit("eth0".into()), Way::Return("eth0".into()));
    assert_eq!(ways, [out.clone(), out, back]);
    let exit = |uplink: &str| Exit {
        version: Version::V4,
        uplink: uplink.into(),
        sources: vec!["10.9.0.3/32".parse().expect("a prefix")],
    };
    assert_eq!(stale(&ruleset, "wg0", 51820, &[exit("eth0")]), []);
    assert_eq!(stale(&ruleset, "wg0", 51820, &[exit("eth1")]).len(), 3);
    assert_eq!(stale(&ruleset, "wg0", 51820, &[]).len(), 3);
}

/// A rate limit or a block list is the admin's intention, and no reason to accept before it.
#[test]
fn what_drops_some_packets_closes_nothing() {
    let accept = "-A FORWARD -j ACCEPT\n";
    let limit =
        "-A INPUT -p udp -m hashlimit --hashlimit-above 9/sec -j DROP\n-A INPUT -s 192.0.2.0/24 -j DROP\n";
    assert_eq!(commands("", &format!("{limit}{accept}"), &[]), [""; 0]);
    let port = "iptables-nft -w -t filter -I INPUT 1 -p udp -m udp --dport 51820 -m comment --comment 'relay wg0' \
                -j ACCEPT";
    assert_eq!(commands("", &format!("{limit}{accept}-A INPUT -p udp -j REJECT\n"), &[]), [port]);
}

/// Whoever wants packets gone early drops them where they come in; to accept them further on opens nothing.
#[test]
fn the_port_may_be_closed_before_input() {
    let closed = |chain: &str, rule: &str, uplink| {
        let (family, hook) = chain.split_once(' ').expect("family and hook");
        let device = if family == "netdev" { ", \"dev\": \"eth0\"" } else { "" };
        let json = format!(
            r#"{{"nftables": [
                {{"table": {{"family": "{family}", "name": "t", "handle": 1}}}},
                {{"chain": {{"family": "{family}", "table": "t", "name": "early", "handle": 1, "type": "filter",
                             "hook": "{hook}", "prio": -300, "policy": "accept"{device}}}}},
                {{"rule": {{"family": "{family}", "table": "t", "chain": "early", "handle": 2,
                            "expr": [{rule}, {{"drop": null}}]}}}}]}}"#
        );
        let ruleset = nft_json::parse(&json, "").expect("a ruleset");
        let prefixes = ["10.9.0.0/24".parse().expect("a prefix")];
        let by: Vec<(Way, String)> = closers(&ruleset, "wg0", 51820, uplink, &prefixes, &[]);
        let openings = openings(&ruleset, "wg0", 51820, uplink, &prefixes, &[]);
        assert_eq!(by.is_empty(), openings.is_empty(), "{chain}");
        assert!(by.iter().all(|(way, _)| *way == Way::ListenPort(51820)), "{by:?}");
        openings.into_iter().map(|opening| opening.command).collect::<Vec<_>>()
    };
    let port = |port: u16| {
        let left = r#"{"payload": {"protocol": "udp", "field": "dport"}}"#;
        format!(r#"{{"match": {{"op": "==", "left": {left}, "right": {port}}}}}"#)
    };
    let open = |family: &str| {
        vec![format!("nft 'insert rule {family} t early udp dport 51820 accept comment \"relay wg0\"'")]
    };
    assert_eq!(closed("ip prerouting", &port(51820), None), open("ip"));
    assert_eq!(closed("ip prerouting", &port(53), None), [""; 0]);
    assert_eq!(closed("netdev ingress", &port(51820), Some("eth0")), open("netdev"));
    assert_eq!(closed("netdev ingress", &port(51820), Some("eth1")), [""; 0]);
    assert_eq!(closed("netdev ingress", &port(51820), None), [""; 0]);
}

/// Docker's FORWARD policy closes a home's ways too, and nothing else of a home is dialled or goes from tunnel to tunnel.
#[test]
fn a_home_needs_the_ways_to_its_lans_and_back() {
    let tables = |chains: &str, rules: &str| {
        let text = format!("*filter\n:INPUT DROP [0:0]\n:FORWARD DROP [0:0]\n{chains}{rules}COMMIT\n");
        Ruleset { tables: parse(&text, Family::Ip, Source::Iptables), ..Ruleset::default() }
    };
    let prefixes = ["10.9.0.0/24".parse().expect("a prefix")];
    let exits = [Exit { version: Version::V4, uplink: "lan0".to_owned(), sources: prefixes.to_vec() }];
    let to_open = |ruleset: &Ruleset| -> Vec<String> {
        of_home(ruleset, "wg0", &prefixes, &exits).into_iter().map(|opening| opening.command).collect()
    };
    let start = "iptables-nft -w -t filter -I DOCKER-USER 1";
    let tag = "-m comment --comment 'relay wg0'";
    let expected = [
        format!("{start} -i wg0 -o lan0 {tag} -j ACCEPT"),
        format!("{start} -i lan0 -o wg0 -m conntrack --ctstate RELATED,ESTABLISHED {tag} -j ACCEPT"),
    ];
    let docker = ":DOCKER-USER - [0:0]\n";
    let jump = "-A FORWARD -j DOCKER-USER\n";
    assert_eq!(to_open(&tables(docker, jump)), expected);

    let out = "-A DOCKER-USER -i wg0 -o lan0 -m comment --comment \"relay wg0\" -j ACCEPT\n";
    let back = "-A DOCKER-USER -i lan0 -o wg0 -m conntrack --ctstate RELATED,ESTABLISHED -m comment --comment \
                \"relay wg0\" -j ACCEPT\n";
    let opened = tables(docker, &format!("{jump}{out}{back}"));
    assert_eq!(to_open(&opened), [""; 0]);
    assert_eq!(stale_at_home(&opened, "wg0", &exits), []);
    assert_eq!(stale_at_home(&opened, "wg0", &[]).len(), 2, "the LAN moved to another interface");
}
