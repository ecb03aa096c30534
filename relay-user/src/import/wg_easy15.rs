//! wg-easy 15: wg-easy.db, every schema from 15.0 to 15.4, told apart by the columns that are there.

use std::{
    net::{IpAddr, Ipv4Addr, Ipv6Addr},
    path::Path,
};

use ipnet::IpNet;

use super::{
    amnezia,
    found::{Format, Found, FoundHub, FoundPeer, Hook, Place},
    lines::{Line, lines},
    sentence::shown,
    sqlite::{self, Row},
    wg_quick::net,
};

/// What stands in both key columns until wg-easy was started once.
const NO_KEY_YET: &str = "---default---";

/// Reads the database, and the wg0.conf beside it where there is one.
///
/// # Errors
/// It cannot be opened or read as a database.
pub fn read(file: &Path, conf: Option<(&Path, &str)>) -> rusqlite::Result<Found> {
    let connection = sqlite::open(file)?;
    let mut missing = Vec::new();
    let mut rows = |table: &'static str, unread: &[&str]| -> rusqlite::Result<Vec<Row>> {
        let rows = sqlite::rows(&connection, table, unread)?;
        if rows.is_none() {
            missing.push(table);
        }
        Ok(rows.unwrap_or_default())
    };
    let tables = Tables {
        interfaces: rows("interfaces_table", &[])?,
        // Neither a client's private key nor what runs on the client is ours to read.
        clients: rows("clients_table", &["private_key", "pre_up", "post_up", "pre_down", "post_down"])?,
        hooks: rows("hooks_table", &[])?,
        defaults: rows("user_configs_table", &[])?,
    };
    let mut found = understand(file, &tables, conf);
    for table in missing {
        found.note(&Place::whole(file), format!("there is no table {table}"));
    }
    Ok(found)
}

struct Tables {
    interfaces: Vec<Row>,
    clients: Vec<Row>,
    hooks: Vec<Row>,
    defaults: Vec<Row>,
}

fn understand(file: &Path, tables: &Tables, conf: Option<(&Path, &str)>) -> Found {
    let chosen = tables.interfaces.iter().find(|row| row.text("name") == Some("wg0"));
    let Some(interface) = chosen.or(tables.interfaces.first()) else {
        let mut found = Found::new(
            Format::WgEasy15,
            vec![file.to_owned()],
            FoundHub::new(Place::whole(file), "wg0".to_owned()),
        );
        found.obstacle(&Place::whole(file), "interfaces_table has no row: this is not wg-easy's database");
        return found;
    };
    let name = interface.text("name").unwrap_or_default();
    let place = Place::named(file, format!("interfaces_table {}", shown(name)));
    let hub = FoundHub::new(place, name.to_owned());
    let mut found = Found::new(Format::WgEasy15, vec![file.to_owned()], hub);
    for other in tables.interfaces.iter().filter(|row| row.id != interface.id) {
        let other = shown(other.text("name").unwrap_or_default());
        let place = Place::named(file, format!("interfaces_table {other}"));
        found.note(
            &place,
            format!("only {} is imported; this interface and its clients are left out", shown(name)),
        );
    }
    let of_interface = |rows: &'_ [Row]| rows.iter().position(|row| row.text("id") == Some(name));
    let defaults = of_interface(&tables.defaults).map(|index| &tables.defaults[index]);
    let hooks = of_interface(&tables.hooks).map(|index| &tables.hooks[index]);

    read_hub(&mut found, interface, defaults);
    found.hooks = hooks.map(|row| read_hooks(file, row, interface));
    for row in &tables.clients {
        if row.text("interface_id").is_none_or(|id| id == name) {
            client(&mut found, file, row, defaults);
        }
    }
    if interface.text("firewall_enabled") == Some("1") {
        let message = "wg-easy's firewall between clients is on; relay has none: every peer may reach every other and all LANs";
        let place = found.hub.place.clone();
        found.note(&place, message);
    }
    if let Some((path, text)) = conf {
        beside(&mut found, path, text);
    }
    found
}

fn read_hub(found: &mut Found, row: &Row, defaults: Option<&Row>) {
    let place = found.hub.place.clone();
    match row.text("private_key") {
        None | Some("" | NO_KEY_YET) => {
            found.obstacle(&place, "it has no private key yet: wg-easy was never started with this database");
        }
        Some(text) => match text.parse() {
            Ok(key) => found.hub.private_key = Some(key),
            Err(error) => found.obstacle(&place, format!("private_key: {error}")),
        },
    }
    if let (Some(private), Some(public)) = (&found.hub.private_key, row.text("public_key"))
        && public.parse() != Ok(private.public_key())
    {
        let message =
            "public_key does not belong to private_key; clients that know that one would not connect";
        found.note(&place, message);
    }
    for column in ["ipv4_cidr", "ipv6_cidr"] {
        let text = row.text(column).unwrap_or_default();
        match text.parse().ok().and_then(second_address) {
            Some(net) => found.hub.addresses.push(net),
            None if text.is_empty() => {}
            None => found.note(&place, format!("{column}: `{}` is no subnet; left out", shown(text))),
        }
    }
    found.hub.listen_port = row.number("port");
    found.hub.mtu = row.number("mtu");
    if let Some(table) = row.text("routing_table").filter(|table| *table != "auto") {
        let message = "is not carried over: relay keeps its routes in the main table";
        found.note(&place, format!("routing_table = {} {message}", shown(table)));
    }
    let dialled = defaults.and_then(|row| Some((row.text("host")?, row.number::<u16>("port")?)));
    found.hub.endpoint =
        dialled.filter(|(host, _)| !host.is_empty()).map(|(host, port)| match host.parse() {
            Ok(IpAddr::V6(address)) => format!("[{address}]:{port}"),
            _ => format!("{host}:{port}"),
        });
    for column in changed(row) {
        found.obstacle(&place, amnezia::refusal(column));
    }
}

