//! What each metric means, and what was run.

use crate::experiment::{JUDGE, MODEL, TraceExperiment};

pub(super) fn explained() -> Vec<(String, String)> {
    let all = [
        (
            "score_clip",
            "S: cosine of the picture's and the original caption's vectors in the judge's CLIP; no scale, no prefix.",
        ),
        (
            "score_class",
            "Probability that the attribute classifier gives to the class that the caption names.",
        ),
        ("total_effect", "TE = S(clean) − S(corrupted), of either score."),
        (
            "recovery_clip, recovery_class",
            "ρ = (S(restored) − S(corrupted)) / TE, signed; written for captions that are kept.",
        ),
        (
            "kept",
            "1 where the classifier finds the attribute in the clean picture and TE reaches the floor, so that ρ is defined.",
        ),
        ("clean_right, corrupted_right", "1 where the attribute's class is the classifier's likeliest."),
        (
            "distance_to_clean, distance_to_corrupted",
            "‖z − z'‖ / ‖z_clean − z_corrupted‖ of the last latents: whether the picture came back, not the concept alone.",
        ),
        (
            "mean_recovery",
            "ρ averaged over the components before `up_blocks.3` (trap T4), by where the values came from.",
        ),
        ("best_recovery", "The largest ρ of all components before `up_blocks.3`, likewise."),
        (
            "part_recovery",
            "ρ averaged over the components of a kind (resnet, attn1, attn2, ff) before `up_blocks.3`.",
        ),
        (
            "causal_share",
            "Share of the components of a group (down, mid, up; without `up_blocks.3`) with ρ above the threshold and above the foreign donor's, for a caption and seed.",
        ),
        (
            "causal_components, causal_groups",
            "How many such components there are, and in how many groups they lie.",
        ),
        ("right", "1 where the classifier finds the attribute in the picture of this run."),
        (
            "set_size, set_groups",
            "Of the set of causal components over all captions and seeds: members, and groups of blocks that they lie in. Not stored: it follows from the rows.",
        ),
        (
            "set_participation",
            "(Σ x)² / Σ x² of x = mean ρ beyond the foreign donor's over the set's members: how many equal components their effects are worth.",
        ),
        (
            "largest_jaccard, largest_jaccard_high",
            "The largest Jaccard index of the causal sets of two attributes, of those that the model follows and that have any; the largest upper end of the 95 % \
             bootstrap intervals over captions, a resample's set being the components whose mean ρ exceeds the threshold and the foreign donor's.",
        ),
        (
            "text_set_size, text_set_has_first, text_set_mlps",
            "Of the text encoder's states whose mean ρ over captions has its 95 % interval above the threshold: how many there are, whether the first \
             self-attention at the last subject token is one, how many are MLPs'. From ten captions on.",
        ),
        (
            "half_recovery",
            "ρ averaged over the components before `up_blocks.3`, by the half of guidance that is restored.",
        ),
        (
            "state_recovery",
            "ρ of the first self-attention at the last subject token, and the largest ρ of any self-attention and of any MLP.",
        ),
        (
            "best_is_first_attention",
            "1 where that first state has the largest ρ of all self-attention and MLP states of the caption, and it exceeds the threshold.",
        ),
        (
            "causal_states, causal_mlps",
            "How many states of the text encoder have ρ above the threshold, and MLPs among them.",
        ),
        (
            "identity_difference",
            "Largest absolute difference of the last latents of two runs that must be equal.",
        ),
        (
            "sigma, embedding_std, noise_norm, embedding_norm, attention_norm",
            "Absolute σ, the unit of `std:`, mean norms of the noise, the embeddings and the first self-attention's clean output at the subject's tokens (trap T10).",
        ),
        (
            "downstream",
            "Share of a pass's multiply-accumulates done behind a component: near 0, restoring is copying the clean prediction (trap T4).",
        ),
    ];
    all.into_iter().map(|(name, text)| (name.to_owned(), text.to_owned())).collect()
}

pub(super) fn protocol(experiment: &TraceExperiment) -> Vec<String> {
    vec![
        format!(
            "Model: {}. Judge: {}. One caption and seed is one unit; clean, corrupted and restored runs share the starting latents and one draw of the noise.",
            experiment.data[MODEL], experiment.data[JUDGE]
        ),
        "A component is restored in every step by copying the clean run's activation at the same step in lockstep: all runs are rows of one batch, \
         equal bit for bit to a run of its own."
            .to_owned(),
        "The paper's body was not available to us in full: σ, CLIP variant, thresholds, seeds and per-component numbers are not known, and no number of \
         it is shown. Which component is causal in Stable Diffusion cannot be seen on another model."
            .to_owned(),
        "Residual blocks carry the whole stream, attentions and feed-forwards a summand (trap T3); near the output restoring is copying the clean \
         prediction (T4); before the first cross-attention activations know the text through the latents only (T5)."
            .to_owned(),
    ]
}
