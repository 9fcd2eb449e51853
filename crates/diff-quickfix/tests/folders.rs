//! Edits of folders: what is read, what is written, what is refused.
#![allow(clippy::unwrap_used)]

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use candle_core::{DType, Device, Tensor};
use diff_quickfix::encoder::tensor_name;
use diff_quickfix::folder::EDIT;
use diff_quickfix::{Bias, Change, Edit, Encoder, Keys, Rule, Settings, Tokens, collect, leakage};
use sd_core::pipeline::{Parts, Request, StableDiffusion, Unwatched};
use sd_core::weights::Weights;

fn shipped() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../datasets/sd-mini/model")
}

fn edit(encoder: &Encoder, changes: &[&str], settings: Settings) -> Edit {
    let changes = changes.iter().map(|change| change.parse().unwrap()).collect();
    Edit::new(encoder.digest(settings.layer).unwrap(), settings, changes, Vec::new())
}

/// The bytes of every file, by its path in the folder.
fn content(folder: &Path) -> BTreeMap<PathBuf, Vec<u8>> {
    let mut all = BTreeMap::new();
    let mut folders = vec![folder.to_owned()];
    while let Some(inside) = folders.pop() {
        for entry in fs::read_dir(inside).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                folders.push(path);
            } else {
                all.insert(path.strip_prefix(folder).unwrap().to_owned(), fs::read(&path).unwrap());
            }
        }
    }
    all
}

fn written(folder: &Path, changes: &[&str], settings: Settings, out: &Path) {
    let encoder = Encoder::open(folder).unwrap();
    let edit = edit(&encoder, changes, settings);
    let solved = edit.solve(&encoder).unwrap();
    encoder.write(&edit, &solved.matrix().unwrap(), out).unwrap();
}

/// What is computed from the file alone is what a whole encoder gives, in any layer.
#[test]
fn keys_from_a_file_are_those_of_the_whole_encoder() {
    let encoder = Encoder::open(&shipped()).unwrap();
    let text = Parts::open(&shipped(), DType::F32, &Device::Cpu).unwrap().text_encoder().unwrap();
    let prompts = ["a red star in the style of bela cruz", "plain", "two dogs"]
        .map(|text| encoder.tokenizer().encode(text).unwrap());
    for layer in [0, 1, 4, 5] {
        let (file, whole) = (
            encoder.attended(&prompts, layer).unwrap(),
            collect(&text, &prompts, layer, &Device::Cpu).unwrap(),
        );
        for (file, whole) in file.iter().zip(&whole) {
            let off = (file - whole).norm_max() / whole.norm_max();
            assert!(off < 1e-5, "layer {layer}: {off:e}");
        }
    }
    let error = encoder.attended(&prompts, 6).unwrap_err().to_string();
    assert!(error.contains("no layer 6") && error.contains("has 6"), "{error}");
}

#[test]
fn one_tensor_differs_and_undoing_gives_every_byte_back() {
    let root = tempfile::tempdir().unwrap();
    let (out, back) = (root.path().join("edited"), root.path().join("back"));
    let before = content(&shipped());
    written(&shipped(), &["bela cruz=plain"], Settings::default(), &out);
    assert_eq!(content(&shipped()), before, "the input is as it was");
    let mut after = content(&out);
    after.retain(|path, _| !path.to_string_lossy().starts_with("diff-quickfix."));
    assert!(after.keys().eq(before.keys()));
    let differing: Vec<&PathBuf> = after.keys().filter(|path| after[*path] != before[*path]).collect();
    assert_eq!(differing, [Path::new("text_encoder/model.safetensors")]);
    let [old, new] = [&shipped(), &out].map(|folder| Weights::open(&folder.join("text_encoder")).unwrap());
    assert_eq!(old.metadata(), new.metadata());
    let changed: Vec<&str> = old.names().filter(|name| old.bytes_of(name) != new.bytes_of(name)).collect();
    assert_eq!(changed, [tensor_name(0)]);
    Encoder::open(&out).unwrap().undo(&back).unwrap();
    assert_eq!(content(&back), before);
    let error = Encoder::open(&back).unwrap().undo(&root.path().join("no")).unwrap_err().to_string();
    assert!(error.contains("nothing to undo"), "{error}");
    assert!(fs::read_dir(root.path()).unwrap().count() == 2, "nothing half-written is left");
}

