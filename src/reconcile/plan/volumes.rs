//! What LXD keeps of its own in a pool: a volume on every member, and the member's key that names it.
//!
//! The volumes belong to the plan of the pool, the keys to those of the members: a key is only set
//! when the volume is there, and a volume only goes when no key names it any more. When a line is
//! taken out of `volumes`, the keys are unset, which has LXD move what is there back to its system
//! disk, and the volumes stay: what may hold data never goes because something was left out.

use super::step::{Action, Claim, ClaimOn, Step};
use super::{Change, Plan, Topic, View, Waiting, reasons};
use crate::reconcile::desired::Desired;
use crate::resources::kinds::{MemberState, ServerVolume, StoragePoolSpec};
use crate::resources::object::DEFAULT_PROJECT;
use crate::resources::value::{Config, ConfigValue, Presence};
use crate::resources::{Kind, ObjectRef, Spec};
use crate::services::lxd::decode_name;
use crate::services::lxd::types::Pool;
use std::collections::{BTreeMap, BTreeSet};

/// How many volumes are made at once.
const AT_ONCE: usize = 12;

/// The pools with volumes of LXD's own.
fn pools(desired: &Desired) -> impl Iterator<Item = (&ObjectRef, &StoragePoolSpec)> {
    desired
        .of_kind(Kind::StoragePool)
        .filter_map(|(object, resource)| match &resource.spec {
            Spec::StoragePool(spec) if !spec.volumes.is_empty() => Some((object, spec)),
            _ => None,
        })
}

/// Whether any pool has volumes of LXD's own, so that the members' keys must be known.
pub(super) fn wanted(desired: &Desired) -> bool {
    pools(desired).next().is_some()
}

/// Whether members are to keep something elsewhere than they were: their plans change, though
/// nothing of their own resources did.
pub(in crate::reconcile) fn moves_server_volumes(before: &Desired, after: &Desired) -> bool {
    fn said(desired: &Desired) -> Vec<(&ObjectRef, &BTreeSet<ServerVolume>, Presence)> {
        let all = pools(desired);
        all.map(|(object, spec)| (object, &spec.volumes, spec.state))
            .collect()
    }
    said(before) != said(after)
}

/// A volume of LXD's own, if this is the URL of one among what uses its pool.
fn of_url(pool: &str, url: &str) -> Option<(String, ServerVolume)> {
    let (path, query) = url.split_once('?')?;
    let rest = path.strip_prefix("/1.0/storage-pools/")?;
    let (in_pool, name) = rest.split_once("/volumes/custom/")?;
    let volume = ServerVolume::ALL.into_iter().find(|v| v.name() == name)?;
    let word = |key: &str| {
        let words = query.split('&').filter_map(|word| word.split_once('='));
        words
            .filter(|(k, _)| *k == key)
            .map(|(_, value)| decode_name(value))
            .next()
    };
    let own = word("project").is_none_or(|project| project == DEFAULT_PROJECT);
    let member = word("target").filter(|_| own && decode_name(in_pool) == pool)?;
    Some((member, volume))
}

/// The volumes of LXD's own that a pool has, by member.
fn there(pool: &Pool) -> impl Iterator<Item = (String, ServerVolume)> {
    let urls = pool.used_by.iter();
    urls.filter_map(|url| of_url(&pool.name, url))
}

fn has(pool: &Pool, member: &str, volume: ServerVolume) -> bool {
    there(pool).any(|(on, v)| on == member && v == volume)
}

/// What uses a pool besides the volumes that go with it.
pub(super) fn other_users(spec: &StoragePoolSpec, pool: &Pool) -> Vec<String> {
    let own = |url: &&String| {
        of_url(&pool.name, url).is_some_and(|(_, volume)| spec.volumes.contains(&volume))
    };
    let urls = pool.used_by.iter();
    urls.filter(|url| !own(url)).cloned().collect()
}

