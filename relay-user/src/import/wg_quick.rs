//! wg-quick's files: what `wg` and wg-quick read in them, and the names that comments give.
//!
//! As forgiving as those two, and more: a line that they would refuse is noted with its place, the rest is read.

use std::path::Path;

use ipnet::IpNet;

use super::{
    amnezia,
    comments::{self, Names},
    found::{Format, Found, FoundHub, FoundPeer, Hook, Place},
    lines::{Line, lines},
    sentence::shown,
};
use crate::key::KeyError;

/// Reads the text of a wg-quick file; `interface` is the name that wg-quick takes from the file's.
#[must_use]
pub fn parse(file: &Path, text: &str, interface: &str) -> Found {
    let hub = FoundHub::new(Place::whole(file), interface.to_owned());
    let mut reader = Reader {
        file,
        found: Found::new(Format::WgQuick, vec![file.to_owned()], hub),
        section: Section::None,
        peer: None,
        above: Vec::new(),
    };
    for (number, line) in lines(text) {
        reader.line(number, &line);
    }
    reader.finish()
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Section {
    None,
    Interface,
    Peer,
    Unknown,
}

struct Reader<'a> {
    file: &'a Path,
    found: Found,
    section: Section,
    /// The peer that is being read, its names, and the line of its `[Peer]` or of the comment right below it.
    peer: Option<(FoundPeer, Names, usize)>,
    /// The comment lines that stand right above.
    above: Vec<&'a str>,
}

impl<'a> Reader<'a> {
    fn line(&mut self, number: usize, line: &Line<'a>) {
        let above = std::mem::take(&mut self.above);
        if !matches!(line, Line::Comment(_) | Line::Section(..))
            && let Some((_, names, _)) = &mut self.peer
        {
            // Right above a section they would be about that one.
            above.iter().for_each(|comment| names.below(comment));
        }
        match *line {
            Line::Blank => {}
            Line::Comment(comment) => self.comment(number, comment, above),
            Line::Section(name, comment) => self.section(number, name, comment, &above),
            Line::Entry { key, value, column } => {
                self.entry(key, value, &Place::line(self.file, number, column));
            }
            Line::Unknown(text) => {
                let place = Place::line(self.file, number, 1);
                self.found.note(&place, format!("`{}` is no line of WireGuard's; left out", shown(text)));
            }
        }
    }

    fn comment(&mut self, number: usize, comment: &'a str, mut above: Vec<&'a str>) {
        if comments::is_switched_off_peer(comment) {
            let message = "a peer that is commented out is not imported";
            self.found.note(&Place::line(self.file, number, 1), message);
        }
        match &mut self.peer {
            Some((_, names, line)) if *line + 1 == number => {
                names.beside(comment);
                *line = number;
            }
            _ => above.push(comment),
        }
        self.above = above;
    }

    fn section(&mut self, number: usize, name: &str, comment: Option<&str>, above: &[&str]) {
        let place = Place::line(self.file, number, 1);
        self.end_peer();
        self.section = match name.to_ascii_lowercase().as_str() {
            "interface" => {
                self.found.hub.place = place;
                Section::Interface
            }
            "peer" => {
                let mut names = Names::above(above);
                comment.into_iter().for_each(|comment| names.beside(comment));
                self.peer = Some((FoundPeer::new(place), names, number));
                Section::Peer
            }
            _ => {
                self.found.note(&place, format!("section [{}] is not WireGuard's; left out", shown(name)));
                Section::Unknown
            }
        };
    }

    fn entry(&mut self, key: &str, value: &str, place: &Place) {
        match (self.section, &mut self.peer) {
            (Section::Interface, _) => self.interface_entry(key, value, place),
            (Section::Peer, Some((peer, ..))) => peer_entry(&mut self.found, peer, key, value, place),
            (Section::Unknown, _) => {}
            _ => self.found.note(place, format!("`{}` stands in no section; left out", shown(key))),
        }
    }

    fn interface_entry(&mut self, key: &str, value: &str, place: &Place) {
        let lower = key.to_ascii_lowercase();
        if amnezia::is_key(&lower) {
            return self.found.obstacle(place, amnezia::refusal(key));
        }
        let (found, set) = (&mut self.found, !value.is_empty());
        match lower.as_str() {
            "privatekey" => {
                if found.hub.private_key.is_some() {
                    found.note(place, "a second PrivateKey: WireGuard takes the last, and so does this");
                }
                match value.parse() {
                    Ok(key) => found.hub.private_key = Some(key),
                    Err(error) => found.obstacle(place, format!("PrivateKey: {error}")),
                }
            }
            "address" => {
                for text in list(value) {
                    match net(text) {
                        Some(net) => found.hub.addresses.push(net),
                        None => found.note(place, not_an_address("Address", text)),
                    }
                }
            }
            "listenport" => match value.parse() {
                Ok(0) => {}
                Ok(port) => found.hub.listen_port = Some(port),
                Err(_) => found.obstacle(place, format!("ListenPort `{}` is no port", shown(value))),
            },
            "mtu" => match value.parse() {
                Ok(mtu) => found.hub.mtu = Some(mtu),
                Err(_) => found.note(place, format!("MTU `{}` is no number; left out", shown(value))),
            },
            "preup" => hook(found, "PreUp", value, place),
            "postup" => hook(found, "PostUp", value, place),
            "predown" => hook(found, "PreDown", value, place),
            "postdown" => hook(found, "PostDown", value, place),
            "dns" if set => found.note(
                place,
                format!(
                    "DNS = {} is not carried over: relay leaves this host's resolvers alone",
                    shown(value)
                ),
            ),
            "table" if set && !value.eq_ignore_ascii_case("auto") => {
                let message = "is not carried over: relay keeps its routes in the main table";
                found.note(place, format!("Table = {} {message}", shown(value)));
            }
            "saveconfig" if value.eq_ignore_ascii_case("true") => {
                let message = "SaveConfig is not carried over: relay.toml is the truth, and what `wg set` changes is set right";
                found.note(place, message);
            }
            "fwmark" if set && !["off", "0", "0x0"].contains(&value.to_ascii_lowercase().as_str()) => {
                let message = "is not carried over: relay marks no packets";
                found.note(place, format!("FwMark = {} {message}", shown(value)));
            }
            "dns" | "table" | "saveconfig" | "fwmark" => {}
            _ => found.note(place, format!("`{}` is no key of [Interface]; left out", shown(key))),
        }
    }

