//! Validation: of every resource alone, and of all resources together.
//!
//! An error here makes the document broken: its last good version stays in force. So only what can
//! never be right is an error. References to things that may exist without a resource (the pool of
//! a profile's root disk, say) are checked in the world, not here.

mod cluster;
mod config;
mod context;
mod disk;
mod member;
mod names;
mod network;
mod profile;
mod storage_pool;
mod uplink;
mod warnings;

use super::Diagnostic;
use super::check::nearest;
use super::decode::Located;
use super::object::{Kind, ObjectRef};
use super::positions::{Step, at};
use super::resource::{Resource, Spec};
use super::shape::{self, Shape};
use super::source::Broken;
use super::value::{Common, Config};
use crate::catalog::Owner;
use context::Context;

/// What is wrong with resources, each with its identity; resources without an error are left out.
pub fn validate(resources: &[Located]) -> Vec<(ObjectRef, Vec<Diagnostic>)> {
    findings(resources, &[], &[])
        .into_iter()
        .zip(resources)
        .filter(|(diagnostics, _)| !diagnostics.is_empty())
        .map(|(diagnostics, located)| (located.resource.reference(), diagnostics))
        .collect()
}

/// What is wrong with each of `resources`, in their order. `others` are resources of other
/// sources; `broken` are documents beside them that did not decode.
pub fn findings(
    resources: &[Located],
    others: &[Resource],
    broken: &[Broken],
) -> Vec<Vec<Diagnostic>> {
    let context = Context::new(resources, others, broken);
    resources
        .iter()
        .map(|located| {
            let mut check = Check {
                located,
                context: &context,
                found: Vec::new(),
            };
            check.everything();
            check.found.sort_by_key(|d| (d.line, d.column));
            check.found
        })
        .collect()
}

/// What is valid and yet will not do what its writer expects, of all of `resources`, in the order of
/// their places; `others` and `broken` as in [`findings`].
pub fn warnings(resources: &[Located], others: &[Resource], broken: &[Broken]) -> Vec<Diagnostic> {
    let context = Context::new(resources, others, broken);
    let mut found = Vec::new();
    for located in resources {
        let mut check = Check {
            located,
            context: &context,
            found: Vec::new(),
        };
        check.everything();
        // What is wrong is mended first.
        if check.found.is_empty() {
            check.warnings();
            found.append(&mut check.found);
        }
    }
    found.sort_by(|a, b| (&a.file, a.line, a.column).cmp(&(&b.file, b.line, b.column)));
    found
}

/// The check of one resource.
struct Check<'a> {
    located: &'a Located,
    context: &'a Context<'a>,
    found: Vec<Diagnostic>,
}

impl<'a> Check<'a> {
    fn everything(&mut self) {
        self.identity();
        self.common();
        match &self.located.resource.spec {
            Spec::Cluster(spec) => self.cluster(spec),
            Spec::Member(spec) => self.member(spec),
            Spec::Disk(spec) => self.disk(spec),
            Spec::Uplink(spec) => self.uplink(spec),
            Spec::StoragePool(spec) => self.storage_pool(spec),
            Spec::Project(spec) => self.project(&spec.config),
            Spec::Network(spec) => self.network(spec),
            Spec::Profile(spec) => self.profile(spec),
        }
    }

