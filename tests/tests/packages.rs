//! What is in the packages that `cargo xtask dist` makes, and relay for arm64 at work under QEMU.

use std::{
    env, fs,
    os::unix::fs::PermissionsExt as _,
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context as _, Result, ensure};
use clap::CommandFactory as _;
use object::{Architecture, Object as _};
use relay_tests::{guest, netns::checked};
use relay_user::cli::Cli;
use tempfile::TempDir;

/// Where Debian's cross compilers have the C library of arm64.
const ARM64_ROOT: &str = "/usr/aarch64-linux-gnu";

/// Files that a person looks for, or systemd, or a shell.
const FILES: [&str; 12] = [
    "usr/bin/relay",
    "usr/lib/systemd/system/relay.service",
    "usr/share/bash-completion/completions/relay",
    "usr/share/doc/relay/README.md",
    "usr/share/doc/relay/changelog.gz",
    "usr/share/doc/relay/copyright",
    "usr/share/doc/relay/examples/relay.toml",
    "usr/share/fish/vendor_completions.d/relay.fish",
    "usr/share/man/man1/relay.1.gz",
    "usr/share/relay/alerts.yml",
    "usr/share/relay/grafana-dashboard.json",
    "usr/share/zsh/vendor-completions/_relay",
];

fn folder() -> Result<PathBuf> {
    let folder =
        env::var_os("RELAY_PACKAGES").context("no RELAY_PACKAGES: run `cargo xtask test packages`")?;
    Ok(PathBuf::from(folder))
}

/// The packages whose names end so.
fn packages(end: &str) -> Result<Vec<PathBuf>> {
    let folder = folder()?;
    let mut found = Vec::new();
    for entry in fs::read_dir(&folder).with_context(|| format!("looking into {}", folder.display()))? {
        let path = entry?.path();
        if path.to_str().is_some_and(|path| path.ends_with(end)) {
            found.push(path);
        }
    }
    ensure!(!found.is_empty(), "no package *{end} in {}", folder.display());
    Ok(found)
}

/// A package, unpacked.
fn unpacked(package: &Path) -> Result<TempDir> {
    let folder = tempfile::tempdir()?;
    checked(Command::new("dpkg-deb").arg("--extract").args([package, folder.path()]))?;
    Ok(folder)
}

/// A field of the control file.
fn field(package: &Path, name: &str) -> Result<String> {
    let value = checked(Command::new("dpkg-deb").arg("--field").arg(package).arg(name))?;
    Ok(value.trim().to_owned())
}

#[test]
fn a_package_has_all_that_a_vps_needs() -> Result<()> {
    for package in packages(".deb")? {
        looked_through(&package).with_context(|| package.display().to_string())?;
    }
    Ok(())
}

fn looked_through(package: &Path) -> Result<()> {
    let listing = checked(Command::new("dpkg-deb").arg("--contents").arg(package))?;
    for line in listing.lines() {
        ensure!(line.contains(" root/root "), "not root's: {line}");
        let usual = ["drwxr-xr-x ", "-rw-r--r-- ", "-rwxr-xr-x "].iter().any(|mode| line.starts_with(mode));
        ensure!(usual, "an odd mode: {line}");
        ensure!(
            line.starts_with("-rwx") == line.ends_with("/usr/bin/relay"),
            "what is a program here? {line}"
        );
    }
    let depends = field(package, "Depends")?;
    for needed in ["libc6 (>= 2.", "nftables", "passwd"] {
        ensure!(depends.contains(needed), "Depends: {depends}");
    }

    let folder = unpacked(package)?;
    let root = folder.path();
    for file in FILES {
        let length = fs::metadata(root.join(file)).with_context(|| file.to_owned())?.len();
        ensure!(length > 0, "{file} is empty");
    }
    let unit = fs::read_to_string(root.join("usr/lib/systemd/system/relay.service"))?;
    ensure!(unit.contains("\nExecStart=/usr/bin/relay up\n"), "{unit}");
    let example = fs::read_to_string(root.join("usr/share/doc/relay/examples/relay.toml"))?;
    ensure!(example.contains("[interface]"), "{example}");
    checked(Command::new("bash").arg("-n").arg(root.join("usr/share/bash-completion/completions/relay")))?;
    spoken_of(root, &Cli::command(), "relay")
}

/// Every command has its page, and the shells know it.
fn spoken_of(root: &Path, command: &clap::Command, name: &str) -> Result<()> {
    let page = root.join("usr/share/man/man1").join(format!("{name}.1.gz"));
    let text = checked(Command::new("gzip").args(["--decompress", "--stdout"]).arg(&page))?;
    ensure!(text.contains(".SH SYNOPSIS"), "{name}(1) is no page: {text}");
    for shell in ["bash-completion/completions/relay", "zsh/vendor-completions/_relay"] {
        let path = root.join("usr/share").join(shell);
        ensure!(fs::read_to_string(&path)?.contains(command.get_name()), "{} omits {name}", path.display());
    }
    for inner in command.get_subcommands().filter(|inner| inner.get_name() != "help") {
        spoken_of(root, inner, &format!("{name}-{}", inner.get_name()))?;
    }
    Ok(())
}

