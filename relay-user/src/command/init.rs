//! `relay init`: a first configuration and a private key, and never over others.

use std::{
    io::{self, BufRead as _, IsTerminal as _, Read as _},
    net::{Ipv4Addr, Ipv6Addr, SocketAddr},
    path::Path,
};

use anyhow::{Context as _, Result};
use ipnet::{IpNet, Ipv4Net, Ipv6Net};

use super::{first::First, surroundings, warn};
use crate::{
    cli::{Files, InitArgs, Subnet6},
    config::{self, HostNetwork, prefix},
    failure::Failure,
    kernel::netlink::Uplink,
};

/// What the host says of itself.
struct Host {
    networks: Vec<HostNetwork>,
    uplink: Option<Uplink>,
    ipv6: bool,
    /// The global identifier of a new private subnet (RFC 4193 3.2).
    random: [u8; 5],
}

/// What is decided before anything is written.
#[derive(Debug, PartialEq, Eq)]
struct Choice {
    addresses: Vec<IpNet>,
    endpoint: String,
}

/// Decides, asks, writes.
///
/// # Errors
/// There is a configuration already, what peers dial cannot be found, or a file cannot be written.
pub async fn run(files: &Files, args: &InitArgs) -> Result<()> {
    let path = &files.config;
    if path.symlink_metadata().is_ok() {
        return Err(exists(path).into());
    }
    if let Some(link) = surroundings::link(&args.interface).await?
        && !link.is_ours()
    {
        let message =
            format!("an interface {} exists on this host, and relay did not make it", args.interface);
        return Err(Failure::refused(message).hint("choose another name: `--interface wg1`").into());
    }
    let host = Host {
        networks: surroundings::networks().await?,
        uplink: surroundings::uplink().await?,
        ipv6: surroundings::has_ipv6(),
        random: random().context("cannot read /dev/urandom")?,
    };
    let choice = choose(args, &host)?;
    let manage = match args.manage_firewall {
        Some(manage) => manage,
        None => ask_about_firewall().context("cannot read the answer")?,
    };
    let first = First {
        path,
        interface: &args.interface,
        networks: &host.networks,
        text: &text(args, &choice, manage),
        act: "this would be no valid configuration",
    };
    let config = first.write(|| exists(path))?;
    warn(&config);
    eprintln!("peers will dial {}, UDP port {} of this host", choice.endpoint, args.listen_port);
    eprintln!("hint: `relay up` starts the hub; `relay peer add home --lan 192.168.40.0/24` adds a home");
    Ok(())
}

fn exists(path: &Path) -> Failure {
    Failure::refused(format!("{} exists already", path.display()))
        .hint("edit it, or add to it with `relay peer add`; an existing configuration is never overwritten")
}

fn choose(args: &InitArgs, host: &Host) -> Result<Choice, Failure> {
    let endpoint = match &args.endpoint {
        Some(endpoint) => config::host_and_port(endpoint, args.listen_port)
            .map_err(|error| Failure::refused(format!("--endpoint: {error}")))?,
        None => detected_endpoint(args.listen_port, host.uplink.as_ref())?,
    };
    let mut addresses = vec![match args.subnet {
        Some(subnet) => IpNet::V4(first_host(subnet)),
        None => free_subnet(&host.networks).ok_or_else(|| {
            Failure::refused("every subnet 10.x.0.0/24 is in use on this host")
                .hint("choose one: `--subnet CIDR`")
        })?,
    }];
    match args.subnet6 {
        Some(Subnet6::None) => {}
        Some(Subnet6::Net(subnet)) => addresses.push(IpNet::V6(first_host6(subnet))),
        None if host.ipv6 => addresses.push(private_subnet6(host.random)),
        None => {}
    }
    Ok(Choice { addresses, endpoint })
}

