//! wg-easy 15's database, in every schema.

use std::path::Path;

use relay_user::import;

use crate::{
    loaded, mapped, promise, told,
    wg_easy::{Client, Deployment, SCHEMAS, Schema, five_clients, write_15},
};

fn deployment() -> Deployment {
    five_clients("vps.example.net", &["1.1.1.1", "2606:4700:4700::1111"])
}

/// Reads a database that was changed by `sql` after it was made.
fn told_after(schema: Schema, deployment: &Deployment, sql: &str) -> (import::mapping::Import, String) {
    let folder = tempfile::tempdir().expect("folder");
    let path = folder.path().join("wg-easy.db");
    let database = write_15(&path, schema, deployment);
    database.execute_batch(sql).expect("changed");
    let import = mapped(&import::read(&path).expect("readable"));
    let text = told(&import, folder.path());
    (import, text)
}

#[test]
fn every_schema_says_the_same() {
    let (_, first) = told_after(Schema::V15_0, &deployment(), "");
    promise("wg_easy_15", &first);
    for schema in SCHEMAS {
        let (import, text) = told_after(schema, &deployment(), "");
        assert_eq!(text, first, "{schema:?}");
        let config = loaded(&import);
        for client in &deployment().clients {
            let peer = &config.desired.peers[&client.private_key().public_key()];
            assert_eq!(peer.preshared_key, Some(client.preshared_key()), "{}", client.name);
            assert_eq!(peer.addresses.len(), 2);
        }
    }
}

/// All that the fixture wrote stands in the log; a reader without it would find no table. Nothing beside the database
/// may be changed by reading, whether wg-easy runs, has crashed or was stopped.
#[test]
fn the_log_is_read_and_nothing_is_changed() {
    let folder = tempfile::tempdir().expect("folder");
    let path = folder.path().join("a strange?name#%.db");
    let beside = |suffix: &str| path.with_file_name(format!("a strange?name#%.db{suffix}"));
    let database = write_15(&path, Schema::V15_4, &deployment());
    assert!(beside("-wal").metadata().expect("log").len() > 0);
    let read = |path: &Path| mapped(&import::read(path).expect("readable")).report.peers.len();
    let state = || ["", "-wal"].map(|suffix| std::fs::read(beside(suffix)).ok());

    let before = state();
    assert_eq!(read(&path), 5, "while it runs");
    assert_eq!(state(), before);

    // As a power cut leaves it: the log is there, who wrote it is gone.
    let crashed = folder.path().join("crashed.db");
    std::fs::copy(&path, &crashed).expect("copy");
    std::fs::copy(beside("-wal"), folder.path().join("crashed.db-wal")).expect("copy");
    assert_eq!(read(&crashed), 5, "after a crash");
    assert_eq!(std::fs::read(&crashed).ok(), before[0]);
    assert_eq!(std::fs::read(folder.path().join("crashed.db-wal")).ok(), before[1]);

    drop(database);
    assert!(!beside("-wal").exists(), "stopped: SQLite folds the log into the database");
    assert_eq!(read(&path), 5, "when it is stopped");
    assert!(!beside("-wal").exists() && !beside("-shm").exists(), "reading made a file");
}

#[test]
fn clients_of_every_kind() {
    let mut deployment = deployment();
    deployment.clients.extend([
        Client { enabled: false, ..Client::new("phone", 7) },
        Client { expires: Some("2026-01-01T00:00:00.000Z"), ..Client::new("guest", 8) },
        Client::new("office", 9).with_lans(&["192.168.40.0/24", "192.168.41.1/24"]),
        Client::new("split", 10),
    ]);
    let (import, text) = told_after(
        Schema::V15_4,
        &deployment,
        r#"UPDATE clients_table SET allowed_ips = '["10.8.0.0/24"]', dns = '["10.8.0.1", "home.arpa", "no domain"]', mtu = 1280,
               persistent_keepalive = 15, server_endpoint = '198.51.100.9:51820' WHERE name = 'split';
           UPDATE clients_table SET server_allowed_ips = 'broken' WHERE name = 'tablet';
           UPDATE interfaces_table SET firewall_enabled = 1, routing_table = 'off', port = 443;
           UPDATE hooks_table SET post_up = post_up || ' curl https://example.net/';
           INSERT INTO interfaces_table (name, device, port, private_key, public_key, ipv4_cidr, ipv6_cidr, mtu, enabled)
               VALUES ('wg1', 'eth0', 51821, 'x', 'x', '10.9.0.0/24', '', 1420, 1);"#,
    );
    promise("wg_easy_15_clients_of_every_kind", &text);
    loaded(&import);
}

#[test]
fn amnezia_is_refused_by_name() {
    let of = |sql| told_after(Schema::V15_4, &deployment(), sql).0;
    let client = of("UPDATE clients_table SET i1 = '<b 0xc0>' WHERE name = 'laptop'");
    assert_eq!(client.report.peers.len(), 4);
    let note = client.report.left_out.iter().find(|each| each.what.contains("laptop")).expect("named");
    assert!(note.why.contains("AmneziaWG"), "{note:?}");
    loaded(&client);
    let interface = of("UPDATE interfaces_table SET s3 = 15");
    assert!(interface.files.is_none());
    assert!(interface.report.obstacles[0].message.contains("s3 is a parameter of AmneziaWG"));
    // With stock parameters, only the file beside the database shows that AmneziaWG runs.
    let folder = tempfile::tempdir().expect("folder");
    let _database = write_15(&folder.path().join("wg-easy.db"), Schema::V15_4, &deployment());
    std::fs::write(folder.path().join("wg0.conf"), "[Interface]\nJc = 7\n").expect("write");
    let import = mapped(&import::read(folder.path()).expect("readable"));
    assert!(import.files.is_none());
    assert!(import.report.obstacles[0].message.contains("Jc is a parameter of AmneziaWG"));
}

#[test]
fn a_database_that_was_never_used_is_refused() {
    let sql = "UPDATE interfaces_table SET private_key = '---default---', public_key = '---default---'";
    let (import, _) = told_after(Schema::V15_0, &deployment(), sql);
    assert!(import.files.is_none());
    assert!(import.report.obstacles[0].message.contains("never started"));
    let (import, _) =
        told_after(Schema::V15_0, &deployment(), "DELETE FROM clients_table; DELETE FROM interfaces_table");
    assert!(import.report.obstacles[0].message.contains("no row"));
    // Another program's database.
    let (import, _) = told_after(
        Schema::V15_0,
        &deployment(),
        "DROP TABLE clients_table; DROP TABLE interfaces_table; DROP TABLE hooks_table",
    );
    assert!(import.files.is_none());
}

/// In place of a table, a view would be run, this one without end.
#[test]
fn a_view_is_not_run() {
    let endless = "DROP TABLE clients_table;
        CREATE VIEW clients_table AS WITH RECURSIVE n(x) AS (SELECT 1 UNION ALL SELECT x + 1 FROM n) SELECT x AS rowid FROM n;";
    let (import, _) = told_after(Schema::V15_4, &deployment(), endless);
    assert!(import.report.peers.is_empty());
    assert!(import.report.notes.iter().any(|note| note.message == "there is no table clients_table"));
}
