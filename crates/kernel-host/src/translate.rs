//! From CUDA C++ to C++: what no macro can do, and the list of a file's kernels.
//!
//! `__shared__` stands before declarations that the host must make static and must know by name, and before `extern`
//! declarations that must become a pointer. Everything else is `kernel_host.h`'s.

/// An entry point as the preprocessed source has it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Entry {
    pub(crate) name: String,
    /// The first argument of `__launch_bounds__`, a C++ expression; `0` where there is none.
    pub(crate) bound: String,
}

/// The source with its `__shared__` declarations in terms of `kernel_host.h`; lines stay where they are.
pub(crate) fn translate(source: &str) -> Result<String, String> {
    let mut out = String::new();
    let mut rest = source;
    while let Some(at) = find_code(rest, "__shared__") {
        let (before, after) = (&rest[..at], &rest[at + "__shared__".len()..]);
        let end = after.find(';').ok_or("`__shared__` without a `;` after it")?;
        let declaration = &after[..end];
        if let Some(before) = before.trim_end().strip_suffix("extern") {
            out.push_str(before);
            out.push_str(&dynamic(declaration)?);
        } else {
            out.push_str(before);
            out.push_str(&fixed(declaration)?);
        }
        rest = &after[end + 1..];
    }
    out.push_str(rest);
    Ok(out)
}

/// `float x[]` → a pointer to the dynamic shared memory.
fn dynamic(declaration: &str) -> Result<String, String> {
    let (_, declaration) = alignment(declaration);
    let inside = declaration.split_once('[').map(|(before, _)| before.trim());
    let split = inside.and_then(|inside| inside.rsplit_once(char::is_whitespace));
    let (kind, name) = split.ok_or_else(|| format!("`extern __shared__{declaration}` is no array"))?;
    Ok(format!("{kind} *const {name} = KERNEL_HOST_DYNAMIC({kind});", kind = kind.trim()))
}

/// `float a[4], b` → static arrays, each announced by name.
fn fixed(declaration: &str) -> Result<String, String> {
    let (aligned, declaration) = alignment(declaration);
    let mut out = format!("{aligned}static{declaration};");
    for declarator in declarators(declaration) {
        let name = name_of(declarator).ok_or_else(|| format!("`__shared__{declaration}` has no name"))?;
        out.push_str(&format!(" KERNEL_HOST_SHARED({name});"));
    }
    Ok(out)
}

/// A leading `alignas(n)` or `__align__(n)`, as an attribute that may stand before `static`.
fn alignment(declaration: &str) -> (String, &str) {
    let trimmed = declaration.trim_start();
    for word in ["alignas(", "__align__("] {
        if let Some((bytes, rest)) = trimmed.strip_prefix(word).and_then(|rest| rest.split_once(')')) {
            return (format!("__attribute__((aligned({bytes}))) "), rest);
        }
    }
    (String::new(), declaration)
}

/// The parts between commas that stand outside all brackets.
fn declarators(declaration: &str) -> Vec<&str> {
    let (mut depth, mut start, mut parts) = (0i32, 0, Vec::new());
    for (at, c) in declaration.char_indices() {
        match c {
            '(' | '[' | '{' | '<' => depth += 1,
            ')' | ']' | '}' | '>' => depth -= 1,
            ',' if depth == 0 => {
                parts.push(&declaration[start..at]);
                start = at + 1;
            }
            _ => {}
        }
    }
    parts.push(&declaration[start..]);
    parts
}

/// The identifier before the first `[`, or the last one.
fn name_of(declarator: &str) -> Option<&str> {
    let before = declarator.split_once('[').map_or(declarator, |(before, _)| before).trim_end();
    let start = before.rfind(|c: char| !is_word(c)).map_or(0, |at| at + 1);
    Some(&before[start..]).filter(|name| !name.is_empty())
}

fn is_word(c: char) -> bool {
    c.is_alphanumeric() || c == '_'
}

/// The first place of `word` outside comments.
fn find_code(text: &str, word: &str) -> Option<usize> {
    let mut at = 0;
    while at < text.len() {
        let rest = &text[at..];
        let skipped = if rest.starts_with("//") {
            rest.find('\n').unwrap_or(rest.len())
        } else if rest.starts_with("/*") {
            rest.find("*/").map_or(rest.len(), |end| end + 2)
        } else if rest.starts_with(word) {
            return Some(at);
        } else {
            rest.chars().next().map_or(1, char::len_utf8)
        };
        at += skipped;
    }
    None
}

