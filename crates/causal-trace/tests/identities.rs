//! The identities of section 7 of the specification, on the weights that ship: they hold for any weights.
#![allow(clippy::unwrap_used)]

use std::path::Path;
use std::sync::OnceLock;

use candle_core::{DType, Device, Tensor};
use causal_trace::components::{before_text, components};
use causal_trace::corruption::deviation;
use causal_trace::lockstep::{Change, Donor, Lockstep, Patch, Run};
use causal_trace::trace::{CLEAN, CORRUPTED};
use causal_trace::{
    Caption, Control, Corruption, Half, Mode, Reading, Settings, Sigma, Spec, Targets, TextPart, Trace,
    looped, trace,
};
use sd_core::pipeline::StableDiffusion;
use sd_core::sampling::SamplerKind;
use sd_core::taps::{Kind, NoTap, Site};

fn model() -> &'static StableDiffusion {
    static MODEL: OnceLock<StableDiffusion> = OnceLock::new();
    MODEL.get_or_init(|| {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../datasets/sd-mini/model");
        StableDiffusion::open(&folder, DType::F32, &Device::Cpu).unwrap()
    })
}

fn caption() -> Caption {
    Caption::new("two green stars in the style of bela cruz", "bela cruz")
}

/// Two steps, and noise large enough to see.
fn spec() -> Spec {
    Spec {
        corruption: Corruption { sigma: Sigma::Absolute(0.5), ..Corruption::default() },
        settings: Settings { steps: 2, guidance: 4.0, seed: 3, ..Settings::default() },
        ..Spec::default()
    }
}

fn bits(x: &Tensor) -> Vec<u32> {
    x.flatten_all().unwrap().to_vec1::<f32>().unwrap().into_iter().map(f32::to_bits).collect()
}

fn same(trace: &Trace, i: usize, j: usize) -> bool {
    bits(&trace.latents.get(i).unwrap()) == bits(&trace.latents.get(j).unwrap())
}

/// Texts of the clean and the corrupted caption.
fn texts(spec: &Spec) -> Vec<Tensor> {
    let caption = caption();
    let encoded =
        spec.corruption.encode(model(), &caption, &caption.read(&model().tokenizer).unwrap()).unwrap();
    vec![encoded.clean, encoded.corrupted]
}

fn plain(text: usize) -> Run {
    Run { text, patch: None }
}

fn restored(sites: &[Site], donor: Donor) -> Run {
    let patch = Patch { sites: sites.to_vec(), donor, change: Change::None };
    Run { text: CORRUPTED, patch: Some(patch) }
}

fn advance(spec: &Spec, runs: &[Run]) -> Tensor {
    let texts = texts(spec);
    Lockstep::new(model(), &spec.settings, &texts).unwrap().run(runs, &mut |_| {}).unwrap().latents
}

#[test]
fn there_are_seventy_components_in_the_order_of_a_pass() {
    let all = components(model().unet.config(), Reading::Module).unwrap();
    assert_eq!(all.len(), 70);
    assert_eq!(all[0].to_string(), "down_blocks.0.resnets.0");
    assert_eq!(all[69].to_string(), "up_blocks.3.attentions.2.transformer_blocks.0.ff");
    for reading in [Reading::Branch, Reading::Stream] {
        let other = components(model().unet.config(), reading).unwrap();
        let parts =
            |all: &[causal_trace::Component]| all.iter().map(|one| (one.part, one.group)).collect::<Vec<_>>();
        assert_eq!(parts(&other), parts(&all), "{reading:?} names the same components");
    }
}

#[test]
fn i1_without_noise_all_runs_are_equal_and_the_trace_says_so() {
    let mut spec = spec();
    spec.corruption.sigma = Sigma::Absolute(0.0);
    let trace = trace(model(), &caption(), &spec).unwrap();
    assert_eq!(trace.runs.len(), 72);
    assert!((1..72).all(|run| same(&trace, CLEAN, run)));
    assert!(trace.warnings[0].contains("changes nothing"), "{:?}", trace.warnings);
    assert_eq!(trace.distance(1, 0).unwrap(), None);
}

