//! The figures as a picture: bars that lie below each other, panel by panel.
//!
//! The SVG stands on its own: no script, no font and no style from elsewhere, light or dark as the reader's screen is.

use std::fmt::Write as _;

use super::Spread;

/// Widths and heights, in pixels.
const WIDTH: f64 = 920.0;
const LEFT: f64 = 270.0;
const RIGHT: f64 = 110.0;
const PLOT: f64 = WIDTH - LEFT - RIGHT;
const TITLE: f64 = 46.0;
const ROW: f64 = 24.0;
const BAR: f64 = 15.0;
const LEGEND: f64 = 22.0;

/// Colours that are told apart by the colour-blind too (after Okabe and Ito).
const COLOURS: [&str; 10] = [
    "#0072b2", "#e69f00", "#009e73", "#cc79a7", "#56b4e9", "#d55e00", "#b8a800", "#8a8a8a", "#4b4b9b",
    "#7a4a21",
];
const RELAY: &str = "#0072b2";
const OTHERS: &str = "#9aa3ad";

/// The same for letters and lines, in the light and in the dark.
const STYLE: &str = "@media (prefers-color-scheme: dark) { .paper { fill: #1b1e23 } .ink { fill: #e6e6e6 } \
                     .faint { fill: #a8adb5 } .base { stroke: #7a808a } .range { stroke: #e6e6e6 } }";

/// Bars that are compared with each other.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Panel {
    /// What they are.
    pub(super) title: String,
    /// Of the numbers at their ends.
    pub(super) unit: &'static str,
    /// From the top.
    pub(super) bars: Vec<Bar>,
}

/// One of them.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Bar {
    /// What stands in front of it.
    pub(super) label: String,
    /// Its length, and how exact that is.
    pub(super) value: Spread,
    /// What it consists of, by name: the same names have the same colour in all bars of a panel.
    pub(super) parts: Vec<(String, f64)>,
    /// Whether it is relay's.
    pub(super) ours: bool,
}

impl Bar {
    /// One that consists of nothing in particular.
    pub(super) fn plain(label: &str, value: Spread, ours: bool) -> Self {
        Self { label: label.to_owned(), value, parts: Vec::new(), ours }
    }
}

impl Panel {
    /// The names of parts, each once.
    fn parts(&self) -> Vec<&str> {
        let mut names = Vec::new();
        for (name, _) in self.bars.iter().flat_map(|bar| &bar.parts) {
            if !names.contains(&name.as_str()) {
                names.push(name.as_str());
            }
        }
        names
    }

    fn height(&self) -> f64 {
        let legend =
            if self.parts().is_empty() { 0.0 } else { LEGEND * self.parts().len().div_ceil(3) as f64 };
        TITLE + ROW * self.bars.len() as f64 + legend + 14.0
    }
}

/// The picture.
pub(super) fn svg(panels: &[Panel]) -> String {
    let height: f64 = panels.iter().map(Panel::height).sum::<f64>() + 10.0;
    let mut out = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" width=\"{WIDTH}\" height=\"{height}\" \
         viewBox=\"0 0 {WIDTH} {height}\" font-family=\"system-ui, sans-serif\" font-size=\"12\" role=\"img\">\n\
         <style>{STYLE}</style>\n<rect class=\"paper\" width=\"100%\" height=\"100%\" fill=\"#ffffff\"/>\n"
    );
    let mut top = 0.0;
    for panel in panels {
        draw(&mut out, panel, top);
        top += panel.height();
    }
    out.push_str("</svg>\n");
    out
}

