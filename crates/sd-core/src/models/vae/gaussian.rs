//! What the encoder says of a picture: a normal distribution of each number of the latent.

use candle_core::{Result, Tensor, bail};

/// Logarithms of variances are held between these, as in diffusers.
const LOGVAR: (f64, f64) = (-30.0, 20.0);

/// Independent normal distributions, N(mean, e^logvar), one for each number of a latent (B, C, h, w).
#[derive(Clone, Debug)]
pub struct DiagonalGaussian {
    /// Means (B, C, h, w).
    pub mean: Tensor,
    /// Logarithms of the variances (B, C, h, w), between −30 and 20.
    pub logvar: Tensor,
}

impl DiagonalGaussian {
    /// Those of the encoder's output (B, 2·C, h, w): means, then logarithms of variances.
    pub(super) fn new(moments: &Tensor) -> Result<Self> {
        let halves = moments.chunk(2, 1)?;
        let [mean, logvar] = halves.as_slice() else {
            bail!("vae: moments {:?} are no means and variances", moments.dims());
        };
        Ok(Self { mean: mean.contiguous()?, logvar: logvar.clamp(LOGVAR.0, LOGVAR.1)? })
    }

    /// The most likely latent: the mean.
    #[must_use]
    pub fn mode(&self) -> &Tensor {
        &self.mean
    }

    /// Standard deviations, e^(logvar/2).
    ///
    /// # Errors
    /// Where the tensor cannot be made.
    pub fn std(&self) -> Result<Tensor> {
        (&self.logvar * 0.5)?.exp()
    }

    /// `mean + std · noise` for standard normal `noise` of the mean's shape.
    ///
    /// # Errors
    /// Where `noise` is of another shape.
    pub fn sample(&self, noise: &Tensor) -> Result<Tensor> {
        if noise.dims() != self.mean.dims() {
            bail!("vae: expected noise {:?}, found {:?}", self.mean.dims(), noise.dims());
        }
        &self.mean + (self.std()? * noise)?
    }
}
