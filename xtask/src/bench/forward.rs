//! What `bench forward` found, for people.

use std::fmt::Write as _;

use anyhow::{Context as _, Result};
use serde_json::Value;

use super::{
    Spread,
    chart::{Bar, Panel},
    table::columns,
};

/// What the fast path is held against, and how much faster it is to be.
const AIMS: [(&str, f64); 2] = [("conntrack, 2 rules", 5.0), ("conntrack, 22 rules", 8.0)];

const FAST_PATH: &str = "fast path";

/// A way with one kind of packet.
struct Row<'a> {
    path: &'a str,
    kind: &'a str,
    /// Nanoseconds a packet, less the baseline; nothing for the baseline itself.
    net: Option<Spread>,
    of_fast_path: Option<Spread>,
    gross: Spread,
    lost: u64,
}

fn rows(result: &Value) -> Result<Vec<Row<'_>>> {
    let rows = result["rows"].as_array().context("results without rows")?;
    let row = |row| -> Option<Row<'_>> {
        let row: &Value = row;
        Some(Row {
            path: row["path"].as_str()?,
            kind: row["kind"].as_str()?,
            net: Spread::read(&row["net"]),
            of_fast_path: Spread::read(&row["of_fast_path"]),
            gross: Spread::read(&row["gross"])?,
            lost: row["lost"].as_u64()?,
        })
    };
    rows.iter().map(row).collect::<Option<_>>().context("a row of the results that cannot be read")
}

/// The names of a column, each once, in their order.
fn names<'a>(rows: &[Row<'a>], of: impl Fn(&Row<'a>) -> &'a str) -> Vec<&'a str> {
    let mut names = Vec::new();
    for row in rows {
        if !names.contains(&of(row)) {
            names.push(of(row));
        }
    }
    names
}

/// The figures, and how they stand to what is asked for: of this machine, and of guests.
pub(super) fn table(result: &Value) -> Result<String> {
    let mut out = of_one(result, "ns a packet")?;
    for guest in guests(result) {
        let _ = writeln!(out, "\n{}", of_one(guest, "instructions a packet")?.trim_end());
    }
    Ok(out)
}

fn guests(result: &Value) -> impl Iterator<Item = &Value> {
    result["guests"].as_array().into_iter().flatten()
}

fn of_one(result: &Value, unit: &str) -> Result<String> {
    let rows = rows(result)?;
    let (kinds, paths) = (names(&rows, |row| row.kind), names(&rows, |row| row.path));
    let mut lines = vec![vec![unit.to_owned()]];
    lines[0].extend(paths.iter().map(|path| (*path).to_owned()));
    for kind in &kinds {
        let cell = |path: &&str| {
            let row = rows.iter().find(|row| row.path == *path && row.kind == *kind);
            row.map_or_else(String::new, cell)
        };
        lines.push(std::iter::once((*kind).to_owned()).chain(paths.iter().map(cell)).collect());
    }
    let mut out = header(result);
    out.push_str(&columns(&lines));
    out.push_str(
        "\nEach is net of the drop baseline of its round: the median, and in brackets the quartiles.\n",
    );
    for (path, aim) in AIMS {
        for row in rows.iter().filter(|row| row.path == path && row.kind.ends_with(" 64")) {
            let whole = |row: &Row<'_>| row.lost == 0;
            let fast = rows.iter().find(|fast| fast.path == FAST_PATH && fast.kind == row.kind);
            let Some(ratio) = row.of_fast_path.filter(|_| whole(row) && fast.is_some_and(whole)) else {
                continue;
            };
            let _ = writeln!(
                out,
                "{}: {path} takes {:.1} [{:.1}-{:.1}] times the {FAST_PATH}; wanted: {aim:.0}",
                row.kind, ratio.median, ratio.low, ratio.high
            );
        }
    }
    for absent in result["unavailable"].as_array().into_iter().flatten() {
        let text = |name: &str| absent[name].as_str().unwrap_or_default().to_owned();
        let _ = writeln!(out, "not on this kernel: {} ({})", text("path"), text("why"));
    }
    Ok(out)
}

fn cell(row: &Row<'_>) -> String {
    if row.lost > 0 {
        return format!("lost {}: no result", row.lost);
    }
    let Spread { median, low, high } = row.net.unwrap_or(row.gross);
    format!("{median:.0} [{low:.0}-{high:.0}]")
}

