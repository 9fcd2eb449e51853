//! What the kernels are run on, and what they must give.
