//! Interfaces that somebody else keeps: relay's fast path on them, what it follows, and that it leaves no trace.
//!
//! The hub has two, as people have them: one of wg-quick's in its own namespace, from a file grown over years, and one by
//! wg-easy's own wg0.conf in a container's. Where the kernel has WireGuard both are called `wg0`.

#[path = "../../../relay-user/tests/import/wg_easy.rs"]
#[expect(dead_code, reason = "only what 14 writes is needed")]
mod wg_easy;

mod follows;
mod hub;
mod life;
mod refuses;
mod world;

use std::time::Duration;

/// Five times what the slowest of these waits took on a busy machine with two cores.
const DEADLINE: Duration = Duration::from_secs(30);
