//! The image studies: accuracies beside the printed ones, paired differences, curves, and what ξ did.

use lab::figure::{Axis, Content, Estimate, Figure, Panel, Series};
use lab::paper::Presentation;
use lab::row::Row;
use lab::stats::Interval;
use lab::table::{Cell, Table, columns};

use super::{Rows, summary};
use crate::experiment::{DiffGradExperiment, Study};
use crate::images::ImageStudy;
use crate::images::resnet::Network;
use crate::optim::RuleName;
use crate::published;

/// The metric that claims are judged on.
const JUDGED: &str = "test_acc_last5";

/// Curves in one panel that a reader can still tell apart.
const MOST_CURVES: usize = 6;

struct View<'a> {
    experiment: &'a DiffGradExperiment,
    name: &'a str,
    study: &'a ImageStudy,
    rows: &'a Rows<'a>,
}

pub(super) fn show(
    experiment: &DiffGradExperiment,
    name: &str,
    study: &ImageStudy,
    rows: &Rows<'_>,
    shown: &mut Presentation,
) {
    let view = View { experiment, name, study, rows };
    shown.tables.push(view.accuracies());
    if !view.pairs().is_empty() {
        shown.tables.push(view.differences_table());
    }
    shown.figures.push(view.estimates());
    shown.figures.push(view.curves());
    shown.figures.extend(view.friction());
}

