//! The file on disk: changed under a lock, replaced in one step, never half-written.

use std::{
    fs::File,
    io::{self, Write as _},
    os::{
        fd::AsFd as _,
        unix::fs::{MetadataExt as _, PermissionsExt as _},
    },
    path::{Path, PathBuf},
};

/// How the names of files begin and end that are not yet in their place.
const TEMPORARY: (&str, &str) = (".relay.", ".tmp");

/// Why the file could not be edited. The old one is as it was.
#[derive(Debug, thiserror::Error)]
#[error("cannot {act} {}", path.display())]
pub struct FileError {
    act: &'static str,
    path: PathBuf,
    #[source]
    source: io::Error,
}

impl FileError {
    /// Whether there is no such file.
    #[must_use]
    pub fn is_missing(&self) -> bool {
        self.source.kind() == io::ErrorKind::NotFound
    }

    /// What the reader can do about it, where that is known.
    #[must_use]
    pub fn hint(&self) -> Option<&'static str> {
        match self.source.kind() {
            io::ErrorKind::NotFound => Some("`relay init` makes one; `--config PATH` names another"),
            io::ErrorKind::PermissionDenied => Some("run this as root"),
            io::ErrorKind::StorageFull => Some("free some space; the old file is untouched"),
            _ => None,
        }
    }
}

/// The right to change one file, held until dropped, so that two commands at once lose no edit.
///
/// What is locked is the folder: the file itself is a new one after each save.
#[derive(Debug)]
pub struct Editing {
    path: PathBuf,
    folder: File,
}

impl Editing {
    /// Waits for the lock. The file need not exist; its folder must. Links are followed, so that a save replaces the
    /// file and not the link to it.
    ///
    /// # Errors
    /// The folder is missing or cannot be opened.
    pub fn begin(path: &Path) -> Result<Self, FileError> {
        let failed = |act| move |source| FileError { act, path: path.to_owned(), source };
        let path = real_path(path).map_err(failed("find"))?;
        let folder = File::open(folder_of(&path)).map_err(failed("open the folder of"))?;
        folder.lock().map_err(failed("lock the folder of"))?;
        Ok(Self { path, folder })
    }

    /// The file itself, no link.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// What the file says under the lock.
    ///
    /// # Errors
    /// It is missing, unreadable or not UTF-8.
    pub fn read(&self) -> Result<String, FileError> {
        std::fs::read_to_string(&self.path).map_err(self.failed("read"))
    }

    /// Whether there is a file at all.
    #[must_use]
    pub fn exists(&self) -> bool {
        self.path.symlink_metadata().is_ok()
    }

    /// Replaces the file: those who read it find the old text or the new one, also after a power cut.
    ///
    /// The new file belongs to the owner of the old one and is readable by nobody else, or by as few as the old one.
    ///
    /// # Errors
    /// No space, no permission and the like; the old file is untouched then.
    pub fn save(&self, text: &str) -> Result<(), FileError> {
        self.replace(text).map_err(self.failed("save"))
    }

    fn replace(&self, text: &str) -> io::Result<()> {
        // A leftover that stays does no harm, and a save is more than tidiness.
        let _ = self.remove_leftovers();
        // Created 0600 with O_EXCL, and removed again if anything below fails.
        let (prefix, suffix) = TEMPORARY;
        let mut file =
            tempfile::Builder::new().prefix(prefix).suffix(suffix).tempfile_in(folder_of(&self.path))?;
        file.write_all(text.as_bytes())?;
        if let Ok(old) = self.path.metadata() {
            let new = file.as_file().metadata()?;
            if (old.uid(), old.gid()) != (new.uid(), new.gid()) {
                std::os::unix::fs::fchown(file.as_file().as_fd(), Some(old.uid()), Some(old.gid()))?;
            }
            let mode = old.mode() & 0o600;
            if mode != 0 {
                file.as_file().set_permissions(std::fs::Permissions::from_mode(mode))?;
            }
        }
        file.as_file().sync_all()?;
        file.persist(&self.path)?;
        // The new text is in force from here on. Where the folder cannot be written back, a power cut may yet bring
        // the old one, whole as well; an error would say that the new one is not there.
        if let Err(error) = self.folder.sync_all() {
            tracing::warn!(
                "{} is saved, and may be the old one after a power cut: {error}",
                self.path.display()
            );
        }
        Ok(())
    }

    /// Removes what saves left behind that were killed: nobody else saves while the lock is held.
    fn remove_leftovers(&self) -> io::Result<()> {
        for entry in std::fs::read_dir(folder_of(&self.path))? {
            let entry = entry?;
            let name = entry.file_name();
            let name = name.to_string_lossy();
            if name.starts_with(TEMPORARY.0) && name.ends_with(TEMPORARY.1) {
                std::fs::remove_file(entry.path())?;
            }
        }
        Ok(())
    }

