//! The CUDA side of the engine: what ops do on a device as data, and (with the feature `cuda`) the device that does it.

mod program;

pub use program::{
    Arg, Buffer, BufferSpec, Element, Launch, Matrix, Product, Program, Role, Source, Step, blocks,
};

/// What every kernel includes: element types, reductions, tensor-core products.
pub const COMMON: &str = include_str!("common.cuh");

/// Every `.cu` file of the engine.
#[must_use]
pub fn sources() -> Vec<&'static Source> {
    vec![]
}
