//! What is behind a peer, as its probe found it: its address in the tunnel, then its LANs.

use ipnet::Ipv4Net;

use super::{
    facts::Facts,
    finding::{Check, Finding},
    probe::{self, Behind},
};
use crate::desired::Peer;

/// What its probe says.
#[must_use]
pub(super) fn findings(facts: &Facts, peer: &Peer) -> Vec<Finding> {
    let Some(probe) = facts.probes.get(peer.name.as_str()) else { return Vec::new() };
    let found = match &probe.failed {
        Some(why) => vec![Finding::warning(
            Check::Tunnel,
            format!("cannot be asked: {why}"),
            "pings take root with CAP_NET_RAW, which a container may lack, and an interface that is up",
        )],
        None => {
            let lans = probe.lans.iter().filter_map(|(lan, behind)| of_lan(*lan, behind, is_silent(probe)));
            tunnel(probe).into_iter().chain(lans).collect()
        }
    };
    found.into_iter().map(|finding| finding.of(&peer.name)).collect()
}

/// Whether nothing at all came back.
fn is_silent(probe: &probe::Probe) -> bool {
    let nothing = probe.lans.iter().all(|(_, behind)| *behind == Behind::NotForwarded);
    matches!(probe.tunnel, Some((_, false))) && nothing
}

fn tunnel(probe: &probe::Probe) -> Option<Finding> {
    let (address, answers) = probe.tunnel?;
    Some(if answers {
        Finding::ok(Check::Tunnel, format!("{address} answers"))
    } else if probe.lans.is_empty() {
        // Windows does by default, and phones that sleep.
        Finding::ok(Check::Tunnel, format!("{address} answers no ping; many machines ignore them"))
    } else if is_silent(probe) {
        Finding::fault(
            Check::Tunnel,
            format!(
                "it shook hands, and {address} answers no ping through the tunnel, nor does anything behind it"
            ),
            "on that machine: is the address on its tunnel (`ip address`), the hub's subnet in its AllowedIPs, and does \
             its firewall let the tunnel in?",
        )
    } else {
        // Whoever forwards is all right.
        Finding::ok(Check::Tunnel, format!("{address} answers no ping; what is behind it is told below"))
    })
}

fn of_lan(lan: Ipv4Net, behind: &Behind, silent: bool) -> Option<Finding> {
    Some(match behind {
        Behind::Answers(machine) => Finding::ok(Check::Lan, format!("{machine} on {lan} answers")),
        Behind::Silent { asked } if (*asked as u64) < probe::room(lan) => {
            let seen = format!(
                "it forwards toward {lan}; the first {asked} addresses there are silent, the rest was not asked"
            );
            Finding::ok(Check::Lan, seen)
        }
        Behind::Silent { asked } => Finding::warning(
            Check::Lan,
            format!("it forwards toward {lan}, and none of {asked} addresses there answers"),
            "it must masquerade toward the LAN, as the file that relay prints for it does (`relay peer show`), or \
             the LAN's router must send the tunnel's subnet to it; its firewall must let both pass; or the machines \
             there ignore pings",
        ),
        Behind::Refused(code) => Finding::fault(
            Check::Lan,
            format!("it refuses to forward toward {lan} (ICMP unreachable, code {code})"),
            "its firewall must let the tunnel through to the LAN, and it must have a route to that network",
        ),
        // That is said of its tunnel.
        Behind::NotForwarded if silent => return None,
        Behind::NotForwarded => Finding::fault(
            Check::Lan,
            format!("its tunnel answers, and it does not forward toward {lan}"),
            "on that machine: sysctl -w net.ipv4.ip_forward=1, and let its firewall forward from the tunnel to the \
             LAN; the file that relay prints for it does the first",
        ),
    })
}
