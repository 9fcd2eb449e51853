//! A program as bytes for `host/driver.h`, which says the same format in C++. Everything is little-endian.

use sd_core::cuda::{Arg, Buffer, Element, Launch, Matrix, Product, Program, Role, Step};

use crate::Data;

/// The request that runs `steps` on `contents` (`None`: poison) for at most `seconds` of processor time.
pub(crate) fn request(
    (order, seed): (u32, u64),
    seconds: u32,
    program: &Program,
    contents: &[Option<Data>],
    steps: &[&Step],
) -> Vec<u8> {
    let mut out = Request::default();
    out.u32(order);
    out.u64(seed);
    out.u32(seconds);
    out.count(contents.len());
    for (spec, content) in program.buffers.iter().zip(contents) {
        out.u32(element(spec.element));
        out.u32(role(spec.role));
        out.u64(spec.len as u64);
        out.u32(u32::from(content.is_some()));
        out.0.extend(content.iter().flat_map(|data| data.bytes()));
    }
    out.count(steps.len());
    for step in steps {
        out.step(step);
    }
    out.0
}

fn element(element: Element) -> u32 {
    match element {
        Element::F32 => 0,
        Element::F16 => 1,
        Element::Bf16 => 2,
        Element::U32 => 3,
        Element::I64 => 4,
    }
}

fn role(role: Role) -> u32 {
    match role {
        Role::Input => 0,
        Role::InOut => 1,
        Role::Output => 2,
        Role::Scratch => 3,
    }
}

#[derive(Default)]
struct Request(Vec<u8>);

impl Request {
    fn u32(&mut self, value: u32) {
        self.0.extend(value.to_le_bytes());
    }

    fn u64(&mut self, value: u64) {
        self.0.extend(value.to_le_bytes());
    }

    fn count(&mut self, count: usize) {
        // A program has a handful of buffers and steps; a count that does not fit is refused at the other end.
        self.u32(u32::try_from(count).unwrap_or(u32::MAX));
    }

    fn buffer(&mut self, buffer: Buffer) {
        self.count(buffer.0);
    }

    fn step(&mut self, step: &Step) {
        match step {
            Step::Launch(launch) => self.launch(launch),
            Step::Product(product) => self.product(product),
            Step::Zero(buffer) => {
                self.u32(2);
                self.buffer(*buffer);
            }
        }
    }

    fn launch(&mut self, launch: &Launch) {
        self.u32(0);
        self.count(launch.kernel.len());
        self.0.extend(launch.kernel.bytes());
        for extent in launch.grid.iter().chain(&launch.block) {
            self.u32(*extent);
        }
        self.u32(launch.shared);
        self.count(launch.args.len());
        for arg in &launch.args {
            self.arg(arg);
        }
    }

    fn arg(&mut self, arg: &Arg) {
        match arg {
            Arg::Buffer(buffer) => {
                self.u32(0);
                self.buffer(*buffer);
            }
            Arg::Pointers(buffers) => {
                self.u32(1);
                self.count(buffers.len());
                buffers.iter().for_each(|buffer| self.buffer(*buffer));
            }
            Arg::I32(value) => self.scalar(2, u64::from(value.cast_unsigned())),
            Arg::I64(value) => self.scalar(3, value.cast_unsigned()),
            Arg::U64(value) => self.scalar(4, *value),
            Arg::F32(value) => self.scalar(5, u64::from(value.to_bits())),
        }
    }

    fn scalar(&mut self, tag: u32, bits: u64) {
        self.u32(tag);
        self.u64(bits);
    }

    fn product(&mut self, product: &Product) {
        self.u32(1);
        for extent in [product.m, product.n, product.k, product.batch] {
            self.u64(extent as u64);
        }
        for matrix in [&product.a, &product.b, &product.c] {
            self.matrix(matrix);
        }
        self.u32(u32::from(product.accumulate));
    }

    fn matrix(&mut self, matrix: &Matrix) {
        self.buffer(matrix.buffer);
        self.u32(u32::from(matrix.transposed));
        for at in [matrix.offset, matrix.row_stride, matrix.batch_stride] {
            self.u64(at as u64);
        }
    }
}
