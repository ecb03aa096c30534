//! `relay join`: makes this machine a home of the hub that printed the line, and prints the line that the hub needs.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::IpAddr,
    path::Path,
};

use anyhow::Result;
use ipnet::IpNet;
use serde::Serialize;
use toml_edit::Value;

use super::{first::First, print, print_json, surroundings, warn};
use crate::{
    cli::{Files, JoinArgs},
    config::{self, Config, HostNetwork},
    failure::Failure,
    host::lan_addresses,
    invitation::{Approval, Invitation, Line as _},
    kernel::netlink::Netlink,
    lan,
};

/// What `relay join --json` prints. The names are a promise to scripts.
#[derive(Serialize)]
struct View<'a> {
    name: &'a str,
    addresses: Vec<String>,
    lans: Vec<String>,
    /// The line for `relay peer approve`.
    approval: &'a str,
    /// What to run on the hub.
    command: &'a str,
    /// What to add to the LAN's router, where nothing is masqueraded.
    routes_for_router: Vec<String>,
}

/// What this machine says of the LANs.
struct Lans {
    interfaces: BTreeMap<IpNet, String>,
    addresses: BTreeMap<IpNet, IpAddr>,
}

/// Checks, makes the key, writes the file, prints the answer.
///
/// # Errors
/// The line is no invitation, there is another configuration, no LAN of the invitation is here, or a file cannot be
/// written.
pub async fn run(files: &Files, args: &JoinArgs) -> Result<()> {
    let invitation =
        Invitation::from_line(&args.line.join(" ")).map_err(|error| Failure::refused(error.to_string()))?;
    let path = &files.config;
    let networks = surroundings::networks().await?;
    let config = if path.symlink_metadata().is_ok() {
        let config = joined(path, &networks, args, &invitation)?;
        eprintln!("{} is of this invitation already; nothing was written", path.display());
        config
    } else {
        if let Some(link) = surroundings::link(&args.interface).await?
            && !link.is_ours()
        {
            let message =
                format!("an interface {} exists on this machine, and relay did not make it", args.interface);
            return Err(Failure::refused(message).hint("choose another name: `--interface wg1`").into());
        }
        are_here(&invitation, &here(&invitation, args.interface.as_str()).await?)?;
        let text = text(args, &invitation, surroundings::has_ipv6());
        let first = First {
            path,
            interface: &args.interface,
            networks: &networks,
            text: &text,
            act: "this machine cannot be that home",
        };
        first.write(|| Failure::refused(format!("{} was made just now", path.display())))?
    };
    warn(&config);
    let here = here(&invitation, config.desired.interface.as_str()).await?;
    answer(args, &invitation, &config, &here)
}

/// The configuration that is there, if it is what this invitation made.
fn joined(path: &Path, networks: &[HostNetwork], args: &JoinArgs, invitation: &Invitation) -> Result<Config> {
    let other = || {
        Failure::refused(format!("{} exists already, and is not of this invitation", path.display()))
            .hint("`relay down` and move it away to join anew, or name another: `--config PATH`")
    };
    let config = config::load(path, networks)?;
    let home = config.desired.home().ok_or_else(other)?;
    let own = config.desired.addresses.iter().map(IpNet::addr);
    if home.hub != invitation.hub || !own.into_iter().all(|own| invitation.addresses.contains(&own)) {
        return Err(other().into());
    }
    let lans: BTreeSet<IpNet> = invitation.lans.iter().map(IpNet::trunc).collect();
    if home.lans != lans || (args.no_nat && home.nat) {
        let message =
            format!("{} exists already, and says another thing of this home's LANs", path.display());
        let lans = list(&invitation.lans);
        let nat = if args.no_nat { " and `nat = false`" } else { "" };
        let hint = format!("write `lans = [{lans}]`{nat} under [home] there, and try again");
        return Err(Failure::refused(message).hint(hint).into());
    }
    Ok(config)
}

async fn here(invitation: &Invitation, interface: &str) -> Result<Lans> {
    let netlink = Netlink::connect()?;
    let (routes, links) = (netlink.routes().await?, netlink.links().await?);
    let lans: BTreeSet<IpNet> = invitation.lans.iter().copied().collect();
    let interfaces = lan::interfaces(&lans, &routes, &links, interface);
    let addresses = lan_addresses(&netlink, &interfaces, &links).await?;
    Ok(Lans { interfaces, addresses })
}

