//! Where the 68 landmarks of a face are: the judge of faces.

use candle_core::{Device, Result, Tensor};
use sd_core::nn::{Linear, Scope};
use sd_core::ops::activation::Activation;
use worlds::scenes::Scene;

use crate::cnn::Cnn;

/// Landmarks of a face.
pub const LANDMARKS: usize = 68;
const HIDDEN: usize = 128;

/// The network: a trunk, the place of every feature kept, and two linear layers.
#[derive(Clone, Debug)]
pub struct Regressor {
    trunk: Cnn,
    squeeze: sd_core::nn::Conv2d,
    hidden: Linear,
    points: Linear,
}

impl Regressor {
    /// The network for pictures of `side` pixels with the tensors of `scope`.
    ///
    /// # Errors
    /// Where a tensor cannot be made.
    pub fn new(scope: &mut Scope<'_>, channels: &[usize], side: usize) -> Result<Self> {
        let features = channels.last().copied().unwrap_or(0);
        let (squeezed, cells) = (features / 4, (side >> channels.len()) * (side >> channels.len()));
        let conv =
            sd_core::nn::Conv2d::with_bias(&mut scope.child("squeeze"), [features, squeezed], 1, 1, 0)?;
        Ok(Self {
            trunk: Cnn::new(&mut scope.child("trunk"), channels)?,
            squeeze: conv,
            hidden: Linear::new(&mut scope.child("hidden"), squeezed * cells, HIDDEN)?,
            points: Linear::new(&mut scope.child("points"), HIDDEN, 2 * LANDMARKS)?,
        })
    }

    /// Landmarks (B, 68, 2), as shares of the picture's side from the left and from the top, of pictures (B, 3, S, S).
    ///
    /// # Errors
    /// Where shapes do not fit.
    pub fn forward(&self, pictures: &Tensor) -> Result<Tensor> {
        let features = self.squeeze.forward(&self.trunk.forward(pictures)?)?.flatten_from(1)?;
        let hidden = self.hidden.forward_with(&features, Activation::Silu)?;
        let offsets = self.points.forward(&hidden)?;
        (offsets + 0.5)?.reshape(((), LANDMARKS, 2))
    }
}

/// The landmarks (B, 68, 2) that scenes of faces have.
///
/// # Errors
/// Where a scene has no face.
pub fn truth(scenes: &[Scene], device: &Device) -> Result<Tensor> {
    let mut points = Vec::with_capacity(scenes.len() * LANDMARKS * 2);
    for scene in scenes {
        let Some(face) = &scene.face else { candle_core::bail!("a scene without a face has no landmarks") };
        points.extend(face.landmarks().into_iter().flatten());
    }
    Tensor::from_vec(points, (scenes.len(), LANDMARKS, 2), device)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use candle_core::DType;
    use sd_core::nn::Parameters;

    use super::*;
    use crate::stages::judges::faces;

    #[test]
    fn landmarks_of_faces_lie_in_the_picture() {
        let scenes: Vec<Scene> = faces(1, 0, 50).into_iter().map(|example| example.scene).collect();
        let points = truth(&scenes, &Device::Cpu).unwrap();
        assert_eq!(points.dims(), [50, LANDMARKS, 2]);
        assert!(
            points.flatten_all().unwrap().to_vec1::<f32>().unwrap().iter().all(|at| (0.0..=1.0).contains(at))
        );
    }

    #[test]
    fn the_regressor_gives_a_point_for_each_landmark() {
        let mut parameters = Parameters::default();
        let mut scope = Scope::root(&mut parameters, 0, DType::F32, &Device::Cpu);
        let regressor = Regressor::new(&mut scope, &[8, 16], 32).unwrap();
        let pictures = crate::data::pictures_of(&faces(1, 0, 3), 32, &Device::Cpu).unwrap();
        assert_eq!(regressor.forward(&pictures).unwrap().dims(), [3, LANDMARKS, 2]);
    }

    #[test]
    fn a_scene_without_a_face_is_refused() {
        use worlds::scenes::{Split, World};
        let world = World::new(0, Split::Train);
        let scene = (0..).map(|index| world.example(index).scene).find(|scene| scene.face.is_none()).unwrap();
        assert!(truth(&[scene], &Device::Cpu).unwrap_err().to_string().contains("no landmarks"));
    }
}
