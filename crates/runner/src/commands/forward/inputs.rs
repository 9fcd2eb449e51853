//! What a component takes, and what of it a file has: every fault at once.

use std::collections::BTreeMap;
use std::fmt;

use anyhow::{Result, bail};
use candle_core::DType;

/// One side of a tensor.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Side {
    /// Any size, the same wherever the letter stands.
    Free(&'static str),
    /// This size.
    Fixed(usize),
}

/// A tensor that a component takes.
#[derive(Clone, Debug)]
pub(super) struct Takes {
    pub(super) name: String,
    /// The shapes it may have: one, or a shorter one besides.
    pub(super) shapes: Vec<Vec<Side>>,
    pub(super) numbers: Numbers,
}

/// The kind of a tensor's elements.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Numbers {
    /// Floating point, of any width.
    Real,
    /// Whole numbers, of any width.
    Whole,
    /// Either.
    Any,
}

impl Takes {
    pub(super) fn new(name: impl Into<String>, shape: &[Side], numbers: Numbers) -> Self {
        Self { name: name.into(), shapes: vec![shape.to_vec()], numbers }
    }

    pub(super) fn or(mut self, shape: &[Side]) -> Self {
        self.shapes.push(shape.to_vec());
        self
    }
}

impl fmt::Display for Side {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Free(letter) => f.write_str(letter),
            Self::Fixed(size) => write!(f, "{size}"),
        }
    }
}

impl fmt::Display for Takes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let shape = |shape: &Vec<Side>| {
            format!("({})", shape.iter().map(Side::to_string).collect::<Vec<_>>().join(","))
        };
        let shapes: Vec<String> = self.shapes.iter().map(shape).collect();
        let numbers = match self.numbers {
            Numbers::Real => "floating point",
            Numbers::Whole => "whole numbers",
            Numbers::Any => "numbers",
        };
        write!(f, "{} {}, {numbers}", self.name, shapes.join(" or "))
    }
}

/// A tensor that a file has.
#[derive(Clone, Debug)]
pub(super) struct Has {
    pub(super) shape: Vec<usize>,
    /// None where no dtype holds its elements.
    pub(super) dtype: Option<DType>,
}

/// Holds what a file has against what `component` takes.
///
/// # Errors
/// Lists everything missing, unexpected, of another shape or of other numbers, and what is taken.
pub(super) fn check(component: &str, takes: &[Takes], has: &BTreeMap<String, Has>) -> Result<()> {
    let mut bound = BTreeMap::new();
    let mut faults: Vec<String> = takes.iter().filter_map(|one| fault(one, has, &mut bound)).collect();
    let unexpected = has.keys().filter(|name| takes.iter().all(|one| one.name != **name));
    faults.extend(unexpected.map(|name| format!("{name}: unexpected")));
    if faults.is_empty() {
        return Ok(());
    }
    let takes: Vec<String> = takes.iter().map(Takes::to_string).collect();
    bail!("{}\n  expected for {component}:\n    {}", faults.join("\n  "), takes.join("\n    "))
}

fn fault(
    takes: &Takes,
    has: &BTreeMap<String, Has>,
    bound: &mut BTreeMap<&'static str, usize>,
) -> Option<String> {
    let name = &takes.name;
    let Some(Has { shape, dtype }) = has.get(name) else { return Some(format!("{name}: missing")) };
    if !takes.shapes.iter().any(|wanted| fits(wanted, shape, bound)) {
        return Some(format!("{name}: found the shape {shape:?}{}", letters(bound)));
    }
    let whole = dtype.is_some_and(|dtype| dtype.is_int());
    let wrong = match takes.numbers {
        Numbers::Real => whole,
        Numbers::Whole => !whole,
        Numbers::Any => false,
    };
    match dtype {
        Some(dtype) if wrong => Some(format!("{name}: found {dtype:?}")),
        Some(_) => None,
        None => Some(format!("{name}: found elements that are not read here")),
    }
}

/// Whether `shape` is of the form `wanted`; letters that are new are bound then.
fn fits(wanted: &[Side], shape: &[usize], bound: &mut BTreeMap<&'static str, usize>) -> bool {
    if wanted.len() != shape.len() || shape.contains(&0) {
        return false;
    }
    let mut now = bound.clone();
    let fit = wanted.iter().zip(shape).all(|(side, size)| match side {
        Side::Fixed(wanted) => wanted == size,
        Side::Free(letter) => now.entry(letter).or_insert(*size) == size,
    });
    if fit {
        *bound = now;
    }
    fit
}

/// ` with B = 2, H = 8` so that a shape that disagrees with an earlier one is understood.
fn letters(bound: &BTreeMap<&'static str, usize>) -> String {
    let known: Vec<String> = bound.iter().map(|(letter, size)| format!("{letter} = {size}")).collect();
    if known.is_empty() { String::new() } else { format!(", where {}", known.join(", ")) }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn takes() -> Vec<Takes> {
        let (batch, side) = (Side::Free("B"), Side::Free("H"));
        vec![
            Takes::new("sample", &[batch, Side::Fixed(4), side, side], Numbers::Real),
            Takes::new("timestep", &[], Numbers::Any).or(&[batch]),
            Takes::new("input_ids", &[batch, Side::Free("T")], Numbers::Whole),
        ]
    }

    fn has(list: &[(&str, &[usize], DType)]) -> BTreeMap<String, Has> {
        let has = |(name, shape, dtype): &(&str, &[usize], DType)| {
            ((*name).to_owned(), Has { shape: shape.to_vec(), dtype: Some(*dtype) })
        };
        list.iter().map(has).collect()
    }

    #[test]
    fn what_fits_is_taken() {
        for timestep in [&[][..], &[2]] {
            let has = has(&[
                ("sample", &[2, 4, 8, 8], DType::F16),
                ("timestep", timestep, DType::I64),
                ("input_ids", &[2, 77], DType::U32),
            ]);
            check("unet", &takes(), &has).unwrap();
        }
    }

    #[test]
    fn every_fault_is_told_at_once_with_what_is_taken() {
        let has = has(&[
            ("sample", &[2, 4, 8, 8], DType::F32),
            ("timestep", &[3], DType::F32),
            ("input_ids", &[2, 77], DType::F32),
            ("hint", &[1], DType::F32),
        ]);
        let said = check("unet", &takes(), &has).unwrap_err().to_string();
        let parts = [
            "timestep: found the shape [3], where B = 2, H = 8",
            "input_ids: found F32",
            "hint: unexpected",
            "sample (B,4,H,H), floating point",
            "timestep () or (B), numbers",
            "input_ids (B,T), whole numbers",
        ];
        parts.iter().for_each(|part| assert!(said.contains(part), "no {part:?} in\n{said}"));
        let said = check("unet", &takes(), &BTreeMap::new()).unwrap_err().to_string();
        assert_eq!(said.matches(": missing").count(), 3, "{said}");
    }

    #[test]
    fn empty_tensors_fit_nothing() {
        let has = has(&[("sample", &[0, 4, 8, 8], DType::F32)]);
        let said = check("unet", &takes()[..1], &has).unwrap_err().to_string();
        assert!(said.contains("[0, 4, 8, 8]"), "{said}");
    }
}
