//! Names, and what a tap may give back.
#![allow(clippy::unwrap_used)]

use candle_core::{Device, Tensor};

use super::*;

fn rows() -> Tensor {
    Tensor::new(&[[0f32, 1.0], [2.0, 3.0], [4.0, 5.0]], &Device::Cpu).unwrap()
}

fn values(x: &Tensor) -> Vec<Vec<f32>> {
    x.to_vec2().unwrap()
}

#[test]
fn a_site_is_called_as_its_module() {
    let name = |kind| Site::new("mid_block.attn1", kind).to_string();
    assert_eq!(name(Kind::Branch), "mid_block.attn1");
    assert_eq!(name(Kind::Map), "mid_block.attn1#map");
    assert_eq!(name(Kind::After), "mid_block.attn1#stream");
}

#[test]
fn rows_are_copied_as_they_were_before() {
    let swapped = copy_rows(&rows(), &[(0, 2), (2, 0)]).unwrap();
    assert_eq!(values(&swapped), [[4.0, 5.0], [2.0, 3.0], [0.0, 1.0]]);
    let message = copy_rows(&rows(), &[(3, 0)]).unwrap_err().to_string();
    assert!(message.contains("batch of 3"), "{message}");
}

#[test]
fn chosen_rows_take_given_values() {
    let site = Site::new("block", Kind::Stream);
    let value = Tensor::new(&[[8f32, 9.0], [6.0, 7.0]], &Device::Cpu).unwrap();
    let mut tap = Replace::default().rows(site.clone(), vec![2, 0], value.clone());
    let patched = site.offer(rows(), &mut tap).unwrap();
    assert_eq!(values(&patched), [[6.0, 7.0], [2.0, 3.0], [8.0, 9.0]]);
    let mut uneven = Replace::default().rows(site.clone(), vec![1], value);
    assert!(site.offer(rows(), &mut uneven).unwrap_err().to_string().contains("1 rows are to be replaced"));
}

#[test]
fn a_gradient_passes_through_what_was_kept_and_to_what_was_put_there() {
    let site = Site::new("block", Kind::Stream);
    let own = candle_core::Var::from_tensor(&rows()).unwrap();
    let given = candle_core::Var::from_tensor(&rows().narrow(0, 0, 1).unwrap()).unwrap();
    let mut tap = Replace::default().rows(site.clone(), vec![1], given.as_tensor().clone());
    let patched = site.offer(own.as_tensor().clone(), &mut tap).unwrap();
    let gradients = patched.sqr().unwrap().sum_all().unwrap().backward().unwrap();
    assert_eq!(values(gradients.get(&own).unwrap()), [[0.0, 2.0], [0.0, 0.0], [8.0, 10.0]]);
    assert_eq!(values(gradients.get(&given).unwrap()), [[0.0, 2.0]]);
}

#[test]
fn the_last_of_several_passes_is_what_a_record_shows() {
    let site = Site::new("block", Kind::Stream);
    let mut record = Record::new(Choice::All);
    site.offer(rows(), &mut record).unwrap();
    site.offer((rows() * 2.0).unwrap(), &mut record).unwrap();
    assert_eq!(record.seen.len(), 2);
    assert_eq!(values(record.at(&site).unwrap())[2], [8.0, 10.0]);
}
