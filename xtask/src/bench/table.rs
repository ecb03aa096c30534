//! Figures for people: columns that stand below each other.

/// Rows of cells, the first of them the header; the first column is words and the others are numbers.
pub(super) fn columns(rows: &[Vec<String>]) -> String {
    let width = |column: usize| {
        rows.iter().filter_map(|row| row.get(column)).map(|cell| cell.chars().count()).max().unwrap_or(0)
    };
    let mut out = String::new();
    for row in rows {
        let cells = row.iter().enumerate().map(|(column, cell)| match column {
            0 => format!("{cell:<width$}", width = width(column)),
            _ => format!("{cell:>width$}", width = width(column)),
        });
        out.push_str(cells.collect::<Vec<_>>().join("  ").trim_end());
        out.push('\n');
    }
    out
}

#[cfg(test)]
mod tests {
    #[test]
    fn words_stand_left_and_numbers_right() {
        let rows =
            [["kind", "ns"], ["v4 64", "1200"], ["v6", "7"]].map(|row| row.map(str::to_owned).to_vec());
        assert_eq!(super::columns(&rows), "kind     ns\nv4 64  1200\nv6        7\n");
    }
}
