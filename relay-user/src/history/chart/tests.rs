//! What is drawn, read by a parser of XML.

use roxmltree::{Document, Node};

use super::*;
use crate::{
    history::report::PeerHistory,
    report::{Bytes, Packets, PeerFastPath},
};

const NOW: i64 = 1_795_626_000;
const DAY: i64 = 86_400;

fn peer(name: &str, megabytes: u64, buckets: impl Iterator<Item = i64>) -> PeerHistory {
    let buckets: Vec<Bucket> = buckets
        .map(|step| {
            let wave = 1 + (step as u64 * 7) % 11;
            let amount = Amount {
                received: Bytes { bytes: megabytes * wave * 1_000_000 },
                sent: Bytes { bytes: megabytes * wave * 300_000 },
                fast_path: PeerFastPath {
                    received: Packets { packets: wave, bytes: wave },
                    sent: Packets::default(),
                },
                handshakes: 2,
            };
            Bucket { start: NOW - DAY + step * BUCKET, seconds: BUCKET, amount }
        })
        .collect();
    let amount: Amount = buckets.iter().map(|bucket| bucket.amount).sum();
    PeerHistory { name: name.to_owned(), amount, total: amount, total_since: NOW - 3 * DAY, buckets }
}

fn example() -> History {
    History {
        interface: "wg0".into(),
        since: NOW - DAY,
        until: NOW,
        peers: vec![
            peer("home", 20, 0..288),
            peer("laptop", 9, 100..200),
            peer("<Zoë> & \"Bob\"'s\u{fffe}", 30, 150..180),
            peer("never", 0, 0..0),
        ],
    }
}

fn texts(document: &Document<'_>) -> Vec<String> {
    let texts = document.descendants().filter(|node| node.has_tag_name("text"));
    texts.filter_map(|node| node.text()).map(str::to_owned).collect()
}

#[test]
fn everything_is_named() {
    let drawn = svg(&example(), &TimeZone::UTC);
    let document = Document::parse(&drawn).expect("XML");
    let texts = texts(&document);
    for text in
        ["Traffic of wg0", "Received from peers", "Sent to peers", "home", "<Zoë> & \"Bob\"'s\u{fffd}"]
    {
        assert_eq!(texts.iter().filter(|found| *found == text).count(), 1, "{text}: {texts:?}");
    }
    assert!(!texts.iter().any(|text| text == "never"), "who has moved nothing needs no colour");
    assert!(texts.iter().any(|text| text.ends_with("Mbit/s")), "{texts:?}");
    assert!(texts.iter().any(|text| text == "06:00"), "{texts:?}");
    let paths: Vec<Node<'_, '_>> = document.descendants().filter(|node| node.has_tag_name("path")).collect();
    assert_eq!(paths.len(), 6, "three peers, two ways");
    // Within the picture, and none on top of another: what is stacked ends where the axis does.
    for path in paths {
        for number in path.attribute("d").expect("a path").split(['M', 'L', 'H', 'Z', ' ']) {
            let inside =
                number.is_empty() || number.parse::<f64>().is_ok_and(|at| (0.0..WIDTH).contains(&at));
            assert!(inside, "{number}");
        }
    }
}

#[test]
fn many_peers_are_others() {
    let mut history = example();
    history.peers = (0..30).map(|number| peer(&format!("peer {number:02}"), number + 1, 0..9)).collect();
    let drawn = svg(&history, &TimeZone::UTC);
    let document = Document::parse(&drawn).expect("XML");
    let texts = texts(&document);
    assert!(texts.iter().any(|text| text == "24 others"), "{texts:?}");
    assert!(texts.iter().any(|text| text == "peer 29") && !texts.iter().any(|text| text == "peer 23"));
    let said: Vec<_> = texts.iter().filter(|text| text.starts_with("received ")).collect();
    assert_eq!(said.len(), COLOURS.len());
}

#[test]
fn nothing_and_hardly_any_time() {
    let mut history = example();
    history.peers.clear();
    let drawn = svg(&history, &TimeZone::UTC);
    Document::parse(&drawn).expect("XML");
    assert!(drawn.contains("Nothing was counted"));
    let mut history = example();
    history.since = NOW - 1;
    assert!(!svg(&history, &TimeZone::UTC).contains("NaN"));
}

#[test]
fn the_table_and_its_pictures() {
    insta::assert_snapshot!(crate::history::text::table(&example(), &TimeZone::UTC));
}

#[test]
fn lines_of_csv() {
    let mut history = example();
    history.peers = vec![peer("a,\"b\"", 1, 0..2), peer("home", 1, 1..2)];
    insta::assert_snapshot!(history.csv().replace('\r', ""));
}
