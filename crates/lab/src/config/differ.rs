//! Walks over a whole tree: the first value that is not finite, and what differs between two configurations.

use crate::yaml::{Node, Value};

/// Path and value of the first NaN or infinity.
pub(super) fn first_not_finite(node: &Node) -> Option<(String, f64)> {
    match &node.value {
        Value::Float(value) if !value.is_finite() => Some((String::new(), *value)),
        Value::List(items) => items
            .iter()
            .enumerate()
            .find_map(|(index, item)| below(&index.to_string(), first_not_finite(item))),
        Value::Map(entries) => {
            entries.iter().find_map(|entry| below(&entry.key, first_not_finite(&entry.value)))
        }
        _ => None,
    }
}

fn below(name: &str, found: Option<(String, f64)>) -> Option<(String, f64)> {
    let (path, value) = found?;
    Some((if path.is_empty() { name.to_owned() } else { format!("{name}.{path}") }, value))
}
