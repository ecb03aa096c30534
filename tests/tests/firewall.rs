//! The firewall for real: nft and both iptables, in network namespaces of the tests' own. Needs root.

use std::{collections::BTreeSet, future::Future, io::Write as _, process::Stdio};

use anyhow::{Context as _, Result, ensure};
use ipnet::IpNet;
use relay_tests::{
    namespace::{in_namespaces, output, run, sysctl},
    packet::empty_udp,
    tun::{Kind, Tun},
};
use relay_user::{
    desired::AllowFrom,
    firewall::{
        analysis::{HostFacts, TunnelForwarding, tunnel_forwarding},
        exit::Exit,
        opening::{Opening, openings, ours, stale},
        packet::Version,
        ruleset::Ruleset,
        table,
    },
    kernel::firewall,
};

/// Runs a test in a namespace with `eth0` and `wg0`, on a runtime that stays on the namespace's thread.
fn in_host<F: Future<Output = Result<()>>>(test: impl FnOnce() -> F + Send) {
    in_namespaces(|| {
        for name in ["eth0", "wg0"] {
            run(&format!("ip link add {name} type veth peer name {name}-far"))?;
            run(&format!("ip link set {name} up"))?;
        }
        tokio::runtime::Builder::new_current_thread().enable_all().build()?.block_on(test())
    });
}

/// Gives nft a script.
fn nft(script: &str) -> Result<()> {
    let mut child = std::process::Command::new("nft").args(["-f", "-"]).stdin(Stdio::piped()).spawn()?;
    child.stdin.take().context("its stdin")?.write_all(script.as_bytes())?;
    ensure!(child.wait()?.success(), "nft refused:\n{script}");
    Ok(())
}

fn prefixes() -> Vec<IpNet> {
    ["10.9.0.0/24", "192.168.40.0/24", "fd52:1a9::/64"]
        .iter()
        .map(|text| text.parse().expect("a prefix"))
        .collect()
}

fn closed(ruleset: &Ruleset) -> Vec<Opening> {
    openings(ruleset, "wg0", 51820, Some("eth0"), &prefixes(), &[])
}

fn verdict(ruleset: &Ruleset) -> TunnelForwarding {
    let facts = HostFacts { forwarding_v4: true, forwarding_v6: true, ..HostFacts::default() };
    tunnel_forwarding(ruleset, "wg0", &prefixes(), &facts)
}

/// Opens what is closed and checks that it is open; that nothing is left to do; that both go again, and nothing else.
async fn open_and_close(count: usize) -> Result<()> {
    let everything = || Ok::<_, anyhow::Error>([rules("nft -s list ruleset")?, legacy()?]);
    let before = everything()?;
    let found = closed(&firewall::read().await?);
    ensure!(found.len() == count, "{count} openings expected: {found:#?}");
    for opening in &found {
        firewall::open(opening).await?;
    }
    let opened = firewall::read().await?;
    ensure!(closed(&opened).is_empty(), "still closed: {:#?}", closed(&opened));
    ensure!(verdict(&opened) == TunnelForwarding::Free, "{:?}", verdict(&opened));
    ensure!(ours(&opened, "wg0").len() == count, "{:#?}", ours(&opened, "wg0"));
    ensure!(stale(&opened, "wg0", 51820, &[]).is_empty() && ours(&opened, "wg").is_empty());

    // The tag is of one interface only.
    firewall::close_all("wg").await?;
    ensure!(firewall::read().await? == opened);
    firewall::close_all("wg0").await?;
    ensure!(everything()? == before, "left behind:\n{:#?}\nbefore:\n{before:#?}", everything()?);
    firewall::close_all("wg0").await?;
    Ok(())
}

fn rules(command: &str) -> Result<String> {
    output(command)
}

/// Legacy iptables of both families, without the comments that tell the time and without counters.
fn legacy() -> Result<String> {
    let mut found = String::new();
    for command in ["iptables-legacy-save", "ip6tables-legacy-save"] {
        for line in output(command)?.lines().filter(|line| !line.starts_with('#')) {
            found += line.split(" [").next().unwrap_or_default();
            found.push('\n');
        }
    }
    Ok(found)
}

#[test]
fn nft_chains_are_opened_and_closed() {
    in_host(|| async {
        nft("table inet filter {\n\
             chain input {\ntype filter hook input priority 0; policy drop;\nct state established accept\n}\n\
             chain forward {\ntype filter hook forward priority 0; policy accept;\n\
             ct state established,related accept comment \"relay wg1\"\nreject\n}\n}\n")?;
        open_and_close(2).await
    });
}

#[test]
fn iptables_chains_are_opened_and_closed() {
    in_host(|| async {
        for program in ["iptables-nft", "ip6tables-nft"] {
            run(&format!("{program} -P FORWARD DROP"))?;
            run(&format!("{program} -A INPUT -p udp -m multiport --dports 1000:60000 -j REJECT"))?;
        }
        open_and_close(4).await
    });
}

