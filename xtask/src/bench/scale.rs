//! What `bench scale` and `bench memory` found, for people.

use std::fmt::Write as _;

use anyhow::{Context as _, Result};
use serde_json::Value;

use super::{
    Spread,
    chart::{Bar, Panel},
    forward::header,
    table::columns,
};

/// What is wanted, on a machine with kernel WireGuard.
const AIMS: &str = "wanted with kernel WireGuard: 10,000 peers up in 5,000 ms, a reload of one peer in 100 ms, stats in 150 ms;
25 MiB resident at 100 peers and 60 MiB at 10,000; maps of 16 MiB. The program alone: 110 ns, and with 10,000 peers 1.2
times that with ten.
";

/// The figures.
pub(super) fn table(result: &Value) -> Result<String> {
    let mut out = header(result);
    if let Some(rows) = result["packets"]["rows"].as_array() {
        let mut lines =
            vec![words(&["ns a packet", "LANs", "program alone", "among all peers", "to all LANs"])];
        for row in rows {
            let cell = |name: &str| spread(&row[name], 0);
            let cells = [cell("program_ns"), cell("among_peers_ns"), cell("to_lans_ns")];
            let size = [format!("{} peers", row["peers"]), row["lans"].to_string()];
            lines.push(size.into_iter().chain(cells).collect());
        }
        out.push_str(&columns(&lines));
        out.push('\n');
    }
    for (name, rows) in daemons(result) {
        let mut lines = vec![words(&[
            name,
            "LANs",
            "start ms",
            "in the maps ms",
            "reload ms",
            "peers touched",
            "stats ms",
            "peer list ms",
            "RSS MiB",
            "its own",
            "after work",
            "its own",
            "maps MiB",
        ])];
        for row in rows {
            lines.push(vec![
                format!("{} peers", row["peers"]),
                row["lans"].to_string(),
                row["start_ms"].to_string(),
                row["filled_ms"].to_string(),
                spread(&row["reload_ms"], 0),
                row["reload_touched"].to_string(),
                spread(&row["stats_ms"], 0),
                spread(&row["list_ms"], 0),
                mebibytes(&row["rss_kib"], 1024.0),
                mebibytes(&row["rss_own_kib"], 1024.0),
                mebibytes(&row["rss_after_kib"], 1024.0),
                mebibytes(&row["rss_own_after_kib"], 1024.0),
                mebibytes(&row["maps_bytes"], 1024.0 * 1024.0),
            ]);
        }
        let _ = writeln!(out, "{}", columns(&lines));
    }
    if result["guests"].is_array() {
        out.push_str("A guest's clock counts instructions: a ms of it is a million of them.\n");
    }
    out.push_str(AIMS);
    Ok(out)
}

/// What was measured of the daemon: here, and in guests.
fn daemons(result: &Value) -> Vec<(&str, &Vec<Value>)> {
    let here = result["daemon"].as_array().map(|rows| ("here", rows));
    let guests = result["guests"].as_array().into_iter().flatten();
    let guests = guests.filter_map(|guest| Some((guest["kernel"].as_str()?, guest["daemon"].as_array()?)));
    here.into_iter().chain(guests).collect()
}

fn words(words: &[&str]) -> Vec<String> {
    words.iter().map(|word| (*word).to_owned()).collect()
}

fn spread(value: &Value, digits: usize) -> String {
    Spread::read(value).map_or_else(String::new, |Spread { median, low, high }| {
        format!("{median:.digits$} [{low:.digits$}-{high:.digits$}]")
    })
}

fn mebibytes(value: &Value, unit: f64) -> String {
    value.as_f64().map_or_else(String::new, |value| format!("{:.1}", value / unit))
}

/// What a packet costs, and what the daemon takes, by the number of peers.
pub(super) fn panels(result: &Value) -> Result<Vec<Panel>> {
    let label = |row: &Value| format!("{} peers, {} LANs", row["peers"], row["lans"]);
    let mut panels = Vec::new();
    if let Some(rows) = result["packets"]["rows"].as_array() {
        for (title, name) in [
            ("The program alone, one packet", "program_ns"),
            ("Fast path, packets among all peers", "among_peers_ns"),
        ] {
            let bar = |row: &Value| Some(Bar::plain(&label(row), Spread::read(&row[name])?, true));
            panels.push(Panel {
                title: title.into(),
                unit: "ns",
                bars: rows.iter().map(bar).collect::<Option<_>>().with_context(|| format!("no {name}"))?,
            });
        }
    }
    for (place, rows) in daemons(result) {
        let bar = |row: &Value| {
            let value = row["rss_after_kib"].as_f64()? / 1024.0;
            Some(Bar::plain(&label(row), Spread { median: value, low: value, high: value }, true))
        };
        panels.push(Panel {
            title: format!("The daemon's resident memory, {place}"),
            unit: "MiB",
            bars: rows.iter().map(bar).collect::<Option<_>>().context("no rss_after_kib")?,
        });
    }
    Ok(panels)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn guests_stand_below_the_host() {
        let spread = json!({ "median": 10.0, "low": 9.0, "high": 11.0 });
        let row = json!({
            "peers": 100, "lans": 1, "start_ms": 50.5, "filled_ms": 60.5, "reload_ms": spread, "reload_touched": 1,
            "stats_ms": spread, "list_ms": spread, "rss_kib": 20480, "rss_own_kib": 5120, "rss_after_kib": 21504, "rss_own_after_kib": 6144, "maps_bytes": 3_145_728,
        });
        let result = json!({
            "bench": "scale", "machine": {}, "daemon": [row],
            "packets": { "rows": [{ "peers": 100, "lans": 1, "program_ns": spread, "among_peers_ns": spread, "to_lans_ns": spread }] },
            "guests": [{ "kernel": "6.12", "daemon": [row] }],
        });
        let text = table(&result).unwrap();
        let lines: Vec<_> = text.lines().filter(|line| line.starts_with("100 peers")).collect();
        assert_eq!(lines.len(), 3, "{text}");
        assert!(lines[1].ends_with("20.0      5.0        21.0      6.0       3.0"), "{text}");
        assert!(text.contains("\n6.12 "), "{text}");
        assert_eq!(panels(&result).unwrap().len(), 4);
    }
}
