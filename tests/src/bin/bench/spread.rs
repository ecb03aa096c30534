//! Many measurements of one thing: the median, and how far they lie apart.

use serde_json::{Value, json};

/// The quartiles of a sample.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Spread {
    /// Half of the values are below.
    pub(crate) median: f64,
    /// A quarter of the values are below.
    pub(crate) low: f64,
    /// A quarter of the values are above.
    pub(crate) high: f64,
    /// How many values there are.
    pub(crate) samples: usize,
}

impl Spread {
    /// Of values in any order; nothing where there are none.
    pub(crate) fn of(values: impl IntoIterator<Item = f64>) -> Option<Self> {
        let mut values: Vec<f64> = values.into_iter().collect();
        values.sort_by(f64::total_cmp);
        let at = |share: f64| -> Option<f64> {
            let place = share * (values.len().checked_sub(1)?) as f64;
            let (below, above) = (values.get(place.floor() as usize)?, values.get(place.ceil() as usize)?);
            Some(below + (above - below) * place.fract())
        };
        Some(Self { median: at(0.5)?, low: at(0.25)?, high: at(0.75)?, samples: values.len() })
    }

    /// This divided by another one, as far apart as the quartiles allow.
    pub(crate) fn over(self, other: Self) -> Self {
        Self {
            median: self.median / other.median,
            low: self.low / other.high,
            high: self.high / other.low,
            samples: self.samples.min(other.samples),
        }
    }

    /// As it stands in the results.
    pub(crate) fn json(self) -> Value {
        let round = |value: f64| (value * 1000.0).round() / 1000.0;
        json!({
            "median": round(self.median), "low": round(self.low), "high": round(self.high), "samples": self.samples,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::Spread;

    #[test]
    fn quartiles_lie_between_values() {
        assert_eq!(Spread::of([]), None);
        let of = |values: &[f64]| Spread::of(values.iter().copied()).expect("values");
        let one = of(&[7.0]);
        assert_eq!((one.low, one.median, one.high, one.samples), (7.0, 7.0, 7.0, 1));
        let many = of(&[5.0, 1.0, 4.0, 2.0, 3.0]);
        assert_eq!((many.low, many.median, many.high), (2.0, 3.0, 4.0));
        assert_eq!(of(&[1.0, 2.0]).median, 1.5);
    }
}
