//! What a source says, as found: one shape for all formats, before anybody decides what relay makes of it.

use std::{
    fmt,
    path::{Path, PathBuf},
};

use ipnet::IpNet;
use serde::Serialize;

use crate::key::{PresharedKey, PrivateKey, PublicKey};

/// What kind of source it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub enum Format {
    /// A configuration file of wg-quick.
    #[serde(rename = "wg-quick")]
    WgQuick,
    /// wg0.json, with wg0.conf beside it.
    #[serde(rename = "wg-easy 14")]
    WgEasy14,
    /// wg-easy.db.
    #[serde(rename = "wg-easy 15")]
    WgEasy15,
}

impl fmt::Display for Format {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::WgQuick => "wg-quick",
            Self::WgEasy14 => "wg-easy 14",
            Self::WgEasy15 => "wg-easy 15",
        })
    }
}

/// Where in a source something stands. It prints as `FILE:LINE:COLUMN`, or `FILE: PLACE`.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Place {
    /// The file, as the user named it.
    pub file: PathBuf,
    /// Where in it.
    pub at: At,
}

/// Where in a file.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum At {
    /// Both counted from 1, the column in characters.
    Line {
        /// The line.
        line: usize,
        /// The column.
        column: usize,
    },
    /// A key of a JSON file or a row of a table, in words.
    Named(String),
    /// The file as a whole.
    Whole,
}

impl Place {
    /// The file as a whole.
    #[must_use]
    pub fn whole(file: &Path) -> Self {
        Self { file: file.to_owned(), at: At::Whole }
    }

    /// A line and a column, both counted from 1.
    #[must_use]
    pub fn line(file: &Path, line: usize, column: usize) -> Self {
        Self { file: file.to_owned(), at: At::Line { line, column } }
    }

    /// A place with a name.
    #[must_use]
    pub fn named(file: &Path, name: impl Into<String>) -> Self {
        Self { file: file.to_owned(), at: At::Named(name.into()) }
    }
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let file = self.file.display();
        match &self.at {
            At::Line { line, column } => write!(f, "{file}:{line}:{column}"),
            At::Named(name) => write!(f, "{file}: {name}"),
            At::Whole => write!(f, "{file}"),
        }
    }
}

impl Serialize for Place {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

/// Something that was read and is worth a word: what could not be understood, what is not carried over.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Note {
    /// Where.
    pub place: Place,
    /// What, and why. Never a secret.
    pub message: String,
}

/// Everything that a source says.
#[derive(Debug)]
pub struct Found {
    /// What kind of source it is.
    pub format: Format,
    /// The files that were read.
    pub files: Vec<PathBuf>,
    /// The hub.
    pub hub: FoundHub,
    /// The peers, in the order of the source.
    pub peers: Vec<FoundPeer>,
    /// The hub's hooks, in the order of the source; `None` where the source does not say.
    pub hooks: Option<Vec<Hook>>,
    /// What could not be read or is left behind.
    pub notes: Vec<Note>,
    /// Why this cannot be imported at all, each with its place.
    pub obstacles: Vec<Note>,
}

impl Found {
    /// Of that format, from these files, and nothing more yet.
    #[must_use]
    pub fn new(format: Format, files: Vec<PathBuf>, hub: FoundHub) -> Self {
        let (notes, obstacles) = (Vec::new(), Vec::new());
        Self { format, files, hub, peers: Vec::new(), hooks: None, notes, obstacles }
    }

    pub(super) fn note(&mut self, place: &Place, message: impl Into<String>) {
        self.notes.push(Note { place: place.clone(), message: message.into() });
    }

    pub(super) fn obstacle(&mut self, place: &Place, message: impl Into<String>) {
        self.obstacles.push(Note { place: place.clone(), message: message.into() });
    }
}

/// The hub's own side.
#[derive(Debug)]
pub struct FoundHub {
    /// Where it is described.
    pub place: Place,
    /// The interface's name.
    pub interface: String,
    /// Its private key, which the clients know by the public one.
    pub private_key: Option<PrivateKey>,
    /// Its addresses with the length of each subnet's prefix.
    pub addresses: Vec<IpNet>,
    /// The UDP port; `None` where the source does not say.
    pub listen_port: Option<u16>,
    /// The tunnel's MTU, where one is set.
    pub mtu: Option<u32>,
    /// What clients dial, `host:port`; `None` where the source does not say.
    pub endpoint: Option<String>,
}

impl FoundHub {
    /// One of which nothing is known yet.
    #[must_use]
    pub fn new(place: Place, interface: String) -> Self {
        Self {
            place,
            interface,
            private_key: None,
            addresses: Vec::new(),
            listen_port: None,
            mtu: None,
            endpoint: None,
        }
    }
}

/// One peer of the hub.
#[derive(Debug)]
pub struct FoundPeer {
    /// Where it begins.
    pub place: Place,
    /// Its name as found; empty where it has none.
    pub name: String,
    /// Its public key; `None` where there is none that can be read.
    pub public_key: Option<PublicKey>,
    /// Its preshared key.
    pub preshared_key: Option<PresharedKey>,
    /// The prefixes that are routed to it, as written: host bits kept.
    pub allowed: Vec<IpNet>,
    /// Where the hub dials it, as written.
    pub endpoint: Option<String>,
    /// Whether it takes part.
    pub enabled: bool,
    /// When it expires, as written.
    pub expires: Option<String>,
    /// Why relay cannot serve it, where the source shows that.
    pub unsupported: Option<String>,
    /// What its own file says, as far as the source knows.
    pub client: ClientFile,
}

impl FoundPeer {
    /// One of which nothing is known yet.
    #[must_use]
    pub fn new(place: Place) -> Self {
        Self {
            place,
            name: String::new(),
            public_key: None,
            preshared_key: None,
            allowed: Vec::new(),
            endpoint: None,
            enabled: true,
            expires: None,
            unsupported: None,
            client: ClientFile::default(),
        }
    }
}

/// What stands in the file that a peer uses; `None` where the source does not say.
#[derive(Debug, Default)]
pub struct ClientFile {
    /// What it sends into the tunnel.
    pub allowed_ips: Option<Vec<IpNet>>,
    /// Seconds, 0 for none.
    pub keepalive: Option<u16>,
    /// Its resolvers and search domains.
    pub dns: Vec<String>,
    /// Its MTU.
    pub mtu: Option<u32>,
}

/// A command that wg-quick would run.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Hook {
    /// Where it stands.
    pub place: Place,
    /// `PreUp`, `PostUp`, `PreDown` or `PostDown`.
    pub when: &'static str,
    /// The command line, as written.
    pub command: String,
}
