//! The residual networks of the image experiments: the CIFAR ResNet50 of the paper's section VI-A at any width, and a basic
//! ResNet-8 for the reduced protocol.
//!
//! No convolution has a bias; the stride of a bottleneck sits in its 3×3; a shortcut is the identity where shape allows, else
//! a strided 1×1 convolution with batch norm. Initial values are PyTorch's defaults (see [`sd_core::nn`]).

use candle_core::{DType, Device, Result, Tensor};
use schemars::JsonSchema;
use sd_core::nn::{BatchNorm2d, Conv2d, Linear, Parameters, Scope};
use serde::{Deserialize, Serialize};

/// Which network.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Network {
    /// Stem 3×3 to 8 channels, one basic block each at 8, 16 and 32 channels with strides 1, 2, 2: 19,954 parameters for ten
    /// classes, 0.809 MMAC at 16×16.
    Resnet8,
    /// The bottleneck ResNet50 at a quarter of its width (stem 16): 1,484,186 parameters, 81.45 MMAC at 32×32.
    Resnet50Quarter,
    /// The paper's ResNet50 with the CIFAR stem: 23,520,842 parameters for ten classes, 1.298 GMAC at 32×32.
    Resnet50,
}

/// The non-linearity behind every batch norm (paper, section VII-C). Parameters are PyTorch's defaults where the paper is
/// silent.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Activation {
    /// max(x, 0).
    #[default]
    Relu,
    /// x, or 0.1·x below zero.
    LeakyRelu,
    /// x, or eˣ − 1 below zero.
    Elu,
    /// 1.0507·(x, or 1.6733·(eˣ − 1) below zero) (Klambauer et al. 2017).
    Selu,
}

impl Activation {
    /// Applies the non-linearity to every element.
    ///
    /// # Errors
    /// Where candle cannot.
    pub fn forward(self, x: &Tensor) -> Result<Tensor> {
        const SELU_ALPHA: f64 = 1.673_263_242_354_377_2;
        const SELU_SCALE: f64 = 1.050_700_987_355_480_5;
        match self {
            Self::Relu => x.relu(),
            Self::LeakyRelu => candle_nn::ops::leaky_relu(x, 0.1),
            Self::Elu => x.elu(1.0),
            Self::Selu => x.elu(SELU_ALPHA)? * SELU_SCALE,
        }
    }
}

/// Multiply-accumulates of one sample's forward pass and the number of parameters, from the layers' shapes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Cost {
    /// Multiply-accumulates of convolutions and the linear layer.
    pub macs: u64,
    /// Scalars in all parameters.
    pub parameters: u64,
}

/// What a network is made of.
struct Plan {
    stem: usize,
    /// Output widths before expansion, and the number of blocks, of each stage.
    stages: Vec<(usize, usize)>,
    /// 4 for bottlenecks, 1 for basic blocks.
    expansion: usize,
}

impl Network {
    fn plan(self) -> Plan {
        match self {
            Self::Resnet8 => Plan { stem: 8, stages: vec![(8, 1), (16, 1), (32, 1)], expansion: 1 },
            Self::Resnet50Quarter => bottleneck_plan(16),
            Self::Resnet50 => bottleneck_plan(64),
        }
    }
}

fn bottleneck_plan(width: usize) -> Plan {
    let stages = vec![(width, 3), (2 * width, 4), (4 * width, 6), (8 * width, 3)];
    Plan { stem: width, stages, expansion: 4 }
}

/// A residual network: stem, blocks, global average, linear.
pub struct ResNet {
    stem: (Conv2d, BatchNorm2d),
    blocks: Vec<Block>,
    linear: Linear,
    activation: Activation,
    cost: Cost,
    /// Its tensors by PyTorch's names (`layer1.0.conv1.weight`, …).
    pub parameters: Parameters,
}

/// Convolutions with their batch norms, and the shortcut where it is not the identity.
struct Block {
    body: Vec<(Conv2d, BatchNorm2d)>,
    shortcut: Option<(Conv2d, BatchNorm2d)>,
}

/// Adds up the cost of layers while they are made; holds the side of the feature map.
struct Builder {
    side: usize,
    cost: Cost,
}

