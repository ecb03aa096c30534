//! The rule sets that relay's unit tests judge, loaded for real: packets do what relay says of them, also once it has opened
//! what is closed. Needs root.

use std::{
    fs,
    io::{ErrorKind, Write as _},
    net::UdpSocket,
    path::{Path, PathBuf},
    process::{Command, Stdio},
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, bail, ensure};
use ipnet::IpNet;
use relay_tests::{
    guest,
    namespace::{in_namespaces, run, sysctl},
    packet::empty_udp,
    tun::{Kind, Tun},
};
use relay_user::{
    firewall::{
        analysis::{HostFacts, TunnelForwarding, tunnel_forwarding},
        opening::{Opening, Owner, Way, openings},
        ruleset::{Family, Ruleset},
    },
    kernel::firewall,
};

/// Rule sets that not every kernel takes.
const MAY_LACK: [&str; 1] = ["flowtable"];

/// How long a packet is waited for that shall be dropped, and one that shall come; it takes less than a millisecond.
const DROPPED: Duration = Duration::from_millis(100);
const COMES: Duration = Duration::from_secs(5);

const PORT: u16 = 51820;
const HUB: [u8; 4] = [203, 0, 113, 1];
const STRANGER: [u8; 4] = [203, 0, 113, 66];
const HOME: [u8; 4] = [10, 9, 0, 2];
const PHONE: [u8; 4] = [10, 9, 0, 3];

fn fixtures() -> Result<Vec<PathBuf>> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../relay-user/src/firewall/fixtures");
    let mut found: Vec<PathBuf> =
        fs::read_dir(folder)?.map(|entry| Ok(entry?.path())).collect::<Result<_>>()?;
    found.retain(|path| path.extension().is_some_and(|extension| extension == "dump"));
    found.sort();
    Ok(found)
}

/// Gives a tool its script.
fn load(program: &str, script: &str) -> Result<()> {
    let args: &[&str] = if program == "nft" { &["-f", "-"] } else { &[] };
    let mut child = Command::new(program).args(args).stdin(Stdio::piped()).stderr(Stdio::piped()).spawn()?;
    child.stdin.take().context("its stdin")?.write_all(script.as_bytes())?;
    let output = child.wait_with_output()?;
    ensure!(output.status.success(), "{program}: {}", String::from_utf8_lossy(&output.stderr));
    Ok(())
}

/// Loads a fixture, each part by the tool whose it is.
fn load_dump(dump: &str) -> Result<()> {
    let mut nft = "";
    let mut of_iptables = Vec::new();
    for section in dump.split("=== ").filter(|section| !section.is_empty()) {
        let (command, text) = section.split_once('\n').context("a command and its output")?;
        match command.strip_suffix("-save") {
            Some(program) => {
                load(&format!("{program}-restore"), text)?;
                let family = if program.starts_with("ip6") { "ip6" } else { "ip" };
                if program.ends_with("-nft") {
                    let names = text.lines().filter_map(|line| line.strip_prefix('*'));
                    of_iptables.extend(names.map(|name| format!("table {family} {name} {{")));
                }
            }
            None if command.starts_with("nft -s") => nft = text,
            None => {}
        }
    }
    // What iptables owns is in nft's words too, which it could not load again.
    let theirs = |table: &&str| of_iptables.iter().any(|head| table.starts_with(head));
    let tables = nft.split_inclusive("\n}\n").filter(|table| !theirs(table));
    load("nft", &tables.collect::<String>())
}

/// A host with an uplink, a tunnel, and somebody who listens on the listen port.
struct Host {
    eth0: Tun,
    wg0: Tun,
    listens: UdpSocket,
    /// Each packet is the first of its flow.
    next_port: u16,
}

impl Host {
    fn new() -> Result<Self> {
        let (eth0, wg0) = (Tun::new("eth0", Kind::Tun, 1500)?, Tun::new("wg0", Kind::Tun, 1420)?);
        run("ip addr add 203.0.113.1/24 dev eth0")?;
        run("ip addr add 10.9.0.1/24 dev wg0")?;
        sysctl("ipv4/ip_forward", "1")?;
        let listens = UdpSocket::bind(("0.0.0.0", PORT))?;
        Ok(Self { eth0, wg0, listens, next_port: 2000 })
    }

    fn port(&mut self) -> u16 {
        self.next_port += 1;
        self.next_port
    }

    /// A packet from peer to peer as it comes out; nothing where it does not within that time.
    fn through_the_tunnel(&mut self, patience: Duration) -> Result<Option<Vec<u8>>> {
        let port = self.port();
        let sent = empty_udp((HOME, port), (PHONE, 9));
        self.wg0.send(&sent)?;
        let end = Instant::now() + patience;
        while Instant::now() < end {
            match self.wg0.try_receive()? {
                Some((_, packet)) if packet.len() == sent.len() && packet[9] == 17 => {
                    return Ok(Some(packet));
                }
                Some(_) => {}
                None => thread::sleep(Duration::from_millis(2)),
            }
        }
        Ok(None)
    }

