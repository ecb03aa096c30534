//! Which format a path holds, and what is refused.

use std::path::Path;

use relay_user::{
    import::{self, found::Format},
    key::PrivateKey,
};

use crate::{
    mapped,
    wg_easy::{Schema, client_file_14, client_file_15, five_clients, write_14, write_15},
};

#[test]
fn formats_are_told_by_content() {
    let folder = tempfile::tempdir().expect("folder");
    let deployment = five_clients("vps.example.net", &[]);
    let format = |path: &Path| import::read(path).expect("readable").format;
    let key = PrivateKey::new([1; 32]).expose_base64();
    let conf = folder.path().join("office.conf");
    std::fs::write(&conf, format!("[Interface]\nPrivateKey = {}\n", key.as_str())).expect("write");
    assert_eq!(format(folder.path()), Format::WgQuick, "the one .conf");
    assert_eq!(import::read(&conf).expect("readable").hub.interface, "office");
    write_14(folder.path(), &deployment);
    assert_eq!(format(folder.path()), Format::WgEasy14);
    let found = import::read(&folder.path().join("wg0.conf")).expect("readable");
    assert_eq!(found.format, Format::WgQuick);
    assert!(found.notes.iter().any(|note| note.message.contains("wg0.json stands beside it")));
    drop(write_15(&folder.path().join("wg-easy.db"), Schema::V15_4, &deployment));
    assert_eq!(format(folder.path()), Format::WgEasy15, "15 leaves 14's files where they were");
    std::fs::rename(folder.path().join("wg-easy.db"), folder.path().join("copy")).expect("rename");
    assert_eq!(format(&folder.path().join("copy")), Format::WgEasy15);
}

#[test]
fn what_is_no_source_is_refused() {
    let folder = tempfile::tempdir().expect("folder");
    let refusal = |path: &Path| import::read(path).expect_err("refused").to_string();
    assert!(refusal(&folder.path().join("missing")).starts_with("cannot read "));
    assert!(refusal(folder.path()).contains("holds no wg-easy.db"));
    let path = folder.path().join("file");
    std::fs::write(&path, [0xff, 0xfe, 0]).expect("write");
    assert!(refusal(&path).contains("is neither a wg-quick file"));
    std::fs::write(&path, b"SQLite format 3\0 and nothing more").expect("write");
    assert!(refusal(&path).starts_with("cannot read the database"));
    nix::unistd::mkfifo(&folder.path().join("fifo"), nix::sys::stat::Mode::S_IRWXU).expect("fifo");
    assert!(refusal(&folder.path().join("fifo")).starts_with("cannot read"));
}

/// A client's own file is the wrong one, and easily taken for the right one.
#[test]
fn a_clients_file_is_told_from_a_hubs() {
    let folder = tempfile::tempdir().expect("folder");
    let path = folder.path().join("wg0.conf");
    let deployment = five_clients("vps.example.net", &["1.1.1.1"]);
    for file in [client_file_14, client_file_15] {
        std::fs::write(&path, file(&deployment, &deployment.clients[1])).expect("write");
        let import = mapped(&import::read(&path).expect("readable"));
        assert!(import.files.is_none());
        let message = &import.report.obstacles[0].message;
        assert!(message.starts_with("this is the configuration of a client"), "{message}");
    }
}

/// Cut anywhere, a database is read or refused, and never makes us stop.
#[test]
fn damaged_databases_are_refused() {
    let folder = tempfile::tempdir().expect("folder");
    let whole = folder.path().join("whole.db");
    drop(write_15(&whole, Schema::V15_4, &five_clients("vps.example.net", &[])));
    let bytes = std::fs::read(&whole).expect("database");
    let path = folder.path().join("cut.db");
    for length in (16..bytes.len()).step_by(977) {
        std::fs::write(&path, &bytes[..length]).expect("write");
        let _ = import::read(&path);
    }
    let mut state = 7_u32;
    for _ in 0..300 {
        let mut damaged = bytes.clone();
        for _ in 0..20 {
            state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            let at = 16 + state as usize % (damaged.len() - 16);
            damaged[at] = (state >> 24) as u8;
        }
        std::fs::write(&path, &damaged).expect("write");
        let _ = import::read(&path);
    }
}
