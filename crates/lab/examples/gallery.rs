//! A report of invented data, to look at: `cargo run -p lab --example gallery -- <folder>`.
//!
//! It holds every kind of figure, every verdict, long texts and missing values. Nothing in it was measured.

use std::collections::BTreeMap;
use std::path::Path;

use lab::experiment::Scale;
use lab::figure::{Axis, Content, Estimate, Figure, Panel, Series};
use lab::judge::judge;
use lab::paper::{Header, Picture, Presentation};
use lab::report::{Report, write_all};
use lab::row::Row;
use lab::table::{Cell, Table};
use serde_json::json;

fn main() -> anyhow::Result<()> {
    let folder = std::env::args().nth(1).unwrap_or_else(|| "out/gallery".to_owned());
    let (header, rows, presentation) = (header()?, rows(), presentation()?);
    let judgements = judge(&header.claims, &rows);
    let report = Report {
        header: &header,
        title: "An Invented Optimiser: A Paper That Does Not Exist, Shown to Test the Page It Is Shown On",
        citation: "N. N. Nobody and A. N. Other. Journal of Things That Were Not Measured 1(1), 2020.",
        judgements: &judgements,
        presentation: &presentation,
        run: &run(),
        rows: &rows,
    };
    write_all(Path::new(&folder), &report)?;
    Ok(())
}

/// A number that looks like noise and is the same every time.
fn noise(index: usize) -> f64 {
    let x = (index as f64 * 12.9898).sin() * 43_758.547;
    x - x.floor() - 0.5
}

fn row(arm: &str, seed: usize, metric: &str, value: f64) -> Row {
    Row {
        trial: format!("{arm}{seed}"),
        study: "images".to_owned(),
        arm: arm.to_owned(),
        case: String::new(),
        seed: seed as u64,
        metric: metric.to_owned(),
        at: None,
        value,
        tags: BTreeMap::new(),
    }
}

const ARMS: [(&str, f64); 4] = [("diffgrad", 88.4), ("adam", 88.9), ("adam-half", 88.35), ("sgdm", 84.0)];

fn rows() -> Vec<Row> {
    let mut rows = Vec::new();
    for seed in 0..5 {
        for (index, (arm, level)) in ARMS.iter().enumerate() {
            let accuracy = level + 0.5 * noise(seed) + 0.25 * noise(seed * 7 + index);
            rows.push(row(arm, seed, "test_acc_last5", accuracy));
            rows.push(row(arm, seed, "xi_mean", 0.5 + 1e-3 * (1.0 + noise(seed))));
            rows.push(row(arm, seed, "train_acc", 97.0));
        }
    }
    rows
}

fn header() -> anyhow::Result<Header> {
    let source = |place: &str| json!({"where": place, "version": "IEEE 2020", "seen": "in-text"});
    let claims = json!([
        {"id": "C1c", "says": "diffGrad’s test accuracy exceeds that of all other optimisers, ResNet50, CIFAR-10, batch size 128.",
         "source": source("Table I"), "published": {"diffgrad": 94.08, "adam": 93.72}, "unit": "% top-1",
         "test": {"exceeds_all": {"metric": "test_acc_last5", "a": "diffgrad", "others": ["adam", "sgdm"]}, "expect": "> 0"},
         "gates": [{"metric": "train_acc", "arm": "adam", "at_least": 98.0, "because": "training was stopped before the plateau; a halved step is then at a disadvantage that says nothing about the paper"}]},
        {"id": "C2", "says": "diffGrad’s test accuracy exceeds Adam’s.", "source": source("Table I"),
         "published": {"diffgrad": 94.08, "adam": 93.72, "margin": 0.36}, "unit": "% top-1",
         "test": {"paired": {"metric": "test_acc_last5", "a": "diffgrad", "b": "adam", "refuted_below": 0.36}, "expect": "> 0"}},
        {"id": "C2b", "says": "diffGrad’s test accuracy exceeds that of SGD with momentum.", "source": source("Table I"),
         "published": {"diffgrad": 94.08, "sgdm": 90.15}, "unit": "points",
         "test": {"paired": {"metric": "test_acc_last5", "a": "diffgrad", "b": "sgdm"}, "expect": "> 0"}},
        {"id": "K1", "says": "diffGrad cannot be told from Adam at half the learning rate.", "unit": "points",
         "source": {"where": "our control", "version": "none", "seen": "derived"}, "note": "The control that the paper lacks: if it holds, the friction coefficient is a halved learning rate by another name.",
         "test": {"equivalence": {"metric": "test_acc_last5", "a": "diffgrad", "b": "adam-half", "within": 0.15}}},
        {"id": "K2", "says": "The mean of ξ stays below 0.51 during training.", "source": {"where": "our control", "version": "none", "seen": "derived"},
         "test": {"mean": {"metric": "xi_mean", "arm": "diffgrad"}, "expect": "< 0.51"}},
        {"id": "C14", "says": "The average regret is O(1/√T) for convex losses.", "source": source("Theorem 1"),
         "test": {"untested": {"reason": "a theorem, not an experiment"}}},
        {"id": "C15", "says": "The corrected code scores higher than the published numbers.", "source": {"where": "issue 2", "version": "repository", "seen": "author-statement"},
         "published": {"corrected": null}, "test": {"mean": {"metric": "test_acc_best", "arm": "diffgrad"}, "expect": "> 94.08"}}
    ]);
    Ok(Header {
        paper: "invented".to_owned(),
        scale: Scale::Quick,
        about: "INVENTED DATA. Nothing on this page was measured; it shows what a report looks like.\n\nA small residual network on procedural pictures stands in for the published protocol: 40 epochs instead of 100, 2,000 pictures instead of 50,000.".to_owned(),
        data: BTreeMap::from([("pictures".to_owned(), "shapes10, drawn from a seed".to_owned())]),
        seed: 0,
        seeds: 5,
        claims: serde_json::from_value(claims)?,
    })
}

