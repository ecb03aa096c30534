//! From the file as written to what it means: every default resolved, every clash refused with both names.
//!
//! Nothing here reads anything but its arguments; key files come through a function that is passed in.

use std::{
    collections::BTreeSet,
    io,
    ops::Range,
    path::{Path, PathBuf},
};

use ipnet::IpNet;
use serde_spanned::Spanned;

use super::{
    Config, HostNetwork, Warning,
    endpoint::host_and_port,
    error::{ConfigErrors, Problems},
    peers,
    prefix::{is_reserved_in, overlap, reserved},
    secret::Secret,
    written::{
        DEFAULT_INTERFACE, DEFAULT_LISTEN_PORT, DEFAULT_MTU, FirewallWritten, InterfaceWritten, Written,
    },
};
use crate::{
    desired::{AllowFrom, Desired, Firewall},
    key::PrivateKey,
    name::InterfaceName,
};

/// The least that IPv6 asks of a link (RFC 8200 5).
const MIN_MTU_V6: u32 = 1280;
/// What every IPv4 host must be able to take (RFC 791 3.2).
const MIN_MTU_V4: u32 = 576;
/// 65,536 less what WireGuard keeps for its headers; the kernel refuses more (`MESSAGE_MINIMUM_LENGTH` and friends,
/// drivers/net/wireguard/device.c).
const MAX_MTU: u32 = 65456;

/// How a key file is read.
pub(super) type ReadSecret<'a> = &'a dyn Fn(&Path) -> io::Result<Secret>;

/// What every check needs.
pub(super) struct Context<'a> {
    pub(super) problems: Problems<'a>,
    pub(super) warnings: Vec<Warning>,
    pub(super) folder: &'a Path,
    pub(super) read: ReadSecret<'a>,
    /// The networks of the host, the tunnel's own and default routes left out.
    pub(super) host_networks: Vec<&'a HostNetwork>,
}

/// What the peers are checked against.
pub(super) struct Hub {
    pub(super) name: InterfaceName,
    pub(super) addresses: Vec<(IpNet, Range<usize>)>,
    pub(super) private_key: Option<PrivateKey>,
}

/// The meaning of `written`, which was read from `text`, which was read from `path`.
pub(super) fn mean(
    path: &Path,
    text: &str,
    written: Written,
    host_networks: &[HostNetwork],
    read: ReadSecret<'_>,
) -> Result<Config, ConfigErrors> {
    let interface = written.interface.get_ref();
    let mut context = Context {
        problems: Problems::new(path, text),
        warnings: Vec::new(),
        folder: path.parent().unwrap_or(Path::new("")),
        read,
        host_networks: Vec::new(),
    };

    let name = interface_name(&mut context, interface);
    let own_name = name.clone();
    context.host_networks = host_networks
        .iter()
        .filter(|(of, net)| own_name.as_ref().is_some_and(|own| own.as_str() != of) && net.prefix_len() > 0)
        .collect();
    let listen_port = listen_port(&mut context, interface);
    let addresses = hub_addresses(&mut context, &interface.addresses);
    let mtu = mtu(&mut context, interface, addresses.iter().any(|(net, _)| net.addr().is_ipv6()));
    let endpoint = hub_endpoint(&mut context, interface, listen_port, &addresses);
    let private_key =
        name.as_ref().and_then(|name| private_key(&mut context, interface, name, written.interface.span()));
    let firewall = firewall(&mut context, &written.firewall, name.as_ref());

    let hub = name.map(|name| Hub { name, addresses, private_key });
    let peers = hub.as_ref().map(|hub| peers::mean(&mut context, hub, &written.peers));

    let desired = hub.zip(peers).and_then(|(hub, peers)| {
        let desired = Desired {
            interface: hub.name,
            backend: interface.backend,
            listen_port,
            mtu,
            addresses: hub.addresses.into_iter().map(|(net, _)| net).collect(),
            private_key: hub.private_key?,
            endpoint,
            fast_path: interface.fast_path,
            firewall,
            peers: peers.enabled,
        };
        Some((desired, peers.disabled))
    });
    let (desired, disabled) = context.problems.finish(desired)?;
    Ok(Config { path: path.to_owned(), written, desired, disabled, warnings: context.warnings })
}

