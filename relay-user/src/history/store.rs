//! The SQLite file, for the one who writes it.

use std::{
    collections::{HashMap, HashSet},
    fs,
    os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _},
    path::{Path, PathBuf},
    time::Duration,
};

use rusqlite::{Connection, ErrorCode, OpenFlags, Row as SqlRow, Transaction, params, types::Value};

use super::{
    Sample, Sampled,
    amount::{Amount, COLUMNS, Reading, Row},
    delta::{before, delta},
    spread::spread,
    thin::{BUCKET, FINE, HOUR, HOURLY, KEPT, Slot, thin},
};
use crate::key::PublicKey;

/// The number of the schema (`PRAGMA user_version`); 0 is a file that has none yet.
const SCHEMA: i64 = 1;

/// How long a reader may hold up the writer; in a write-ahead log readers do not.
const BUSY: Duration = Duration::from_secs(1);

/// Why the history cannot be written.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// The folder or the file cannot be made.
    #[error("cannot make {path}")]
    Make {
        /// Which.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// SQLite says no.
    #[error("cannot write {path}")]
    Sqlite {
        /// The file.
        path: PathBuf,
        /// Why.
        source: rusqlite::Error,
    },
    /// SQLite's own check found damage.
    #[error("{path} is damaged: {found}")]
    Damaged {
        /// The file.
        path: PathBuf,
        /// The first of what it found.
        found: String,
    },
    /// Its schema has a number that this relay does not know.
    #[error(
        "{path} was written by a newer relay (schema {found}, this one knows {SCHEMA}); it is left alone"
    )]
    Newer {
        /// The file.
        path: PathBuf,
        /// The number.
        found: i64,
    },
}

impl StoreError {
    /// Whether the file itself is to blame, so that waiting changes nothing and another file would do.
    #[must_use]
    pub fn is_damage(&self) -> bool {
        match self {
            Self::Damaged { .. } => true,
            Self::Make { .. } | Self::Newer { .. } => false,
            Self::Sqlite { source, .. } => !matches!(
                source.sqlite_error_code(),
                Some(
                    ErrorCode::DiskFull
                        | ErrorCode::SystemIoFailure
                        | ErrorCode::CannotOpen
                        | ErrorCode::ReadOnly
                        | ErrorCode::PermissionDenied
                        | ErrorCode::DatabaseBusy
                        | ErrorCode::DatabaseLocked
                        | ErrorCode::FileLockingProtocolFailed
                        | ErrorCode::OutOfMemory
                )
            ),
        }
    }
}

impl StoreError {
    /// Whether the open file is as good as before, and only this time nothing could be written: opening it anew would
    /// not help, and closing it gives room of the full disk back to others.
    #[must_use]
    pub fn is_passing(&self) -> bool {
        let Self::Sqlite { source, .. } = self else { return false };
        matches!(
            source.sqlite_error_code(),
            Some(ErrorCode::DiskFull | ErrorCode::DatabaseBusy | ErrorCode::DatabaseLocked)
        )
    }
}

/// What the file says of the present, so that a sample costs no questions. It is true after a transaction only.
#[derive(Clone, Debug, Default)]
struct Known {
    device: Option<String>,
    /// When the last sample was taken; in the file, the last that said anything new.
    at: Option<i64>,
    peers: HashMap<i64, String>,
    keys: HashMap<PublicKey, (i64, Reading)>,
}

/// The open file.
#[derive(Debug)]
pub struct Store {
    path: PathBuf,
    connection: Connection,
    known: Known,
}