    fn end_peer(&mut self) {
        if let Some((mut peer, mut names, _)) = self.peer.take() {
            // What the file ends with; before a section it was taken.
            std::mem::take(&mut self.above).iter().for_each(|comment| names.below(comment));
            peer.name = names.name();
            self.found.peers.push(peer);
        }
    }

    fn finish(mut self) -> Found {
        self.end_peer();
        let whole = Place::whole(self.file);
        let found = &mut self.found;
        let hub_seen = found.hub.place != whole;
        if !hub_seen {
            found.obstacle(&whole, "there is no [Interface]: this is not a configuration of wg-quick");
        } else if !found.peers.is_empty()
            && found.hub.listen_port.is_none()
            && found.peers.iter().all(|peer| peer.endpoint.is_some())
        {
            let message = "this is the configuration of a client, which dials a hub; import the hub's own";
            found.obstacle(&whole, message);
        } else if found.hub.private_key.is_none() && found.obstacles.is_empty() {
            let place = found.hub.place.clone();
            let from_hook = found.hooks.iter().flatten().any(|hook| hook.command.contains("private-key"));
            let hint = if from_hook { " (a hook sets it from elsewhere)" } else { "" };
            found.obstacle(
                &place,
                format!("the hub's PrivateKey is missing{hint}; clients know the hub by it"),
            );
        }
        found.hooks.get_or_insert_with(Vec::new);
        self.found
    }
}

fn hook(found: &mut Found, when: &'static str, value: &str, place: &Place) {
    if !value.is_empty() {
        let hook = Hook { place: place.clone(), when, command: value.to_owned() };
        found.hooks.get_or_insert_with(Vec::new).push(hook);
    }
}

fn peer_entry(found: &mut Found, peer: &mut FoundPeer, key: &str, value: &str, place: &Place) {
    match key.to_ascii_lowercase().as_str() {
        "publickey" => match value.parse() {
            Ok(key) => peer.public_key = Some(key),
            Err(error) => found.note(place, format!("PublicKey: {error}")),
        },
        "presharedkey" => match value.parse() {
            Ok(key) => peer.preshared_key = Some(key),
            Err(KeyError::Zero) => peer.preshared_key = None,
            // Without it no handshake would succeed, so the peer cannot be said to be carried over.
            Err(error) => {
                found.note(place, format!("PresharedKey: {error}; the peer is imported without one"));
            }
        },
        "allowedips" => allowed_ips(found, peer, value, place),
        "endpoint" if value.is_empty() => {}
        "endpoint" => peer.endpoint = Some(value.to_owned()),
        "persistentkeepalive" => {
            if !["off", "0", ""].contains(&value.to_ascii_lowercase().as_str()) {
                let message = "is not carried over: a relay hub sends none, the peer behind a NAT does";
                found.note(place, format!("PersistentKeepalive = {} of the hub {message}", shown(value)));
            }
        }
        _ => found.note(place, format!("`{}` is no key of [Peer]; left out", shown(key))),
    }
}

/// As wg reads them: each with a sign or without, `-` takes away what stands before.
fn allowed_ips(found: &mut Found, peer: &mut FoundPeer, value: &str, place: &Place) {
    for text in list(value) {
        let (taken_away, bare) = match text.strip_prefix('-') {
            Some(bare) => (true, bare),
            None => (false, text.strip_prefix('+').unwrap_or(text)),
        };
        match net(bare) {
            Some(net) if taken_away => peer.allowed.retain(|other| other.trunc() != net.trunc()),
            Some(net) => peer.allowed.push(net),
            None => found.note(place, not_an_address("AllowedIPs", text)),
        }
    }
}

pub(super) fn list(value: &str) -> impl Iterator<Item = &str> {
    value.split(',').map(str::trim).filter(|text| !text.is_empty())
}

/// An address with a prefix length or without.
pub(super) fn net(text: &str) -> Option<IpNet> {
    let text = text.trim();
    text.parse().or_else(|_| text.parse::<std::net::IpAddr>().map(IpNet::from)).ok()
}

fn not_an_address(key: &str, text: &str) -> String {
    format!("{key}: `{}` is not an address; left out", shown(text))
}
