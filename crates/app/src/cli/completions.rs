//! `completions` and `man`: generated from the same definitions as the parser and `--help`.

use std::{fs, path::Path};

use clap::CommandFactory as _;
use parlour_client::{Code, Error};
use serde_json::json;

use super::{
    args::{Cli, CompletionsArgs, ManArgs},
    errors::Failure,
    output::Output,
};

pub(crate) fn completions(args: &CompletionsArgs, output: &Output) -> Result<(), Failure> {
    let mut script = Vec::new();
    clap_complete::generate(args.shell, &mut Cli::command(), "parlour", &mut script);
    output.raw(&script)
}

pub(crate) fn man(args: &ManArgs, output: &Output) -> Result<(), Failure> {
    let Some(folder) = &args.output else {
        let mut page = Vec::new();
        clap_mangen::Man::new(Cli::command()).render(&mut page)?;
        return output.raw(&page);
    };
    let pages = write_pages(folder)
        .map_err(|error| Error::new(Code::READ_ONLY, format!("cannot write the man pages to {}: {error}", folder.display())))?;
    let row = json!({"path": folder.display().to_string(), "pages": pages});
    output.row(&row, |_| format!("{pages} man pages in {}", folder.display()))
}

fn write_pages(folder: &Path) -> std::io::Result<usize> {
    fs::create_dir_all(folder)?;
    clap_mangen::generate_to(Cli::command(), folder)?;
    Ok(fs::read_dir(folder)?.count())
}
