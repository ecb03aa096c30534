//! A file that only its owner may read from the moment it exists, written whole before it gets its name.

use std::{
    fs::File,
    io::{self, Write as _},
    path::{Path, PathBuf},
};

use anyhow::{Context as _, Result};
use tempfile::NamedTempFile;

use crate::failure::Failure;

/// One that has no name yet. It goes if it gets none.
pub(super) struct PrivateFile {
    file: NamedTempFile,
    path: PathBuf,
    overwrite: bool,
}

impl PrivateFile {
    /// Writes it beside `path`, so that little is left that can fail.
    pub(super) fn stage(path: &Path, bytes: &[u8], overwrite: bool) -> Result<Self> {
        if !overwrite && path.symlink_metadata().is_ok() {
            return Err(exists(path).into());
        }
        let write = || -> io::Result<NamedTempFile> {
            // A folder that is missing is told in the system's own words.
            File::open(folder_of(path))?;
            // Created 0600 with O_EXCL, and not named as what a save of relay.toml leaves, which the next save removes.
            let mut file =
                tempfile::Builder::new().prefix(".handout.").suffix(".tmp").tempfile_in(folder_of(path))?;
            file.write_all(bytes)?;
            file.as_file().sync_all()?;
            Ok(file)
        };
        let file = write().with_context(|| format!("cannot write {}", path.display()))?;
        Ok(Self { file, path: path.to_owned(), overwrite })
    }

    /// Gives it its name.
    pub(super) fn publish(self) -> Result<PathBuf> {
        let Self { file, path, overwrite } = self;
        let persisted = if overwrite { file.persist(&path) } else { file.persist_noclobber(&path) };
        match persisted {
            Ok(_) => {}
            Err(error) if error.error.kind() == io::ErrorKind::AlreadyExists => {
                return Err(exists(&path).into());
            }
            Err(error) => {
                return Err(
                    anyhow::Error::new(error.error).context(format!("cannot write {}", path.display()))
                );
            }
        }
        // The file is there; if its name does not survive a power cut now, the command can be repeated.
        let _ = File::open(folder_of(&path)).and_then(|folder| folder.sync_all());
        Ok(path)
    }
}

fn exists(path: &Path) -> Failure {
    Failure::new(format!("{} exists", path.display())).hint("choose another name, or say --overwrite")
}

fn folder_of(path: &Path) -> &Path {
    path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."))
}
