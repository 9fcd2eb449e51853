//! Every element where it belongs, whatever the strides.
#![allow(clippy::unwrap_used)]

use candle_core::{Result, Tensor};

use super::contiguous;
use crate::ops::testing::{check_gradient, check_threads, normal};

const VIEWS: [fn(&Tensor) -> Result<Tensor>; 7] = [
    |x| x.transpose(1, 2),
    |x| x.transpose(0, 2),
    |x| x.permute((2, 0, 1)),
    |x| x.narrow(2, 1, 1),
    |x| x.narrow(1, 1, 2)?.transpose(0, 1),
    |x| x.narrow(0, 0, 1)?.broadcast_as(x.shape()),
    |x| x.narrow(2, 0, 1)?.broadcast_as(x.shape()),
];

#[test]
fn every_view_is_copied_as_its_indices_say() {
    for shape in [[3, 5, 7], [2, 33, 65], [1, 16, 16], [40, 17, 3], [2, 3000, 11]] {
        let x = normal(1, &shape);
        for (which, view) in VIEWS.into_iter().enumerate() {
            let view = view(&x).unwrap();
            let y = contiguous(&view).unwrap();
            assert!(y.is_contiguous());
            // candle's own copy is the definition, one element at a time.
            let expected = view.force_contiguous().unwrap();
            let values = |x: &Tensor| x.flatten_all().unwrap().to_vec1::<f64>().unwrap();
            assert!(values(&y) == values(&expected), "{shape:?}, view {which}");
        }
    }
}

#[test]
fn the_gradient_is_the_identity_and_threads_change_nothing() {
    let x = normal(2, &[3, 4, 5]);
    for view in VIEWS {
        check_gradient(std::slice::from_ref(&x), |x| contiguous(&view(&x[0])?)?.sqr());
    }
    check_threads(&[normal(3, &[2, 300, 70])], |x| contiguous(&x[0].transpose(1, 2)?));
}

#[test]
fn vectors_and_numbers_are_views_too() {
    let x = normal(4, &[6]);
    let even = x.reshape((3, 2)).unwrap().narrow(1, 0, 1).unwrap().squeeze(1).unwrap();
    assert_eq!(contiguous(&even).unwrap().dims(), [3]);
    let number = x.narrow(0, 3, 1).unwrap().squeeze(0).unwrap();
    assert_eq!(contiguous(&number).unwrap().to_vec0::<f64>().unwrap(), x.to_vec1::<f64>().unwrap()[3]);
}
