//! The guard in front of the listen port: whether it stands, and whether somebody tries it.

use super::{
    facts::{Facts, Knocks},
    finding::{Check, Finding},
};

/// Fewer dropped packets a second than this are the noise of the internet.
const NOISE: f64 = 20.0;

/// So many sources are named.
const NAMED: usize = 5;

pub(super) fn findings(facts: &Facts) -> Vec<Finding> {
    let Some(guard) = facts.status().and_then(|status| status.uplink.as_ref()) else { return Vec::new() };
    if !guard.is_on() {
        return vec![Finding::ok(Check::Guard, guard.to_string())];
    }
    match &facts.knocks {
        Some(knocks) if is_attack(knocks) => vec![attack(knocks)],
        Some(knocks) => {
            vec![Finding::ok(Check::Guard, format!("{guard}; {} packets dropped so far", knocks.dropped))]
        }
        None => vec![Finding::ok(Check::Guard, guard.to_string())],
    }
}

/// Whether somebody means it.
pub(super) fn is_attack(knocks: &Knocks) -> bool {
    knocks.per_second >= NOISE
}

fn attack(knocks: &Knocks) -> Finding {
    let reasons: Vec<String> =
        knocks.reasons.iter().map(|(reason, _)| reason.replace('_', " ")).take(NAMED).collect();
    let sources: Vec<String> =
        knocks.sources.iter().take(NAMED).map(|(source, count)| format!("{source} ({count})")).collect();
    let more = match knocks.sources.len().saturating_sub(NAMED) {
        0 => String::new(),
        more => format!(" and {more} more"),
    };
    let seen = format!(
        "the uplink is under attack: the guard drops {:.0} packets a second ({}); most came from {}{more}",
        knocks.per_second,
        reasons.join(", "),
        sources.join(", ")
    );
    let first = knocks.sources.first().map_or("ADDRESS", |(source, _)| source);
    let remedy = format!(
        "nothing must be done, since the guard holds. Where few sources stand out and are nobody's of yours, \
         deny = [\"{first}\"] under [uplink] drops all that comes from there; many with few packets each are forged"
    );
    Finding::warning(Check::Guard, seen, remedy)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_attack_names_who_and_what() {
        let knocks = Knocks {
            per_second: 12_345.6,
            dropped: 99_999,
            reasons: vec![("junk_source".into(), 12_000), ("bad_mac1".into(), 345)],
            sources: (1..=7).map(|n| (format!("203.0.113.{n}"), 8000 - n)).collect(),
        };
        let finding = attack(&knocks);
        assert_eq!(
            finding.seen,
            "the uplink is under attack: the guard drops 12346 packets a second (junk source, bad mac1); most came from \
             203.0.113.1 (7999), 203.0.113.2 (7998), 203.0.113.3 (7997), 203.0.113.4 (7996), 203.0.113.5 (7995) and 2 more"
        );
        assert!(finding.remedy.is_some_and(|remedy| remedy.contains("deny = [\"203.0.113.1\"]")));
    }
}
