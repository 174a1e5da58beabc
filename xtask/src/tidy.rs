//! The invariants of the design that the compiler does not check, all in one run.

use std::path::Path;

use anyhow::{Result, bail};

use crate::{corpus, docs, graph::Graph, licence, style, walk};

/// Runs every check and prints every problem.
pub(crate) fn run(root: &Path) -> Result<()> {
    let graph = Graph::load(root)?;
    let sources = walk::sources(root)?;
    let mut problems = graph.problems();
    problems.extend(licence::problems(&graph));
    problems.extend(style::problems(&sources));
    problems.extend(docs::problems(root, &sources)?);
    problems.extend(corpus::problems(root, &sources)?);
    for problem in &problems {
        eprintln!("{problem}");
    }
    if !problems.is_empty() {
        bail!("tidy: {} problems", problems.len());
    }
    eprintln!("tidy: {} files, {} packages, nothing to say", sources.len(), graph.packages.len());
    Ok(())
}