fn interface_name(context: &mut Context<'_>, interface: &InterfaceWritten) -> Option<InterfaceName> {
    let (text, span) = match &interface.name {
        Some(name) => (name.get_ref().as_str(), name.span()),
        None => (DEFAULT_INTERFACE, 0..0),
    };
    text.parse().map_err(|error| context.problems.refuse(span, format!("{error}"))).ok()
}

fn listen_port(context: &mut Context<'_>, interface: &InterfaceWritten) -> u16 {
    let Some(written) = &interface.listen_port else { return DEFAULT_LISTEN_PORT };
    match u16::try_from(*written.get_ref()) {
        Ok(port) if port != 0 => port,
        _ => {
            let message = format!("listen_port {} is not a port: 1 to 65535", written.get_ref());
            context.problems.refuse(written.span(), message);
            DEFAULT_LISTEN_PORT
        }
    }
}

fn mtu(context: &mut Context<'_>, interface: &InterfaceWritten, ipv6: bool) -> u32 {
    let Some(written) = &interface.mtu else { return DEFAULT_MTU };
    let (least, why) = match ipv6 {
        true => (MIN_MTU_V6, "the least for a tunnel with IPv6 addresses"),
        false => (MIN_MTU_V4, "the least that every host takes"),
    };
    match u32::try_from(*written.get_ref()) {
        Ok(mtu) if (least..=MAX_MTU).contains(&mtu) => mtu,
        Ok(mtu) if mtu > MAX_MTU => {
            let message = format!("mtu {mtu} is above {MAX_MTU}, the most that WireGuard carries");
            context.problems.refuse(written.span(), message);
            DEFAULT_MTU
        }
        _ => {
            let message = format!("mtu {} is below {least}, {why}", written.get_ref());
            context.problems.refuse(written.span(), message);
            DEFAULT_MTU
        }
    }
}

fn hub_addresses(
    context: &mut Context<'_>,
    written: &Spanned<Vec<Spanned<String>>>,
) -> Vec<(IpNet, Range<usize>)> {
    let mut addresses: Vec<(IpNet, Range<usize>)> = Vec::new();
    if written.get_ref().is_empty() {
        context.problems.refuse_with_hint(
            written.span(),
            "the interface has no address",
            "give it one in a private subnet: `addresses = [\"10.9.0.1/24\"]`",
        );
    }
    for entry in written.get_ref() {
        if let Some(net) = hub_address(context, entry, &addresses) {
            addresses.push((net, entry.span()));
        }
    }
    addresses
}

fn hub_address(
    context: &mut Context<'_>,
    entry: &Spanned<String>,
    earlier: &[(IpNet, Range<usize>)],
) -> Option<IpNet> {
    let (text, span) = (entry.get_ref(), entry.span());
    let problems = &mut context.problems;
    let Ok(net) = text.parse::<IpNet>() else {
        let message = format!("`{}` is not an address with a prefix length", text.escape_debug());
        let example = match text.parse() {
            Ok(std::net::IpAddr::V4(address)) => format!("{address}/24"),
            Ok(std::net::IpAddr::V6(address)) => format!("{address}/64"),
            Err(_) => "10.9.0.1/24".to_owned(),
        };
        problems.refuse_with_hint(span, message, format!("write such as {example}"));
        return None;
    };
    if let Some((range, why)) = reserved(net) {
        problems.refuse(span, format!("the interface's subnet {} is in {range} ({why})", net.trunc()));
        return None;
    }
    if let Some(what) = is_reserved_in(net, net.addr()) {
        let message = format!("{} is {what} of {}, not a machine's", net.addr(), net.trunc());
        problems.refuse(span, message);
        return None;
    }
    if let Some((other, at)) = earlier.iter().find(|(other, _)| overlap(*other, net)) {
        let message =
            format!("the interface's subnets {net} and {other} (line {}) overlap", problems.line(at));
        problems.refuse_with_hint(span, message, "one address per subnet");
        return None;
    }
    if let Some((interface, host)) = context.host_networks.iter().find(|(_, host)| overlap(*host, net)) {
        let message = format!(
            "the tunnel's subnet {} overlaps {} of {interface} on this host",
            net.trunc(),
            host.trunc()
        );
        problems.refuse_with_hint(span, message, "choose a subnet that is in use nowhere near");
        return None;
    }
    Some(net)
}

