//! Where the marks of the axes stand, and what is written there.

use jiff::{Timestamp, ToSpan as _, Zoned, tz::TimeZone};

/// Marks that fit below a picture.
const MOST_TICKS: i64 = 9;

const MINUTE: i64 = 60;
const HOUR: i64 = 60 * MINUTE;
const DAY: i64 = 24 * HOUR;

/// Steps of less than a day that divide one.
const STEPS: [i64; 9] =
    [MINUTE, 5 * MINUTE, 15 * MINUTE, 30 * MINUTE, HOUR, 2 * HOUR, 3 * HOUR, 6 * HOUR, 12 * HOUR];

/// An axis from zero, in bits a second.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Scale {
    /// From mark to mark.
    pub(super) step: f64,
    /// Marks above zero.
    pub(super) steps: u32,
}

/// Marks at 1, 2 or 5 times a power of ten, three to five of them, for values up to `most`.
pub(super) fn scale(most: f64) -> Scale {
    // An empty picture has an axis too.
    let most = if most.is_finite() { most.max(1_000.0) } else { 1_000.0 };
    let power = 10f64.powf((most / 5.0).log10().floor());
    let step = [1.0, 2.0, 5.0, 10.0].map(|factor| factor * power).into_iter().find(|step| step * 5.0 >= most);
    let step = step.unwrap_or(10.0 * power);
    Scale { step, steps: (most / step).ceil().max(1.0) as u32 }
}

impl Scale {
    /// The top of the axis.
    pub(super) fn most(self) -> f64 {
        self.step * f64::from(self.steps)
    }

    /// What stands at a mark, in the unit of the top one.
    pub(super) fn label(self, step: u32) -> String {
        const UNITS: [(f64, &str); 5] =
            [(1e12, "Tbit/s"), (1e9, "Gbit/s"), (1e6, "Mbit/s"), (1e3, "kbit/s"), (1.0, "bit/s")];
        let most = self.most();
        let (unit, name) = UNITS.into_iter().find(|(unit, _)| most >= *unit).unwrap_or((1.0, "bit/s"));
        // No step is finer than a tenth of the unit: the top is at least one, by at most five steps.
        let value = (self.step * f64::from(step) / unit * 10.0).round() / 10.0;
        format!("{value} {name}")
    }
}

/// Round moments between two, by the clocks of `zone`, with what stands there.
pub(super) fn ticks(since: i64, until: i64, zone: &TimeZone) -> Vec<(i64, String)> {
    let length = until - since;
    let step = STEPS.into_iter().find(|step| length / step < MOST_TICKS);
    let begin = match Timestamp::from_second(since).map(|at| at.to_zoned(zone.clone()).start_of_day()) {
        Ok(Ok(begin)) => begin,
        _ => return Vec::new(),
    };
    let ticks = match step {
        Some(step) => of_a_day(&begin, step, until),
        None => of_days(begin, (length / DAY + MOST_TICKS) / MOST_TICKS, until),
    };
    ticks.into_iter().filter(|(at, _)| (since..=until).contains(at)).collect()
}

/// Each `step` seconds by the clock on the wall, whatever it does on the two odd days of a year; a midnight is its date.
fn of_a_day(begin: &Zoned, step: i64, until: i64) -> Vec<(i64, String)> {
    let mut ticks: Vec<(i64, String)> = Vec::new();
    let mut day = begin.clone();
    while day.timestamp().as_second() <= until {
        for second in (0..DAY).step_by(usize::try_from(step).unwrap_or(1)) {
            let Ok(wall) = day.datetime().date().at(0, 0, 0, 0).checked_add(second.seconds()) else {
                continue;
            };
            let Ok(tick) = wall.to_zoned(day.time_zone().clone()) else { continue };
            let format = if second == 0 { "%-d %b" } else { "%H:%M" };
            // An hour that the clock leaves out is the next one once more.
            if tick.datetime() == wall {
                ticks.push((tick.timestamp().as_second(), tick.strftime(format).to_string()));
            }
        }
        let Ok(next) = day.tomorrow().and_then(|next| next.start_of_day()) else { break };
        day = next;
    }
    ticks
}

