//! What every source file keeps: it says what it is for, stays short, and reaches only what its place allows.

use crate::source::{Source, line_of, words};

/// Most lines of a file that do not belong to a test.
const FILE_LINES: usize = 600;
/// Files that may be longer, how long, and why. Entries only ever shrink.
const LONG_FILES: [(&str, usize, &str); 0] = [];
/// Lines that 95 of 100 functions stay within.
const FUNCTION_LINES_P95: usize = 50;
/// Lines that no function exceeds.
const FUNCTION_LINES: usize = 100;
/// Functions that may be longer, how long, and why. Entries only ever shrink.
const LONG_FUNCTIONS: [(&str, &str, usize, &str); 0] = [];
/// Words by which a comment tells what the code was, not what it is. The plain forms ("no longer") are left out on purpose where
/// they describe the world: "an epoch that is no longer current" is fine.
const CHANGE_WORDS: [&str; 24] = [
    "we no longer",
    "no longer need",
    "no longer use",
    "no longer necessary",
    "no longer require",
    "previously,",
    "previously we",
    "previously this",
    "was previously",
    "were previously",
    "now we",
    "we now",
    "is now done",
    "this was changed",
    "was changed to",
    "was changed from",
    "were changed to",
    "has been changed",
    "has been moved",
    "was renamed",
    "used to be",
    "the old code",
    "the old implementation",
    "as requested",
];
/// Marks of work that is not done.
const UNFINISHED: [&str; 3] = ["TODO", "FIXME", "XXX"];
/// Below these folders a face lives: it reaches the SDK and nothing else of ours.
const FACES: &str = "crates/app/src/";
/// Parts of the program that start or look after a server, and therefore name the server program too.
const SERVER_FACES: [&str; 4] =
    ["crates/app/src/cli/serve.rs", "crates/app/src/cli/invite.rs", "crates/app/src/demo.rs", "crates/app/src/demo/"];
/// The load generator is no face: it speaks the link protocol itself, so that no client's encryption blurs its figures.
const GENERATOR: &str = "crates/app/src/bench";

/// What is wrong with the files.
pub(crate) fn problems(sources: &[Source]) -> Vec<String> {
    let mut problems = Vec::new();
    for source in sources {
        problems.extend(header(source));
        problems.extend(length(source));
        problems.extend(comments(source));
        problems.extend(faces(source));
        problems.extend(mesh(source));
    }
    problems.extend(functions(sources));
    problems
}

fn header(source: &Source) -> Option<String> {
    let first = source.text.lines().next().unwrap_or_default();
    let says = first.strip_prefix("//!").is_some_and(|words| words.trim().len() > 10);
    (!says).then(|| format!("{}:1: begins with a `//!` line that says what the file is for", source.path))
}

fn length(source: &Source) -> Option<String> {
    let budget = LONG_FILES.iter().find(|(path, ..)| *path == source.path).map_or(FILE_LINES, |(_, budget, _)| *budget);
    let lines = source.product_lines();
    (lines > budget)
        .then(|| format!("{}: {lines} lines without tests, {budget} allowed; is there a room of its own in it?", source.path))
}

fn functions(sources: &[Source]) -> Vec<String> {
    let mut problems = Vec::new();
    let mut lengths = Vec::new();
    for source in sources {
        for function in source.functions() {
            if source.is_test(function.line) {
                continue;
            }
            lengths.push(function.length);
            let listed = LONG_FUNCTIONS.iter().find(|(path, name, ..)| *path == source.path && *name == function.name);
            let budget = listed.map_or(FUNCTION_LINES, |(_, _, budget, _)| *budget);
            if function.length > budget {
                let place = format!("{}:{}", source.path, function.line);
                problems.push(format!("{place}: `{}` has {} lines, {budget} allowed", function.name, function.length));
            }
        }
    }
    let p95 = percentile_95(&mut lengths);
    if p95 > FUNCTION_LINES_P95 {
        problems.push(format!("one function in twenty has {p95} lines or more, {FUNCTION_LINES_P95} allowed"));
    }
    problems
}

fn percentile_95(lengths: &mut [usize]) -> usize {
    lengths.sort_unstable();
    lengths.get(lengths.len() * 95 / 100).copied().unwrap_or(0)
}

fn comments(source: &Source) -> Vec<String> {
    // The lists above would find themselves.
    if source.path == "xtask/src/style.rs" {
        return Vec::new();
    }
    let mut problems = Vec::new();
    for (line, comment) in &source.comments {
        let plain = comment.to_lowercase();
        let change = CHANGE_WORDS.iter().filter(|found| plain.contains(**found));
        problems.extend(change.map(|found| format!("{}:{line}: says what changed (\"{found}\"), not what is", source.path)));
        let unfinished = UNFINISHED.iter().filter(|found| words(comment).any(|(_, word)| word == **found));
        problems.extend(unfinished.map(|found| format!("{}:{line}: {found}", source.path)));
    }
    problems
}