fn draw(out: &mut String, panel: &Panel, top: f64) {
    let most = panel.bars.iter().map(|bar| bar.value.high.max(bar.value.median)).fold(0.0, f64::max);
    let length = |value: f64| if most > 0.0 { (value.max(0.0) / most * PLOT).min(PLOT) } else { 0.0 };
    let parts = panel.parts();
    text(out, (LEFT, top + 30.0), "ink", "font-size=\"14\" font-weight=\"600\"", &panel.title);
    let bottom = top + TITLE + ROW * panel.bars.len() as f64;
    let _ = writeln!(
        out,
        "<line class=\"base\" stroke=\"#8a8f98\" x1=\"{LEFT}\" x2=\"{LEFT}\" y1=\"{}\" y2=\"{bottom}\"/>",
        top + TITLE - 4.0
    );
    for (row, bar) in panel.bars.iter().enumerate() {
        let y = top + TITLE + ROW * row as f64;
        text(out, (LEFT - 8.0, y + 12.0), "ink", "text-anchor=\"end\"", &bar.label);
        if bar.parts.is_empty() {
            rectangle(
                out,
                (LEFT, y),
                length(bar.value.median),
                if bar.ours { RELAY } else { OTHERS },
                &bar.label,
            );
        }
        let mut x = LEFT;
        for (name, value) in &bar.parts {
            let place = parts.iter().position(|part| part == name).unwrap_or(0);
            rectangle(out, (x, y), length(*value), COLOURS[place % COLOURS.len()], name);
            x += length(*value);
        }
        let (low, high, middle) =
            (LEFT + length(bar.value.low), LEFT + length(bar.value.high), y + BAR / 2.0);
        let _ = writeln!(
            out,
            "<line class=\"range\" stroke=\"#1b1e23\" x1=\"{low:.1}\" x2=\"{high:.1}\" y1=\"{middle:.1}\" y2=\"{middle:.1}\"/>"
        );
        let number = format!("{} {}", number(bar.value.median), panel.unit);
        text(out, (high.max(LEFT + length(bar.value.median)) + 6.0, y + 12.0), "faint", "", &number);
    }
    for (place, name) in parts.iter().enumerate() {
        let (x, y) = (LEFT + (place % 3) as f64 * 200.0, bottom + 8.0 + LEGEND * (place / 3) as f64);
        rectangle(out, (x, y), 12.0, COLOURS[place % COLOURS.len()], name);
        text(out, (x + 18.0, y + 12.0), "faint", "", name);
    }
}

/// With the digits that matter.
fn number(value: f64) -> String {
    match value.abs() {
        0.0..10.0 => format!("{value:.2}"),
        10.0..100.0 => format!("{value:.1}"),
        _ => format!("{value:.0}"),
    }
}

fn rectangle(out: &mut String, (x, y): (f64, f64), width: f64, colour: &str, title: &str) {
    let title = escaped(title);
    let _ = writeln!(
        out,
        "<rect x=\"{x:.1}\" y=\"{y:.1}\" width=\"{width:.1}\" height=\"{BAR}\" fill=\"{colour}\"><title>{title}</title></rect>"
    );
}

fn text(out: &mut String, (x, y): (f64, f64), class: &str, attributes: &str, content: &str) {
    let fill = if class == "ink" { "#1b1e23" } else { "#5f6670" };
    let content = escaped(content);
    let _ = writeln!(
        out,
        "<text class=\"{class}\" fill=\"{fill}\" x=\"{x:.1}\" y=\"{y:.1}\" {attributes}>{content}</text>"
    );
}

fn escaped(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;").replace('"', "&quot;")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bars_are_as_long_as_their_values() {
        let spread = |median: f64| Spread { median, low: median, high: median };
        let parts = vec![("crypto & more".to_owned(), 150.0), ("rest".to_owned(), 50.0)];
        let panel = Panel {
            title: "a < b".into(),
            unit: "ns",
            bars: vec![
                Bar::plain("fast path", spread(100.0), true),
                Bar { parts, ..Bar::plain("stack", spread(200.0), false) },
            ],
        };
        let picture = svg(std::slice::from_ref(&panel));
        let half = format!("width=\"{:.1}\" height=\"{BAR}\" fill=\"{RELAY}\"", PLOT / 2.0);
        assert!(picture.contains(&half), "{picture}");
        assert!(picture.contains(&format!("width=\"{:.1}\"", PLOT * 0.75)), "{picture}");
        assert!(picture.contains("a &lt; b") && picture.contains("crypto &amp; more"), "{picture}");
        assert_eq!(picture.matches("<text").count(), 1 + 2 + 2 + 2, "title, labels, numbers, legend");
    }
}
