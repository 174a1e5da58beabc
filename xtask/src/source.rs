//! A Rust file, split into what is code and what is comment.
//!
//! The checks look for words; words in a string or a comment are not code. A lexer of a hundred lines is enough for that, and
//! it keeps `xtask` free of a parser that would take longer to build than everything it checks.

/// A lexed file.
pub(crate) struct Source {
    /// Path below the workspace, with forward slashes.
    pub(crate) path: String,
    /// The text as it is on disk.
    pub(crate) text: String,
    /// The text with comments and the insides of literals replaced by spaces; the line breaks are where they were.
    pub(crate) code: String,
    /// Comments with the line (from 1) on which each starts.
    pub(crate) comments: Vec<(usize, String)>,
    /// For each line whether it belongs to a test.
    test_lines: Vec<bool>,
}

/// A function: its name and where it stands.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Function {
    /// Its name.
    pub(crate) name: String,
    /// The line of its `fn`, from 1.
    pub(crate) line: usize,
    /// Lines from `fn` to the closing brace; 1 for a declaration without a body.
    pub(crate) length: usize,
}

impl Source {
    /// Lexes `text`.
    pub(crate) fn new(path: String, text: String) -> Self {
        let mut lexer = Lexer { text: &text, at: 0, line: 1, code: String::with_capacity(text.len()), comments: Vec::new() };
        lexer.run();
        let (code, comments) = (lexer.code, lexer.comments);
        let test_lines = test_lines(&path, &code);
        Self { path, text, code, comments, test_lines }
    }

    /// Whether a line (from 1) belongs to a test.
    pub(crate) fn is_test(&self, line: usize) -> bool {
        self.test_lines.get(line.saturating_sub(1)).copied().unwrap_or(false)
    }

    /// How many lines do not belong to a test.
    pub(crate) fn product_lines(&self) -> usize {
        self.test_lines.iter().filter(|test| !**test).count()
    }

    /// Every function of the file.
    pub(crate) fn functions(&self) -> Vec<Function> {
        words(&self.code)
            .filter(|(_, word)| *word == "fn")
            .filter_map(|(at, _)| {
                let (name_at, name) = words(&self.code[at + 2..]).next()?;
                // `fn(u8)` is a type.
                if !self.code[at + 2..at + 2 + name_at].trim().is_empty() {
                    return None;
                }
                let end = item_end(&self.code, at);
                let line = line_of(&self.code, at);
                Some(Function { name: name.to_owned(), line, length: line_of(&self.code, end) - line + 1 })
            })
            .collect()
    }

    /// Whether the file holds a test called `name`. In a conformance suite every function is one, and a scenario is one for each carrier.
    pub(crate) fn has_test(&self, name: &str) -> bool {
        self.is_scenario(name)
            || self.functions().iter().filter(|function| function.name == name).any(|function| {
                let lines: Vec<&str> = self.code.lines().collect();
                let attributes = lines[..function.line - 1].iter().rev().take_while(|line| {
                    let line = line.trim();
                    line.is_empty() || line.starts_with("#[") || line.ends_with(']')
                });
                self.path.contains("suite") || attributes.into_iter().any(|line| line.contains("test"))
            })
    }

    /// Whether `name` is in the list of scenarios that run over every carrier.
    fn is_scenario(&self, name: &str) -> bool {
        let list = self.code.split_once("over_every_carrier! {").and_then(|(_, rest)| rest.split_once('}'));
        list.is_some_and(|(list, _)| words(list).any(|(_, word)| word == name))
    }
}

/// The identifiers and keywords of lexed code, with their offsets.
pub(crate) fn words(code: &str) -> impl Iterator<Item = (usize, &str)> {
    let mut rest = 0;
    std::iter::from_fn(move || {
        let start = rest + code[rest..].find(is_word)?;
        let length = code[start..].find(|c| !is_word(c)).unwrap_or(code.len() - start);
        rest = start + length;
        Some((start, &code[start..rest]))
    })
}

fn is_word(c: char) -> bool {
    c.is_alphanumeric() || c == '_'
}

/// The line (from 1) of an offset.
pub(crate) fn line_of(text: &str, at: usize) -> usize {
    text[..at].bytes().filter(|byte| *byte == b'\n').count() + 1
}

/// The offset of the brace or semicolon that ends the item starting at `from`.
fn item_end(code: &str, from: usize) -> usize {
    let (mut braces, mut brackets) = (0_usize, 0_usize);
    for (offset, byte) in code.as_bytes()[from..].iter().enumerate() {
        match byte {
            b'(' | b'[' => brackets += 1,
            b')' | b']' => brackets = brackets.saturating_sub(1),
            b'{' => braces += 1,
            b'}' => {
                braces = braces.saturating_sub(1);
                if braces == 0 {
                    return from + offset;
                }
            }
            b';' if braces == 0 && brackets == 0 => return from + offset,
            _ => {}
        }
    }
    code.len()
}

/// Marks the lines of test files and of items under `#[cfg(test)]`.
fn test_lines(path: &str, code: &str) -> Vec<bool> {
    let is_test_file = path.split('/').any(|part| ["tests", "benches", "tests.rs"].contains(&part));
    let mut lines = vec![is_test_file; code.lines().count()];
    for (at, attribute) in code.match_indices("#[cfg(test)]") {
        let end = item_end(code, at + attribute.len());
        for line in line_of(code, at)..=line_of(code, end) {
            if let Some(mark) = lines.get_mut(line - 1) {
                *mark = true;
            }
        }
    }
    lines
}

struct Lexer<'a> {
    text: &'a str,
    at: usize,
    line: usize,
    code: String,
    comments: Vec<(usize, String)>,
}