impl ResNet {
    /// A network for `classes` classes and square images of `side` pixels, initialised from `seed`.
    ///
    /// # Errors
    /// Where a parameter cannot be made.
    pub fn new(
        network: Network,
        activation: Activation,
        classes: usize,
        side: usize,
        seed: u64,
        device: &Device,
    ) -> Result<Self> {
        let mut parameters = Parameters::default();
        let mut root = Scope::root(&mut parameters, seed, DType::F32, device);
        let mut builder = Builder { side, cost: Cost::default() };
        let plan = network.plan();
        let stem = (
            builder.conv(&mut root.child("conv1"), [3, plan.stem], 3, 1)?,
            builder.norm(&mut root.child("bn1"), plan.stem)?,
        );
        let (blocks, features) = builder.stages(&mut root, &plan)?;
        let linear = builder.linear(&mut root.child("linear"), features, classes)?;
        let cost = builder.cost;
        Ok(Self { stem, blocks, linear, activation, cost, parameters })
    }

    /// Logits (N, classes) of normalised images (N, 3, side, side); `train` moves the running statistics.
    ///
    /// # Errors
    /// Where `x` has another shape.
    pub fn forward(&self, x: &Tensor, train: bool) -> Result<Tensor> {
        let mut x = self.activation.forward(&conv_norm(&self.stem, x, train)?)?;
        for block in &self.blocks {
            x = block.forward(&x, self.activation, train)?;
        }
        self.linear.forward(&x.mean((2, 3))?)
    }

    /// Size and work of the network.
    #[must_use]
    pub fn cost(&self) -> Cost {
        self.cost
    }
}

fn conv_norm((conv, norm): &(Conv2d, BatchNorm2d), x: &Tensor, train: bool) -> Result<Tensor> {
    norm.forward(&conv.forward(x)?, train)
}

impl Block {
    fn forward(&self, x: &Tensor, activation: Activation, train: bool) -> Result<Tensor> {
        let shortcut = self.shortcut.as_ref().map(|layers| conv_norm(layers, x, train)).transpose()?;
        let mut y = x.clone();
        for (index, layers) in self.body.iter().enumerate() {
            if index > 0 {
                y = activation.forward(&y)?;
            }
            y = conv_norm(layers, &y, train)?;
        }
        activation.forward(&(y + shortcut.as_ref().unwrap_or(x))?)
    }
}

impl Builder {
    /// All stages; also returns the number of features behind the last.
    fn stages(&mut self, root: &mut Scope<'_>, plan: &Plan) -> Result<(Vec<Block>, usize)> {
        let (mut blocks, mut features) = (Vec::new(), plan.stem);
        for (stage, &(width, count)) in plan.stages.iter().enumerate() {
            let mut scope = root.child(format!("layer{}", stage + 1));
            for index in 0..count {
                let stride = if stage > 0 && index == 0 { 2 } else { 1 };
                blocks.push(self.block(&mut scope.child(index), features, width, plan.expansion, stride)?);
                features = width * plan.expansion;
            }
        }
        Ok((blocks, features))
    }

    fn block(
        &mut self,
        scope: &mut Scope<'_>,
        c_in: usize,
        width: usize,
        expansion: usize,
        stride: usize,
    ) -> Result<Block> {
        let (side, c_out) = (self.side, width * expansion);
        // (channels, kernel, stride) of the body.
        let layers = if expansion == 1 {
            vec![([c_in, width], 3, stride), ([width, width], 3, 1)]
        } else {
            vec![([c_in, width], 1, 1), ([width, width], 3, stride), ([width, c_out], 1, 1)]
        };
        let mut body = Vec::new();
        for (index, (channels, k, stride)) in layers.into_iter().enumerate() {
            let conv = self.conv(&mut scope.child(format!("conv{}", index + 1)), channels, k, stride)?;
            body.push((conv, self.norm(&mut scope.child(format!("bn{}", index + 1)), channels[1])?));
        }
        let shortcut = if stride != 1 || c_in != c_out {
            self.side = side;
            let conv = self.conv(&mut scope.child("shortcut.0"), [c_in, c_out], 1, stride)?;
            Some((conv, self.norm(&mut scope.child("shortcut.1"), c_out)?))
        } else {
            None
        };
        Ok(Block { body, shortcut })
    }

    fn conv(
        &mut self,
        scope: &mut Scope<'_>,
        channels: [usize; 2],
        k: usize,
        stride: usize,
    ) -> Result<Conv2d> {
        self.side = self.side.div_ceil(stride);
        let weights = (channels[0] * channels[1] * k * k) as u64;
        self.cost.parameters += weights;
        self.cost.macs += weights * (self.side * self.side) as u64;
        Conv2d::new(scope, channels, k, stride, k / 2)
    }

    fn norm(&mut self, scope: &mut Scope<'_>, channels: usize) -> Result<BatchNorm2d> {
        self.cost.parameters += 2 * channels as u64;
        BatchNorm2d::new(scope, channels)
    }

