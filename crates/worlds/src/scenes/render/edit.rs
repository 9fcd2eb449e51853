//! Edits: a scene with one thing changed. An index beyond the objects changes nothing.

use crate::scenes::{Colour, Object, Scene, Style};

impl Scene {
    /// The scene without one object.
    #[must_use]
    pub fn without(&self, object: usize) -> Self {
        let mut scene = self.clone();
        if object < scene.objects.len() {
            scene.objects.remove(object);
        }
        scene
    }

    /// The scene with one object moved by shares of the picture's side, right and down.
    #[must_use]
    pub fn moved(&self, object: usize, by: [f32; 2]) -> Self {
        self.edited(object, |it| it.centre = [it.centre[0] + by[0], it.centre[1] + by[1]])
    }

    /// The scene with one object `factor` times as large.
    #[must_use]
    pub fn resized(&self, object: usize, factor: f32) -> Self {
        self.edited(object, |it| it.radius *= factor)
    }

    /// The scene with one object in another style.
    #[must_use]
    pub fn with_style(&self, object: usize, style: Style) -> Self {
        self.edited(object, |it| it.style = style)
    }

    /// The scene with one object in another colour.
    #[must_use]
    pub fn with_colour(&self, object: usize, colour: Colour) -> Self {
        self.edited(object, |it| it.colour = colour)
    }

    /// The scene with one object changed by `edit`.
    #[must_use]
    pub fn edited(&self, object: usize, edit: impl FnOnce(&mut Object)) -> Self {
        let mut scene = self.clone();
        if let Some(object) = scene.objects.get_mut(object) {
            edit(object);
        }
        scene
    }
}
