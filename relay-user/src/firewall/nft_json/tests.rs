use super::*;

/// The only rule of a table `inet t` with these expressions.
fn rule(expressions: &str) -> Rule {
    let json = format!(
        r#"{{"nftables": [{{"table": {{"family": "inet", "name": "t"}}}},
            {{"chain": {{"family": "inet", "table": "t", "name": "c"}}}},
            {{"rule": {{"family": "inet", "table": "t", "chain": "c", "handle": 7, "expr": {expressions}}}}}]}}"#
    );
    let text = "table inet t { # handle 1\n\tchain c { # handle 2\n\t\tin \"# handle 3\" words # handle 7\n";
    let mut ruleset = parse(&json, text).expect("nft's JSON");
    ruleset.tables[0].chains.get_mut("c").expect("the chain").rules.remove(0)
}

fn asks(test: Test) -> Part {
    Part::Match(Match { negated: false, test })
}

#[test]
fn a_rule_is_quoted_as_nft_prints_it() {
    assert_eq!(rule("[]").text, "in \"# handle 3\" words");
}

#[test]
fn a_field_implies_its_protocol_even_when_negated() {
    let json = r#"[{"match": {"op": "!=", "left": {"payload": {"protocol": "udp", "field": "dport"}}, "right": 53}}]"#;
    let negated = Part::Match(Match { negated: true, test: Test::DestinationPort(vec![(53, 53)]) });
    assert_eq!(rule(json).variants, [[asks(Test::Protocol(vec![17])), negated]]);
}

#[test]
fn ranges_and_prefixes_become_prefixes() {
    let json = r#"[{"match": {"op": "==", "left": {"payload": {"protocol": "ip", "field": "saddr"}}, "right":
        {"set": [{"range": ["10.0.0.1", "10.0.0.4"]}, {"prefix": {"addr": "192.0.2.0", "len": 24}}, "198.51.100.1"]}}}]"#;
    let expected = ["10.0.0.1/32", "10.0.0.2/31", "10.0.0.4/32", "192.0.2.0/24", "198.51.100.1/32"];
    let prefixes = expected.map(|text| text.parse().expect("a prefix")).to_vec();
    assert_eq!(rule(json).variants, [[asks(Test::Version(vec![4])), asks(Test::Source(prefixes))]]);
}

#[test]
fn a_verdict_map_is_one_variant_for_each_element() {
    let json = r#"[{"vmap": {"key": {"meta": {"key": "iifname"}}, "data": {"set": [["lo", {"accept": null}],
        ["wg0", {"jump": {"target": "x"}}], ["*", {"drop": null}]]}}}]"#;
    let input = |names: &[&str]| Test::InputInterface(names.iter().map(|&name| name.to_owned()).collect());
    let others = Part::Match(Match { negated: true, test: input(&["lo", "wg0"]) });
    assert_eq!(
        rule(json).variants,
        [
            [asks(input(&["lo"])), Part::Do(Statement::Accept)],
            [asks(input(&["wg0"])), Part::Do(Statement::Jump("x".into()))],
            [others, Part::Do(Statement::Drop)],
        ]
    );
}

#[test]
fn what_is_unknown_counts_as_such() {
    for condition in [
        r#"{"match": {"op": "==", "left": {"meta": {"key": "pkttype"}}, "right": "broadcast"}}"#,
        r#"{"match": {"op": "<", "left": {"meta": {"key": "mark"}}, "right": 5}}"#,
        r#"{"match": {"op": "==", "left": {"meta": {"key": "iifname"}}, "right": "@set"}}"#,
        r#"{"match": {"op": "in", "left": {"ct": {"key": "status"}}, "right": "dnat"}}"#,
        r#"{"match": {"op": "==", "left": {"concat": [{"meta": {"key": "iifname"}}]}, "right": {"set": []}}}"#,
        r#"{"match": "of a later nft"}"#,
        r#"{"limit": {"rate": 5, "per": "second"}}"#,
        r#"{"xt": {"type": "match", "name": "rpfilter"}}"#,
    ] {
        assert_eq!(rule(&format!("[{condition}]")).variants, [[asks(Test::Unknown)]], "{condition}");
    }
    for statement in [
        r#"{"mangle": {"key": {"meta": {"key": "mark"}}, "value": 5}}"#,
        r#"{"mangle": {"key": {"tcp option": {"name": "maxseg", "field": "size"}}, "value": 1300}}"#,
        r#"{"vmap": {"key": {"meta": {"key": "iifname"}}, "data": "@map"}}"#,
        r#"{"flow": {"op": "add", "flowtable": "@f"}}"#,
        r#"{"xt": {"type": "target", "name": "MASQUERADE"}}"#,
        r#"{"of a later nft": null}"#,
        r#""of a later nft""#,
    ] {
        assert_eq!(rule(&format!("[{statement}]")).variants, [[Part::Do(Statement::Changes)]], "{statement}");
    }
}

#[test]
fn devices_are_taken_from_the_text_where_the_json_has_none() {
    let json = r#"{"nftables": [{"chain": {"family": "netdev", "table": "t", "name": "c", "hook": "ingress", "prio": 0}}]}"#;
    for (line, expected) in [
        ("type filter hook ingress device \"wg0\" priority filter; policy accept;", vec!["wg0"]),
        (
            "type filter hook ingress devices = { eth0, wg0 } priority filter; policy accept;",
            vec!["eth0", "wg0"],
        ),
        ("something else", vec![]),
    ] {
        let text = format!("table netdev t {{ # handle 1\n\tchain c {{ # handle 1\n\t\t{line}\n");
        let ruleset = parse(json, &text).expect("nft's JSON");
        let base = ruleset.tables[0].chains["c"].base.as_ref().expect("a base chain");
        assert_eq!(base.devices, expected, "{line}");
    }
}

#[test]
fn output_that_is_no_json_is_refused() {
    assert!(parse("", "").is_err());
    assert!(parse("{}", "").is_err());
}