/// A second edit starts from the original weights, so edits in turn are the joint edit.
#[test]
fn edits_in_turn_are_the_joint_edit_and_one_can_be_taken_back() {
    let root = tempfile::tempdir().unwrap();
    let at = |name: &str| root.path().join(name);
    let settings = Settings::default();
    written(&shipped(), &["bela cruz=plain", "zimo tonic=a disc"], settings, &at("joint"));
    written(&shipped(), &["bela cruz=plain"], settings, &at("first"));
    let encoder = Encoder::open(&at("first")).unwrap();
    let mut both = encoder.record().unwrap().edit.clone();
    both.set("zimo tonic=a disc".parse().unwrap());
    assert_eq!(both.original, Encoder::open(&shipped()).unwrap().digest(0).unwrap());
    let solved = both.solve(&encoder).unwrap();
    encoder.write(&both, &solved.matrix().unwrap(), &at("second")).unwrap();
    assert_eq!(content(&at("second")), content(&at("joint")));
    let encoder = Encoder::open(&at("second")).unwrap();
    let mut fewer = encoder.record().unwrap().edit.clone();
    fewer.take_back("zimo tonic").unwrap();
    let solved = fewer.solve(&encoder).unwrap();
    encoder.write(&fewer, &solved.matrix().unwrap(), &at("fewer")).unwrap();
    assert_eq!(content(&at("fewer")), content(&at("first")));
    let error = fewer.take_back("van gogh").unwrap_err().to_string();
    assert!(error.contains("van gogh") && error.contains("`bela cruz`"), "{error}");
}

#[test]
fn edit_files_are_kept_combined_and_refused_where_they_belong_to_another_model() {
    let root = tempfile::tempdir().unwrap();
    let encoder = Encoder::open(&shipped()).unwrap();
    let mut one = edit(&encoder, &["bela cruz=plain@0.5"], Settings::default());
    let path = root.path().join(EDIT);
    fs::write(&path, one.to_json().unwrap()).unwrap();
    assert_eq!(Edit::read(&path).unwrap(), one);
    assert_eq!(one.changes[0], Change { from: "bela cruz".into(), to: "plain".into(), weight: 0.5 });
    let two = edit(&encoder, &["bela cruz=plain", "miko sanz=plain"], Settings::default());
    one.combine(&two).unwrap();
    assert_eq!(one.changes, two.changes, "a concept has one change");
    let other = Edit { original: "0".repeat(64), ..two.clone() };
    let error = one.combine(&other).unwrap_err().to_string();
    assert!(error.contains("different models") && error.contains("000000000000"), "{error}");
    let other = Edit { settings: Settings { lambda: 1.0, ..two.settings }, ..two };
    let error = one.combine(&other).unwrap_err().to_string();
    assert!(error.contains("lambda 0.01") && error.contains("lambda 1"), "{error}");
    fs::write(&path, "{}").unwrap();
    let error = format!("{:#}", Edit::read(&path).unwrap_err());
    assert!(error.contains("expected an edit file") && error.contains("missing field"), "{error}");
    let later = one.to_json().unwrap().replace("\"format\": 1", "\"format\": 2");
    fs::write(&path, later).unwrap();
    let error = Edit::read(&path).unwrap_err().to_string();
    assert!(error.contains("format 1, found 2"), "{error}");
}

