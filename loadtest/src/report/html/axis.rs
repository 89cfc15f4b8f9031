//! How values lie on an axis.

use std::ops::Range;

use plotters::coord::ranged1d::{KeyPointHint, NoDefaultFormatting, Ranged, ValueFormatter};

use crate::report::text::number_text;

/// A kind of axis. Charts are drawn in places; values become places here.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) enum Scale {
    /// From zero, with room above.
    Linear,
    /// From zero to the last.
    Time,
    /// Decades.
    Log,
    /// Of quantiles: each step is a tenth of the rest, 0, 0.9, 0.99, …
    Nines,
}

/// An axis that fits its values.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Axis {
    pub(super) title: String,
    pub(super) scale: Scale,
    /// Of places.
    pub(super) range: Range<f64>,
    /// Places with a line and a label.
    pub(super) ticks: Vec<f64>,
}

impl Scale {
    /// `None`: not on this axis.
    pub(super) fn place(self, value: f64) -> Option<f64> {
        match self {
            Self::Linear | Self::Time => value.is_finite().then_some(value),
            Self::Log => (value > 0.0).then(|| value.log10()),
            Self::Nines => (value < 1.0).then(|| -(1.0 - value).log10()),
        }
    }

    /// What stands at a tick.
    pub(super) fn label(self, place: f64) -> String {
        match self {
            Self::Linear | Self::Time => tick_text(place),
            Self::Log => tick_text(10_f64.powf(place)),
            Self::Nines if place < 0.5 => "p0".into(),
            Self::Nines => {
                let nines = "9".repeat(place.round() as usize);
                let (whole, rest) = nines.split_at(nines.len().min(2));
                match (whole, rest) {
                    ("9", _) => "p90".into(),
                    (whole, "") => format!("p{whole}"),
                    (whole, rest) => format!("p{whole}.{rest}"),
                }
            }
        }
    }
}

impl Axis {
    /// An axis wide enough for all values; `None` where there is none to show.
    pub(super) fn fit(title: &str, scale: Scale, values: impl Iterator<Item = f64>) -> Option<Self> {
        let places: Vec<f64> = values.filter_map(|value| scale.place(value)).collect();
        let most = places.iter().copied().reduce(f64::max)?;
        let least = places.iter().copied().fold(most, f64::min);
        let range = match scale {
            Scale::Linear if most > 0.0 => 0.0..most * 1.08,
            Scale::Time if most > 0.0 => 0.0..most * 1.001,
            Scale::Linear | Scale::Time => 0.0..1.0,
            // At least half a decade, or noise fills the chart.
            Scale::Log => {
                let middle = f64::midpoint(least, most);
                least.min(middle - 0.25) - 0.05..most.max(middle + 0.25) + 0.05
            }
            Scale::Nines => 0.0..most.max(1.0) + 0.05,
        };
        let ticks = ticks(scale, &range);
        Some(Self { title: title.into(), scale, range, ticks })
    }
}

/// What the library maps are places.
impl Ranged for Axis {
    type FormatOption = NoDefaultFormatting;
    type ValueType = f64;

    fn map(&self, place: &f64, limit: (i32, i32)) -> i32 {
        let share = (place - self.range.start) / (self.range.end - self.range.start);
        limit.0 + (f64::from(limit.1 - limit.0) * share).round() as i32
    }

    fn key_points<Hint: KeyPointHint>(&self, hint: Hint) -> Vec<f64> {
        if hint.weight().allow_light_points() { Vec::new() } else { self.ticks.clone() }
    }

    fn range(&self) -> Range<f64> {
        self.range.clone()
    }
}

impl ValueFormatter<f64> for Axis {
    fn format_ext(&self, place: &f64) -> String {
        self.scale.label(*place)
    }
}

fn ticks(scale: Scale, range: &Range<f64>) -> Vec<f64> {
    let within = |place: &f64| range.contains(place);
    let decades = (range.start.floor() as i32)..=(range.end.ceil() as i32);
    match scale {
        Scale::Linear | Scale::Time => {
            let step = nice_step(range.end / 7.0);
            (0..=20).map(|number| f64::from(number) * step).filter(within).collect()
        }
        Scale::Log if range.end - range.start > 2.5 => decades.map(f64::from).filter(within).collect(),
        Scale::Log => decades
            .flat_map(|decade| [1.0_f64, 2.0, 5.0].map(|digit| digit.log10() + f64::from(decade)))
            .filter(within)
            .collect(),
        Scale::Nines => decades.map(f64::from).filter(within).collect(),
    }
}

/// The smallest of 1, 2, 5, 10, 20, … that is no less.
fn nice_step(least: f64) -> f64 {
    let decade = 10_f64.powf(least.log10().floor());
    [1.0, 2.0, 5.0]
        .into_iter()
        .map(|digit| digit * decade)
        .find(|step| *step >= least)
        .unwrap_or(decade * 10.0)
}

/// Without zeros that say nothing.
fn tick_text(value: f64) -> String {
    match value.abs() {
        1_000_000.0.. => format!("{} M", trimmed(value / 1e6)),
        1_000.0.. => format!("{} k", trimmed(value / 1e3)),
        _ => trimmed(value),
    }
}

fn trimmed(value: f64) -> String {
    if value != 0.0 && value.abs() < 0.1 {
        return format!("{value:.4}").trim_end_matches('0').trim_end_matches('.').to_owned();
    }
    let text = number_text(value);
    match text.contains('.') {
        true => text.trim_end_matches('0').trim_end_matches('.').to_owned(),
        false => text,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn labels(scale: Scale, values: &[f64]) -> Vec<String> {
        let axis = Axis::fit("", scale, values.iter().copied()).unwrap();
        axis.ticks.iter().map(|place| axis.scale.label(*place)).collect()
    }

    #[test]
    fn ticks_are_round_and_within() {
        assert_eq!(labels(Scale::Time, &[12.0]), ["0", "2", "4", "6", "8", "10", "12"]);
        assert_eq!(labels(Scale::Linear, &[3.0, 0.95]), ["0", "0.5", "1", "1.5", "2", "2.5", "3"]);
        assert_eq!(labels(Scale::Linear, &[41_000.0]), ["0", "10 k", "20 k", "30 k", "40 k"]);
        assert_eq!(labels(Scale::Log, &[0.3, 7.0]), ["0.5", "1", "2", "5"]);
        assert_eq!(labels(Scale::Log, &[0.06, 80.0]), ["0.1", "1", "10"]);
        assert_eq!(labels(Scale::Nines, &[0.0, 0.9995]), ["p0", "p90", "p99", "p99.9"]);
        assert_eq!(labels(Scale::Linear, &[0.0]), ["0", "0.2", "0.4", "0.6", "0.8"]);
    }

    #[test]
    fn an_axis_needs_a_value() {
        assert_eq!(Axis::fit("", Scale::Log, [0.0, -1.0].into_iter()), None);
        assert_eq!(Axis::fit("", Scale::Linear, [f64::NAN].into_iter()), None);
    }
}
