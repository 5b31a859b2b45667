//! `microcloud validate`: checks files without a cloud.

use super::Exit;
use crate::resources::{Diagnostic, Reading, files, render};
use std::io::{IsTerminal, Write};
use std::path::PathBuf;

/// Arguments of `microcloud validate`.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Files and folders; `-` is the standard input. They are checked together, as one set
    #[arg(required = true, value_name = "PATH")]
    paths: Vec<PathBuf>,

    /// How to tell what is wrong
    #[arg(short, long, value_enum, default_value_t = Output::Text)]
    output: Output,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
enum Output {
    /// For people, with the lines
    Text,
    /// One line for each error
    Line,
    /// For programs: {"valid", "resources", "errors", "warnings"}
    Json,
}

/// What `-o json` prints; the names are kept stable.
#[derive(serde::Serialize)]
struct Report<'a> {
    valid: bool,
    /// How many resources are valid.
    resources: usize,
    errors: Vec<&'a Diagnostic>,
    /// What is valid and will not do what its writer expects.
    warnings: &'a [Diagnostic],
}

/// Runs the command: 0 when everything is valid, warnings or not; 2 when not or when there is
/// nothing.
pub fn run(args: Args) -> Exit {
    let draft = files::draft(&args.paths, &mut std::io::stdin().lock());
    let warnings = draft.warnings(&[]);
    let reading = draft.check(&[]);
    let errors: Vec<&Diagnostic> = reading
        .broken
        .iter()
        .flat_map(|broken| &broken.diagnostics)
        .collect();
    let valid = errors.is_empty() && !reading.resources.is_empty();
    // A reader that went away (`| head`) does not change whether the files are valid.
    let _ = print(&args, &reading, errors, &warnings, valid);
    if valid { Exit::Done } else { Exit::Invalid }
}

fn print(
    args: &Args,
    reading: &Reading,
    errors: Vec<&Diagnostic>,
    warnings: &[Diagnostic],
    valid: bool,
) -> std::io::Result<()> {
    let (mut out, mut err) = (std::io::stdout().lock(), std::io::stderr().lock());
    let count = reading.resources.len();
    match args.output {
        Output::Json => {
            let report = Report {
                valid,
                resources: count,
                errors,
                warnings,
            };
            serde_json::to_writer_pretty(&mut out, &report)?;
            return writeln!(out);
        }
        Output::Line => {
            for warning in warnings {
                writeln!(err, "warning: {warning}")?;
            }
            for error in &errors {
                writeln!(err, "{error}")?;
            }
        }
        Output::Text => {
            let colored = std::env::var_os("NO_COLOR").is_none_or(|v| v.is_empty());
            let color = colored && std::io::stderr().is_terminal();
            let both = match errors.is_empty() || warnings.is_empty() {
                true => "",
                false => "\n",
            };
            let warnings = render::warnings(warnings, color);
            write!(err, "{warnings}{both}")?;
            write!(err, "{}", render::render(errors.iter().copied(), color))?;
        }
    }
    if !errors.is_empty() {
        return writeln!(err, "\n{}", render::summary(errors.iter().copied()));
    }
    match count {
        0 => writeln!(err, "error: there are no resources"),
        _ => {
            let are = if count == 1 { "is" } else { "are" };
            let warned = match warnings.len() {
                0 => String::new(),
                number => format!(", with {}", super::output::count(number, "warning")),
            };
            let count = super::output::count(count, "resource");
            writeln!(out, "{count} {are} valid{warned}")
        }
    }
}
