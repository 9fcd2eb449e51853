//! Writes a tiny pipeline with random weights, which diffusers loads as well:
//!
//!     cargo run -p sd-core --example tiny_pipeline -- FOLDER 1.x|2.x|inpainting|full-size [SEED]

use std::path::Path;
use std::process::ExitCode;

use sd_core::pipeline::tiny::{self, Family};

fn main() -> ExitCode {
    let words: Vec<String> = std::env::args().skip(1).collect();
    match write(&words) {
        Ok(()) => ExitCode::SUCCESS,
        Err(message) => {
            use std::io::Write as _;
            // Nobody reading it is no reason to fail differently.
            let _ = writeln!(std::io::stderr(), "error: {message}");
            ExitCode::from(2)
        }
    }
}

fn write(words: &[String]) -> Result<(), String> {
    let (folder, family, seed) = match words {
        [folder, family] => (folder, family, "0"),
        [folder, family, seed] => (folder, family, seed.as_str()),
        _ => return Err("expected FOLDER 1.x|2.x|inpainting|full-size [SEED]".to_owned()),
    };
    let family = match family.as_str() {
        "1.x" => Family::One,
        "2.x" => Family::Two,
        "inpainting" => Family::Inpaint,
        "full-size" => Family::FullSize,
        other => return Err(format!("expected 1.x, 2.x, inpainting or full-size, found `{other}`")),
    };
    let seed = seed.parse().map_err(|_| format!("expected a seed, found `{seed}`"))?;
    tiny::write(Path::new(folder), family, seed).map_err(|error| error.to_string())
}
