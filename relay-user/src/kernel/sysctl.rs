//! The sysctls that relay sets, and a journal by which they go back to what they were, also after kill -9.
//!
//! The journal is a file under /run, so it ends with the boot whose sysctls it speaks of. An entry is written before
//! the sysctl is, and the first original value stays however often relay sets it again: what is to come back is what was
//! there before relay, not what somebody wrote in between.

use std::{
    fs::{self, DirBuilder, OpenOptions},
    io::{self, Write as _},
    os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _},
    path::{Path, PathBuf},
};

use serde::{Deserialize, Serialize};

use crate::name::InterfaceName;

/// A sysctl that matters to relay, of the calling thread's network namespace.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Sysctl {
    /// `net.ipv4.ip_forward`. The kernel sets `accept_redirects` along with it, both ways.
    Ipv4Forward,
    /// `net.ipv6.conf.all.forwarding`. With it, interfaces whose [`Sysctl::AcceptRa`] is 1 stop listening to routers.
    Ipv6Forward,
    /// `net.ipv4.conf.<interface>.send_redirects`; either of the interface's own and that of `all` turns it on.
    SendRedirects(InterfaceName),
    /// `net.ipv6.conf.<interface>.accept_ra`: 0 never, 1 unless forwarding, 2 always. An uplink that has its IPv6
    /// default route from a router must be at 2 before forwarding is on.
    AcceptRa(InterfaceName),
}

impl Sysctl {
    /// `net.ipv4.conf.all.send_redirects`, which switches redirects on for every interface.
    ///
    /// # Panics
    /// Never: `all` is a valid name.
    #[must_use]
    pub fn all_send_redirects() -> Self {
        Self::SendRedirects("all".parse().expect("a valid name"))
    }

    /// Its name with dots, as `sysctl` takes it.
    #[must_use]
    pub fn name(&self) -> String {
        match self {
            Self::Ipv4Forward => "net.ipv4.ip_forward".to_owned(),
            Self::Ipv6Forward => "net.ipv6.conf.all.forwarding".to_owned(),
            Self::SendRedirects(interface) => format!("net.ipv4.conf.{interface}.send_redirects"),
            Self::AcceptRa(interface) => format!("net.ipv6.conf.{interface}.accept_ra"),
        }
    }

    fn path(&self) -> PathBuf {
        // An interface's name may hold dots, so the path is not made of the name.
        PathBuf::from(match self {
            Self::Ipv4Forward => "/proc/sys/net/ipv4/ip_forward".to_owned(),
            Self::Ipv6Forward => "/proc/sys/net/ipv6/conf/all/forwarding".to_owned(),
            Self::SendRedirects(interface) => format!("/proc/sys/net/ipv4/conf/{interface}/send_redirects"),
            Self::AcceptRa(interface) => format!("/proc/sys/net/ipv6/conf/{interface}/accept_ra"),
        })
    }
}

/// Why a sysctl or the journal could not be read or written.
#[derive(Debug, thiserror::Error)]
pub enum SysctlError {
    /// The kernel refuses the value.
    #[error("cannot set {name} to {value}: {cause}{}", if cause.kind() == io::ErrorKind::PermissionDenied {
        " (hint: this needs root; in a container /proc/sys may be read-only)"
    } else { "" })]
    Write {
        /// The sysctl.
        name: String,
        /// The value.
        value: String,
        /// Why not.
        #[source]
        cause: io::Error,
    },
    /// The journal's file cannot be read or written.
    #[error("cannot {act} {}, which remembers the sysctls that relay changed: {cause}", path.display())]
    Journal {
        /// What was attempted.
        act: &'static str,
        /// The file.
        path: PathBuf,
        /// Why not.
        #[source]
        cause: io::Error,
    },
}

/// The value, or `None` where there is no such sysctl (no such interface, no IPv6).
#[must_use]
pub fn read(sysctl: &Sysctl) -> Option<String> {
    Some(fs::read_to_string(sysctl.path()).ok()?.trim().to_owned())
}

/// Sets it, without a word in any journal.
///
/// # Errors
/// [`SysctlError::Write`].
pub fn write(sysctl: &Sysctl, value: &str) -> Result<(), SysctlError> {
    fs::write(sysctl.path(), value).map_err(|cause| SysctlError::Write {
        name: sysctl.name(),
        value: value.to_owned(),
        cause,
    })
}

/// The journal of one relay interface.
#[derive(Clone, Debug)]
pub struct Journal {
    path: PathBuf,
}

#[derive(Debug, Serialize, Deserialize)]
struct Entry {
    sysctl: Sysctl,
    /// What was there before relay.
    original: String,
    /// What relay set.
    ours: String,
}

/// What became of one sysctl when it was to be restored.
#[derive(Debug)]
pub enum Restored {
    /// It is what it was.
    Done {
        /// Which.
        sysctl: Sysctl,
        /// The original value.
        value: String,
    },
    /// Somebody set it to something else than relay had; that word is younger than both, so it stands.
    Kept {
        /// Which.
        sysctl: Sysctl,
        /// What it is.
        value: String,
        /// What relay had set.
        ours: String,
    },
    /// It is gone, with its interface.
    Gone(Sysctl),
    /// The kernel refused; it stays in the journal.
    Failed(SysctlError),
}

