//! What the C library keeps of memory that is free.

/// One pool for all threads; before there is a second one.
///
/// What a thread frees may be another one's, and what then grows from it grows in that one's pool, whose end is not given
/// back: so the kernel's BTF stayed, nine megabytes that aya reads at each load, in half of all starts.
pub fn one_pool() {
    // SAFETY: it takes two numbers, and nobody else is in the C library's memory yet (mallopt(3)).
    #[cfg(target_env = "gnu")]
    unsafe {
        nix::libc::mallopt(nix::libc::M_ARENA_MAX, 1);
    }
}

/// Gives back what reading the file and the first look took, and what nothing will take again so soon: with ten thousand
/// peers the C library would keep tens of megabytes.
pub fn give_back() {
    // SAFETY: it takes a number, and touches only memory that is free (malloc_trim(3)).
    #[cfg(target_env = "gnu")]
    unsafe {
        nix::libc::malloc_trim(0);
    }
}
