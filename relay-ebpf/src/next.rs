//! What makes a program that does the same another one: for tests of upgrades, by a feature that nothing but
//! xtask/src/next.rs sets. Without it this is nothing.

/// Instructions that change nothing but the program's tag.
#[inline(always)]
pub(crate) fn differ() {
    if cfg!(feature = "next-program") {
        // SAFETY: the helper takes nothing and reads the clock; every program type may call it.
        let _ = unsafe { aya_ebpf::helpers::bpf_ktime_get_ns() };
    }
}
