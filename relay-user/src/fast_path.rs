//! Decides whether the fast path is on. Pure.

use crate::{desired::FastPathMode, firewall::analysis::TunnelForwarding, report::Standing};

/// On or off, with the reason that `status` shows. `forwarding` is `None` where the host's firewall could not be read.
#[must_use]
pub fn decide(
    mode: FastPathMode,
    forwarding: Option<&TunnelForwarding>,
    load_failure: Option<&str>,
) -> Standing {
    if mode == FastPathMode::Off {
        return Standing::off("fast_path = \"off\" in the configuration; the kernel forwards");
    }
    if let Some(failure) = load_failure {
        return Standing::off(format!("{failure}; the kernel forwards"));
    }
    match (mode, forwarding) {
        (FastPathMode::Always, Some(TunnelForwarding::Kept { by, .. })) => {
            Standing::on(format!("fast_path = \"always\" in the configuration, past {by}"))
        }
        (FastPathMode::Always, _) => Standing::on("fast_path = \"always\" in the configuration"),
        (_, Some(TunnelForwarding::Free)) => {
            Standing::on("nothing on this host filters or changes traffic from peer to peer")
        }
        (_, Some(TunnelForwarding::Kept { by, hint })) => Standing::off(format!("{by} ({hint})")),
        (_, None) => Standing::off("the host's firewall could not be read; the kernel forwards"),
    }
}
