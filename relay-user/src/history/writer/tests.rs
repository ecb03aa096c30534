//! The file over time, with moments given: days do not pass in a test.

use std::{fs, os::unix::fs::PermissionsExt as _};

use jiff::Timestamp;

use super::*;
use crate::{
    history::{
        Sampled,
        amount::{Amount, Reading},
        report::{self, History},
        thin::{BUCKET, FINE, HOURLY, KEPT},
    },
    key::PublicKey,
};

/// The begin of a day, and so of an hour and a bucket.
const NOW: i64 = 1_795_564_800;

struct Book {
    folder: tempfile::TempDir,
    writer: Writer,
}

impl Book {
    fn new() -> Self {
        let folder = tempfile::tempdir().expect("folder");
        let writer = Writer::new(folder.path().join("new/wg0.db"));
        Self { folder, writer }
    }

    fn path(&self) -> PathBuf {
        self.folder.path().join("new/wg0.db")
    }

    /// Another daemon.
    fn restart(&mut self) {
        self.writer.store = None;
        self.writer = Writer::new(self.path());
    }

    /// A sample of peers with a key's number, a name, and bytes both ways.
    fn take(&mut self, at: i64, device: &str, peers: &[(u8, &str, u64)]) {
        let peers = peers.iter().map(|&(key, name, bytes)| Sampled {
            key: PublicKey::new([key; 32]),
            name: name.to_owned(),
            reading: Reading { received: bytes, sent: 2 * bytes, ..Reading::default() },
        });
        self.writer.take(&Sample { at, device: device.to_owned(), peers: peers.collect() });
    }

    fn health(&self) -> Health {
        self.writer.health.lock().expect("no panic while held").clone()
    }

    fn read(&self, since: i64, until: i64) -> History {
        let moment = |at| Timestamp::from_second(at).expect("moment");
        report::read(&self.path(), "wg0", moment(since), moment(until)).expect("a history")
    }

    /// Names, and bytes received in the time and in all.
    fn told(&self, since: i64, until: i64) -> Vec<(String, u64, u64)> {
        let history = self.read(since, until);
        let told = |peer: &report::PeerHistory| {
            assert_eq!(peer.amount.sent.bytes, 2 * peer.amount.received.bytes);
            let buckets: Amount = peer.buckets.iter().map(|bucket| bucket.amount).sum();
            assert_eq!(buckets, peer.amount);
            (peer.name.clone(), peer.amount.received.bytes, peer.total.received.bytes)
        };
        history.peers.iter().map(told).collect()
    }
}

fn told(name: &str, amount: u64, total: u64) -> (String, u64, u64) {
    (name.to_owned(), amount, total)
}

#[test]
fn totals_survive_restarts_new_devices_and_new_peers() {
    let mut book = Book::new();
    // Whatever was counted before anybody wrote it down is nobody's.
    book.take(NOW, "a", &[(1, "home", 1_000_000)]);
    assert_eq!(book.told(NOW, NOW), [told("home", 0, 0)]);
    book.take(NOW + 10, "a", &[(1, "home", 1_000_100)]);
    // The daemon was away while traffic went on.
    book.restart();
    book.take(NOW + 410, "a", &[(1, "home", 1_000_500), (2, "phone", 7)]);
    assert_eq!(book.told(NOW, NOW + 410), [told("home", 500, 500), told("phone", 7, 7)]);
    // As much for each second that it was away.
    assert_eq!(book.told(NOW + BUCKET, NOW + 410), [told("home", 110, 500), told("phone", 7, 7)]);
    // Another device has overtaken the old one's counters already.
    book.take(NOW + 500, "b", &[(1, "home", 2_000_000), (2, "phone", 1)]);
    assert_eq!(book.told(NOW, NOW + 500), [told("home", 2_000_500, 2_000_500), told("phone", 8, 8)]);
    // A peer was away and is made anew.
    book.take(NOW + 510, "b", &[(2, "phone", 1)]);
    book.restart();
    book.take(NOW + 520, "b", &[(1, "home", 3_000_000), (2, "phone", 1)]);
    assert_eq!(book.told(NOW, NOW + 520), [told("home", 5_000_500, 5_000_500), told("phone", 8, 8)]);
}