    fn linear(&mut self, scope: &mut Scope<'_>, inputs: usize, outputs: usize) -> Result<Linear> {
        self.cost.parameters += (inputs * outputs + outputs) as u64;
        self.cost.macs += (inputs * outputs) as u64;
        Linear::new(scope, inputs, outputs)
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    fn network(network: Network, side: usize, classes: usize) -> ResNet {
        ResNet::new(network, Activation::Relu, classes, side, 0, &Device::Cpu).unwrap()
    }

    /// Specification section 5.1 and 8.
    #[test]
    fn sizes_are_the_published_ones() {
        for (name, side, classes, parameters, macs) in [
            (Network::Resnet50, 32, 10, 23_520_842, 1_297_829_888),
            (Network::Resnet50, 32, 100, 23_705_252, 1_297_829_888 + 2048 * 90),
            (Network::Resnet50Quarter, 32, 10, 1_484_186, 81_450_000),
            (Network::Resnet8, 16, 10, 19_954, 809_000),
        ] {
            let net = network(name, side, classes);
            assert_eq!(net.parameters.count() as u64, parameters, "{name:?}");
            assert_eq!(net.cost().parameters, parameters, "{name:?}");
            let off = net.cost().macs.abs_diff(macs) as f64 / macs as f64;
            assert!(off < 1e-3, "{name:?}: {} multiply-accumulates", net.cost().macs);
        }
        assert_eq!(network(Network::Resnet50, 32, 10).parameters.vars().len(), 161);
    }

    #[test]
    fn every_parameter_gets_a_finite_gradient_that_is_not_zero() {
        for activation in [Activation::Relu, Activation::LeakyRelu, Activation::Elu, Activation::Selu] {
            let net = ResNet::new(Network::Resnet8, activation, 10, 16, 1, &Device::Cpu).unwrap();
            let mut rng = sd_core::rng::Rng::new(0, "test images", 0);
            let x: Vec<f32> = (0..4 * 3 * 16 * 16).map(|_| rng.normal() as f32).collect();
            let x = Tensor::from_vec(x, (4, 3, 16, 16), &Device::Cpu).unwrap();
            let labels = Tensor::from_vec(vec![0u32, 3, 7, 9], 4, &Device::Cpu).unwrap();
            let loss = candle_nn::loss::cross_entropy(&net.forward(&x, true).unwrap(), &labels).unwrap();
            let gradients = loss.backward().unwrap();
            for (name, var) in net.parameters.named() {
                let gradient = gradients.get(var).unwrap_or_else(|| panic!("{name} has no gradient"));
                let norm = gradient.sqr().unwrap().sum_all().unwrap().to_scalar::<f32>().unwrap();
                assert!(norm.is_finite() && norm > 0.0, "{activation:?} {name}: {norm}");
            }
        }
    }

    #[test]
    fn initial_values_are_within_pytorchs_bound_and_fill_it() {
        let net = network(Network::Resnet8, 16, 10);
        let (_, weight) = net.parameters.named().find(|(name, _)| *name == "layer3.0.conv2.weight").unwrap();
        let bound = 1.0 / (32.0f32 * 9.0).sqrt();
        let values = weight.flatten_all().unwrap().to_vec1::<f32>().unwrap();
        let largest = values.iter().fold(0f32, |max, value| max.max(value.abs()));
        assert!(largest <= bound && largest > 0.99 * bound, "{largest} of {bound}");
    }

    /// Numbers from `torch.nn.functional`, PyTorch 2.11: `f(torch.tensor([-2., -0.5, 0., 1.5], dtype=torch.float64))`.
    #[test]
    fn activations_are_pytorchs() {
        let x = Tensor::new(&[-2.0f64, -0.5, 0.0, 1.5], &Device::Cpu).unwrap();
        for (activation, expected) in [
            (Activation::Relu, [0.0, 0.0, 0.0, 1.5]),
            (Activation::LeakyRelu, [-0.2, -0.05, 0.0, 1.5]),
            (Activation::Elu, [-0.864_664_716_763_387_3, -0.393_469_340_287_366_6, 0.0, 1.5]),
            (
                Activation::Selu,
                [-1.520_166_468_595_694_8, -0.691_758_187_802_871_3, 0.0, 1.576_051_481_033_220_7],
            ),
        ] {
            let ours = activation.forward(&x).unwrap().to_vec1::<f64>().unwrap();
            for (ours, expected) in ours.iter().zip(expected) {
                assert!((ours - expected).abs() <= 1e-12, "{activation:?}: {ours} against {expected}");
            }
        }
    }
}
