//! `relay import`: what it prints and writes for every format, and what holds whatever it is given.
//!
//! Snapshots hold what a person sees. No root, no daemon; the tunnel's subnet is wg-easy's, so a host that is in
//! 10.8.0.0/24 itself by another interface than wg0 is the one place where these fail.

mod invariants;
mod print;
mod properties;
mod secrets;
mod source;
mod wg_easy;
mod wg_easy14;
mod wg_easy15;
mod wg_quick;

use std::{
    path::{Path, PathBuf},
    process::{Command, Output, Stdio},
};

use relay_user::{
    config::Config,
    import::{
        self, Found,
        mapping::{Import, Surroundings, map},
    },
};

/// Before every expiry in these tests but one.
const NOW: &str = "2026-11-25T12:00:00Z";

/// What becomes of a source on a host with these networks.
fn mapped_on(found: &Found, networks: &[(&str, &str)]) -> Import {
    let networks: Vec<_> =
        networks.iter().map(|(of, net)| ((*of).to_owned(), net.parse().expect("net"))).collect();
    let surroundings = Surroundings {
        config: Path::new("/etc/relay/relay.toml"),
        networks: &networks,
        endpoint: None,
        now: NOW.parse().expect("a moment"),
    };
    map(found, &surroundings)
}

fn mapped(found: &Found) -> Import {
    mapped_on(found, &[("eth0", "203.0.113.7/24"), ("wg0", "10.8.0.1/24")])
}

/// The report and the file, as one text; folders of tests replaced.
fn told(import: &Import, folder: &Path) -> String {
    let text = import.files.as_ref().map(|files| files.text.as_str()).unwrap_or("(no file)\n");
    let all = format!("{}\n--- relay.toml\n{text}", import::render(&import.report));
    all.replace(folder.to_str().expect("path"), "FOLDER")
}

/// What relay makes of the file that the import would write.
fn loaded(import: &Import) -> Config {
    invariants::loaded(import.files.as_ref().expect("importable"))
}

fn promise(name: &str, text: &str) {
    let mut settings = insta::Settings::clone_current();
    settings.set_omit_expression(true);
    settings.bind(|| insta::assert_snapshot!(name, text));
}

/// The program itself in a folder of its own.
struct Terminal {
    folder: tempfile::TempDir,
}

impl Terminal {
    fn new() -> Self {
        Self { folder: tempfile::tempdir().expect("folder") }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    fn config(&self) -> PathBuf {
        self.path("relay/relay.toml")
    }

    fn run(&self, args: &[&str]) -> Output {
        let mut command = Command::new(env!("CARGO_BIN_EXE_relay"));
        command.args(args).env_clear().env("RELAY_CONFIG", self.config()).env("RELAY_LOG", "trace");
        command.stdin(Stdio::null()).current_dir(self.folder.path()).output().expect("relay starts")
    }
}