#[test]
fn a_peer_is_its_key_and_its_name() {
    let mut book = Book::new();
    book.take(NOW, "a", &[(1, "home", 0), (2, "phone", 0)]);
    book.take(NOW + 10, "a", &[(1, "home", 10), (2, "phone", 20)]);
    // Renamed, and rotated, at once; and a newcomer gets the name that became free.
    book.take(NOW + 20, "a", &[(1, "nas", 11), (3, "phone", 5), (4, "home", 1)]);
    assert_eq!(book.told(NOW, NOW + 20), [told("home", 1, 1), told("nas", 11, 11), told("phone", 25, 25)]);
    // Two change places.
    book.take(NOW + 30, "a", &[(1, "phone", 12), (3, "nas", 5), (4, "home", 1)]);
    assert_eq!(book.told(NOW, NOW + 30), [told("home", 1, 1), told("nas", 25, 25), told("phone", 12, 12)]);
    // One takes the name of one that is gone: to a reader they are one.
    book.take(NOW + 40, "a", &[(1, "phone", 12), (4, "nas", 3)]);
    assert_eq!(book.told(NOW, NOW + 40), [told("nas", 28, 28), told("phone", 12, 12)]);
}

#[test]
fn old_buckets_become_coarser_and_totals_stay() {
    let mut book = Book::new();
    book.take(NOW, "a", &[(1, "home", 0)]);
    for step in 1..=24 {
        book.take(NOW + step * BUCKET - 1, "a", &[(1, "home", step as u64)]);
    }
    let lengths = |book: &Book, until: i64| -> Vec<(i64, u64)> {
        let history = book.read(NOW, until);
        let buckets = history.peers[0].buckets.iter();
        buckets.map(|bucket| (bucket.seconds, bucket.amount.received.bytes)).collect()
    };
    assert_eq!(lengths(&book, NOW + 9_000), vec![(300, 1); 24]);
    book.take(NOW + FINE + 3_600, "a", &[(1, "home", 24)]);
    assert_eq!(lengths(&book, NOW + 9_000)[0], (3_600, 12));
    assert_eq!(lengths(&book, NOW + 9_000).len(), 13);
    // Of three months without a sample nobody knows more than that; of the two bytes sent, one is in the middle.
    book.take(NOW + HOURLY + 86_400, "a", &[(1, "home", 25)]);
    assert_eq!(lengths(&book, NOW + HOURLY + 86_400), [(86_400, 24), (3_600, 0), (3_600, 1)]);
    book.take(NOW + KEPT + 86_400, "a", &[(1, "home", 25)]);
    assert_eq!(lengths(&book, NOW + KEPT + 86_400), [(86_400, 0), (86_400, 1)]);
    assert_eq!(book.told(NOW, NOW + KEPT + 86_400), [told("home", 1, 25)]);
}

#[test]
fn a_damaged_file_is_put_aside_once() {
    for damage in ["all of it", "the middle", "no database", "another schema"] {
        let mut book = Book::new();
        book.take(NOW, "a", &[(1, "home", 0)]);
        for step in 0..200 {
            book.take(NOW + step * BUCKET, "a", &[(1, "home", step as u64)]);
        }
        book.restart();
        let path = book.path();
        let mut bytes = fs::read(&path).expect("a file");
        match damage {
            "all of it" => bytes.fill(0xa5),
            "the middle" => {
                let middle = bytes.len() / 4..bytes.len();
                bytes[middle].fill(0xa5);
            }
            "no database" => bytes = b"[interface]\n".to_vec(),
            _ => bytes.clear(),
        }
        fs::write(&path, bytes).expect("write");
        if damage == "another schema" {
            let other = rusqlite::Connection::open(&path).expect("open");
            other.execute_batch("CREATE TABLE peer (x); PRAGMA user_version = 1;").expect("a schema");
        }
        book.take(NOW + 90_000, "a", &[(1, "home", 500)]);
        assert_eq!(book.health(), Health::Working, "{damage}");
        book.take(NOW + 90_010, "a", &[(1, "home", 503)]);
        assert_eq!(book.told(NOW, NOW + 90_010), [told("home", 3, 3)], "{damage}");
        let aside = path.with_file_name(format!("wg0.db.corrupt-{}", NOW + 90_000));
        assert!(aside.is_file(), "{damage}");

        // A second time in one life is once too often.
        book.writer.store = None;
        fs::write(&path, "again").expect("write");
        book.take(NOW + 90_020, "a", &[(1, "home", 503)]);
        assert!(matches!(book.health(), Health::Failing(_)), "{damage}");
        assert_eq!(fs::read(&path).expect("left alone"), b"again");
    }
}

