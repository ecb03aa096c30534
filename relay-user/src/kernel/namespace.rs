//! Other network namespaces, a container's above all: entering one, and knowing it again.
//!
//! A namespace is entered by the whole process, before it has more than one thread: what is started later, threads and
//! programs alike, is in it as well. Mounts stay our own, and with them /run and the BPF file system, so that whatever
//! is kept there for an interface of another namespace must say whose it is: by the namespace's inode, which no two
//! that exist have in common.

use std::{
    convert::Infallible,
    fs::{self, File},
    io,
    os::unix::fs::MetadataExt as _,
    path::{Path, PathBuf},
    str::FromStr,
};

use nix::sched::{CloneFlags, setns};

/// A network namespace as people name it: by a process that is in it, or by a file such as /run/netns/NAME.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NamespaceName(PathBuf);

impl FromStr for NamespaceName {
    type Err = Infallible;

    fn from_str(text: &str) -> Result<Self, Infallible> {
        let path = match text.parse::<u32>() {
            Ok(pid) => PathBuf::from(format!("/proc/{pid}/ns/net")),
            Err(_) => PathBuf::from(text),
        };
        Ok(Self(path))
    }
}

/// Why a namespace could not be entered.
#[derive(Debug, thiserror::Error)]
#[error("cannot enter the network namespace {}", path.display())]
pub struct NamespaceError {
    path: PathBuf,
    #[source]
    cause: io::Error,
}

impl NamespaceError {
    /// What may help.
    #[must_use]
    pub fn hint(&self) -> &'static str {
        match self.cause.kind() {
            io::ErrorKind::NotFound => {
                "name a process that runs in it (`docker inspect -f '{{.State.Pid}}' wg-easy`), or its file, such as \
                 /run/netns/NAME"
            }
            io::ErrorKind::PermissionDenied => "run this as root",
            _ => "`lsns -t net` lists the network namespaces and a process in each",
        }
    }
}

/// A network namespace other than the one that this process was started in.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Namespace {
    path: PathBuf,
    inode: u64,
}

impl Namespace {
    /// Enters it, for good; `None` if this process is in it already. Only while there is one thread.
    ///
    /// # Errors
    /// There is none of that name; not permitted.
    pub fn enter(name: &NamespaceName) -> Result<Option<Self>, NamespaceError> {
        let path = &name.0;
        let failed = |cause| NamespaceError { path: path.clone(), cause };
        let path = std::path::absolute(path).map_err(failed)?;
        let file = File::open(&path).map_err(failed)?;
        // Asked of the open file: what the name stands for may change in between.
        let inode = file.metadata().map_err(failed)?.ino();
        if inode_of(Path::new("/proc/self/ns/net")).map_err(failed)? == inode {
            return Ok(None);
        }
        setns(file, CloneFlags::CLONE_NEWNET).map_err(|errno| failed(errno.into()))?;
        Ok(Some(Self { path, inode }))
    }

    /// By what it was named.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// What tells it from all others that exist.
    #[must_use]
    pub const fn inode(&self) -> u64 {
        self.inode
    }

    /// Whether its name still stands for it: the process runs, the file is there. A container that was started again
    /// has another namespace.
    #[must_use]
    pub fn stands(&self) -> bool {
        inode_of(&self.path).is_ok_and(|inode| inode == self.inode)
    }
}

fn inode_of(path: &Path) -> io::Result<u64> {
    Ok(fs::metadata(path)?.ino())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_number_is_a_process() {
        for (text, path) in
            [("17", "/proc/17/ns/net"), ("/run/netns/wg", "/run/netns/wg"), ("17x", "17x"), ("-1", "-1")]
        {
            let Ok(name) = text.parse::<NamespaceName>();
            assert_eq!(name.0, Path::new(path), "{text}");
        }
    }

    #[test]
    fn our_own_is_not_another() {
        let own = NamespaceName("/proc/self/ns/net".into());
        assert_eq!(Namespace::enter(&own).expect("our own"), None);
    }

    #[test]
    fn what_is_not_there_is_told_with_a_hint() {
        let error = Namespace::enter(&NamespaceName("/nonexistent".into())).expect_err("none");
        assert_eq!(error.to_string(), "cannot enter the network namespace /nonexistent");
        assert!(error.hint().contains("docker inspect"), "{}", error.hint());
    }
}
