//! Overrides from the command line, `key.path=value`, and the walk along a dotted path.

use super::error::{ConfigError, Origin, Problem};
use super::suggest::{did_you_mean, list};
use crate::yaml::{self, Entry, Node, Place, Value};

/// Sets what `typed` (override number `index`) names in `root`.
///
/// A key may contain dots: at every step the longest key that fits is taken. Every key on the way must be there; the last
/// one may be new, and whether it may stand there is found when the document is decoded.
pub(super) fn apply(root: &mut Node, index: usize, typed: &str, name: &str) -> Result<(), ConfigError> {
    let problem = |what: String, expected: String, help: String| -> ConfigError {
        let origin = Origin::CommandLine { typed: typed.to_owned(), name: name.to_owned() };
        Problem { origin, what, expected, found: String::new(), help }.into()
    };
    let Some((path, text)) = typed.split_once('=').filter(|(path, _)| !path.is_empty()) else {
        return Err(problem("not an override".into(), "key.path=value".into(), "write `-s seeds=5`".into()));
    };
    let mut value = yaml::parse(text).map_err(|error| {
        problem(format!("the value is {}", error.what), String::new(), "put text in quotes".into())
    })?;
    value.move_to(Place::Override(index));
    set(root, path, value, index).map_err(|missed| {
        let what = format!("there is no `{}` in {}", missed.key, missed.inside);
        let known: Vec<&str> = missed.known.iter().map(String::as_str).collect();
        problem(what, list(known.iter().copied()), did_you_mean(&missed.key, known.iter().copied()))
    })
}

/// A step of a path that led nowhere.
struct Missed {
    key: String,
    inside: String,
    known: Vec<String>,
}

fn set(root: &mut Node, path: &str, value: Node, index: usize) -> Result<(), Missed> {
    let mut node = root;
    let mut rest = path;
    loop {
        let walked = path[..path.len() - rest.len()].trim_end_matches('.').to_owned();
        if is_new_leaf(node, rest) {
            insert(node, rest, value, index);
            return Ok(());
        }
        let known = names(node);
        let Some((child, after)) = step(node, rest, index) else {
            let inside = if walked.is_empty() { "the experiment".to_owned() } else { format!("`{walked}`") };
            let key = rest.split('.').next().unwrap_or(rest).to_owned();
            return Err(Missed { key, inside, known });
        };
        if after.is_empty() {
            *child = value;
            return Ok(());
        }
        node = child;
        rest = after;
    }
}

fn is_new_leaf(node: &Node, rest: &str) -> bool {
    match &node.value {
        Value::Map(entries) => !rest.contains('.') && entries.iter().all(|entry| entry.key != rest),
        _ => false,
    }
}

fn insert(node: &mut Node, key: &str, value: Node, index: usize) {
    if let Value::Map(entries) = &mut node.value {
        entries.push(Entry { key: key.to_owned(), place: Place::Override(index), value });
    }
}

/// Names one level below a node: keys, or numbers of items.
fn names(node: &Node) -> Vec<String> {
    match &node.value {
        Value::Map(entries) => entries.iter().map(|entry| entry.key.clone()).collect(),
        Value::List(items) => (0..items.len()).map(|index| index.to_string()).collect(),
        _ => Vec::new(),
    }
}

/// One step down, marking what was walked over as touched by override `index` where it ends there.
fn step<'a, 'p>(node: &'a mut Node, rest: &'p str, index: usize) -> Option<(&'a mut Node, &'p str)> {
    match &mut node.value {
        Value::Map(entries) => {
            let (found, after) = longest(entries, rest)?;
            let entry = &mut entries[found];
            if after.is_empty() {
                entry.place = Place::Override(index);
            }
            Some((&mut entry.value, after))
        }
        Value::List(items) => {
            let (number, after) = rest.split_once('.').unwrap_or((rest, ""));
            Some((items.get_mut(number.parse::<usize>().ok()?)?, after))
        }
        _ => None,
    }
}

/// The longest key of `entries` that `rest` starts with, and what of `rest` follows it.
fn longest<'p>(entries: &[Entry], rest: &'p str) -> Option<(usize, &'p str)> {
    let fits = |(index, entry): (usize, &Entry)| {
        let after = rest.strip_prefix(entry.key.as_str())?;
        if after.is_empty() { Some((index, after)) } else { Some((index, after.strip_prefix('.')?)) }
    };
    entries.iter().enumerate().filter_map(fits).min_by_key(|(_, after)| after.len())
}

/// Place of the deepest key of `path` that is in the document, and the value there if the whole path is.
pub(super) fn find<'a>(root: &'a Node, path: &str) -> (Option<Place>, Option<&'a Node>) {
    let (mut node, mut rest, mut place) = (root, path, None);
    while !rest.is_empty() {
        let next = match &node.value {
            Value::Map(entries) => longest(entries, rest)
                .map(|(index, after)| (entries[index].place, &entries[index].value, after)),
            Value::List(items) => {
                let (number, after) = rest.split_once('.').unwrap_or((rest, ""));
                number
                    .parse()
                    .ok()
                    .and_then(|index: usize| items.get(index))
                    .map(|item| (item.place, item, after))
            }
            _ => None,
        };
        let Some((at, below, after)) = next else { return (place, None) };
        (place, node, rest) = (Some(at), below, after);
    }
    (place, Some(node))
}