impl View<'_> {
    fn label(&self, arm: &str) -> &str {
        &self.experiment.arms[arm].label
    }

    fn rule(&self, arm: &str) -> RuleName {
        self.experiment.arms[arm].optimiser.rule
    }

    fn values(&self, metric: &str, arm: &str) -> Vec<f64> {
        self.rows.by_seed(metric, arm, "").into_values().collect()
    }

    fn data(&self) -> &str {
        &self.experiment.data[&self.study.data]
    }

    /// The data set's name, or what an altered copy of it must be called.
    fn data_called(&self) -> String {
        let altered = self.rows.0.iter().find(|row| row.metric == "data_is_altered");
        altered.and_then(|row| row.tags.get("data").cloned()).unwrap_or_else(|| format!("`{}`", self.data()))
    }

    fn published(&self, arm: &str) -> Option<f64> {
        published::accuracy(
            self.rule(arm),
            self.experiment.arms[arm].activation,
            self.data(),
            self.study.batch,
        )
    }

    /// What was trained, in a sentence for captions.
    fn setting(&self) -> String {
        let study = self.study;
        let images = study.images_per_class.map_or("all".to_owned(), |count| format!("{count} a class"));
        format!(
            "{} on {} at {side}×{side} pixels; training images: {images}; batch {}, {} epochs, learning rate × {} at \
             epoch {}",
            network(study),
            self.data_called(),
            study.batch,
            study.epochs,
            study.drop_factor,
            study.drop_at,
            side = study.side
        )
    }

    fn accuracies(&self) -> Table {
        let row = |arm: &String| {
            let last5 = self.values(JUDGED, arm);
            let mut row = vec![
                Cell::from(self.label(arm)),
                Cell::Number(self.experiment.arms[arm].optimiser.lr, 4),
                Cell::Number(last5.len() as f64, 0),
            ];
            row.extend(Cell::interval(summary(&last5), 2));
            row.push(Cell::number(self.published(arm), 2));
            for metric in ["test_acc_best", "test_acc_final", "train_acc_final"] {
                row.push(Cell::number(summary(&self.values(metric, arm)).map(|found| found.estimate), 2));
            }
            row.push(Cell::number(summary(&self.values("plateau_drop", arm)).map(|found| found.estimate), 3));
            row
        };
        Table {
            id: format!("{}_accuracy", self.name),
            title: format!("Accuracy in `{}`", self.name),
            caption: format!(
                "{}. Top-1 accuracy in percent: mean over seeds, 95 % t-interval. published: {} where the paper has this data \
                 set and batch size; another network and schedule, so not comparable in level.",
                self.setting(),
                published::SOURCE
            ),
            columns: columns(&[
                "arm",
                "lr",
                "n",
                "test_acc_last5",
                "ci_low",
                "ci_high",
                "published",
                "test_acc_best",
                "test_acc_final",
                "train_acc_final",
                "plateau_drop",
            ]),
            rows: self.study.arms.iter().map(row).collect(),
        }
    }

    /// Pairs worth a difference: every arm against Adam, and every arm with a friction against the half-step control.
    fn pairs(&self) -> Vec<(&str, &str)> {
        let against = |base: RuleName| {
            let others =
                self.study.arms.iter().filter(move |arm| ![RuleName::Adam, base].contains(&self.rule(arm)));
            let worth = others.filter(move |arm| base == RuleName::Adam || self.rule(arm).has_friction());
            worth.filter_map(move |arm| Some((arm.as_str(), self.base(arm, base)?)))
        };
        against(RuleName::Adam).chain(against(RuleName::HalfStep)).collect()
    }

    /// The arm of a rule that `arm` is compared with: the one at its learning rate where there is one, else the first.
    fn base(&self, arm: &str, rule: RuleName) -> Option<&str> {
        let rate = |arm: &str| self.experiment.arms[arm].optimiser.lr;
        let mut candidates = self.study.arms.iter().filter(|candidate| self.rule(candidate) == rule);
        let first = candidates.clone().next();
        candidates.find(|candidate| rate(candidate) == rate(arm)).or(first).map(String::as_str)
    }

    fn difference(&self, a: &str, b: &str) -> (Vec<f64>, Option<Interval>) {
        let (a, b) = (self.rows.by_seed(JUDGED, a, ""), self.rows.by_seed(JUDGED, b, ""));
        let differences: Vec<f64> = a.iter().filter_map(|(seed, a)| Some(a - b.get(seed)?)).collect();
        let interval = summary(&differences);
        (differences, interval)
    }

    fn margin(&self, a: &str, b: &str) -> Option<f64> {
        Some(self.published(a)? - self.published(b)?)
    }

    fn differences_table(&self) -> Table {
        let row = |(a, b): (&str, &str)| {
            let (differences, interval) = self.difference(a, b);
            let mut row = vec![
                Cell::from(self.label(a)),
                Cell::from(self.label(b)),
                Cell::Number(differences.len() as f64, 0),
            ];
            row.extend(Cell::interval(interval, 2));
            row.push(Cell::number(self.margin(a, b), 2));
            row
        };
        Table {
            id: format!("{}_differences", self.name),
            title: format!("Paired differences in `{}`", self.name),
            caption: "a − b in points of test_acc_last5, paired over seeds (same initial values, images, order and crops), with \
                      95 % t-interval. published: the same difference of the printed numbers."
                .to_owned(),
            columns: columns(&["a", "b", "n", "difference", "ci_low", "ci_high", "published"]),
            rows: self.pairs().into_iter().map(row).collect(),
        }
    }

    /// One line of the table over all studies: a against b.
    fn against(&self, a: &str, b: &str) -> Vec<Cell> {
        let (differences, interval) = self.difference(a, b);
        let mut line = vec![
            Cell::from(self.name),
            Cell::Number(self.study.batch as f64, 0),
            Cell::from(self.label(a)),
            Cell::from(self.label(b)),
            Cell::Number(differences.len() as f64, 0),
        ];
        line.extend(Cell::interval(interval, 2));
        line.push(Cell::number(self.margin(a, b), 2));
        line
    }

    fn estimates(&self) -> Figure {
        let accuracy = |arm: &String| {
            let samples = self.values(JUDGED, arm);
            estimate(self.label(arm).to_owned(), &samples, summary(&samples), None)
        };
        let difference = |(a, b): (&str, &str)| {
            let (samples, interval) = self.difference(a, b);
            estimate(format!("{} − {}", self.label(a), self.label(b)), &samples, interval, self.margin(a, b))
        };
        let panel = |title: &str, label: &str, estimates: Vec<Option<Estimate>>| Panel {
            title: title.to_owned(),
            x: axis(label),
            y: Axis::default(),
            content: Content::Intervals(estimates.into_iter().flatten().collect()),
        };
        let accuracies = self.study.arms.iter().map(accuracy).collect();
        let mut panels = vec![panel("Test accuracy", "% top-1", accuracies)];
        if !self.pairs().is_empty() {
            let differences = self.pairs().into_iter().map(difference).collect();
            panels.push(panel("Paired over seeds", "points", differences));
        }
        Figure {
            id: format!("{}_estimates", self.name),
            title: format!("Test accuracy and paired differences in `{}`", self.name),
            caption: format!(
                "{}. Mean of the last five evaluations; dots: seeds; bars: 95 % t-intervals; hollow diamonds: the printed \
                 difference (ResNet50, 100 epochs), where the paper has this data set and batch size.",
                self.setting()
            ),
            panels,
            columns: 1,
        }
    }

    fn mean_curves(&self, metric: &str) -> Vec<Series> {
        let curve = |arm: &String| {
            let points = self.rows.curve(metric, arm, "");
            let summaries: Vec<(f64, Interval)> =
                points.iter().filter_map(|(at, values)| Some((*at, summary(values)?))).collect();
            let banded = summaries.iter().all(|(_, summary)| summary.n > 1);
            Series {
                label: self.label(arm).to_owned(),
                points: summaries.iter().map(|(at, summary)| (*at, summary.estimate)).collect(),
                band: if banded {
                    summaries.iter().map(|(_, s)| (s.low, s.high)).collect()
                } else {
                    Vec::new()
                },
                scatter: false,
            }
        };
        self.drawn().iter().map(curve).filter(|series| !series.points.is_empty()).collect()
    }

    /// The arms whose curves are drawn: more than six cannot be told apart.
    fn drawn(&self) -> &[String] {
        if self.study.arms.len() <= MOST_CURVES { &self.study.arms } else { &self.study.arms[..4] }
    }

    /// What a caption says where not every arm is drawn.
    fn drawn_note(&self) -> &'static str {
        if self.study.arms.len() <= MOST_CURVES {
            ""
        } else {
            " The study's first four arms; `rows.parquet` has all."
        }
    }

    fn curves(&self) -> Figure {
        let panel = |title: &str, label: &str, metric: &str| Panel {
            title: title.to_owned(),
            x: axis("epoch"),
            y: axis(label),
            content: Content::Lines(self.mean_curves(metric)),
        };
        Figure {
            id: format!("{}_training", self.name),
            title: format!("Training in `{}`", self.name),
            caption: format!(
                "Mean over seeds with 95 % t-interval; training figures are running means over augmented batches. The learning \
                 rate falls at epoch {}.{}",
                self.study.drop_at,
                self.drawn_note()
            ),
            panels: vec![
                panel("Training loss", "cross-entropy (nats)", "train_loss"),
                panel("Training accuracy", "%", "train_acc"),
            ],
            columns: 2,
        }
    }

    /// ξ over epochs, where an arm has any.
    fn friction(&self) -> Option<Figure> {
        let series = |metric: &str| -> Vec<Series> {
            self.mean_curves(metric).into_iter().filter(|series| !series.points.is_empty()).collect()
        };
        let (mean, p99) = (series("xi_mean"), series("xi_p99"));
        if mean.is_empty() {
            return None;
        }
        let panel = |title: &str, series| Panel {
            title: title.to_owned(),
            x: axis("epoch"),
            y: axis("ξ"),
            content: Content::Lines(series),
        };
        Some(Figure {
            id: format!("{}_friction", self.name),
            title: format!("The friction coefficient ξ in `{}`", self.name),
            caption: format!(
                "Over all parameters and steps of an epoch; mean over seeds with 95 % t-interval. ξ = ½ is Adam at half the \
                 learning rate, ξ = 1 is Adam.{}",
                self.drawn_note()
            ),
            panels: vec![panel("Mean", mean), panel("99th percentile", p99)],
            columns: 2,
        })
    }
}

