//! What holds without any other implementation: patches that change nothing, causality, rows of a batch, refusals.

use candle_core::{DType, Device, Result, Tensor};

use super::super::{Clip, TextModel, TextOutput, VisionModel};
use super::{both_config, filled, prompts, text_config, text_model, values, vision_config, vision_model};
use crate::models::testing::torch_randn;
use crate::nn::{Scope, Specification};
use crate::taps::{Action, Choice, CopyRows, NoTap, Record, Replace, Site, StopAt, Tap, until_stop};

fn sites<M>(new: impl FnOnce(&mut Scope<'_>) -> Result<M>) -> Vec<Site> {
    Specification::of(new).unwrap().sites
}

fn text_sites(name: &str) -> Vec<Site> {
    sites(|scope| TextModel::new(scope, &text_config(name)))
}

fn check_same(a: &TextOutput, b: &TextOutput, what: &str) {
    assert_eq!(values(&a.last_hidden_state), values(&b.last_hidden_state), "{what}");
    assert_eq!(values(&a.pooled), values(&b.pooled), "{what}");
}

#[test]
fn patching_an_activation_with_itself_changes_no_bit() {
    for name in ["sd1", "sd2"] {
        let (model, ids) = (text_model(name), prompts(name));
        let sites = text_sites(name);
        // Maps are compared among passes that make them.
        for choice in
            [sites.iter().filter(|site| !site.to_string().contains("#map")).cloned().collect(), sites]
        {
            let mut record = Record::new(Choice::These(choice));
            let clean = model.forward(&ids, &mut record).unwrap();
            let all = record.seen.iter().fold(Replace::default(), |tap, (site, value)| {
                tap.whole(site.clone(), value.copy().unwrap())
            });
            check_same(&model.forward(&ids, &mut all.clone()).unwrap(), &clean, name);
        }
    }
}

/// Copies a row over itself and asks for all maps, so that the pass takes one way at every site.
struct WithMaps<T>(T);

impl<T: Tap> Tap for WithMaps<T> {
    fn wants(&self, site: &Site) -> bool {
        self.0.wants(site) || site.to_string().ends_with("#map")
    }

    fn visit(&mut self, site: &Site, value: &Tensor) -> Result<Action> {
        if self.0.wants(site) { self.0.visit(site, value) } else { Ok(Action::Keep) }
    }
}

#[test]
fn copying_a_row_over_itself_at_any_site_changes_no_bit_and_each_site_fires_once() {
    let (model, ids) = (text_model("sd2"), prompts("sd2"));
    let clean = model.forward(&ids, &mut WithMaps(NoTap)).unwrap();
    for site in text_sites("sd2") {
        let mut copy = CopyRows::default();
        copy.add(&site, 1, 1);
        check_same(&model.forward(&ids, &mut WithMaps(copy)).unwrap(), &clean, &site.to_string());
        let mut record = Record::new(Choice::These(vec![site.clone()]));
        model.forward(&ids, &mut record).unwrap();
        assert_eq!(record.seen.len(), 1, "{site}");
    }
}

#[test]
fn a_row_patched_at_the_last_stream_is_the_other_rows_output() {
    let (model, ids) = (text_model("sd1"), prompts("sd1"));
    let site =
        text_sites("sd1").into_iter().find(|site| site.to_string() == "text_model.encoder.layers.2").unwrap();
    let mut copy = CopyRows::default();
    copy.add(&site, 0, 1);
    let clean = model.forward(&ids, &mut NoTap).unwrap().last_hidden_state;
    let patched = model.forward(&ids, &mut copy).unwrap().last_hidden_state;
    assert_eq!(values(&patched.get(1).unwrap()), values(&clean.get(0).unwrap()));
    assert_eq!(values(&patched.get(0).unwrap()), values(&clean.get(0).unwrap()));
}

#[test]
fn every_site_reaches_the_output() {
    let (model, ids) = (text_model("projected"), prompts("projected"));
    let clean = values(&model.forward(&ids, &mut WithMaps(NoTap)).unwrap().projected.unwrap());
    for site in text_sites("projected") {
        let mut copy = CopyRows::default();
        copy.add(&site, 0, 1);
        let patched = values(&model.forward(&ids, &mut WithMaps(copy)).unwrap().projected.unwrap());
        let half = clean.len() / 2;
        assert_eq!(patched[..half], clean[..half], "{site}: the row that was not patched");
        assert_ne!(patched[half..], clean[half..], "{site}: the row that was patched");
    }
}

#[test]
fn a_pass_stops_where_a_tap_says() {
    let model = text_model("sd1");
    for site in text_sites("sd1") {
        let mut stop = StopAt::new(site.clone());
        let output = until_stop(&mut stop, |tap| model.forward(&prompts("sd1"), tap)).unwrap();
        assert!(output.is_none() && stop.value.is_some(), "{site}");
    }
}

#[test]
fn a_token_changes_nothing_before_it() {
    let model = text_model("sd2");
    let ids = prompts("sd2");
    let hidden = |ids: &Tensor| {
        let mut record = Record::new(Choice::All);
        model.forward(ids, &mut record).unwrap();
        record.seen
    };
    let clean = hidden(&ids);
    for at in [1, 6, 12] {
        let mut rows = ids.to_vec2::<u32>().unwrap();
        rows.iter_mut().for_each(|row| row[at] = 33);
        let changed = hidden(&Tensor::new(rows, &Device::Cpu).unwrap());
        for ((site, a), (_, b)) in clean.iter().zip(&changed) {
            // Maps have the query's position on the third axis, everything else on the second.
            let axis = if site.to_string().ends_with("#map") { 2 } else { 1 };
            let before = |x: &Tensor| values(&x.narrow(axis, 0, at).unwrap());
            assert_eq!(before(a), before(b), "{site}: token {at}");
        }
        assert_ne!(values(&clean.last().unwrap().1), values(&changed.last().unwrap().1));
    }
}

#[test]
fn a_row_of_a_batch_is_the_run_of_that_row_alone() {
    for name in ["sd1", "sd2", "projected"] {
        let (model, ids) = (text_model(name), prompts(name));
        let both = model.forward(&ids, &mut NoTap).unwrap();
        for row in 0..2 {
            let alone = model.forward(&ids.narrow(0, row, 1).unwrap(), &mut NoTap).unwrap();
            assert_eq!(values(&both.last_hidden_state.get(row).unwrap()), values(&alone.last_hidden_state));
            assert_eq!(values(&both.pooled.get(row).unwrap()), values(&alone.pooled));
        }
    }
    let (model, pixels) = (vision_model(true), torch_randn(3, &[2, 3, 30, 30]));
    let both = model.forward(&pixels, &mut NoTap).unwrap().projected.unwrap();
    let alone = model.forward(&pixels.narrow(0, 1, 1).unwrap(), &mut NoTap).unwrap().projected.unwrap();
    assert_eq!(values(&both.get(1).unwrap()), values(&alone));
}

#[test]
fn a_shorter_window_gives_the_same_first_vectors() {
    let (model, ids) = (text_model("sd1"), prompts("sd1"));
    let long = model.forward(&ids, &mut NoTap).unwrap().last_hidden_state;
    let short = model.forward(&ids.narrow(1, 0, 7).unwrap(), &mut NoTap).unwrap().last_hidden_state;
    let differ = values(&(long.narrow(1, 0, 7).unwrap() - short).unwrap());
    assert!(differ.iter().all(|x| x.abs() <= 1e-5), "{differ:?}");
}

#[test]
fn embeddings_in_the_place_of_ids() {
    let (model, ids) = (text_model("sd1"), prompts("sd1"));
    let clean = model.forward(&ids, &mut NoTap).unwrap();
    let embedded = model.embed(&ids).unwrap();
    assert_eq!(embedded.dims(), [2, 13, 48]);
    check_same(&model.forward_embedded(&embedded, &ids, &mut NoTap).unwrap(), &clean, "the same embeddings");
    // A tap at the token embedding does the same as other embeddings.
    let other = (&embedded + torch_randn(9, &[2, 13, 48])).unwrap();
    let site = text_sites("sd1").into_iter().find(|site| site.path().ends_with("token_embedding")).unwrap();
    let tapped = model.forward(&ids, &mut Replace::default().whole(site, other.clone())).unwrap();
    check_same(&model.forward_embedded(&other, &ids, &mut NoTap).unwrap(), &tapped, "others");
    assert_ne!(values(&tapped.last_hidden_state), values(&clean.last_hidden_state));
}

#[test]
fn the_pooled_vector_is_that_of_the_end_of_text() {
    for (name, ends) in [("sd1", [5, 10]), ("sd2", [5, 10])] {
        let output = text_model(name).forward(&prompts(name), &mut NoTap).unwrap();
        for (row, end) in ends.into_iter().enumerate() {
            let expected = output.last_hidden_state.get(row).unwrap().get(end).unwrap();
            assert_eq!(values(&output.pooled.get(row).unwrap()), values(&expected), "{name}");
        }
    }
    // Without an end-of-text transformers takes the first token.
    let ids = Tensor::new(&[[98u32, 7, 5]], &Device::Cpu).unwrap();
    let output = text_model("sd2").forward(&ids, &mut NoTap).unwrap();
    assert_eq!(values(&output.pooled), values(&output.last_hidden_state.get(0).unwrap().get(0).unwrap()));
}

#[test]
fn clip_skip_zero_is_the_output_and_too_many_are_refused() {
    let model = text_model("sd1");
    let output = model.forward(&prompts("sd1"), &mut NoTap).unwrap();
    assert_eq!(values(&model.skip(&output, 0).unwrap()), values(&output.last_hidden_state));
    assert_eq!((output.hidden_states.len(), model.skip(&output, 3).is_ok()), (4, true));
    let message = model.skip(&output, 4).unwrap_err().to_string();
    assert!(message.contains("expected 0 to 3"), "{message}");
}

#[test]
fn inputs_that_do_not_fit_are_refused_with_what_would() {
    #[track_caller]
    fn check<T>(result: Result<T>, part: &str) {
        let message = result.err().unwrap().to_string();
        assert!(message.contains(part), "no {part:?} in {message}");
    }
    let model = text_model("sd1");
    let ids = |shape: &[usize]| Tensor::zeros(shape, DType::U32, &Device::Cpu).unwrap();
    check(model.forward(&ids(&[2, 14]), &mut NoTap), "1 to 13 tokens");
    check(model.forward(&ids(&[13]), &mut NoTap), "(B,T), found [13]");
    check(model.forward(&ids(&[0, 13]), &mut NoTap), "1 prompt or more");
    check(model.forward(&Tensor::new(&[[100u32]], &Device::Cpu).unwrap(), &mut NoTap), "id 100");
    let embedded = torch_randn(1, &[2, 13, 32]);
    check(model.forward_embedded(&embedded, &ids(&[2, 13]), &mut NoTap), "(2,13,48)");
    let vision = vision_model(false);
    check(vision.forward(&torch_randn(1, &[1, 3, 30, 40]), &mut NoTap), "(B,3,30,30)");
    check(vision.forward(&torch_randn(1, &[3, 30, 30]), &mut NoTap), "(B,3,30,30)");
}

#[test]
fn double_precision_agrees_with_single() {
    let single = text_model("sd2").forward(&prompts("sd2"), &mut NoTap).unwrap().last_hidden_state;
    let double = filled(1, DType::F64, |scope| TextModel::new(scope, &text_config("sd2")));
    let double = double.forward(&prompts("sd2"), &mut NoTap).unwrap().last_hidden_state;
    let differ = values(&(single - double.to_dtype(DType::F32).unwrap()).unwrap());
    assert!(differ.iter().all(|x| x.abs() <= 1e-4));
}

#[test]
fn image_and_joint_sites_can_be_patched_too() {
    let pixels = torch_randn(3, &[2, 3, 30, 30]);
    let model = vision_model(true);
    let clean = values(&model.forward(&pixels, &mut WithMaps(NoTap)).unwrap().projected.unwrap());
    for site in sites(|scope| VisionModel::new(scope, &vision_config(true))) {
        let mut same = CopyRows::default();
        same.add(&site, 1, 1);
        let projected = model.forward(&pixels, &mut WithMaps(same)).unwrap().projected.unwrap();
        assert_eq!(values(&projected), clean, "{site}");
        let mut other = CopyRows::default();
        other.add(&site, 0, 1);
        let projected = model.forward(&pixels, &mut WithMaps(other)).unwrap().projected.unwrap();
        assert_ne!(values(&projected), clean, "{site}");
    }
    let joint = sites(|scope| Clip::new(scope, &both_config()));
    let texts = joint.iter().filter(|site| site.path().starts_with("text_")).count();
    assert_eq!(texts, text_sites("sd2").len() + 1);
}
