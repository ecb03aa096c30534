//! The same with a real wg0: kernel WireGuard at the phone, the hub and home. Packets go in at a spoke, through its
//! WireGuard; what the hub sends comes out at the other spoke, at the sender, or at the hub's uplink.

mod carried;
mod daemon;
mod judge;
mod wire;
mod world;

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Instant,
};

use anyhow::Result;
use relay_common::Verdict;
use relay_tests::guest;
use relay_user::kernel::wireguard::kernel_available;
use serde_json::json;

use self::{
    carried::{Refusal, carry},
    judge::{Manner, OTHERWISE, PLAIN, Seen, arrivals, check, compare, expected, judge, path},
};
use crate::{
    hub::{Firewall, Sent},
    moved, random,
    rows::{self, Path, Row},
};

/// Random packets: each goes through three WireGuards, twice.
const RANDOM: usize = 400;

/// Where the kernel has no WireGuard, that is said.
fn is_possible() -> bool {
    let possible = kernel_available();
    if let Err(why) = &possible {
        guest::skip(&format!("the differential test over a real wg0: no kernel WireGuard here ({why})"));
    }
    possible.is_ok()
}

fn judge_all(what: &str, rows: &[Row], manner: Manner) -> Vec<Seen> {
    let start = Instant::now();
    // A last case of nothing, behind which nothing may be left over.
    let cases: Vec<_> = rows.iter().map(|row| row.packets.clone()).chain([Vec::new()]).collect();
    let seen = compare(manner, &cases);
    let failures: Vec<_> = rows
        .iter()
        .zip(&seen)
        .filter_map(|(row, seen)| {
            judge(row, seen, manner.merging).err().map(|why| format!("{}: {why}", row.name))
        })
        .collect();
    let refused = refusals(rows.iter().flat_map(|row| row.packets.iter().map(|sent| (row.name, sent))));
    for (why, names) in &refused {
        println!("refused by WireGuard for {why:?}: {}", names.join(", "));
    }
    let refused: usize = refused.values().map(Vec::len).sum();
    let redirected = seen.iter().filter(|seen| seen.on.verdicts[Verdict::Redirected as usize] > 0).count();
    println!(
        "{what}: {} rows, {redirected} redirected, in {:.1} s",
        rows.len(),
        start.elapsed().as_secs_f64()
    );
    guest::fact(
        &json!({ "wg0 differential": what, "rows": rows.len(), "redirected": redirected, "refused": refused }),
    );
    assert!(failures.is_empty(), "{} of {} rows:\n{}", failures.len(), rows.len(), failures.join("\n"));
    let left_over = seen.last().map(|last| last.alone.out.len() + last.on.out.len());
    assert_eq!(left_over, Some(0), "something came after the last row");
    seen
}

/// Which packets WireGuard does not carry, by its reason.
fn refusals<'a>(packets: impl Iterator<Item = (&'a str, &'a Sent)>) -> BTreeMap<Refusal, Vec<&'a str>> {
    let mut refused: BTreeMap<Refusal, Vec<&str>> = BTreeMap::new();
    for (name, sent) in packets {
        if let Err(why) = carry(sent) {
            refused.entry(why).or_default().push(name);
        }
    }
    refused
}

#[test]
fn what_arrives_otherwise_has_a_row() {
    let rows = rows::all();
    for (name, _) in OTHERWISE {
        assert!(rows.iter().any(|row| row.name == name), "{name}");
    }
}

#[test]
fn rows_by_kernel_wireguard() {
    if is_possible() {
        judge_all("rows", &rows::all(), Manner { switched_off: true, ..PLAIN });
    }
}

#[test]
fn rows_by_kernel_wireguard_with_all_of_relays_table() {
    if is_possible() {
        let rows = trackable();
        judge_all("rows, all of relay's table", &rows, Manner { firewall: Firewall::Whole, ..PLAIN });
    }
}

/// The rows for a hub that tracks connections.
///
/// As on TUN: fragments without the others of their packet wait for the next row of the same numbers. And of segments
/// that come together and open a connection, the kernel's own path drops all but the first: it makes an entry for each
/// of them before it confirms one, and TCP's cannot be joined (`nf_ct_resolve_clash`). Measured on 6.1: of 160 such
/// segments, four at a time, 110 counted as `insert_failed`, and 50 came out. So no merged rows for the stack.
fn trackable() -> Vec<Row> {
    mergeable().into_iter().filter(|row| !row.fragments).collect()
}

/// The rows for a hub that merges. What the stack answers to merged packets it answers once for all their segments, and
/// how many were merged is left to chance; so of those only the ones that the program takes.
fn mergeable() -> Vec<Row> {
    let mut rows = rows::all();
    rows.retain(|row| !is_merged(row) || path(row) == Path::Fast);
    rows
}

