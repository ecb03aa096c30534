//! The same frame again and again, sent from inside the kernel as a network card would hand it over: BPF_PROG_TEST_RUN with
//! frames that live, through a program that redirects them out of an interface.

use std::io;

use anyhow::{Context as _, Result, ensure};
use nix::libc;

/// Commands, the program's type and the flag of linux/bpf.h.
const BPF_PROG_LOAD: libc::c_long = 5;
const BPF_PROG_TEST_RUN: libc::c_long = 10;
const BPF_PROG_TYPE_XDP: u32 = 6;
const BPF_F_TEST_XDP_LIVE_FRAMES: u32 = 2;
/// The number of `bpf_redirect`.
const REDIRECT: i32 = 23;

/// `union bpf_attr` as far as the two commands use it.
type Attributes = [u64; 16];

/// A program that sends what it gets out of an interface.
pub(crate) struct Sender(libc::c_int);

impl Drop for Sender {
    fn drop(&mut self) {
        // SAFETY: the descriptor is ours alone.
        let _ = unsafe { libc::close(self.0) };
    }
}

impl Sender {
    /// Out of an interface of the calling thread's namespace, where it must be used too.
    pub(crate) fn new(interface: &str) -> Result<Self> {
        let index = nix::net::if_::if_nametoindex(interface)?;
        let instruction = |code: u8, register: u8, value: i32| {
            let [a, b, c, d] = value.to_le_bytes();
            u64::from_le_bytes([code, register, 0, 0, a, b, c, d])
        };
        let program = [
            instruction(0xb7, 1, index.cast_signed()),
            instruction(0xb7, 2, 0),
            instruction(0x85, 0, REDIRECT),
            instruction(0x95, 0, 0),
        ];
        let mut attributes: Attributes = [0; 16];
        attributes[0] = u64::from(BPF_PROG_TYPE_XDP) | (program.len() as u64) << 32;
        attributes[1] = program.as_ptr() as u64;
        attributes[2] = c"GPL".as_ptr() as u64;
        let descriptor = bpf(BPF_PROG_LOAD, &mut attributes).context("loading a program that redirects")?;
        Ok(Self(descriptor))
    }

    /// Sends the frame so often.
    pub(crate) fn send(&self, frame: &[u8], times: u32) -> Result<()> {
        let mut attributes: Attributes = [0; 16];
        attributes[0] = u64::from(self.0.cast_unsigned());
        attributes[1] = frame.len() as u64;
        attributes[2] = frame.as_ptr() as u64;
        attributes[4] = u64::from(times);
        attributes[8] = u64::from(BPF_F_TEST_XDP_LIVE_FRAMES);
        let answer = bpf(BPF_PROG_TEST_RUN, &mut attributes).context("sending live frames")?;
        ensure!(answer == 0);
        Ok(())
    }
}

fn bpf(command: libc::c_long, attributes: &mut Attributes) -> io::Result<libc::c_int> {
    let size = size_of::<Attributes>();
    // SAFETY: the kernel reads and writes no more than `size` bytes of the attributes, and what they point to outlives the
    // call.
    let answer = unsafe { libc::syscall(libc::SYS_bpf, command, attributes.as_mut_ptr(), size) };
    if answer < 0 { Err(io::Error::last_os_error()) } else { Ok(answer as libc::c_int) }
}
