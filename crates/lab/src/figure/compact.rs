//! Marks that follow each other and look alike share a group, which says once how they look.

/// Attributes that say how a mark looks, and that it inherits from its group.
const LOOK: [&str; 6] = ["fill", "stroke", "stroke-width", "font-size", "font-weight", "text-anchor"];

/// One element of the drawing.
#[derive(Debug, PartialEq)]
struct Mark {
    name: String,
    /// The attributes of [`LOOK`] as they are written.
    look: String,
    /// All others.
    place: String,
    /// What stands between the tags.
    text: Option<String>,
}

/// The drawing's elements, as the backend writes them, anew: in the same order, looking the same, each on a line.
pub(super) fn compact(body: &str) -> String {
    let mut rest = body;
    let mut marks = Vec::new();
    let mut out = String::new();
    while let Some((mark, behind)) = next(rest) {
        marks.push(mark);
        rest = behind;
    }
    for run in marks.chunk_by(|a, b| (&a.name, &a.look) == (&b.name, &b.look)) {
        let shared = run.len() > 1 && !run[0].look.is_empty();
        if shared {
            out.push_str(&format!("<g{}>\n", run[0].look));
        }
        for mark in run {
            out.push_str(&mark.written(!shared));
        }
        if shared {
            out.push_str("</g>\n");
        }
    }
    out + rest.trim_start()
}

/// The element that the text begins with, and what comes behind it; nothing where a tag ends or the text is something else.
fn next(text: &str) -> Option<(Mark, &str)> {
    let inside = text.trim_start().strip_prefix('<').filter(|inside| !inside.starts_with('/'))?;
    let (tag, behind) = inside.split_once('>')?;
    let (tag, closed) = tag.strip_suffix('/').map_or((tag, false), |tag| (tag, true));
    let (name, attributes) = tag.split_once(' ').unwrap_or((tag, ""));
    let (mut look, mut place) = (String::new(), String::new());
    for (key, value) in pairs(attributes) {
        let to = if LOOK.contains(&key) { &mut look } else { &mut place };
        to.push_str(&format!(" {key}=\"{}\"", value.trim()));
    }
    let name = name.to_owned();
    if closed {
        return Some((Mark { name, look, place, text: None }, behind));
    }
    let (content, behind) = behind.split_once(&format!("</{name}>"))?;
    Some((Mark { name, look, place, text: Some(content.trim().to_owned()) }, behind))
}

/// The attributes of a tag.
fn pairs(attributes: &str) -> impl Iterator<Item = (&str, &str)> {
    let mut parts = attributes.split('"');
    std::iter::from_fn(move || {
        let key = parts.next()?.trim().strip_suffix('=')?;
        Some((key, parts.next()?))
    })
}

impl Mark {
    fn written(&self, with_look: bool) -> String {
        let Mark { name, look, place, text } = self;
        let look = if with_look { look } else { "" };
        match text {
            None => format!("<{name}{place}{look}/>\n"),
            Some(text) => format!("<{name}{place}{look}>{text}</{name}>\n"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn runs_that_look_alike_share_a_group_and_nothing_else_changes() {
        let body = "\n<rect x=\"1\" fill=\"#AA\"/>\n<rect x=\"2\" fill=\"#AA\"/>\n<rect x=\"3\" fill=\"#BB\"/>\n\
                    <polyline stroke=\"#CC\" points=\"1,2 3,4 \"/>\n<text x=\"5\" dy=\"0.5ex\" fill=\"#AA\">\na &lt; b\n</text>\n\
                    <text x=\"6\" dy=\"0.5ex\" fill=\"#AA\">\nc=\"d\"\n</text>\n</svg>\n";
        let expected = "<g fill=\"#AA\">\n<rect x=\"1\"/>\n<rect x=\"2\"/>\n</g>\n<rect x=\"3\" fill=\"#BB\"/>\n\
                        <polyline points=\"1,2 3,4\" stroke=\"#CC\"/>\n<g fill=\"#AA\">\n\
                        <text x=\"5\" dy=\"0.5ex\">a &lt; b</text>\n<text x=\"6\" dy=\"0.5ex\">c=\"d\"</text>\n</g>\n</svg>\n";
        assert_eq!(compact(body), expected);
    }

    #[test]
    fn a_drawing_without_marks_is_left() {
        assert_eq!(compact("</svg>\n"), "</svg>\n");
        assert_eq!(compact(""), "");
    }
}
