//! relay as a service of systemd: what its files say. `relay install` writes them, `relay uninstall` takes them away.
//!
//! The unit's own lines say why each of them is there. A kernel without WireGuard needs a drop-in more, so that all
//! others keep their devices shut.

use std::path::{Path, PathBuf};

use crate::{cli::DEFAULT_SOCKET, config::DEFAULT_PATH, daemon::RUN_DIR, name::InterfaceName};

/// The unit's name.
pub const UNIT: &str = "relay.service";

/// Where a package has the unit. `relay install` writes another only where that one does not fit.
pub const PACKAGED_UNIT: &str = "/usr/lib/systemd/system/relay.service";

/// Where the unit is that `relay install` writes; it counts before a package's.
pub const UNIT_PATH: &str = "/etc/systemd/system/relay.service";
/// Where what the userspace backend needs is added to it.
const USERSPACE_PATH: &str = "/etc/systemd/system/relay.service.d/userspace.conf";
/// Where systemd-networkd is told to leave the tunnel alone. The first file that matches an interface counts, so it has
/// a low number.
const NETWORK_PATH: &str = "/etc/systemd/network/10-relay.network";

/// Folders that a service with `PrivateTmp=yes` has for itself.
const TEMPORARY: [&str; 2] = ["/tmp", "/var/tmp"];
/// Folders that `ProtectHome=yes` hides.
const HOMES: [&str; 3] = ["/home", "/root", "/run/user"];

/// What the unit starts, and what that is told; every path absolute.
#[derive(Clone, Copy, Debug)]
pub struct Paths<'a> {
    /// The binary, where it stands.
    pub binary: &'a Path,
    /// relay.toml.
    pub config: &'a Path,
    /// The control socket.
    pub socket: &'a Path,
}

/// What the files depend on.
#[derive(Clone, Copy, Debug)]
pub struct Installation<'a> {
    /// What the unit starts.
    pub paths: Paths<'a>,
    /// The tunnel interface.
    pub interface: &'a InterfaceName,
    /// Whether the daemon carries the tunnel itself.
    pub userspace: bool,
    /// What the unit of a package says, where there is one.
    pub packaged: Option<&'a str>,
}

/// A file as it shall be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Wanted {
    /// Where.
    pub path: &'static str,
    /// What it says; `None` for no file.
    pub text: Option<String>,
}

/// Why a path cannot be a service's.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub enum PathError {
    /// The unit file's own signs are in it, or it is no text.
    #[error("a unit cannot name {0}: it holds more than letters, digits and /._+@-")]
    Odd(PathBuf),
    /// The service has a folder of its own there.
    #[error("{0} is in a folder for temporary files, which a service does not share with others")]
    Temporary(PathBuf),
    /// The service may not write there.
    #[error("the socket of a service is in {RUN_DIR}, and {0} is not")]
    Socket(PathBuf),
}

impl PathError {
    /// What to do.
    #[must_use]
    pub fn hint(&self) -> &'static str {
        match self {
            Self::Odd(_) => "put it under a plainer name",
            Self::Temporary(_) => "put relay into /usr/local/bin and its files into /etc/relay",
            Self::Socket(_) => "leave --socket out",
        }
    }
}

/// All of relay's files for systemd, those included that shall not be.
///
/// # Errors
/// A path that a service cannot use.
pub fn files(installation: &Installation<'_>) -> Result<[Wanted; 3], PathError> {
    let userspace = installation.userspace.then(|| include_str!("userspace.conf").to_owned());
    let network = format!(
        "# Written by `relay install`: systemd-networkd would take away addresses and routes that are not its own.\n\
         [Match]\nName={}\n\n[Link]\nUnmanaged=yes\n",
        installation.interface
    );
    let unit = unit(installation.paths)?;
    let unit = (installation.packaged != Some(&unit)).then_some(unit);
    Ok([
        Wanted { path: UNIT_PATH, text: unit },
        Wanted { path: USERSPACE_PATH, text: userspace },
        Wanted { path: NETWORK_PATH, text: Some(network) },
    ])
}

/// Whether a unit of relay's follows this file.
#[must_use]
pub fn serves(unit: &str, config: &Path) -> bool {
    let started = unit.lines().find_map(|line| line.strip_prefix("ExecStart=")).unwrap_or_default();
    let mut words = started.split_whitespace();
    match words.by_ref().find(|word| *word == "--config") {
        Some(_) => words.next().is_some_and(|named| Path::new(named) == config),
        None => !started.is_empty() && config == Path::new(DEFAULT_PATH),
    }
}

/// Nothing of relay's for systemd.
#[must_use]
pub fn no_files() -> [Wanted; 3] {
    [UNIT_PATH, USERSPACE_PATH, NETWORK_PATH].map(|path| Wanted { path, text: None })
}

