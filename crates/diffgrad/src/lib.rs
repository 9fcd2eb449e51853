//! diffGrad: an optimization method for convolutional neural networks, reproduced.

pub mod optim;
