//! A VPS with two hubs, a home and a phone at each, and what their packets meet.

use std::{fs, path::Path};

use anyhow::{Context as _, Result, ensure};
use relay_tests::{
    lab::peer,
    netns::{Netns, wait_for},
};
use relay_user::{kernel::wireguard, key::PrivateKey};

use crate::{
    DEADLINE,
    hub::Hub,
    wg_easy::{self, Client, Deployment},
};

/// The hub of wg-quick and its peers' last bytes.
pub(crate) const HUB: PrivateKey = PrivateKey::new([11; 32]);
pub(crate) const HOME: PrivateKey = PrivateKey::new([12; 32]);
pub(crate) const PHONE: PrivateKey = PrivateKey::new([13; 32]);
/// A peer that comes and goes.
pub(crate) const TABLET: PrivateKey = PrivateKey::new([14; 32]);

/// A host on the LAN behind each home.
pub(crate) const NAS: &str = "192.168.40.10";

/// wg-quick's file, as it grew; home has the LAN, unless the phone has. `more` are further peers.
pub(crate) fn grown(lan_at_home: bool, more: &str) -> String {
    let lan = |here: bool| if here { ", 192.168.40.0/24" } else { "" };
    format!(
        "# Since 2019. Ask Anna before you touch this!\n\
         [Interface]\n\
         Address = 10.6.0.1/24\n\
         ListenPort = 51820\n\
         PrivateKey = {}\n\
         #MTU = 1412\n\
         MTU = 1380\n\
         PostUp = iptables -A FORWARD -i %i -j ACCEPT; iptables -A FORWARD -o %i -j ACCEPT\n\
         PostUp = iptables -t nat -A POSTROUTING -o eth0 -j MASQUERADE\n\
         PostUp = sysctl -q -w net.ipv4.ip_forward=1\n\
         PostUp = sysctl -q -w net.ipv4.conf.all.send_redirects=0 net.ipv4.conf.%i.send_redirects=0\n\
         PostDown = iptables -D FORWARD -i %i -j ACCEPT; iptables -D FORWARD -o %i -j ACCEPT\n\
         PostDown = iptables -t nat -D POSTROUTING -o eth0 -j MASQUERADE\n\n\
         ### home (behind CGNAT)\n\
         [Peer]\n\
         PublicKey = {}\n\
         AllowedIPs = 10.6.0.2/32{}\n\n\
         [Peer] # phone\n\
         PublicKey = {}\n\
         AllowedIPs = 10.6.0.3/32{}\n{more}",
        HUB.expose_base64().as_str(),
        HOME.public_key(),
        lan(lan_at_home),
        PHONE.public_key(),
        lan(!lan_at_home),
    )
}

/// A further peer, which is said to be somewhere.
pub(crate) fn tablet() -> String {
    format!(
        "\n[Peer]\nPublicKey = {}\nAllowedIPs = 10.6.0.4/32\nEndpoint = 198.18.1.77:51820\n",
        TABLET.public_key()
    )
}

fn client(key: &PrivateKey, address: &str, hub: &str) -> String {
    format!(
        "[Interface]\nPrivateKey = {}\nAddress = {address}/24\nMTU = 1420\n\
         [Peer]\nPublicKey = {}\nAllowedIPs = 10.6.0.0/24, 192.168.40.0/24\nEndpoint = {hub}:51820\n\
         PersistentKeepalive = 25\n",
        key.expose_base64().as_str(),
        HUB.public_key()
    )
}

/// wg-easy's clients: a home whose LAN stands where people put it, and a phone.
pub(crate) fn deployment() -> Deployment {
    let home = Client::new("home", 2).with_lans(&["192.168.40.0/24"]);
    Deployment {
        hub: PrivateKey::new([1; 32]),
        host: "198.18.3.1",
        dns: &[],
        clients: vec![home, Client::new("Anna's phone (old)", 3)],
    }
}

/// The machines of one hub.
pub(crate) struct Pair {
    pub(crate) home: Netns,
    pub(crate) phone: Netns,
}

impl Pair {
    /// Both with a cable to `hub`, which is 198.18.`net`.1 and 198.18.`net + 1`.1 for them.
    fn new(hub: &Netns, net: u8) -> Result<Self> {
        let pair = Self { home: Netns::new("home")?, phone: Netns::new("phone")? };
        for (number, role, machine) in [(net, "home", &pair.home), (net + 1, "phone", &pair.phone)] {
            hub.cable(role, machine, "eth0")?;
            hub.run(&format!("ip addr add 198.18.{number}.1/24 dev {role}"))?;
            machine.run_all(&format!(
                "ip addr add 198.18.{number}.2/24 dev eth0
                 ip route add default via 198.18.{number}.1"
            ))?;
        }
        pair.home.run(&format!("ip addr add {NAS}/32 dev lo"))?;
        Ok(pair)
    }

    /// Waits until both ways are open, whatever carries them.
    pub(crate) fn connected(&self) -> Result<()> {
        wait_for("the phone to reach the home's LAN", DEADLINE, || {
            self.phone.run(&format!("ping -n -c 1 -W 1 {NAS}"))
        })
        .map(drop)
    }

