//! Which interface of which namespace, and where what is kept for it stands.

use std::{
    fmt, fs,
    path::{Path, PathBuf},
};

use crate::{
    daemon::RUN_DIR,
    kernel::{
        datapath::Pins,
        lock::{Lock, LockError},
        namespace::Namespace,
    },
    name::InterfaceName,
};

/// An interface that somebody else keeps. In our own namespace it shares lock and pins with `relay up`, so that one
/// interface never has two keepers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Place {
    /// The interface.
    pub interface: InterfaceName,
    /// The namespace that it is in, if not our own.
    pub namespace: Option<Namespace>,
}

impl Place {
    /// Where its fast path is pinned.
    #[must_use]
    pub fn pins(&self) -> Pins {
        Pins::in_namespace(self.interface.clone(), self.namespace.as_ref().map(Namespace::inode))
    }

    /// Where whoever keeps it answers.
    #[must_use]
    pub fn socket(&self) -> PathBuf {
        self.folder().join(format!("{self}.sock"))
    }

    /// What remembers that the qdisc is ours, on kernels that need one.
    #[must_use]
    pub fn qdisc(&self) -> PathBuf {
        self.folder().join(format!("{self}.qdisc"))
    }

    fn folder(&self) -> PathBuf {
        Path::new(RUN_DIR).join("adopted")
    }

    /// One keeper per interface.
    ///
    /// # Errors
    /// As [`Lock::acquire`].
    pub fn lock(&self) -> Result<Lock, LockError> {
        Lock::acquire(Path::new(RUN_DIR), self)
    }

    /// Removes the lock and every folder that is empty then, unless something of the fast path is still there.
    pub fn tidy(&self, lock: Lock) {
        if self.pins().exist() {
            return;
        }
        lock.remove();
        for folder in [self.folder(), PathBuf::from(RUN_DIR)] {
            // Not empty, or gone already: somebody else's business.
            let _ = fs::remove_dir(folder);
        }
    }

    /// What a person types in front of a command so that it runs where the interface is; nothing in our own namespace.
    #[must_use]
    pub fn entering(&self) -> String {
        let enter = |namespace: &Namespace| format!("nsenter --net={} ", namespace.path().display());
        self.namespace.as_ref().map(enter).unwrap_or_default()
    }
}

impl fmt::Display for Place {
    /// `wg0`, or `wg0@4026532291`, which is no interface's name.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.namespace {
            Some(namespace) => write!(f, "{}@{}", self.interface, namespace.inode()),
            None => self.interface.fmt(f),
        }
    }
}
