//! What stands in the way of a packet between two peers on a hub: nothing, or the rules that hubs have.

use std::{
    io::Write as _,
    process::{Command, Stdio},
};

use anyhow::{Context as _, Result, ensure};
use relay_tests::namespace::run;

/// A way through the hub.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Through {
    /// Dropped where it arrives: what the measurement itself costs.
    Baseline,
    /// relay's program.
    FastPath,
    /// The stack without netfilter.
    Forward,
    /// Connections are tracked; established ones pass, and what comes from the tunnel.
    Conntrack,
    /// What wg-easy 15 sets up.
    WgEasy,
    /// The two rules behind twenty that close ports.
    ManyRules,
    /// As [`Through::Conntrack`], with established flows offloaded to nftables' flowtable.
    Flowtable,
}

impl Through {
    pub(crate) const ALL: [Self; 7] = [
        Self::Baseline,
        Self::FastPath,
        Self::Forward,
        Self::Conntrack,
        Self::WgEasy,
        Self::ManyRules,
        Self::Flowtable,
    ];

    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Baseline => "drop baseline",
            Self::FastPath => "fast path",
            Self::Forward => "ip_forward",
            Self::Conntrack => "conntrack, 2 rules",
            Self::WgEasy => "wg-easy's rules",
            Self::ManyRules => "conntrack, 22 rules",
            Self::Flowtable => "flowtable",
        }
    }

    /// Sets the rules up in the calling thread's namespace.
    pub(crate) fn set_up(self) -> Result<()> {
        match self {
            Self::Baseline | Self::FastPath | Self::Forward => Ok(()),
            Self::Conntrack => nft(&chain("", "")),
            Self::ManyRules => nft(&chain("", &closed_ports())),
            Self::Flowtable => nft(&chain(
                "flowtable ft {\n hook ingress priority 0\n devices = { wg0 }\n }\n",
                "ct state established flow add @ft\n",
            )),
            Self::WgEasy => WG_EASY.iter().try_for_each(|line| run(line)),
        }
    }
}

/// Two rules behind others.
fn chain(before: &str, rules: &str) -> String {
    format!(
        "table inet bench {{\n {before} chain forward {{\n type filter hook forward priority filter; policy drop\n \
         {rules} ct state established,related accept\n iifname wg0 accept\n }}\n}}\n"
    )
}

/// Ten ports that are closed, for UDP and for TCP.
fn closed_ports() -> String {
    (137..147).map(|port| format!("udp dport {port} drop\n tcp dport {port} drop\n ")).collect()
}

/// The defaults of wg-easy 15's hooks, with the addresses of this network.
const WG_EASY: [&str; 8] = [
    "iptables -t nat -A POSTROUTING -s 10.9.0.0/24 -o eth0 -j MASQUERADE",
    "iptables -A INPUT -p udp -m udp --dport 51820 -j ACCEPT",
    "iptables -A FORWARD -i wg0 -j ACCEPT",
    "iptables -A FORWARD -o wg0 -j ACCEPT",
    "ip6tables -t nat -A POSTROUTING -s fd52:1a9::/64 -o eth0 -j MASQUERADE",
    "ip6tables -A INPUT -p udp -m udp --dport 51820 -j ACCEPT",
    "ip6tables -A FORWARD -i wg0 -j ACCEPT",
    "ip6tables -A FORWARD -o wg0 -j ACCEPT",
];

/// Gives rules to nftables, in the calling thread's namespace.
pub(crate) fn nft(rules: &str) -> Result<()> {
    let mut child = Command::new("nft")
        .args(["-f", "-"])
        .stdin(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .context("starting nft")?;
    child.stdin.take().context("nft has no stdin")?.write_all(rules.as_bytes())?;
    let output = child.wait_with_output()?;
    let said = String::from_utf8_lossy(&output.stderr);
    ensure!(output.status.success(), "nft: {}", said.lines().next().unwrap_or_default());
    Ok(())
}