impl Store {
    /// Opens or makes the file, 0600 in a folder of 0700, and looks whether it is whole.
    ///
    /// # Errors
    /// [`StoreError`].
    pub fn open(path: &Path) -> Result<Self, StoreError> {
        let make = |path: &Path, source| StoreError::Make { path: path.to_owned(), source };
        if let Some(folder) = path.parent() {
            fs::DirBuilder::new()
                .recursive(true)
                .mode(0o700)
                .create(folder)
                .map_err(|error| make(folder, error))?;
        }
        // SQLite itself would make it for all to read; its logs get the mode of the file.
        fs::File::options()
            .create(true)
            .append(true)
            .mode(0o600)
            .open(path)
            .map_err(|error| make(path, error))?;
        let fail = |source| StoreError::Sqlite { path: path.to_owned(), source };
        let flags = OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_NO_MUTEX;
        let connection = Connection::open_with_flags(path, flags).map_err(fail)?;
        let found: i64 =
            connection.pragma_query_value(None, "user_version", |row| row.get(0)).map_err(fail)?;
        if found > SCHEMA {
            return Err(StoreError::Newer { path: path.to_owned(), found });
        }
        let whole: String =
            connection.pragma_query_value(None, "quick_check", |row| row.get(0)).map_err(fail)?;
        if whole != "ok" {
            return Err(StoreError::Damaged { path: path.to_owned(), found: whole });
        }
        let known = prepare(&connection, found).map_err(fail)?;
        Ok(Self { path: path.to_owned(), connection, known })
    }

    /// Adds what a sample says to its buckets, all of it or nothing.
    ///
    /// # Errors
    /// [`StoreError`]; what was not written is part of the next sample's difference.
    pub fn record(&mut self, sample: &Sample) -> Result<(), StoreError> {
        let fail = |source| StoreError::Sqlite { path: self.path.clone(), source };
        let mut known = self.known.clone();
        let transaction = self.connection.transaction().map_err(fail)?;
        write(&transaction, &mut known, sample).map_err(fail)?;
        transaction.commit().map_err(fail)?;
        self.known = known;
        Ok(())
    }

    /// What a test may turn off beneath it.
    #[cfg(test)]
    pub(super) fn connection(&self) -> &Connection {
        &self.connection
    }

    /// Makes old buckets coarser, and forgets the oldest.
    ///
    /// # Errors
    /// [`StoreError`]; nothing is thinned then.
    pub fn thin(&mut self, now: i64) -> Result<(), StoreError> {
        let fail = |source| StoreError::Sqlite { path: self.path.clone(), source };
        let transaction = self.connection.transaction().map_err(fail)?;
        thin_out(&transaction, now).map_err(fail)?;
        transaction.commit().map_err(fail)
    }
}

fn prepare(connection: &Connection, found: i64) -> rusqlite::Result<Known> {
    connection.busy_timeout(BUSY)?;
    connection.pragma_update(None, "trusted_schema", false)?;
    connection.pragma_update_and_check(None, "journal_mode", "wal", |_| Ok(()))?;
    // A power cut may cost the last seconds, never the file.
    connection.pragma_update(None, "synchronous", "normal")?;
    connection.pragma_update_and_check(None, "journal_size_limit", 1 << 22, |_| Ok(()))?;
    if found == 0 {
        connection.execute_batch(&format!(
            "BEGIN IMMEDIATE; {} PRAGMA user_version = {SCHEMA}; COMMIT;",
            schema()
        ))?;
    }
    read_known(connection)
}

/// `key` has the last readings, `total` what was ever counted, `bucket` when.
fn schema() -> String {
    let columns = COLUMNS.map(|name| format!("{name} INTEGER NOT NULL")).join(", ");
    format!(
        "CREATE TABLE device (id INTEGER PRIMARY KEY CHECK (id = 1), generation TEXT NOT NULL,
             at INTEGER NOT NULL) STRICT;
         CREATE TABLE peer (id INTEGER PRIMARY KEY, name TEXT NOT NULL, since INTEGER NOT NULL) STRICT;
         CREATE TABLE key (public_key TEXT PRIMARY KEY, peer INTEGER NOT NULL, {columns}) STRICT, WITHOUT ROWID;
         CREATE TABLE total (peer INTEGER PRIMARY KEY, {columns}) STRICT;
         CREATE TABLE bucket (peer INTEGER NOT NULL, start INTEGER NOT NULL, seconds INTEGER NOT NULL, {columns},
             PRIMARY KEY (peer, start, seconds)) STRICT, WITHOUT ROWID;
         CREATE INDEX bucket_by_age ON bucket (seconds, start);"
    )
}

/// The columns of [`COLUMNS`] in a query.
pub(super) fn columns() -> String {
    COLUMNS.join(", ")
}

