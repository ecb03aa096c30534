//! Somebody else's SQLite database: opened to read, and its rows with whatever columns they have.

use std::{collections::HashMap, path::Path, time::Duration};

use rusqlite::{Connection, OpenFlags, types::ValueRef};
use zeroize::Zeroizing;

/// How long a writer may hold us up; wg-easy's transactions take milliseconds.
const BUSY: Duration = Duration::from_secs(5);

/// More rows than a hub has peers; a table beyond that is something else.
const MOST_ROWS: usize = 65_536;

/// Opens a database without changing anything in its folder that would matter to its owner.
///
/// With a log beside it (`-wal`, `-shm`), SQLite's own locks order us with whoever writes. Without one nobody has the
/// database open, and `immutable` keeps SQLite from making such files beside it.
pub(super) fn open(path: &Path) -> rusqlite::Result<Connection> {
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

/// A row: its columns by name. Values may be secrets, so they are wiped when dropped.
pub(super) struct Row {
    /// `rowid`, which a person finds again.
    pub(super) id: i64,
    values: HashMap<String, Zeroizing<String>>,
}

impl Row {
    /// The text of a column, numbers written out; `None` where it is missing, NULL or a blob.
    pub(super) fn text(&self, column: &str) -> Option<&str> {
        self.values.get(column).map(|text| text.as_str())
    }

    /// The number in a column.
    pub(super) fn number<T: std::str::FromStr>(&self, column: &str) -> Option<T> {
        self.text(column)?.trim().parse().ok()
    }
}

/// All rows of a table in the order of their `rowid`, without the columns in `unread`. `None` where there is no such
/// table.
pub(super) fn rows(
    connection: &Connection,
    table: &str,
    unread: &[&str],
) -> rusqlite::Result<Option<Vec<Row>>> {
    // A view would be a program to run.
    let is_table =
        "SELECT count(*) FROM pragma_table_list WHERE schema = 'main' AND type = 'table' AND name = ?1";
    if connection.query_row(is_table, [table], |row| row.get::<_, i64>(0))? == 0 {
        return Ok(None);
    }
    let mut info = connection.prepare("SELECT name FROM pragma_table_info(?1)")?;
    let columns: Vec<String> = info.query_map([table], |row| row.get(0))?.collect::<Result<_, _>>()?;
    let columns: Vec<&String> = columns.iter().filter(|name| !unread.contains(&name.as_str())).collect();
    if columns.is_empty() {
        return Ok(Some(Vec::new()));
    }
    let list: Vec<String> = columns.iter().map(|name| quoted(name)).collect();
    let query =
        format!("SELECT rowid, {} FROM {} ORDER BY rowid LIMIT {MOST_ROWS}", list.join(", "), quoted(table));
    let mut statement = connection.prepare(&query)?;
    let mut found = statement.query([])?;
    let mut rows = Vec::new();
    while let Some(row) = found.next()? {
        let mut values = HashMap::with_capacity(columns.len());
        for (index, column) in columns.iter().enumerate() {
            let value = match row.get_ref(index + 1)? {
                ValueRef::Text(bytes) => String::from_utf8_lossy(bytes).into_owned(),
                ValueRef::Integer(number) => number.to_string(),
                ValueRef::Real(number) => number.to_string(),
                ValueRef::Null | ValueRef::Blob(_) => continue,
            };
            values.insert((*column).clone(), Zeroizing::new(value));
        }
        rows.push(Row { id: row.get(0)?, values });
    }
    Ok(Some(rows))
}

fn quoted(name: &str) -> String {
    format!("\"{}\"", name.replace('"', "\"\""))
}
