//! Files that hold one key: read with care, made private from birth.

use std::{
    fs::{DirBuilder, File, OpenOptions},
    io::{self, Read as _, Write as _},
    os::unix::fs::{DirBuilderExt as _, MetadataExt as _, OpenOptionsExt as _},
    path::Path,
};

use zeroize::Zeroizing;

/// Far more than a key and a newline; a file beyond it is something else.
const LIMIT: u64 = 4096;

/// The content of a key file, wiped when dropped.
pub struct Secret {
    /// What it holds, without the white space at its ends.
    pub text: Zeroizing<String>,
    /// Permission bits of the file.
    pub mode: u32,
}

impl Secret {
    /// Whether others than its owner may read it.
    #[must_use]
    pub fn is_exposed(&self) -> bool {
        self.mode & 0o077 != 0
    }
}

/// Reads the key file at `path`.
///
/// # Errors
/// It cannot be opened or read, is no plain file, or holds more than a key.
pub fn read(path: &Path) -> io::Result<Secret> {
    // O_NONBLOCK: a FIFO by mistake must not hold the daemon up.
    let file = OpenOptions::new().read(true).custom_flags(nix::libc::O_NONBLOCK).open(path)?;
    let metadata = file.metadata()?;
    if !metadata.is_file() {
        return Err(io::Error::other("not a plain file"));
    }
    // Room for all of it at once: growing would leave copies behind that nobody wipes.
    let mut bytes = Zeroizing::new(Vec::with_capacity(2 * LIMIT as usize));
    file.take(LIMIT + 1).read_to_end(&mut bytes)?;
    if bytes.len() as u64 > LIMIT {
        return Err(io::Error::other("too long for a key file"));
    }
    let text = std::str::from_utf8(&bytes).map_err(|_| io::Error::other("not text"))?;
    Ok(Secret { text: Zeroizing::new(text.trim().to_owned()), mode: metadata.mode() & 0o7777 })
}

/// Writes a new key file that only its owner may read, from the moment it exists; it appears whole or not at all.
///
/// # Errors
/// `AlreadyExists` if there is one: a key is never overwritten. Else what the file system says.
pub fn create(path: &Path, key: &str) -> io::Result<()> {
    let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
    // Created 0600 with O_EXCL, and removed again if anything below fails.
    let mut file = tempfile::Builder::new().prefix(".key").tempfile_in(folder)?;
    file.write_all(key.as_bytes())?;
    file.write_all(b"\n")?;
    file.as_file().sync_all()?;
    file.persist_noclobber(path)?;
    File::open(folder)?.sync_all()
}

/// Makes a folder that only its owner may enter, with those above it; one that exists stays as it is.
///
/// # Errors
/// What the file system says.
pub fn create_folder(path: &Path) -> io::Result<()> {
    DirBuilder::new().recursive(true).mode(0o700).create(path)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn created_private_and_read_back() {
        let folder = tempfile::tempdir().expect("folder");
        let path = folder.path().join("a/b/wg0.key");
        create_folder(path.parent().expect("parent")).expect("folder");
        create(&path, "secret").expect("create");
        let secret = read(&path).expect("read");
        assert_eq!((secret.text.as_str(), secret.mode, secret.is_exposed()), ("secret", 0o600, false));
        let mode = std::fs::metadata(folder.path().join("a/b")).expect("metadata").mode();
        assert_eq!(mode & 0o777, 0o700);
        assert_eq!(create(&path, "other").expect_err("exists").kind(), io::ErrorKind::AlreadyExists);
        assert_eq!(read(&path).expect("read").text.as_str(), "secret");
    }

    #[test]
    fn what_is_no_key_file_is_refused() {
        let folder = tempfile::tempdir().expect("folder");
        let path = folder.path().join("file");
        let message = |path: &Path| read(path).map(|_| ()).expect_err("refused").to_string();
        assert_eq!(message(folder.path()), "not a plain file");
        std::fs::write(&path, vec![b'a'; 5000]).expect("write");
        assert_eq!(message(&path), "too long for a key file");
        std::fs::write(&path, [0xff; 44]).expect("write");
        assert_eq!(message(&path), "not text");
        nix::unistd::mkfifo(&folder.path().join("fifo"), nix::sys::stat::Mode::S_IRWXU).expect("fifo");
        assert_eq!(message(&folder.path().join("fifo")), "not a plain file");
    }
}
