//! The highest oracle for the fast path is the kernel: the same packets, once with the fast path on and once without,
//! must come out the same, and the same ICMP must come back. As root, on TUN devices in namespaces, and over kernel
//! WireGuard where there is one.

mod host;
mod hub;
mod peers;
mod random;
mod rows;
mod wireguard;

use std::{collections::BTreeSet, ops::Range, time::Instant};

use relay_common::{PeerCounters, Traffic, Verdict};
use relay_tests::packet::protocol::FRAGMENT;

use crate::{
    hub::{FastPath, Firewall, Observation, Out, Sent, Setup, observe},
    rows::{Path, Row},
};

/// Compares what the kernel alone does with what it does with the program switched off and on.
fn compare(firewall: Firewall, offload: bool, cases: &[Vec<Sent>]) -> [Vec<Observation>; 2] {
    let [alone, off, on] = [FastPath::Absent, FastPath::Off, FastPath::On]
        .map(|fast_path| observe(Setup { fast_path, firewall, offload }, cases));
    for (case, (alone, off)) in cases.iter().zip(alone.iter().zip(&off)) {
        let seen = case.len() as u64;
        assert!(outs(alone) == outs(off), "switched off, for {case:?}\n{:?}\n{:?}", outs(off), outs(alone));
        assert_eq!(alone.forwarded, off.forwarded, "switched off it forwarded {case:?}");
        assert_eq!(moved(off), [(Verdict::Off, seen)], "switched off, for {case:?}");
    }
    [alone, on]
}

/// What left the hub, without what may differ for good reason.
fn outs(observation: &Observation) -> Vec<Out> {
    observation.out.iter().cloned().map(normal).collect()
}

fn normal(mut out: Out) -> Out {
    // How many bytes the kernel keeps linear is its own affair.
    out.header.header_length = 0;
    // The hub numbers its own packets, from a start that each hub draws for itself.
    let bytes = &mut out.bytes;
    match bytes.first().map(|first| first >> 4) {
        Some(4) if bytes.len() >= 20 && OWN4.iter().any(|own| bytes[12..16] == *own) => {
            const ID: Range<usize> = 4..6;
            const CHECKSUM: Range<usize> = 10..12;
            bytes[ID].fill(0);
            bytes[CHECKSUM].fill(0);
        }
        // Those of others too, where it put the fragments together to track their connection (`ip6_fragment`).
        Some(6) if bytes.len() >= 48 && bytes[6] == FRAGMENT => bytes[44..48].fill(0),
        _ => {}
    }
    out
}

/// The hub's IPv4 addresses.
const OWN4: [[u8; 4]; 2] = [[10, 9, 0, 1], [198, 51, 100, 2]];

/// The verdicts whose counters moved, and by how much.
fn moved(observation: &Observation) -> Vec<(Verdict, u64)> {
    let counts = observation.verdicts.iter();
    Verdict::ALL.iter().copied().zip(counts.copied()).filter(|(_, count)| *count > 0).collect()
}

/// What must hold of a packet or a row of them, whichever way it took.
fn check_counters(on: &Observation, case: &[Sent]) -> Result<(), String> {
    let redirected = on.verdicts[Verdict::Redirected as usize];
    let seen: u64 = on.verdicts.iter().sum();
    if seen != case.len() as u64 {
        return Err(format!("{seen} packets were counted"));
    }
    if redirected != 0 && redirected != seen {
        return Err(format!("some of them were redirected and some not: {:?}", moved(on)));
    }
    // From phone to home, or back: what one sends the other gets, and nobody else.
    let carried = |from_phone| {
        let packets = case.iter().filter(|sent| redirected > 0 && sent.is_from_phone() == from_phone);
        packets.fold(Traffic::default(), |sum, sent| Traffic {
            packets: sum.packets + 1,
            bytes: sum.bytes + sent.bytes.len() as u64,
        })
    };
    let (up, down) = (carried(true), carried(false));
    let expected = [PeerCounters { received: up, sent: down }, PeerCounters { received: down, sent: up }];
    if on.peers == expected {
        Ok(())
    } else {
        Err(format!("peers' counters {:?}, not {expected:?}", on.peers))
    }
}

