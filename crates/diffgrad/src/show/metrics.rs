//! What every metric means, and what the protocol is: the words of the report.

use crate::experiment::{DiffGradExperiment, Study};

/// Every metric of the rows with its meaning and unit.
pub(super) fn explained() -> Vec<(String, String)> {
    let metrics = [
        (
            "test_acc_last5",
            "Mean top-1 test accuracy over the last five evaluations (one an epoch), in percent. Judged: it neither picks an epoch on the test set nor hangs on one.",
        ),
        (
            "test_acc_best",
            "Best top-1 test accuracy over the evaluated epochs, in percent. What the paper printed is probably this, over all 100 epochs; it picks the epoch on the test set.",
        ),
        ("test_acc_final", "Top-1 test accuracy after the last epoch, in percent."),
        ("test_acc, test_loss", "The same and the mean cross-entropy (nats) by epoch."),
        (
            "train_loss, train_acc",
            "Running mean over the augmented batches of an epoch, in nats and percent.",
        ),
        ("train_acc_final", "train_acc of the last epoch."),
        (
            "plateau_drop",
            "Relative fall of the training loss from the first to the second half of the last quarter of the epochs before the learning rate drops. Near 0: training had reached its plateau, so that a halved step costs little.",
        ),
        (
            "xi_mean, xi_p99",
            "Mean and 99th percentile of the friction coefficient ξ over all parameters and steps of an epoch. `_run`: mean over epochs; `_max`: largest epoch.",
        ),
        (
            "data_is_altered",
            "1 where the data found is an altered copy of the published set, which the captions then name.",
        ),
        ("parameters", "Scalars in the network's parameters."),
        ("x, loss", "Synthetic study: position and value after each update."),
        ("reaches_global", "1 where the last x is within `reached` of the global minimum."),
        (
            "lr_grid_successes, start_grid_successes",
            "How many of the swept settings reach the global minimum.",
        ),
        (
            "turning_points, late_amplitude, late_sd",
            "Over iterations 201–300: sign changes of the step, half of max − min, standard deviation of x.",
        ),
        ("early_amplitude", "Largest |x| over iterations 15–75."),
    ];
    metrics.map(|(name, meaning)| (name.to_owned(), meaning.to_owned())).to_vec()
}

/// What a reader must know before believing a number.
pub(super) fn protocol(experiment: &DiffGradExperiment) -> Vec<String> {
    let mut paragraphs = vec![
        "Everything is paired: one seed fixes initial values, the subset of training images, their order and their crops for \
         every arm. Intervals are Student's t over seeds."
            .to_owned(),
        "Three arms are mandatory: Adam, diffGrad as written, and the control whose friction is ½ whatever the gradient, which \
         is Adam at half the learning rate. On a large network the mean of ξ is bounded close to ½, so a difference to Adam is \
         no evidence for the friction unless it is also a difference to the control."
            .to_owned(),
        "The image tables that the paper printed were made with code in which the previous gradient was the current one \
         (`diffGrad as run`): from the second step on it is the control. The corrected tables of later versions were not found."
            .to_owned(),
    ];
    let reduced = experiment.studies.values().any(|study| {
        matches!(study, Study::Images(study) if study.network != crate::images::resnet::Network::Resnet50)
    });
    if reduced {
        paragraphs.push(
            "Scale: the image study is a reduced protocol (a small residual network, reduced images, few of them, 40 epochs \
             in the published shape of 80 % at the full and 20 % at a tenth of the learning rate). It decides K1, K2 and K5; for \
             claims about ResNet50 it gives a direction only, and their verdict is `not testable` here."
                .to_owned(),
        );
    }
    paragraphs
}
