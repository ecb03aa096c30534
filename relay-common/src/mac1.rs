//! WireGuard's `mac1`: keyed BLAKE2s-128 (RFC 7693) over what stands before it in a handshake message, with a key that
//! whoever knows the receiver's public key can make (whitepaper 5.4.4).
//!
//! A key fills BLAKE2s' first block, so what that block makes of the state is made once ([`MacKey`]), and a message costs
//! one compression for each 64 bytes.
//!
//! The same code runs in the kernel, where it must not put numbers of four bytes on the stack side by side: kernel 6.1
//! takes the second one for an attempt to corrupt the first (relay-ebpf's `maps` says more). Hence the volatile reads and
//! writes: the state stands in places of eight bytes, and the compiler keeps no copies of its own elsewhere.

use core::ptr;

use bytemuck::{Pod, Zeroable};

/// Bytes of a mac1.
pub const LEN: usize = 16;

/// Bytes of a block of BLAKE2s.
pub const BLOCK: usize = 64;

/// What goes before the public key where the key is made (whitepaper 5.4).
const LABEL: &[u8; 8] = b"mac1----";

/// RFC 7693 2.6.
const IV: [u32; 8] =
    [0x6a09_e667, 0xbb67_ae85, 0x3c6e_f372, 0xa54f_f53a, 0x510e_527f, 0x9b05_688c, 0x1f83_d9ab, 0x5be0_cd19];

/// Whether a block is the last one: see [`compress`].
pub const LAST: u32 = u32::MAX;
/// See [`LAST`].
pub const MORE: u32 = 0;

/// The state of BLAKE2s between two blocks.
pub type Chain = [u32; 8];

/// 64 bytes of a message as they stand in memory.
pub type Block = [u32; BLOCK / 4];

/// What stands for a public key where mac1 is checked: the state after the block that holds the key.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Pod, Zeroable)]
#[repr(C)]
pub struct MacKey {
    chain: Chain,
}

const _: () = assert!(size_of::<MacKey>() == 32);

impl MacKey {
    /// No key: no message has a mac1 for it that anybody knows how to make.
    pub const NONE: Self = Self { chain: [0; 8] };

    /// The one of the machine with this public key.
    #[must_use]
    pub fn of(public_key: &[u8; 32]) -> Self {
        let mut labelled = [0; BLOCK];
        labelled[..LABEL.len()].copy_from_slice(LABEL);
        labelled[LABEL.len()..LABEL.len() + public_key.len()].copy_from_slice(public_key);
        let mut key = start(32, 0);
        compress(&mut key, &block(&labelled), (LABEL.len() + public_key.len()) as u32, LAST);

        let mut padded = [0; BLOCK];
        for (place, word) in padded.chunks_exact_mut(4).zip(key) {
            place.copy_from_slice(&word.to_le_bytes());
        }
        let mut chain = start(LEN as u32, 32);
        compress(&mut chain, &block(&padded), BLOCK as u32, MORE);
        Self { chain }
    }

    /// Where a message begins.
    #[must_use]
    #[inline(always)]
    pub const fn chain(&self) -> &Chain {
        &self.chain
    }

    /// The mac1 of a message, which has at least one byte. In the kernel the blocks come one by one ([`compress`]).
    #[must_use]
    pub fn mac(&self, message: &[u8]) -> [u8; LEN] {
        let mut chain = self.chain;
        let mut done = BLOCK as u32;
        let mut rest = message;
        loop {
            let (now, later) = rest.split_at(rest.len().min(BLOCK));
            let mut bytes = [0; BLOCK];
            bytes[..now.len()].copy_from_slice(now);
            done += now.len() as u32;
            compress(&mut chain, &block(&bytes), done, if later.is_empty() { LAST } else { MORE });
            if later.is_empty() {
                break;
            }
            rest = later;
        }
        let mut mac = [0; LEN];
        for (place, word) in mac.chunks_exact_mut(4).zip(chain) {
            place.copy_from_slice(&word.to_le_bytes());
        }
        mac
    }
}

/// The state before the first block: RFC 7693 2.5, 2.8, for a hash and a key of so many bytes.
const fn start(hash: u32, key: u32) -> Chain {
    let mut chain = IV;
    chain[0] ^= 0x0101_0000 ^ (key << 8) ^ hash;
    chain
}

fn block(bytes: &[u8; BLOCK]) -> Block {
    let mut block = [0; BLOCK / 4];
    for (word, bytes) in block.iter_mut().zip(bytes.chunks_exact(4)) {
        *word = u32::from_ne_bytes([bytes[0], bytes[1], bytes[2], bytes[3]]);
    }
    block
}

/// Sixteen words, each in a place of eight bytes. Only the lower half of a place counts: what is added and shifted there
/// leaves something in the upper one, and the instructions to remove it would be a third of all.
struct Work([u64; 16]);

impl Work {
    #[inline(always)]
    fn get(&self, at: usize) -> u64 {
        // SAFETY: a reference may be read.
        unsafe { ptr::read_volatile(&raw const self.0[at]) }
    }

    #[inline(always)]
    fn set(&mut self, at: usize, word: u64) {
        // SAFETY: a unique reference may be written.
        unsafe { ptr::write_volatile(&raw mut self.0[at], word) };
    }

