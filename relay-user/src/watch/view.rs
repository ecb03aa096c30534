//! How the live view looks. Meaning is in words and shapes, never in colour.

use ratatui::{
    Frame,
    layout::{Constraint, Layout, Rect},
    style::{Modifier, Style},
    text::{Line, Span},
    widgets::{Block, Borders, Cell, Paragraph, Row, Sparkline, Table, TableState},
};

use super::model::{KEPT, Model, Order, Rate, Recent};
use crate::{
    report::{PeerStats, Stats},
    table,
};

/// Rows of the lower part: the picked peer and the reasons, borders included.
const LOWER: u16 = 8;

/// So many rows must be left for peers before the lower part is shown.
const FEWEST_PEERS: u16 = 4;

/// A minute takes 20 columns.
const LOOKS_PER_CELL: usize = 3;

/// Draws all of it. `now` is Unix seconds.
pub fn draw(frame: &mut Frame, model: &Model, now: u64) {
    let area = frame.area();
    let lower = if area.height >= LOWER + FEWEST_PEERS + 4 { LOWER } else { 0 };
    let [head, peers, below, keys] = Layout::vertical([
        Constraint::Length(2),
        Constraint::Min(1),
        Constraint::Length(lower),
        Constraint::Length(1),
    ])
    .areas(area);
    frame.render_widget(Paragraph::new(head_lines(model)), head);
    frame.render_widget(Paragraph::new(help(model)), keys);
    let Some(stats) = model.stats() else { return };
    draw_peers(frame, peers, model, now);
    if lower > 0 {
        let [peer, reasons] = Layout::horizontal([Constraint::Min(40), Constraint::Length(38)]).areas(below);
        draw_picked(frame, peer, model);
        draw_reasons(frame, reasons, model, stats);
    }
}

fn head_lines(model: &Model) -> Vec<Line<'static>> {
    let Some(stats) = model.stats() else {
        return vec![Line::raw(model.trouble.clone().unwrap_or_else(|| "asking relay ...".to_owned()))];
    };
    let total = model.total();
    let first = format!("{}  fast path {}", stats.interface, stats.fast_path);
    let second = match &model.trouble {
        Some(trouble) => trouble.clone(),
        None => {
            let share = model.fast_path_share().map_or_else(|| "-".to_owned(), percent);
            // In front, since a narrow terminal cuts the line off.
            let guard = model.guard_drops().filter(|&drops| drops >= 1.0);
            let guard = guard.map(|drops| format!("guard drops {drops:.0}/s  ")).unwrap_or_default();
            format!(
                "{guard}received {}  sent {}  by the fast path {share} of packets  {} peers",
                rate(total.received),
                rate(total.sent),
                stats.peers.len()
            )
        }
    };
    vec![Line::styled(first, Modifier::BOLD), Line::raw(second)]
}

fn help(model: &Model) -> Line<'static> {
    let direction = if model.reversed { ", reversed" } else { "" };
    let text = format!("q quit  s sort ({}{direction})  r reverse  arrows pick a peer", model.order.name());
    Line::styled(text, Modifier::DIM)
}

fn draw_peers(frame: &mut Frame, area: Rect, model: &Model, now: u64) {
    let rows = model.rows();
    if rows.is_empty() {
        frame.render_widget(Paragraph::new("no peers yet; `relay peer add NAME` makes one"), area);
        return;
    }
    // What is left goes to the name: 14 columns of 80.
    let widths = [
        Constraint::Fill(1),
        Constraint::Length(10),
        Constraint::Length(12),
        Constraint::Length(12),
        Constraint::Length(5),
        Constraint::Length((KEPT / LOOKS_PER_CELL) as u16),
    ];
    let title = |text: &str, order: Order| {
        let mark = if order == model.order { "*" } else { "" };
        format!("{text}{mark}")
    };
    let header = Row::new([
        Cell::new(title("PEER", Order::Name)),
        Cell::new(title("HANDSHAKE", Order::Handshake)),
        right(title("RECEIVED", Order::Received)),
        right(title("SENT", Order::Sent)),
        right("FAST".to_owned()),
        Cell::new("LAST MINUTE"),
    ])
    .style(Modifier::BOLD);
    let body = rows.iter().map(|peer| {
        let recent = model.recent(peer);
        let handshake =
            peer.latest_handshake.map_or_else(|| "never".to_owned(), |at| table::ago(now.saturating_sub(at)));
        Row::new([
            Cell::new(peer.name.clone()),
            Cell::new(handshake),
            right(rate(recent.rate().received)),
            right(rate(recent.rate().sent)),
            right(recent.fast_share.map_or_else(|| "-".to_owned(), percent)),
            Cell::new(spark(&recent)),
        ])
    });
    let list = Table::new(body, widths)
        .header(header)
        .row_highlight_style(Style::new().add_modifier(Modifier::REVERSED))
        .highlight_symbol("> ");
    frame.render_stateful_widget(list, area, &mut TableState::new().with_selected(model.picked()));
}

