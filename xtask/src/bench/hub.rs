//! What `bench hub` found, for people.

use std::fmt::Write as _;

use anyhow::{Context as _, Result};
use serde_json::Value;

use super::{
    Spread,
    chart::{Bar, Panel},
    table::columns,
};

/// What relay's program is held against, with what is to be left of it.
const AGAINST: &str = "kernel path, conntrack";
const AIM: f64 = 0.80;

/// The guests, with the kernel of each.
fn guests(result: &Value) -> Result<Vec<(&str, &Value)>> {
    let guests = result["guests"].as_array().context("results without guests")?;
    guests
        .iter()
        .map(|guest| Some((guest["kernel"].as_str()?, guest)))
        .collect::<Option<_>>()
        .context("a guest without a kernel")
}

/// A row: way, load, instructions a packet; nothing where packets were lost.
fn rows(guest: &Value) -> Result<Vec<(&str, &str, Option<Spread>)>> {
    let row = |row| -> Option<(&str, &str, Option<Spread>)> {
        let row: &Value = row;
        let net = Spread::read(&row["net"]).filter(|_| row["lost"] == 0);
        Some((row["path"].as_str()?, row["kind"].as_str()?, net))
    };
    let rows = guest["rows"].as_array().context("a guest without rows")?;
    rows.iter().map(row).collect::<Option<_>>().context("a row of the results that cannot be read")
}

/// Names, each once, in their order.
fn once<'a>(names: impl Iterator<Item = &'a str>) -> Vec<&'a str> {
    let mut all = Vec::new();
    for name in names {
        if !all.contains(&name) {
            all.push(name);
        }
    }
    all
}

/// The figures.
pub(super) fn table(result: &Value) -> Result<String> {
    let mut out = String::new();
    for (kernel, guest) in guests(result)? {
        let _ = writeln!(
            out,
            "hub: Linux {} in a guest with one CPU; instructions of the hub alone for one packet, median of {} rounds of {} \
             packets",
            guest["machine"]["kernel"].as_str().unwrap_or(kernel),
            guest["rounds"],
            guest["packets"]
        );
        let rows = rows(guest)?;
        let kinds = once(rows.iter().map(|(_, kind, _)| *kind));
        let find = |path: &str, kind: &str| {
            rows.iter().find(|(p, k, _)| *p == path && *k == kind).and_then(|(.., net)| *net)
        };
        let mut lines =
            vec![std::iter::once("").chain(kinds.iter().copied()).map(str::to_owned).collect::<Vec<_>>()];
        for path in once(rows.iter().map(|(path, ..)| *path)) {
            let cell = |kind: &&str| match (find(path, kind), find(AGAINST, kind)) {
                (Some(own), Some(other)) => format!("{:.0} ({:.2})", own.median, own.median / other.median),
                (Some(own), None) => format!("{:.0}", own.median),
                (None, _) => "lost: no result".to_owned(),
            };
            lines.push(std::iter::once(path.to_owned()).chain(kinds.iter().map(cell)).collect());
        }
        let _ = writeln!(out, "{}", columns(&lines));
        for absent in guest["unavailable"].as_array().into_iter().flatten() {
            let text = |name: &str| absent[name].as_str().unwrap_or_default();
            let _ = writeln!(out, "not on this kernel: {} ({})", text("path"), text("why"));
        }
    }
    let _ = writeln!(out, "In brackets the share of \"{AGAINST}\"; wanted with UDP 64: {AIM:.2}");
    Ok(out)
}

/// A panel for each kernel and load, and one of where the instructions go.
pub(super) fn panels(result: &Value) -> Result<Vec<Panel>> {
    let mut panels = Vec::new();
    for (kernel, guest) in guests(result)? {
        let rows = rows(guest)?;
        for kind in once(rows.iter().map(|(_, kind, _)| *kind)) {
            let of_kind = rows.iter().filter(|(_, k, _)| *k == kind);
            let bar = |(path, _, net): &(&str, &str, Option<Spread>)| {
                Some(Bar::plain(path, (*net)?, path.starts_with("fast path")))
            };
            panels.push(Panel {
                title: format!("A hub's instructions for one packet, {kind}, Linux {kernel}"),
                unit: "",
                bars: of_kind.filter_map(bar).collect(),
            });
        }
        let profiles = guest["profiles"].as_array().into_iter().flatten();
        let bars: Option<Vec<Bar>> = profiles.map(shares).collect();
        let bars = bars.context("a profile that cannot be read")?;
        if !bars.is_empty() {
            panels.push(Panel {
                title: format!("Where they go, the source of packets among them, Linux {kernel}"),
                unit: "%",
                bars,
            });
        }
    }
    Ok(panels)
}

/// What one way consists of, in percent.
fn shares(profile: &Value) -> Option<Bar> {
    let all = Spread { median: 100.0, low: 100.0, high: 100.0 };
    let part = |part: &Value| Some((part["name"].as_str()?.to_owned(), part["share"].as_f64()? * 100.0));
    let parts = profile["profile"]["purposes"].as_array()?.iter().map(part).collect::<Option<_>>()?;
    Some(Bar { parts, ..Bar::plain(profile["path"].as_str()?, all, false) })
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn every_way_stands_beside_the_stack_with_conntrack() {
        let spread = |median: f64| json!({ "median": median, "low": median, "high": median });
        let row = |path: &str, net: f64, lost: u64| json!({ "path": path, "kind": "UDP 64", "net": spread(net), "lost": lost });
        let result = json!({ "guests": [{
            "kernel": "6.12", "machine": { "kernel": "6.12.1" }, "rounds": 3, "packets": 1024,
            "rows": [row("kernel path", 25_000.0, 1), row(AGAINST, 30_000.0, 0), row("fast path", 21_000.0, 0)],
            "profiles": [{ "path": "fast path", "profile": { "purposes": [{ "name": "crypto", "share": 0.25 }] } }],
        }]});
        let text = table(&result).unwrap();
        assert!(text.contains("fast path                  21000 (0.70)\n"), "{text}");
        assert!(text.contains("kernel path             lost: no result\n"), "{text}");
        let panels = panels(&result).unwrap();
        assert_eq!(panels[0].bars.len(), 2);
        assert_eq!(panels[1].bars[0].parts, [("crypto".to_owned(), 25.0)]);
    }
}
