//! `[interface]`: the hub itself, value by value.

use std::{ops::Range, path::PathBuf};

use ipnet::IpNet;
use serde_spanned::Spanned;

use super::{
    endpoint::host_and_port,
    meaning::{Context, key_file},
    prefix::{is_reserved_in, overlap, reserved},
    written::{DEFAULT_INTERFACE, DEFAULT_LISTEN_PORT, DEFAULT_MTU, InterfaceWritten},
};
use crate::{key::PrivateKey, name::InterfaceName};

/// The least that IPv6 asks of a link (RFC 8200 5).
pub(super) const MIN_MTU_V6: u32 = 1280;
/// What every IPv4 host must be able to take (RFC 791 3.2).
pub(super) const MIN_MTU_V4: u32 = 576;
/// 65,536 less the 80 bytes that WireGuard over IPv6 costs: the lengths of outer IP and UDP have 16 bits.
pub(super) const MAX_MTU: u32 = 65456;

pub(super) fn name(context: &mut Context<'_>, interface: &InterfaceWritten) -> Option<InterfaceName> {
    let (text, span) = match &interface.name {
        Some(name) => (name.get_ref().as_str(), name.span()),
        None => (DEFAULT_INTERFACE, 0..0),
    };
    text.parse().map_err(|error| context.problems.refuse(span, format!("{error}"))).ok()
}

pub(super) fn listen_port(context: &mut Context<'_>, interface: &InterfaceWritten) -> u16 {
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

pub(super) fn mtu(context: &mut Context<'_>, interface: &InterfaceWritten, ipv6: bool) -> u32 {
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

pub(super) fn addresses(
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
        if let Some(net) = address(context, entry, &addresses) {
            addresses.push((net, entry.span()));
        }
    }
    addresses
}

fn address(
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

pub(super) fn endpoint(
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

pub(super) fn private_key(
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