fn draw_picked(frame: &mut Frame, area: Rect, model: &Model) {
    let rows = model.rows();
    let Some(peer) = model.picked().and_then(|row| rows.get(row)) else { return };
    let block =
        Block::new().borders(Borders::TOP).title(Span::styled(format!(" {} ", peer.name), Modifier::BOLD));
    let inside = block.inner(area);
    frame.render_widget(block, area);
    let [facts, received, sent] =
        Layout::vertical([Constraint::Length(3), Constraint::Length(2), Constraint::Length(2)]).areas(inside);
    frame.render_widget(Paragraph::new(facts_of(peer)), facts);
    let recent = model.recent(peer);
    draw_line(frame, received, "received", &recent, |rate| rate.received);
    draw_line(frame, sent, "sent", &recent, |rate| rate.sent);
}

fn facts_of(peer: &PeerStats) -> Vec<Line<'static>> {
    let prefixes =
        peer.addresses.iter().map(ToString::to_string).chain(peer.lans.iter().map(ToString::to_string));
    let fast = peer.fast_path.received.bytes.saturating_add(peer.fast_path.sent.bytes);
    vec![
        Line::raw(prefixes.collect::<Vec<_>>().join(" ")),
        Line::raw(
            peer.endpoint.map_or_else(|| "no endpoint yet".to_owned(), |endpoint| format!("at {endpoint}")),
        ),
        Line::raw(format!(
            "{} in, {} out, {} fast",
            table::bytes(peer.received.bytes),
            table::bytes(peer.sent.bytes),
            table::bytes(fast)
        )),
    ]
}

fn draw_line(frame: &mut Frame, area: Rect, label: &'static str, recent: &Recent, of: impl Fn(&Rate) -> f64) {
    let [name, line, top] =
        Layout::horizontal([Constraint::Length(9), Constraint::Min(10), Constraint::Length(12)]).areas(area);
    let room = usize::from(line.width);
    let data: Vec<u64> = recent
        .rates
        .iter()
        .skip(recent.rates.len().saturating_sub(room))
        .map(|rate| of(rate) as u64)
        .collect();
    let most = data.iter().copied().max().unwrap_or(0);
    frame.render_widget(Paragraph::new(label), name);
    frame.render_widget(Sparkline::default().data(&data).max(most.max(1)), line);
    frame.render_widget(Paragraph::new(format!(" {}", rate(most as f64))), top);
}

fn draw_reasons(frame: &mut Frame, area: Rect, model: &Model, stats: &Stats) {
    let block = Block::new()
        .borders(Borders::TOP | Borders::LEFT)
        .title(Span::styled(" by the stack, packets ", Modifier::BOLD));
    let inside = block.inner(area);
    frame.render_widget(block, area);
    let reasons = model.reasons();
    if reasons.is_empty() {
        let text = if stats.verdicts.values().any(|&count| count > 0) { "none" } else { "nothing seen yet" };
        frame.render_widget(Paragraph::new(text), inside);
        return;
    }
    let lines = reasons.iter().map(|(name, per_second, count)| {
        Line::raw(format!("{:<19}{per_second:>6.0}/s {count:>9}", name.replace('_', " ")))
    });
    frame.render_widget(Paragraph::new(lines.collect::<Vec<_>>()), inside);
}

fn right(text: String) -> Cell<'static> {
    Cell::new(Line::raw(text).right_aligned())
}

fn rate(bytes: f64) -> String {
    format!("{}/s", table::bytes(bytes as u64))
}

fn percent(share: f64) -> String {
    format!("{:.0} %", share * 100.0)
}

/// Both directions of a minute as a row of eighths, each the highest of its looks.
fn spark(recent: &Recent) -> String {
    const EIGHTHS: [char; 9] = [' ', '▁', '▂', '▃', '▄', '▅', '▆', '▇', '█'];
    let totals: Vec<f64> = recent.rates.iter().map(|rate| rate.total()).collect();
    let most = totals.iter().copied().fold(1.0, f64::max);
    totals
        .rchunks(LOOKS_PER_CELL)
        .rev()
        .map(|looks| {
            let highest = looks.iter().copied().fold(0.0, f64::max);
            let eighth = (highest / most * 8.0).ceil() as usize;
            EIGHTHS[eighth.min(8)]
        })
        .collect()
}

#[cfg(test)]
pub(crate) mod tests {
    use std::time::Duration;

    use ratatui::{Terminal, backend::TestBackend};

