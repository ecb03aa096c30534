//! What an examination finds: a line each.

use std::fmt;

use serde::{Deserialize, Serialize};

/// How bad it is, from nothing to the worst.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Level {
    /// As it should be, or worth knowing.
    Ok,
    /// It works, and will surprise somebody, or could not be looked at.
    Warning,
    /// Somebody is kept from what the configuration promises.
    Fault,
}

impl fmt::Display for Level {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Ok => "ok",
            Self::Warning => "warning",
            Self::Fault => "fault",
        })
    }
}

/// What was looked at. The names are for scripts and stay.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Check {
    /// What could not be seen without root.
    Rights,
    /// relay.toml.
    Config,
    /// The hub's clock.
    Clock,
    /// What the kernel has for relay.
    Kernel,
    /// The daemon, and what it could not do.
    Daemon,
    /// Other relays on this host.
    Relays,
    /// The kernel's WireGuard, or userspace's.
    Wireguard,
    /// The tunnel interface.
    Interface,
    /// Whether the host is as the file says.
    Drift,
    /// Whether the UDP port can be had.
    Port,
    /// Whether peers' messages reach the UDP port past this host's firewall.
    ListenPort,
    /// Whether the firewall lets traffic from peer to peer, and out to the internet, pass.
    Forward,
    /// Whether eBPF forwards.
    FastPath,
    /// The switches of forwarding.
    Forwarding,
    /// Reverse path filtering.
    RpFilter,
    /// The way to the internet.
    Uplink,
    /// The network card.
    Nic,
    /// The guard in front of the UDP port, and who tries it.
    Guard,
    /// Whether the tunnel's packets fit the way out.
    Mtu,
    /// What peers dial.
    Endpoint,
    /// Networks that collide.
    Networks,
    /// A peer's place in the file and in WireGuard.
    Peer,
    /// A peer's handshake.
    Handshake,
    /// Handshakes that somebody tries in vain.
    Initiation,
    /// What keeps a home's NAT open.
    Keepalive,
    /// A peer's address in the tunnel.
    Tunnel,
    /// A network behind a peer.
    Lan,
}

impl fmt::Display for Check {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // The same names as in JSON, which serde makes of the variants'.
        match serde_json::to_value(self) {
            Ok(serde_json::Value::String(name)) => f.pad(&name),
            _ => f.pad("?"),
        }
    }
}

/// One line of the examination.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Finding {
    /// What was looked at.
    pub check: Check,
    /// Whose, if it is about one peer.
    pub peer: Option<String>,
    /// How bad.
    pub level: Level,
    /// What was seen.
    pub seen: String,
    /// What to do about it; nothing where all is well.
    pub remedy: Option<String>,
}

impl Finding {
    /// All is well, or worth knowing.
    pub fn ok(check: Check, seen: impl Into<String>) -> Self {
        Self { check, peer: None, level: Level::Ok, seen: seen.into(), remedy: None }
    }

    /// It works, and yet.
    pub fn warning(check: Check, seen: impl Into<String>, remedy: impl Into<String>) -> Self {
        Self { check, peer: None, level: Level::Warning, seen: seen.into(), remedy: Some(remedy.into()) }
    }

    /// It does not work.
    pub fn fault(check: Check, seen: impl Into<String>, remedy: impl Into<String>) -> Self {
        Self { level: Level::Fault, ..Self::warning(check, seen, remedy) }
    }

    /// It is about this peer.
    #[must_use]
    pub fn of(self, peer: impl fmt::Display) -> Self {
        Self { peer: Some(peer.to_string()), ..self }
    }

    /// Whether somebody should read it.
    #[must_use]
    pub fn is_amiss(&self) -> bool {
        self.level > Level::Ok
    }
}

/// The whole examination.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Report {
    /// The worst of the findings.
    pub worst: Level,
    /// In the order in which one thing depends on another.
    pub findings: Vec<Finding>,
}

impl Report {
    /// Of these findings.
    #[must_use]
    pub fn new(findings: Vec<Finding>) -> Self {
        let worst = findings.iter().map(|finding| finding.level).max().unwrap_or(Level::Ok);
        Self { worst, findings }
    }
}

impl fmt::Display for Report {
    /// A line for each finding, with what to do beneath it, and a last line that counts.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for Finding { check, peer, level, seen, remedy } in &self.findings {
            let peer = peer.as_ref().map(|peer| format!("{peer}: ")).unwrap_or_default();
            writeln!(f, "{level:<8} {check:<11} {peer}{}", seen.replace('\n', "\n                     "))?;
            if let Some(remedy) = remedy {
                writeln!(f, "{:<8} {:<11} to do: {remedy}", "", "")?;
            }
        }
        let count = |level| self.findings.iter().filter(|finding| finding.level == level).count();
        let many = |count: usize, word: &str| format!("{count} {word}{}", if count == 1 { "" } else { "s" });
        match (count(Level::Fault), count(Level::Warning)) {
            (0, 0) => writeln!(f, "nothing amiss"),
            (faults, warnings) => {
                writeln!(f, "{}, {}", many(faults, "fault"), many(warnings, "warning"))
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_report_for_people() {
        let report = Report::new(vec![
            Finding::ok(Check::Wireguard, "the kernel has it"),
            Finding::fault(Check::ListenPort, "UDP 51820 is dropped", "ufw allow 51820/udp"),
            Finding::warning(Check::Handshake, "never seen", "start its tunnel").of("phone"),
        ]);
        assert_eq!(report.worst, Level::Fault);
        let expected = "ok       wireguard   the kernel has it\n\
                        fault    listen-port UDP 51820 is dropped\n                     to do: ufw allow 51820/udp\n\
                        warning  handshake   phone: never seen\n                     to do: start its tunnel\n\
                        1 fault, 1 warning\n";
        assert_eq!(report.to_string(), expected);
        assert_eq!(Report::new(Vec::new()).to_string(), "nothing amiss\n");
    }
}