#[test]
fn the_newer_package_is_newer() -> Result<()> {
    let mut versions = Vec::new();
    for package in packages("_amd64.deb")? {
        versions.push(field(&package, "Version")?);
    }
    versions.sort();
    let [older, newer] = &versions[..] else { anyhow::bail!("two packages of amd64, not {versions:?}") };
    checked(Command::new("dpkg").args(["--compare-versions", newer, "gt", older])).map(drop)
}

/// relay for arm64, at home in a folder of its own.
struct Foreign {
    emulator: PathBuf,
    package: TempDir,
    home: TempDir,
}

impl Foreign {
    fn binary(&self) -> PathBuf {
        self.package.path().join("usr/bin/relay")
    }

    /// What it prints.
    fn run(&self, arguments: &[&str]) -> Result<String> {
        let mut command = Command::new(&self.emulator);
        command.args(["-L", ARM64_ROOT]).arg(self.binary()).args(arguments).current_dir(self.home.path());
        checked(command.env("RELAY_CONFIG", self.home.path().join("relay.toml")))
            .with_context(|| arguments.join(" "))
    }

    fn read(&self, file: &str) -> Result<String> {
        fs::read_to_string(self.home.path().join(file)).with_context(|| format!("reading {file}"))
    }
}

#[test]
fn relay_for_arm64_works() -> Result<()> {
    let Some(emulator) = env::var_os("RELAY_QEMU_ARM64").map(PathBuf::from) else {
        guest::skip("relay for arm64 could not be built here, or nothing runs it");
        return Ok(());
    };
    let [package] = &packages("_arm64.deb")?[..] else { anyhow::bail!("more than one package of arm64") };
    let relay = Foreign { emulator, package: unpacked(package)?, home: tempfile::tempdir()? };

    let program = fs::read(relay.binary())?;
    ensure!(object::File::parse(&*program)?.architecture() == Architecture::Aarch64, "another architecture");
    let bpf =
        env::var_os("RELAY_BPF_DIR").map(PathBuf::from).context("no RELAY_BPF_DIR")?.join("relay.bpf.o");
    ensure!(holds(&program, &fs::read(&bpf)?), "{} is not in it", bpf.display());

    let version = field(package, "Version")?;
    let (version, _) = version.split_once('-').context("a version without a revision")?;
    ensure!(relay.run(&["--version"])?.trim() == format!("relay {version}"), "not version {version}");
    ensure!(relay.run(&["--help"])?.contains("relay peer add home"), "it helps nobody");
    relay.run(&["init", "--endpoint", "198.51.100.1", "--manage-firewall=false"])?;
    let key = fs::metadata(relay.home.path().join("wg0.key"))?;
    ensure!(key.permissions().mode() & 0o777 == 0o600, "who may read the key?");
    let conf = relay.run(&["peer", "add", "phone"])?;
    ensure!(conf.contains("Endpoint = 198.51.100.1:51820"), "{conf}");
    let peer = relay.read("relay.toml")?;
    let key = peer.lines().find_map(|line| line.strip_prefix("public_key = \"")?.strip_suffix('"'));
    let key = key.with_context(|| format!("the peer has no key: {peer}"))?;

    // The same hub as wg-quick would have it, moved in beside the first.
    let hub = format!(
        "[Interface]\nAddress = 10.9.0.1/24\nListenPort = 51820\nPrivateKey = {}\n\n\
         [Peer]\nPublicKey = {key}\nAllowedIPs = 10.9.0.2/32\n",
        relay.read("wg0.key")?.trim()
    );
    let source = relay.home.path().join("wg0.conf");
    fs::write(&source, hub)?;
    fs::set_permissions(&source, fs::Permissions::from_mode(0o600))?;
    fs::create_dir(relay.home.path().join("moved"))?;
    relay.run(&[
        "import",
        "wg0.conf",
        "--apply",
        "--endpoint",
        "198.51.100.1",
        "--config",
        "moved/relay.toml",
    ])?;
    ensure!(relay.read("moved/relay.toml")?.contains(key), "the peer was left behind");
    ensure!(relay.run(&["peer", "list", "--json", "--config", "moved/relay.toml"])?.contains(key), "no peer");
    Ok(())
}

/// Whether the object is in the program, byte for byte.
fn holds(program: &[u8], object: &[u8]) -> bool {
    let first = object.first().copied();
    first.is_some_and(|first| {
        (0..program.len()).any(|at| program[at] == first && program[at..].starts_with(object))
    })
}