fn presentation() -> anyhow::Result<Presentation> {
    Ok(Presentation {
        tables: vec![accuracies(), wide()],
        figures: vec![curves(), differences(), heat(), many()],
        pictures: vec![picture()?],
        metrics: vec![
            ("test_acc_last5".to_owned(), "Top-1 accuracy on the test pictures in per cent, mean of the last five epochs.".to_owned()),
            ("xi_mean".to_owned(), "Mean of the friction coefficient ξ over all parameters, in one epoch.".to_owned()),
        ],
        protocol: vec!["Three arms share every seed: initial weights, order of the pictures and their augmentation are the same, so that their differences are paired.".to_owned()],
    })
}

fn accuracies() -> Table {
    let row = |(arm, level): &(&str, f64)| {
        vec![
            Cell::from(*arm),
            Cell::Number(5.0, 0),
            Cell::Number(*level, 2),
            Cell::Number(0.21, 2),
            Cell::number((*arm == "adam").then_some(93.72), 2),
        ]
    };
    Table {
        id: "accuracy".to_owned(),
        title: "Test accuracy by optimiser".to_owned(),
        caption: "Invented. Per cent, mean and standard deviation over seeds; the paper’s value is for another network and data set.".to_owned(),
        columns: ["arm", "seeds", "ours", "sd", "published"].map(str::to_owned).to_vec(),
        rows: ARMS.iter().map(row).collect(),
    }
}

fn wide() -> Table {
    let cells = |row: usize| (0..12).map(move |column| Cell::Number(90.0 + noise(row * 12 + column), 3));
    let names = (0..12).map(|column| format!("batch_{}", 32 << (column % 3)));
    Table {
        id: "wide".to_owned(),
        title: "A table wider than a phone".to_owned(),
        caption: "Invented.".to_owned(),
        columns: std::iter::once("arm".to_owned())
            .chain(names.enumerate().map(|(index, name)| format!("{name}_{index}")))
            .collect(),
        rows: ARMS
            .iter()
            .enumerate()
            .map(|(index, (arm, _))| std::iter::once(Cell::from(*arm)).chain(cells(index)).collect())
            .collect(),
    }
}

fn learning(arm: usize, name: &str) -> Series {
    let level = |epoch: usize| ARMS[arm].1 * (1.0 - (-(epoch as f64 + 3.0) / (7.0 + 2.0 * arm as f64)).exp());
    let value = |epoch: usize| level(epoch) + 1.5 * noise(arm * 40 + epoch) / (1.0 + epoch as f64 / 10.0);
    Series {
        label: name.to_owned(),
        points: (1..=40).map(|epoch| (epoch as f64, value(epoch))).collect(),
        band: (1..=40)
            .map(|epoch| {
                (value(epoch) - 30.0 / (8.0 + epoch as f64), value(epoch) + 30.0 / (8.0 + epoch as f64))
            })
            .collect(),
        scatter: false,
    }
}

fn axis(label: &str) -> Axis {
    Axis { label: label.to_owned(), ..Axis::default() }
}

