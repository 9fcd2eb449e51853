//! Where the engine's commands compute, and in what numbers.

use anyhow::{Context as _, Result, bail};
use candle_core::{DType, Device};

/// The device that was asked for. `auto` is the first GPU of a build with CUDA where there is one, else the CPU.
pub(crate) fn device(typed: cli::Device) -> Result<Device> {
    match typed {
        cli::Device::Cpu => Ok(Device::Cpu),
        cli::Device::Auto => Ok(first_gpu().unwrap_or(Device::Cpu)),
        cli::Device::Cuda(index) => {
            super::reproduce::resolve(typed)?;
            Device::new_cuda(index).with_context(|| format!("--device {typed}"))
        }
    }
}

#[cfg(feature = "cuda")]
fn first_gpu() -> Option<Device> {
    sd_core::cuda::device::present(0).ok()?;
    Device::new_cuda(0).ok()
}

#[cfg(not(feature = "cuda"))]
fn first_gpu() -> Option<Device> {
    None
}

/// As it stands in a picture's settings: `cpu` or `cuda`.
pub(crate) fn name(device: &Device) -> &'static str {
    if device.is_cuda() { "cuda" } else { "cpu" }
}

/// What pictures are computed in.
pub(crate) fn dtype(typed: cli::Dtype, device: &Device) -> Result<DType> {
    match typed {
        cli::Dtype::Auto if device.is_cuda() => Ok(DType::F16),
        cli::Dtype::Auto | cli::Dtype::F32 => Ok(DType::F32),
        cli::Dtype::F16 => sixteen_bits(DType::F16, device),
        cli::Dtype::Bf16 => sixteen_bits(DType::BF16, device),
    }
}

/// What `forward` computes in.
pub(crate) fn forward_dtype(typed: cli::ForwardDtype, device: &Device) -> Result<DType> {
    match typed {
        cli::ForwardDtype::F32 => Ok(DType::F32),
        cli::ForwardDtype::F64 if device.is_cuda() => {
            bail!(
                "--dtype f64: our kernels on a GPU compute in 32 and 16 bits\n  help: leave --dtype out, or add --device cpu"
            )
        }
        cli::ForwardDtype::F64 => Ok(DType::F64),
        cli::ForwardDtype::F16 => sixteen_bits(DType::F16, device),
        cli::ForwardDtype::Bf16 => sixteen_bits(DType::BF16, device),
    }
}

fn sixteen_bits(dtype: DType, device: &Device) -> Result<DType> {
    if device.is_cuda() {
        return Ok(dtype);
    }
    bail!(
        "--dtype {}: 16 bits are for a GPU, a CPU computes in f32\n  help: leave --dtype out; weights in 16 bits are read into f32",
        dtype.as_str()
    )
}

/// Starts the threads that operations share.
pub(crate) fn threads(typed: Option<usize>) -> Result<()> {
    let threads = typed.unwrap_or_else(super::reproduce::cores);
    rayon::ThreadPoolBuilder::new().num_threads(threads).build_global().context("starting threads")
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn a_cpu_computes_in_its_own_numbers_or_says_so() {
        assert_eq!(dtype(cli::Dtype::Auto, &Device::Cpu).unwrap(), DType::F32);
        assert_eq!(forward_dtype(cli::ForwardDtype::F64, &Device::Cpu).unwrap(), DType::F64);
        for typed in [cli::Dtype::F16, cli::Dtype::Bf16] {
            let said = dtype(typed, &Device::Cpu).unwrap_err().to_string();
            assert!(said.contains("a CPU computes in f32") && said.contains("--dtype"), "{said}");
        }
    }
}
