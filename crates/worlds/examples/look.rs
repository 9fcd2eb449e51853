//! Draws a world to look at, or to hand to another program: `cargo run -p worlds --example look -- shapes10 FOLDER`
//! (or a recipe as a JSON file in place of the name)
//! writes `NAME.png` (a contact sheet) and `NAME-{train,test}.bin` (records of a two-byte label and 3,072 pixel bytes).

use std::io::Write;
use std::path::Path;

use worlds::classification::shapes::Recipe;
use worlds::classification::{Split, contact_sheet, load};

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let mut arguments = std::env::args().skip(1);
    let (Some(name), Some(folder)) = (arguments.next(), arguments.next()) else {
        return Err("usage: look NAME FOLDER [DATA]".into());
    };
    let data = arguments.next().unwrap_or_else(|| "data".to_owned());
    let (name, train, test) = match name.strip_suffix(".json") {
        Some(stem) => {
            let recipe: Recipe = serde_json::from_str(&std::fs::read_to_string(&name)?)?;
            let stem = Path::new(stem).file_name().unwrap_or_default().to_string_lossy().into_owned();
            (stem, recipe.draw(Split::Train), recipe.draw(Split::Test))
        }
        None => {
            let (train, test) = load(&name, Path::new(&data))?;
            (name, train, test)
        }
    };
    let rows: Vec<usize> = (0..train.classes).collect();
    std::fs::write(Path::new(&folder).join(format!("{name}.png")), contact_sheet(&train, &rows, 16, 2)?)?;
    for (split, set) in [("train", &train), ("test", &test)] {
        let path = Path::new(&folder).join(format!("{name}-{split}.bin"));
        let mut file = std::io::BufWriter::new(std::fs::File::create(path)?);
        for (index, label) in set.labels.iter().enumerate() {
            file.write_all(&label.to_le_bytes())?;
            file.write_all(set.picture(index))?;
        }
        file.flush()?;
    }
    Ok(())
}
