//! Seeded faults in the eBPF program, each caught by the rows named for it: a test of the tests.
//!
//! `cargo xtask test mutants` builds one object for each feature `mutant-*` of relay-ebpf and runs this.

use std::collections::BTreeSet;

use anyhow::{Context as _, Result};
use relay_tests::program::{mutant, object, rows, run};

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
    ("mutant-mss-kept", &["a SYN's MSS is lowered to the tunnel's", "an MSS follows the device's MTU"]),
    ("mutant-mss-raised", &["a SYN's MSS that fits stays"]),
    (
        "mutant-mtu-ignored",
        &["longer than the MTU is the stack's", "longer than the smallest MTU is the stack's"],
    ),
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

/// The features as relay-ebpf declares them.
const MANIFEST: &str = include_str!("../../relay-ebpf/Cargo.toml");

#[test]
fn every_seeded_fault_has_its_rows() {
    let declared: BTreeSet<&str> = MANIFEST
        .lines()
        .filter_map(|line| line.split_once(" = ").map(|(name, _)| name))
        .filter(|name| name.starts_with("mutant-"))
        .collect();
    let listed: BTreeSet<&str> = MUTANTS.iter().map(|(name, _)| *name).collect();
    assert_eq!(declared, listed, "the faults of relay-ebpf and those that are listed here");
    assert_eq!(listed.len(), MUTANTS.len(), "a fault is listed twice");
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
