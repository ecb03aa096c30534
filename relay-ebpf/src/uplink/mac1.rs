//! The message that is looked at, and its mac1.

use core::ptr;

use bytemuck::{Pod, Zeroable};
use relay_common::{
    mac1::{Block, Chain, compress},
    uplink::UplinkSettings,
};

use super::frame::Frame;

/// Bytes of an initiation in front of its mac1, and its words there: 29, 13 of them in the second block.
const INITIATION: u32 = 116;
const INITIATION_WORDS: usize = INITIATION as usize / 4;
/// The same of a response: 15 words, all in one block.
const RESPONSE: u32 = 60;
const RESPONSE_WORDS: usize = RESPONSE as usize / 4;

/// What BLAKE2s has done once it has the key's block (RFC 7693 2.9).
const KEY: u32 = relay_common::mac1::BLOCK as u32;

/// A handshake message up to the end of its mac1, in memory that is free of the stack's narrowness.
#[derive(Clone, Copy, Pod, Zeroable)]
#[repr(C)]
pub(crate) struct Scratch {
    message: Message,
    mac: [u32; 4],
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
        unsafe { &*place.add(2).cast() }
    }

    /// Whether the state now is the mac1 that the message has.
    #[inline(always)]
    fn agrees(&self) -> bool {
        let mut difference = 0;
        for at in 0..4 {
            // SAFETY: a reference may be read.
            let ours = unsafe { ptr::read_volatile(&raw const self.chain[at]) };
            // SAFETY: as above.
            let theirs = unsafe { ptr::read_volatile(&raw const self.mac[at]) };
            difference |= ours.to_le() ^ theirs;
        }
        difference == 0
    }

    #[inline(always)]
    fn begin(&mut self, from: &Chain) {
        for at in 0..8 {
            // SAFETY: a reference may be read.
            let word = unsafe { ptr::read_volatile(&raw const from[at]) };
            // SAFETY: a reference may be written.
            unsafe { ptr::write_volatile(&raw mut self.chain[at], word) };
        }
    }
}

/// Whether an initiation's mac1 is right for one of the keys.
#[inline(always)]
pub(crate) fn of_initiation(scratch: &mut Scratch, settings: &UplinkSettings) -> bool {
    initiation_for::<0>(scratch, settings) || initiation_for::<1>(scratch, settings)
}

#[inline(always)]
fn initiation_for<const KEY_AT: usize>(scratch: &mut Scratch, settings: &UplinkSettings) -> bool {
    if settings.has_key[KEY_AT] == 0 {
        return false;
    }
    scratch.begin(settings.keys[KEY_AT].chain());
    let [first, second, _] = &scratch.message;
    step(&mut scratch.chain, first, KEY + 64, false);
    step(&mut scratch.chain, second, KEY + INITIATION, true);
    scratch.agrees()
}

/// Whether a response's mac1 is right for one of the keys.
#[inline(always)]
pub(crate) fn of_response(scratch: &mut Scratch, settings: &UplinkSettings) -> bool {
    response_for::<0>(scratch, settings) || response_for::<1>(scratch, settings)
}

#[inline(always)]
fn response_for<const KEY_AT: usize>(scratch: &mut Scratch, settings: &UplinkSettings) -> bool {
    if settings.has_key[KEY_AT] == 0 {
        return false;
    }
    scratch.begin(settings.keys[KEY_AT].chain());
    let [first, ..] = &scratch.message;
    step(&mut scratch.chain, first, KEY + RESPONSE, true);
    scratch.agrees()
}

/// One compression, in one place of the program.
#[inline(never)]
fn step(chain: &mut Chain, block: &Block, length: u32, last: bool) {
    compress(chain, block, length, last);
}