fn is_merged(row: &Row) -> bool {
    row.packets.iter().any(|sent| sent.header.gso_type != 0)
}

#[test]
fn rows_by_kernel_wireguard_that_merges() {
    if !is_possible() {
        return;
    }
    let mut rows = mergeable();
    // How many segments come together depends on what else the machine does: more often, so that some surely do.
    let merged: Vec<_> = rows.iter().filter(|row| is_merged(row)).cloned().collect();
    rows.extend([&merged[..]; 4].concat());
    let seen = judge_all("rows, merged by the hub", &rows, Manner { merging: true, ..PLAIN });
    let (mut segments, mut whole, mut shorter) = (0, 0, 0);
    for (row, seen) in rows.iter().zip(&seen).filter(|(row, _)| is_merged(row)) {
        let arrivals = arrivals(&row.packets);
        segments += arrivals.len() as u64;
        whole += seen.alone.forwarded;
        shorter += arrivals.iter().map(|(_, bytes)| bytes).sum::<u64>() - seen.on.peers[0].received.bytes;
    }
    println!(
        "{segments} segments came to the kernel as {whole} packets, to the program {shorter} bytes shorter"
    );
    assert!(whole < segments, "the hub merged nothing for the kernel");
    assert!(shorter > 0, "the hub merged nothing for the program");
}

#[test]
fn random_packets_by_kernel_wireguard() {
    if !is_possible() {
        return;
    }
    let start = Instant::now();
    let seed = random::seed();
    println!("seed {seed} (RELAY_SEED sets it)");
    let cases: Vec<Vec<Sent>> =
        random::packets(seed, RANDOM).into_iter().map(|packet| vec![packet]).collect();
    let mut hit = BTreeSet::new();
    let mut redirected = 0;
    for (number, (case, seen)) in cases.iter().zip(&compare(PLAIN, &cases)).enumerate() {
        if let Err(why) = check(case, seen, false) {
            panic!("seed {seed}, packet {number}: {case:?}: {why}\nverdicts {:?}", moved(&seen.on));
        }
        hit.extend(moved(&seen.on).into_iter().map(|(verdict, _)| verdict));
        redirected += seen.on.verdicts[Verdict::Redirected as usize];
    }
    let refused = refusals(cases.iter().flatten().map(|sent| ("packet", sent)));
    let refused: usize = refused.values().map(Vec::len).sum();
    println!(
        "{RANDOM} packets, {redirected} redirected, {refused} refused by WireGuard, in {:.1} s, verdicts {hit:?}",
        start.elapsed().as_secs_f64()
    );
    guest::fact(
        &json!({ "wg0 differential": "random", "packets": RANDOM, "redirected": redirected, "refused": refused }),
    );
    assert!(redirected > 0 && refused < RANDOM / 2, "most random packets never reach the program");
}

/// All of it at once: relay.toml, the daemon, its routes and its table, and the program as the daemon attaches it.
#[test]
fn rows_by_kernel_wireguard_and_the_daemon() -> Result<()> {
    if !is_possible() {
        return Ok(());
    }
    let start = Instant::now();
    // A quarter of them, from everywhere: it is the pieces' fit that is asked about here, and time in a guest is long.
    let rows: Vec<_> = trackable().into_iter().step_by(4).collect();
    let cases: Vec<_> = rows.iter().map(|row| row.packets.clone()).collect();
    let [off, on] = daemon::observe(&cases)?;
    let failures: Vec<_> = rows
        .iter()
        .zip(off.outs.iter().zip(&on.outs))
        .filter(|(_, (off, on))| off != on)
        .map(|(row, (off, on))| format!("{}: auto\n    {on:?}\noff\n    {off:?}", row.name))
        .collect();
    let redirected = on.redirected;
    println!(
        "{} rows, {redirected} packets redirected, in {:.1} s",
        rows.len(),
        start.elapsed().as_secs_f64()
    );
    guest::fact(
        &json!({ "wg0 differential": "rows, the daemon's hub", "rows": rows.len(), "redirected": redirected }),
    );
    assert!(failures.is_empty(), "{} of {} rows:\n{}", failures.len(), rows.len(), failures.join("\n"));
    let expected: u64 = rows.iter().filter_map(|row| expected(row).remove(&Verdict::Redirected)).sum();
    assert!(expected > 0, "no row for the fast path");
    assert_eq!(
        (off.redirected, redirected),
        (0, expected),
        "packets redirected with fast_path off, and auto"
    );
    Ok(())
}
