//! One relay per interface: a lock that the kernel holds for as long as the process lives, and not a moment longer.

use std::{
    fmt,
    fs::{self, DirBuilder, File, OpenOptions, TryLockError},
    io::{self, Read as _, Seek as _, Write as _},
    os::unix::fs::{DirBuilderExt as _, MetadataExt as _, OpenOptionsExt as _},
    path::{Path, PathBuf},
    thread,
    time::{Duration, Instant},
};

use nix::{errno::Errno, sys::signal::kill, unistd::Pid};

/// Why the lock could not be had.
#[derive(Debug, thiserror::Error)]
pub enum LockError {
    /// Another relay has it.
    #[error(
        "another relay already runs interface {interface}{}, and holds {} (hint: `relay reload` tells it of changes, \
         `relay down` ends it, `relay release` if it was adopted)",
        pid.map_or_else(String::new, |pid| format!(", process {pid}")),
        path.display()
    )]
    Held {
        /// The interface.
        interface: String,
        /// Whose it is, if the file says so.
        pid: Option<u32>,
        /// The lock.
        path: PathBuf,
    },
    /// The lock's file cannot be made.
    #[error("cannot lock {}: {cause}{}", path.display(), if cause.kind() == io::ErrorKind::PermissionDenied {
        " (hint: this needs root)"
    } else { "" })]
    Failed {
        /// The lock.
        path: PathBuf,
        /// Why not.
        #[source]
        cause: io::Error,
    },
}

/// How long the lock of a dead process is waited for; a child calls exec within milliseconds.
const ORPHANED: Duration = Duration::from_millis(500);

/// How often it is tried meanwhile.
const LOOK: Duration = Duration::from_millis(10);

/// Held until dropped. The file stays, unless it is removed by [`Lock::remove`].
#[derive(Debug)]
pub struct Lock {
    path: PathBuf,
    _file: File,
}

impl Lock {
    /// Locks `<run_dir>/<interface>.lock` and writes this process's id into it.
    ///
    /// # Errors
    /// [`LockError::Held`] when another process, or this one, has it: at once, unless the process that the file names is
    /// dead. Then it is a child of that one, which has the lock until it calls exec, and is waited for. The file cannot be
    /// made.
    pub fn acquire(run_dir: &Path, interface: &impl fmt::Display) -> Result<Self, LockError> {
        let begun = Instant::now();
        loop {
            match Self::try_acquire(run_dir, interface) {
                Err(LockError::Held { pid: Some(pid), .. }) if is_dead(pid) && begun.elapsed() < ORPHANED => {
                    thread::sleep(LOOK);
                }
                other => return other,
            }
        }
    }

    fn try_acquire(run_dir: &Path, interface: &impl fmt::Display) -> Result<Self, LockError> {
        let path = run_dir.join(format!("{interface}.lock"));
        let failed = |cause| LockError::Failed { path: path.clone(), cause };
        DirBuilder::new().recursive(true).mode(0o755).create(run_dir).map_err(failed)?;
        // Not truncated: until the lock is ours the content is another's.
        let options =
            OpenOptions::new().read(true).write(true).create(true).truncate(false).mode(0o644).open(&path);
        let mut file = options.map_err(failed)?;
        match file.try_lock() {
            // Whoever had it removed the file in between: a lock on it would be nobody else's.
            Ok(()) if !is_at(&file, &path).map_err(failed)? => return Self::try_acquire(run_dir, interface),
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => {
                let mut text = String::new();
                let pid = file.read_to_string(&mut text).ok().and_then(|_| text.trim().parse().ok());
                return Err(LockError::Held { interface: interface.to_string(), pid, path });
            }
            Err(TryLockError::Error(cause)) => return Err(failed(cause)),
        }
        let written = file.set_len(0).and_then(|()| file.rewind());
        written.and_then(|()| writeln!(file, "{}", std::process::id())).map_err(failed)?;
        Ok(Self { path, _file: file })
    }

    /// Lets go of it and leaves no file behind.
    pub fn remove(self) {
        // Gone already is as good, and what stays is an empty word: nobody holds it.
        let _ = fs::remove_file(&self.path);
    }
}

/// Whether there is no such process.
fn is_dead(pid: u32) -> bool {
    let pid = i32::try_from(pid).map(Pid::from_raw);
    pid.is_ok_and(|pid| kill(pid, None) == Err(Errno::ESRCH))
}

/// Whether the open file is the one of that name.
fn is_at(file: &File, path: &Path) -> io::Result<bool> {
    let ours = file.metadata()?;
    match fs::metadata(path) {
        Ok(named) => Ok((named.dev(), named.ino()) == (ours.dev(), ours.ino())),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(false),
        Err(error) => Err(error),
    }
}

/// Whether some process has the lock of this interface. Nothing is locked to find out: a relay that starts meanwhile
/// would meet it.
#[must_use]
pub fn is_held(run_dir: &Path, interface: &impl fmt::Display) -> bool {
    let Ok(file) = fs::metadata(run_dir.join(format!("{interface}.lock"))) else { return false };
    let (major, minor) = (nix::sys::stat::major(file.dev()), nix::sys::stat::minor(file.dev()));
    // The sixth word of a line is the file (proc_locks(5)).
    let name = format!("{major:02x}:{minor:02x}:{}", file.ino());
    let locks = fs::read_to_string("/proc/locks").unwrap_or_default();
    locks.lines().any(|line| line.split_whitespace().nth(5) == Some(&name))
}