    /// RFC 7693 3.1.
    #[inline(always)]
    fn mix(&mut self, [at_a, at_b, at_c, at_d]: [usize; 4], x: u32, y: u32) {
        let (a, b, c, d) = (self.get(at_a), self.get(at_b), self.get(at_c), self.get(at_d));
        let a = a.wrapping_add(b).wrapping_add(x.into());
        let d = rotate_right::<16>(d ^ a);
        let c = c.wrapping_add(d);
        let b = rotate_right::<12>(b ^ c);
        let a = a.wrapping_add(b).wrapping_add(y.into());
        let d = rotate_right::<8>(d ^ a);
        let c = c.wrapping_add(d);
        let b = rotate_right::<7>(b ^ c);
        self.set(at_a, a);
        self.set(at_b, b);
        self.set(at_c, c);
        self.set(at_d, d);
    }
}

/// The lower half rotated.
#[inline(always)]
const fn rotate_right<const BY: u32>(word: u64) -> u64 {
    (word >> BY & (u32::MAX >> BY) as u64) | word << (32 - BY)
}

/// A word of the message as a number.
#[inline(always)]
fn word(block: &Block, at: usize) -> u32 {
    // SAFETY: a reference may be read.
    u32::from_le(unsafe { ptr::read_volatile(&raw const block[at]) })
}

/// Takes one more block into the state (RFC 7693 3.2): `length` bytes of the input, the key's block among them, are done
/// with it. Behind the last one `finished` is all ones, else zero, as the RFC has its f0 in the code.
#[inline(always)]
pub fn compress(chain: &mut Chain, block: &Block, length: u32, finished: u32) {
    // Written out, since an index that is not known to the compiler is an offset that the kernel's verifier refuses.
    macro_rules! round {
        ($work:ident: $($m:literal)+) => {
            round!(@ $work $([$m])+)
        };
        (@ $work:ident [$a:literal] [$b:literal] [$c:literal] [$d:literal] [$e:literal] [$f:literal] [$g:literal]
            [$h:literal] [$i:literal] [$j:literal] [$k:literal] [$l:literal] [$m:literal] [$n:literal] [$o:literal]
            [$p:literal]) => {
            $work.mix([0, 4, 8, 12], word(block, $a), word(block, $b));
            $work.mix([1, 5, 9, 13], word(block, $c), word(block, $d));
            $work.mix([2, 6, 10, 14], word(block, $e), word(block, $f));
            $work.mix([3, 7, 11, 15], word(block, $g), word(block, $h));
            $work.mix([0, 5, 10, 15], word(block, $i), word(block, $j));
            $work.mix([1, 6, 11, 12], word(block, $k), word(block, $l));
            $work.mix([2, 7, 8, 13], word(block, $m), word(block, $n));
            $work.mix([3, 4, 9, 14], word(block, $o), word(block, $p));
        };
    }

    let mut work = Work([0; 16]);
    for (at, (&word, initial)) in chain.iter().zip(IV).enumerate() {
        work.set(at, word.into());
        work.set(8 + at, initial.into());
    }
    work.set(12, (IV[4] ^ length).into());
    work.set(14, (IV[6] ^ finished).into());
    // RFC 7693 2.7.
    round!(work: 0 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15);
    round!(work: 14 10 4 8 9 15 13 6 1 12 0 2 11 7 5 3);
    round!(work: 11 8 12 0 5 2 15 13 10 14 3 6 7 1 9 4);
    round!(work: 7 9 3 1 13 12 11 14 2 6 5 10 4 0 15 8);
    round!(work: 9 0 5 7 2 4 10 15 14 1 11 12 6 8 3 13);
    round!(work: 2 12 6 10 0 11 8 3 4 13 7 5 15 14 1 9);
    round!(work: 12 5 1 15 14 13 4 10 0 7 6 3 9 2 8 11);
    round!(work: 13 11 7 14 12 1 3 9 5 0 15 4 8 6 2 10);
    round!(work: 6 15 14 9 11 3 0 8 12 2 13 7 1 4 10 5);
    round!(work: 10 2 8 4 7 6 1 5 15 11 9 14 3 12 13 0);
    for (at, word) in chain.iter_mut().enumerate() {
        // SAFETY: references may be read and written; volatile, so that the compiler does not keep what it read above.
        let before = unsafe { ptr::read_volatile(&raw const *word) };
        let after = before ^ (work.get(at) ^ work.get(8 + at)) as u32;
        // SAFETY: as above.
        unsafe { ptr::write_volatile(&raw mut *word, after) };
    }
}

#[cfg(test)]
mod tests {
    use blake2::{
        Blake2s256, Blake2sMac,
        digest::{Digest as _, FixedOutput as _, Update as _, consts::U16},
    };

    use super::*;

    /// As another implementation makes it.
    fn theirs(public_key: &[u8; 32], message: &[u8]) -> [u8; LEN] {
        let key = Blake2s256::new().chain_update(LABEL).chain_update(public_key).finalize();
        let mut mac = <Blake2sMac<U16> as blake2::digest::KeyInit>::new_from_slice(&key).expect("32 bytes");
        mac.update(message);
        mac.finalize_fixed().into()
    }

    #[test]
    fn every_length_has_the_mac_that_another_implementation_makes() {
        for length in 1..=200_u8 {
            let key: [u8; 32] = std::array::from_fn(|at| length.wrapping_mul(31).wrapping_add(at as u8 * 7));
            let message: Vec<u8> = (0..length).map(|at| at.wrapping_mul(13) ^ length).collect();
            assert_eq!(MacKey::of(&key).mac(&message), theirs(&key, &message), "{length} bytes");
        }
    }

    #[test]
    fn keys_differ() {
        assert_ne!(MacKey::of(&[1; 32]), MacKey::of(&[2; 32]));
        assert_ne!(MacKey::of(&[1; 32]), MacKey::NONE);
    }
}