    fn failed(&self, act: &'static str) -> impl FnOnce(io::Error) -> FileError {
        let path = self.path.clone();
        move |source| FileError { act, path, source }
    }
}

fn real_path(path: &Path) -> io::Result<PathBuf> {
    match path.canonicalize() {
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            let name = path.file_name().ok_or(error)?;
            Ok(folder_of(path).canonicalize()?.join(name))
        }
        other => other,
    }
}

fn folder_of(path: &Path) -> &Path {
    path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."))
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;

    use super::*;

    fn mode(path: &Path) -> u32 {
        path.metadata().expect("metadata").mode() & 0o7777
    }

    fn names(folder: &Path) -> Vec<String> {
        let entries = folder.read_dir().expect("folder");
        let mut names: Vec<String> =
            entries.map(|entry| entry.expect("entry").file_name().to_string_lossy().into_owned()).collect();
        names.sort();
        names
    }

    #[test]
    fn saved_private_and_alone() {
        let folder = tempfile::tempdir().expect("folder");
        let path = folder.path().join("relay.toml");
        let editing = Editing::begin(&path).expect("lock");
        assert!(!editing.exists() && editing.read().is_err());
        editing.save("one\n").expect("save");
        assert_eq!((editing.read().expect("read").as_str(), mode(&path)), ("one\n", 0o600));
        for (before, after) in [(0o644, 0o600), (0o400, 0o400), (0o600, 0o600)] {
            std::fs::set_permissions(&path, std::fs::Permissions::from_mode(before)).expect("chmod");
            editing.save("two\n").expect("save");
            assert_eq!(mode(&path), after, "{before:o}");
        }
        assert_eq!(names(folder.path()), ["relay.toml"]);
    }

    #[test]
    fn a_link_stays_a_link() {
        let folder = tempfile::tempdir().expect("folder");
        let (real, link) = (folder.path().join("real.toml"), folder.path().join("relay.toml"));
        std::fs::write(&real, "old").expect("write");
        symlink(&real, &link).expect("link");
        Editing::begin(&link).expect("lock").save("new").expect("save");
        assert!(link.symlink_metadata().expect("metadata").is_symlink());
        assert_eq!(std::fs::read_to_string(&real).expect("read"), "new");
    }

    #[test]
    fn a_failed_save_leaves_the_old_file() {
        let folder = tempfile::tempdir().expect("folder");
        let path = folder.path().join("sub/relay.toml");
        std::fs::create_dir(folder.path().join("sub")).expect("folder");
        std::fs::write(&path, "old").expect("write");
        let editing = Editing::begin(&path).expect("lock");
        // A folder in the file's place: rename must fail, whoever runs this.
        std::fs::rename(&path, folder.path().join("kept")).expect("rename");
        std::fs::create_dir(&path).expect("folder");
        let error = editing.save("new").expect_err("a folder is in the way");
        assert!(error.to_string().starts_with("cannot save "), "{error}");
        assert_eq!(names(&folder.path().join("sub")), ["relay.toml"], "no temporary file is left");
    }

    #[test]
    fn what_a_killed_save_left_is_removed_and_nothing_else() {
        let folder = tempfile::tempdir().expect("folder");
        let path = folder.path().join("relay.toml");
        for name in [".relay.ab12cd.tmp", ".relay.toml.swp", "relay.tmp"] {
            std::fs::write(folder.path().join(name), "").expect("write");
        }
        Editing::begin(&path).expect("lock").save("new").expect("save");
        assert_eq!(names(folder.path()), [".relay.toml.swp", "relay.tmp", "relay.toml"]);
    }

    #[test]
    fn two_at_once_lose_no_edit() {
        let folder = tempfile::tempdir().expect("folder");
        let path = folder.path().join("relay.toml");
        std::fs::write(&path, "").expect("write");
        std::thread::scope(|scope| {
            for _ in 0..8 {
                scope.spawn(|| {
                    let editing = Editing::begin(&path).expect("lock");
                    let text = editing.read().expect("read") + "x";
                    editing.save(&text).expect("save");
                });
            }
        });
        assert_eq!(std::fs::read_to_string(&path).expect("read"), "x".repeat(8));
    }

    #[test]
    fn a_missing_folder_says_so() {
        let error = Editing::begin(Path::new("/nonexistent/relay.toml")).expect_err("missing");
        assert_eq!(error.to_string(), "cannot find /nonexistent/relay.toml");
        assert!(error.hint().is_some());
    }
}
