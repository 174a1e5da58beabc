//! What we are built from may be given away under our licence, and comes from the public registry.
//!
//! This is the part of `cargo deny check licenses sources` that needs no second program; `cargo xtask ci` runs the whole of
//! cargo-deny as well where it is installed.

use crate::graph::Graph;

/// Licences that ask for no more than that their text and names, or a changed file, stay open.
const ALLOWED: [&str; 20] = [
    "0BSD",
    "Apache-2.0",
    "Apache-2.0 WITH LLVM-exception",
    "BSD-2-Clause",
    "BSD-3-Clause",
    "BSL-1.0",
    "BlueOak-1.0.0",
    "CC0-1.0",
    "CDLA-Permissive-2.0",
    "ISC",
    "MIT",
    "MIT-0",
    // Copyleft by the file: the crates that have it (hpke-rs, under OpenMLS) are used as they are published.
    "MPL-2.0",
    // SQLCipher: SQLite's blessing, and LibTomCrypt.
    "blessing",
    "WTFPL",
    "OpenSSL",
    "Unicode-3.0",
    "Unlicense",
    "bzip2-1.0.6",
    "Zlib",
];
/// The only place that packages come from.
const REGISTRY: &str = "registry+https://github.com/rust-lang/crates.io-index";
/// Packages that must not come in by any way, and why.
const BANNED: [(&str, &str); 3] = [
    ("native-tls", "TLS is rustls"),
    ("openssl", "TLS is rustls; the OpenSSL in the tree is SQLCipher's cipher only"),
    ("sqlite3-src", "a binary can hold one SQLite only, rusqlite's"),
];

/// Packages under a licence, from a place or of a name that is not allowed.
pub(crate) fn problems(graph: &Graph) -> Vec<String> {
    let mut problems = Vec::new();
    for package in graph.packages.values().filter(|package| !package.member) {
        let label = format!("{} {}", package.name, package.version);
        match &package.licence {
            Some(expression) if allowed(expression) => {}
            Some(expression) => problems.push(format!("{label}: licence {expression} is not on the list")),
            None => problems.push(format!("{label}: declares no licence")),
        }
        match &package.source {
            Some(source) if source == REGISTRY => {}
            source => {
                problems.push(format!("{label}: comes from {}", source.as_deref().unwrap_or("a folder outside the workspace")))
            }
        }
        if let Some((_, reason)) = BANNED.iter().find(|(name, _)| *name == package.name) {
            problems.push(format!("{label}: banned, {reason}"));
        }
    }
    problems
}

/// Whether an SPDX expression can be fulfilled by allowed licences. `AND` binds tighter than `OR`; a slash is an old `OR`.
fn allowed(expression: &str) -> bool {
    let spaced = expression.replace('(', " ( ").replace(')', " ) ").replace('/', " OR ");
    let tokens: Vec<&str> = spaced.split_whitespace().collect();
    let mut parser = Parser { tokens: &tokens, at: 0 };
    parser.any() && parser.at == tokens.len()
}

struct Parser<'a> {
    tokens: &'a [&'a str],
    at: usize,
}

impl Parser<'_> {
    fn take(&mut self, token: &str) -> bool {
        let found = self.tokens.get(self.at) == Some(&token);
        self.at += usize::from(found);
        found
    }

    fn any(&mut self) -> bool {
        let mut good = self.all();
        while self.take("OR") {
            good |= self.all();
        }
        good
    }

    fn all(&mut self) -> bool {
        let mut good = self.one();
        while self.take("AND") {
            good &= self.one();
        }
        good
    }

    fn one(&mut self) -> bool {
        if self.take("(") {
            let good = self.any();
            return self.take(")") && good;
        }
        let Some(name) = self.tokens.get(self.at).copied() else { return false };
        self.at += 1;
        if !self.take("WITH") {
            return ALLOWED.contains(&name);
        }
        let exception = self.tokens.get(self.at).copied().unwrap_or_default();
        self.at += 1;
        ALLOWED.contains(&name) || ALLOWED.contains(&format!("{name} WITH {exception}").as_str())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn expressions_are_read_with_their_precedence() {
        for good in ["MIT", "MIT/Apache-2.0", "GPL-3.0 OR MIT", "(MIT OR GPL-3.0) AND ISC", "Apache-2.0 WITH LLVM-exception OR X"]
        {
            assert!(allowed(good), "{good}");
        }
        for bad in ["GPL-3.0", "MIT AND GPL-3.0", "(MIT", "", "MIT AND", "MIT ISC", "GPL-2.0 WITH x"] {
            assert!(!allowed(bad), "{bad}");
        }
    }
}
