//! Angles without the platform's sine, which differs between machines in its last bit.
//!
//! Only additions, multiplications and divisions are used, which IEEE 754 defines to the last bit, so that two machines draw
//! the same pictures.

/// Cosine and sine of `turns` full turns (any finite number), to about 1e-9.
pub(crate) fn direction(turns: f64) -> [f64; 2] {
    let angle = (turns - turns.floor() - 0.5) * std::f64::consts::TAU;
    let square = angle * angle;
    let series = |first: u32| {
        // Taylor's series on [-π, π], from the smallest term up: 1 − x²/((k+1)(k+2)) · (…).
        (0..12)
            .rev()
            .map(|term| first + 2 * term)
            .fold(1.0, |sum, k| 1.0 - square / (f64::from(k + 1) * f64::from(k + 2)) * sum)
    };
    // The half turn taken off above changes both signs.
    [-series(0), -angle * series(1)]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn directions_agree_with_the_platforms() {
        for k in -40..80 {
            let turns = f64::from(k) / 17.0;
            let [cos, sin] = direction(turns);
            let angle = turns * std::f64::consts::TAU;
            assert!((cos - angle.cos()).abs() < 1e-8 && (sin - angle.sin()).abs() < 1e-8, "{turns}");
        }
    }
}
