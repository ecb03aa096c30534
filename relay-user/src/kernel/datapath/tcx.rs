//! Which TCX links and programs an interface has.
//!
//! aya's own query opens each program by its id, which asks for CAP_SYS_ADMIN; ids alone ask for CAP_NET_ADMIN.

use std::io;

use nix::libc;

/// A program on the hook.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Attached {
    /// The program's id.
    pub(super) program: u32,
    /// The link's id; 0 for a program attached without one.
    pub(super) link: u32,
}

/// `BPF_MPROG_MAX`, include/linux/bpf_mprog.h: no hook holds more.
const MAX_PROGRAMS: usize = 64;
/// `enum bpf_cmd`, include/uapi/linux/bpf.h.
const BPF_PROG_QUERY: libc::c_long = 16;
/// `enum bpf_attach_type`, include/uapi/linux/bpf.h.
const BPF_TCX_INGRESS: u32 = 46;

/// `union bpf_attr`, member `query`, include/uapi/linux/bpf.h since 6.6.
#[repr(C)]
#[derive(Default)]
struct Query {
    target_ifindex: u32,
    attach_type: u32,
    query_flags: u32,
    attach_flags: u32,
    prog_ids: u64,
    count: u32,
    reserved: u32,
    prog_attach_flags: u64,
    link_ids: u64,
    link_attach_flags: u64,
    revision: u64,
}

const _: () = assert!(size_of::<Query>() == 64);

/// The ingress hook's programs, in the order in which they run.
pub(super) fn ingress(ifindex: u32) -> io::Result<Vec<Attached>> {
    let mut programs = [0u32; MAX_PROGRAMS];
    let mut links = [0u32; MAX_PROGRAMS];
    let mut query = Query {
        target_ifindex: ifindex,
        attach_type: BPF_TCX_INGRESS,
        prog_ids: programs.as_mut_ptr() as u64,
        link_ids: links.as_mut_ptr() as u64,
        count: MAX_PROGRAMS as u32,
        ..Query::default()
    };
    // SAFETY: `query` has the layout and the size that the kernel reads and writes back, and both arrays, which outlive
    // the call, have the `count` elements that it says.
    let result = unsafe { libc::syscall(libc::SYS_bpf, BPF_PROG_QUERY, &raw mut query, size_of::<Query>()) };
    if result < 0 {
        return Err(io::Error::last_os_error());
    }
    let count = (query.count as usize).min(MAX_PROGRAMS);
    Ok((0..count).map(|at| Attached { program: programs[at], link: links[at] }).collect())
}