impl Journal {
    /// The journal at `<run_dir>/<interface>/sysctl.json`, which need not exist.
    #[must_use]
    pub fn new(run_dir: &Path, interface: &InterfaceName) -> Self {
        Self { path: run_dir.join(interface.as_str()).join("sysctl.json") }
    }

    /// Sets a sysctl so that [`Journal::restore`] can undo it. Whether it had another value before; a value that is
    /// there already is somebody else's and is not undone.
    ///
    /// # Errors
    /// The journal cannot be written, and then the sysctl stays; the kernel refuses.
    pub fn set(&self, sysctl: &Sysctl, value: &str) -> Result<bool, SysctlError> {
        let current = read(sysctl);
        if current.as_deref() == Some(value) {
            return Ok(false);
        }
        if let Some(current) = current {
            let mut entries = self.entries()?;
            match entries.iter_mut().find(|entry| entry.sysctl == *sysctl) {
                Some(entry) => value.clone_into(&mut entry.ours),
                None => {
                    let ours = value.to_owned();
                    entries.push(Entry { sysctl: sysctl.clone(), original: current, ours });
                }
            }
            self.save(&entries)?;
        }
        write(sysctl, value)?;
        Ok(true)
    }

    /// Puts everything back, the last change first, and removes the journal. Without a journal there is nothing to do.
    ///
    /// # Errors
    /// The journal cannot be read or written. What a single sysctl meets is in the answer.
    pub fn restore(&self) -> Result<Vec<Restored>, SysctlError> {
        let mut failed = Vec::new();
        let mut told = Vec::new();
        for entry in self.entries()?.into_iter().rev() {
            let Entry { sysctl, original, ours } = &entry;
            match read(sysctl) {
                None => told.push(Restored::Gone(entry.sysctl)),
                Some(value) if value != *ours && value != *original => {
                    told.push(Restored::Kept { sysctl: entry.sysctl, value, ours: entry.ours });
                }
                Some(_) => match write(sysctl, original) {
                    Ok(()) => told.push(Restored::Done { sysctl: entry.sysctl, value: entry.original }),
                    Err(error) => {
                        told.push(Restored::Failed(error));
                        failed.push(entry);
                    }
                },
            }
        }
        failed.reverse();
        if failed.is_empty() {
            self.remove()?
        } else {
            self.save(&failed)?
        }
        Ok(told)
    }

    /// Leaves everything as it is and makes it the other journal's to put back: another relay on this host goes on, and
    /// needs what this one has set. What the other has set itself stays as it is there.
    ///
    /// # Errors
    /// A journal cannot be read or written.
    pub fn hand_over(&self, to: &Self) -> Result<Vec<Sysctl>, SysctlError> {
        let (mine, mut theirs) = (self.entries()?, to.entries()?);
        let handed: Vec<Entry> =
            mine.into_iter().filter(|mine| theirs.iter().all(|their| their.sysctl != mine.sysctl)).collect();
        let sysctls = handed.iter().map(|entry| entry.sysctl.clone()).collect();
        if !handed.is_empty() {
            // First, since they were set first.
            theirs.splice(0..0, handed);
            to.save(&theirs)?;
        }
        self.remove()?;
        Ok(sysctls)
    }

    fn entries(&self) -> Result<Vec<Entry>, SysctlError> {
        match fs::read(&self.path) {
            Ok(bytes) => {
                serde_json::from_slice(&bytes).map_err(|error| self.failed("understand")(error.into()))
            }
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(Vec::new()),
            Err(error) => Err(self.failed("read")(error)),
        }
    }

    /// Replaces the file as one: a reader finds the old one or the new one.
    fn save(&self, entries: &[Entry]) -> Result<(), SysctlError> {
        let failed = self.failed("write");
        let bytes = serde_json::to_vec_pretty(entries).map_err(|error| failed(error.into()))?;
        let folder = self.path.parent().unwrap_or(Path::new("/"));
        DirBuilder::new().recursive(true).mode(0o755).create(folder).map_err(&failed)?;
        let new = self.path.with_extension("json.new");
        let options = OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(&new);
        let written = options.and_then(|mut file| {
            file.write_all(&bytes)?;
            file.sync_all()
        });
        written.and_then(|()| fs::rename(&new, &self.path)).map_err(failed)
    }

    fn remove(&self) -> Result<(), SysctlError> {
        match fs::remove_file(&self.path) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => Err(self.failed("remove")(error)),
            _ => Ok(()),
        }
    }

    fn failed(&self, act: &'static str) -> impl Fn(io::Error) -> SysctlError {
        let path = self.path.clone();
        move |cause| SysctlError::Journal { act, path: path.clone(), cause }
    }
}
