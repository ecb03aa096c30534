//! The calling thread's capabilities, lowered for good.

use std::io;

use anyhow::{Context as _, Result};
use nix::libc;

/// CAP_NET_ADMIN (linux/capability.h).
pub const NET_ADMIN: u32 = 12;
/// CAP_BPF.
pub const BPF: u32 = 39;

/// `struct __user_cap_header_struct`.
#[repr(C)]
struct Header {
    version: u32,
    pid: i32,
}

/// `struct __user_cap_data_struct`, one for each 32 capabilities.
#[repr(C)]
#[derive(Clone, Copy, Default)]
struct Data {
    effective: u32,
    permitted: u32,
    inheritable: u32,
}

/// Gives up every capability but these, for the calling thread.
///
/// # Errors
///
/// Where the thread does not have them.
pub fn keep_only(capabilities: &[u32]) -> Result<()> {
    /// _LINUX_CAPABILITY_VERSION_3.
    const VERSION: u32 = 0x2008_0522;
    const THIS_THREAD: i32 = 0;
    let mut data = [Data::default(); 2];
    for capability in capabilities {
        let word = &mut data[*capability as usize / 32];
        word.effective |= 1 << (capability % 32);
        word.permitted = word.effective;
    }
    let header = Header { version: VERSION, pid: THIS_THREAD };
    // SAFETY: the kernel reads one header and, for this version, two data structs; all outlive the call.
    let answer = unsafe { libc::syscall(libc::SYS_capset, &raw const header, data.as_ptr()) };
    if answer == 0 { Ok(()) } else { Err(io::Error::last_os_error()).context("lowering capabilities") }
}