#[test]
fn i2_the_last_transformer_decides_the_picture() {
    let last = [Site::new("up_blocks.3.attentions.2", Kind::Stream)];
    let latents = advance(&spec(), &[plain(CLEAN), plain(CORRUPTED), restored(&last, Donor::Run(CLEAN))]);
    let row = |index: usize| bits(&latents.get(index).unwrap());
    assert_ne!(row(CORRUPTED), row(CLEAN));
    assert_eq!(row(2), row(CLEAN));
}

#[test]
fn i3_a_corrupted_donor_changes_nothing() {
    let mut spec = spec();
    spec.targets = Targets::Unet {
        reading: Reading::Module,
        only: Vec::new(),
        window: 1,
        controls: vec![Control::Corrupted],
    };
    let trace = trace(model(), &caption(), &spec).unwrap();
    assert!((2..72).all(|run| same(&trace, CORRUPTED, run)));
}

#[test]
fn i4_on_its_own_latents_what_comes_before_the_text_has_no_effect() {
    let mut spec = spec();
    let all = components(model().unet.config(), Reading::Module).unwrap();
    let early: Vec<String> = before_text(&all).iter().map(ToString::to_string).collect();
    assert_eq!(early, ["down_blocks.0.resnets.0", "down_blocks.0.attentions.0.transformer_blocks.0.attn1"]);
    spec.targets = Targets::Unet {
        reading: Reading::Module,
        only: [early, vec!["down_blocks.0.attentions.0.transformer_blocks.0.attn2".to_owned()]].concat(),
        window: 1,
        controls: vec![Control::OwnLatent],
    };
    let trace = trace(model(), &caption(), &spec).unwrap();
    assert!(same(&trace, CORRUPTED, 2) && same(&trace, CORRUPTED, 3));
    assert!(!same(&trace, CORRUPTED, 4), "a cross-attention has one");
    let enter = [Site::new("conv_in", Kind::Stream)];
    let latents =
        advance(&spec, &[plain(CLEAN), plain(CORRUPTED), restored(&enter, Donor::OwnLatent(CLEAN))]);
    assert_eq!(bits(&latents.get(2).unwrap()), bits(&latents.get(CORRUPTED).unwrap()));
}

#[test]
fn i5_all_components_restored_give_the_clean_picture() {
    let all = components(model().unet.config(), Reading::Module).unwrap();
    let sites: Vec<Site> = all.iter().map(|one| one.site.clone()).collect();
    let latents = advance(&spec(), &[plain(CLEAN), plain(CORRUPTED), restored(&sites, Donor::Run(CLEAN))]);
    let row = |index: usize| bits(&latents.get(index).unwrap());
    assert_eq!(row(2), row(CLEAN));
}

/// Every component, both ways of running, whatever the sampler, chunks and threads.
#[test]
fn i6_lockstep_is_the_loop_bit_for_bit() {
    for sampler in [SamplerKind::Ddim, SamplerKind::DpmSolver] {
        let mut spec = spec();
        spec.settings.sampler = Some(sampler);
        let texts = texts(&spec);
        let all = trace(model(), &caption(), &spec).unwrap();
        spec.settings.scheduled = false;
        let unscheduled = trace(model(), &caption(), &spec).unwrap();
        spec.settings.scheduled = true;
        spec.settings.memory = Some(60_000_000);
        let chunked = trace(model(), &caption(), &spec).unwrap();
        assert!(chunked.chunks > 1 && all.chunks == 1, "{} chunks", chunked.chunks);
        assert!(
            all.row_passes < 0.95 * unscheduled.row_passes,
            "{} {}",
            all.row_passes,
            unscheduled.row_passes
        );
        for other in [&unscheduled, &chunked] {
            assert_eq!(bits(&all.latents), bits(&other.latents));
        }
        // Every seventh component, and all residual blocks of the way up.
        for (index, run) in all.runs.iter().enumerate() {
            let causal_trace::What::Component(component, _) = run else { continue };
            let name = component.to_string();
            if index % 7 != 0 && !(name.starts_with("up_") && name.contains("resnets.2")) {
                continue;
            }
            let alone = looped::one(
                model(),
                &spec.settings,
                [&texts[0], &texts[1]],
                std::slice::from_ref(&component.site),
            )
            .unwrap();
            for (place, run) in [CLEAN, CORRUPTED, index].into_iter().enumerate() {
                let own = bits(&all.latents.get(run).unwrap());
                assert_eq!(own, bits(&alone.get(place).unwrap()), "{name}, row {place}, {sampler:?}");
            }
        }
    }
}

