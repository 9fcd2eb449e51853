//! Copies of strided views into row-major order on a CUDA device. On the CPU, ops read views themselves.

pub mod cuda;
