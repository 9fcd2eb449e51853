//! Faults put into the kernels on purpose, which the cases must find.
