//! Mutable slices of many candle variables at once, in safe code.
//!
//! candle lends a variable's storage for writing only inside an in-place operation on that variable, while it holds its lock.
//! So the operation on the first variable starts the operation on the second, and so on; in the innermost one all slices are
//! there, all locks are held, and one pass can run over everything without a copy.

use std::cell::Cell;

use candle_core::{CpuStorage, InplaceOp1, Layout, Result, Var, bail};

use super::real::Real;

/// How many variables are lent together at most: each is a level of the call stack.
pub(super) const TOGETHER: usize = 256;

/// The slices lent so far, and what to do with all of them.
type Carried<'f, 's, T> = (Vec<&'s mut [T]>, Then<'f, T>);
type Then<'f, T> = &'f mut dyn FnMut(Vec<&mut [T]>) -> Result<()>;

/// Calls `then` once with the elements of every variable, in order. The variables must be distinct: two handles of one
/// variable would wait for each other's lock.
pub(super) fn lend<T: Real>(vars: &[&Var], then: Then<'_, T>) -> Result<()> {
    descend(vars, Vec::with_capacity(vars.len()), then)
}

fn descend<T: Real>(vars: &[&Var], lent: Vec<&mut [T]>, then: Then<'_, T>) -> Result<()> {
    match vars.split_first() {
        None => then(lent),
        Some((first, rest)) => first.inplace_op1(&Level { rest, carried: Cell::new(Some((lent, then))) }),
    }
}

struct Level<'v, 'f, 's, T> {
    rest: &'v [&'v Var],
    /// Taken once, by the one call that candle makes.
    carried: Cell<Option<Carried<'f, 's, T>>>,
}

impl<T: Real> InplaceOp1 for Level<'_, '_, '_, T> {
    fn name(&self) -> &'static str {
        "optimiser-step"
    }

    fn cpu_fwd(&self, storage: &mut CpuStorage, layout: &Layout) -> Result<()> {
        let Some((start, end)) = layout.contiguous_offsets() else { bail!("a parameter is not contiguous") };
        let Some(values) = T::of_storage(storage) else { bail!("a parameter is not of type {:?}", T::DTYPE) };
        let Some((mut lent, then)) = self.carried.take() else { bail!("an in-place operation ran twice") };
        lent.push(&mut values[start..end]);
        descend(self.rest, lent, then)
    }
}