/// Noising is the loop with clean and corrupted changed about.
#[test]
fn i6_the_other_direction_is_the_loop_bit_for_bit() {
    let mut spec = spec();
    let texts = texts(&spec);
    spec.targets = Targets::Unet {
        reading: Reading::Module,
        only: vec![
            "down_blocks.1.resnets.1".to_owned(),
            "up_blocks.1.attentions.1.transformer_blocks.0.attn2".to_owned(),
        ],
        window: 1,
        controls: vec![Control::Noising],
    };
    let all = trace(model(), &caption(), &spec).unwrap();
    for index in [2, 3] {
        let causal_trace::What::Component(component, Control::Noising) = &all.runs[index] else {
            panic!("{}", all.runs[index])
        };
        let sites = std::slice::from_ref(&component.site);
        let alone = looped::one(model(), &spec.settings, [&texts[1], &texts[0]], sites).unwrap();
        assert_eq!(bits(&all.latents.get(index).unwrap()), bits(&alone.get(2).unwrap()), "{component}");
        assert!(!same(&all, index, CLEAN) && !same(&all, index, CORRUPTED));
    }
}

#[test]
fn i6_other_halves_controls_and_steps_do_not_depend_on_the_schedule() {
    let names = ["down_blocks.1.resnets.1", "mid_block.resnets.0", "up_blocks.2.resnets.1"];
    let attention = "up_blocks.1.attentions.1.transformer_blocks.0.attn2";
    for half in [Half::Cond, Half::Uncond, Half::Both] {
        let mut spec = spec();
        (spec.settings.half, spec.settings.restored_steps) = (half, Some(0..1));
        spec.foreign = Some("two green stars in the style of ivo lund".to_owned());
        spec.targets = Targets::Unet {
            reading: Reading::Module,
            only: names.iter().chain([&attention]).map(|&name| name.to_owned()).collect(),
            window: 1,
            controls: vec![Control::Clean, Control::Foreign, Control::Permuted, Control::Noise],
        };
        let scheduled = trace(model(), &caption(), &spec).unwrap();
        spec.settings.scheduled = false;
        let plain = trace(model(), &caption(), &spec).unwrap();
        assert_eq!(scheduled.runs.len(), 3 + 16);
        assert_eq!(bits(&scheduled.latents), bits(&plain.latents), "{half:?}");
    }
}

