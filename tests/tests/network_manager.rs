//! NetworkManager's importer takes what relay prints, unchanged: a real daemon on a bus of its own, which manages nothing.

use std::{
    collections::BTreeMap,
    env, fs,
    path::{Path, PathBuf},
    process::{Command, Stdio},
    time::Duration,
};

use anyhow::{Context as _, Result, ensure};
use relay_tests::{
    guest,
    lab::{Relay, bus, peer, relay},
    netns::{Netns, checked, wait_for},
};

/// It takes 0.3 s.
const DEADLINE: Duration = Duration::from_secs(20);

/// Peers of every kind.
const PEERS: [(&str, &[&str]); 4] = [
    ("phone", &[]),
    (
        "traveller",
        &[
            "--full-tunnel",
            "--dns",
            "9.9.9.9",
            "--dns",
            "2620:fe::fe",
            "--mtu",
            "1280",
            "--keepalive",
            "30",
            "--psk",
        ],
    ),
    ("home", &["--lan", "192.168.40.0/24", "--lan", "fd00:40::/64", "--psk"]),
    ("Zoë's # = [Peer]", &["--expires", "30d"]),
];

const CONFIG: &str = "[main]
plugins=keyfile
auth-polkit=false
no-auto-default=*
dns=none
[keyfile]
path=/run/profiles
unmanaged-devices=*
";

/// NetworkManager in a machine.
struct Manager {
    machine: Netns,
    root: PathBuf,
}

impl Manager {
    /// Its files below `root`.
    fn start(root: &Path) -> Result<Self> {
        let manager = Self { machine: Netns::new("manager")?, root: root.to_owned() };
        let machine = &manager.machine;
        machine.inside(|| {
            for folder in ["/run/profiles", "/run/none", "/var/lib/NetworkManager"] {
                fs::create_dir(folder)?;
            }
            Ok(fs::write("/run/manager.conf", CONFIG)?)
        })?;
        bus::start(machine)?;
        let mut daemon = manager.command("usr/sbin/NetworkManager");
        daemon.args(["--no-daemon", "--config", "/run/manager.conf", "--config-dir", "/run/none"]);
        daemon.args(["--system-config-dir", "/run/none", "--intern-config", "/run/intern.conf"]);
        daemon.args(["--state-file", "/run/state", "--pid-file", "/run/manager.pid"]);
        machine.spawn(daemon.stdout(Stdio::null()).stderr(Stdio::null()))?;
        wait_for("NetworkManager", DEADLINE, || checked(&mut manager.nmcli(&["general", "status"])))?;
        Ok(manager)
    }

    /// A program of its root, with the libraries there.
    fn command(&self, program: &str) -> Command {
        let library = format!("usr/lib/{}-linux-gnu", env::consts::ARCH);
        let mut command = self.machine.command("env");
        // Not for nsenter, which has the host's own.
        command.arg(format!("LD_LIBRARY_PATH={}", self.root.join(library).display()));
        command.arg("DBUS_SYSTEM_BUS_ADDRESS=unix:path=/run/dbus/system_bus_socket");
        command.arg(self.root.join(program));
        command
    }

    fn nmcli(&self, args: &[&str]) -> Command {
        let mut command = self.command("usr/bin/nmcli");
        command.args(args);
        command
    }

    /// Imports a configuration and returns the profile that came of it, `section/key` to value.
    fn import(&self, config: &str) -> Result<BTreeMap<String, String>> {
        self.machine.inside(|| Ok(fs::write("/run/imported.conf", config)?))?;
        let import = ["connection", "import", "type", "wireguard", "file", "/run/imported.conf"];
        checked(&mut self.nmcli(&import))?;
        let profile = self.machine.run("cat /run/profiles/imported.nmconnection")?;
        checked(&mut self.nmcli(&["connection", "delete", "imported"]))?;
        let mut section = "";
        let mut values = BTreeMap::new();
        for line in profile.lines() {
            if let Some(name) = line.strip_prefix('[').and_then(|line| line.strip_suffix(']')) {
                section = name;
            } else if let Some((key, value)) = line.split_once('=') {
                values.insert(format!("{section}/{key}"), value.to_owned());
            }
        }
        Ok(values)
    }
}

/// What a key of the configuration says, in the words of a profile.
fn said<'a>(config: &'a str, key: &str) -> Option<&'a str> {
    config.lines().find_map(|line| line.strip_prefix(key)?.strip_prefix(" = "))
}

#[test]
fn the_importer_takes_every_kind() -> Result<()> {
    let Some(root) = env::var_os("RELAY_NETWORK_MANAGER") else {
        guest::skip("NetworkManager is not here; `cargo xtask test netns` unpacks it on the host");
        return Ok(());
    };
    let manager = Manager::start(Path::new(&root))?;
    let vps = Netns::new("prints")?;
    let hub = Relay::init(&vps, &relay::binary()?)?;
    for (name, options) in PEERS {
        let config = hub.run(&[&["peer", "add", name], options].concat())?;
        // The profile and the configuration hold keys: what is told of a failure is the key's name alone.
        let profile = manager.import(&config).with_context(|| format!("importing {name}"))?;
        let hub_key = said(&config, "PublicKey").context("the hub's key")?;
        let list = |key: &str| said(&config, key).map(|value| value.replace(", ", ";") + ";");
        let expected = [
            ("wireguard/private-key".to_owned(), said(&config, "PrivateKey").map(str::to_owned)),
            ("wireguard/mtu".to_owned(), said(&config, "MTU").map(str::to_owned)),
            (format!("wireguard-peer.{hub_key}/endpoint"), said(&config, "Endpoint").map(str::to_owned)),
            (
                format!("wireguard-peer.{hub_key}/preshared-key"),
                said(&config, "PresharedKey").map(str::to_owned),
            ),
            (
                format!("wireguard-peer.{hub_key}/persistent-keepalive"),
                said(&config, "PersistentKeepalive").map(str::to_owned),
            ),
            (format!("wireguard-peer.{hub_key}/allowed-ips"), list("AllowedIPs")),
        ];
        for (key, expected) in expected {
            ensure!(profile.get(&key) == expected.as_ref(), "{name}: {key}");
        }
        let addresses = peer::addresses(&config);
        ensure!(addresses.len() == 2, "{name}: {addresses:?}");
        for address in addresses {
            let (family, length) = if address.is_ipv4() { ("ipv4", 32) } else { ("ipv6", 128) };
            let imported = profile.get(&format!("{family}/address1"));
            ensure!(imported == Some(&format!("{address}/{length}")), "{name}: {imported:?}");
            let expected = said(&config, "DNS").and_then(|dns| {
                let of_family = dns.split(", ").find(|entry| entry.contains(':') == address.is_ipv6())?;
                Some(format!("{of_family};"))
            });
            ensure!(profile.get(&format!("{family}/dns")) == expected.as_ref(), "{name}: {family}/dns");
        }
    }
    Ok(())
}
