//! How far back `relay stats --since` looks, as people write it.

use std::str::FromStr;

use jiff::{Span, SpanRelativeTo, Timestamp, civil::Date, tz::TimeZone};

/// A time before now, or a moment.
#[derive(Clone, Copy, Debug)]
pub enum Since {
    /// So long before now.
    Ago(Span),
    /// Since the begin of that day, by the clock of this machine.
    Day(Date),
    /// Since then.
    Moment(Timestamp),
}

/// None of them.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "`{0}` is neither a time ago, such as 24h or 7d, nor a day or moment, such as 2026-11-01 or 2026-11-01T18:00:00Z"
)]
pub struct BadSince(String);

impl FromStr for Since {
    type Err = BadSince;

    fn from_str(text: &str) -> Result<Self, BadSince> {
        let ago = || {
            let span: Span = text.parse().ok()?;
            let length = span.to_duration(SpanRelativeTo::days_are_24_hours()).ok()?;
            length.is_positive().then_some(Self::Ago(span))
        };
        // A civil time without an offset parses as a date too.
        let is_date = text.len() == "2026-11-01".len();
        let day = || text.parse().ok().filter(|_| is_date).map(Self::Day);
        let moment = || text.parse().ok().map(Self::Moment);
        ago().or_else(day).or_else(moment).ok_or_else(|| BadSince(text.escape_debug().to_string()))
    }
}

impl Since {
    /// The moment that it means at `now` by the clocks of `zone`; `None` where no clock shows it.
    #[must_use]
    pub fn moment(self, now: Timestamp, zone: &TimeZone) -> Option<Timestamp> {
        match self {
            Self::Ago(span) => {
                let length = span.to_duration(SpanRelativeTo::days_are_24_hours()).ok()?;
                now.checked_sub(length).ok()
            }
            Self::Day(day) => day.to_zoned(zone.clone()).ok().map(|begin| begin.timestamp()),
            Self::Moment(moment) => Some(moment),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn as_people_write_it() {
        let now: Timestamp = "2026-11-25T17:00:00Z".parse().expect("now");
        let zone = TimeZone::fixed(jiff::tz::offset(1));
        for (text, expected) in [
            ("24h", "2026-11-24T17:00:00Z"),
            ("7d", "2026-11-18T17:00:00Z"),
            ("1w", "2026-11-18T17:00:00Z"),
            ("90m", "2026-11-25T15:30:00Z"),
            ("2026-11-01", "2026-10-31T23:00:00Z"),
            ("2026-11-01T18:00:00+02:00", "2026-11-01T16:00:00Z"),
        ] {
            let since: Since = text.parse().expect(text);
            assert_eq!(
                since.moment(now, &zone).map(|at| at.to_string()).as_deref(),
                Some(expected),
                "{text}"
            );
        }
        for bad in ["", "24", "-1d", "0s", "yesterday", "2026-13-01", "2026-11-01T18:00:00", "1mo", "1y"] {
            assert!(bad.parse::<Since>().is_err(), "{bad}");
        }
        let ever: Since = "9999w".parse().expect("since ever");
        assert!(ever.moment(now, &zone).is_some());
    }
}
