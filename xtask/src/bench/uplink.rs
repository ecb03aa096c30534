//! What `bench uplink` found, for people.

use std::fmt::Write as _;

use anyhow::{Context as _, Result};
use serde_json::Value;

use super::{
    Spread,
    chart::{Bar, Panel},
    table::columns,
};

fn rows(result: &Value) -> Result<&Vec<Value>> {
    result["rows"].as_array().context("results without rows")
}

fn text<'a>(row: &'a Value, name: &str) -> Result<&'a str> {
    row[name].as_str().with_context(|| format!("a row without {name}"))
}

fn number(row: &Value, name: &str) -> Result<f64> {
    row[name].as_f64().with_context(|| format!("a row without {name}"))
}

fn guests(result: &Value) -> impl Iterator<Item = &Value> {
    result["guests"].as_array().into_iter().flatten()
}

/// The figures.
pub(super) fn table(result: &Value) -> Result<String> {
    let mut out = String::new();
    let _ = writeln!(
        out,
        "uplink: {}, Linux {}; ns of the guard alone for one packet on a veth in native mode, beside a program that only drops \
         or passes it; median of {} rounds of {} packets",
        result["machine"]["cpu"].as_str().unwrap_or("a CPU"),
        result["machine"]["kernel"].as_str().unwrap_or_default(),
        result["rounds"],
        result["packets"]
    );
    let mut lines = vec![["packet", "ns"].map(str::to_owned).to_vec()];
    for row in rows(result)? {
        let net = Spread::read(&row["net"]).context("a row without a figure")?;
        lines.push(vec![
            text(row, "kind")?.to_owned(),
            format!("{:.0} [{:.0}–{:.0}]", net.median, net.low, net.high),
        ]);
    }
    let _ = writeln!(out, "{}", columns(&lines));
    for guest in guests(result) {
        let _ = writeln!(
            out,
            "Linux {} in a guest with one CPU; instructions for one packet of a flood: of a program that drops it where it \
             arrives, and of the hub beyond that",
            guest["machine"]["kernel"].as_str().unwrap_or_default()
        );
        let head =
            ["flood", "dropped at once", "without the guard", "with it", "times less", "in all, times less"];
        let mut lines = vec![head.map(str::to_owned).to_vec()];
        for row in rows(guest)? {
            let (baseline, without, with) =
                (number(row, "baseline")?, number(row, "without")?, number(row, "with")?);
            lines.push(vec![
                text(row, "flood")?.to_owned(),
                format!("{baseline:.0}"),
                format!("{:.0}", without - baseline),
                format!("{:.0}", with - baseline),
                format!("{:.1}", (without - baseline) / (with - baseline)),
                format!("{:.1}", without / with),
            ]);
        }
        let _ = writeln!(out, "{}", columns(&lines));
    }
    Ok(out)
}

/// A panel of what a packet takes, and one for each kernel of what a flood does.
pub(super) fn panels(result: &Value) -> Result<Vec<Panel>> {
    let bars: Result<Vec<Bar>> = rows(result)?
        .iter()
        .map(|row| {
            Ok(Bar::plain(
                text(row, "kind")?,
                Spread::read(&row["net"]).context("a row without a figure")?,
                true,
            ))
        })
        .collect();
    let mut panels =
        vec![Panel { title: "The uplink's guard alone, a packet".into(), unit: "ns", bars: bars? }];
    for guest in guests(result) {
        let mut bars = Vec::new();
        for row in rows(guest)? {
            let baseline = number(row, "baseline")?;
            for (name, ours) in [("without", false), ("with", true)] {
                let value = number(row, name)? - baseline;
                let value = Spread { median: value, low: value, high: value };
                bars.push(Bar::plain(&format!("{}, {name}", text(row, "flood")?), value, ours));
            }
        }
        let kernel = guest["kernel"].as_str().unwrap_or_default();
        panels.push(Panel {
            title: format!(
                "A hub's instructions for one packet of a flood, with the guard and without, Linux {kernel}"
            ),
            unit: "",
            bars,
        });
    }
    Ok(panels)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_flood_stands_with_the_guard_and_without() {
        let spread = json!({ "median": 61.0, "low": 60.0, "high": 62.0 });
        let flood = json!({ "flood": "junk", "baseline": 1000.0, "without": 9000.0, "with": 1400.0 });
        let result = json!({
            "machine": { "cpu": "one", "kernel": "6.18" }, "rounds": 3, "packets": 4,
            "rows": [{ "kind": "dropped", "net": spread }],
            "guests": [{ "kernel": "6.12", "machine": { "kernel": "6.12.1" }, "rows": [flood] }],
        });
        let text = table(&result).unwrap();
        assert!(text.contains("dropped  61 [60–62]\n"), "{text}");
        let line = text.lines().find(|line| line.starts_with("junk")).unwrap();
        assert_eq!(
            line.split_whitespace().collect::<Vec<_>>(),
            ["junk", "1000", "8000", "400", "20.0", "6.4"]
        );
        assert_eq!(panels(&result).unwrap().len(), 2);
    }
}
