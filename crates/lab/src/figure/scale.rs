//! Numbers to positions along an axis, and the ticks that a reader expects.

use super::Axis;

/// The range of an axis, linear or logarithmic.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Scale {
    low: f64,
    high: f64,
    log: bool,
}

impl Scale {
    /// The axis' own range, or that of the values with a margin of 5 %. Values that cannot be shown (not finite, or not
    /// positive on a logarithmic axis) are passed over.
    pub(super) fn of(axis: &Axis, values: impl Iterator<Item = f64>) -> Self {
        let shown = |value: &f64| value.is_finite() && (!axis.log || *value > 0.0);
        let fixed = axis.range.filter(|(low, high)| shown(low) && shown(high) && low < high);
        if let Some((low, high)) = fixed {
            return Self { low, high, log: axis.log };
        }
        let place = |value: f64| if axis.log { value.log10() } else { value };
        let ends = values.filter(shown).map(place).fold(None, |ends: Option<(f64, f64)>, value| {
            Some(ends.map_or((value, value), |(low, high)| (low.min(value), high.max(value))))
        });
        let (low, high) = widened(ends.unwrap_or((0.0, 1.0)));
        if axis.log {
            Self { low: 10f64.powf(low), high: 10f64.powf(high), log: true }
        } else {
            Self { low, high, log: false }
        }
    }

    /// Position of `value`: 0 at the low end, 1 at the high end; `None` where it cannot be shown.
    pub(super) fn share(&self, value: f64) -> Option<f64> {
        let place = |value: f64| if self.log { value.log10() } else { value };
        let share = (place(value) - place(self.low)) / (place(self.high) - place(self.low));
        share.is_finite().then_some(share)
    }

    /// Whether `value` lies within the axis.
    pub(super) fn contains(&self, value: f64) -> bool {
        value >= self.low && value <= self.high
    }

    /// About `count` tick values with their labels.
    pub(super) fn ticks(&self, count: usize) -> Vec<(f64, String)> {
        if self.log { self.decades(count) } else { self.round_steps(count) }
    }

    fn round_steps(&self, count: usize) -> Vec<(f64, String)> {
        let step = round_up((self.high - self.low) / count.max(1) as f64);
        let first = (self.low / step - 1e-9).ceil() as i64;
        let last = (self.high / step + 1e-9).floor() as i64;
        let decimals = usize::try_from((-step.log10() - 1e-9).ceil().max(0.0) as i64).unwrap_or(0);
        (first..=last)
            .take(64)
            .map(|index| (index as f64 * step, label(index as f64 * step, decimals)))
            .collect()
    }

    fn decades(&self, count: usize) -> Vec<(f64, String)> {
        let (first, last) = (self.low.log10().floor() as i32, self.high.log10().ceil() as i32);
        let span = self.high.log10() - self.low.log10();
        let every = ((span / count.max(1) as f64).ceil() as i32).max(1);
        let mantissas: &[f64] = match span {
            span if span < 1.2 => &[1.0, 2.0, 3.0, 5.0],
            span if span < 2.2 && count > 4 => &[1.0, 3.0],
            _ => &[1.0],
        };
        (first..=last)
            .filter(|decade| decade.rem_euclid(every) == 0)
            .flat_map(|decade| mantissas.iter().map(move |mantissa| (*mantissa, decade)))
            .map(|(mantissa, decade)| (mantissa * 10f64.powi(decade), power(mantissa, decade)))
            .filter(|(value, _)| self.contains(*value))
            .collect()
    }
}

/// A margin around the data, and some range around a single value.
fn widened((low, high): (f64, f64)) -> (f64, f64) {
    let margin = if high > low { 0.05 * (high - low) } else { (0.05 * low.abs()).max(0.5e-3) };
    (low - margin, high + margin)
}

/// The next of 1, 2, 5 times a power of ten.
fn round_up(step: f64) -> f64 {
    let power = 10f64.powf(step.log10().floor());
    let fits = |factor: &&f64| **factor * power >= step * (1.0 - 1e-9);
    [1.0, 2.0, 5.0].iter().find(fits).unwrap_or(&10.0) * power
}

/// A number on an axis or in a cell, with a proper minus sign.
pub(super) fn label(value: f64, decimals: usize) -> String {
    if value != 0.0 && (value.abs() >= 1e6 || decimals > 5) {
        let decade = value.abs().log10().floor() as i32;
        let mantissa = value / 10f64.powi(decade);
        let digits = usize::from((mantissa - mantissa.round()).abs() > 0.05);
        return format!("{}×10{}", minus(format!("{mantissa:.digits$}")), superscript(decade));
    }
    let text = format!("{value:.decimals$}");
    // Rounding may leave a negative zero.
    if text.trim_start_matches('-').chars().all(|c| c == '0' || c == '.') {
        return text.trim_start_matches('-').to_owned();
    }
    minus(text)
}

fn minus(text: String) -> String {
    text.replacen('-', "−", 1)
}

fn power(mantissa: f64, decade: i32) -> String {
    let value = mantissa * 10f64.powi(decade);
    match decade {
        0..=3 => format!("{value:.0}"),
        -3..=-1 => format!("{value:.*}", usize::try_from(-decade).unwrap_or(0)),
        _ if mantissa == 1.0 => format!("10{}", superscript(decade)),
        _ => format!("{mantissa:.0}×10{}", superscript(decade)),
    }
}

fn superscript(number: i32) -> String {
    let digit = |c: char| match c {
        '-' => '⁻',
        '1' => '¹',
        '2' => '²',
        '3' => '³',
        other => char::from_u32(0x2070 + other.to_digit(10).unwrap_or(0)).unwrap_or(other),
    };
    number.to_string().chars().map(digit).collect()
}
