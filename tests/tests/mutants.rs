//! Seeded faults in the eBPF program, each caught by the rows named for it: a test of the tests.
//!
//! `cargo xtask test mutants` builds one object for each feature `mutant-*` of relay-ebpf and runs this.

use std::{collections::BTreeSet, env, process::Command};

use anyhow::{Context as _, Result, ensure};
use relay_tests::program::{mutant, object, rows, run};

/// The tests that must catch the faults of `uplink`. Here they run once without any.
#[path = "program/uplink/mod.rs"]
mod uplink;

/// Each fault, and the rows that must fail because of it; others may fail as well.
const MUTANTS: &[(&str, &[&str])] = &[
    ("mutant-always-punt", &["a plain packet is forwarded"]),
    ("mutant-always-traced", &["nothing is told while nobody traces"]),
    ("mutant-broadcast-forwarded", &["the subnet's broadcast is the stack's"]),
    (
        "mutant-checksum-carry-lost",
        &["v4 TTL falls by one, its checksum with it", "v4 checksum is right for every carry"],
    ),
    ("mutant-checksum-unchecked", &["v4 wrong header checksum is the stack's"]),
    ("mutant-crowded-forgotten", &["an address is told from its neighbours in the table"]),
    ("mutant-every-verdict-traced", &["only the chosen verdicts are told"]),
    ("mutant-everybody-traced", &["only the chosen peer's packets are told"]),
    ("mutant-fragments-forwarded", &["v4 fragments are the stack's", "v6 fragments are the stack's"]),
    ("mutant-gso-counted-as-one", &["segments of merged packets are counted"]),
    ("mutant-gso-mtu-ignored", &["merged from segments over the MTU is the stack's"]),
    ("mutant-hop-by-hop-forwarded", &["v6 hop-by-hop options are the stack's"]),
    ("mutant-hop-limit-kept", &["v6 hop limit falls by one"]),
    (
        "mutant-length-unchecked",
        &["v4 wrong total length is the stack's", "v6 wrong payload length is the stack's"],
    ),
    ("mutant-lpm-before-exact", &["a single address comes before a prefix"]),
    ("mutant-martian-destination-forwarded", &["a martian destination is the stack's"]),
    ("mutant-martian-source-forwarded", &["a martian source is the stack's"]),
    ("mutant-middle-ignored", &["an address is told from its neighbours in the table"]),
    ("mutant-mss-kept", &["a SYN's MSS is lowered to the tunnel's", "an MSS follows the device's MTU"]),
    ("mutant-mss-raised", &["a SYN's MSS that fits stays"]),
    (
        "mutant-mtu-ignored",
        &["longer than the MTU is the stack's", "longer than the smallest MTU is the stack's"],
    ),
    ("mutant-network-ignored", &["an address is told from its neighbours in the table"]),
    ("mutant-options-forwarded", &["v4 options are the stack's"]),
    ("mutant-pass-ends-chain", &["a martian destination is the stack's", "what is not IP goes to the stack"]),
    ("mutant-place-is-enough", &["an address is told from its neighbours in the table"]),
    ("mutant-routing-header-forwarded", &["v6 other extension headers are the stack's"]),
    ("mutant-same-peer-forwarded", &["one peer's hairpin is the stack's"]),
    ("mutant-switch-ignored", &["off sends everything to the stack"]),
    (
        "mutant-tcp-checksum-kept",
        &["a SYN's MSS is lowered to the tunnel's", "an MSS follows the device's MTU"],
    ),
    ("mutant-traced-forever", &["a tracer that was killed is told nothing more"]),
    ("mutant-ttl-kept", &["v4 TTL falls by one, its checksum with it"]),
    (
        "mutant-ttl-one-forwarded",
        &["v4 TTL of one or zero is the stack's", "v6 hop limit of one or zero is the stack's"],
    ),
    ("mutant-unknown-source-forwarded", &["an unknown source is the stack's"]),
    ("mutant-wrong-peer-counted", &["each peer's counters are its own"]),
];