/// Their values, from the column `first` on.
pub(super) fn row_at(row: &SqlRow<'_>, first: usize) -> rusqlite::Result<Row> {
    let mut values = Row::default();
    for (index, value) in values.iter_mut().enumerate() {
        *value = row.get(first + index)?;
    }
    Ok(values)
}

fn read_known(connection: &Connection) -> rusqlite::Result<Known> {
    let mut known = Known::default();
    let mut devices = connection.prepare("SELECT generation, at FROM device")?;
    for device in devices.query_map([], |row| Ok((row.get(0)?, row.get(1)?)))? {
        let (generation, at) = device?;
        (known.device, known.at) = (Some(generation), Some(at));
    }
    let mut peers = connection.prepare("SELECT id, name FROM peer")?;
    for peer in peers.query_map([], |row| Ok((row.get(0)?, row.get(1)?)))? {
        let (id, name) = peer?;
        known.peers.insert(id, name);
    }
    let mut keys = connection.prepare(&format!("SELECT public_key, peer, {} FROM key", columns()))?;
    let read = |row: &SqlRow<'_>| Ok((row.get::<_, String>(0)?, row.get(1)?, row_at(row, 2)?));
    for key in keys.query_map([], read)? {
        let (key, peer, row) = key?;
        if let Ok(key) = key.parse() {
            known.keys.insert(key, (peer, Reading::from_row(row)));
        }
    }
    Ok(known)
}

fn write(transaction: &Transaction<'_>, known: &mut Known, sample: &Sample) -> rusqlite::Result<()> {
    let (device, last) = (known.device.replace(sample.device.clone()), known.at.replace(sample.at));
    let same = device.as_deref() == Some(&sample.device);
    let mut news = !same;
    forget_readings(transaction, known, sample)?;
    for (sampled, peer) in identify(transaction, known, sample)? {
        let stored = known.keys.get(&sampled.key).map(|(_, reading)| *reading);
        let before = before(device.as_deref(), &sample.device, stored, sampled.reading);
        let added = delta(before, sampled.reading);
        if added != Amount::default() {
            add_total(transaction, peer, added)?;
            // What began in between, nobody knows when, counts as of this moment.
            let from = last.filter(|_| same && before != Reading::default()).unwrap_or(sample.at);
            for (slot, part) in spread(peer, added, from, sample.at) {
                add_bucket(transaction, slot, part)?;
            }
        }
        if stored != Some(sampled.reading) {
            set_reading(transaction, &sampled.key, peer, sampled.reading)?;
            known.keys.insert(sampled.key, (peer, sampled.reading));
            news = true;
        }
    }
    if news {
        let values = params![sample.device, sample.at];
        transaction.execute("INSERT OR REPLACE INTO device VALUES (1, ?1, ?2)", values)?;
    }
    Ok(())
}

/// A peer that is not there will count from zero when it is back.
fn forget_readings(
    transaction: &Transaction<'_>,
    known: &mut Known,
    sample: &Sample,
) -> rusqlite::Result<()> {
    let there: HashSet<PublicKey> = sample.peers.iter().map(|peer| peer.key).collect();
    for (key, (peer, reading)) in known.keys.iter_mut().filter(|(key, _)| !there.contains(key)) {
        if *reading != Reading::default() {
            *reading = Reading::default();
            set_reading(transaction, key, *peer, *reading)?;
        }
    }
    Ok(())
}

/// Each peer's number. A key that is known is the same peer, whatever its name; a new key goes on with what the peer of
/// that name had, unless that one is here too.
fn identify<'a>(
    transaction: &Transaction<'_>,
    known: &mut Known,
    sample: &'a Sample,
) -> rusqlite::Result<Vec<(&'a Sampled, i64)>> {
    let mut found = Vec::with_capacity(sample.peers.len());
    let (old, new): (Vec<_>, Vec<_>) =
        sample.peers.iter().partition(|peer| known.keys.contains_key(&peer.key));
    for sampled in old {
        let (peer, _) = known.keys[&sampled.key];
        if known.peers.get(&peer) != Some(&sampled.name) {
            transaction.execute("UPDATE peer SET name = ?2 WHERE id = ?1", params![peer, sampled.name])?;
            known.peers.insert(peer, sampled.name.clone());
        }
        found.push((sampled, peer));
    }
    let taken: HashSet<i64> = found.iter().map(|(_, peer)| *peer).collect();
    for sampled in new {
        let same = known.peers.iter().filter(|(peer, name)| **name == sampled.name && !taken.contains(*peer));
        let peer = match same.map(|(peer, _)| *peer).max() {
            Some(peer) => peer,
            None => {
                transaction.execute(
                    "INSERT INTO peer (name, since) VALUES (?1, ?2)",
                    params![sampled.name, sample.at],
                )?;
                let peer = transaction.last_insert_rowid();
                known.peers.insert(peer, sampled.name.clone());
                peer
            }
        };
        found.push((sampled, peer));
    }
    Ok(found)
}

