//! What runs, and how it is set up.

use std::time::Duration;

use super::{
    facts::{Daemon, Facts, Refused, SLACK, listen_port},
    finding::{Check, Finding},
};
use crate::{
    desired::{Backend, BackendChoice},
    table::ago,
};

/// Clocks that say less were never set: relay is younger.
const NEVER_SET: u64 = 1_735_689_600; // 2025-01-01

/// In the order in which one thing depends on another.
#[must_use]
pub fn findings(facts: &Facts) -> Vec<Finding> {
    let checks = [rights, clock, config, daemon, relays, wireguard, interface, port, drift];
    checks.iter().flat_map(|check| check(facts)).collect()
}

fn rights(facts: &Facts) -> Vec<Finding> {
    if facts.unseen.is_empty() {
        return Vec::new();
    }
    let seen = format!("not seen, since only root may: {}", facts.unseen.join(", "));
    vec![Finding::warning(Check::Rights, seen, "sudo relay doctor")]
}

fn clock(facts: &Facts) -> Vec<Finding> {
    let now = facts.timestamp();
    let set = "set it, and keep it set: `timedatectl set-ntp true`";
    if now.as_second() < NEVER_SET.cast_signed() {
        let seen = format!("this host's clock says {now:.0}: it was never set");
        return vec![Finding::fault(Check::Clock, seen, set)];
    }
    let ahead =
        |moment: std::time::SystemTime| moment.duration_since(facts.now).ok().filter(|by| *by > SLACK);
    let handshakes = facts.device.iter().flat_map(|device| device.peers.values());
    let latest = handshakes.filter_map(|peer| peer.latest_handshake).max();
    let future = [
        (facts.written, format!("{} was written", facts.path.display())),
        (latest, "the latest handshake was".to_owned()),
    ];
    let found = future.into_iter().find_map(|(moment, what)| Some((ahead(moment?)?, what)));
    match found {
        None => vec![Finding::ok(Check::Clock, format!("{now:.0}"))],
        Some((by, what)) => {
            let by = span(by);
            let seen = format!("{what} {by} from now: this host's clock went back");
            vec![Finding::warning(Check::Clock, seen, set)]
        }
    }
}

fn config(facts: &Facts) -> Vec<Finding> {
    let config = match &facts.config {
        Ok(config) => config,
        // What that keeps from being seen is said already.
        Err(Refused { forbidden: true, .. }) => return Vec::new(),
        Err(refused) => {
            let remedy = refused.hint.clone().unwrap_or_else(|| "correct it, then `relay reload`".to_owned());
            return vec![Finding::fault(Check::Config, refused.message.clone(), remedy)];
        }
    };
    let (enabled, all) = (config.desired.peers.len(), config.names().count());
    let mut findings = vec![Finding::ok(
        Check::Config,
        format!("{}: {enabled} of {all} peers enabled", facts.path.display()),
    )];
    let word = |check, text: String| Finding { remedy: None, ..Finding::warning(check, text, "") };
    findings.extend(config.warnings.iter().map(|warning| word(Check::Config, warning.to_string())));
    findings.extend(config.advice().iter().map(|warning| word(Check::Networks, warning.to_string())));
    findings
}

fn daemon(facts: &Facts) -> Vec<Finding> {
    let status = match &facts.daemon {
        Daemon::Runs(status) => status,
        Daemon::Forbidden(why) => {
            return vec![Finding::warning(Check::Daemon, why.clone(), "sudo relay doctor")];
        }
        Daemon::Absent => {
            let seen = "relay is not running: nobody keeps the hub as the file says";
            return vec![Finding::fault(Check::Daemon, seen, "relay up")];
        }
        Daemon::Broken(why) => {
            return vec![Finding::fault(
                Check::Daemon,
                why.clone(),
                "end that process and start `relay up` anew",
            )];
        }
    };
    let real = |path: &std::path::Path| path.canonicalize().unwrap_or_else(|_| path.to_owned());
    let followed = status.config.as_deref().unwrap_or("no file, but an adopted interface");
    if real(followed.as_ref()) != real(&facts.path) {
        let seen = format!("relay runs and follows {followed}, not {}", facts.path.display());
        let remedy = match &status.config {
            Some(config) => format!("relay doctor --config {config}, or --socket for the other relay"),
            None => "--socket for the hub's relay".to_owned(),
        };
        return vec![Finding::fault(Check::Daemon, seen, remedy)];
    }
    let mut findings =
        vec![Finding::ok(Check::Daemon, format!("relay {} runs, process {}", status.version, status.pid))];
    if status.version != env!("CARGO_PKG_VERSION") {
        let seen = format!("relay {} runs, and {} is installed", status.version, env!("CARGO_PKG_VERSION"));
        findings.push(Finding::warning(Check::Daemon, seen, "start relay anew; traffic goes on meanwhile"));
    }
    let problem = |text: &String| Finding { remedy: None, ..Finding::fault(Check::Daemon, text.clone(), "") };
    findings.extend(status.problems.iter().map(problem));
    findings
}