#[test]
fn legacy_iptables_chains_are_opened_and_closed() {
    in_host(|| async {
        run("iptables-legacy -w -P FORWARD DROP")?;
        run("iptables-legacy -w -P INPUT DROP")?;
        run("ip6tables-legacy -w -A FORWARD -j DROP")?;
        open_and_close(3).await
    });
}

#[test]
fn docker_user_is_where_docker_wants_it() {
    in_host(|| async {
        for rule in
            ["-N DOCKER-USER", "-A DOCKER-USER -j RETURN", "-A FORWARD -j DOCKER-USER", "-P FORWARD DROP"]
        {
            run(&format!("iptables-nft {rule}"))?;
        }
        let found = closed(&firewall::read().await?);
        ensure!(found.len() == 1 && found[0].command.contains(" DOCKER-USER 1 "), "{found:#?}");
        open_and_close(1).await
    });
}

#[test]
fn an_opening_for_another_port_is_stale() {
    in_host(|| async {
        nft("table ip f {\nchain i {\ntype filter hook input priority 0; policy drop;\n}\n}\n")?;
        let found = openings(&firewall::read().await?, "wg0", 4500, Some("eth0"), &prefixes(), &[]);
        firewall::open(found.first().context("an opening")?).await?;
        let ruleset = firewall::read().await?;
        let stale = stale(&ruleset, "wg0", 51820, &[]);
        ensure!(stale.len() == 1 && closed(&ruleset).len() == 1, "{stale:#?}");
        firewall::close(&stale[0]).await?;
        ensure!(ours(&firewall::read().await?, "wg0").is_empty());
        Ok(())
    });
}

#[test]
fn a_policy_of_legacy_iptables_keeps_the_fast_path_off() {
    in_host(|| async {
        ensure!(verdict(&firewall::read().await?) == TunnelForwarding::Free);
        run("ip6tables-legacy -w -t mangle -P FORWARD DROP")?;
        ensure!(!rules("nft list ruleset")?.contains("drop"), "nft shows legacy iptables after all");
        let TunnelForwarding::Kept { by, .. } = verdict(&firewall::read().await?) else {
            anyhow::bail!("free in spite of the policy");
        };
        ensure!(by == "legacy iptables table ip6 mangle, chain FORWARD: policy drop", "{by}");
        Ok(())
    });
}

#[test]
fn reading_makes_no_table() {
    in_host(|| async {
        firewall::read().await?;
        for family in ["ip", "ip6"] {
            let names = std::fs::read_to_string(format!("/proc/thread-self/net/{family}_tables_names"))?;
            ensure!(names.is_empty(), "{family}: {names}");
        }
        ensure!(rules("nft list ruleset")?.is_empty());
        Ok(())
    });
}

/// What nft understands of an extension of iptables depends on its version; what iptables says does not.
#[test]
fn extensions_of_iptables_are_understood() {
    in_host(|| async {
        run("iptables-nft -P FORWARD DROP")?;
        run("iptables-nft -A FORWARD -m addrtype --dst-type LOCAL -j DROP")?;
        run("iptables-nft -A FORWARD -m mark --mark 0x4000/0x4000 -j DROP")?;
        run("iptables-nft -A FORWARD -i wg0 -o wg0 -m comment --comment tunnels -j ACCEPT")?;
        run("iptables-nft -A FORWARD -m statistic --mode random --probability 0.5 -j DROP")?;
        run(
            "iptables-nft -t mangle -A FORWARD -o wg0 -p tcp --tcp-flags SYN,RST SYN -j TCPMSS --clamp-mss-to-pmtu",
        )?;
        let ruleset = firewall::read().await?;
        ensure!(verdict(&ruleset) == TunnelForwarding::Free, "{:?}", verdict(&ruleset));
        run("iptables-nft -I FORWARD 3 -m statistic --mode random --probability 0.5 -j DROP")?;
        let TunnelForwarding::Kept { by, .. } = verdict(&firewall::read().await?) else {
            anyhow::bail!("free in spite of chance");
        };
        ensure!(by.starts_with("iptables table ip filter, chain FORWARD: -A FORWARD -m statistic "), "{by}");
        Ok(())
    });
}

