//! What can go wrong with the firewall's tools: the act, the tool's own first words, and a remedy if there is one.

use std::{io, time::Duration};

use crate::firewall::nft_json::BadJson;

/// Why the firewall could not be read or written.
#[derive(Debug, thiserror::Error)]
pub enum FirewallError {
    /// A tool is not installed.
    #[error("cannot run `{program}`: it is not installed (hint: apt install {})", package(program))]
    Missing {
        /// Its name.
        program: String,
    },
    /// A tool could not be started or talked to.
    #[error("cannot run `{program}`: {cause}")]
    Run {
        /// Its name.
        program: String,
        /// The reason.
        #[source]
        cause: io::Error,
    },
    /// A tool said no.
    #[error("cannot {act}: {reason}{}", hint(reason))]
    Refused {
        /// What was attempted.
        act: String,
        /// The first line that it wrote to stderr, or its exit status.
        reason: String,
    },
    /// A tool did not finish.
    #[error("cannot {act}: no answer within {} s (hint: does another program hold the firewall's lock?)", after.as_secs())]
    Stuck {
        /// What was attempted.
        act: String,
        /// How long it was waited for.
        after: Duration,
    },
    /// The names of the legacy tables could not be read.
    #[error("cannot read /proc/net/{file}: {cause}{}", hint(&cause.to_string()))]
    LegacyNames {
        /// The file.
        file: String,
        /// The reason.
        #[source]
        cause: io::Error,
    },
    /// nft printed something else than its JSON.
    #[error("cannot read the nftables ruleset: {0}")]
    Json(#[from] BadJson),
}

/// Debian's package of a program.
fn package(program: &str) -> &str {
    match program {
        "nft" => "nftables",
        "firewall-cmd" => "firewalld",
        name if name.starts_with("ip") => "iptables",
        name => name,
    }
}

fn hint(reason: &str) -> &'static str {
    if reason.contains("ermission denied")
        || reason.contains("not permitted")
        || reason.contains("must be root")
    {
        " (hint: this needs root)"
    } else {
        ""
    }
}