fn detected_endpoint(port: u16, uplink: Option<&Uplink>) -> Result<String, Failure> {
    if let Some(address) = uplink.and_then(surroundings::public_address) {
        return Ok(SocketAddr::new(address, port).to_string());
    }
    let message = match uplink {
        Some(Uplink { interface, addresses, .. }) if !addresses.is_empty() => {
            let addresses: Vec<String> = addresses.iter().map(ToString::to_string).collect();
            format!("{interface} has no public address that peers could dial, only {}", addresses.join(", "))
        }
        Some(Uplink { interface, .. }) => format!("{interface} has no address that peers could dial"),
        None => "this host has no default route, so what peers dial cannot be found".to_owned(),
    };
    let hint = format!(
        "say what they dial, `relay init --endpoint HOST[:PORT]`: the public name or address of this host, or of the \
         router that forwards UDP port {port} to it"
    );
    Err(Failure::refused(message).hint(hint))
}

/// 10.9.0.0/24, or the next subnet of that form that the host is not in.
fn free_subnet(networks: &[HostNetwork]) -> Option<IpNet> {
    (9..=255)
        .chain(0..9)
        .map(|second| IpNet::V4(Ipv4Net::new_assert(Ipv4Addr::new(10, second, 0, 1), 24)))
        .find(|candidate| {
            networks.iter().all(|(_, net)| net.prefix_len() == 0 || !prefix::overlap(*net, *candidate))
        })
}

/// RFC 4193: fd, forty random bits, subnet 0.
fn private_subnet6([a, b, c, d, e]: [u8; 5]) -> IpNet {
    let [p, q, r] = [[0xfd, a], [b, c], [d, e]].map(u16::from_be_bytes);
    IpNet::V6(Ipv6Net::new_assert(Ipv6Addr::new(p, q, r, 0, 0, 0, 0, 1), 64))
}

/// The hub's address: the one that was given with the subnet, else its first host.
fn first_host(subnet: Ipv4Net) -> Ipv4Net {
    if subnet.addr() != subnet.network() || subnet.prefix_len() >= 31 {
        return subnet;
    }
    let first = Ipv4Addr::from(u32::from(subnet.network()) + 1);
    Ipv4Net::new_assert(first, subnet.prefix_len())
}

fn first_host6(subnet: Ipv6Net) -> Ipv6Net {
    if subnet.addr() != subnet.network() || subnet.prefix_len() >= 127 {
        return subnet;
    }
    let first = Ipv6Addr::from(u128::from(subnet.network()) + 1);
    Ipv6Net::new_assert(first, subnet.prefix_len())
}

fn text(args: &InitArgs, choice: &Choice, manage: bool) -> String {
    let addresses: Vec<String> = choice.addresses.iter().map(|net| format!("\"{net}\"")).collect();
    format!(
        r#"# The one file that says what this hub shall be. Edit it and run `relay reload`, or use `relay peer`.

[interface]
name = "{name}"
listen_port = {port}
# The hub's own addresses in the tunnel, with the length of each subnet's prefix; peers get theirs from these subnets.
addresses = [{addresses}]
# Beside this file, mode 0600.
private_key_file = "{name}.key"
# What peers dial.
endpoint = "{endpoint}"
# mtu = {mtu}
# "kernel" or "userspace" insists on that WireGuard; "auto" takes the kernel's where there is one.
# backend = "auto"
# "auto" uses eBPF only where this host's firewall leaves traffic between peers alone; "always" overrides it; or "off".
# fast_path = "auto"

[firewall]
# Whether relay opens this host's firewall where it is in the way; otherwise `relay status` says what to run.
manage = {manage}
# Who besides the peers may open connections into the tunnel: interfaces or prefixes.
# allow_from = ["eth1", "198.51.100.0/24"]

# `relay peer add NAME [--lan CIDR]…` appends a [[peer]] and prints the configuration for that machine.
"#,
        name = args.interface,
        port = args.listen_port,
        addresses = addresses.join(", "),
        endpoint = choice.endpoint,
        mtu = config::DEFAULT_MTU,
    )
}