/// What the figures depend on.
pub(super) fn header(result: &Value) -> String {
    let machine = &result["machine"];
    let text = |value: &Value| value.as_str().map_or_else(|| value.to_string(), str::to_owned);
    let mut out = format!(
        "{}: {}, {} CPUs, Linux {}, load {}, relay {}, {}, {}\n",
        text(&result["bench"]),
        text(&machine["cpu"]),
        text(&machine["cpus"]),
        text(&machine["kernel"]),
        text(&machine["load"]),
        text(&machine["relay"]),
        text(&machine["nft"]),
        text(&machine["iptables"])
    );
    if result["rounds"].is_u64() {
        let _ = writeln!(out, "{} rounds of {} packets each\n", result["rounds"], result["packets"]);
    }
    out
}

/// A panel for each kind of packet, of this machine and then of guests.
pub(super) fn panels(result: &Value) -> Result<Vec<Panel>> {
    let mut panels = panels_of(result, "", "ns")?;
    for guest in guests(result) {
        let kernel = guest["kernel"].as_str().context("a guest without a kernel")?;
        panels.extend(panels_of(guest, &format!(", instructions, Linux {kernel}"), "")?);
    }
    Ok(panels)
}

fn panels_of(result: &Value, place: &str, unit: &'static str) -> Result<Vec<Panel>> {
    let rows = rows(result)?;
    let panel = |kind: &str| Panel {
        title: format!("Forwarding one packet, {kind}{place}"),
        unit,
        bars: rows
            .iter()
            .filter(|row| row.kind == kind && row.lost == 0)
            .filter_map(|row| Some(Bar::plain(row.path, row.net?, row.path == FAST_PATH)))
            .collect(),
    };
    Ok(names(&rows, |row| row.kind).into_iter().map(panel).collect())
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn result(lost: u64) -> Value {
        let spread = |median: f64| json!({ "median": median, "low": median - 1.0, "high": median + 1.0 });
        json!({
            "bench": "forward", "rounds": 3, "packets": 64, "machine": { "cpu": "a CPU", "load": "0.1" },
            "unavailable": [{ "path": "flowtable", "why": "no such file" }],
            "rows": [
                { "path": "drop baseline", "kind": "v4 64", "gross": spread(500.0), "net": null, "of_fast_path": null, "lost": 0 },
                { "path": "fast path", "kind": "v4 64", "gross": spread(600.0), "net": spread(100.0),
                  "of_fast_path": spread(1.0), "lost": 0 },
                { "path": "conntrack, 2 rules", "kind": "v4 64", "gross": spread(1200.0), "net": spread(700.0),
                  "of_fast_path": spread(7.0), "lost": lost },
            ],
        })
    }

    #[test]
    fn a_table_has_every_way_and_says_what_is_wanted() {
        let text = table(&result(0)).unwrap();
        assert!(text.starts_with("forward: a CPU, "), "{text}");
        assert!(text.contains("v4 64        500 [499-501]  100 [99-101]       700 [699-701]\n"), "{text}");
        assert!(
            text.contains("conntrack, 2 rules takes 7.0 [6.0-8.0] times the fast path; wanted: 5\n"),
            "{text}"
        );
        assert!(text.contains("not on this kernel: flowtable (no such file)\n"), "{text}");
        assert_eq!(panels(&result(0)).unwrap()[0].bars.len(), 2);
    }

    #[test]
    fn guests_stand_below() {
        let mut both = result(0);
        both["guests"] =
            json!([{ "kernel": "6.12", "rows": result(0)["rows"], "bench": "forward", "machine": {} }]);
        let text = table(&both).unwrap();
        assert!(text.contains("\ninstructions a packet"), "{text}");
        let panels = panels(&both).unwrap();
        assert_eq!(panels.len(), 2);
        assert_eq!(panels[1].title, "Forwarding one packet, v4 64, instructions, Linux 6.12");
    }

    #[test]
    fn a_run_with_loss_is_no_result() {
        let text = table(&result(3)).unwrap();
        assert!(text.contains("lost 3: no result") && !text.contains("times the fast path"), "{text}");
        assert_eq!(panels(&result(3)).unwrap()[0].bars.len(), 1, "and is not drawn");
    }
}
