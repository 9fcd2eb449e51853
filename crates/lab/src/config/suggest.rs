//! Nearest names: what was probably meant.

/// The name nearest to `typed`, if it is near enough to be a slip: at most a third of its letters differ, or one is a
/// part of the other.
pub(crate) fn nearest<'a>(typed: &str, known: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    known
        .into_iter()
        .map(|name| (strsim::damerau_levenshtein(&typed.to_lowercase(), &name.to_lowercase()), name))
        .filter(|(distance, name)| *distance <= allowed(typed, name) || is_part(typed, name))
        .min_by_key(|(distance, name)| (*distance, *name))
        .map(|(_, name)| name)
}

fn allowed(typed: &str, name: &str) -> usize {
    typed.chars().count().max(name.chars().count()).div_ceil(3)
}

fn is_part(typed: &str, name: &str) -> bool {
    typed.len() >= 3 && name.len() >= 3 && (name.contains(typed) || typed.contains(name))
}

/// "did you mean `lr`?" where something is near, else nothing.
pub(crate) fn did_you_mean<'a>(typed: &str, known: impl IntoIterator<Item = &'a str>) -> String {
    nearest(typed, known).map(|name| format!("did you mean `{name}`?")).unwrap_or_default()
}

/// "`a`, `b`, `c`", sorted; at most `20` of them.
pub(crate) fn list<'a>(names: impl IntoIterator<Item = &'a str>) -> String {
    let mut names: Vec<&str> = names.into_iter().collect();
    names.sort_unstable();
    let shown: Vec<String> = names.iter().take(20).map(|name| format!("`{name}`")).collect();
    let more = names.len().saturating_sub(20);
    let tail = if more > 0 { format!(" and {more} more") } else { String::new() };
    format!("{}{tail}", shown.join(", "))
}
