//! How a checkpoint's names may differ from the model's.

/// Other names under which a checkpoint may hold a model's tensors, and tensors that it may hold beside them.
///
/// A tensor is looked for under its own name first, so a checkpoint in today's names is never misread.
#[derive(Clone, Debug, Default)]
pub struct Rules {
    aliases: Vec<(String, String)>,
    prefixes: Vec<String>,
    ignorable: Vec<String>,
    pointwise: bool,
}

impl Rules {
    /// No other names, nothing left over.
    #[must_use]
    pub fn strict() -> Self {
        Self::default()
    }

    /// `AutoencoderKL`: the middle blocks' attention was called `query`, `key`, `value` and `proj_attn` before 2023, and is stored as
    /// 1×1 convolutions in checkpoints that were converted early.
    #[must_use]
    pub fn vae() -> Self {
        let old = [("to_q", "query"), ("to_k", "key"), ("to_v", "value"), ("to_out.0", "proj_attn")];
        old.iter().fold(Self::strict(), |rules, (new, old)| rules.alias(new, old)).pointwise()
    }

    /// CLIP's text encoder: with or without `text_model.` before each name, also out of a file that holds the whole of CLIP, with
    /// the positions that old versions of transformers stored.
    #[must_use]
    pub fn clip_text() -> Self {
        let others =
            ["*position_ids", "vision_model.*", "visual_projection.*", "text_projection.*", "logit_scale"];
        others.iter().fold(Self::strict().prefix("text_model"), |rules, other| rules.ignorable(other))
    }

    /// CLIP's image encoder, as [`Rules::clip_text`] with `vision_model.`.
    #[must_use]
    pub fn clip_vision() -> Self {
        let others =
            ["*position_ids", "text_model.*", "text_projection.*", "visual_projection.*", "logit_scale"];
        others.iter().fold(Self::strict().prefix("vision_model"), |rules, other| rules.ignorable(other))
    }

    /// Where the model says `new`, the checkpoint may say `old`: whole parts of a name (`to_out.0`, not `to_ou`).
    #[must_use]
    pub fn alias(mut self, new: &str, old: &str) -> Self {
        self.aliases.push((new.to_owned(), old.to_owned()));
        self
    }

    /// Names may begin with `prefix.` in the checkpoint and not in the model, or the other way round.
    #[must_use]
    pub fn prefix(mut self, prefix: &str) -> Self {
        self.prefixes.push(format!("{prefix}."));
        self
    }

    /// Names that may be left over; `*` stands for anything, also for nothing.
    #[must_use]
    pub fn ignorable(mut self, pattern: &str) -> Self {
        self.ignorable.push(pattern.to_owned());
        self
    }

    /// A matrix (O, I) may be stored as a 1×1 convolution (O, I, 1, 1).
    #[must_use]
    pub fn pointwise(mut self) -> Self {
        self.pointwise = true;
        self
    }

    /// The names under which the tensor `name` may stand, its own first.
    pub(super) fn names(&self, name: &str) -> Vec<String> {
        let mut names = vec![name.to_owned()];
        names.extend(self.aliases.iter().filter_map(|(new, old)| replaced(name, new, old)));
        for prefix in &self.prefixes {
            let without = name.strip_prefix(prefix.as_str()).map(str::to_owned);
            names.push(without.unwrap_or_else(|| format!("{prefix}{name}")));
        }
        names
    }

    /// Whether a tensor called `name` may be left over.
    pub(super) fn may_be_left(&self, name: &str) -> bool {
        self.ignorable.iter().any(|pattern| matches(pattern, name))
    }

    /// Whether a tensor stored as `found` may be taken for one of shape `expected`.
    pub(super) fn takes(&self, found: &[usize], expected: &[usize]) -> bool {
        found == expected
            || self.pointwise
                && expected.len() == 2
                && found.len() == 4
                && found[..2] == *expected
                && found[2..] == [1, 1]
    }
}

/// `name` with the parts `new` replaced by `old`; none where they are not in it.
fn replaced(name: &str, new: &str, old: &str) -> Option<String> {
    let dotted = format!(".{name}.");
    let at = dotted.find(&format!(".{new}."))?;
    let text = format!("{}{old}{}", &dotted[..=at], &dotted[at + 1 + new.len()..]);
    Some(text.trim_matches('.').to_owned())
}

/// Whether `name` is of the form `pattern`, in which `*` stands for anything.
#[must_use]
pub fn matches(pattern: &str, name: &str) -> bool {
    let Some((before, after)) = pattern.split_once('*') else { return pattern == name };
    let Some(rest) = name.strip_prefix(before) else { return false };
    (0..=rest.len()).filter(|at| rest.is_char_boundary(*at)).any(|at| matches(after, &rest[at..]))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn old_names_are_other_names_of_whole_parts() {
        let names = Rules::vae().names("encoder.mid_block.attentions.0.to_out.0.weight");
        assert_eq!(names[1..], ["encoder.mid_block.attentions.0.proj_attn.weight"]);
        assert_eq!(Rules::vae().names("to_q.bias")[1..], ["query.bias"]);
        assert_eq!(Rules::vae().names("not_to_q.bias").len(), 1);
    }

    #[test]
    fn a_prefix_comes_and_goes() {
        let rules = Rules::strict().prefix("text_model");
        assert_eq!(rules.names("text_model.a.b")[1..], ["a.b"]);
        assert_eq!(rules.names("a.b")[1..], ["text_model.a.b"]);
    }

    #[test]
    fn stars_stand_for_anything() {
        let yes = [
            ("*.position_ids", "a.b.position_ids"),
            ("a*", "a"),
            ("*", "x"),
            ("a.*.c*", "a.b.b.cd"),
            ("é*", "éü"),
        ];
        let no = [("*.position_ids", "position_ids"), ("a*c", "ab"), ("a", "ab"), ("", "a")];
        assert!(yes.iter().all(|(pattern, name)| matches(pattern, name)));
        assert!(no.iter().all(|(pattern, name)| !matches(pattern, name)));
    }

    #[test]
    fn only_a_pointwise_kernel_is_taken_for_a_matrix() {
        assert!(Rules::vae().takes(&[4, 3, 1, 1], &[4, 3]));
        for found in [&[4, 3, 3, 1][..], &[3, 4, 1, 1], &[4, 3, 1], &[12]] {
            assert!(!Rules::vae().takes(found, &[4, 3]), "{found:?}");
        }
        assert!(!Rules::strict().takes(&[4, 3, 1, 1], &[4, 3]));
    }
}
