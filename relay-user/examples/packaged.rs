//! Writes, below a folder, the files of a package that the code itself knows: man pages, shell completions, the unit.

use std::{
    ffi::OsStr,
    fs, io,
    path::{Path, PathBuf},
};

use clap::CommandFactory as _;
use clap_complete::{Shell, generate_to};
use relay_user::{
    cli::{Cli, DEFAULT_SOCKET},
    config::DEFAULT_PATH,
    service::{self, Paths},
};

/// Where a package has the binary.
const BINARY: &str = "/usr/bin/relay";

/// Where Debian's shells look for completions of packages, and by what name.
const COMPLETIONS: [(Shell, &str); 3] = [
    (Shell::Bash, "usr/share/bash-completion/completions/relay"),
    (Shell::Zsh, "usr/share/zsh/vendor-completions/_relay"),
    (Shell::Fish, "usr/share/fish/vendor_completions.d/relay.fish"),
];

fn main() -> io::Result<()> {
    let root = std::env::args_os().nth(1).map(PathBuf::from);
    let root = root.ok_or_else(|| io::Error::other("below which folder?"))?;

    let pages = below(&root, "usr/share/man/man1")?;
    clap_mangen::generate_to(Cli::command(), &pages)?;
    for (shell, path) in COMPLETIONS {
        let path = root.join(path);
        let folder = path.parent().unwrap_or(&root);
        fs::create_dir_all(folder)?;
        let made = generate_to(shell, &mut Cli::command(), "relay", folder)?;
        fs::rename(made, &path)?;
    }
    let [binary, config, socket] = [BINARY, DEFAULT_PATH, DEFAULT_SOCKET].map(Path::new);
    let unit = service::unit(Paths { binary, config, socket }).map_err(io::Error::other)?;
    let path = Path::new(service::PACKAGED_UNIT);
    let folder =
        path.strip_prefix("/").ok().and_then(Path::parent).and_then(Path::to_str).unwrap_or_default();
    fs::write(below(&root, folder)?.join(path.file_name().unwrap_or(OsStr::new(service::UNIT))), unit)
}

/// That folder, made.
fn below(root: &Path, folder: &str) -> io::Result<PathBuf> {
    let folder = root.join(folder);
    fs::create_dir_all(&folder)?;
    Ok(folder)
}