fn of_days(begin: Zoned, days: i64, until: i64) -> Vec<(i64, String)> {
    let mut ticks = Vec::new();
    let mut day = begin;
    while day.timestamp().as_second() <= until {
        ticks.push((day.timestamp().as_second(), day.strftime("%-d %b").to_string()));
        let Ok(next) = day.checked_add(days.days()).and_then(|next| next.start_of_day()) else { break };
        day = next;
    }
    ticks
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn marks_of_rates() {
        for (most, expected) in [
            (0.0, "0 kbit/s 0.2 kbit/s 0.4 kbit/s 0.6 kbit/s 0.8 kbit/s 1 kbit/s"),
            (3.2e6, "0 Mbit/s 1 Mbit/s 2 Mbit/s 3 Mbit/s 4 Mbit/s"),
            (9.99e8, "0 Gbit/s 0.2 Gbit/s 0.4 Gbit/s 0.6 Gbit/s 0.8 Gbit/s 1 Gbit/s"),
            (2.1e7, "0 Mbit/s 5 Mbit/s 10 Mbit/s 15 Mbit/s 20 Mbit/s 25 Mbit/s"),
        ] {
            let scale = scale(most);
            let labels: Vec<String> = (0..=scale.steps).map(|step| scale.label(step)).collect();
            assert_eq!(labels.join(" "), expected, "{most}");
            assert!(scale.most() >= most);
        }
        assert!(scale(f64::NAN).steps > 0 && scale(f64::INFINITY).steps > 0);
    }

    #[test]
    fn marks_of_time() {
        let zone = TimeZone::fixed(jiff::tz::offset(1));
        let at = |text: &str| text.parse::<Timestamp>().expect("moment").as_second();
        let labels = |since: &str, until: &str| {
            let ticks = ticks(at(since), at(until), &zone);
            assert!(ticks.len() <= 10, "{ticks:?}");
            ticks.into_iter().map(|(_, label)| label).collect::<Vec<_>>().join(" ")
        };
        assert_eq!(
            labels("2026-11-24T17:20:00Z", "2026-11-25T17:20:00Z"),
            "21:00 25 Nov 03:00 06:00 09:00 12:00 15:00 18:00"
        );
        assert_eq!(
            labels("2026-11-25T16:58:00Z", "2026-11-25T17:31:00Z"),
            "18:00 18:05 18:10 18:15 18:20 18:25 18:30"
        );
        assert_eq!(
            labels("2026-11-18T17:00:00Z", "2026-11-25T17:00:00Z"),
            "19 Nov 20 Nov 21 Nov 22 Nov 23 Nov 24 Nov 25 Nov"
        );
        assert_eq!(
            labels("2025-10-21T17:00:00Z", "2026-11-25T17:00:00Z").split(' ').count() / 2,
            8,
            "about as many for 400 days"
        );
    }

    #[test]
    fn days_that_are_not_24_hours() {
        // The clock goes from 2:00 to 3:00, and, in autumn, once more from 3:00 to 2:00.
        let rule = TimeZone::posix("CET-1CEST,M3.5.0,M10.5.0/3").expect("a rule");
        for day in ["2026-03-29", "2026-10-25"] {
            let begin = day.parse::<jiff::civil::Date>().expect("day").to_zoned(rule.clone()).expect("begin");
            let (since, until) = (begin.timestamp().as_second(), begin.timestamp().as_second() + 12 * HOUR);
            let ticks = ticks(since, until, &rule);
            assert!(ticks.windows(2).all(|pair| pair[0].0 < pair[1].0), "{ticks:?}");
            assert!(ticks.iter().any(|(_, label)| label == "06:00"), "{ticks:?}");
        }
    }
}