/// The kernels of a source preprocessed with `KERNEL_HOST_LIST`, in its order.
pub(crate) fn entries(preprocessed: &str) -> Result<Vec<Entry>, String> {
    let found = preprocessed.match_indices("KERNEL_HOST_GLOBAL").map(|(at, word)| {
        let external = preprocessed[..at].trim_end().ends_with("extern \"C\"");
        entry(&preprocessed[at + word.len()..], external)
    });
    found.collect()
}

fn entry(after: &str, external: bool) -> Result<Entry, String> {
    let mut signature = after.to_owned();
    let mut bound = "0".to_owned();
    if let Some((before, rest)) =
        after.split_once("KERNEL_HOST_BOUNDS(").filter(|(before, _)| !before.contains('('))
    {
        let end = closing(rest).ok_or("`__launch_bounds__` is not closed")?;
        bound = declarators(&rest[..end])[0].trim().to_owned();
        signature = format!("{before}{}", &rest[end + 1..]);
    }
    let name =
        signature.split_once('(').and_then(|(before, _)| name_of(before)).ok_or("a kernel without a name")?;
    if external {
        Ok(Entry { name: name.to_owned(), bound })
    } else {
        Err(format!("kernel {name} is not `extern \"C\"`"))
    }
}

/// Where the bracket closes that stands open at the start.
fn closing(text: &str) -> Option<usize> {
    let mut depth = 1;
    text.char_indices().find_map(|(at, c)| {
        depth += i32::from(c == '(') - i32::from(c == ')');
        (depth == 0).then_some(at)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shared_declarations_become_static_and_known() {
        let cases = [
            ("__shared__ float tile[32][33];", "static float tile[32][33]; KERNEL_HOST_SHARED(tile);"),
            (
                "  __shared__ float a[W * (H + 1)], b;",
                "  static float a[W * (H + 1)], b; KERNEL_HOST_SHARED(a); KERNEL_HOST_SHARED(b);",
            ),
            ("__shared__ Tile<float, 3> t[2];", "static Tile<float, 3> t[2]; KERNEL_HOST_SHARED(t);"),
            (
                "__shared__ alignas(16) T x[4];",
                "__attribute__((aligned(16))) static T x[4]; KERNEL_HOST_SHARED(x);",
            ),
            (
                "extern __shared__ float dynamic_shared[];",
                "float *const dynamic_shared = KERNEL_HOST_DYNAMIC(float);",
            ),
            (
                "extern __shared__ __align__(16) unsigned char bytes[];",
                "unsigned char *const bytes = KERNEL_HOST_DYNAMIC(unsigned char);",
            ),
        ];
        for (given, wanted) in cases {
            assert_eq!(translate(given).unwrap(), wanted);
        }
    }

    #[test]
    fn comments_and_everything_else_stay() {
        let text = "// __shared__ float x[3];\n/* __shared__ */ int main() { return 0; } // é\n";
        assert_eq!(translate(text).unwrap(), text);
        assert!(translate("__shared__ float x[3]").is_err());
        assert!(translate("extern __shared__ float x;").is_err());
    }

    #[test]
    fn kernels_are_listed_with_their_bounds() {
        let text = "extern \"C\" KERNEL_HOST_GLOBAL void a_f32(const float *x) {}\n\
                    extern \"C\" KERNEL_HOST_GLOBAL void KERNEL_HOST_BOUNDS(f(2, 3), 4) b(int n) {}\n\
                    extern \"C\" KERNEL_HOST_GLOBAL KERNEL_HOST_BOUNDS(kThreads) void c(int n) {}\n";
        let entry = |name: &str, bound: &str| Entry { name: name.into(), bound: bound.into() };
        assert_eq!(
            entries(text).unwrap(),
            [entry("a_f32", "0"), entry("b", "f(2, 3)"), entry("c", "kThreads")]
        );
        assert!(entries("static KERNEL_HOST_GLOBAL void f() {}").unwrap_err().contains("kernel f is not"));
    }
}
