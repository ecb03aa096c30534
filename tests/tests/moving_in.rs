//! Moving in from wg-easy: one command, then the clients' own files as they are.
//!
//! The clients are wg-quick with the files that wg-easy gave out: everything into the tunnel, keepalive 0. The home's
//! server forwards and masquerades as its owner set it up long ago.

#[path = "../../relay-user/tests/import/wg_easy.rs"]
mod wg_easy;

use std::{net::IpAddr, path::Path, time::Duration};

use anyhow::{Context as _, Result, ensure};
use relay_tests::{
    lab::{Relay, UDP_TIMEOUT, World, echo, peer, relay, web, world},
    netns::{Netns, wait_for},
};
use wg_easy::{Client, Deployment};

/// Where the volume of wg-easy is on the VPS.
const SOURCE: &str = "/run/wg-easy";
/// The hub's addresses, as wg-easy gives them.
const HUB: [&str; 2] = ["10.8.0.1", "fdcc:ad94:bacf:61a4::cafe:1"];
/// Handshakes take 1 s on a busy machine and are repeated after 5 s.
const DEADLINE: Duration = Duration::from_secs(40);

/// How long one fetch may take before it is tried again; it takes 10 ms.
const PATIENCE: Duration = Duration::from_secs(5);

/// The five clients, each on its machine: home and phone of the picture, three more on the open internet.
struct Clients {
    others: Vec<Netns>,
}

impl Clients {
    fn new(world: &World) -> Result<Self> {
        let mut others = Vec::new();
        for (number, role) in (1..).zip(["laptop", "old", "tablet"]) {
            let machine = Netns::new(role)?;
            world.internet.cable(role, &machine, "eth0")?;
            world.internet.run(&format!("ip addr add 198.18.{number}.1/24 dev {role}"))?;
            machine.run_all(&format!(
                "ip addr add 198.18.{number}.2/24 dev eth0
                 ip route add default via 198.18.{number}.1"
            ))?;
            others.push(machine);
        }
        Ok(Self { others })
    }

    /// In the order of the deployment.
    fn machines<'a>(&'a self, world: &'a World) -> Vec<&'a Netns> {
        [&world.home, &world.phone].into_iter().chain(&self.others).collect()
    }
}

/// Imports what `write` makes, starts relay, and lets every client use the file that `file` gives it.
fn moves_in(
    write: impl FnOnce(&Path, &Deployment) + Send,
    file: impl Fn(&Deployment, &Client) -> String,
    addresses: impl Fn(&Client) -> Vec<String>,
) -> Result<()> {
    let world = World::new(UDP_TIMEOUT)?;
    let clients = Clients::new(&world)?;
    let deployment = wg_easy::five_clients(world::VPS, &[]);
    home_of_old(&world)?;
    world.vps.inside(|| {
        std::fs::create_dir(SOURCE)?;
        write(Path::new(SOURCE), &deployment);
        Ok(())
    })?;
    let (mut relay, said) = Relay::import(&world.vps, &relay::binary()?, SOURCE)?;
    ensure!(said.contains("PersistentKeepalive = 25"), "nothing is said of the home's keepalive: {said}");
    relay.up()?;

    let machines = clients.machines(&world);
    for (machine, client) in machines.iter().zip(&deployment.clients) {
        peer::wg_quick_up(machine, "wg0", &file(&deployment, client))?;
    }
    everybody_reaches_everybody(&world, &machines, &deployment, &addresses)
        .inspect_err(|_| eprintln!("relay up said:\n{}", relay.log()))?;
    let stats = relay.stats()?;
    for client in &deployment.clients {
        stats.handshake(client.name)?;
    }
    // The five are the same for the kernel as for the file: nothing was added on the way.
    ensure!(stats.0["peers"].as_array().is_some_and(|peers| peers.len() == deployment.clients.len()));
    Ok(())
}

/// What the owner of the home set up when it was wg-easy's client.
fn home_of_old(world: &World) -> Result<()> {
    world.home.run("sysctl -qw net.ipv4.ip_forward=1")?;
    world.home.nft(
        "table ip old { chain postrouting { type nat hook postrouting priority 100; oifname \"lan\" masquerade; }; }",
    )
}

fn everybody_reaches_everybody(
    world: &World,
    machines: &[&Netns],
    deployment: &Deployment,
    addresses: &impl Fn(&Client) -> Vec<String>,
) -> Result<()> {
    let _echoes = machines.iter().map(|machine| echo::Echo::start(machine)).collect::<Result<Vec<_>>>()?;
    let _nas = echo::Echo::start(&world.nas)?;
    // With keepalive 0, each has to speak before anybody can reach it.
    for (machine, client) in machines.iter().zip(&deployment.clients) {
        for (hub, _) in HUB.iter().zip(addresses(client)) {
            wait_for("the hub to answer", DEADLINE, || machine.run(&format!("ping -n -c 1 -W 2 {hub}")))
                .with_context(|| format!("{} and its hub", client.name))?;
        }
    }
    let mut asked = 0;
    for (machine, from) in machines.iter().zip(&deployment.clients) {
        for to in deployment.clients.iter().filter(|to| to.number != from.number) {
            for address in addresses(to) {
                echo::ask(machine, address.parse::<IpAddr>()?, 3, 1000)
                    .with_context(|| format!("from {} to {}", from.name, to.name))?;
                asked += 1;
            }
        }
        if from.lans.is_empty() {
            echo::ask(machine, world::NAS4.parse()?, 3, 1000)
                .with_context(|| format!("from {} to the NAS", from.name))?;
        }
    }
    // All send everything into the tunnel; with wg-easy the internet saw the VPS, and so it does.
    let _server = web::Server::start(&world.internet, [])?;
    for (machine, client) in machines.iter().zip(&deployment.clients) {
        let seen = wait_for("the internet", DEADLINE, || web::who(machine, world::SERVER, PATIENCE))?;
        ensure!(seen == world::VPS, "the internet sees {} as {seen}", client.name);
    }
    println!("{asked} ways between five clients, four to the NAS, five to the internet");
    Ok(())
}

#[test]
fn from_wg_easy_14_without_touching_a_client() -> Result<()> {
    moves_in(wg_easy::write_14, wg_easy::client_file_14, |client| vec![client.v4()])
}

#[test]
fn from_wg_easy_15_without_touching_a_client() -> Result<()> {
    let [.., newest] = wg_easy::SCHEMAS;
    let write = |folder: &Path, deployment: &Deployment| {
        drop(wg_easy::write_15(&folder.join("wg-easy.db"), newest, deployment));
    };
    moves_in(write, wg_easy::client_file_15, |client| vec![client.v4(), client.v6()])
}