fn faces(source: &Source) -> Vec<String> {
    if !source.path.starts_with(FACES) || source.path.starts_with(GENERATOR) {
        return Vec::new();
    }
    let starts_server = SERVER_FACES.iter().any(|place| source.path.starts_with(place));
    words(&source.code)
        .filter(|(_, word)| {
            word.starts_with("parlour_") && *word != "parlour_client" && !(starts_server && *word == "parlour_serverd")
        })
        .filter(|(at, _)| !source.is_test(line_of(&source.code, *at)))
        .map(|(at, word)| {
            format!("{}:{}: a face reaches parlour_client only, not {word}", source.path, line_of(&source.code, at))
        })
        .collect()
}

fn mesh(source: &Source) -> Vec<String> {
    if !source.path.starts_with("crates/proto/src/mesh") {
        return Vec::new();
    }
    let found = ["crate::link", "super::link"].into_iter().filter(|path| source.code.contains(path));
    found.map(|path| format!("{}: the mesh does not use the link ({path})", source.path)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn problems_of(path: &str, text: &str) -> Vec<String> {
        problems(&[Source::new(path.to_owned(), text.to_owned())])
    }

    #[test]
    fn a_file_that_does_not_say_what_it_is_for_is_refused() {
        assert!(problems_of("crates/x/src/a.rs", "//! Names and addresses.\n").is_empty());
        for text in ["", "//!\n", "// Names and addresses.\n", "fn f() {}\n"] {
            assert_eq!(problems_of("crates/x/src/a.rs", text).len(), 1, "{text:?}");
        }
    }

    #[test]
    fn length_counts_product_lines_only() {
        let product = format!("//! Names and addresses.\n{}", "const A: u8 = 1;\n".repeat(FILE_LINES - 1));
        let tests = format!("#[cfg(test)]\nmod tests {{\n{}}}\n", "const A: u8 = 1;\n".repeat(50));
        assert!(problems_of("crates/x/src/a.rs", &format!("{product}{tests}")).is_empty());
        assert_eq!(problems_of("crates/x/src/a.rs", &format!("{product}const B: u8 = 1;\n")).len(), 1);
    }

    #[test]
    fn a_function_beyond_the_bound_is_named() {
        let long = format!("//! Names and addresses.\nfn long() {{\n{}}}\n", "    let a = 1;\n".repeat(FUNCTION_LINES));
        let problems = problems_of("crates/x/src/a.rs", &long);
        assert!(problems.iter().any(|problem| problem.starts_with("crates/x/src/a.rs:2: `long`")), "{problems:?}");
        assert!(problems.iter().any(|problem| problem.starts_with("one function in twenty")), "{problems:?}");
    }

    #[test]
    fn comments_about_changes_are_refused_and_those_about_the_world_are_not() {
        let text = |comment: &str| format!("//! Names and addresses.\n// {comment}\n");
        assert_eq!(problems_of("a.rs", &text("Previously, this was a list.")).len(), 1);
        assert_eq!(problems_of("a.rs", &text("TODO later")).len(), 1);
        assert!(problems_of("a.rs", &text("An epoch that is no longer current.")).is_empty());
        assert!(problems_of("a.rs", "//! Names and addresses.\nconst A: &str = \"we no longer\";\n").is_empty());
    }

    #[test]
    fn a_face_reaches_the_sdk_only() {
        let uses = |name: &str| format!("//! Names and addresses.\nuse {name}::x;\n");
        assert!(problems_of("crates/app/src/cli/send.rs", &uses("parlour_client")).is_empty());
        assert_eq!(problems_of("crates/app/src/cli/send.rs", &uses("parlour_wire")).len(), 1);
        assert_eq!(problems_of("crates/app/src/cli/send.rs", &uses("parlour_serverd")).len(), 1);
        assert!(problems_of("crates/app/src/cli/serve.rs", &uses("parlour_serverd")).is_empty());
        assert_eq!(problems_of("crates/app/src/cli/serve.rs", &uses("parlour_net")).len(), 1);
        assert!(problems_of("crates/client/src/a.rs", &uses("parlour_net")).is_empty());
    }

    #[test]
    fn the_mesh_does_not_use_the_link() {
        assert_eq!(problems_of("crates/proto/src/mesh/view.rs", "//! Names and addresses.\nuse crate::link::Link;\n").len(), 1);
        assert!(
            problems_of("crates/proto/src/mesh/view.rs", "//! Names and addresses.\n// crate::link is not for us.\n").is_empty()
        );
    }
}