fn curves() -> Figure {
    let names = ["diffGrad", "Adam", "Adam at half the rate", "SGD with momentum"];
    let series = |logs: bool| -> Vec<Series> {
        let one = |(arm, name): (usize, &&str)| {
            let mut series = learning(arm, name);
            if logs {
                series
                    .points
                    .iter_mut()
                    .for_each(|point| point.1 = (100.0 - point.1) * (-point.0 / 9.0).exp() * 0.05);
                series.band.clear();
            }
            series
        };
        names.iter().enumerate().map(one).collect()
    };
    Figure {
        id: "curves".to_owned(),
        title: "Learning curves".to_owned(),
        caption:
            "Invented. Mean over five seeds with its 95 % interval; the rate drops to a tenth after epoch 32."
                .to_owned(),
        panels: vec![
            Panel {
                title: "Test accuracy".to_owned(),
                x: axis("epoch"),
                y: axis("accuracy in %"),
                content: Content::Lines(series(false)),
            },
            Panel {
                title: "Training loss".to_owned(),
                x: axis("epoch"),
                y: Axis { log: true, ..axis("mean cross-entropy") },
                content: Content::Lines(series(true)),
            },
        ],
        columns: 2,
    }
}

fn differences() -> Figure {
    let estimate = |label: &str, value: f64, half: f64, published: Option<f64>| Estimate {
        label: label.to_owned(),
        value,
        interval: Some((value - half, value + half)),
        samples: (0..5).map(|seed| value + half * 2.0 * noise(seed)).collect(),
        published,
    };
    Figure {
        id: "differences".to_owned(),
        title: "Paired differences in test accuracy".to_owned(),
        caption: "Invented. Difference in percentage points, 95 % t intervals over five seeds.".to_owned(),
        panels: vec![Panel {
            title: String::new(),
            x: axis("difference in percentage points"),
            y: Axis::default(),
            content: Content::Intervals(vec![
                estimate("diffGrad − Adam", -0.45, 0.3, Some(0.36)),
                estimate("diffGrad − Adam at half the learning rate", 0.05, 0.12, None),
                estimate("diffGrad − SGD with momentum", 1.9, 0.7, Some(3.93)),
            ]),
        }],
        columns: 1,
    }
}

fn heat() -> Figure {
    let rates = ["2.5e-4", "5e-4", "1e-3", "2e-3", "4e-3"];
    let value =
        |row: usize, column: usize| ((row, column) != (1, 3)).then(|| 85.0 + 4.0 * noise(row * 5 + column));
    Figure {
        id: "rates".to_owned(),
        title: "Accuracy over learning rates".to_owned(),
        caption: "Invented. Per cent; a dash where no run finished.".to_owned(),
        panels: vec![Panel {
            title: String::new(),
            x: axis("learning rate"),
            y: axis("accuracy in %"),
            content: Content::Heat {
                rows: ["diffGrad", "Adam", "SGD with momentum"].map(str::to_owned).to_vec(),
                columns: rates.map(str::to_owned).to_vec(),
                values: (0..3).map(|row| (0..5).map(move |column| value(row, column)).collect()).collect(),
            },
        }],
        columns: 1,
    }
}

fn many() -> Figure {
    let series = |index: usize| Series {
        label: format!("series {index}"),
        points: (0..300)
            .map(|t| (t as f64, (t as f64 / 40.0 + index as f64).sin() * (1.0 - t as f64 / 400.0)))
            .collect(),
        ..Series::default()
    };
    let panel = |title: &str, count: usize| Panel {
        title: title.to_owned(),
        x: axis("iteration"),
        y: axis("x"),
        content: Content::Lines((0..count).map(series).collect()),
    };
    Figure {
        id: "many".to_owned(),
        title: "Seven series, three panels".to_owned(),
        caption: "Invented.".to_owned(),
        panels: vec![
            panel("F1", 7),
            panel("F2: a longer title that has to be broken into two lines to fit", 3),
            panel("F3", 1),
        ],
        columns: 3,
    }
}

fn picture() -> anyhow::Result<Picture> {
    // One grey pixel: the smallest PNG there is.
    let png = b"\x89PNG\r\n\x1a\n\0\0\0\rIHDR\0\0\0\x01\0\0\0\x01\x08\0\0\0\0:~\x9bU\0\0\0\nIDATx\x9cch\0\0\0\x82\0\x81w\xcdr\xb6\0\0\0\0IEND\xaeB`\x82";
    Ok(Picture {
        id: "grey".to_owned(),
        title: "A picture".to_owned(),
        caption: "One grey pixel.".to_owned(),
        png: png.to_vec(),
    })
}

fn run() -> serde_json::Value {
    json!({
        "command": "cargo xtask reproduce invented --scale quick --out results/invented/quick", "experiment": "experiments/invented/quick.yaml",
        "git": {"commit": "0123456789abcdef0123456789abcdef01234567", "dirty": true}, "device": "cpu", "cpu": "a processor with a rather long name @ 2.60GHz",
        "os": "linux x86_64", "threads": 1, "jobs": 2, "seconds": 512.3, "peak_bytes": 412_000_000u64, "trials": {"planned": 20, "done": 20},
        "versions": {"difflab": "0.1.0", "candle": "0.11.1"}, "overrides": [], "config": {"seed": 0, "arms": {"adam": {"lr": 0.001}}},
    })
}