    fn name(&self) -> &'a str {
        &self.located.resource.metadata.name
    }

    /// Reports the value at a path.
    fn wrong(&mut self, path: &[Step<'_>], message: impl Into<String>) -> &mut Diagnostic {
        let diagnostic = self.located.positions.value(path, message);
        self.push(diagnostic)
    }

    /// Reports the key at the end of a path.
    fn wrong_key(&mut self, path: &[Step<'_>], message: impl Into<String>) -> &mut Diagnostic {
        let diagnostic = self.located.positions.key(path, message);
        self.push(diagnostic)
    }

    fn push(&mut self, diagnostic: Diagnostic) -> &mut Diagnostic {
        let last = self.found.len();
        self.found.push(diagnostic);
        &mut self.found[last]
    }

    /// Names, projects, and two resources of one identity.
    fn identity(&mut self) {
        let resource = &self.located.resource;
        let kind = resource.kind();
        if let Err(problem) = names::check(kind, self.name()) {
            self.wrong(at!["metadata", "name"], problem.message).help = problem.help;
        }
        self.project_of(kind, resource);
        let reference = resource.reference();
        if let Some(first) = self.context.twin(&reference, &resource.origin) {
            let message = format!("`{reference}` is written twice");
            self.wrong(at!["metadata", "name"], message).help =
                Some(format!("the other one is at {first}; remove one of them"));
        }
        let rival = match kind {
            Kind::Uplink => Kind::Network,
            Kind::Network if reference.project == super::object::DEFAULT_PROJECT => Kind::Uplink,
            _ => return,
        };
        if let Some(origin) = self.context.origin(&ObjectRef::new(rival, self.name())) {
            let message = format!("{kind} and {rival} `{}` would be one network", self.name());
            self.wrong(at!["metadata", "name"], message).help = Some(format!(
                "the {rival} is at {origin}; give one of them another name"
            ));
        }
    }

    fn project_of(&mut self, kind: Kind, resource: &Resource) {
        let Some(project) = &resource.metadata.project else {
            return;
        };
        let path = at!["metadata", "project"];
        if !kind.in_project() {
            if project != super::object::DEFAULT_PROJECT {
                self.wrong_key(path, format!("a {kind} is in no project"))
                    .help = Some("remove `project`".to_owned());
            }
            return;
        }
        if project == names::OWN_PROJECT {
            self.wrong(
                path,
                format!("the project `{project}` is this program's own"),
            )
            .help = Some("use another one".to_owned());
        } else if let Err(problem) = names::check(Kind::Project, project) {
            self.wrong(path, problem.message).help = problem.help;
        }
    }

    /// The fields every kind has.
    fn common(&mut self) {
        let Common { ignore, .. } = self.located.resource.spec.common();
        let kind = self.located.resource.kind();
        let fields = match shape::of_kind(kind).get("spec").map(|f| &f.shape) {
            Some(Shape::Fields(fields)) => fields,
            _ => return,
        };
        let names: Vec<&str> = fields
            .keys()
            .map(String::as_str)
            .filter(|n| !matches!(*n, "ignore" | "mode" | "deletion"))
            .collect();
        for (place, path) in ignore.iter().enumerate() {
            let at = at!["spec", "ignore", place];
            let Some(first) = first_field(path) else {
                self.wrong(at, format!("`{path}` is not a field path")).help =
                    Some("write it like `config.limits.cpu` or `ipv4.ranges[0]`".to_owned());
                continue;
            };
            if names.contains(&first) {
                continue;
            }
            let help = match path.strip_prefix("spec.") {
                Some(rest) => format!("paths begin below `spec`: write `{rest}`"),
                None => match nearest(first, &names) {
                    Some(near) => format!("did you mean `{near}{}`?", &path[first.len()..]),
                    None => format!("paths begin with {}", super::check::listed(&names)),
                },
            };
            self.wrong(at, format!("a {kind} has no field `{first}`"))
                .help = Some(help);
        }
    }

    fn project(&mut self, config: &'a Config) {
        if self.name() == names::OWN_PROJECT {
            self.wrong(
                at!["metadata", "name"],
                format!("the project `{}` is this program's own", names::OWN_PROJECT),
            )
            .help = Some("give it another name".to_owned());
        }
        self.config(at!["spec", "config"], config, Owner::Project);
    }

    /// A name of a resource of `kind` that is not there.
    fn dangling(&mut self, path: &[Step<'_>], kind: Kind, name: &str) {
        if self.context.exists(&ObjectRef::new(kind, name)) {
            return;
        }
        let help = self.context.help_for_missing(kind, name);
        self.wrong(path, format!("there is no {kind} `{name}`"))
            .help = Some(help);
    }

    /// Like [`Check::dangling`], for a mapping that is keyed by names.
    fn dangling_key(&mut self, path: &[Step<'_>], kind: Kind, name: &str) {
        if self.context.exists(&ObjectRef::new(kind, name)) {
            return;
        }
        let help = self.context.help_for_missing(kind, name);
        self.wrong_key(path, format!("there is no {kind} `{name}`"))
            .help = Some(help);
    }
}

/// The first field of a path such as `config.limits.cpu` or `ipv4.ranges[0]`, when the path is
/// well formed.
fn first_field(path: &str) -> Option<&str> {
    let well_formed = |part: &str| {
        let (name, index) = match part.split_once('[') {
            Some((name, index)) => (name, Some(index)),
            None => (part, None),
        };
        let digits = |text: &str| !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit());
        !name.is_empty()
            && !name.contains(|c: char| c.is_whitespace() || c.is_control() || c == ']')
            && index.is_none_or(|index| index.strip_suffix(']').is_some_and(digits))
    };
    if path.is_empty() || !path.split('.').all(well_formed) {
        return None;
    }
    path.split(['.', '[']).next()
}

#[cfg(test)]
mod tests;
