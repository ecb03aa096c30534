//! The history as a picture for a mail: two stacked areas, what came from the peers and what went to them, by peer.
//!
//! The SVG stands on its own: no script, no font and no style from elsewhere. Colours are attributes, which everybody
//! understands; a style sheet, where it is understood, turns the light picture into a dark one.

mod axis;

use std::fmt::Write as _;

use jiff::tz::TimeZone;

use self::axis::{scale, ticks};
use super::{
    amount::Amount,
    report::{Bucket, History},
    series::rates,
    text::clock,
    thin::BUCKET,
};
use crate::table::bytes;

/// Widths and heights, in pixels.
const WIDTH: f64 = 920.0;
const LEFT: f64 = 86.0;
const RIGHT: f64 = 24.0;
const TOP: f64 = 84.0;
const PANEL: f64 = 150.0;
const GAP: f64 = 54.0;
const LEGEND_ROW: f64 = 22.0;
const PLOT: f64 = WIDTH - LEFT - RIGHT;

/// Most columns: one every four pixels.
const MOST_COLUMNS: i64 = 200;

/// Colours of peers, told apart by the colour-blind too (after Okabe and Ito, without their yellow, which is lost on
/// white); the last is for all that have none of their own.
const COLOURS: [&str; 7] = ["#0072b2", "#e69f00", "#009e73", "#cc79a7", "#56b4e9", "#d55e00", "#8a8a8a"];

/// The same for letters and lines, in the light and in the dark.
const STYLE: &str = "@media (prefers-color-scheme: dark) { .paper { fill: #1b1e23 } .ink { fill: #e6e6e6 } \
                     .faint { fill: #a8adb5 } .line { stroke: #3a3f47 } .base { stroke: #7a808a } }";

/// A peer, or all that are left over, as it is drawn.
struct Series {
    name: String,
    amount: Amount,
    buckets: Vec<Bucket>,
    colour: &'static str,
}

/// The picture, its times by the clocks of `zone`.
#[must_use]
pub fn svg(history: &History, zone: &TimeZone) -> String {
    let series = series(history);
    let legend = TOP + 2.0 * PANEL + GAP + 58.0;
    let height = legend + LEGEND_ROW * series.len().max(1) as f64 + 6.0;
    let mut out = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" width=\"{WIDTH}\" height=\"{height}\" \
         viewBox=\"0 0 {WIDTH} {height}\" font-family=\"system-ui, sans-serif\" font-size=\"12\" role=\"img\">\n"
    );
    let title = format!("Traffic of {}", history.interface);
    let amount = history.amount();
    let subtitle = format!(
        "{} to {}: received {}, sent {}",
        clock(history.since, zone, "%a %-d %b %Y %H:%M"),
        clock(history.until, zone, "%a %-d %b %Y %H:%M %Z"),
        bytes(amount.received.bytes),
        bytes(amount.sent.bytes)
    );
    let _ =
        writeln!(out, "<title>{}, {}</title>\n<style>{STYLE}</style>", escaped(&title), escaped(&subtitle));
    let _ = writeln!(out, "<rect class=\"paper\" width=\"100%\" height=\"100%\" fill=\"#ffffff\"/>");
    text(&mut out, (LEFT, 30.0), Ink::Full, "font-size=\"18\" font-weight=\"600\"", &title);
    text(&mut out, (LEFT, 50.0), Ink::Faint, "", &subtitle);

    panel(&mut out, history, &series, zone, TOP, ("Received from peers", |amount| amount.received.bytes));
    let second = TOP + PANEL + GAP;
    panel(&mut out, history, &series, zone, second, ("Sent to peers", |amount| amount.sent.bytes));
    legend_of(&mut out, &series, legend);
    out.push_str("</svg>\n");
    out
}

/// The busiest peers, each with a colour, and the others together.
fn series(history: &History) -> Vec<Series> {
    let mut peers: Vec<_> = history.peers.iter().filter(|peer| !peer.buckets.is_empty()).collect();
    let busy = |amount: &Amount| amount.received.bytes.saturating_add(amount.sent.bytes);
    peers.sort_by_key(|peer| std::cmp::Reverse(busy(&peer.amount)));
    let own = if peers.len() > COLOURS.len() { COLOURS.len() - 1 } else { peers.len() };
    let (named, others) = peers.split_at(own);
    let mut series: Vec<Series> = named
        .iter()
        .zip(COLOURS)
        .map(|(peer, colour)| Series {
            name: peer.name.clone(),
            amount: peer.amount,
            buckets: peer.buckets.clone(),
            colour,
        })
        .collect();
    if !others.is_empty() {
        series.push(Series {
            name: format!("{} others", others.len()),
            amount: others.iter().map(|peer| peer.amount).sum(),
            buckets: others.iter().flat_map(|peer| peer.buckets.iter().copied()).collect(),
            colour: COLOURS[COLOURS.len() - 1],
        });
    }
    series
}

/// How many columns a picture has: none of them shorter than the shortest bucket.
fn column_count(history: &History) -> usize {
    let columns = ((history.until - history.since) / BUCKET).clamp(1, MOST_COLUMNS);
    usize::try_from(columns).unwrap_or(1)
}