/// Asks a person; whoever cannot be asked has not agreed.
fn ask_about_firewall() -> io::Result<bool> {
    let stdin = io::stdin();
    if !stdin.is_terminal() {
        return Ok(false);
    }
    eprint!("May relay open this host's firewall where it is in the way of the hub? [y/N] ");
    let mut answer = String::new();
    stdin.lock().read_line(&mut answer)?;
    Ok(matches!(answer.trim().to_ascii_lowercase().as_str(), "y" | "yes"))
}

fn random() -> io::Result<[u8; 5]> {
    let mut bytes = [0; 5];
    std::fs::File::open("/dev/urandom")?.read_exact(&mut bytes)?;
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use std::net::IpAddr;

    use clap::Parser as _;

    use super::*;
    use crate::cli::{Cli, Command};

    fn args(more: &[&str]) -> InitArgs {
        match Cli::try_parse_from(["relay", "init"].iter().chain(more)).expect("a command line").command {
            Command::Init(args) => args,
            other => panic!("{other:?}"),
        }
    }

    fn host(uplink: &[&str], networks: &[&str]) -> Host {
        Host {
            networks: networks.iter().map(|net| ("eth0".to_owned(), net.parse().expect("net"))).collect(),
            uplink: Some(Uplink {
                interface: "eth0".to_owned(),
                index: 2,
                addresses: uplink
                    .iter()
                    .map(|address| address.parse().expect("address"))
                    .collect::<Vec<IpAddr>>(),
            }),
            ipv6: true,
            random: [0x52, 0x01, 0xa9, 0xbe, 0xef],
        }
    }

    fn chosen(more: &[&str], host: &Host) -> (String, Vec<String>) {
        let choice = choose(&args(more), host).unwrap_or_else(|failure| panic!("{failure}"));
        (choice.endpoint, choice.addresses.iter().map(ToString::to_string).collect())
    }

    #[test]
    fn a_public_uplink_needs_no_word() {
        let (endpoint, addresses) = chosen(&[], &host(&["203.0.113.7"], &["203.0.113.0/24", "0.0.0.0/0"]));
        assert_eq!(endpoint, "203.0.113.7:51820");
        assert_eq!(addresses, ["10.9.0.1/24", "fd52:1a9:beef::1/64"]);
    }

    #[test]
    fn a_private_uplink_asks_for_the_endpoint() {
        let private = host(&["10.0.0.5"], &["10.0.0.0/24"]);
        let failure = choose(&args(&["--listen-port", "443"]), &private).expect_err("private");
        assert_eq!(failure.to_string(), "eth0 has no public address that peers could dial, only 10.0.0.5");
        let (endpoint, _) = chosen(&["--endpoint", "vps.example.net", "--listen-port", "443"], &private);
        assert_eq!(endpoint, "vps.example.net:443");
        let nowhere = Host { uplink: None, ..private };
        assert!(choose(&args(&[]), &nowhere).expect_err("no route").to_string().contains("no default route"));
    }

    #[test]
    fn subnets_keep_out_of_the_hosts_networks() {
        let (_, addresses) = chosen(&[], &host(&["203.0.113.7"], &["10.9.0.0/16", "10.10.0.128/25"]));
        assert_eq!(addresses[0], "10.11.0.1/24");
        assert_eq!(free_subnet(&[("eth0".to_owned(), "10.0.0.0/8".parse().expect("net"))]), None);
        let given = ["--subnet", "10.77.0.0/16", "--subnet6", "fd00:77::/64"];
        let (_, addresses) = chosen(&given, &host(&["203.0.113.7"], &[]));
        assert_eq!(addresses, ["10.77.0.1/16", "fd00:77::1/64"]);
        let given = ["--subnet", "10.77.0.9/16", "--subnet6", "none"];
        let (_, addresses) = chosen(&given, &host(&["203.0.113.7"], &[]));
        assert_eq!(addresses, ["10.77.0.9/16"]);
    }
}
