//! What each peer has received and sent over time, in a SQLite file per tunnel interface.
//!
//! The daemon hands a [`Sample`] of all counters to a [`Recorder`] every few seconds, which never waits: a thread of its
//! own ([`writer`]) works out what was added since ([`delta`]), keeps it in buckets of five minutes ([`store`]), and makes
//! old buckets coarser ([`thin`]). `relay stats --since` reads the file ([`report`]) and shows it ([`text`], [`chart`]), whether a daemon runs or not.
//!
//! A peer is its name and its keys: under another name it goes on with its history, and so does the name with another
//! key. What was counted before the first sample of all is nobody's; from then on nothing is counted twice or lost while
//! the tunnel stands, whether the daemon runs or not, since the last readings are in the file too.

pub mod amount;
pub mod chart;

pub mod delta;

pub mod report;
pub mod series;
pub mod since;
pub mod spread;
pub mod store;
pub mod text;
pub mod thin;
pub mod writer;

use std::path::{Path, PathBuf};

use jiff::Timestamp;

use self::amount::Reading;
use crate::{
    desired::{Desired, InterfaceName},
    key::PublicKey,
    maps::Counters,
    observed::Device,
};

pub use self::writer::{Health, Recorder};

/// Where the files are unless somebody says otherwise: systemd's StateDirectory of a unit that says `relay`.
pub const DEFAULT_FOLDER: &str = "/var/lib/relay";

/// The file of an interface.
#[must_use]
pub fn file(folder: &Path, interface: &InterfaceName) -> PathBuf {
    folder.join(format!("{interface}.db"))
}

/// All counters at one moment.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Sample {
    /// Unix seconds.
    pub at: i64,
    /// Which device they are of: another one counts from zero.
    pub device: String,
    /// Each peer that the device has.
    pub peers: Vec<Sampled>,
}

/// One peer's counters.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Sampled {
    /// Its key.
    pub key: PublicKey,
    /// Its name.
    pub name: String,
    /// What its counters say.
    pub reading: Reading,
}

impl Sample {
    /// Of the peers that `desired` names and `live` has.
    #[must_use]
    pub fn new(
        at: Timestamp,
        device: String,
        desired: &Desired,
        live: &Device,
        counters: Option<&Counters>,
    ) -> Self {
        let peers = desired.peers.iter().filter_map(|(key, peer)| {
            let carried = counters.and_then(|counters| counters.peers.get(key)).copied().unwrap_or_default();
            let reading = Reading::new(live.peers.get(key)?, carried);
            Some(Sampled { key: *key, name: peer.name.to_string(), reading })
        });
        Self { at: at.as_second(), device, peers: peers.collect() }
    }
}
