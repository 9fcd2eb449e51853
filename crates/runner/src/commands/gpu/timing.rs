//! Times by the device's events: after a warm-up, with the cache flushed before each, the median.

use anyhow::Result;
use candle_core::CudaDevice;
use kernel_host::cases::Case;
use sd_core::cuda::device::{self, Stopwatch};
use sd_core::cuda::{Element, Program};

use super::ledger::Speed;

pub(super) const HEADER: &str = "case,median_ms,rate,unit,share_of_roof\n";

const WARM_UPS: usize = 3;
/// Bytes written before each timed run: more than any L2 cache holds.
const FLUSH: usize = 256 << 20;

pub(super) fn line(case: &Case, milliseconds: f64, speed: &Speed) -> String {
    let Speed { achieved, unit, share } = speed;
    format!("{case:?},{milliseconds:.4},{achieved:.1},{},{share:.3}\n", unit.name())
}

/// Median milliseconds of `work`.
pub(super) fn median(device: &CudaDevice, reps: usize, mut work: impl FnMut() -> Result<()>) -> Result<f64> {
    let mut flush = Program::new("flush");
    let buffer = flush.output(Element::F32, FLUSH / 4);
    flush.zero(buffer);
    let mut made = device::make(device, &flush)?;
    (0..WARM_UPS).try_for_each(|_| work())?;
    let mut times = Vec::with_capacity(reps);
    for _ in 0..reps {
        device::carry_out(device, &flush, &mut [], &mut made)?;
        let watch = Stopwatch::start(device)?;
        work()?;
        times.push(watch.stop()?);
    }
    Ok(middle(times))
}

/// The median; of an even number the mean of the two in the middle.
fn middle(mut times: Vec<f64>) -> f64 {
    times.sort_by(f64::total_cmp);
    let half = times.len() / 2;
    match times.len() {
        0 => f64::NAN,
        count if count % 2 == 1 => times[half],
        _ => 0.5 * (times[half - 1] + times[half]),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_median_is_in_the_middle() {
        assert_eq!(middle(vec![3.0, 1.0, 2.0]), 2.0);
        assert_eq!(middle(vec![4.0, 1.0, 2.0, 3.0]), 2.5);
        assert!(middle(Vec::new()).is_nan());
    }
}