    use super::*;
    use crate::{
        desired::Backend,
        key::PublicKey,
        report::{Bytes, Packets, PeerFastPath, Standing, UplinkStats},
        watch::model::Act,
    };

    pub(in crate::watch) fn peer(name: &str, received: u64, sent: u64) -> PeerStats {
        let mut key = [0; 32];
        key.iter_mut().zip(name.bytes()).for_each(|(byte, letter)| *byte = letter);
        PeerStats {
            name: name.into(),
            public_key: PublicKey::new(key),
            addresses: ["10.9.0.2".parse().unwrap(), "fd52:1a9::2".parse().unwrap()].into(),
            lans: ["192.168.40.0/24".parse().unwrap()].into(),
            endpoint: Some("203.0.113.9:41820".parse().unwrap()),
            latest_handshake: Some(940),
            received: Bytes { bytes: received },
            sent: Bytes { bytes: sent },
            fast_path: PeerFastPath {
                received: Packets { packets: received / 1000, bytes: received / 4 * 3 },
                sent: Packets { packets: sent / 1000, bytes: sent / 4 * 3 },
            },
        }
    }

    pub(crate) fn stats(peers: Vec<PeerStats>) -> Stats {
        Stats {
            uplink: None,
            interface: "wg0".into(),
            backend: Backend::Kernel,
            fast_path: Standing::on("nothing on this host filters or changes tunnel-to-tunnel traffic"),
            verdicts: [("redirected".into(), 0), ("ttl_expired".into(), 0)].into(),
            peers,
        }
    }

    fn screen(width: u16, height: u16, model: &Model) -> String {
        let mut terminal = Terminal::new(TestBackend::new(width, height)).unwrap();
        terminal.draw(|frame| draw(frame, model, 1000)).unwrap();
        terminal.backend().to_string()
    }

    /// A minute in which home uploads in waves, a phone listens, and a laptop has never come.
    fn minute() -> Model {
        let mut model = Model::default();
        for second in 0..=70_u64 {
            let (mut home, mut phone) = (0, 0);
            for earlier in 0..second {
                home += 1_000_000 * (1 + earlier % 10);
                phone += 120_000 * (earlier % 3);
            }
            let mut laptop = peer("laptop of the neighbour's daughter", 0, 0);
            laptop.public_key = PublicKey::new([7; 32]);
            laptop.latest_handshake = None;
            laptop.endpoint = None;
            let mut look = stats(vec![peer("home", home, phone), laptop, peer("phone", phone, home)]);
            look.verdicts = [
                ("redirected".into(), 90 * second),
                ("ttl_expired".into(), second / 10),
                ("local".into(), 10 * second),
                ("mss".into(), 0),
            ]
            .into();
            model.take(Duration::from_secs(second), look);
        }
        model
    }

    #[test]
    fn eighty_by_twenty_four() {
        insta::assert_snapshot!(screen(80, 24, &minute()));
    }

    #[test]
    fn wide() {
        let mut model = minute();
        model.act(Act::Last);
        model.act(Act::Sort);
        model.act(Act::Reverse);
        insta::assert_snapshot!(screen(132, 30, &model));
    }

    #[test]
    fn a_flood_is_told_in_the_head() {
        let mut model = Model::default();
        for second in 0..=3_u64 {
            let dropped = [("unknown_type".into(), 12_000 * second)].into();
            let uplink = Some(UplinkStats { passed: [].into(), dropped });
            let look = Stats { uplink, ..stats(vec![peer("home", 0, 0)]) };
            model.take(Duration::from_secs(second), look);
        }
        assert!(screen(80, 24, &model).contains("guard drops 12000/s  received"));
        assert!(!screen(80, 24, &minute()).contains("guard"));
    }

    #[test]
    fn nothing_is_known_yet() {
        insta::assert_snapshot!(screen(80, 24, &Model::default()));
    }

    #[test]
    fn relay_went_away() {
        let mut model = minute();
        model.trouble = Some("relay is not running (no answer on /run/relay/relay.sock)".into());
        insta::assert_snapshot!(screen(80, 12, &model));
    }

    #[test]
    fn a_thousand_peers_scroll_to_the_one_that_is_picked() {
        let mut model = Model::default();
        let peers = (0..1000).map(|number| peer(&format!("peer-{number:04}"), number, 0)).collect();
        model.take(Duration::from_secs(1), stats(peers));
        model.act(Act::Last);
        assert!(screen(80, 24, &model).contains("> peer-0999"));
    }

    #[test]
    fn no_size_is_too_small_to_draw() {
        let model = minute();
        for width in 1..90 {
            for height in 1..26 {
                screen(width, height, &model);
            }
        }
    }
}