impl Lexer<'_> {
    fn run(&mut self) {
        while let Some(c) = self.rest().chars().next() {
            let rest = self.rest();
            if rest.starts_with("//") {
                let end = rest.find('\n').unwrap_or(rest.len());
                self.comment(end);
            } else if rest.starts_with("/*") {
                self.comment(block_comment(rest));
            } else if let Some(length) = self.raw_string() {
                self.mask(length);
            } else if c == '"' {
                self.mask(quoted(rest, '"'));
            } else if let Some(length) = char_literal(rest) {
                self.mask(length);
            } else {
                self.keep(c);
            }
        }
    }

    fn rest(&self) -> &str {
        &self.text[self.at..]
    }

    fn keep(&mut self, c: char) {
        self.line += usize::from(c == '\n');
        self.code.push(c);
        self.at += c.len_utf8();
    }

    /// Copies `length` bytes as blanks; the delimiters of a literal go with them.
    fn mask(&mut self, length: usize) {
        let masked: String = self.rest()[..length].chars().map(|c| if c == '\n' { '\n' } else { ' ' }).collect();
        self.line += masked.matches('\n').count();
        self.code.push_str(&masked);
        self.at += length;
    }

    fn comment(&mut self, length: usize) {
        let comment = self.rest()[..length].to_owned();
        self.comments.push((self.line, comment));
        self.mask(length);
    }

    /// The length of the raw string that starts here, if one does (`r"…"`, `br#"…"#`).
    fn raw_string(&self) -> Option<usize> {
        if self.code.chars().next_back().is_some_and(is_word) {
            return None;
        }
        let rest = self.rest();
        let prefix = ["r", "br", "cr"]
            .into_iter()
            .find(|prefix| rest.strip_prefix(prefix).is_some_and(|after| after.trim_start_matches('#').starts_with('"')))?;
        let hashes = rest[prefix.len()..].find('"')?;
        let end = format!("\"{}", "#".repeat(hashes));
        let start = prefix.len() + hashes + 1;
        Some(rest[start..].find(&end).map_or(rest.len(), |at| start + at + end.len()))
    }
}

/// The length of the block comment at the start of `rest`; block comments nest.
fn block_comment(rest: &str) -> usize {
    let (mut depth, mut at) = (0_usize, 0);
    while at < rest.len() {
        if rest[at..].starts_with("/*") {
            depth += 1;
            at += 2;
        } else if rest[at..].starts_with("*/") {
            depth -= 1;
            at += 2;
            if depth == 0 {
                return at;
            }
        } else {
            at += rest[at..].chars().next().map_or(1, char::len_utf8);
        }
    }
    rest.len()
}

/// The length of the quoted literal at the start of `rest`, delimiters included.
fn quoted(rest: &str, quote: char) -> usize {
    let mut escaped = false;
    for (at, c) in rest.char_indices().skip(1) {
        match c {
            _ if escaped => escaped = false,
            '\\' => escaped = true,
            _ if c == quote => return at + 1,
            _ => {}
        }
    }
    rest.len()
}

/// The length of the character literal at the start of `rest`; `None` for a lifetime.
fn char_literal(rest: &str) -> Option<usize> {
    let inside = rest.strip_prefix('\'')?;
    let first = inside.chars().next()?;
    if first == '\\' {
        return Some(quoted(rest, '\''));
    }
    inside[first.len_utf8()..].starts_with('\'').then(|| 2 + first.len_utf8())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn source(text: &str) -> Source {
        Source::new("crates/x/src/lib.rs".to_owned(), text.to_owned())
    }

    #[test]
    fn words_in_strings_and_comments_are_not_code() {
        let source =
            source("let a = \"fn no\"; // fn nor\n/* fn x /* nested */ */ let b = r#\"fn \"raw\" \"#; let c = '\"'; fn yes() {}");
        assert_eq!(source.functions().iter().map(|f| f.name.as_str()).collect::<Vec<_>>(), ["yes"]);
        assert_eq!(source.comments.len(), 2);
        assert_eq!(source.comments[0], (1, "// fn nor".to_owned()));
        assert_eq!(source.comments[1].0, 2);
    }

    #[test]
    fn lifetimes_are_not_character_literals() {
        let source = source("fn f<'a>(x: &'a str) -> char { '\\'' }\nfn g() { let _ = 'x'; }");
        assert_eq!(source.functions().len(), 2);
    }

    #[test]
    fn a_function_is_as_long_as_its_braces_say() {
        let source = source("fn one(a: [u8; 2]) {\n    \"}\";\n}\nfn declared();\ntype F = fn(u8);\n");
        let lengths: Vec<_> = source.functions().into_iter().map(|f| (f.line, f.length)).collect();
        assert_eq!(lengths, [(1, 3), (4, 1)]);
    }

    #[test]
    fn test_modules_do_not_count_as_product() {
        let source = source("fn product() {}\n\n#[cfg(test)]\nmod tests {\n    fn helper() {}\n}\n");
        assert_eq!(source.product_lines(), 2);
        assert!(source.is_test(5) && !source.is_test(1));
    }

    #[test]
    fn only_functions_under_a_test_attribute_are_tests() {
        let source =
            source("#[test]\n#[expect(x, reason = \"y\")]\nfn real() {}\n\nfn helper() {}\n#[tokio::test]\nasync fn slow() {}\n");
        assert!(source.has_test("real") && source.has_test("slow"));
        assert!(!source.has_test("helper") && !source.has_test("absent"));
    }

    #[test]
    fn a_scenario_that_runs_over_every_carrier_is_a_test() {
        let source =
            source("over_every_carrier! {\n    real,\n}\n\nasync fn real(way: Way) {}\n\nasync fn helper(way: Way) {}\n");
        assert!(source.has_test("real"));
        assert!(!source.has_test("helper"));
    }
}