fn panel(
    out: &mut String,
    history: &History,
    series: &[Series],
    zone: &TimeZone,
    top: f64,
    (title, of): (&str, fn(&Amount) -> u64),
) {
    let columns = column_count(history);
    let layers: Vec<Vec<f64>> = series
        .iter()
        .map(|series| {
            let bytes = rates(&series.buckets, history.since, history.until, columns, of);
            bytes.into_iter().map(|rate| rate * 8.0).collect()
        })
        .collect();
    let most = (0..columns).map(|column| layers.iter().map(|layer| layer[column]).sum()).fold(0.0, f64::max);
    let scale = scale(most);
    let bottom = top + PANEL;
    let y = |rate: f64| bottom - rate / scale.most() * PANEL;

    text(out, (LEFT, top - 8.0), Ink::Full, "font-weight=\"600\"", title);
    for step in 0..=scale.steps {
        let rate = scale.step * f64::from(step);
        let class =
            if step == 0 { "class=\"base\" stroke=\"#8a8f98\"" } else { "class=\"line\" stroke=\"#e3e5e8\"" };
        let (y, end) = (y(rate), LEFT + PLOT);
        let _ = writeln!(out, "<line {class} x1=\"{LEFT}\" x2=\"{end}\" y1=\"{y:.1}\" y2=\"{y:.1}\"/>");
        text(out, (LEFT - 8.0, y + 4.0), Ink::Faint, "text-anchor=\"end\"", &scale.label(step));
    }
    for (moment, label) in ticks(history.since, history.until, zone) {
        let share = (moment - history.since) as f64 / (history.until - history.since) as f64;
        let x = LEFT + share * PLOT;
        let end = bottom + 4.0;
        let _ = writeln!(
            out,
            "<line class=\"base\" stroke=\"#8a8f98\" x1=\"{x:.1}\" x2=\"{x:.1}\" y1=\"{bottom}\" y2=\"{end}\"/>"
        );
        text(out, (x, bottom + 18.0), Ink::Faint, "text-anchor=\"middle\"", &label);
    }
    let mut below = vec![0.0; columns];
    for (series, layer) in series.iter().zip(&layers) {
        let above: Vec<f64> = below.iter().zip(layer).map(|(below, rate)| below + rate).collect();
        if layer.iter().any(|rate| *rate > 0.0) {
            let outline = outline(&below, &above, y);
            let name = escaped(&series.name);
            let _ = writeln!(
                out,
                "<path fill=\"{}\" fill-opacity=\"0.85\" d=\"{outline}\"><title>{name}</title></path>",
                series.colour
            );
        }
        below = above;
    }
}

/// The area between two lines of steps, one step a column.
fn outline(below: &[f64], above: &[f64], y: impl Fn(f64) -> f64) -> String {
    let width = PLOT / above.len() as f64;
    let edge = |column: usize| LEFT + column as f64 * width;
    let mut path = String::new();
    for (column, rate) in above.iter().enumerate() {
        let command = if column == 0 { 'M' } else { 'L' };
        let y = y(*rate);
        let _ = write!(path, "{command}{:.1} {y:.1}H{:.1}", edge(column), edge(column + 1));
    }
    for (column, rate) in below.iter().enumerate().rev() {
        let _ = write!(path, "L{:.1} {:.1}H{:.1}", edge(column + 1), y(*rate), edge(column));
    }
    path + "Z"
}

fn legend_of(out: &mut String, series: &[Series], top: f64) {
    if series.is_empty() {
        text(out, (LEFT, top + 12.0), Ink::Faint, "", "Nothing was counted in this time.");
    }
    for (row, series) in series.iter().enumerate() {
        let y = top + LEGEND_ROW * row as f64;
        let _ = writeln!(
            out,
            "<rect x=\"{LEFT}\" y=\"{y}\" width=\"12\" height=\"12\" rx=\"2\" fill=\"{}\"/>",
            series.colour
        );
        text(out, (LEFT + 20.0, y + 10.5), Ink::Full, "", &series.name);
        let amounts = format!(
            "received {}, sent {}",
            bytes(series.amount.received.bytes),
            bytes(series.amount.sent.bytes)
        );
        text(out, (LEFT + PLOT, y + 10.5), Ink::Faint, "text-anchor=\"end\"", &amounts);
    }
}

/// How strong letters are.
#[derive(Clone, Copy)]
enum Ink {
    Full,
    Faint,
}

fn text(out: &mut String, (x, y): (f64, f64), ink: Ink, attributes: &str, content: &str) {
    let (class, fill) = match ink {
        Ink::Full => ("ink", "#1b1e23"),
        Ink::Faint => ("faint", "#5f6670"),
    };
    let _ = writeln!(
        out,
        "<text class=\"{class}\" fill=\"{fill}\" x=\"{x:.1}\" y=\"{y:.1}\" {attributes}>{}</text>",
        escaped(content)
    );
}

/// Text as XML takes it: its five characters written out, and what it cannot hold at all (XML 1.0, 2.2) replaced.
fn escaped(text: &str) -> String {
    text.chars()
        .map(|character| match character {
            '&' => "&amp;".to_owned(),
            '<' => "&lt;".to_owned(),
            '>' => "&gt;".to_owned(),
            '"' => "&quot;".to_owned(),
            '\'' => "&apos;".to_owned(),
            character if character.is_control() || matches!(character, '\u{fffe}' | '\u{ffff}') => {
                '\u{fffd}'.to_string()
            }
            character => character.to_string(),
        })
        .collect()
}

#[cfg(test)]
mod tests;
