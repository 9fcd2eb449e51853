//! What each metric means, and what was run.

use crate::experiment::{JUDGE, MODEL, QuickfixExperiment};

pub(super) fn explained() -> Vec<(String, String)> {
    let all = [
        ("efficacy", "1 − share of the phrase's pictures in which the classifier finds the concept."),
        ("generality", "The same over paraphrases and captions that begin with the concept."),
        (
            "old_found, new_found",
            "Share of a set's pictures that show the concept, and what it is to act as.",
        ),
        (
            "specificity",
            "Share of pictures of surrounding concepts (the others of the suite) that show them.",
        ),
        (
            "unrelated_right",
            "Share of pictures of unrelated captions that show every attribute which the caption names.",
        ),
        ("anchor_right", "Share of pictures of the anchor's captions that show it (trap X11)."),
        (
            "concept_shown",
            "Share of the phrase's pictures in which the unedited model draws the concept: a condition of claims.",
        ),
        (
            "distance",
            "Root of the mean squared difference to the unedited model's picture of the same noise; 1 is black to white.",
        ),
        ("interference", "That distance over unrelated captions."),
        (
            "cosine",
            "Mean cosine of each picture and its own caption by the judge's CLIP; no scale, no prefix.",
        ),
        (
            "cosine_drop",
            "Cosine of the unedited pictures of the phrase less that of the edited ones: how far the CLIP-Score falls.",
        ),
        (
            "anchor_cosine_gain",
            "How far the cosine with the same caption about the anchor rises: of facts, whether the new one is drawn.",
        ),
        ("leakage", "Mean of ‖ΔW k‖ / ‖W₀ k‖ over all positions of the unrelated captions."),
        ("size, residual", "‖ΔW‖ / ‖W₀‖; ‖W k − v‖ over all rows after the edit as a share of before."),
        (
            "seconds",
            "The method's own time: keys, solve and new tensors, or training; pictures of its own among it, loading and judging not.",
        ),
        ("picture_seconds", "Of that, time that went into pictures of the anchor."),
        (
            "flops",
            "Floating-point operations, counted from shapes; a multiply-accumulate is two, a backward pass through frozen weights as a forward pass.",
        ),
        (
            "iterations, arrived",
            "Steps of a training, and 1 where it erased as much as the reference, less a share, when it was looked at (gradient descent: reached its objective).",
        ),
        (
            "seconds_to_match, iterations_to_match, match_…",
            "What a training had taken when it first did; all that it took where it never did, which is then a lower bound. Of edits that erase in half of \
             the pictures at least.",
        ),
        ("parameters", "Numbers of the model that the method changes."),
        (
            "seconds_ratio, flops_ratio",
            "Seconds and operations as multiples of the reference's, on the same edit and seed.",
        ),
        (
            "joint_…",
            "The same for many concepts at once; joint_least_efficacy is that of the concept that is erased least, joint_shown how often the unedited model \
             draws them; specificity is over the concepts that were not edited.",
        ),
        (
            "identity_difference",
            "Relative difference in the Frobenius norm of two things that must be equal.",
        ),
        (
            "attention_share",
            "‖W₀ k + b‖ / ‖x‖ at a concept's last token, x its embedding with its position: how much of the stream behind the first self-attention \
             the edited matrix makes.",
        ),
        ("share_of_unet", "Numbers of W in per cent of the denoiser's."),
    ];
    all.into_iter().map(|(name, text)| (name.to_owned(), text.to_owned())).collect()
}

pub(super) fn protocol(experiment: &QuickfixExperiment) -> Vec<String> {
    vec![
        format!(
            "Model: {}. Judge: {}. One edit and seed is one unit. All methods see the same captions and the same noise.",
            experiment.data[MODEL], experiment.data[JUDGE]
        ),
        "Trainings see captions of the concept by which no edit is judged, and go on to their last step; on the way they are looked at for when they first erase the concept in as many of \
         the phrase's pictures as the reference does, less a share (in the experiment file). Concept Ablation changes keys and values of every cross-attention, ESD all their \
         weights; ESD's captions are whole ones, where its code takes the bare concept, which this model was never told. Their learning rates are those of the \
         experiment file, not the published ones: the network is a thousandth of Stable Diffusion's size."
            .to_owned(),
        "The ratios of time and work are this model's and this machine's. At the size of Stable Diffusion the denoiser outweighs the text encoder's \
         first layer by far more, so that ratios of work are larger there (specification, section 9)."
            .to_owned(),
        "Left out: ReFACT's edit of the MLP, adversarial recovery, and real artists, trademarks and facts, which this model does not know."
            .to_owned(),
    ]
}