/// Adds to the plan of a pool that is there the volumes it lacks on members that stay.
pub(super) fn make(
    object: &ObjectRef,
    spec: &StoragePoolSpec,
    pool: &Pool,
    view: &View<'_>,
    plan: &mut Plan,
) {
    let Some(members) = view.world.lxd.members.known() else {
        return;
    };
    let mut steps = Vec::new();
    for (member, row) in members {
        let stays = view.desired.member(member);
        if stays.is_none_or(|m| m.state == MemberState::Absent) || !pool.locations.contains(member)
        {
            continue;
        }
        for volume in &spec.volumes {
            if has(pool, member, *volume) {
                continue;
            }
            let path = format!("members.{member}.volumes.{}", volume.name());
            plan.grown.insert(path.clone());
            plan.changed(Change::new(path, None, Some("made")));
            if !matches!(row.value.status.as_str(), "Online" | "Evacuated") {
                plan.wait(
                    Topic::Down,
                    reasons::MEMBER_DOWN,
                    format!(
                        "{member} is not online, and has no volume {} yet",
                        volume.within(&object.name)
                    ),
                );
                continue;
            }
            let action = Action::CreateVolume {
                pool: object.name.clone(),
                name: volume.name().to_owned(),
                member: member.clone(),
            };
            let claims = vec![
                Claim::shared(ClaimOn::Object(object.clone())),
                Claim::shared(ClaimOn::Membership),
            ];
            let sentence = format!("make volume {} on {member}", volume.within(&object.name));
            steps.push(Step::new(object, action, claims, sentence).beside());
        }
    }
    steps.truncate(AT_ONCE);
    // What differs of the pool itself is written first, and whatever holds that up holds these up.
    if plan.steps.is_empty() && plan.refused.is_empty() {
        plan.steps = steps;
    }
}

/// Whether a pool still has what members keep in it: until its deletion is approved.
fn is_kept(object: &ObjectRef, spec: &StoragePoolSpec, view: &View<'_>) -> bool {
    let deletion = super::pool::deletion(object);
    spec.state == Presence::Present || !view.memory.approved(&deletion, view.now)
}

/// Adds to a member's own server keys what they say of pools, unless the member says it itself.
/// What is not there yet is waited for.
pub(super) fn server_keys(
    member: &str,
    keys: &mut Config,
    own: Option<&BTreeMap<String, String>>,
    view: &View<'_>,
) -> Vec<Waiting> {
    let mut waiting = Vec::new();
    let pools_seen = view.world.lxd.pools.known();
    for (object, spec) in pools(view.desired) {
        if !is_kept(object, spec, view) {
            continue;
        }
        for volume in &spec.volumes {
            let (key, value) = (volume.key(), volume.within(&object.name));
            if keys.contains_key(key) {
                continue;
            }
            let named = own.is_some_and(|own| own.get(key) == Some(&value));
            let seen = pools_seen.and_then(|pools| pools.get(&object.name));
            if named || seen.is_some_and(|pool| has(&pool.whole.value, member, *volume)) {
                keys.insert(key.to_owned(), ConfigValue::Plain(value));
            } else if spec.state == Presence::Present {
                // It stays what it is until then.
                if let Some(now) = own.and_then(|own| own.get(key)) {
                    keys.insert(key.to_owned(), ConfigValue::Plain(now.clone()));
                }
                waiting.push(Waiting {
                    on: Topic::Object(object.clone()),
                    reason: reasons::DEPENDENCY.to_owned(),
                    message: format!("there is no volume {value} on {member} yet"),
                });
            }
        }
    }
    waiting
}

/// What is left to do of the volumes of a pool that goes: its steps, or what they wait for.
pub(super) fn with_pool(
    object: &ObjectRef,
    spec: &StoragePoolSpec,
    pool: &Pool,
    view: &View<'_>,
    plan: &mut Plan,
) {
    for (member, volume) in there(pool).filter(|(_, v)| spec.volumes.contains(v)) {
        let value = volume.within(&object.name);
        let own = view.world.lxd.member_config.get(&member).map(|o| o.get());
        match own {
            Some(Ok(own)) if own.get(volume.key()) != Some(&value) => {
                plan.steps
                    .push(delete(object, &object.name, &member, volume));
            }
            Some(Ok(_)) => plan.wait(
                Topic::Object(ObjectRef::new(Kind::Member, member.clone())),
                reasons::DEPENDENCY,
                format!("{member} still keeps its {} in {value}", volume.name()),
            ),
            Some(Err(why)) => plan.unknown(&format!("the server keys of {member}"), why),
            None => plan.unknown(
                &format!("the server keys of {member}"),
                "they were not read yet",
            ),
        }
    }
    if !plan.waiting_on.is_empty() {
        plan.steps.clear();
    }
}