    /// Whether a stranger's packet gets to the listen port within that time.
    fn listen_port(&mut self, patience: Duration) -> Result<bool> {
        self.listens.set_read_timeout(Some(patience))?;
        let port = self.port();
        self.eth0.send(&empty_udp((STRANGER, port), (HUB, PORT)))?;
        match self.listens.recv_from(&mut [0; 8]) {
            Ok(_) => Ok(true),
            Err(error) if error.kind() == ErrorKind::WouldBlock => Ok(false),
            Err(error) => Err(error).context("listening"),
        }
    }
}

fn prefixes() -> Vec<IpNet> {
    vec!["10.9.0.0/24".parse().expect("a prefix")]
}

fn closed(ruleset: &Ruleset) -> Vec<Opening> {
    let is_v4 = |owner: &Owner| match owner {
        Owner::Iptables { v6, .. } | Owner::DockerUser { v6, .. } => !v6,
        Owner::Nft { family, .. } => *family != Family::Ip6,
        Owner::Ufw | Owner::Firewalld => true,
    };
    let mut found = openings(ruleset, "wg0", PORT, Some("eth0"), &prefixes(), &[]);
    found.retain(|opening| is_v4(&opening.owner));
    found
}

fn verdict(ruleset: &Ruleset) -> TunnelForwarding {
    let facts = HostFacts { forwarding_v4: true, forwarding_v6: true, ..HostFacts::default() };
    tunnel_forwarding(ruleset, "wg0", &prefixes(), &facts)
}

/// What relay says of the rules that stand, held against what packets do. Returns what is closed.
fn judged(host: &mut Host, ruleset: &Ruleset) -> Result<Vec<Opening>> {
    let closed = closed(ruleset);
    let is_closed = |way: &Way| closed.iter().any(|opening| opening.way == *way);
    let patience = |closed: bool| if closed { DROPPED } else { COMES };
    let shut = is_closed(&Way::ListenPort(PORT));
    let came = host.through_the_tunnel(patience(is_closed(&Way::Tunnel)))?;
    ensure!(came.is_none() == is_closed(&Way::Tunnel), "the tunnel: {came:?} came, closed: {closed:#?}");
    if verdict(ruleset) == TunnelForwarding::Free {
        let mut expected = empty_udp((HOME, host.next_port), (PHONE, 9));
        expected[8] -= 1;
        let mut came = came.context("free, and nothing comes through")?;
        expected[10..12].fill(0);
        came[10..12].fill(0);
        ensure!(came == expected, "changed: {came:?}");
    }
    let arrives = host.listen_port(patience(shut))?;
    ensure!(arrives != shut, "the listen port: {arrives}, closed: {closed:#?}");
    Ok(closed)
}

fn row(name: &str, dump: &str) -> Result<()> {
    let mut host = Host::new()?;
    if let Err(error) = load_dump(dump) {
        if !MAY_LACK.contains(&name) {
            return Err(error);
        }
        guest::skip(&format!("{name}: this kernel does not take it"));
        return Ok(());
    }
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(async {
        let closed = judged(&mut host, &firewall::read().await?)?;
        for opening in &closed {
            if !matches!(opening.owner, Owner::Ufw | Owner::Firewalld) {
                firewall::open(opening).await?;
            }
        }
        let left = judged(&mut host, &firewall::read().await?)?;
        ensure!(
            left.iter().all(|opening| matches!(opening.owner, Owner::Ufw | Owner::Firewalld)),
            "{left:#?}"
        );
        Ok(())
    })
}

#[test]
fn packets_do_what_is_said_of_them() -> Result<()> {
    if guest::line().is_some() {
        guest::skip("the same rules again, which other tests load one by one");
        return Ok(());
    }
    let fixtures = fixtures()?;
    ensure!(fixtures.len() > 30, "only {}", fixtures.len());
    let mut wrong = Vec::new();
    for path in fixtures {
        let name = path.file_stem().and_then(|name| name.to_str()).context("a name")?;
        let dump = fs::read_to_string(&path)?;
        let mut outcome = Ok(());
        in_namespaces(|| {
            outcome = row(name, &dump);
            Ok(())
        });
        if let Err(error) = outcome {
            wrong.push(format!("{name}: {error:#}"));
        }
    }
    if !wrong.is_empty() {
        bail!("{}", wrong.join("\n\n"));
    }
    Ok(())
}
