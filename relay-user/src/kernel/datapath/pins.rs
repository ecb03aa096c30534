//! Where the fast path lives in bpffs, and the folders there.
//!
//! ```text
//! /sys/fs/bpf/relay/<interface>/link          the TCX link (none on clsact)
//! /sys/fs/bpf/relay/<interface>/<LAYOUT>/…    the maps of that layout
//! ```
//!
//! An interface of another network namespace has a folder `<interface>@<inode of the namespace>`, the guard in front of
//! an interface's port `<interface>@uplink`. No interface has an `@` in its name.

use std::{
    fs, io,
    os::unix::fs::DirBuilderExt as _,
    path::{Path, PathBuf},
};

use nix::{
    mount::{MsFlags, mount},
    sys::statfs::{BPF_FS_MAGIC, statfs},
};
use relay_common::LAYOUT;

use super::DatapathError;
use crate::name::InterfaceName;

/// Where relay pins, on the bpf file system that systemd mounts.
pub const PIN_ROOT: &str = "/sys/fs/bpf/relay";

/// The pins of one interface.
#[derive(Clone, Debug)]
pub struct Pins {
    root: PathBuf,
    interface: InterfaceName,
    /// What follows the interface's name, where something does.
    of: Option<String>,
}

impl Pins {
    /// Under [`PIN_ROOT`].
    #[must_use]
    pub fn new(interface: InterfaceName) -> Self {
        Self::under(PIN_ROOT, interface)
    }

    /// Under another folder, whose parent is a bpf file system's mount point.
    pub fn under(root: impl Into<PathBuf>, interface: InterfaceName) -> Self {
        Self { root: root.into(), interface, of: None }
    }

    /// Under [`PIN_ROOT`], of an interface of another network namespace; `None` for our own.
    #[must_use]
    pub fn in_namespace(interface: InterfaceName, inode: Option<u64>) -> Self {
        Self { root: PIN_ROOT.into(), interface, of: inode.map(|inode| inode.to_string()) }
    }

    /// Under [`PIN_ROOT`], of the guard in front of the port of a tunnel interface.
    #[must_use]
    pub fn of_uplink(interface: InterfaceName) -> Self {
        Self { root: PIN_ROOT.into(), interface, of: Some("uplink".into()) }
    }

    /// The interface they belong to.
    #[must_use]
    pub const fn interface(&self) -> &InterfaceName {
        &self.interface
    }

    /// The interface's folder.
    #[must_use]
    pub fn folder(&self) -> PathBuf {
        self.root.join(match &self.of {
            Some(of) => format!("{}@{of}", self.interface),
            None => self.interface.to_string(),
        })
    }

    /// Whether anything is pinned for the interface.
    #[must_use]
    pub fn exist(&self) -> bool {
        self.folder().exists()
    }

    /// The link's pin.
    #[must_use]
    pub fn link(&self) -> PathBuf {
        self.folder().join("link")
    }

    /// The folder of this layout's maps.
    #[must_use]
    pub fn maps(&self) -> PathBuf {
        self.folder().join(LAYOUT.to_string())
    }

    /// Makes the folders; mounts the bpf file system where there is none.
    pub(super) fn create(&self) -> Result<(), DatapathError> {
        mount_bpffs(self.root.parent().unwrap_or(&self.root))?;
        let maps = self.maps();
        fs::DirBuilder::new()
            .recursive(true)
            .mode(0o700)
            .create(&maps)
            .map_err(|error| DatapathError::io(format!("make the folder {}", maps.display()), &error))
    }

    /// Removes the maps of every other layout.
    pub(super) fn remove_other_layouts(&self) -> Result<(), DatapathError> {
        let folder = self.folder();
        for entry in entries(&folder)? {
            if entry != self.maps() && entry != self.link() {
                remove_all(&entry)?;
            }
        }
        Ok(())
    }

    /// Removes every pin of the interface, and folders that are empty then.
    pub(super) fn remove(&self) -> Result<(), DatapathError> {
        remove_all(&self.folder())?;
        match fs::remove_dir(&self.root) {
            Ok(()) => Ok(()),
            // In the sandbox of systemd's service the folder is a mount in what is read-only; `relay down`, which stands
            // outside, removes it then.
            Err(error)
                if matches!(
                    error.kind(),
                    io::ErrorKind::NotFound
                        | io::ErrorKind::DirectoryNotEmpty
                        | io::ErrorKind::ReadOnlyFilesystem
                        | io::ErrorKind::ResourceBusy
                ) =>
            {
                Ok(())
            }
            Err(error) => Err(DatapathError::io(format!("remove {}", self.root.display()), &error)),
        }
    }
}

/// Whether there is a bpf file system in which pins would stand.
#[must_use]
pub fn has_bpffs() -> bool {
    Path::new(PIN_ROOT).parent().is_some_and(is_bpffs)
}

fn is_bpffs(path: &Path) -> bool {
    statfs(path).is_ok_and(|status| status.filesystem_type() == BPF_FS_MAGIC)
}

fn mount_bpffs(path: &Path) -> Result<(), DatapathError> {
    if is_bpffs(path) {
        return Ok(());
    }
    let flags = MsFlags::MS_NOSUID | MsFlags::MS_NODEV | MsFlags::MS_NOEXEC | MsFlags::MS_RELATIME;
    mount(Some("bpf"), path, Some("bpf"), flags, Some("mode=0700"))
        .map_err(|errno| DatapathError::NoBpffs { path: path.to_owned(), source: errno.into() })
}

/// What a folder holds; nothing when it does not exist.
fn entries(folder: &Path) -> Result<Vec<PathBuf>, DatapathError> {
    let act = || format!("read the folder {}", folder.display());
    let entries = match fs::read_dir(folder) {
        Ok(entries) => entries,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(error) => return Err(DatapathError::io(act(), &error)),
    };
    entries
        .map(|entry| entry.map(|entry| entry.path()).map_err(|error| DatapathError::io(act(), &error)))
        .collect()
}

/// Removes a pin or a folder with all its pins, if it is there.
pub(super) fn remove_all(path: &Path) -> Result<(), DatapathError> {
    let removed = match fs::symlink_metadata(path) {
        Ok(metadata) if metadata.is_dir() => fs::remove_dir_all(path),
        Ok(_) => fs::remove_file(path),
        Err(error) => Err(error),
    };
    match removed {
        Err(error) if error.kind() != io::ErrorKind::NotFound => {
            Err(DatapathError::io(format!("remove {}", path.display()), &error))
        }
        _ => Ok(()),
    }
}
