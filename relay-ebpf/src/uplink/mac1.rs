//! The message that is looked at, and its mac1.

use core::ptr;

use bytemuck::{Pod, Zeroable};
use relay_common::{
    mac1::{Block, Chain, LAST, MORE, compress},
    uplink::UplinkSettings,
};

use super::{frame::Frame, handshake::INITIATION, maps};
use crate::mutant;

/// Bytes of an initiation in front of its mac1, and its words there: 29, 13 of them in the second block.
const INITIATION_LEN: u32 = 116;
const INITIATION_WORDS: usize = INITIATION_LEN as usize / 4;
/// The same of a response: 15 words, all in one block.
const RESPONSE_LEN: u32 = 60;
const RESPONSE_WORDS: usize = RESPONSE_LEN as usize / 4;

/// What BLAKE2s has done once it has the key's block (RFC 7693 2.9).
const KEY: u32 = relay_common::mac1::BLOCK as u32;

/// A handshake message up to the end of its mac1, in memory that is free of the stack's narrowness.
#[derive(Clone, Copy, Pod, Zeroable)]
#[repr(C)]
pub(crate) struct Scratch {
    message: Message,
    mac: [u32; 4],
    block: Block,
    chain: Chain,
}

/// Three blocks: the third one has place for the mac1 of an initiation.
type Message = [Block; 3];

/// What is copied of an initiation, and of a response.
type Initiation = [u32; INITIATION_WORDS + 4];
type Response = [u32; RESPONSE_WORDS + 4];

impl Scratch {
    /// Whether the frame has a whole initiation there.
    #[inline(always)]
    pub(crate) fn load_initiation(&mut self, frame: &Frame, at: u32) -> bool {
        let place = (&raw mut self.message).cast::<Initiation>();
        // SAFETY: a part of `message`, which any bytes will do for.
        if !frame.copy(at, unsafe { &mut *place }) {
            return false;
        }
        self.split::<INITIATION_WORDS>();
        true
    }

    /// Whether the frame has a whole response there.
    #[inline(always)]
    pub(crate) fn load_response(&mut self, frame: &Frame, at: u32) -> bool {
        let place = (&raw mut self.message).cast::<Response>();
        // SAFETY: as above.
        if !frame.copy(at, unsafe { &mut *place }) {
            return false;
        }
        self.split::<RESPONSE_WORDS>();
        true
    }

    /// Takes the mac1 behind `WORDS` words away and leaves zeroes there, which BLAKE2s fills a block up with.
    #[inline(always)]
    fn split<const WORDS: usize>(&mut self) {
        // SAFETY: the message's own words, one after the other.
        let words = unsafe { &mut *(&raw mut self.message).cast::<[u32; 48]>() };
        for at in 0..4 {
            // SAFETY: references may be read and written; volatile for the reason that `relay_common::mac1` gives.
            let word = unsafe { ptr::read_volatile(&raw const words[WORDS + at]) };
            // SAFETY: as above.
            unsafe { ptr::write_volatile(&raw mut self.mac[at], word) };
            // SAFETY: as above.
            unsafe { ptr::write_volatile(&raw mut words[WORDS + at], 0) };
        }
    }

    /// The ephemeral key of an initiation, which no other one has.
    #[inline(always)]
    pub(crate) fn ephemeral(&self) -> &[u32; 8] {
        let place = (&raw const self.message).cast::<u32>();
        // SAFETY: eight words of the message from its third on.
        unsafe { &*place.wrapping_add(2).cast() }
    }

    /// Whether the state now is the mac1 that the message has.
    #[inline(always)]
    fn agrees(&self) -> bool {
        let mut difference = 0;
        for at in 0..if mutant::UPLINK_MAC1_HALF_CHECKED { 2 } else { 4 } {
            // SAFETY: a reference may be read.
            let ours = unsafe { ptr::read_volatile(&raw const self.chain[at]) };
            // SAFETY: as above.
            let theirs = unsafe { ptr::read_volatile(&raw const self.mac[at]) };
            difference |= ours.to_le() ^ theirs;
        }
        difference == 0 || mutant::UPLINK_MAC1_UNCHECKED
    }

    /// Puts a block of the message where the next one to be taken into the state stands.
    #[inline(always)]
    fn put<const AT: usize>(&mut self) {
        for at in 0..self.block.len() {
            // SAFETY: a reference may be read.
            let word = unsafe { ptr::read_volatile(&raw const self.message[AT][at]) };
            // SAFETY: a reference may be written.
            unsafe { ptr::write_volatile(&raw mut self.block[at], word) };
        }
    }

    #[inline(always)]
    fn begin(&mut self, from: &Chain) {
        for (place, word) in self.chain.iter_mut().zip(from) {
            // SAFETY: a reference may be read.
            let word = unsafe { ptr::read_volatile(&raw const *word) };
            // SAFETY: a reference may be written.
            unsafe { ptr::write_volatile(&raw mut *place, word) };
        }
    }
}

/// Whether the mac1 of the message in the scratch, of this type, is right for one of the keys; 1 for yes.
#[unsafe(no_mangle)]
#[inline(never)]
pub(crate) extern "C" fn uplink_mac1(kind: u64) -> u64 {
    let Some(settings) = maps::settings() else { return 0 };
    let holds = holds_for::<0>(settings, kind)
        || (!mutant::UPLINK_KEY_OF_OLD_FORGOTTEN && holds_for::<1>(settings, kind));
    holds.into()
}

#[inline(always)]
fn holds_for<const KEY_AT: usize>(settings: &UplinkSettings, kind: u64) -> bool {
    if settings.has_key[KEY_AT] == 0 {
        return false;
    }
    let Some(scratch) = maps::scratch() else { return false };
    scratch.begin(settings.keys[KEY_AT].chain());
    if kind == INITIATION {
        scratch.put::<0>();
        uplink_block((KEY + 64).into(), MORE.into());
        scratch.put::<1>();
        uplink_block((KEY + INITIATION_LEN).into(), LAST.into());
    } else {
        scratch.put::<0>();
        uplink_block((KEY + RESPONSE_LEN).into(), LAST.into());
    }
    scratch.agrees()
}

/// Takes the block that was put there into the state: see [`compress`].
#[unsafe(no_mangle)]
#[inline(never)]
extern "C" fn uplink_block(length: u64, finished: u64) -> u64 {
    let Some(scratch) = maps::scratch() else { return 0 };
    compress(&mut scratch.chain, &scratch.block, length as u32, finished as u32);
    1
}