/// wg-easy's server has the second address of its subnet, which is stored nowhere.
fn second_address(net: IpNet) -> Option<IpNet> {
    let address = match net.network() {
        IpAddr::V4(first) => IpAddr::V4(Ipv4Addr::from(u32::from(first).checked_add(1)?)),
        IpAddr::V6(first) => IpAddr::V6(Ipv6Addr::from(u128::from(first).checked_add(1)?)),
    };
    IpNet::new(address, net.prefix_len()).ok().filter(|with| with.trunc() == net.trunc())
}

/// The columns of AmneziaWG that somebody has set.
fn changed(row: &Row) -> impl Iterator<Item = &'static str> + '_ {
    amnezia::COLUMNS
        .into_iter()
        .filter(|column| row.text(column).is_some_and(|value| !amnezia::is_stock(column, value)))
}

/// With the values that wg-easy puts in before it writes wg0.conf.
fn read_hooks(file: &Path, row: &Row, interface: &Row) -> Vec<Hook> {
    let mut hooks = Vec::new();
    for (column, when) in
        [("pre_up", "PreUp"), ("post_up", "PostUp"), ("pre_down", "PreDown"), ("post_down", "PostDown")]
    {
        let mut command = row.text(column).unwrap_or_default().trim().to_owned();
        for (name, column) in
            [("ipv4Cidr", "ipv4_cidr"), ("ipv6Cidr", "ipv6_cidr"), ("device", "device"), ("port", "port")]
        {
            command = command.replace(&format!("{{{{{name}}}}}"), interface.text(column).unwrap_or_default());
        }
        if !command.is_empty() {
            let id = shown(row.text("id").unwrap_or_default());
            hooks.push(Hook {
                place: Place::named(file, format!("hooks_table {id}, {column}")),
                when,
                command,
            });
        }
    }
    hooks
}

fn client(found: &mut Found, file: &Path, row: &Row, defaults: Option<&Row>) {
    let place = Place::named(file, format!("clients_table row {}", row.id));
    let mut peer = FoundPeer::new(place.clone());
    peer.name = row.text("name").unwrap_or_default().to_owned();
    peer.unsupported = changed(row).next().map(amnezia::refusal);
    match row.text("public_key").map(str::parse) {
        Some(Ok(key)) => peer.public_key = Some(key),
        Some(Err(error)) => found.note(&place, format!("public_key: {error}")),
        None => {}
    }
    match row.text("pre_shared_key").filter(|text| !text.is_empty()).map(str::parse) {
        Some(Ok(key)) => peer.preshared_key = Some(key),
        Some(Err(error)) => {
            found.note(&place, format!("pre_shared_key: {error}; the client is imported without one"));
        }
        None => {}
    }
    for column in ["ipv4_address", "ipv6_address"] {
        let Some(text) = row.text(column).filter(|text| !text.is_empty()) else { continue };
        match net(text) {
            Some(net) => peer.allowed.push(net),
            None => found.note(&place, format!("{column}: `{}` is not an address; left out", shown(text))),
        }
    }
    peer.allowed.extend(nets(found, &place, row, "server_allowed_ips").unwrap_or_default());
    peer.endpoint = row.text("server_endpoint").filter(|text| !text.is_empty()).map(str::to_owned);
    peer.enabled = row.text("enabled") != Some("0");
    peer.expires = row.text("expires_at").filter(|text| !text.is_empty()).map(str::to_owned);
    peer.client.allowed_ips = nets(found, &place, row, "allowed_ips")
        .or_else(|| nets(found, &place, defaults?, "default_allowed_ips"));
    peer.client.keepalive = row.number("persistent_keepalive");
    peer.client.mtu = row.number("mtu");
    peer.client.dns = words(row, "dns").or_else(|| words(defaults?, "default_dns")).unwrap_or_default();
    found.peers.push(peer);
}

/// A JSON list of texts; `None` where there is none.
fn words(row: &Row, column: &str) -> Option<Vec<String>> {
    serde_json::from_str(row.text(column)?).ok()
}

fn nets(found: &mut Found, place: &Place, row: &Row, column: &str) -> Option<Vec<IpNet>> {
    let text = row.text(column).filter(|text| !text.trim().is_empty())?;
    let Ok(words) = serde_json::from_str::<Vec<String>>(text) else {
        found.note(place, format!("{column}: `{}` is no list of prefixes; left out", shown(text)));
        return None;
    };
    let read = words.iter().filter_map(|word| {
        let read = net(word);
        if read.is_none() {
            found.note(place, format!("{column}: `{}` is not a prefix; left out", shown(word)));
        }
        read
    });
    Some(read.collect())
}

/// What the database does not say: whether AmneziaWG runs. wg-easy then writes its parameters there.
fn beside(found: &mut Found, path: &Path, text: &str) {
    found.files.push(path.to_owned());
    for (number, line) in lines(text) {
        if let Line::Entry { key, .. } = line
            && amnezia::is_key(&key.to_ascii_lowercase())
        {
            return found.obstacle(&Place::line(path, number, 1), amnezia::refusal(key));
        }
    }
}