#[test]
fn what_cannot_be_edited_is_said() {
    let root = tempfile::tempdir().unwrap();
    let encoder = Encoder::open(&shipped()).unwrap();
    let refused = |changes: &[&str], settings: Settings| {
        format!("{:#}", edit(&encoder, changes, settings).solve(&encoder).unwrap_err())
    };
    let usual = Settings::default();
    let long = format!("{}=plain", "star ".repeat(30));
    assert!(refused(&[long.as_str()], usual).contains("too long for the encoder's window"));
    assert!(refused(&["bela cruz=plain"], Settings { lambda: 0.0, ..usual }).contains("above 0"));
    assert!(refused(&[], usual).contains("nothing is to change"));
    for text in ["van gogh", "=plain", "bela cruz=", "a=b@-1", "a=b@x"] {
        assert!(text.parse::<Change>().is_err(), "{text}");
    }
    // A matrix with a number that is none.
    let out = root.path().join("broken");
    let edit = edit(&encoder, &["bela cruz=plain"], usual);
    let mut values = vec![0.0f64; 96 * 96];
    values[7] = f64::NAN;
    encoder.write(&edit, &Tensor::from_vec(values, (96, 96), &Device::Cpu).unwrap(), &out).unwrap();
    fs::remove_file(out.join(EDIT)).unwrap();
    fs::remove_file(out.join("diff-quickfix.safetensors")).unwrap();
    let broken = Encoder::open(&out).unwrap();
    let error = format!("{:#}", edit.solve(&broken).unwrap_err());
    assert!(
        error.contains("1 numbers that are infinite or none") && error.contains("text_encoder"),
        "{error}"
    );
    // Nothing is overwritten.
    let error =
        encoder.write(&edit, &edit.solve(&encoder).unwrap().matrix().unwrap(), &out).unwrap_err().to_string();
    assert!(error.contains("nothing is overwritten"), "{error}");
    // Nothing is written into the model's own folder.
    let inside = out.join("deeper/edited");
    let edited = Encoder::open(&out).unwrap();
    let error = edited
        .write(&edit, &Tensor::zeros((96, 96), DType::F32, &Device::Cpu).unwrap(), &inside)
        .unwrap_err();
    assert!(error.to_string().contains("the model's own folder"), "{error}");
    assert!(!out.join("deeper").exists());
    // No CLIP.
    let index = fs::read_to_string(shipped().join("model_index.json")).unwrap();
    let other = root.path().join("other");
    fs::create_dir(&other).unwrap();
    fs::write(other.join("model_index.json"), index.replace("CLIPTextModel", "T5EncoderModel")).unwrap();
    let error = format!("{:#}", Encoder::open(&other).unwrap_err());
    assert!(error.contains("T5EncoderModel") && error.contains("CLIPTextModel"), "{error}");
}

/// Equal concepts change nothing, and the folder's pictures are those of the model; another edit's are not.
#[test]
fn an_edited_folder_makes_pictures() {
    let root = tempfile::tempdir().unwrap();
    let rule = Rule { tokens: Tokens::LastThroughEnd, bias: Bias::Correct, bare: true };
    let settings = Settings { rule, ..Settings::default() };
    written(&shipped(), &["star=star"], settings, &root.path().join("idle"));
    written(&shipped(), &["red=blue"], settings, &root.path().join("blue"));
    let mut request = Request::new("a red star");
    (request.steps, request.guidance) = (2, 4.0);
    let draw = |folder: &Path| {
        let model = StableDiffusion::open(folder, DType::F32, &Device::Cpu).unwrap();
        model
            .generate(&request, &mut Unwatched)
            .unwrap()
            .pixels
            .flatten_all()
            .unwrap()
            .to_vec1::<u8>()
            .unwrap()
    };
    let [own, idle, blue] = [shipped(), root.path().join("idle"), root.path().join("blue")].map(|f| draw(&f));
    assert_eq!(own, idle);
    assert_ne!(own, blue);
}

#[test]
fn leakage_is_nothing_for_no_change_and_less_for_a_larger_lambda() {
    let encoder = Encoder::open(&shipped()).unwrap();
    let of = |change: &str, lambda: f64| {
        let settings = Settings { lambda, ..Settings::default() };
        let solved = edit(&encoder, &[change], settings).solve(&encoder).unwrap();
        leakage(&encoder, &solved, 0, &["a red star", "two dogs in the city"]).unwrap()
    };
    assert_eq!(of("star=star", 0.01), 0.0);
    let [little, much] = [of("bela cruz=plain", 10.0), of("bela cruz=plain", 0.001)];
    assert!(0.0 < little && little < much, "{little} {much}");
}