fn hub_endpoint(
    context: &mut Context<'_>,
    interface: &InterfaceWritten,
    listen_port: u16,
    addresses: &[(IpNet, Range<usize>)],
) -> Option<String> {
    let written = interface.endpoint.as_ref()?;
    let endpoint = match host_and_port(written.get_ref(), listen_port) {
        Ok(endpoint) => endpoint,
        Err(error) => {
            let message = format!("endpoint: {error}");
            context.problems.refuse_with_hint(written.span(), message, "write such as vps.example.net:51820");
            return None;
        }
    };
    let address = endpoint.parse::<std::net::SocketAddr>().ok().map(|address| address.ip());
    if let Some((net, at)) =
        addresses.iter().find(|(net, _)| address.is_some_and(|address| net.contains(&address)))
    {
        let message = format!(
            "endpoint {endpoint} is inside of the tunnel's own subnet {} (line {})",
            net.trunc(),
            context.problems.line(at)
        );
        let hint = "it is what peers dial from outside: the public address or name of this host";
        context.problems.refuse_with_hint(written.span(), message, hint);
    }
    Some(endpoint)
}

fn private_key(
    context: &mut Context<'_>,
    interface: &InterfaceWritten,
    name: &InterfaceName,
    header: Range<usize>,
) -> Option<PrivateKey> {
    let (file, span) = match &interface.private_key_file {
        Some(file) => (PathBuf::from(file.get_ref()), file.span()),
        None => (PathBuf::from(format!("{name}.key")), header),
    };
    key_file(context, &file, span, "private_key_file", "`relay init` makes one")
}

/// Reads a key file named in the configuration.
pub(super) fn key_file<K: std::str::FromStr<Err = crate::key::KeyError>>(
    context: &mut Context<'_>,
    file: &Path,
    span: Range<usize>,
    key: &str,
    when_missing: &str,
) -> Option<K> {
    if file.to_str().is_some_and(|text| text.parse::<K>().is_ok()) {
        let message = format!("{key} holds a key itself instead of the name of a file");
        let hint = "put the key into a file of mode 0600 beside this one, and its name here";
        context.problems.refuse_with_hint(span, message, hint);
        return None;
    }
    let path = context.folder.join(file);
    let secret = match (context.read)(&path) {
        Ok(secret) => secret,
        Err(error) => {
            let message = format!("{key}: cannot read {}: {error}", path.display());
            match error.kind() {
                io::ErrorKind::NotFound => context.problems.refuse_with_hint(span, message, when_missing),
                io::ErrorKind::PermissionDenied => {
                    context.problems.refuse_with_hint(span, message, "run this as root");
                }
                _ => context.problems.refuse(span, message),
            }
            return None;
        }
    };
    if secret.is_exposed() {
        context.warnings.push(Warning(format!(
            "{}: others than its owner may read this key (mode {:04o}); `chmod 600 {}`",
            path.display(),
            secret.mode,
            path.display()
        )));
    }
    match secret.text.parse() {
        Ok(key) => Some(key),
        Err(error) => {
            context.problems.refuse(span, format!("{key}: {}: {error}", path.display()));
            None
        }
    }
}

fn firewall(
    context: &mut Context<'_>,
    written: &FirewallWritten,
    own_name: Option<&InterfaceName>,
) -> Firewall {
    let mut allow_from = BTreeSet::new();
    for entry in &written.allow_from {
        match read_allow_from(entry.get_ref(), own_name) {
            Ok(allowed) => {
                allow_from.insert(allowed);
            }
            Err(message) => context.problems.refuse(entry.span(), format!("allow_from: {message}")),
        }
    }
    Firewall { manage: written.manage, allow_from }
}

fn read_allow_from(text: &str, own_name: Option<&InterfaceName>) -> Result<AllowFrom, String> {
    let prefix = text.parse::<IpNet>().or_else(|_| text.parse::<std::net::IpAddr>().map(IpNet::from));
    if let Ok(prefix) = prefix {
        if prefix != prefix.trunc() {
            return Err(format!("{prefix} has host bits set; the network is {}", prefix.trunc()));
        }
        return Ok(AllowFrom::Prefix(prefix));
    }
    let interface = text
        .parse::<InterfaceName>()
        .map_err(|_| format!("`{}` is neither a prefix nor an interface", text.escape_debug()))?;
    if Some(&interface) == own_name {
        return Err(format!("{interface} is the tunnel itself, whose peers reach one another anyway"));
    }
    Ok(AllowFrom::Interface(interface))
}
