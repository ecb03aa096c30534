//! From the file as written to what it means: every default resolved, every clash refused with both names.
//!
//! Nothing here reads anything but its arguments; key files come through a function that is passed in.

use std::{
    collections::{BTreeMap, BTreeSet},
    io,
    ops::Range,
    path::Path,
};

use ipnet::IpNet;

use super::{
    Config, HostNetwork, Warning,
    error::{ConfigErrors, Problems},
    home, interface, metrics,
    peers::{self, Peers},
    prefix,
    secret::Secret,
    uplink,
    written::{FirewallWritten, Written},
};
use crate::{
    desired::{self, AllowFrom, Desired, Firewall, Role},
    key::PrivateKey,
    name::InterfaceName,
};

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

    let name = interface::name(&mut context, interface);
    let own_name = name.clone();
    context.host_networks = host_networks
        .iter()
        .filter(|(of, net)| own_name.as_ref().is_some_and(|own| own.as_str() != of) && net.prefix_len() > 0)
        .collect();
    let listen_port = interface::listen_port(&mut context, interface);
    let addresses = interface::addresses(&mut context, &interface.addresses);
    let mtu = interface::mtu(&mut context, interface, addresses.iter().any(|(net, _)| net.addr().is_ipv6()));
    let endpoint = interface::endpoint(&mut context, interface, listen_port, &addresses);
    let private_key = name
        .as_ref()
        .and_then(|name| interface::private_key(&mut context, interface, name, written.interface.span()));
    let firewall = firewall(&mut context, &written.firewall, name.as_ref());
    let metrics = metrics::listen(&mut context, &written.metrics);
    let uplink = match &written.uplink {
        Some(written) => uplink::mean(&mut context, written.get_ref(), name.as_ref()),
        None => desired::Uplink::default(),
    };

    let own = name.map(|name| Hub { name, addresses, private_key });
    let tables = home::tables(&mut context, &written);
    let ends = own.as_ref().and_then(|own| match tables {
        Some(tables) => {
            let (peers, home) = home::mean(&mut context, own, &written, tables)?;
            Some((Peers { enabled: peers, disabled: BTreeMap::new() }, Role::Home(home)))
        }
        None => {
            let hub = desired::Hub { listen_port, endpoint, fast_path: interface.fast_path, uplink };
            Some((peers::mean(&mut context, own, &written.peers), Role::Hub(hub)))
        }
    });

    let desired = own.zip(ends).and_then(|(own, (peers, role))| {
        let desired = Desired {
            interface: own.name,
            backend: interface.backend,
            mtu,
            addresses: own.addresses.into_iter().map(|(net, _)| net).collect(),
            private_key: own.private_key?,
            firewall,
            peers: peers.enabled,
            role,
        };
        Some((desired, peers.disabled))
    });
    let (desired, disabled) = context.problems.finish(desired)?;
    Ok(Config { path: path.to_owned(), written, desired, metrics, disabled, warnings: context.warnings })
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
    if let Some(prefix) = prefix::read(text) {
        return prefix.map(AllowFrom::Prefix);
    }
    let interface = text
        .parse::<InterfaceName>()
        .map_err(|_| format!("`{}` is neither a prefix nor an interface", text.escape_debug()))?;
    if Some(&interface) == own_name {
        return Err(format!("{interface} is the tunnel itself, whose peers reach one another anyway"));
    }
    Ok(AllowFrom::Interface(interface))
}
