//! What each metric means, and what was run.

use crate::corruption::Mode;
use crate::experiment::{JUDGE, MODEL, Study, TextStudy, TraceExperiment, UnetStudy};

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
        (
            "total_effect, total_effect_is_positive, sweep_…",
            "TE = S(clean) − S(corrupted), of either score; 1 where it is above 0.",
        ),
        (
            "recovery_clip, recovery_class",
            "ρ = IE / TE, signed, of captions that are kept; IE = S(restored) − S(corrupted). Not stored, as all effects: they follow from the scores.",
        ),
        (
            "kept",
            "1 where the classifier finds the attribute in the clean picture and TE reaches the floor, so that ρ is defined. The floor is the experiment file's, or the standard deviation of the clean picture's score over the seeds of a caption where that is more.",
        ),
        ("clean_right, corrupted_right", "1 where the attribute's class is the classifier's likeliest."),
        (
            "distance_to_clean, distance_to_corrupted",
            "‖z − z'‖ / ‖z_clean − z_corrupted‖ of the last latents: whether the picture came back, not the concept alone.",
        ),
        (
            "mean_effect, mean_recovery",
            "IE (captions whose clean picture shows the attribute) and ρ, averaged over the components before `up_blocks.3` (trap T4), by where the values came from.",
        ),
        ("best_recovery", "The largest ρ of all components before `up_blocks.3`, likewise."),
        (
            "best_return",
            "The largest 1 − distance_to_clean of all components before `up_blocks.3`: how near the clean picture the nearest restored one comes; 0 is the corrupted picture's distance.",
        ),
        ("part_effect, part_recovery", "The same over the components of a kind (resnet, attn1, attn2, ff)."),
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
            "Of the set of causal components over all captions, without `up_blocks.3`: members, and groups of blocks that they lie in (of a set that has any).",
        ),
        (
            "set_is_open",
            "1 where that set lies in one group while a component of another has a mean ρ whose 95 % interval reaches above the threshold: not shown to be causal, nor not to be.",
        ),
        (
            "effect_participation",
            "max(Σ x, 0)² / Σ x² over the components before `up_blocks.3`, x being the signed AIE less that from the foreign donor: how many equal components the effects are worth. Noise lowers it.",
        ),
        (
            "largest_jaccard, largest_jaccard_p",
            "The largest Jaccard index of the causal sets of two attributes, of those whose own claim C1 can be tested and that have any; and the largest p, after Holm over \
             the pairs, of \"the captions of both are of one kind\": how often captions dealt out anew are as far apart in their mean ρ beyond the foreign donor's (999 deals; \
             squares summed over components).",
        ),
        (
            "half_effect, half_recovery",
            "IE and ρ averaged over the components before `up_blocks.3`, by the half of guidance that is restored.",
        ),
        (
            "state_recovery",
            "ρ of the first self-attention at the last subject token (`first_attention`); of the other state, and of the MLP, whose mean over captions is largest \
             (`other_state`, `mlp_state`: one state for all captions, of those that half of them have); and the largest ρ of any self-attention and of any MLP of a caption.",
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
    let mut all = nothing_to_trace(experiment);
    all.extend(told(experiment));
    all
}

/// A warning for each study whose noise is 0.
fn nothing_to_trace(experiment: &TraceExperiment) -> Vec<String> {
    let is_idle = |study: &Study| match study {
        Study::Unet(UnetStudy { making, .. }) | Study::Text(TextStudy { making, .. }) => {
            making.mode != Mode::Swap && making.sigma.absolute(1.0) == 0.0
        }
        _ => false,
    };
    let studies = experiment.studies.iter().filter(|(_, study)| is_idle(study));
    studies
        .map(|(name, _)| {
            format!("Warning: the noise of the study `{name}` is 0: clean, corrupted and restored runs are equal, and there is no effect to trace.")
        })
        .collect()
}

fn told(experiment: &TraceExperiment) -> Vec<String> {
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