/// Windows, own latents, chunks, guidance of 1 and a sampler with fresh noise: none depends on which rows are left out.
#[test]
fn i6_nothing_depends_on_the_schedule_or_on_chunks() {
    let names = [
        "down_blocks.1.resnets.1",
        "up_blocks.0.resnets.2",
        "up_blocks.2.attentions.0.transformer_blocks.0.ff",
    ];
    let unet = |window, controls: &[Control]| Targets::Unet {
        reading: Reading::Module,
        only: names.map(str::to_owned).to_vec(),
        window,
        controls: controls.to_vec(),
    };
    let usual = [Control::Clean, Control::Foreign];
    type Case = (&'static str, Targets, fn(&mut Settings));
    let cases: [Case; 6] = [
        ("a window of three", unet(3, &usual), |_| {}),
        ("own latents", unet(1, &[Control::OwnLatent]), |_| {}),
        ("the other direction", unet(1, &[Control::Noising]), |_| {}),
        ("guidance 1", unet(1, &usual), |settings| settings.guidance = 1.0),
        ("fresh noise", unet(1, &usual), |settings| settings.sampler = Some(SamplerKind::EulerAncestral)),
        ("a stream", unet(1, &usual), |settings| settings.half = Half::Both),
    ];
    for (what, targets, change) in cases {
        let mut spec =
            Spec { targets, foreign: Some("two green stars in the style of ivo lund".to_owned()), ..spec() };
        change(&mut spec.settings);
        let scheduled = trace(model(), &caption(), &spec).unwrap();
        spec.settings.scheduled = false;
        let plain = trace(model(), &caption(), &spec).unwrap();
        assert_eq!(bits(&scheduled.latents), bits(&plain.latents), "{what}");
        (spec.settings.scheduled, spec.settings.memory) = (true, Some(6_000_000));
        let chunked = trace(model(), &caption(), &spec).unwrap();
        assert!(chunked.chunks > 1, "{what}");
        assert_eq!(bits(&scheduled.latents), bits(&chunked.latents), "{what}, in chunks");
    }
}

#[test]
fn i7_at_guidance_1_the_half_without_the_prompt_is_not_there() {
    let mut spec = spec();
    spec.settings.guidance = 1.0;
    let name = "up_blocks.1.resnets.0".to_owned();
    spec.targets = Targets::Unet {
        reading: Reading::Module,
        only: vec![name],
        window: 1,
        controls: vec![Control::Clean],
    };
    let guided_by_one = trace(model(), &caption(), &spec).unwrap();
    let texts = texts(&spec);
    let site = [Site::new("up_blocks.1.resnets.0", Kind::Stream)];
    let alone = looped::one(model(), &spec.settings, [&texts[0], &texts[1]], &site).unwrap();
    assert_eq!(bits(&guided_by_one.latents), bits(&alone));
    assert!(guided_by_one.row_passes < 3.0 * 2.0);
    // And what both halves make at that guidance, eps_u + g·(eps_c − eps_u), is the conditional alone.
    spec.settings.guidance = 1.0 + f64::EPSILON;
    let both = trace(model(), &caption(), &spec).unwrap();
    assert!(both.row_passes > guided_by_one.row_passes, "the other half was computed");
    let apart = (&both.latents - &guided_by_one.latents).unwrap().abs().unwrap().flatten_all().unwrap();
    let apart = apart.max(0).unwrap().to_scalar::<f32>().unwrap();
    assert!(apart < 1e-4, "{apart}");
}

#[test]
fn i8_restored_embeddings_are_the_clean_caption_and_no_earlier_row_changes() {
    let (caption, spec) = (caption(), spec());
    let read = caption.read(&model().tokenizer).unwrap();
    let encoded = spec.corruption.encode(model(), &caption, &read).unwrap();
    // The corrupted caption differs from its first subject token on, and nowhere before.
    let row = |x: &Tensor, token: usize| bits(&x.get(token).unwrap());
    for token in 0..read.prompt.ids.len() {
        let equal = row(&encoded.clean, token) == row(&encoded.corrupted, token);
        assert_eq!(equal, token < read.subject.start, "token {token}");
    }
    // The subject's rows of the embeddings are all that was changed: with the clean ones in their place, the clean caption comes out.
    let (text, subject) = (&model().text_encoder, read.subject.clone());
    let [clean, corrupted] = [0, 1].map(|index| encoded.embedded.get(index).unwrap());
    let (before, behind) = (subject.start, read.prompt.ids.len() - subject.end);
    let parts = [
        corrupted.narrow(0, 0, before).unwrap(),
        clean.narrow(0, before, subject.len()).unwrap(),
        corrupted.narrow(0, subject.end, behind).unwrap(),
    ];
    let mixed = Tensor::stack(&[clean, Tensor::cat(&parts, 0).unwrap()], 0).unwrap();
    let hidden = text.forward_embedded(&mixed, &encoded.ids, &mut NoTap).unwrap().last_hidden_state;
    assert_eq!(bits(&hidden.get(1).unwrap()), bits(&encoded.clean));
    let last = model().text_encoder.config().num_hidden_layers - 1;
    let state = |part, layer, token| causal_trace::TextState { part, layer, token };
    let token = read.last_subject();
    let states = [
        state(TextPart::SelfAttn, 0, token),
        state(TextPart::Mlp, last, token),
        state(TextPart::Block, last, token),
    ];
    let restored = causal_trace::text::restored(&model().text_encoder, &encoded, &states).unwrap();
    for restored in &restored {
        assert!((0..token).all(|at| row(restored, at) == row(&encoded.corrupted, at)));
        assert_ne!(row(restored, token), row(&encoded.corrupted, token));
    }
    assert_eq!(row(&restored[2], token), row(&encoded.clean, token), "the last layer's stream is the output");
    assert_eq!(row(&restored[2], token + 1), row(&encoded.corrupted, token + 1));
}

#[test]
fn corruptions_touch_what_they_say() {
    let (caption, mut spec) = (caption(), spec());
    let read = caption.read(&model().tokenizer).unwrap();
    let rows = |spec: &Spec| -> Vec<bool> {
        let encoded = spec.corruption.encode(model(), &caption, &read).unwrap();
        let row = |x: &Tensor, token: usize| bits(&x.get(token).unwrap());
        (0..read.prompt.ids.len()).map(|at| row(&encoded.clean, at) != row(&encoded.corrupted, at)).collect()
    };
    spec.corruption.mode = Mode::EncoderOut;
    let touched = rows(&spec);
    assert!((0..touched.len()).all(|at| touched[at] == read.subject.contains(&at)));
    spec.corruption.mode = Mode::AllOut;
    assert!(rows(&spec).into_iter().all(|touched| touched));
    spec.corruption.mode = Mode::Swap;
    spec.corruption.other = Some("ivo lund".to_owned());
    let touched = rows(&spec);
    assert!((0..touched.len()).all(|at| touched[at] == (at >= read.subject.start)));
}

/// "top" also stands in "stop": the words are replaced where their tokens are.
#[test]
fn a_swap_replaces_words_and_not_letters() {
    let caption = Caption::new("a star in red", "a");
    let read = caption.read(&model().tokenizer).unwrap();
    let corruption = Corruption { mode: Mode::Swap, other: Some("one".to_owned()), ..Corruption::default() };
    let encoded = corruption.encode(model(), &caption, &read).unwrap();
    let ids = encoded.ids.to_vec2::<u32>().unwrap();
    let expected = model().tokenizer.encode("one star in red").unwrap().ids;
    assert_eq!((&ids[0], &ids[1]), (&read.prompt.ids, &expected));
    let later = Caption::new("star a a star", "a star");
    let read = later.read(&model().tokenizer).unwrap();
    let corruption = Corruption { other: Some("two stars".to_owned()), ..corruption };
    let ids = corruption.encode(model(), &later, &read).unwrap().ids.to_vec2::<u32>().unwrap();
    assert_eq!(ids[1], model().tokenizer.encode("star a two stars").unwrap().ids);
}

#[test]
fn noise_is_drawn_once_and_as_large_as_asked() {
    let (caption, spec) = (caption(), spec());
    let read = caption.read(&model().tokenizer).unwrap();
    let [first, again] = [0, 0].map(|_| spec.corruption.encode(model(), &caption, &read).unwrap());
    assert_eq!(bits(&first.corrupted), bits(&again.corrupted));
    let other = Corruption { draw: 1, ..spec.corruption.clone() };
    assert_ne!(bits(&other.encode(model(), &caption, &read).unwrap().corrupted), bits(&first.corrupted));
    // Norm of 96 normals of 0.5: about 0.5·√96 = 4.9.
    assert!((first.applied.noise - 4.9).abs() < 1.0, "{:?}", first.applied);
    assert_eq!(first.applied.sigma, 0.5);
}

#[test]
fn a_deviation_is_that_of_the_subjects_embeddings_with_begin_and_end() {
    let std = deviation(model(), &["bela cruz", "star"], &Mode::TokenEmbed).unwrap();
    let ids: Vec<u32> = ["bela cruz", "star"]
        .into_iter()
        .flat_map(|subject| {
            let prompt = model().tokenizer.encode(subject).unwrap();
            let words = prompt.spans.iter().flatten().count();
            prompt.ids[..words + 2].to_vec()
        })
        .collect();
    assert_eq!(ids.len(), 4 + 3);
    let table = model().text_encoder.embed(&Tensor::new(vec![ids], &Device::Cpu).unwrap()).unwrap();
    let values = table.flatten_all().unwrap().to_vec1::<f32>().unwrap();
    let mean = values.iter().sum::<f32>() / values.len() as f32;
    let variance = values.iter().map(|x| (x - mean).powi(2)).sum::<f32>() / (values.len() - 1) as f32;
    assert!((std - f64::from(variance.sqrt())).abs() < 1e-6);
}

/// Without a unit of `std:` a trace measures one on its own subject.
#[test]
fn the_default_specification_is_traced_as_it_stands() {
    let mut spec = Spec { targets: spec().targets, ..Spec::default() };
    (spec.settings.steps, spec.settings.guidance) = (1, 4.0);
    if let Targets::Unet { only, .. } = &mut spec.targets {
        only.push("mid_block.resnets.0".to_owned());
    }
    let applied = trace(model(), &caption(), &spec).unwrap().applied;
    let subject = caption().subject;
    let std = deviation(model(), &[&subject], &Mode::TokenEmbed).unwrap();
    assert!((applied.sigma - 3.0 * std).abs() < 1e-12 && applied.noise > 0.0, "{applied:?}");
}

fn refused(caption: &Caption, change: impl FnOnce(&mut Spec)) -> String {
    let mut spec = spec();
    change(&mut spec);
    format!("{:#}", trace(model(), caption, &spec).unwrap_err())
}

#[test]
fn bad_input_is_refused_with_what_to_do() {
    let nothing = |_: &mut Spec| {};
    let said = refused(&Caption::new("a red star", "blue"), nothing);
    assert!(said.contains("a red star") && said.contains("blue") && said.contains("help"), "{said}");
    let said = refused(&Caption::new("a red star ".repeat(8), "red"), nothing);
    assert!(said.contains("too long") && said.contains("would be cut off"), "{said}");
    let said = refused(&caption(), |spec| {
        spec.targets = Targets::Unet {
            reading: Reading::Module,
            only: vec!["up_blocks.1.attentions.1.transformer_blocks.0.attn3".to_owned()],
            window: 1,
            controls: vec![Control::Clean],
        };
    });
    assert!(said.contains("up_blocks.1.attentions.1.transformer_blocks.0.attn2"), "{said}");
    let mut unmeasured = spec().corruption;
    (unmeasured.sigma, unmeasured.std) = (Sigma::Deviations(3.0), None);
    let said = unmeasured.sigma().unwrap_err().to_string();
    assert!(said.contains("not measured") && said.contains("deviation"), "{said}");
    let said = refused(&caption(), |spec| spec.settings.memory = Some(1000));
    assert!(said.contains("allow at least"), "{said}");
    let said = refused(&caption(), |spec| {
        (spec.corruption.mode, spec.corruption.other) = (Mode::Swap, Some("plain".to_owned()));
    });
    assert!(said.contains("2 and 1 tokens"), "{said}");
    let said = refused(&caption(), |spec| spec.settings.restored_steps = Some(1..9));
    assert!(said.contains("1..9 of 2"), "{said}");
    let said = refused(&caption(), |spec| (spec.settings.guidance, spec.settings.half) = (1.0, Half::Both));
    assert!(said.contains("leaves out the half"), "{said}");
    let said = refused(&caption(), |spec| {
        (spec.targets, spec.corruption.mode) = (Targets::text_states(), Mode::AllOut);
    });
    assert!(said.contains("nothing to restore") && said.contains("token_embed"), "{said}");
    for text in ["3", "std:", "abs:-1", "sd:3", "std:nan"] {
        assert!(text.parse::<Sigma>().unwrap_err().to_string().contains("std:K"), "{text}");
    }
    assert_eq!("std:3".parse::<Sigma>().unwrap().to_string(), "std:3");
}
