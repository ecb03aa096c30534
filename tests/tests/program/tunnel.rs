//! `tunnel` packet by packet. The rows are data in `relay_tests::program`; here stands what must hold for them.

use std::collections::BTreeSet;

use anyhow::Result;
use relay_common::Verdict;
use relay_tests::program::{load_with_two_capabilities, object, rows, run};

#[test]
fn every_row_holds() -> Result<()> {
    let rows = rows();
    let failed = run(&object()?, &rows)?;
    for row in &rows {
        let word = if failed.contains_key(row.name) { "FAILED" } else { "ok" };
        println!("{word:6} {:4} cases  {}", row.cases.len(), row.name);
    }
    let report: Vec<String> = failed.iter().map(|(name, what)| format!("{name}: {what}")).collect();
    assert!(report.is_empty(), "\n{}", report.join("\n"));
    Ok(())
}

#[test]
fn every_verdict_is_reached_in_both_families() {
    let rows = rows();
    let reached: BTreeSet<(Verdict, u16)> =
        rows.iter().flat_map(|row| &row.cases).map(|case| (case.verdict, case.given.ethertype)).collect();
    let missing: Vec<_> = Verdict::ALL
        .iter()
        .flat_map(|&verdict| [(verdict, 0x0800), (verdict, 0x86dd)])
        .filter(|(verdict, ethertype)| match verdict {
            // Of neither family.
            Verdict::NotIp => false,
            // IPv6 has no header checksum.
            Verdict::Checksum => *ethertype == 0x0800,
            _ => true,
        })
        .filter(|pair| !reached.contains(pair))
        .collect();
    assert!(missing.is_empty(), "no row reaches {missing:x?}");
    assert!(rows.iter().flat_map(|row| &row.cases).any(|case| case.verdict == Verdict::NotIp));
}

#[test]
fn rows_have_names_of_their_own_and_cases() {
    let rows = rows();
    let names: BTreeSet<_> = rows.iter().map(|row| row.name).collect();
    assert_eq!(names.len(), rows.len());
    for row in &rows {
        assert!(!row.cases.is_empty(), "{} has no cases", row.name);
    }
}

#[test]
fn two_capabilities_suffice_to_load_and_attach() -> Result<()> {
    load_with_two_capabilities(&object()?)
}