fn relays(facts: &Facts) -> Vec<Finding> {
    let judge = |other: &super::facts::OtherRelay| {
        let name = &other.interface;
        if other.runs {
            return Finding::ok(Check::Relays, format!("another relay keeps {name}"));
        }
        Finding::warning(
            Check::Relays,
            format!("{name} is a relay's interface, and no relay keeps it"),
            format!(
                "`relay down --config ITS_FILE` takes it down; without its file, `ip link delete {name}`"
            ),
        )
    };
    facts.relays.iter().map(judge).collect()
}

fn wireguard(facts: &Facts) -> Vec<Finding> {
    let choice = facts.desired().map(|desired| desired.backend);
    let carried = facts.status().map(|status| status.backend);
    let Some(kernel) = &facts.kernel_wireguard else { return Vec::new() };
    match (kernel, choice, carried) {
        (Err(why), Some(BackendChoice::Kernel), _) => {
            vec![Finding::fault(
                Check::Wireguard,
                why.clone(),
                "backend = \"auto\" under [interface] carries it in userspace",
            )]
        }
        (Err(why), _, _) => {
            let seen = format!("userspace WireGuard, which ends with the daemon: {why}");
            vec![Finding::ok(Check::Wireguard, seen)]
        }
        (Ok(()), Some(BackendChoice::Userspace), _) => {
            vec![Finding::ok(Check::Wireguard, "userspace WireGuard, as the file says")]
        }
        (Ok(()), _, Some(Backend::Userspace)) => vec![Finding::warning(
            Check::Wireguard,
            "userspace WireGuard carries the tunnel, and the kernel has WireGuard by now",
            "`relay down`, then `relay up`",
        )],
        (Ok(()), _, _) => vec![Finding::ok(Check::Wireguard, "the kernel has it")],
    }
}

fn interface(facts: &Facts) -> Vec<Finding> {
    let Some(desired) = facts.desired() else { return Vec::new() };
    let name = &desired.interface;
    let Some(link) = &facts.link else {
        let seen = format!("there is no interface {name}");
        return vec![Finding::fault(Check::Interface, seen, "`relay up` makes it")];
    };
    if !link.is_ours() {
        return vec![Finding::fault(
            Check::Interface,
            format!("the interface {name} is not relay's, so relay leaves it alone"),
            format!("take it down (`wg-quick down {name}`?), or choose another `name` under [interface]"),
        )];
    }
    if !link.up {
        let seen = format!("the interface {name} is down");
        return vec![Finding::fault(Check::Interface, seen, format!("ip link set {name} up"))];
    }
    match &facts.host {
        Err(why) if facts.unseen.is_empty() => {
            let remedy = "see what it names; `relay status` asks the daemon";
            vec![Finding::fault(Check::Interface, why.clone(), remedy)]
        }
        _ => vec![Finding::ok(Check::Interface, format!("{name} is up, UDP port {}", listen_port(desired)))],
    }
}

fn port(facts: &Facts) -> Vec<Finding> {
    let (Some(desired), Some(why)) = (facts.desired(), &facts.port_taken) else { return Vec::new() };
    let port = listen_port(desired);
    let seen = format!("another program holds UDP port {port} ({why})");
    let remedy = format!(
        "`ss -lunp sport = :{port}` names it: end it, or choose another `listen_port` and tell the peers"
    );
    vec![Finding::fault(Check::Port, seen, remedy)]
}

fn drift(facts: &Facts) -> Vec<Finding> {
    let Ok(host) = &facts.host else { return Vec::new() };
    // Without a daemon or an interface it is all drift, and what matters is that.
    if host.drift.is_empty() || facts.status().is_none() || facts.link.is_none() {
        return Vec::new();
    }
    let seen = format!("the file is not in force; still to do: {}", host.drift.join("; "));
    vec![Finding::fault(Check::Drift, seen, "relay reload")]
}

/// A span of time, in words.
pub(super) fn span(span: Duration) -> String {
    ago(span.as_secs()).trim_end_matches(" ago").to_owned()
}

/// How long ago a handshake was, in words.
pub(super) fn when(facts: &Facts, handshake: std::time::SystemTime) -> String {
    ago(facts.age(handshake).as_secs())
}