fn set_reading(
    transaction: &Transaction<'_>,
    key: &PublicKey,
    peer: i64,
    reading: Reading,
) -> rusqlite::Result<()> {
    let query =
        format!("INSERT OR REPLACE INTO key (public_key, peer, {}) VALUES (?1, ?2, {})", columns(), marks(3));
    let values = [Value::from(key.to_string()), Value::from(peer)].into_iter();
    execute(transaction, &query, values.chain(reading.to_row().map(Value::from)))
}

fn add_total(transaction: &Transaction<'_>, peer: i64, added: Amount) -> rusqlite::Result<()> {
    let query = format!(
        "INSERT INTO total (peer, {}) VALUES (?1, {}) ON CONFLICT (peer) DO UPDATE SET {}",
        columns(),
        marks(2),
        sums()
    );
    execute(transaction, &query, [Value::from(peer)].into_iter().chain(added.to_row().map(Value::from)))
}

fn add_bucket(transaction: &Transaction<'_>, slot: Slot, added: Amount) -> rusqlite::Result<()> {
    let query = format!(
        "INSERT INTO bucket (peer, start, seconds, {}) VALUES (?1, ?2, ?3, {})
         ON CONFLICT (peer, start, seconds) DO UPDATE SET {}",
        columns(),
        marks(4),
        sums()
    );
    let slot = [slot.peer, slot.start, slot.seconds].into_iter();
    execute(transaction, &query, slot.chain(added.to_row()).map(Value::from))
}

fn thin_out(transaction: &Transaction<'_>, now: i64) -> rusqlite::Result<()> {
    let query = format!(
        "SELECT peer, start, seconds, {} FROM bucket
         WHERE (seconds = {BUCKET} AND start <= ?1) OR (seconds = {HOUR} AND start <= ?2) OR start <= ?3",
        columns()
    );
    let mut statement = transaction.prepare(&query)?;
    let read = |row: &SqlRow<'_>| {
        let slot = Slot { peer: row.get(0)?, start: row.get(1)?, seconds: row.get(2)? };
        Ok((slot, Amount::from_row(row_at(row, 3)?)))
    };
    let old: Vec<(Slot, Amount)> = statement
        .query_map([now - FINE, now - HOURLY, now - KEPT], read)?
        .collect::<rusqlite::Result<_>>()?;
    let (gone, added) = thin(&old, now);
    for slot in gone {
        transaction
            .prepare_cached("DELETE FROM bucket WHERE peer = ?1 AND start = ?2 AND seconds = ?3")?
            .execute([slot.peer, slot.start, slot.seconds])?;
    }
    for (slot, amount) in added {
        add_bucket(transaction, slot, amount)?;
    }
    Ok(())
}

fn execute(
    transaction: &Transaction<'_>,
    query: &str,
    values: impl Iterator<Item = Value>,
) -> rusqlite::Result<()> {
    transaction.prepare_cached(query)?.execute(rusqlite::params_from_iter(values)).map(drop)
}

/// `?3, ?4, …`: a mark for each of [`COLUMNS`].
fn marks(first: usize) -> String {
    (first..first + COLUMNS.len()).map(|number| format!("?{number}")).collect::<Vec<_>>().join(", ")
}

/// What is there and what is added. The largest number is where it ends: SQLite would go on with a fraction.
fn sums() -> String {
    let most = i64::MAX;
    COLUMNS.map(|name| format!("{name} = {name} + min(excluded.{name}, {most} - {name})")).join(", ")
}