fn delete(object: &ObjectRef, pool: &str, member: &str, volume: ServerVolume) -> Step {
    let action = Action::DeleteVolume {
        pool: pool.to_owned(),
        name: volume.name().to_owned(),
        member: member.to_owned(),
    };
    let claims = vec![
        Claim::exclusive(ClaimOn::Object(object.clone())),
        Claim::shared(ClaimOn::Membership),
    ];
    let sentence = format!("delete volume {} of {member}", volume.within(pool));
    Step::new(object, action, claims, sentence)
}

/// What lies on a member that is to leave, as `Lxd::held_by` words it, without what goes with it.
pub(super) fn others_held(held: &[String], view: &View<'_>) -> Vec<String> {
    let words =
        |pool: &str, volume: ServerVolume| format!("volume {} of pool {pool}", volume.name());
    let own = |what: &&String| {
        pools(view.desired).any(|(object, spec)| {
            let mut volumes = spec.volumes.iter();
            volumes.any(|volume| **what == words(&object.name, *volume))
        })
    };
    held.iter().filter(|what| !own(what)).cloned().collect()
}

/// The next steps by which a member that leaves keeps nothing in pools any more; none when it does
/// not. Its keys are unset first, which has LXD move what is there to the system disk.
///
/// # Errors
/// Why they cannot be planned now.
pub(super) fn leave(object: &ObjectRef, view: &View<'_>) -> Result<Vec<Step>, String> {
    let member = &object.name;
    let seen = view.world.lxd.pools.known();
    let mut unset = Config::new();
    let mut steps = Vec::new();
    for (pool, spec) in pools(view.desired) {
        let Some(found) = seen.and_then(|pools| pools.get(&pool.name)) else {
            continue;
        };
        for volume in &spec.volumes {
            if !has(&found.whole.value, member, *volume) {
                continue;
            }
            let own = match view.world.lxd.member_config.get(member).map(|o| o.get()) {
                Some(Ok(own)) => own,
                Some(Err(why)) => return Err(why.to_owned()),
                None => return Err("they were not read yet".to_owned()),
            };
            if own.get(volume.key()) == Some(&volume.within(&pool.name)) {
                unset.insert(volume.key().to_owned(), ConfigValue::Plain(String::new()));
            }
            steps.push(delete(object, &pool.name, member, *volume));
        }
    }
    if unset.is_empty() {
        return Ok(steps);
    }
    let action = Action::PatchServer {
        target: Some(member.clone()),
        config: unset,
    };
    let claims = vec![
        Claim::exclusive(ClaimOn::Member(member.clone())),
        Claim::shared(ClaimOn::Membership),
    ];
    let sentence = format!("have {member} keep nothing of its own in pools");
    Ok(vec![Step::new(object, action, claims, sentence)])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_volumes_of_lxds_own_on_a_member_are_its_own() {
        let found = |url: &str| of_url("my pool", url);
        let at = "/1.0/storage-pools/my%20pool/volumes/custom";
        assert_eq!(
            found(&format!("{at}/images?target=m1")),
            Some(("m1".to_owned(), ServerVolume::Images))
        );
        assert_eq!(
            found(&format!("{at}/backups?project=default&target=m%2E2")),
            Some(("m.2".to_owned(), ServerVolume::Backups))
        );
        for other in [
            format!("{at}/images"),
            format!("{at}/data?target=m1"),
            format!("{at}/images?project=team&target=m1"),
            "/1.0/storage-pools/other/volumes/custom/images?target=m1".to_owned(),
            "/1.0/instances/images?target=m1".to_owned(),
        ] {
            assert_eq!(found(&other), None, "{other}");
        }
    }
}
