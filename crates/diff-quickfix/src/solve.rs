//! The closed form, in double precision.

use anyhow::{Result, ensure};
use faer::linalg::solvers::Solve;
use faer::{Mat, Side};

use crate::collect::Attended;
use crate::rows::{Bias, Pairing};

/// Rows of the system: keys K (N, D) and residuals R = V − K W₀ᵀ (N, D), each already times the square root of its weight.
#[derive(Clone, Debug)]
pub struct System {
    keys: Mat<f64>,
    residuals: Mat<f64>,
}

impl System {
    /// A system without rows over `width` channels.
    #[must_use]
    pub fn empty(width: usize) -> Self {
        Self { keys: Mat::zeros(0, width), residuals: Mat::zeros(0, width) }
    }

    /// The rows of one pair of prompts: R = (K' − K) W₀ᵀ, and with the release's bias that plus b.
    ///
    /// # Errors
    /// Where shapes differ, a position is outside the window, or the weight is no number of at least 0.
    pub fn of_pair(
        [from, to]: [&Attended; 2],
        pairings: &[Pairing],
        (matrix, offset): (&Mat<f64>, &[f64]),
        bias: Bias,
        weight: f64,
    ) -> Result<Self> {
        let width = matrix.ncols();
        ensure!(
            matrix.nrows() == width && from.ncols() == width && to.ncols() == width && offset.len() == width,
            "a projection of {}×{} for keys of {} and {} channels",
            matrix.nrows(),
            width,
            from.ncols(),
            to.ncols()
        );
        ensure!(
            weight >= 0.0 && weight.is_finite(),
            "the weight of a change is {weight}\n  expected: a number of at least 0"
        );
        let fits = |pairing: &Pairing| pairing.key < from.nrows() && pairing.value < to.nrows();
        ensure!(pairings.iter().all(fits), "a position outside a window of {} tokens", from.nrows());
        let root = weight.sqrt();
        let keys =
            Mat::from_fn(pairings.len(), width, |row, column| root * from[(pairings[row].key, column)]);
        let steps = Mat::from_fn(pairings.len(), width, |row, column| {
            let Pairing { key, value } = pairings[row];
            root * (to[(value, column)] - from[(key, column)])
        });
        let mut residuals = steps * matrix.transpose();
        if bias == Bias::Release {
            for row in 0..residuals.nrows() {
                for (column, offset) in offset.iter().enumerate() {
                    residuals[(row, column)] += root * offset;
                }
            }
        }
        Ok(Self { keys, residuals })
    }

    /// Rows of a prompt that is to act as it does: their residual is 0.
    #[must_use]
    pub fn preserving(prompt: &Attended, positions: &[usize]) -> Self {
        let keys =
            Mat::from_fn(positions.len(), prompt.ncols(), |row, column| prompt[(positions[row], column)]);
        let residuals = Mat::zeros(positions.len(), prompt.ncols());
        Self { keys, residuals }
    }

    /// Both systems' rows.
    #[must_use]
    pub fn and(&self, other: &Self) -> Self {
        let join = |a: &Mat<f64>, b: &Mat<f64>| {
            Mat::from_fn(a.nrows() + b.nrows(), a.ncols(), |row, column| {
                if row < a.nrows() { a[(row, column)] } else { b[(row - a.nrows(), column)] }
            })
        };
        Self { keys: join(&self.keys, &other.keys), residuals: join(&self.residuals, &other.residuals) }
    }

    /// Number of rows.
    #[must_use]
    pub fn rows(&self) -> usize {
        self.keys.nrows()
    }

    /// The change ΔW (D, D): by the dual where there are fewer rows than channels, else by the primal.
    ///
    /// # Errors
    /// Where λ is not above 0, or a number is not finite.
    pub fn solve(&self, lambda: f64) -> Result<Mat<f64>> {
        if self.rows() < self.keys.ncols() { self.dual(lambda) } else { self.primal(lambda) }
    }

    /// `Rᵀ (λ I + K Kᵀ)⁻¹ K`.
    ///
    /// # Errors
    /// As [`Self::solve`].
    pub fn dual(&self, lambda: f64) -> Result<Mat<f64>> {
        let mut gram = &self.keys * self.keys.transpose();
        let solved = regularised(&mut gram, lambda)?.solve(&self.keys);
        Ok(self.residuals.transpose() * solved)
    }

    /// `Rᵀ K (λ I + Kᵀ K)⁻¹`.
    ///
    /// # Errors
    /// As [`Self::solve`].
    pub fn primal(&self, lambda: f64) -> Result<Mat<f64>> {
        let width = self.keys.ncols();
        let mut statistics = Statistics::new(width);
        statistics.add(self);
        statistics.solve(lambda)
    }
}

/// The Cholesky factor of `gram + λ I`.
fn regularised(gram: &mut Mat<f64>, lambda: f64) -> Result<faer::linalg::solvers::Llt<f64>> {
    ensure!(
        lambda > 0.0 && lambda.is_finite(),
        "λ is {lambda}\n  expected: a number above 0\n  help: the authors' release has 0.01; smaller edits harder, larger less"
    );
    for at in 0..gram.nrows() {
        gram[(at, at)] += lambda;
    }
    gram.llt(Side::Lower).map_err(|_| {
        anyhow::anyhow!(
            "the system has no solution: a key is infinite or no number\n  help: do the weights belong to this model, and are they whole?"
        )
    })
}

/// Sums over rows from which any joint edit follows: `A = Σ k kᵀ` and `B = Σ r kᵀ`. Concepts are added and taken back in any order.
#[derive(Clone, Debug)]
pub struct Statistics {
    /// `Σ k kᵀ` (D, D).
    keys: Mat<f64>,
    /// `Σ r kᵀ` (D, D).
    crossed: Mat<f64>,
}

impl Statistics {
    /// Of no row.
    #[must_use]
    pub fn new(width: usize) -> Self {
        Self { keys: Mat::zeros(width, width), crossed: Mat::zeros(width, width) }
    }

    /// Adds a system's rows.
    pub fn add(&mut self, system: &System) {
        self.keys += system.keys.transpose() * &system.keys;
        self.crossed += system.residuals.transpose() * &system.keys;
    }

    /// Takes a system's rows back.
    pub fn take_back(&mut self, system: &System) {
        self.keys -= system.keys.transpose() * &system.keys;
        self.crossed -= system.residuals.transpose() * &system.keys;
    }

    /// `ΔW = B (λ I + A)⁻¹`.
    ///
    /// # Errors
    /// As [`System::solve`].
    pub fn solve(&self, lambda: f64) -> Result<Mat<f64>> {
        let mut gram = self.keys.clone();
        // A is symmetric, and so ΔWᵀ = (λ I + A)⁻¹ Bᵀ.
        let turned = regularised(&mut gram, lambda)?.solve(self.crossed.transpose());
        Ok(turned.transpose().to_owned())
    }
}