/// A home whose LANs are all elsewhere is the wrong machine; of several, some may come later.
fn are_here(invitation: &Invitation, here: &Lans) -> Result<(), Failure> {
    let missing: Vec<String> = invitation
        .lans
        .iter()
        .filter(|lan| !here.interfaces.contains_key(*lan))
        .map(ToString::to_string)
        .collect();
    if missing.is_empty() {
        return Ok(());
    }
    if missing.len() == invitation.lans.len() {
        let message = format!("no interface of this machine leads to {}", missing.join(" or "));
        let hint = "run this on a machine in that network, or invite with the LAN that is here, as `ip route` shows it";
        return Err(Failure::refused(message).hint(hint));
    }
    for lan in missing {
        eprintln!(
            "warning: no interface of this machine leads to {lan}, so nobody will reach it through here"
        );
    }
    Ok(())
}

fn text(args: &JoinArgs, invitation: &Invitation, ipv6: bool) -> String {
    let usable = |is_ipv4: bool| is_ipv4 || ipv6;
    let addresses =
        invitation.addresses.iter().filter(|address| usable(address.is_ipv4())).copied().map(IpNet::from);
    let allowed = invitation.allowed.iter().filter(|net| usable(net.addr().is_ipv4()));
    let mtu = match invitation.mtu {
        config::DEFAULT_MTU => format!("# mtu = {}", config::DEFAULT_MTU),
        mtu => format!("mtu = {mtu}"),
    };
    format!(
        r#"# The one file that says what this home shall be: "{name}" to its hub. Edit it and run `relay reload`.

[interface]
name = "{interface}"
# What the hub has given to this machine.
addresses = [{addresses}]
# Beside this file, mode 0600.
private_key_file = "{interface}.key"
{mtu}
# "kernel" or "userspace" insists on that WireGuard; "auto" takes the kernel's where there is one.
# backend = "auto"

[hub]
public_key = "{hub}"
# Where it is dialled. A name is looked up again when the hub falls silent.
endpoint = {endpoint}
# What goes through the tunnel: its subnets. Add the LANs of other homes to reach them from here.
allowed = [{allowed}]
# Seconds from keepalive to keepalive, by which the router on the way remembers this machine; 0 for none.
# keepalive = 25

[home]
# What is reached through this machine.
lans = [{lans}]
# Whether the LANs see this machine's address in place of the peers'. If not, their router needs a route, which
# `relay status` names.
nat = {nat}

[firewall]
# Whether relay opens this machine's firewall where it is in the way; otherwise `relay status` says what to run.
manage = false
# Who besides the LANs may open connections into the tunnel: interfaces or prefixes.
# allow_from = ["eth1", "198.51.100.0/24"]
"#,
        name = invitation.name,
        interface = args.interface,
        addresses = list(addresses),
        hub = invitation.hub,
        // Somebody else's text, which must not end the value.
        endpoint = Value::from(invitation.endpoint.as_str()),
        allowed = list(allowed),
        lans = list(&invitation.lans),
        nat = !args.no_nat,
    )
}

fn list(nets: impl IntoIterator<Item = impl std::fmt::Display>) -> String {
    nets.into_iter().map(|net| format!("\"{net}\"")).collect::<Vec<_>>().join(", ")
}