    /// What comes of packets of the kinds that a router may get wrong, in words that tell no time.
    pub(crate) fn what_comes_of_packets(&self, net: &str) -> Result<Vec<String>> {
        let mut questions = vec![
            format!("-W 5 {net}.2"),
            format!("-W 5 {NAS}"),
            format!("-W 5 {net}.1"),
            // A hop short of the home, and none too few.
            format!("-W 5 -t 1 {NAS}"),
            format!("-W 5 -t 2 {NAS}"),
            // Longer than the hub's MTU, not to be cut; as long as that.
            format!("-W 5 -M do -s 1380 {NAS}"),
            format!("-W 5 -M do -s 1352 {NAS}"),
            // In fragments.
            format!("-W 5 -s 3000 {NAS}"),
        ];
        if self.phone.inside(has_kernel_wireguard)? {
            // Nobody's. A userspace WireGuard leaves it without an answer.
            questions.push(format!("-W 5 {net}.77"));
        }
        questions.iter().map(|question| self.what_comes_of(question)).collect()
    }

    /// One packet is enough, unless it is lost, or its answer is one too many for the kernel's limit on errors.
    fn what_comes_of(&self, question: &str) -> Result<String> {
        wait_for(&format!("an answer to ping {question}"), DEADLINE, || {
            // What was learned of the path's MTU would keep the packet at home.
            self.phone.run("ip route flush cache")?;
            let mut ping = self.phone.command("ping");
            let output = ping.args(["-n", "-c", "1"]).args(question.split(' ')).output()?;
            let text = String::from_utf8_lossy(&output.stdout).into_owned();
            let answer = text.lines().find(|line| line.contains("icmp_seq")).context("none")?;
            Ok(format!("ping {question}: {}", answer.split(" time").next().unwrap_or_default()))
        })
    }
}

fn has_kernel_wireguard() -> Result<bool> {
    Ok(wireguard::kernel_available().is_ok())
}

/// wg-quick's hub: the machine and its peers, all connected.
pub(crate) struct WgQuick {
    pub(crate) vps: Netns,
    pub(crate) pair: Pair,
}

impl WgQuick {
    pub(crate) fn new() -> Result<Self> {
        let vps = Netns::new("vps")?;
        let pair = Pair::new(&vps, 1)?;
        let this = Self { vps, pair };
        let hub = this.hub()?;
        let text = grown(true, "");
        this.vps.inside(|| {
            let folder = Path::new(hub.file).parent().map_or(Ok(()), fs::create_dir_all);
            Ok(folder.and_then(|()| fs::write(hub.file, text))?)
        })?;
        hub.wg_quick("up")?;
        peer::wg_quick_up(&this.pair.home, "wg0", &client(&HOME, "10.6.0.2", "198.18.1.1"))?;
        peer::wg_quick_up(&this.pair.phone, "wg0", &client(&PHONE, "10.6.0.3", "198.18.2.1"))?;
        this.pair.connected()?;
        Ok(this)
    }

    /// A userspace WireGuard's socket is where its mounts are, which both hubs share; so their names must differ.
    pub(crate) fn hub(&self) -> Result<Hub<'_>> {
        let kernel = self.vps.inside(has_kernel_wireguard)?;
        let (interface, file) =
            if kernel { ("wg0", "/run/quick/wg0.conf") } else { ("wg-old", "/run/quick/wg-old.conf") };
        Ok(Hub { vps: &self.vps, interface, file, container: None })
    }
}

/// wg-easy's hub: a container of the VPS, and its peers, all connected.
pub(crate) struct WgEasy {
    pub(crate) container: Netns,
    /// The container's first process.
    pub(crate) first: u32,
    pub(crate) pair: Pair,
}

impl WgEasy {
    pub(crate) fn new(vps: &Netns) -> Result<Self> {
        let container = Netns::new("container")?;
        let mut sleep = container.command("sleep");
        let first = container.spawn(sleep.arg("1000"))?;
        let pair = Pair::new(&container, 3)?;
        let this = Self { container, first, pair };
        let deployment = deployment();
        vps.inside(|| {
            fs::create_dir_all("/run/wg-easy")?;
            wg_easy::write_14(Path::new("/run/wg-easy"), &deployment);
            Ok(())
        })?;
        let hub = this.hub(vps);
        // What people give to Docker: `--sysctl net.ipv4.ip_forward=1`.
        hub.run("sysctl -qw net.ipv4.ip_forward=1")?;
        // As the kernel's WireGuard does by itself; a userspace one would have the hub redirect everybody.
        hub.run("sysctl -qw net.ipv4.conf.all.send_redirects=0 net.ipv4.conf.default.send_redirects=0")?;
        wait_for("the container's process to be in it", DEADLINE, || {
            ensure!(hub.run("ip address show dev phone")?.contains("198.18.4.1"), "it is elsewhere");
            Ok(())
        })?;
        hub.wg_quick("up")?;
        let hosts = ["198.18.3.1", "198.18.4.1"];
        for ((machine, client), host) in
            [&this.pair.home, &this.pair.phone].into_iter().zip(&deployment.clients).zip(hosts)
        {
            let deployment = Deployment { host, ..self::deployment() };
            peer::wg_quick_up(machine, "wg0", &wg_easy::client_file_14(&deployment, client))?;
            // With keepalive 0, nobody is heard of before he speaks.
            wait_for("the hub to answer", DEADLINE, || machine.run("ping -n -c 1 -W 1 10.8.0.1"))?;
        }
        this.pair.connected()?;
        Ok(this)
    }

    pub(crate) fn hub<'a>(&self, vps: &'a Netns) -> Hub<'a> {
        Hub { vps, interface: "wg0", file: "/run/wg-easy/wg0.conf", container: Some(self.first) }
    }
}
