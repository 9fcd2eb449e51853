//! Contact sheets of the world, for a person to look at.

use sd_core::rng::Rng;

use super::{
    Action, Animal, Colour, Example, Expression, Kind, Named, Picture, Place, Scene, Shape, Style, Subject,
    Trademark, Viewpoint, World, scene,
};

/// Every value of every attribute: kinds and colours, renditions, actions, viewpoints, counts, places, faces.
#[must_use]
pub fn attributes(side: usize) -> Vec<Vec<Picture>> {
    let shapes = Shape::ALL.iter().copied().map(Kind::Shape);
    let star = Named::of(Kind::Shape(Shape::Star));
    let mut rows: Vec<Vec<Named>> = vec![
        shapes.clone().map(|kind| Named { style: Some(Style::Plain), ..Named::of(kind) }).collect(),
        Colour::ALL
            .iter()
            .map(|&colour| Named { colour: Some(colour), style: Some(Style::Plain), ..star })
            .collect(),
        Trademark::ALL.iter().map(|&mark| Named::of(Kind::Trademark(mark))).collect(),
    ];
    let styled =
        |kind| Style::ALL.iter().map(move |&style| Named { style: Some(style), ..Named::of(kind) }).collect();
    rows.extend(shapes.map(styled));
    let acting = |animal| {
        let kind = Kind::Animal(animal);
        Action::ALL.iter().map(move |&action| Named { action: Some(action), ..Named::of(kind) })
    };
    rows.extend(Animal::ALL.chunks(2).map(|two| two.iter().copied().flat_map(acting).collect()));
    let seen = |shape| {
        let kind = Kind::Shape(shape);
        Viewpoint::ALL.iter().map(move |&view| Named { viewpoint: Some(view), ..Named::of(kind) })
    };
    rows.extend(Shape::ALL.chunks(2).map(|two| two.iter().copied().flat_map(seen).collect()));
    rows.push(
        (1..=8)
            .map(|index| Named { count: 1 + (index - 1) % 4, style: Some(Style::Plain), ..star })
            .collect(),
    );
    rows.push(
        Place::ALL
            .iter()
            .map(|&place| Named { place: Some(place), ..Named::of(Kind::Shape(Shape::Disc)) })
            .collect(),
    );
    rows.push((0..8).map(|index| Named::only(Subject::Face(Expression::ALL[index % 4]))).collect());
    let draw = |(row, column): (usize, usize), named: &Named| {
        scene(named, &mut Rng::new(0, "sheet", (100 * row + column) as u64)).render(side)
    };
    let row = |(at, names): (usize, &Vec<Named>)| {
        names.iter().enumerate().map(|(column, named)| draw((at, column), named)).collect()
    };
    rows.iter().enumerate().map(row).collect()
}

/// Random pictures, with their captions.
#[must_use]
pub fn examples(world: &World, rows: usize, columns: usize, side: usize) -> (Vec<Vec<Picture>>, Vec<String>) {
    let all: Vec<Example> = (0..(rows * columns) as u64).map(|index| world.example(index)).collect();
    let row = |some: &[Example]| some.iter().map(|example| example.scene.render(side)).collect();
    (all.chunks(columns.max(1)).map(row).collect(), all.into_iter().map(|example| example.caption).collect())
}

/// A row a picture: itself, its first object's mask, the background alone, and the picture without that object, with it moved, smaller, in
/// another colour, in another rendition.
#[must_use]
pub fn edits(world: &World, rows: usize, side: usize) -> Vec<Vec<Picture>> {
    let scenes = (0..).map(|index| world.example(index).scene).filter(|scene| !scene.objects.is_empty());
    scenes.take(rows).map(|scene| edited(&scene, side)).collect()
}

fn edited(scene: &Scene, side: usize) -> Vec<Picture> {
    let object = &scene.objects[0];
    let towards_middle = object.centre.map(|at| 0.5 * (0.5 - at) + 0.05);
    let colour = Colour::ALL[(object.colour.index() + 3) % Colour::ALL.len()];
    let style = Style::ALL[(object.style.index() + 3) % Style::ALL.len()];
    let mask = scene.masks(side).into_iter().next().unwrap_or_default();
    vec![
        scene.render(side),
        Picture { side, pixels: mask.repeat(3) },
        scene.background_only(side),
        scene.without(0).render(side),
        scene.moved(0, towards_middle).render(side),
        scene.resized(0, 0.6).render(side),
        scene.with_colour(0, colour).render(side),
        scene.with_style(0, style).render(side),
    ]
}

#[cfg(test)]
mod tests {
    use super::super::Split;
    use super::*;

    #[test]
    fn sheets_are_rectangles_of_different_pictures() {
        for rows in [attributes(16), edits(&World::new(0, Split::Train), 3, 16)] {
            assert!(rows.iter().all(|row| row.len() == 8 || row.len() == 4));
            assert!(rows.iter().all(|row| row[0] != row[1]));
        }
        let (pictures, captions) = examples(&World::new(0, Split::Train), 2, 3, 16);
        assert_eq!((pictures.len(), pictures[0].len(), captions.len()), (2, 3, 6));
    }
}