/// The unit.
///
/// # Errors
/// A path that a service cannot use.
pub fn unit(Paths { binary, config, socket }: Paths<'_>) -> Result<String, PathError> {
    let mut arguments = String::new();
    if config != Path::new(DEFAULT_PATH) {
        arguments += &format!(" --config {}", word(config)?);
    }
    if socket != Path::new(DEFAULT_SOCKET) {
        if socket.parent() != Some(Path::new(RUN_DIR)) {
            return Err(PathError::Socket(socket.to_owned()));
        }
        arguments += &format!(" --socket {}", word(socket)?);
    }
    let below = |folders: &[&str]| {
        [binary, config].into_iter().find(|path| folders.iter().any(|folder| path.starts_with(folder)))
    };
    if let Some(path) = below(&TEMPORARY) {
        return Err(PathError::Temporary(path.to_owned()));
    }
    let home = if let Some(path) = below(&HOMES) {
        format!("# {} is there.\nProtectHome=read-only", path.display())
    } else {
        "# Homes are none of its business.\nProtectHome=yes".to_owned()
    };
    Ok(include_str!("relay.service")
        .replace("@RELAY@", word(binary)?)
        .replace("@ARGUMENTS@", &arguments)
        .replace("@HOME@", &home))
}

/// A path as it may stand in a command line of a unit: systemd gives a meaning to spaces, quotes, `%`, `$` and `\`.
fn word(path: &Path) -> Result<&str, PathError> {
    let plain = |c: char| c.is_ascii_alphanumeric() || "/._+@-".contains(c);
    let text = path.to_str().filter(|text| text.chars().all(plain));
    text.ok_or_else(|| PathError::Odd(path.to_owned()))
}

#[cfg(test)]
mod tests {
    use super::*;

    const USUAL: (&str, &str, &str) = ("/usr/local/bin/relay", DEFAULT_PATH, DEFAULT_SOCKET);

    fn unit_of((binary, config, socket): (&str, &str, &str)) -> Result<String, PathError> {
        let [binary, config, socket] = [binary, config, socket].map(Path::new);
        unit(Paths { binary, config, socket })
    }

    #[test]
    fn the_usual_unit() {
        let unit = unit_of(USUAL).expect("a unit");
        for mark in ["@RELAY@", "@ARGUMENTS@", "@HOME@"] {
            assert!(!unit.contains(mark), "{mark} is left");
        }
        assert!(unit.contains("ExecStart=/usr/local/bin/relay up\n"), "{unit}");
        assert!(unit.contains("ExecReload=/usr/local/bin/relay reload\n"), "{unit}");
        assert!(unit.contains("\nProtectHome=yes\n"), "{unit}");
        assert!(
            serves(&unit, Path::new(DEFAULT_PATH)) && !serves(&unit, Path::new("/etc/other.toml")),
            "{unit}"
        );
    }

    #[test]
    fn files_elsewhere() {
        let unit = unit_of(("/opt/relay", "/root/r/relay.toml", "/run/relay/two.sock")).expect("a unit");
        let arguments = "--config /root/r/relay.toml --socket /run/relay/two.sock\n";
        assert!(unit.contains(&format!("ExecStart=/opt/relay up {arguments}")), "{unit}");
        assert!(unit.contains(&format!("ExecReload=/opt/relay reload {arguments}")), "{unit}");
        assert!(unit.contains("# /root/r/relay.toml is there.\nProtectHome=read-only\n"), "{unit}");
        assert!(
            serves(&unit, Path::new("/root/r/relay.toml")) && !serves(&unit, Path::new(DEFAULT_PATH)),
            "{unit}"
        );
    }

    #[test]
    fn paths_that_cannot_be() {
        let (_, config, socket) = USUAL;
        for odd in
            ["/opt/my relay", "/opt/100%relay", "/opt/$relay", "/opt/relay\"", "/opt/rélay", "/opt/a\nb"]
        {
            assert_eq!(unit_of((odd, config, socket)), Err(PathError::Odd(odd.into())));
        }
        assert_eq!(unit_of(("/tmp/relay", config, socket)), Err(PathError::Temporary("/tmp/relay".into())));
        assert_eq!(unit_of((USUAL.0, config, "/srv/sock")), Err(PathError::Socket("/srv/sock".into())));
    }

    #[test]
    fn a_package_has_the_unit_already_where_it_fits() {
        let interface = "wg0".parse().expect("name");
        let packaged = unit_of(("/usr/bin/relay", DEFAULT_PATH, DEFAULT_SOCKET)).expect("a unit");
        for (config, fits) in [(DEFAULT_PATH, true), ("/etc/other.toml", false)] {
            let [binary, config, socket] = ["/usr/bin/relay", config, DEFAULT_SOCKET].map(Path::new);
            let paths = Paths { binary, config, socket };
            let packaged = Some(packaged.as_str());
            let wanted = files(&Installation { paths, interface: &interface, userspace: true, packaged });
            let wanted = wanted.expect("files");
            assert_eq!(wanted[0].text.is_none(), fits);
            assert!(wanted[1].text.is_some() && wanted[2].text.is_some(), "{wanted:?}");
        }
    }

    #[test]
    fn what_is_written_is_what_is_removed() {
        let interface = "wg7".parse().expect("name");
        let [binary, config, socket] = [USUAL.0, USUAL.1, USUAL.2].map(Path::new);
        let paths = Paths { binary, config, socket };
        for userspace in [false, true] {
            let wanted = files(&Installation { paths, interface: &interface, userspace, packaged: None });
            let wanted = wanted.expect("files");
            assert_eq!(wanted.each_ref().map(|file| file.path), no_files().map(|file| file.path));
            assert_eq!(wanted[1].text.is_some(), userspace);
            assert!(wanted[2].text.as_ref().is_some_and(|text| text.contains("\nName=wg7\n")), "{wanted:?}");
        }
    }
}