/// Says what is wrong with a row; each row is judged, so that one failure does not hide another.
fn judge(row: &Row, alone: &Observation, on: &Observation) -> Result<(), String> {
    if outs(on) != outs(alone) {
        return Err(format!("with the fast path\n    {:?}\nwithout\n    {:?}", outs(on), outs(alone)));
    }
    check_counters(on, &row.packets)?;
    let count = row.packets.len() as u64;
    let expected = match row.path {
        Path::Fast => Verdict::Redirected,
        Path::Stack(verdict) => verdict,
    };
    if moved(on) != [(expected, count)] {
        return Err(format!("verdicts {:?}, not {expected:?}", moved(on)));
    }
    match row.path {
        Path::Fast if on.forwarded != 0 => Err(format!("the kernel forwarded {} of them", on.forwarded)),
        Path::Fast if alone.forwarded != count => {
            Err(format!("without the fast path the kernel forwards {} of them", alone.forwarded))
        }
        Path::Fast if on.out.len() < row.packets.len() => Err("not all of them came out".into()),
        Path::Stack(_) if on.forwarded != alone.forwarded => {
            Err(format!("the kernel forwarded {}, without the fast path {}", on.forwarded, alone.forwarded))
        }
        _ => Ok(()),
    }
}

fn judge_all(rows: &[Row], firewall: Firewall, offload: bool) {
    let start = Instant::now();
    let cases: Vec<_> = rows.iter().map(|row| row.packets.clone()).collect();
    let [alone, on] = compare(firewall, offload, &cases);
    let failures: Vec<_> = rows
        .iter()
        .zip(alone.iter().zip(&on))
        .filter_map(|(row, (alone, on))| {
            judge(row, alone, on).err().map(|why| format!("{}: {why}", row.name))
        })
        .collect();
    println!("{} rows in {:.1} s", rows.len(), start.elapsed().as_secs_f64());
    assert!(failures.is_empty(), "{} of {} rows:\n{}", failures.len(), rows.len(), failures.join("\n"));
}

#[test]
fn rows_have_names_of_their_own() {
    let rows = rows::all();
    let names: BTreeSet<_> = rows.iter().map(|row| row.name).collect();
    assert_eq!(names.len(), rows.len());
}

#[test]
fn every_reason_has_a_row() {
    let rows = rows::all();
    let paths: BTreeSet<Verdict> = rows
        .iter()
        .map(|row| match row.path {
            Path::Fast => Verdict::Redirected,
            Path::Stack(verdict) => verdict,
        })
        .collect();
    for verdict in Verdict::ALL {
        let elsewhere = match verdict {
            // Every row is also sent with the program switched off.
            Verdict::Off => true,
            // A TUN device takes IP alone; and nothing makes a helper fail here. Both are rows of the program tests.
            Verdict::NotIp | Verdict::Internal => true,
            _ => false,
        };
        assert!(elsewhere || paths.contains(verdict), "{verdict:?}");
    }
}

#[test]
fn rows_as_wireguard_takes_them() {
    judge_all(&rows::all(), Firewall::Clamp, true);
}

#[test]
fn rows_cut_on_their_way_out() {
    judge_all(&rows::all(), Firewall::Clamp, false);
}

#[test]
fn rows_with_all_of_relays_table() {
    // A hub that tracks connections collects fragments before it forwards them: one without the others is kept for the
    // next row of the same numbers.
    let rows: Vec<_> = rows::all().into_iter().filter(|row| !row.fragments).collect();
    judge_all(&rows, Firewall::Whole, true);
}

#[test]
fn random_packets() {
    let start = Instant::now();
    let seed = random::seed();
    println!("seed {seed} (RELAY_SEED sets it)");
    let cases: Vec<Vec<Sent>> = random::packets(seed, 3000).into_iter().map(|packet| vec![packet]).collect();
    let [alone, on] = compare(Firewall::Clamp, true, &cases);
    let mut hit = BTreeSet::new();
    for (number, (case, (alone, on))) in cases.iter().zip(alone.iter().zip(&on)).enumerate() {
        let what = format!("seed {seed}, packet {number}: {case:?}");
        assert_eq!(outs(on), outs(alone), "{what}\nverdicts {:?}", moved(on));
        if let Err(why) = check_counters(on, case) {
            panic!("{what}: {why}");
        }
        let redirected = on.verdicts[Verdict::Redirected as usize];
        assert_eq!(on.forwarded + redirected, alone.forwarded, "{what}: forwarded");
        hit.extend(moved(on).into_iter().map(|(verdict, _)| verdict));
    }
    println!("{} packets in {:.1} s, verdicts {hit:?}", cases.len(), start.elapsed().as_secs_f64());
    let unreachable = [Verdict::Off, Verdict::NotIp, Verdict::Internal];
    let missed: Vec<_> = Verdict::ALL
        .iter()
        .filter(|verdict| !unreachable.contains(verdict) && !hit.contains(verdict))
        .collect();
    assert!(missed.is_empty(), "seed {seed}: no packet for {missed:?}");
}
