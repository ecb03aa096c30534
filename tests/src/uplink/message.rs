//! WireGuard's messages: real ones by gotatun, and ones made up whose mac1 is right, by the crate blake2. Nothing here
//! shares code with what is under test.

use std::sync::Arc;

use anyhow::{Context as _, Result, anyhow, bail};
use blake2::{
    Blake2s256, Blake2sMac,
    digest::{Digest as _, FixedOutput as _, KeyInit, Update as _, consts::U16},
};
use gotatun::{
    noise::{Tunn, TunnResult, index_table::IndexTable, rate_limiter::RateLimiter},
    packet::WgKind,
};
use x25519_dalek::{PublicKey, StaticSecret};

/// Bytes of each type, of data the fewest.
pub const INITIATION: usize = 148;
/// See [`INITIATION`].
pub const RESPONSE: usize = 92;
/// See [`INITIATION`].
pub const COOKIE: usize = 64;
/// See [`INITIATION`].
pub const DATA: usize = 32;

/// The public key of a machine whose private one is this byte, 32 times.
#[must_use]
pub fn public_key(private: u8) -> [u8; 32] {
    PublicKey::from(&StaticSecret::from([private; 32])).to_bytes()
}

/// Pseudorandom bytes that differ from number to number.
#[must_use]
pub fn noise(number: u64, length: usize) -> Vec<u8> {
    let block = |at: u64| Blake2s256::new().chain_update(number.to_le_bytes()).chain_update(at.to_le_bytes());
    (0..).flat_map(|at| block(at).finalize().to_vec()).take(length).collect()
}

/// An initiation to the machine with this public key that nobody made: all noise but for its type and its mac1.
#[must_use]
pub fn made_up(to: &[u8; 32], number: u64) -> Vec<u8> {
    of_type(1, to, number, INITIATION)
}

/// A response of the same kind.
#[must_use]
pub fn made_up_response(to: &[u8; 32], number: u64) -> Vec<u8> {
    of_type(2, to, number, RESPONSE)
}

fn of_type(kind: u8, to: &[u8; 32], number: u64, length: usize) -> Vec<u8> {
    let mut message = noise(number, length);
    message[..4].copy_from_slice(&[kind, 0, 0, 0]);
    seal(&mut message, to);
    message
}

/// Writes the mac1 that a message to the machine with this public key has, where its mac1 stands: before its last 16
/// bytes.
pub fn seal(message: &mut [u8], to: &[u8; 32]) {
    let key = Blake2s256::new().chain_update(b"mac1----").chain_update(to).finalize();
    let mut mac = <Blake2sMac<U16> as KeyInit>::new_from_slice(&key).expect("32 bytes");
    let mac1 = message.len() - 32;
    mac.update(&message[..mac1]);
    message[mac1..mac1 + 16].copy_from_slice(&mac.finalize_fixed());
}

/// An initiation by gotatun from one machine to another, and the response to it; keys as for [`public_key`].
///
/// # Errors
/// gotatun makes none.
pub fn handshake(from: u8, to: u8) -> Result<(Vec<u8>, Vec<u8>)> {
    let tunnel = |own: u8, other: u8| {
        let own = StaticSecret::from([own; 32]);
        let limiter = Arc::new(RateLimiter::new(&PublicKey::from(&own), 0));
        let other = PublicKey::from(public_key(other));
        Tunn::new(own, other, None, None, IndexTable::from_os_rng(), limiter)
    };
    let initiation =
        tunnel(from, to).format_handshake_initiation(false).context("no initiation")?.into_bytes();
    let bytes = initiation.to_vec();
    let initiation = initiation.try_into_wg().map_err(|error| anyhow!("{error}"))?;
    let answer = tunnel(to, from).handle_incoming_packet(initiation);
    let TunnResult::WriteToNetwork(WgKind::HandshakeResp(response)) = answer else {
        bail!("no response but {answer:?}");
    };
    Ok((bytes, response.into_bytes().to_vec()))
}
