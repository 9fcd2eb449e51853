//! What is timed.

mod candle;
mod ops;
mod optimisers;
mod product;
mod unet;

use anyhow::Result;

/// One thing to time. Its memory is taken when it is prepared and given back when its work is dropped.
pub struct Case {
    /// `<op>/<dtype>/<case>/<pass>`.
    pub name: String,
    /// What bounds it.
    pub work: Amount,
    /// Makes the data, checks the values, and gives what is to be timed.
    pub prepare: Box<dyn Fn() -> Result<Work>>,
}

/// How much one run of a case has to do at the least.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Amount {
    /// Bytes read and written, where memory is the bound.
    Bytes(u64),
    /// Floating-point operations of the direct method (a multiplication and an addition are two), where arithmetic is the bound.
    Flops(u64),
}

impl Case {
    /// Whether the case takes so much memory and time that it is run only where it is asked for by name.
    #[must_use]
    pub fn heavy(&self) -> bool {
        self.name.starts_with("unet_")
    }
}

/// What is run again and again.
pub type Work = Box<dyn FnMut()>;

/// Every case, in the order of the PyTorch program; ours, or candle's own operations where it has them.
#[must_use]
pub fn all(implementation: cli::Implementation) -> Vec<Case> {
    let ops = ops::all(implementation);
    match implementation {
        cli::Implementation::Ours => {
            product::all().into_iter().chain(ops).chain(optimisers::all()).chain(unet::all()).collect()
        }
        cli::Implementation::Candle => product::all().into_iter().chain(ops).collect(),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn names(implementation: cli::Implementation) -> Vec<String> {
        all(implementation).into_iter().map(|case| case.name).collect()
    }

    #[test]
    fn names_are_unique_and_candles_are_among_ours() {
        let ours = names(cli::Implementation::Ours);
        let mut unique = ours.clone();
        unique.sort();
        unique.dedup();
        assert_eq!(unique.len(), ours.len());
        assert!(names(cli::Implementation::Candle).iter().all(|name| ours.contains(name)));
    }

    #[test]
    fn names_are_those_of_the_pytorch_program() {
        let ours = names(cli::Implementation::Ours);
        for name in [
            "conv2d/f32/b64i32o32s16k3t1/fwd",
            "conv2d/f32/b128i64o128s32k3t2/train",
            "group_norm_silu/f32/b2c1280s16g32/train",
            "layer_norm/f32/b2t77d768/fwd",
            "attention/f32/b2h8q4096k77d40/train",
            "geglu/f32/b2t4096d1280/fwd",
            "upsample_nearest2x/f32/b64c64s8/train",
            "batch_norm/f32/b128c16s32/fwd",
            "diffgrad/f32/flat100m/step",
            "copy/f32/resnet50/step",
            "unet_sd15/f32/b2s64/fwd",
        ] {
            assert!(ours.iter().any(|ours| ours == name), "{name}");
        }
        assert_eq!(ours.iter().filter(|name| name.starts_with("conv2d/")).count(), 22);
        assert_eq!(ours.iter().filter(|name| name.starts_with("attention/")).count(), 12);
    }
}
