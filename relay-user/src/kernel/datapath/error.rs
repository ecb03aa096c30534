//! What can go wrong with the fast path, and what to do about it. None of it stops the kernel's own forwarding.

use std::{fs, io, path::PathBuf};

use aya::{
    EbpfError,
    maps::MapError,
    programs::{ProgramError, links::LinkError},
};

/// Why the fast path could not be read, loaded, attached or removed.
#[derive(Debug, thiserror::Error)]
pub enum DatapathError {
    /// Built without an eBPF toolchain.
    #[error("this binary was built without the eBPF object; build it with `cargo xtask run`")]
    NoObject,
    /// The object's number is not ours.
    #[error(
        "the eBPF object has layout {found}, this relay has layout {expected}; build both with `cargo xtask run`"
    )]
    ForeignLayout {
        /// What the object says.
        found: u32,
        /// What this binary was built with.
        expected: u32,
    },
    /// Not an object that this relay can load.
    #[error("cannot read the eBPF object: {0}; build it with `cargo xtask run`")]
    BadObject(String),
    /// Nothing to pin to.
    #[error("no bpf file system at {}: {source}; mount it with `mount -t bpf bpf {}`", path.display(), path.display())]
    NoBpffs {
        /// Where it is expected.
        path: PathBuf,
        /// Why mounting it failed.
        source: io::Error,
    },
    /// No interface of that name and index in this network namespace.
    #[error("no interface {name} with index {index} here; it may have been deleted or made anew")]
    NoInterface {
        /// Its name.
        name: String,
        /// The index it should have.
        index: u32,
    },
    /// The fast path is not loaded for that interface.
    #[error("no fast path is loaded for {interface} (nothing at {}); is `relay up` running?", path.display())]
    NotLoaded {
        /// The interface.
        interface: String,
        /// Where its pins would be.
        path: PathBuf,
    },
    /// The ring buffer of a trace has one reader.
    #[error("another `relay trace` watches {0} already, and only one can; end that one first")]
    Traced(String),
    /// The kernel wants a capability.
    #[error("cannot {act}: not permitted; {}", missing_capabilities(.missing))]
    Denied {
        /// What was tried.
        act: String,
        /// Capabilities that this process lacks and the act may need.
        missing: Vec<&'static str>,
    },
    /// The verifier said no.
    #[error("the kernel's verifier refused the program: {source}; its last words: {log_tail}")]
    Rejected {
        /// The end of the verifier's log.
        log_tail: String,
        /// The system call's error.
        source: io::Error,
    },
    /// The driver cannot run XDP programs, or not as it is set up.
    #[error(
        "the driver of {interface} takes no XDP program ({detail}); `mode = \"generic\"` under [uplink] would run it in \
         the kernel's stack, which costs more and switches GRO off there"
    )]
    NoNativeXdp {
        /// The interface.
        interface: String,
        /// The kernel's words.
        detail: String,
    },
    /// Only one XDP program can be on an interface.
    #[error("another XDP program is on {interface}, which relay leaves alone")]
    XdpTaken {
        /// The interface.
        interface: String,
    },
    /// The kernel said yes and shows something else.
    #[error(
        "the kernel took the XDP program for {interface} and then shows {found}; relay has taken it off again"
    )]
    NotInstalled {
        /// The interface.
        interface: String,
        /// What it shows.
        found: String,
    },
    /// A system call failed for another reason.
    #[error("cannot {act}: {detail}")]
    Kernel {
        /// What was tried, and on what.
        act: String,
        /// The error and its causes.
        detail: String,
    },
}

/// How many lines of the verifier's log an error keeps.
const LOG_LINES: usize = 8;

impl DatapathError {
    /// From a system call's error.
    pub(super) fn io(act: impl Into<String>, error: &io::Error) -> Self {
        Self::from_parts(act.into(), Some(error), error.to_string())
    }

    pub(super) fn map(act: impl Into<String>, error: &MapError) -> Self {
        Self::caused(act, error)
    }

    pub(super) fn link(act: impl Into<String>, error: &LinkError) -> Self {
        Self::caused(act, error)
    }

