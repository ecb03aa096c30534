//! Opens WireGuard's handshake initiations as the hub does, to see who knocks and what time they think it is.
//!
//! Noise_IKpsk2's first message (whitepaper 5.4.2): the sender's static key is sealed for the hub's key alone, and a
//! TAI64N time beneath it. gotatun opens the key and keeps the time to itself, hence these lines. Nothing here answers a
//! message or changes what WireGuard remembers.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use blake2::{
    Blake2s256, Blake2sMac,
    digest::{Digest as _, FixedOutput as _, Mac, consts::U16},
};
use chacha20poly1305::{
    ChaCha20Poly1305, KeyInit as _, Nonce,
    aead::{Aead as _, Payload},
};
use hmac::SimpleHmac;
use zeroize::Zeroizing;

use crate::key::{KEY_LEN, PrivateKey, PublicKey};

/// Bytes of an initiation.
pub const LEN: usize = 148;

/// What stands in the first four bytes of one: its type and three reserved zeroes.
const HEAD: [u8; 4] = [1, 0, 0, 0];

const CONSTRUCTION: &[u8] = b"Noise_IKpsk2_25519_ChaChaPoly_BLAKE2s";
const IDENTIFIER: &[u8] = b"WireGuard v1 zx2c4 Jason@zx2c4.com";
const LABEL_MAC1: &[u8] = b"mac1----";

/// The places of its fields.
const EPHEMERAL: usize = 8;
const STATIC: usize = 40;
const TIMESTAMP: usize = 88;
pub(super) const MAC1: usize = 116;
pub(super) const MAC2: usize = 132;

/// TAI64's label of the Unix epoch: 2^62, and the 10 s between TAI and UTC in 1970. WireGuard only ever compares these
/// times with one another, so implementations differ in leap seconds: the kernel adds 10 s, others 37 s.
const TAI64_EPOCH: u64 = (1 << 62) + 10;

/// What an initiation says, once open.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Opened {
    /// Who sent it.
    pub from: PublicKey,
    /// What its clock said, to within half a minute, since implementations count leap seconds differently; WireGuard
    /// itself blurs it to some 16 ms.
    pub time: SystemTime,
}

/// Why one does not open.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Sealed {
    /// It is no initiation at all.
    NotOne,
    /// Its first checksum is made with the public key of another hub.
    OtherHub,
    /// It is for this hub and yet does not open: damaged, or made up.
    Damaged,
}

/// Opens `message` with the hub's key.
///
/// # Errors
/// [`Sealed`].
pub fn open(hub: &PrivateKey, message: &[u8]) -> Result<Opened, Sealed> {
    let message: &[u8; LEN] = message.try_into().map_err(|_| Sealed::NotOne)?;
    if message[..HEAD.len()] != HEAD {
        return Err(Sealed::NotOne);
    }
    let public = hub.public_key();
    let mac1_key = hash(&[LABEL_MAC1, public.as_bytes()]);
    let mac1 = mac(&mac1_key, &message[..MAC1]).ok_or(Sealed::NotOne)?;
    mac1.verify_slice(&message[MAC1..MAC2]).map_err(|_| Sealed::OtherHub)?;

    let ephemeral = field::<KEY_LEN>(message, EPHEMERAL);
    let chain = hash(&[CONSTRUCTION]);
    let said = hash(&[&chain, IDENTIFIER]);
    let said = hash(&[&said, public.as_bytes()]);
    let said = hash(&[&said, &ephemeral]);
    let chain = next_chain(&chain, &ephemeral);
    let (chain, key) = next_key(&*chain, &shared(hub, ephemeral));
    let sealed = &message[STATIC..TIMESTAMP];
    let from = field::<KEY_LEN>(&unseal(&key, sealed, &said)?, 0);
    let said = hash(&[&said, sealed]);
    let (_, key) = next_key(&*chain, &shared(hub, from));
    let time = unseal(&key, &message[TIMESTAMP..MAC1], &said)?;
    let seconds = u64::from_be_bytes(field(&time, 0)).saturating_sub(TAI64_EPOCH);
    let nanoseconds = u32::from_be_bytes(field(&time, 8)).min(999_999_999);
    let time = UNIX_EPOCH.checked_add(Duration::new(seconds, nanoseconds)).unwrap_or(UNIX_EPOCH);
    Ok(Opened { from: PublicKey::new(from), time })
}

/// So many bytes from there. Every caller's places are constants within what it has.
fn field<const N: usize>(bytes: &[u8], from: usize) -> [u8; N] {
    let mut field = [0; N];
    field.copy_from_slice(&bytes[from..from + N]);
    field
}

fn hash(parts: &[&[u8]]) -> [u8; 32] {
    let mut hash = Blake2s256::new();
    for part in parts {
        blake2::digest::Update::update(&mut hash, part);
    }
    hash.finalize().into()
}

