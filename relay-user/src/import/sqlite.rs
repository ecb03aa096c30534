//! Somebody else's SQLite database: its rows with whatever columns they have.

use std::collections::HashMap;

use rusqlite::{Connection, types::ValueRef};
use zeroize::Zeroizing;

pub(super) use crate::sqlite::open;

/// More rows than a hub has peers; a table beyond that is something else.
const MOST_ROWS: usize = 65_536;

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