    pub(super) fn program(act: impl Into<String>, error: ProgramError) -> Self {
        match error {
            ProgramError::LoadError { io_error, verifier_log } => {
                Self::load(act, io_error, &verifier_log.to_string())
            }
            other => Self::caused(act, &other),
        }
    }

    fn load(act: impl Into<String>, source: io::Error, log: &str) -> Self {
        let lines: Vec<_> = log.lines().filter(|line| !line.trim().is_empty()).collect();
        // With an empty log the verifier never ran: the system call refused before it.
        if lines.is_empty() {
            return Self::io(act, &source);
        }
        let log_tail = lines[lines.len().saturating_sub(LOG_LINES)..].join(" | ");
        Self::Rejected { log_tail, source }
    }

    pub(super) fn object(act: impl Into<String>, error: EbpfError) -> Self {
        match error {
            EbpfError::ProgramError(error) => Self::program(act, error),
            error @ (EbpfError::MapError(_) | EbpfError::FileError { .. }) => Self::caused(act, &error),
            other => Self::BadObject(chain(&other)),
        }
    }

    /// From any error with an [`io::Error`] somewhere among its causes.
    pub(super) fn caused(act: impl Into<String>, error: &(dyn std::error::Error + 'static)) -> Self {
        Self::from_parts(act.into(), errno(error), chain(error))
    }

    fn from_parts(act: String, io: Option<&io::Error>, detail: String) -> Self {
        if io.is_some_and(|io| io.kind() == io::ErrorKind::PermissionDenied) {
            return Self::Denied { act, missing: missing() };
        }
        Self::Kernel { act, detail }
    }
}

/// The first [`io::Error`] among an error and its causes.
pub(super) fn errno<'a>(error: &'a (dyn std::error::Error + 'static)) -> Option<&'a io::Error> {
    let mut next = Some(error);
    while let Some(error) = next {
        if let Some(io) = error.downcast_ref::<io::Error>() {
            return Some(io);
        }
        next = error.source();
    }
    None
}

/// An error and its causes, each once.
fn chain(error: &(dyn std::error::Error + 'static)) -> String {
    let mut text = error.to_string();
    let mut next = error.source();
    while let Some(error) = next {
        let cause = error.to_string();
        if !text.contains(&cause) {
            text = format!("{text}: {cause}");
        }
        next = error.source();
    }
    text
}

/// Bits of `CapEff` (linux/capability.h) that the fast path needs.
const NEEDED: [(u32, &str); 2] = [(12, "CAP_NET_ADMIN"), (39, "CAP_BPF")];

fn missing() -> Vec<&'static str> {
    let status = fs::read_to_string("/proc/self/status").unwrap_or_default();
    let effective = status
        .lines()
        .find_map(|line| line.strip_prefix("CapEff:"))
        .and_then(|hex| u64::from_str_radix(hex.trim(), 16).ok())
        .unwrap_or_default();
    NEEDED.iter().filter(|(bit, _)| effective & (1 << bit) == 0).map(|&(_, name)| name).collect()
}

fn missing_capabilities(missing: &[&str]) -> String {
    if missing.is_empty() {
        "this process has CAP_NET_ADMIN and CAP_BPF, so a security module or kernel lockdown refuses"
            .to_owned()
    } else {
        format!("this process lacks {} (run it as root)", missing.join(" and "))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_end_of_the_verifiers_log_is_kept() {
        let log: String = (0..100).map(|n| format!("line {n}\n")).collect();
        let text = DatapathError::load("load it", io::Error::from_raw_os_error(13), &log).to_string();
        assert!(text.contains("line 92 | line 93") && text.contains("line 99"), "{text}");
        assert!(!text.contains("line 91"), "{text}");
    }

    #[test]
    fn causes_are_named_once() {
        let error =
            MapError::CreateError { name: "HOSTS4".into(), io_error: io::Error::from_raw_os_error(12) };
        let text = DatapathError::map("make the maps", &error).to_string();
        assert_eq!(
            text,
            "cannot make the maps: failed to create map `HOSTS4`: Cannot allocate memory (os error 12)"
        );
    }
}
