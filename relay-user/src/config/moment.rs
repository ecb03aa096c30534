//! Moments as people write them: in relay.toml, and after `--expires`.

use jiff::{Timestamp, civil::Date, tz::TimeZone};

/// Not a moment.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "`{0}` is no moment; write such as 2026-12-24T18:00:00Z, or 2026-12-24 for the beginning of that day in UTC"
)]
pub struct BadMoment(String);

/// Nothing that could lie ahead.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum BadExpiry {
    /// Neither a time from now nor a moment.
    #[error(
        "`{0}` is neither a time from now, such as 30d or 12h, nor a moment, such as 2026-12-24 or 2026-12-24T18:00:00Z"
    )]
    Form(String),
    /// It was.
    #[error("{0} lies in the past")]
    Past(Timestamp),
}

/// A moment with its offset from UTC (RFC 3339), or a date, which is the beginning of that day in UTC.
///
/// # Errors
/// It is neither.
pub fn read(text: &str) -> Result<Timestamp, BadMoment> {
    let date = || text.parse::<Date>().ok()?.to_zoned(TimeZone::UTC).ok().map(|day| day.timestamp());
    // A civil time without an offset parses as a date too; nobody could tell whose clock it means.
    let is_date = text.len() == "2026-12-24".len();
    let moment = if is_date { date() } else { text.parse().ok() };
    moment.ok_or_else(|| BadMoment(text.escape_debug().to_string()))
}

/// As [`read`], or a time from `now`: `30d`, `2w`, `12h`, `90m`, `1d 12h`. A day is 24 hours.
///
/// # Errors
/// It is none of them, or lies not ahead.
pub fn read_from(text: &str, now: Timestamp) -> Result<Timestamp, BadExpiry> {
    let moment = match read(text) {
        Ok(moment) => moment,
        Err(_) => after(text, now).ok_or_else(|| BadExpiry::Form(text.escape_debug().to_string()))?,
    };
    if moment > now { Ok(moment) } else { Err(BadExpiry::Past(moment)) }
}

/// The moment a span after `now`, in whole seconds, rounded up: nobody wants to read nanoseconds in a file.
fn after(text: &str, now: Timestamp) -> Option<Timestamp> {
    let span: jiff::Span = text.parse().ok()?;
    let duration = span.to_duration(jiff::SpanRelativeTo::days_are_24_hours()).ok()?;
    let moment = now.checked_add(duration).ok().filter(|_| duration.is_positive())?;
    Timestamp::from_second(moment.as_second() + i64::from(moment.subsec_nanosecond() > 0)).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(text: &str) -> Timestamp {
        text.parse().expect("a moment")
    }

    #[test]
    fn moments_and_dates() {
        for (text, expected) in [
            ("2026-12-24T18:00:00Z", "2026-12-24T18:00:00Z"),
            ("2026-12-24 18:00:00Z", "2026-12-24T18:00:00Z"),
            ("2026-12-24T18:00:00+01:00", "2026-12-24T17:00:00Z"),
            ("2026-12-24", "2026-12-24T00:00:00Z"),
        ] {
            assert_eq!(read(text), Ok(at(expected)), "{text}");
        }
        for bad in ["", "soon", "2026-12-24T18:00:00", "2026-13-01", "24.12.2026", "30d", "\u{1b}[31m"] {
            let error = read(bad).expect_err(bad).to_string();
            assert!(!error.contains('\u{1b}'), "{error}");
        }
    }

    #[test]
    fn times_from_now() {
        let now = at("2026-01-01T00:00:00.5Z");
        for (text, expected) in [
            ("30d", "2026-01-31T00:00:01Z"),
            ("2w", "2026-01-15T00:00:01Z"),
            ("12h", "2026-01-01T12:00:01Z"),
            ("1d 12h", "2026-01-02T12:00:01Z"),
            ("2s", "2026-01-01T00:00:03Z"),
            ("2026-12-24", "2026-12-24T00:00:00Z"),
        ] {
            assert_eq!(read_from(text, now), Ok(at(expected)), "{text}");
        }
        for bad in ["", "0d", "-1d", "30 bananas", "30", "1y", "1mo", "999999999999d", "2025-12-31"] {
            assert!(read_from(bad, now).is_err(), "{bad}");
        }
    }
}