#[test]
fn what_cannot_be_written_is_made_up_for() {
    let mut book = Book::new();
    book.take(NOW, "a", &[(1, "home", 0)]);
    book.take(NOW + 10, "a", &[(1, "home", 5)]);
    // Full: as many pages as there are, and none more.
    let store = book.writer.store.as_ref().expect("open");
    let pages: i64 =
        store.connection().pragma_query_value(None, "page_count", |row| row.get(0)).expect("pages");
    store.connection().pragma_update_and_check(None, "max_page_count", pages, |_| Ok(())).expect("a limit");
    let many: Vec<(u8, String)> = (2..250).map(|key| (key, format!("peer with a long name {key}"))).collect();
    let peers: Vec<(u8, &str, u64)> =
        many.iter().map(|(key, name)| (*key, name.as_str(), 9)).chain([(1, "home", 50)]).collect();
    book.take(NOW + 20, "a", &peers);
    assert!(matches!(book.health(), Health::Failing(why) if why.contains("full")), "{:?}", book.health());
    assert_eq!(book.told(NOW, NOW + 20), [told("home", 5, 5)], "all or nothing");
    let store = book.writer.store.as_ref().expect("still open");
    store.connection().pragma_update_and_check(None, "max_page_count", 1 << 20, |_| Ok(())).expect("room");
    book.take(NOW + 30, "a", &peers);
    assert_eq!(book.health(), Health::Working);
    assert_eq!(book.told(NOW, NOW + 30)[0], told("home", 50, 50));
    assert_eq!(book.told(NOW, NOW + 30).len(), many.len() + 1);
}

#[test]
fn a_newer_file_is_left_alone() {
    let mut book = Book::new();
    book.take(NOW, "a", &[(1, "home", 0)]);
    book.restart();
    let other = rusqlite::Connection::open(book.path()).expect("open");
    other.execute_batch("PRAGMA user_version = 99;").expect("a number");
    drop(other);
    let before = fs::read(book.path()).expect("read");
    book.take(NOW + 10, "a", &[(1, "home", 5)]);
    assert!(matches!(book.health(), Health::Failing(why) if why.contains("newer")), "{:?}", book.health());
    assert_eq!(fs::read(book.path()).expect("read"), before);
}

#[test]
fn only_root_reads_it() {
    let mut book = Book::new();
    book.take(NOW, "a", &[(1, "home", 0)]);
    let mode = |path: &Path| fs::metadata(path).expect("there").permissions().mode() & 0o777;
    assert_eq!(mode(&book.path()), 0o600);
    assert_eq!(mode(&book.path().with_file_name("wg0.db-wal")), 0o600);
    assert_eq!(mode(book.path().parent().expect("folder")), 0o700);
}

#[tokio::test]
async fn nobody_waits_for_a_disk() {
    let folder = tempfile::tempdir().expect("folder");
    let path = folder.path().join("wg0.db");
    let mut recorder = Recorder::start(path.clone()).expect("a thread");
    assert!(recorder.is_due() && recorder.health() == Health::Untried);
    // A writer elsewhere holds it: each attempt of the thread takes a second.
    drop(Store::open(&path).expect("made"));
    let other = rusqlite::Connection::open(&path).expect("open");
    other.execute_batch("BEGIN EXCLUSIVE").expect("held");
    let begun = Instant::now();
    for at in 0..100 {
        let device = recorder.device(7);
        recorder.offer(Sample { at: NOW + at, device, peers: Vec::new() });
    }
    assert!(begun.elapsed() < Duration::from_secs(20), "{:?}", begun.elapsed());
    assert!(!recorder.is_due());
    drop(other);
    recorder.finish().await;
    assert!(path.is_file());
}
