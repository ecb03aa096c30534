//! The history for a terminal: a table, with a little picture for each peer.

use jiff::{Timestamp, tz::TimeZone};

use super::{
    amount::Amount,
    report::{Bucket, History},
    series::rates,
};
use crate::table::{bytes, columns};

/// Characters of a picture.
const PICTURE: usize = 24;

/// An eighth to all of a character's height.
const BARS: [char; 8] = ['▁', '▂', '▃', '▄', '▅', '▆', '▇', '█'];

/// The table, by the clocks of `zone`.
#[must_use]
pub fn table(history: &History, zone: &TimeZone) -> String {
    let mut text = format!(
        "{}, {} to {}\n\n",
        history.interface,
        clock(history.since, zone, "%a %-d %b %Y %H:%M"),
        clock(history.until, zone, "%a %-d %b %Y %H:%M %Z")
    );
    if history.peers.is_empty() {
        text.push_str("nothing was counted yet; `relay up` counts while it runs\n");
        return text;
    }
    let head = [
        "PEER",
        "RECEIVED",
        "SENT",
        "FAST IN",
        "FAST OUT",
        "HANDSHAKES",
        "EVER",
        "SINCE",
        "BOTH WAYS, OVER TIME",
    ];
    let mut rows = vec![head.map(str::to_owned).to_vec()];
    for peer in &history.peers {
        let since = clock(peer.total_since, zone, "%Y-%m-%d");
        rows.push(row(&peer.name, peer.amount, peer.total, since, picture(history, &peer.buckets)));
    }
    if history.peers.len() > 1 {
        let buckets: Vec<Bucket> =
            history.peers.iter().flat_map(|peer| peer.buckets.iter().copied()).collect();
        rows.push(row("all", history.amount(), history.total(), String::new(), picture(history, &buckets)));
    }
    text + &columns(&rows, &[1, 2, 3, 4, 5, 6])
}

fn row(name: &str, amount: Amount, total: Amount, since: String, picture: String) -> Vec<String> {
    let fast = amount.fast_path;
    let ever = total.received.bytes.saturating_add(total.sent.bytes);
    vec![
        name.to_owned(),
        bytes(amount.received.bytes),
        bytes(amount.sent.bytes),
        bytes(fast.received.bytes),
        bytes(fast.sent.bytes),
        amount.handshakes.to_string(),
        bytes(ever),
        since,
        picture,
    ]
}

/// Each peer by its own measure: its fullest stretch is a full character, an empty one a blank.
fn picture(history: &History, buckets: &[Bucket]) -> String {
    let both = |amount: &Amount| amount.received.bytes.saturating_add(amount.sent.bytes);
    let rates = rates(buckets, history.since, history.until, PICTURE, both);
    let most = rates.iter().copied().fold(0.0, f64::max);
    let bar = |rate: f64| {
        let eighths = (rate / most * 8.0).ceil().clamp(1.0, 8.0) as usize;
        BARS[eighths - 1]
    };
    rates.into_iter().map(|rate| if rate > 0.0 { bar(rate) } else { ' ' }).collect()
}

/// A moment by the clocks of `zone`.
pub(super) fn clock(moment: i64, zone: &TimeZone, format: &str) -> String {
    let moment = Timestamp::from_second(moment).unwrap_or(Timestamp::UNIX_EPOCH);
    moment.to_zoned(zone.clone()).strftime(format).to_string()
}
