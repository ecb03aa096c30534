//! The history as data: read from the file, whether a daemon runs or not.

use std::{collections::BTreeMap, fmt::Write as _, path::Path};

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::{
    amount::Amount,
    store::{columns, row_at},
};
use crate::sqlite;

/// What each peer received and sent in a stretch of time.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct History {
    /// The tunnel interface.
    pub interface: String,
    /// Unix seconds. Buckets that this moment falls into are counted whole.
    pub since: i64,
    /// Unix seconds.
    pub until: i64,
    /// By name.
    pub peers: Vec<PeerHistory>,
}

/// One peer's.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PeerHistory {
    /// Its name as it is now, or was last.
    pub name: String,
    /// In that time.
    pub amount: Amount,
    /// Ever, as far as relay has counted.
    pub total: Amount,
    /// Unix seconds: since when relay has counted.
    pub total_since: i64,
    /// Where something was counted, oldest first.
    pub buckets: Vec<Bucket>,
}

/// A stretch of time and what was counted in it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Bucket {
    /// Unix seconds.
    pub start: i64,
    /// Its length: 300, and more for older ones.
    pub seconds: i64,
    /// What was counted.
    #[serde(flatten)]
    pub amount: Amount,
}

impl History {
    /// All peers together.
    #[must_use]
    pub fn amount(&self) -> Amount {
        self.peers.iter().map(|peer| peer.amount).sum()
    }

    /// All peers together, ever.
    #[must_use]
    pub fn total(&self) -> Amount {
        self.peers.iter().map(|peer| peer.total).sum()
    }

    /// A line for each bucket (RFC 4180), with a head.
    #[must_use]
    pub fn csv(&self) -> String {
        let mut text = String::from(
            "start,seconds,peer,received_bytes,sent_bytes,fast_path_received_packets,fast_path_received_bytes,\
             fast_path_sent_packets,fast_path_sent_bytes,handshakes\r\n",
        );
        let mut lines: Vec<(&Bucket, &str)> = (self.peers.iter())
            .flat_map(|peer| peer.buckets.iter().map(|bucket| (bucket, peer.name.as_str())))
            .collect();
        lines.sort_by_key(|(bucket, name)| (bucket.start, *name));
        for (bucket, name) in lines {
            let start = Timestamp::from_second(bucket.start).unwrap_or(Timestamp::UNIX_EPOCH);
            let values = bucket.amount.to_row().map(|value| value.to_string()).join(",");
            let _ = write!(text, "{start},{},{},{values}\r\n", bucket.seconds, quoted(name));
        }
        text
    }
}

/// A field that may hold anything.
fn quoted(field: &str) -> String {
    if field.contains([',', '"', '\r', '\n']) {
        format!("\"{}\"", field.replace('"', "\"\""))
    } else {
        field.to_owned()
    }
}

/// Reads what was counted from `since` on.
///
/// # Errors
/// The file is not there, or is no history.
pub fn read(path: &Path, interface: &str, since: Timestamp, until: Timestamp) -> rusqlite::Result<History> {
    let connection = sqlite::open(path)?;
    let mut peers: BTreeMap<i64, PeerHistory> = BTreeMap::new();
    let query =
        format!("SELECT id, name, since, {} FROM peer LEFT JOIN total ON total.peer = id", columns_or_zero());
    let mut statement = connection.prepare(&query)?;
    let mut rows = statement.query([])?;
    while let Some(row) = rows.next()? {
        let peer = PeerHistory {
            name: row.get(1)?,
            amount: Amount::default(),
            total: Amount::from_row(row_at(row, 3)?),
            total_since: row.get(2)?,
            buckets: Vec::new(),
        };
        peers.insert(row.get(0)?, peer);
    }
    let query = format!(
        "SELECT peer, start, seconds, {} FROM bucket WHERE start + seconds > ?1 AND start <= ?2 ORDER BY start",
        columns()
    );
    let mut statement = connection.prepare(&query)?;
    let mut rows = statement.query([since.as_second(), until.as_second()])?;
    while let Some(row) = rows.next()? {
        let bucket =
            Bucket { start: row.get(1)?, seconds: row.get(2)?, amount: Amount::from_row(row_at(row, 3)?) };
        if let Some(peer) = peers.get_mut(&row.get(0)?) {
            peer.amount += bucket.amount;
            peer.buckets.push(bucket);
        }
    }
    Ok(History {
        interface: interface.to_owned(),
        since: since.as_second(),
        until: until.as_second(),
        peers: by_name(peers.into_values()),
    })
}

/// Peers that have had the same name, one after the other, are one to a reader.
fn by_name(peers: impl Iterator<Item = PeerHistory>) -> Vec<PeerHistory> {
    let mut named: BTreeMap<String, PeerHistory> = BTreeMap::new();
    for peer in peers {
        match named.get_mut(&peer.name) {
            Some(same) => {
                same.amount += peer.amount;
                same.total += peer.total;
                same.total_since = same.total_since.min(peer.total_since);
                let mut buckets: BTreeMap<(i64, i64), Amount> = BTreeMap::new();
                for bucket in same.buckets.iter().chain(&peer.buckets) {
                    *buckets.entry((bucket.start, bucket.seconds)).or_default() += bucket.amount;
                }
                same.buckets = buckets
                    .into_iter()
                    .map(|((start, seconds), amount)| Bucket { start, seconds, amount })
                    .collect();
            }
            None => {
                named.insert(peer.name.clone(), peer);
            }
        }
    }
    named.into_values().collect()
}

/// A peer that has never moved anything has no total.
fn columns_or_zero() -> String {
    super::amount::COLUMNS.map(|name| format!("coalesce({name}, 0)")).join(", ")
}
