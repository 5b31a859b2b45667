//! `Project`: a project of LXD.

use super::diff::{Diff, Ignore};
use super::step::{Action, Claim, ClaimOn, Step};
use super::{Plan, View, cluster_stands};
use crate::catalog::Owner;
use crate::resources::ObjectRef;
use crate::resources::kinds::ProjectSpec;
use std::collections::BTreeMap;

pub(super) fn plan(
    object: &ObjectRef,
    spec: &ProjectSpec,
    ignore: &Ignore,
    view: &View<'_>,
) -> Plan {
    let mut plan = Plan::nothing(object);
    let projects = match view.world.lxd.projects.get() {
        Ok(projects) => projects,
        Err(why) => {
            plan.unknown("the list of projects", why);
            return plan;
        }
    };
    let seen = projects.get(&object.name);
    let mut diff = Diff::new(
        ignore,
        view.entry(object),
        &view.world.secrets,
        seen.is_some(),
    );
    let none = BTreeMap::new();
    let config = seen.map_or(&none, |p| &p.value.config);
    let merged = diff.config(Owner::Project, "config", &spec.config, config);
    let description = diff.field(
        "description",
        spec.description.as_deref(),
        seen.map_or("", |p| &p.value.description),
    );
    let writable = diff.writable() || seen.is_none();
    diff.finish(&mut plan);
    if !cluster_stands(&mut plan, view) || !writable || !plan.waiting_on.is_empty() {
        return plan;
    }
    let claims = vec![Claim::exclusive(ClaimOn::Object(object.clone()))];
    let name = object.name.clone();
    plan.steps.push(match seen {
        None => Step::new(
            object,
            Action::CreateProject {
                name,
                description,
                config: merged.whole,
            },
            claims,
            format!("make project {}", object.name),
        ),
        Some(seen) => Step::new(
            object,
            Action::PutProject {
                seen: seen.value.clone(),
                etag: seen.etag.clone(),
                description,
                config: merged.whole,
            },
            claims,
            format!("write project {}", object.name),
        ),
    });
    plan
}
