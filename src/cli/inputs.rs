//! The files a command is given.

use super::client::Client;
use super::error::CommandError;
use super::output::{Paint, tell};
use crate::resources::draft::Draft;
use crate::resources::{Diagnostic, ObjectRef, Resource, files, render};
use std::path::PathBuf;

/// The resources of files, folders and `-`, which are valid beside those that are accepted.
///
/// # Errors
/// A document is broken (all errors were shown then), there is none, or the agent did not say
/// what is accepted.
pub async fn resources(client: &Client, paths: &[PathBuf]) -> Result<Vec<Resource>, CommandError> {
    let draft = files::draft(paths, &mut std::io::stdin().lock());
    let others = match client.resources().await {
        Ok(others) => others,
        // What does not even decode is told also without an agent.
        Err(_) if !draft.broken.is_empty() => Vec::new(),
        Err(error) => return Err(error.into()),
    };
    warn(&draft, &others);
    let reading = draft.check(&others);
    refuse_broken(reading.broken.iter().flat_map(|b| &b.diagnostics))?;
    if reading.resources.is_empty() {
        return Err(nothing(paths));
    }
    Ok(reading.resources)
}

/// Tells of what is valid and will not do what its writer expects.
pub fn warn(draft: &Draft, others: &[Resource]) {
    let warnings = draft.warnings(others);
    if !warnings.is_empty() {
        let shown = render::warnings(&warnings, Paint::of_stderr().on());
        tell(&format!("{shown}\n"));
    }
}

/// What the documents of files are, whether they are valid or not.
///
/// # Errors
/// A document cannot even be decoded (all errors were shown then), or there is none.
pub fn references(paths: &[PathBuf]) -> Result<Vec<ObjectRef>, CommandError> {
    let draft: Draft = files::draft(paths, &mut std::io::stdin().lock());
    refuse_broken(draft.broken.iter().flat_map(|b| &b.diagnostics))?;
    let mut objects: Vec<ObjectRef> = draft
        .resources
        .iter()
        .map(|located| located.resource.reference())
        .collect();
    objects.sort();
    objects.dedup();
    if objects.is_empty() {
        return Err(nothing(paths));
    }
    Ok(objects)
}

fn refuse_broken<'a>(
    diagnostics: impl Iterator<Item = &'a Diagnostic> + Clone,
) -> Result<(), CommandError> {
    if diagnostics.clone().next().is_none() {
        return Ok(());
    }
    let shown = render::render(diagnostics.clone(), Paint::of_stderr().on());
    tell(&format!("{shown}\n"));
    Err(CommandError::Files(render::summary(diagnostics)))
}

fn nothing(paths: &[PathBuf]) -> CommandError {
    let names: Vec<String> = paths.iter().map(|p| p.display().to_string()).collect();
    CommandError::Usage(format!("there are no resources in {}", names.join(", ")))
}
