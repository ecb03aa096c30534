//! The command itself: exit codes, what goes where, and that nothing is ever overwritten.

use std::os::unix::fs::MetadataExt as _;

use crate::{
    Terminal, promise,
    wg_easy::{five_clients, write_14},
};

fn with_source() -> Terminal {
    let terminal = Terminal::new();
    std::fs::create_dir(terminal.path("source")).expect("folder");
    write_14(&terminal.path("source"), &five_clients("vps.example.net", &[]));
    terminal
}

fn stderr(output: &std::process::Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

#[test]
fn nothing_is_written_unless_asked() {
    let terminal = with_source();
    let output = terminal.run(&["import", "source"]);
    assert!(output.status.success());
    assert!(stderr(&output).contains("nothing was written; `--apply` writes it"));
    assert!(!terminal.path("relay").exists());
}

#[test]
fn what_is_written_is_private_and_loads() {
    let terminal = with_source();
    let output = terminal.run(&["import", "source", "--apply", "--endpoint", "vps.example.net:443"]);
    assert!(output.status.success(), "{}", stderr(&output));
    let folder = terminal.config().parent().expect("folder").to_owned();
    let mode = |path: &std::path::Path| path.metadata().expect("metadata").mode() & 0o7777;
    assert_eq!(mode(&folder), 0o700);
    for entry in folder.read_dir().expect("folder") {
        let path = entry.expect("entry").path();
        assert_eq!(mode(&path), 0o600, "{}", path.display());
    }
    let listed = terminal.run(&["peer", "list"]);
    assert!(listed.status.success(), "{}", stderr(&listed));
    assert_eq!(String::from_utf8_lossy(&listed.stdout).lines().count(), 6);
    let text = std::fs::read_to_string(terminal.config()).expect("configuration");
    assert!(text.contains("endpoint = \"vps.example.net:443\""), "{text}");
}

#[test]
fn nothing_is_overwritten_and_a_failure_leaves_nothing() {
    let terminal = with_source();
    let folder = terminal.config().parent().expect("folder").to_owned();
    std::fs::create_dir(&folder).expect("folder");
    // A key that is there already stops all of it.
    std::fs::write(folder.join("phone.psk"), "mine").expect("write");
    let output = terminal.run(&["import", "source", "--apply"]);
    assert_eq!(output.status.code(), Some(2));
    assert!(stderr(&output).contains("phone.psk exists already"), "{}", stderr(&output));
    assert_eq!(folder.read_dir().expect("folder").count(), 1);
    std::fs::remove_file(folder.join("phone.psk")).expect("remove");
    assert!(terminal.run(&["import", "source", "--apply"]).status.success());
    let before = std::fs::read(terminal.config()).expect("configuration");
    let output = terminal.run(&["import", "source", "--apply"]);
    assert_eq!(output.status.code(), Some(2));
    assert!(stderr(&output).contains("relay.toml exists already"));
    assert_eq!(std::fs::read(terminal.config()).expect("configuration"), before);
}

#[test]
fn refusals_exit_with_2_and_tell_why() {
    let terminal = with_source();
    let source = terminal.path("source/wg0.json");
    let text = std::fs::read_to_string(&source).expect("source");
    std::fs::write(&source, &text[..text.len() / 2]).expect("write");
    let output = terminal.run(&["import", "source", "--apply"]);
    assert_eq!(output.status.code(), Some(2));
    assert!(String::from_utf8_lossy(&output.stdout).contains("the file ends too early"));
    assert!(!terminal.path("relay").exists());
    for args in [&["import", "nothing"][..], &["import", "source", "--endpoint", "a b"]] {
        assert!(!terminal.run(args).status.success(), "{args:?}");
    }
}

#[test]
fn json_is_a_promise_too() {
    let terminal = with_source();
    let output = terminal.run(&["import", "source", "--json"]);
    let text = String::from_utf8(output.stdout).expect("UTF-8");
    promise("import_json", &text.replace(terminal.folder.path().to_str().expect("path"), "FOLDER"));
}