#[test]
fn our_table_is_replaced_and_drift_is_seen() {
    in_host(|| async {
        let allow_from = BTreeSet::from([
            AllowFrom::Interface("eth0".parse()?),
            AllowFrom::Prefix("172.17.0.0/16".parse()?),
            AllowFrom::Prefix("fd00::/8".parse()?),
        ]);
        let exits =
            [(Version::V4, "10.9.0.3/32"), (Version::V6, "fd52:1a9::3/128")].map(|(version, source)| {
                let source = source.parse().expect("a prefix");
                Exit { version, uplink: "eth0".to_owned(), sources: vec![source] }
            });
        let desired = table::desired("wg0", &allow_from, &exits);
        let observed = async || anyhow::Ok(table::observed(&firewall::read().await?, "wg0"));
        ensure!(observed().await?.is_none());
        let drifts = [
            "flush chain inet relay guard-wg0\n",
            "insert rule inet relay guard-wg0 drop\n",
            "add chain inet relay guard-wg0 { policy drop; }\n",
            "delete chain inet relay mss-wg0\n",
            "flush chain inet relay exit-wg0\n",
            "delete chain inet relay exit-wg0\n",
            "delete table inet relay\n",
            "delete table inet relay\nadd table inet relay\nadd chain inet relay guard-wg0 { type filter hook input priority 5; }\n",
        ];
        for drift in drifts {
            firewall::replace_table(&desired).await?;
            ensure!(observed().await?.as_ref() == Some(&desired), "not there: {:#?}", observed().await?);
            nft(drift)?;
            ensure!(observed().await?.as_ref() != Some(&desired), "not seen: {drift}");
        }
        firewall::replace_table(&desired).await?;
        let once = rules("nft -s list ruleset")?;
        firewall::replace_table(&desired).await?;
        ensure!(rules("nft -s list ruleset")? == once);
        ensure!(verdict(&firewall::read().await?) == TunnelForwarding::Free);

        // Another policy takes the place of this one, and another interface's stays.
        let other = table::desired("wg+1=x.y_z-0", &BTreeSet::new(), &[]);
        firewall::replace_table(&other).await?;
        firewall::replace_table(&table::desired("wg0", &BTreeSet::new(), &[])).await?;
        ensure!(observed().await? == Some(table::desired("wg0", &BTreeSet::new(), &[])));
        ensure!(table::observed(&firewall::read().await?, "wg+1=x.y_z-0") == Some(other));
        firewall::delete_table("wg0").await?;
        ensure!(observed().await?.is_none());
        ensure!(rules("nft list tables")?.trim() == "table inet relay");
        firewall::delete_table("wg+1=x.y_z-0").await?;
        ensure!(rules("nft list tables")?.is_empty());
        firewall::delete_table("wg0").await?;
        Ok(())
    });
}

#[test]
fn a_refusal_says_what_was_tried_and_what_nft_said() {
    in_host(|| async {
        let broken = Opening {
            argv: vec!["nft".into(), "insert rule inet nowhere input accept".into()],
            ..table_opening().await?
        };
        let error = firewall::open(&broken).await.expect_err("there is no such table").to_string();
        ensure!(error.contains("nft 'insert rule inet nowhere input accept'"), "{error}");
        ensure!(error.contains("No such file or directory"), "{error}");
        let missing = Opening { argv: vec!["no-such-firewall".into()], ..broken };
        let error = firewall::open(&missing).await.expect_err("there is no such tool").to_string();
        ensure!(error.contains("not installed"), "{error}");
        Ok(())
    });
}

/// Some opening of an nft chain.
async fn table_opening() -> Result<Opening> {
    nft("table ip f {\nchain i {\ntype filter hook input priority 0; policy drop;\n}\n}\n")?;
    closed(&firewall::read().await?).pop().context("an opening")
}

#[test]
fn strangers_do_not_reach_the_tunnel_and_answers_do() {
    const HOME: [u8; 4] = [10, 9, 0, 2];
    const STRANGER: [u8; 4] = [203, 0, 113, 66];
    in_namespaces(|| {
        let mut eth0 = Tun::new("eth0", Kind::Tun, 1500)?;
        let mut wg0 = Tun::new("wg0", Kind::Tun, 1420)?;
        run("ip addr add 203.0.113.1/24 dev eth0")?;
        run("ip addr add 10.9.0.1/24 dev wg0")?;
        sysctl("ipv4/ip_forward", "1")?;
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        let prefix = |text: &str| anyhow::Ok(AllowFrom::Prefix(text.parse()?));
        let allowed = [
            (vec![], false),
            (vec![prefix("203.0.113.66/32")?], true),
            (vec![prefix("203.0.113.64/31")?], false),
            (vec![AllowFrom::Interface("eth0".parse()?)], true),
            (vec![AllowFrom::Interface("eth1".parse()?)], false),
        ];
        for (port, (allow_from, reaches)) in (1000..).zip(allowed) {
            let table = table::desired("wg0", &allow_from.iter().cloned().collect(), &[]);
            runtime.block_on(firewall::replace_table(&table))?;
            let stranger = |to| empty_udp((STRANGER, port), (HOME, to));
            // The home asks on one port; the stranger knocks on another before he answers.
            wg0.send(&empty_udp((HOME, 53), (STRANGER, port)))?;
            next_udp(&mut eth0).with_context(|| format!("{allow_from:?}: the home's own packet"))?;
            eth0.send(&stranger(22))?;
            eth0.send(&stranger(53))?;
            let first = next_udp(&mut wg0).with_context(|| format!("{allow_from:?}: the answer"))?;
            ensure!(first == if reaches { 22 } else { 53 }, "{allow_from:?}: port {first} came first");
            if reaches {
                ensure!(next_udp(&mut wg0)? == 53, "{allow_from:?}: the answer is lost");
            }
        }
        Ok(())
    });
}

/// The destination port of the next UDP packet that leaves by a device; waits for it.
fn next_udp(device: &mut Tun) -> Result<u16> {
    loop {
        let (_, packet) = device.receive()?;
        if packet.len() == 28 && packet[9] == 17 {
            return Ok(u16::from_be_bytes([packet[22], packet[23]]));
        }
    }
}
