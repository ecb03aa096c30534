//! Which format a path holds, and the only reading of files: never a byte of a source is changed.

use std::{
    fs::File,
    io::{self, Read as _},
    path::{Path, PathBuf},
};

use zeroize::Zeroizing;

use super::{found::Found, wg_easy14, wg_easy15, wg_quick};

/// More than ten thousand peers need; a file beyond it is something else.
const LIMIT: u64 = 16 * 1024 * 1024;

/// What SQLite's files begin with (<https://www.sqlite.org/fileformat2.html>, 1.3.1).
const SQLITE: &[u8] = b"SQLite format 3\0";

const DATABASE: &str = "wg-easy.db";
const JSON: &str = "wg0.json";
const CONF: &str = "wg0.conf";

/// Why a source cannot be read at all.
#[derive(Debug, thiserror::Error)]
pub enum ReadError {
    /// The file system says no.
    #[error("cannot read {}", path.display())]
    Io {
        /// Which file.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// Neither a database nor text.
    #[error("{} is neither a wg-quick file nor wg-easy's wg0.json or wg-easy.db", .0.display())]
    Unknown(PathBuf),
    /// A folder with nothing that is known.
    #[error("{} holds no wg-easy.db, no wg0.json and no single .conf file", .0.display())]
    Empty(PathBuf),
    /// SQLite says no.
    #[error("cannot read the database {}", path.display())]
    Database {
        /// Which file.
        path: PathBuf,
        /// Why.
        #[source]
        source: rusqlite::Error,
    },
}

impl ReadError {
    /// What the reader can do about it, where that is known.
    #[must_use]
    pub fn hint(&self) -> Option<&'static str> {
        match self {
            Self::Io { source, .. } if source.kind() == io::ErrorKind::PermissionDenied => {
                Some("run this as root")
            }
            Self::Empty(_) => Some(
                "name the file itself; wg-easy keeps its own in the volume that is /etc/wireguard inside",
            ),
            Self::Database { .. } => Some(
                "if its folder cannot be written to, copy wg-easy.db with its -wal and -shm to one that can",
            ),
            _ => None,
        }
    }
}

/// Reads what `path` holds: a file, or a folder with one of the known ones in it.
///
/// # Errors
/// It cannot be read, or is nothing that is known. What is wrong inside is in the result, with its place.
pub fn read(path: &Path) -> Result<Found, ReadError> {
    let io = |path: &Path| {
        let path = path.to_owned();
        move |source| ReadError::Io { path, source }
    };
    let metadata = path.metadata().map_err(io(path))?;
    let file = if metadata.is_dir() {
        find_in(path).map_err(io(path))?.ok_or_else(|| ReadError::Empty(path.to_owned()))?
    } else {
        path.to_owned()
    };
    let bytes = read_start(&file).map_err(io(&file))?;
    if bytes.starts_with(SQLITE) {
        let conf = beside(&file);
        let conf = conf.as_ref().map(|(path, text)| (path.as_path(), text.as_str()));
        return wg_easy15::read(&file, conf).map_err(|source| ReadError::Database { path: file, source });
    }
    let text = read_text(&file).map_err(io(&file))?.ok_or_else(|| ReadError::Unknown(file.clone()))?;
    if text.trim_start_matches('\u{feff}').trim_start().starts_with('{') {
        let conf = beside(&file);
        let conf = conf.as_ref().map(|(path, text)| (path.as_path(), text.as_str()));
        return Ok(wg_easy14::parse(&file, &text, conf));
    }
    let mut found = wg_quick::parse(&file, &text, stem(&file));
    if file.with_file_name(JSON).exists() && file.file_name().is_some_and(|name| name == CONF) {
        let message = "wg0.json stands beside it: importing that takes wg-easy's disabled clients along";
        found.note(&super::Place::whole(&file), message);
    }
    Ok(found)
}

/// The interface, as wg-quick takes it from the file's name.
fn stem(file: &Path) -> &str {
    let name = file.file_name().and_then(|name| name.to_str()).unwrap_or_default();
    name.strip_suffix(".conf").unwrap_or(name)
}

/// The newest format first: wg-easy 15 leaves the files of 14 where they were.
fn find_in(folder: &Path) -> io::Result<Option<PathBuf>> {
    for name in [DATABASE, JSON] {
        let path = folder.join(name);
        if path.is_file() {
            return Ok(Some(path));
        }
    }
    let mut conf: Vec<PathBuf> = Vec::new();
    for entry in folder.read_dir()? {
        let path = entry?.path();
        if path.extension().is_some_and(|extension| extension == "conf") && path.is_file() {
            conf.push(path);
        }
    }
    Ok(if conf.len() == 1 { conf.pop() } else { None })
}

/// The wg0.conf that wg-easy writes beside its own file.
fn beside(file: &Path) -> Option<(PathBuf, Zeroizing<String>)> {
    let path = file.with_file_name(CONF);
    let text = read_text(&path).ok()??;
    Some((path, text))
}

fn read_start(path: &Path) -> io::Result<Vec<u8>> {
    let mut start = Vec::new();
    open(path)?.take(SQLITE.len() as u64).read_to_end(&mut start)?;
    Ok(start)
}

/// `None` where it is no text, or too much.
fn read_text(path: &Path) -> io::Result<Option<Zeroizing<String>>> {
    let file = open(path)?;
    let size = file.metadata()?.len().min(LIMIT);
    // Room for all of it at once: growing would leave copies behind that nobody wipes.
    let mut bytes = Zeroizing::new(Vec::with_capacity(size as usize + 64));
    file.take(LIMIT + 1).read_to_end(&mut bytes)?;
    if bytes.len() as u64 > LIMIT {
        return Ok(None);
    }
    Ok(std::str::from_utf8(&bytes).ok().map(|text| Zeroizing::new(text.to_owned())))
}

/// A plain file; a FIFO by mistake must not hold us up.
fn open(path: &Path) -> io::Result<File> {
    use std::os::unix::fs::OpenOptionsExt as _;
    let file = File::options().read(true).custom_flags(nix::libc::O_NONBLOCK).open(path)?;
    if !file.metadata()?.is_file() {
        return Err(io::Error::other("not a plain file"));
    }
    Ok(file)
}