fn network(study: &ImageStudy) -> &'static str {
    match study.network {
        Network::Resnet8 => "ResNet-8",
        Network::Resnet50Quarter => "quarter-width ResNet50",
        Network::Resnet50 => "ResNet50",
    }
}

fn axis(label: &str) -> Axis {
    Axis { label: label.to_owned(), ..Axis::default() }
}

fn estimate(
    label: String,
    samples: &[f64],
    interval: Option<Interval>,
    published: Option<f64>,
) -> Option<Estimate> {
    let found = interval?;
    Some(Estimate {
        label,
        value: found.estimate,
        interval: (found.n > 1).then_some((found.low, found.high)),
        samples: samples.to_vec(),
        published,
    })
}

/// A table of diffGrad against Adam over all image studies, where there are several.
pub(super) fn across(experiment: &DiffGradExperiment, rows: &[Row], shown: &mut Presentation) {
    let studies: Vec<(&String, &ImageStudy)> = experiment
        .studies
        .iter()
        .filter_map(|(name, study)| if let Study::Images(study) = study { Some((name, study)) } else { None })
        .collect();
    if studies.len() < 2 {
        return;
    }
    let lines = |(name, study): (&String, &ImageStudy)| -> Vec<Vec<Cell>> {
        let rows = Rows::of(rows, name);
        let view = View { experiment, name, study, rows: &rows };
        let arms = study.arms.iter().filter(|arm| view.rule(arm) == RuleName::DiffGrad);
        arms.filter_map(|arm| Some(view.against(arm, view.base(arm, RuleName::Adam)?))).collect()
    };
    shown.tables.push(Table {
        id: "diffgrad_against_adam".to_owned(),
        title: "diffGrad against Adam over all studies".to_owned(),
        caption: "Difference in points of test_acc_last5, paired over seeds, with 95 % t-interval."
            .to_owned(),
        columns: columns(&["study", "batch", "a", "b", "n", "difference", "ci_low", "ci_high", "published"]),
        rows: studies.into_iter().flat_map(lines).collect(),
    });
}
