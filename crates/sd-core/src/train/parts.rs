//! A step whose batch is cut into parts that are computed side by side.

use candle_core::backprop::GradStore;
use candle_core::{DType, Error, Result, Tensor};
use rayon::{ThreadPool, ThreadPoolBuilder};

use crate::nn::Parameters;

/// What is trained, where a step's loss is the mean of the losses of equal parts of its batch.
///
/// Small networks gain little from a second thread inside an operation, and much from a second batch beside the first. How many parts
/// there are is the task's and changes the order of sums; how many threads there are is the machine's and changes nothing. The loss must
/// not change buffers (batch norm's running means): parts would in any order.
pub trait Task: Sync {
    /// Called once before the first step, and never where no step is left to do.
    ///
    /// # Errors
    /// Whatever ends the run.
    fn prepare(&mut self) -> Result<()> {
        Ok(())
    }

    /// How many parts a step has.
    fn parts(&self) -> usize;

    /// The loss of part `part` of step `step`, both counted from 0, as a scalar tensor: the mean over the part's examples.
    ///
    /// # Errors
    /// Whatever ends the run.
    fn loss(&self, step: u64, part: usize) -> Result<Tensor>;
}

/// Threads for each part.
pub(super) struct Pools(Vec<ThreadPool>);

impl Pools {
    /// The threads at hand, shared among `parts`; none where there is one part alone or one thread.
    pub(super) fn new(parts: usize) -> Result<Self> {
        let threads = rayon::current_num_threads();
        if parts < 2 || threads < 2 {
            return Ok(Self(Vec::new()));
        }
        let pool = |_| ThreadPoolBuilder::new().num_threads((threads / parts).max(1)).build();
        // More pools than threads would only take turns.
        Ok(Self(
            (0..parts.min(threads)).map(pool).collect::<std::result::Result<_, _>>().map_err(Error::wrap)?,
        ))
    }
}

/// Mean loss and mean gradient of the parts of a step, summed in their order.
pub(super) fn step(
    task: &dyn Task,
    pools: &Pools,
    parameters: &Parameters,
    step: u64,
) -> Result<(f64, GradStore)> {
    let one = |part: usize| -> Result<(f64, GradStore)> {
        let loss = task.loss(step, part)?;
        let value = loss.detach().to_dtype(DType::F64)?.to_scalar::<f64>()?;
        Ok((value, loss.backward()?))
    };
    let parts = task.parts();
    let done: Vec<Result<(f64, GradStore)>> = match pools.0.len() {
        0 => (0..parts).map(one).collect(),
        count => side_by_side(&pools.0, parts, count, &one),
    };
    mean(done.into_iter().collect::<Result<_>>()?, parameters)
}

type Done = Result<(f64, GradStore)>;

/// Part p on pool p modulo their number.
fn side_by_side(
    pools: &[ThreadPool],
    parts: usize,
    count: usize,
    one: &(dyn Fn(usize) -> Done + Sync),
) -> Vec<Done> {
    let mut done: Vec<Option<Done>> = (0..parts).map(|_| None).collect();
    std::thread::scope(|scope| {
        let work = |pool: usize| {
            let of_pool =
                move || (pool..parts).step_by(count).map(|part| (part, one(part))).collect::<Vec<_>>();
            scope.spawn(move || pools[pool].install(of_pool))
        };
        for handle in (0..count).map(work).collect::<Vec<_>>() {
            match handle.join() {
                Ok(some) => some.into_iter().for_each(|(part, result)| done[part] = Some(result)),
                Err(panic) => std::panic::resume_unwind(panic),
            }
        }
    });
    done.into_iter().flatten().collect()
}

fn mean(done: Vec<(f64, GradStore)>, parameters: &Parameters) -> Result<(f64, GradStore)> {
    let share = 1.0 / done.len() as f64;
    let mut done = done.into_iter();
    let Some((mut loss, mut sum)) = done.next() else {
        candle_core::bail!("a step without parts; expected at least one")
    };
    if share == 1.0 {
        return Ok((loss, sum));
    }
    for (other, mut gradients) in done {
        loss += other;
        for (_, var) in parameters.named() {
            let Some(gradient) = gradients.remove(var) else { continue };
            let total = match sum.remove(var) {
                Some(before) => (before + gradient)?,
                None => gradient,
            };
            sum.insert(var, total);
        }
    }
    for (_, var) in parameters.named() {
        if let Some(gradient) = sum.remove(var) {
            sum.insert(var, (gradient * share)?);
        }
    }
    Ok((loss * share, sum))
}