fn answer(args: &JoinArgs, invitation: &Invitation, config: &Config, here: &Lans) -> Result<()> {
    let approval = Approval {
        name: invitation.name.clone(),
        public_key: config.desired.private_key.public_key(),
        token: invitation.token.clone(),
    };
    let line = approval.to_line();
    let command = format!("relay peer approve {line}");
    let nat = config.desired.home().is_none_or(|home| home.nat);
    let beyond: BTreeSet<IpNet> =
        config.desired.peers.values().flat_map(crate::desired::Peer::allowed_ips).collect();
    let routes: Vec<String> = match nat {
        true => Vec::new(),
        false => lan::routes_for_router(&beyond, &here.addresses)
            .iter()
            .map(|(net, via)| format!("{net} via {via}"))
            .collect(),
    };
    if args.json {
        print_json(&View {
            name: invitation.name.as_str(),
            addresses: config.desired.addresses.iter().map(|address| address.addr().to_string()).collect(),
            lans: invitation.lans.iter().map(ToString::to_string).collect(),
            approval: &line,
            command: &command,
            routes_for_router: routes.clone(),
        })?;
    } else {
        print(&format!("{command}\n"))?;
    }
    for route in &routes {
        eprintln!("add to the LAN's router: {route}");
    }
    if jiff::Timestamp::now().as_second() >= invitation.expires {
        eprintln!(
            "warning: by this machine's clock the invitation has expired; the hub will ask for a new one"
        );
    }
    eprintln!("hint: run that line on the hub, and `relay up` here");
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        config::secret,
        invitation::Token,
        key::{PrivateKey, PublicKey},
    };

    fn invitation() -> Invitation {
        Invitation {
            name: "home".parse().expect("name"),
            hub: PublicKey::new([1; 32]),
            endpoint: "vps.example.net:51820".to_owned(),
            addresses: ["10.9.0.2", "fd52:1a9::2"].map(|ip| ip.parse().expect("ip")).to_vec(),
            lans: ["192.168.40.0/24", "fd00:40::/64"].map(|net| net.parse().expect("net")).to_vec(),
            allowed: ["10.9.0.0/24", "fd52:1a9::/64"].map(|net| net.parse().expect("net")).to_vec(),
            mtu: 1420,
            expires: 0,
            token: Token::generate().expect("token"),
        }
    }

    fn args(no_nat: bool) -> JoinArgs {
        JoinArgs { line: Vec::new(), no_nat, interface: "wg0".parse().expect("name"), json: false }
    }

    fn understood(text: &str) -> Result<Config, config::ConfigErrors> {
        let read =
            |_: &Path| Ok(secret::Secret { text: PrivateKey::new([7; 32]).expose_base64(), mode: 0o600 });
        let networks = [("eth0".to_owned(), "192.168.40.2/24".parse().expect("net"))];
        config::parse_with(Path::new("relay.toml"), text, &networks, &read)
    }

    #[test]
    fn what_is_written_is_what_was_invited() {
        let invitation = invitation();
        for (no_nat, ipv6) in [(false, true), (true, false)] {
            let config = understood(&text(&args(no_nat), &invitation, ipv6)).expect("accepted");
            let home = config.desired.home().expect("a home");
            assert_eq!((home.hub, home.nat), (invitation.hub, !no_nat));
            assert_eq!(home.endpoint, invitation.endpoint);
            assert_eq!(home.lans, invitation.lans.iter().copied().collect());
            let hub = &config.desired.peers[&invitation.hub];
            assert_eq!((hub.keepalive, config.desired.peers.len()), (Some(25), 1));
            let count = 1 + usize::from(ipv6);
            assert_eq!((config.desired.addresses.len(), hub.lans.len()), (count, count));
        }
    }

    #[test]
    fn an_invitation_says_nothing_but_its_values() {
        let endpoint = "x\"\nbackend = \"userspace\"\n#".to_owned();
        let evil = Invitation { endpoint, ..invitation() };
        let errors = understood(&text(&args(false), &evil, true)).expect_err("no endpoint").to_string();
        assert!(errors.contains("is neither an IP address nor a host name"), "{errors}");
        let allowed = vec!["0.0.0.0/0".parse().expect("net")];
        let greedy = Invitation { allowed, ..invitation() };
        let errors = understood(&text(&args(false), &greedy, true)).expect_err("everything").to_string();
        assert!(errors.contains("allowed 0.0.0.0/0 is the whole internet"), "{errors}");
    }

    #[test]
    fn the_wrong_machine_is_told() {
        let lans = |list: &[&str]| Lans {
            interfaces: list.iter().map(|net| (net.parse().expect("net"), "eth0".to_owned())).collect(),
            addresses: BTreeMap::new(),
        };
        let invitation = invitation();
        let failure = are_here(&invitation, &lans(&[])).expect_err("nowhere").to_string();
        assert_eq!(failure, "no interface of this machine leads to 192.168.40.0/24 or fd00:40::/64");
        assert!(are_here(&invitation, &lans(&["192.168.40.0/24"])).is_ok(), "the other may come");
        assert!(are_here(&Invitation { lans: Vec::new(), ..invitation }, &lans(&[])).is_ok());
    }
}
