//! The one door to the memory of frames. Offsets count from the Ethernet header, and are constants where the program reads
//! for itself (`packet` says why); the helper that copies takes any.

use aya_ebpf::{helpers::bpf_xdp_load_bytes, programs::XdpContext};

/// A frame as it came in.
pub(crate) struct Frame {
    context: XdpContext,
}

impl Frame {
    #[inline(always)]
    pub(crate) fn new(context: XdpContext) -> Self {
        Self { context }
    }

    /// `N` words from byte `offset` on; `None` where the frame, or its first buffer, ends before.
    #[inline(always)]
    pub(crate) fn words<const N: usize>(&self, offset: usize) -> Option<[u16; N]> {
        let start = self.context.data() + offset;
        let end = start + size_of::<[u16; N]>();
        if end > self.context.data_end() {
            return None;
        }
        // SAFETY: the end of these words was compared with the frame's. Frames begin at even addresses.
        Some(unsafe { *(start as *const [u16; N]) })
    }

    /// Copies as many bytes as fit `T` out, from byte `offset` on; whether they are there.
    #[inline(always)]
    pub(crate) fn copy<T: bytemuck::Pod>(&self, offset: u32, into: &mut T) -> bool {
        let (place, length) = ((&raw mut *into).cast(), size_of::<T>() as u32);
        // SAFETY: the context is the one given to the program, and `into` has `length` bytes, of any value.
        unsafe { bpf_xdp_load_bytes(self.context.ctx, offset, place, length) == 0 }
    }
}
