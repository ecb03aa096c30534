//! Every type of message at every length.

use anyhow::{Context as _, Result, ensure};
use relay_common::{UplinkVerdict, uplink::Limit};
use relay_tests::{
    guest,
    uplink::{
        datagram,
        message::{COOKIE, DATA, INITIATION, RESPONSE},
    },
};

use super::{guard, there};

/// The longest payload: an IPv4 packet of 1,500 bytes and some more.
const LONGEST: usize = 1500;

/// The first four bytes of a message.
const HEADS: [[u8; 4]; 7] =
    [[1, 0, 0, 0], [2, 0, 0, 0], [3, 0, 0, 0], [4, 0, 0, 0], [5, 0, 0, 0], [1, 1, 0, 0], [4, 0, 0, 128]];

/// What must come of such a message, all zeroes behind its head: no mac1 is all zeroes.
fn expected(head: [u8; 4], length: usize) -> UplinkVerdict {
    match (head, length) {
        (_, 0..4) => UplinkVerdict::WrongLength,
        ([1, 0, 0, 0], INITIATION) | ([2, 0, 0, 0], RESPONSE) => UplinkVerdict::BadMac1,
        ([3, 0, 0, 0], COOKIE) => UplinkVerdict::Cookie,
        ([4, 0, 0, 0], DATA..) => UplinkVerdict::Data,
        ([1..=4, 0, 0, 0], _) => UplinkVerdict::WrongLength,
        _ => UplinkVerdict::UnknownType,
    }
}

#[test]
fn every_type_at_every_length_in_both_families() -> Result<()> {
    if guest::line().is_some() {
        guest::skip("the host tries every length, and a comparison of lengths is the same to every kernel");
        return Ok(());
    }
    let mut guard = guard()?;
    guard.settings.junk = Limit::new(1_000_000, 1_000_000);
    guard.apply()?;
    for from in there() {
        for head in HEADS {
            for length in 0..=LONGEST {
                let mut payload = vec![0; length];
                payload.iter_mut().zip(head).for_each(|(place, byte)| *place = byte);
                let (expected, found) = (expected(head, length), guard.judge(&datagram(from, &payload)));
                let found = found.with_context(|| format!("{head:?}, {length} bytes from {from}"))?;
                ensure!(
                    found == expected,
                    "{head:?}, {length} bytes from {from}: {found:?}, not {expected:?}"
                );
            }
        }
    }
    Ok(())
}
