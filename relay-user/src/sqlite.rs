//! SQLite databases, opened to read.

use std::{path::Path, time::Duration};

use rusqlite::{Connection, OpenFlags};

/// How long a writer may hold us up; transactions of wg-easy and of relay take milliseconds.
const BUSY: Duration = Duration::from_secs(5);

/// Opens a database without changing anything in its folder that would matter to its owner.
///
/// With a log beside it (`-wal`, `-shm`), SQLite's own locks order us with whoever writes. Without one nobody has the
/// database open, and `immutable` keeps SQLite from making such files beside it.
pub(crate) fn open(path: &Path) -> rusqlite::Result<Connection> {
    let beside = |suffix: &str| {
        let mut name = path.as_os_str().to_owned();
        name.push(suffix);
        std::fs::metadata(name).is_ok_and(|file| file.len() > 0)
    };
    let has_log = beside("-wal") || beside("-shm");
    let mode = if has_log { "mode=ro" } else { "mode=ro&immutable=1" };
    let flags =
        OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_URI | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let connection = Connection::open_with_flags(format!("file:{}?{mode}", encoded(path)), flags)?;
    connection.busy_timeout(BUSY)?;
    // A schema from elsewhere may name functions with effects; none is trusted.
    connection.pragma_update(None, "trusted_schema", false)?;
    Ok(connection)
}

/// The path as a URI's.
fn encoded(path: &Path) -> String {
    use std::os::unix::ffi::OsStrExt as _;
    let plain = |byte: &u8| byte.is_ascii_alphanumeric() || b"/._-".contains(byte);
    path.as_os_str()
        .as_bytes()
        .iter()
        .map(|byte| if plain(byte) { char::from(*byte).to_string() } else { format!("%{byte:02X}") })
        .collect()
}