fn shared(hub: &PrivateKey, other: [u8; KEY_LEN]) -> Zeroizing<[u8; 32]> {
    let secret = x25519_dalek::StaticSecret::from(*hub.expose());
    Zeroizing::new(secret.diffie_hellman(&x25519_dalek::PublicKey::from(other)).to_bytes())
}

/// Keyed BLAKE2s of 16 bytes; there is one for every key of at most 32 bytes.
fn mac(key: &[u8; 32], over: &[u8]) -> Option<Blake2sMac<U16>> {
    Some(<Blake2sMac<U16> as Mac>::new_from_slice(key).ok()?.chain_update(over))
}

/// HMAC over BLAKE2s (RFC 2104), of which HKDF is made.
fn hmac(key: &[u8], parts: &[&[u8]]) -> Zeroizing<[u8; 32]> {
    // A key of any length will do for an HMAC, so there is nothing that could fail.
    let Ok(mut hmac) = <SimpleHmac<Blake2s256> as Mac>::new_from_slice(key) else {
        return Zeroizing::new([0; 32]);
    };
    for part in parts {
        Mac::update(&mut hmac, part);
    }
    Zeroizing::new(hmac.finalize_fixed().into())
}

fn next_chain(chain: &[u8], input: &[u8]) -> Zeroizing<[u8; 32]> {
    hmac(&*hmac(chain, &[input]), &[&[1]])
}

fn next_key(chain: &[u8], input: &[u8; 32]) -> (Zeroizing<[u8; 32]>, Zeroizing<[u8; 32]>) {
    let extracted = hmac(chain, &[input]);
    let chain = hmac(&*extracted, &[&[1]]);
    let key = hmac(&*extracted, &[&*chain, &[2]]);
    (chain, key)
}

fn unseal(key: &[u8; 32], sealed: &[u8], said: &[u8; 32]) -> Result<Vec<u8>, Sealed> {
    let cipher = ChaCha20Poly1305::new(key.into());
    // The counter is zero for each key of a handshake.
    let payload = Payload { msg: sealed, aad: said };
    cipher.decrypt(&Nonce::default(), payload).map_err(|_| Sealed::Damaged)
}

#[cfg(test)]
pub(super) mod tests {
    use std::sync::Arc;

    use gotatun::noise::{Tunn, index_table::IndexTable, rate_limiter::RateLimiter};

    use super::*;

    pub(in super::super) fn private(byte: u8) -> PrivateKey {
        PrivateKey::new([byte; 32])
    }

    /// An initiation by another implementation, gotatun's, at the time that it is.
    pub(in super::super) fn initiation(from: &PrivateKey, to: PublicKey) -> Vec<u8> {
        let from = x25519_dalek::StaticSecret::from(*from.expose());
        let to = x25519_dalek::PublicKey::from(*to.as_bytes());
        let limiter = Arc::new(RateLimiter::new(&x25519_dalek::PublicKey::from(&from), 0));
        let mut tunnel = Tunn::new(from, to, None, None, IndexTable::from_os_rng(), limiter);
        tunnel.format_handshake_initiation(false).expect("an initiation").into_bytes().to_vec()
    }

    #[test]
    fn who_and_when() {
        let (hub, home) = (private(7), private(9));
        let opened = open(&hub, &initiation(&home, hub.public_key())).expect("opens");
        assert_eq!(opened.from, home.public_key());
        let now = SystemTime::now();
        let apart = now.duration_since(opened.time).unwrap_or_else(|ahead| ahead.duration());
        assert!(apart < Duration::from_secs(60), "{apart:?}");
    }

    #[test]
    fn what_does_not_open() {
        let (hub, home) = (private(7), private(9));
        let message = initiation(&home, hub.public_key());
        assert_eq!(open(&private(8), &message), Err(Sealed::OtherHub));
        assert_eq!(open(&hub, &message[..LEN - 1]), Err(Sealed::NotOne));
        assert_eq!(open(&hub, &[0; LEN]), Err(Sealed::NotOne));
        for damaged in [EPHEMERAL, STATIC, TIMESTAMP] {
            let mut message = message.clone();
            message[damaged] ^= 1;
            assert_eq!(open(&hub, &message), Err(Sealed::OtherHub), "mac1 covers byte {damaged}");
            let key = hash(&[LABEL_MAC1, hub.public_key().as_bytes()]);
            let mac1 = mac(&key, &message[..MAC1]).expect("a key").finalize().into_bytes();
            message[MAC1..MAC2].copy_from_slice(&mac1);
            assert_eq!(open(&hub, &message), Err(Sealed::Damaged), "byte {damaged}");
        }
    }
}
