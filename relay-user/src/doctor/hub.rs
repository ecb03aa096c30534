//! What runs, and how it is set up.

use std::time::Duration;

use super::{
    facts::{Daemon, Facts, Kernel, Refused, SLACK, Service, listen_port},
    finding::{Check, Finding},
};
use crate::{
    desired::{Backend, BackendChoice, FastPathMode},
    table::ago,
};

/// Clocks that say less were never set: relay is younger.
const NEVER_SET: u64 = 1_735_689_600; // 2025-01-01

/// In the order in which one thing depends on another.
#[must_use]
pub fn findings(facts: &Facts) -> Vec<Finding> {
    let checks = [rights, clock, config, daemon, relays, kernel, wireguard, interface, port, drift];
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
            let failed = match facts.service {
                Some(Service { failed: true }) => ", and its service has failed",
                Some(Service { failed: false }) | None => "",
            };
            let seen = format!("relay is not running{failed}: nobody keeps the hub as the file says");
            return vec![Finding::fault(Check::Daemon, seen, start(facts))];
        }
        Daemon::Broken(why) => {
            let remedy = match facts.service {
                Some(_) => "`systemctl restart relay`; `journalctl -u relay -e` may say why",
                None => "end that process and start `relay up` anew",
            };
            return vec![Finding::fault(Check::Daemon, why.clone(), remedy)];
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
        let anew = if facts.service.is_some() { "systemctl restart relay" } else { "start `relay up` anew" };
        // Userspace WireGuard is the daemon.
        let meanwhile = if status.backend == Backend::Kernel { "; traffic goes on meanwhile" } else { "" };
        findings.push(Finding::warning(Check::Daemon, seen, format!("{anew}{meanwhile}")));
    }
    let problem = |text: &String| {
        if status.beside.contains(text) {
            return Finding::warning(Check::Daemon, text.clone(), "as it says; traffic goes on meanwhile");
        }
        Finding { remedy: None, ..Finding::fault(Check::Daemon, text.clone(), "") }
    };
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
            match facts.service {
                Some(_) => "systemctl stop relay && relay down && systemctl start relay",
                None => "`relay down`, then `relay up`",
            },
        )],
        (Ok(()), _, _) => vec![Finding::ok(Check::Wireguard, "the kernel has it")],
    }
}

fn interface(facts: &Facts) -> Vec<Finding> {
    let Some(desired) = facts.desired() else { return Vec::new() };
    let name = &desired.interface;
    let Some(link) = &facts.link else {
        let seen = format!("there is no interface {name}");
        // Where nobody keeps the hub, that is said, and this follows from it.
        return match facts.daemon {
            Daemon::Absent => vec![Finding::ok(Check::Interface, seen)],
            _ => vec![Finding::fault(Check::Interface, seen, again(facts))],
        };
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
        // `kernel` says it.
        Err(_) if facts.kernel.as_ref().is_some_and(|kernel| kernel.nftables.is_err()) => Vec::new(),
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

/// What the kernel has for relay, also where no daemon has tried it yet.
fn kernel(facts: &Facts) -> Vec<Finding> {
    let Some(kernel) = &facts.kernel else { return Vec::new() };
    let Kernel { release, bpf, hook, bpffs, btf, nftables } = kernel;
    let mut findings = Vec::new();
    if let Err(why) = nftables {
        let remedy =
            "`apt install nftables`, or a kernel with nf_tables: relay's guard of the home is such a table";
        findings.push(Finding::fault(Check::Kernel, format!("nftables cannot be asked: {why}"), remedy));
    }
    // Whoever keeps the fast path off does not miss it.
    let wanted = facts.desired().is_none_or(|desired| desired.fast_path() != FastPathMode::Off);
    if !bpf && wanted {
        let seen = format!("{release} runs no eBPF, so there is no fast path; the kernel forwards");
        findings.push(Finding::warning(Check::Kernel, seen, "a kernel with CONFIG_BPF_SYSCALL, as Debian's"));
    }
    if findings.is_empty() {
        let has = |what: &str, has: bool| if has { what.to_owned() } else { format!("no {what}") };
        let bpffs = if *bpffs { "bpffs is mounted" } else { "bpffs is not mounted yet, which relay does" };
        let seen = format!("{release}: eBPF attached by {hook}; {bpffs}; nf_tables; {}", has("BTF", *btf));
        findings.push(Finding::ok(Check::Kernel, seen));
    }
    findings
}

/// How to start relay here.
fn start(facts: &Facts) -> &'static str {
    match facts.service {
        Some(Service { failed: true }) => {
            "`journalctl -u relay -e` says why; once that is mended, `systemctl start relay`"
        }
        Some(Service { failed: false }) => "systemctl start relay",
        None => "relay up",
    }
}

/// How to have the file put in force: by the daemon, or by one that is yet to start.
pub(super) fn again(facts: &Facts) -> &'static str {
    match facts.daemon {
        Daemon::Absent => start(facts),
        _ => "relay reload",
    }
}

/// A span of time, in words.
pub(super) fn span(span: Duration) -> String {
    ago(span.as_secs()).trim_end_matches(" ago").to_owned()
}

/// How long ago a handshake was, in words.
pub(super) fn when(facts: &Facts, handshake: std::time::SystemTime) -> String {
    ago(facts.age(handshake).as_secs())
}