/// Each fault of `uplink`, and the tests that must fail because of it; others may fail as well.
const UPLINK: &[(&str, &[&str])] = &[
    (
        "mutant-uplink-address-of-others-judged",
        &["uplink::others::other_protocols_ports_and_addresses_are_not_ours"],
    ),
    ("mutant-uplink-allow-limited", &["uplink::limits::allowed_prefixes_have_no_limit"]),
    ("mutant-uplink-deny-ignored", &["uplink::reasons::denied_prefixes_get_nothing_through"]),
    ("mutant-uplink-dropped-forgotten", &["uplink::reasons::what_is_dropped_is_remembered_of_its_source"]),
    ("mutant-uplink-fragments-judged", &["uplink::others::fragments_are_the_stacks"]),
    ("mutant-uplink-junk-unlimited", &["uplink::limits::a_source_of_wrong_macs_is_not_looked_at_any_more"]),
    ("mutant-uplink-key-of-old-forgotten", &["uplink::mac1::a_key_follows_another"]),
    ("mutant-uplink-limit-never-reached", &["uplink::limits::a_source_has_a_limit_of_its_own"]),
    ("mutant-uplink-mac1-half-checked", &["uplink::mac1::every_bit_counts"]),
    (
        "mutant-uplink-mac1-unchecked",
        &[
            "uplink::mac1::those_for_another_key_do_not",
            "uplink::lengths::every_type_at_every_length_in_both_families",
        ],
    ),
    (
        "mutant-uplink-one-byte-of-type-read",
        &["uplink::lengths::every_type_at_every_length_in_both_families"],
    ),
    ("mutant-uplink-options-judged", &["uplink::others::what_is_odd_is_the_stacks"]),
    (
        "mutant-uplink-port-of-others-judged",
        &["uplink::others::other_protocols_ports_and_addresses_are_not_ours"],
    ),
    ("mutant-uplink-replay-accepted", &["uplink::reasons::an_initiation_comes_once"]),
    ("mutant-uplink-replay-of-what-was-dropped", &["uplink::reasons::only_what_passed_is_remembered"]),
    ("mutant-uplink-reserve-missing", &["uplink::limits::a_live_source_has_a_reserve"]),
    (
        "mutant-uplink-response-length-wrong",
        &["uplink::lengths::every_type_at_every_length_in_both_families"],
    ),
    (
        "mutant-uplink-returning-turned-away",
        &["uplink::limits::all_unknown_sources_have_one_limit_and_those_who_return_another"],
    ),
    ("mutant-uplink-smallest-data-wrong", &["uplink::lengths::every_type_at_every_length_in_both_families"]),
    ("mutant-uplink-udp-length-ignored", &["uplink::reasons::a_udp_length_other_than_ips_is_dropped"]),
    ("mutant-uplink-whole-address-is-source", &["uplink::limits::a_source_has_a_limit_of_its_own"]),
];

/// That the object with a fault is no fault of another kind.
const LOADS: &str = "uplink::two_capabilities_suffice_to_load";

/// The features as relay-ebpf declares them.
const MANIFEST: &str = include_str!("../../relay-ebpf/Cargo.toml");

#[test]
fn every_seeded_fault_has_its_rows() {
    let declared: BTreeSet<&str> = MANIFEST
        .lines()
        .filter_map(|line| line.split_once(" = ").map(|(name, _)| name))
        .filter(|name| name.starts_with("mutant-"))
        .collect();
    let listed: BTreeSet<&str> = MUTANTS.iter().chain(UPLINK).map(|(name, _)| *name).collect();
    assert_eq!(declared, listed, "the faults of relay-ebpf and those that are listed here");
    assert_eq!(listed.len(), MUTANTS.len() + UPLINK.len(), "a fault is listed twice");
    let known: BTreeSet<&str> = rows().iter().map(|row| row.name).collect();
    for (name, expected) in MUTANTS {
        assert!(!expected.is_empty(), "no row is named for {name}");
        for row in *expected {
            assert!(known.contains(row), "{name} names the row {row:?}, which does not exist");
        }
    }
}

/// Else every fault would be "caught".
#[test]
fn without_a_fault_every_row_holds() -> Result<()> {
    let failed = run(&object()?, &rows())?;
    assert!(failed.is_empty(), "{failed:#?}");
    Ok(())
}

#[test]
fn every_seeded_fault_is_caught_by_its_rows() -> Result<()> {
    let rows = rows();
    let mut survived = vec![];
    for (name, expected) in MUTANTS {
        let failed = run(&mutant(name)?, &rows).with_context(|| format!("running {name}"))?;
        let (caught, missed): (Vec<&str>, Vec<&str>) =
            expected.iter().copied().partition(|row| failed.contains_key(row));
        println!("{name}: caught by {caught:?} and {} more", failed.len() - caught.len());
        if !missed.is_empty() {
            let others: Vec<_> = failed.keys().collect();
            survived.push(format!("{name}: not caught by {missed:?}; what failed: {others:?}"));
        }
    }
    assert!(survived.is_empty(), "\n{}", survived.join("\n"));
    Ok(())
}

/// Whether the test of that name holds on the object with this fault; in a process of its own, which alone has it.
fn holds(test: &str, fault: &str) -> Result<bool> {
    let mut command = Command::new(env::current_exe()?);
    let output = command.args(["--exact", test]).env("RELAY_EBPF_OBJECT", mutant(fault)?).output()?;
    let said = String::from_utf8_lossy(&output.stdout);
    ensure!(said.contains("running 1 test\n"), "there is no test {test}: {said}");
    Ok(output.status.success())
}

#[test]
fn every_seeded_fault_of_uplink_is_caught_by_its_tests() -> Result<()> {
    let mut survived = vec![];
    for (name, tests) in UPLINK {
        assert!(!tests.is_empty(), "no test is named for {name}");
        ensure!(holds(LOADS, name)?, "{name} does not load");
        for test in *tests {
            if holds(test, name)? {
                survived.push(format!("{name} is not caught by {test}"));
            } else {
                println!("{name}: caught by {test}");
            }
        }
    }
    assert!(survived.is_empty(), "\n{}", survived.join("\n"));
    Ok(())
}
