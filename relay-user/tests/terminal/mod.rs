//! What the tests of the command line share.

#![allow(dead_code, reason = "each of the programs that include this uses a part of it")]
#![expect(unreachable_pub, reason = "a test program has no outside")]

use std::{
    fmt::Write as _,
    path::PathBuf,
    process::{Command, Output, Stdio},
};

/// `relay init` with all that it would ask or find.
pub const INIT: [&str; 9] = [
    "init",
    "--interface",
    "relaytest0",
    "--endpoint",
    "vps.example.net",
    "--subnet",
    "10.231.77.0/24",
    "--subnet6",
    "fd52:1a9:beef::/64",
];

/// A folder with relay's files, and a command line.
pub struct Terminal {
    /// Gone with it.
    pub folder: tempfile::TempDir,
}

impl Terminal {
    pub fn new() -> Self {
        Self { folder: tempfile::tempdir().expect("folder") }
    }

    /// After `relay init`.
    pub fn with_hub() -> Self {
        let terminal = Self::new();
        assert!(terminal.run(&INIT).status.success());
        terminal
    }

    pub fn config(&self) -> PathBuf {
        self.folder.path().join("relay/relay.toml")
    }

    pub fn text(&self) -> String {
        std::fs::read_to_string(self.config()).expect("configuration")
    }

    pub fn append(&self, text: &str) {
        std::fs::write(self.config(), self.text() + text).expect("write");
    }

    pub fn command(&self, args: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_relay"));
        command.args(args).env_clear().stdin(Stdio::null());
        command.env("RELAY_CONFIG", self.config()).env("RELAY_SOCKET", self.folder.path().join("relay.sock"));
        command.env("RELAY_STATE_DIR", self.folder.path().join("state"));
        command
    }

    pub fn run(&self, args: &[&str]) -> Output {
        self.command(args).output().expect("relay starts")
    }

    /// Each command with its exit code, stdout and stderr; keys and the folder replaced.
    pub fn session(&self, commands: &[&[&str]]) -> String {
        let mut session = String::new();
        for args in commands {
            let output = self.run(args);
            let code = output.status.code().expect("an exit code");
            let _ = writeln!(session, "$ relay {}\nexit code: {code}", args.join(" "));
            for (name, bytes) in [("stdout", output.stdout), ("stderr", output.stderr)] {
                let text = String::from_utf8(bytes).expect("UTF-8");
                if !text.is_empty() {
                    let _ = writeln!(session, "----- {name}\n{text}-----");
                }
            }
            session.push('\n');
        }
        without_keys(&session.replace(self.folder.path().to_str().expect("path"), "FOLDER"))
    }
}

/// 44 characters of base64 that end in `=` become `KEY`, padded so that tables stay tables.
pub fn without_keys(text: &str) -> String {
    let is_key = |c: char| c.is_ascii_alphanumeric() || "+/=".contains(c);
    let mut result = String::new();
    let mut word = String::new();
    for c in text.chars().chain(['\n']) {
        if is_key(c) {
            word.push(c);
            continue;
        }
        result.push_str(if word.len() == 44 && word.ends_with('=') { "KEY" } else { &word });
        word.clear();
        result.push(c);
    }
    result.pop();
    result
}

/// Compares with the snapshot of that name.
pub fn promise(name: &str, text: &str) {
    let mut settings = insta::Settings::clone_current();
    settings.set_omit_expression(true);
    settings.set_prepend_module_to_snapshot(false);
    settings.set_snapshot_path("../snapshots");
    settings.bind(|| insta::assert_snapshot!(format!("{}__{name}", env!("CARGO_CRATE_NAME")), text));
}
