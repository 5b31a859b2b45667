//! Reading the world: everything at the start, after every reconnect and restart and at the
//! interval; single objects when an event names them; machines by their heartbeat.

use super::{Inner, State};
use crate::reconcile::history::Severity;
use crate::reconcile::plan::{self, Topic};
use crate::reconcile::world::{HostView, LxdWorld, Seen};
use crate::reconcile::{secrets, store};
use crate::resources::kinds::{MemberState, ServerVolume};
use crate::resources::object::DEFAULT_PROJECT;
use crate::resources::{Kind, ObjectRef};
use crate::services::host::{Beat, HostError, HostReport, HostTarget, LxdReport};
use crate::services::lxd::types::{Lifecycle, Member, Versioned};
use crate::services::lxd::{Event, decode_name};
use futures_util::StreamExt;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::mpsc;
use tokio::time::Instant;

/// A restarted LXD loses events for some seconds without any connection breaking: what happened
/// in them is found by looking once more after this time.
const LOOK_AGAIN: Duration = Duration::from_secs(15);

/// How often each machine's agent is asked for its heartbeat.
const HEARTBEAT: Duration = Duration::from_secs(2);

/// How often a machine that is not in the cluster yet is looked at: somebody may be mending it.
const STRANGER: Duration = Duration::from_secs(4);

/// How soon everything is read again when a part could not be.
const UNREAD: Duration = Duration::from_secs(2);

/// LXD says that a member is offline some 20 s after it went silent, and no event tells.
const OFFLINE: Duration = Duration::from_secs(25);

/// How often LXD is asked who is there while it takes a member for offline that answers.
const MEMBERS: Duration = Duration::from_secs(4);

/// Of a change that LXD makes on every member it tells from each as that one is done, and who
/// asked for it last of all. To write while it is still at it makes both writes fail (5.0.2: the
/// members' firewalls and name servers are in the midst of a change), so the last one is waited
/// for, but not longer than this.
const SPREADING: Duration = Duration::from_secs(2);

/// How long agents may lack the newest trust store while it goes on changing.
const TRUST_HELD: Duration = Duration::from_secs(30);

/// How many machines are asked at once.
const TOGETHER: usize = 32;

/// Makes full looks: when asked for, and at the interval.
pub(super) async fn services(inner: Arc<Inner>, mut requests: mpsc::UnboundedReceiver<Duration>) {
    let mut due: BTreeSet<Instant> = [Instant::now()].into();
    loop {
        let interval = inner.state().desired.interval();
        let next = due
            .first()
            .copied()
            .unwrap_or_else(|| Instant::now() + interval);
        // Cancel safe: a request is taken or stays.
        tokio::select! {
            () = inner.cancel.cancelled() => return,
            Some(delay) = requests.recv() => {
                due.insert(Instant::now() + delay);
                continue;
            }
            () = tokio::time::sleep_until(next) => {}
        }
        let now = Instant::now();
        // Nothing asked for this one: what nobody tells of is found out now, such as a disk that
        // was plugged in or a program that was installed.
        let regular = due.is_empty();
        due.retain(|at| *at > now);
        if *inner.synced.borrow() {
            inner.look_at_everything().await;
            if regular {
                inner.look_at_machines().await;
            }
        } else {
            // Both at once: who takes over because a machine is lost waits for it in both.
            tokio::join!(inner.look_at_everything(), inner.look_at_who_answers());
        }
        inner.wake_all(&inner.state());
        if !*inner.synced.borrow() {
            inner.try_paths().await;
            tracing::info!("everything was looked at");
            inner.synced.send_replace(true);
        }
    }
}

/// Follows LXD's events.
pub(super) async fn events(inner: Arc<Inner>) {
    let mut events = std::pin::pin!(inner.lxd.events());
    let mut connected = false;
    loop {
        let event = tokio::select! {
            () = inner.cancel.cancelled() => return,
            event = events.next() => event,
        };
        match event {
            Some(Event::Connected) => {
                // The first look is made anyway.
                if connected {
                    inner.look_twice();
                }
                connected = true;
            }
            Some(Event::Lost(error)) => {
                connected = true;
                let now = inner.clock.now();
                inner.state().tell(
                    now,
                    None,
                    Severity::Warning,
                    "EventsLost",
                    format!("LXD's events are not heard: {error}"),
                );
            }
            Some(Event::Lifecycle(event)) => inner.heard(event).await,
            None => return,
        }
    }
}

/// What an event is about.
enum About {
    Object(ObjectRef),
    /// Who is in the cluster.
    Members,
    /// The server's keys: those of all, or of the member it was done on.
    Server,
    Everything,
    Nothing,
}

fn about(event: &Lifecycle) -> About {
    let path = event.source.split('?').next().unwrap_or_default();
    let Some(rest) = path.strip_prefix("/1.0") else {
        return About::Nothing;
    };
    let segments: Vec<&str> = rest.split('/').filter(|s| !s.is_empty()).collect();
    let named = |kind: Kind, name: &str| {
        let name = decode_name(name);
        if kind.in_project() {
            About::Object(ObjectRef::in_project(kind, event.project.clone(), name))
        } else {
            About::Object(ObjectRef::new(kind, name))
        }
    };
    if event.action.ends_with("-renamed") {
        let watched = matches!(
            segments.first().copied(),
            Some("profiles" | "networks" | "projects" | "cluster" | "storage-pools")
        );
        return if watched {
            About::Everything
        } else {
            About::Nothing
        };
    }
    match segments.as_slice() {
        [] => About::Server,
        ["profiles", name] => named(Kind::Profile, name),
        ["storage-pools", name] => named(Kind::StoragePool, name),
        // LXD 5.0 puts the project's name in front of the volume's.
        ["storage-pools", name, "volumes", "custom", volume]
            if ServerVolume::ALL
                .iter()
                .any(|v| volume.strip_prefix("default_").unwrap_or(volume) == v.name()) =>
        {
            named(Kind::StoragePool, name)
        }
        ["networks", name] => named(Kind::Network, name),
        // The memory's own writes.
        ["projects", name] if *name == store::PROJECT => About::Nothing,
        ["projects", name] => named(Kind::Project, name),
        ["cluster", "members", name] => match event.action.as_str() {
            "cluster-member-updated" | "cluster-member-evacuated" | "cluster-member-restored" => {
                named(Kind::Member, name)
            }
            _ => About::Members,
        },
        ["cluster", ..] => About::Members,
        _ => About::Nothing,
    }
}

impl Inner {
    async fn heard(&self, event: Lifecycle) {
        let object = match about(&event) {
            About::Object(object) => object,
            About::Members => {
                if !self.state().in_flight.changes_membership() {
                    self.look_at_members().await;
                }
                return;
            }
            About::Server => {
                let cluster = self.state().desired.cluster().map(|(c, _)| c.clone());
                let member = (!event.location.is_empty())
                    .then(|| ObjectRef::new(Kind::Member, event.location.clone()));
                self.changed_objects(cluster.into_iter().chain(member).collect(), &event);
                return;
            }
            About::Everything => {
                // A member that was just written is one object; everything else about the
                // cluster is rare enough to look at all of it.
                let busy = !self.state().in_flight.is_empty();
                self.look(if busy {
                    Duration::from_secs(1)
                } else {
                    Duration::ZERO
                });
                return;
            }
            About::Nothing => return,
        };
        // An uplink is a network to LXD.
        let mut objects = vec![object.clone()];
        if object.kind == Kind::Network && object.project == DEFAULT_PROJECT {
            objects.push(ObjectRef::new(Kind::Uplink, object.name.clone()));
        }
        let managed = self.changed_objects(objects, &event);
        if managed.is_empty() {
            // Not ours, but somebody may wait for it.
            if self.look_at(&object).await.is_err() {
                self.look(UNREAD);
            }
            let state = self.state();
            self.wake_waiting(&state, &Topic::Object(object));
        }
    }

    /// Marks those of these objects that are managed, and wakes them; gives them back.
    fn changed_objects(&self, mut objects: Vec<ObjectRef>, event: &Lifecycle) -> Vec<ObjectRef> {
        let mut state = self.state();
        objects.retain(|o| {
            state.desired.resources.contains_key(o) || state.memory.inventory.contains_key(o)
        });
        for object in &objects {
            state.world.dirty.insert(object.clone());
            // Of one change LXD tells from every member, and says on one only who made it.
            let known = state
                .foreign
                .get(object)
                .is_some_and(|f| f.action == event.action && f.requestor.is_some());
            if event.requestor.is_some() || !known {
                state.foreign.insert(object.clone(), event.clone());
            }
        }
        drop(state);
        for object in &objects {
            let spreads = matches!(
                object.kind,
                Kind::Network | Kind::Uplink | Kind::StoragePool
            );
            let delay = match spreads && event.requestor.is_none() {
                true => SPREADING,
                false => Duration::ZERO,
            };
            self.wake(object, delay);
        }
        objects
    }

    /// Reads everything again.
    pub(super) async fn look_at_everything(&self) {
        let (needs, desired, key) = {
            let mut state = self.state();
            state.fresher = Some(BTreeSet::new());
            state.look_again = false;
            (
                state.needs.clone(),
                state.desired.clone(),
                state.memory.hash_key.clone(),
            )
        };
        let specs = desired.resources.values().map(|r| &r.spec);
        let secrets = secrets::look(specs, key.as_bytes(), self.clock.now()).await;
        let lxd: LxdWorld = self.observer.everything(&needs).await;
        let mut state = self.state();
        if unread(&lxd) && !state.look_again {
            state.look_again = true;
            self.look(UNREAD);
        }
        self.with_members(&mut state, |state| state.world.lxd = lxd);
        // Resources that came meanwhile need what this look did not know that it was to read, and
        // their secrets were read when they came.
        if state.needs != needs {
            let resources = state.desired.resources.iter();
            let detailed: Vec<ObjectRef> = resources
                .filter(|(_, resource)| plan::reads_parts(resource, &state.desired))
                .map(|(object, _)| object.clone())
                .collect();
            state.world.dirty.extend(detailed);
        }
        if Arc::ptr_eq(&state.desired, &desired) {
            state.world.secrets = secrets;
        }
        state.counters.looks += 1;
        let fresher = state.fresher.take().unwrap_or_default();
        state.world.dirty.extend(fresher);
        self.wake_waiting(&state, &Topic::World);
        self.wake_waiting(&state, &Topic::Members);
        self.show();
    }

    /// Reads who is in the cluster again, and marks what is managed by member: a new one has parts
    /// of it too.
    pub(super) async fn look_at_members(&self) {
        let (members, groups) = self.observer.membership().await;
        let mut state = self.state();
        if members.known().is_none() {
            self.look(UNREAD);
        }
        let names = |seen: &Seen<BTreeMap<String, Versioned<Member>>>| -> BTreeSet<String> {
            seen.known()
                .map(|m| m.keys().cloned().collect())
                .unwrap_or_default()
        };
        let moved: Vec<String> = names(&state.world.lxd.members)
            .symmetric_difference(&names(&members))
            .cloned()
            .collect();
        self.with_members(&mut state, |state| state.world.lxd.members = members);
        state.world.lxd.groups = groups;
        if !moved.is_empty() {
            state.moved = true;
            // Also where nothing waits: what was refused because of an old row is not any more.
            for name in moved {
                self.wake(&ObjectRef::new(Kind::Member, name), Duration::ZERO);
            }
            let parts: Vec<ObjectRef> = state
                .desired
                .resources
                .iter()
                .filter(|(o, resource)| {
                    let key = (o.project.clone(), o.name.clone());
                    match o.kind {
                        Kind::StoragePool => {
                            state.needs.pools.contains(&o.name) || plan::keeps_volumes(resource)
                        }
                        Kind::Network | Kind::Uplink => state.needs.networks.contains(&key),
                        _ => false,
                    }
                })
                .map(|(object, _)| object.clone())
                .collect();
            state.world.dirty.extend(parts.iter().cloned());
            if state.coming.is_empty() {
                for object in &parts {
                    self.wake(object, Duration::ZERO);
                }
            } else {
                // Each has a part on each member: they are read once, when everybody is there.
                state.parts.extend(parts);
            }
        }
        self.wake_waiting(&state, &Topic::Members);
    }

    /// Changes what is known of the members, and wakes what waits for those that are down.
    pub(super) fn with_members<T>(
        &self,
        state: &mut State,
        change: impl FnOnce(&mut State) -> T,
    ) -> T {
        let down = |state: &State| -> Vec<String> {
            let down = state.world.members_down();
            down.into_iter().map(str::to_owned).collect()
        };
        let before = down(state);
        let done = change(state);
        if down(state) != before {
            self.wake_waiting(state, &Topic::Down);
        }
        done
    }

    /// Looks at everything now, and once more when a restarted LXD loses no events any more.
    pub(super) fn look_twice(&self) {
        self.look(Duration::ZERO);
        self.look(LOOK_AGAIN);
    }

    /// Reads the secrets again, after resources changed.
    pub(super) async fn look_at_secrets(&self) {
        let (desired, key) = {
            let state = self.state();
            (state.desired.clone(), state.memory.hash_key.clone())
        };
        let specs = desired.resources.values().map(|r| &r.spec);
        let secrets = secrets::look(specs, key.as_bytes(), self.clock.now()).await;
        self.state().world.secrets = secrets;
    }

    /// Whether LXD takes a member for offline whose agent answers and has a connection to its LXD.
    fn takes_for_offline(&self) -> bool {
        let state = self.state();
        let down = state.world.members_down();
        down.iter().any(|name| state.world.has_lxd(name))
    }

    fn targets(&self) -> Vec<(HostTarget, bool)> {
        let state = self.state();
        let joined = state.world.lxd.members.known();
        state
            .desired
            .members()
            .filter(|(name, m)| {
                // One that leaves is looked after until it is forgotten.
                let object = ObjectRef::new(Kind::Member, *name);
                m.state != MemberState::Absent
                    || joined.is_some_and(|j| j.contains_key(*name))
                    || state.memory.inventory.contains_key(&object)
            })
            .map(|(name, member)| {
                let target = crate::reconcile::plan::target(name, member);
                (target, joined.is_some_and(|j| j.contains_key(name)))
            })
            .collect()
    }

    /// Looks at every machine fully, once.
    pub(super) async fn look_at_machines(&self) {
        let targets = self.targets();
        let looks = targets
            .iter()
            .map(|(target, _)| self.look_at_machine(target));
        together(looks).await;
    }

    /// As [`Inner::look_at_machines`], but who does not even give a heartbeat is not waited for any
    /// longer.
    async fn look_at_who_answers(&self) {
        let targets = self.targets();
        let looks = targets.iter().map(|(target, _)| async move {
            match self.hosts.host(target).beat().await {
                Err(error) if error.is_silence() => {
                    self.seen(target, Err(error));
                }
                Ok(_) | Err(_) => self.look_at_machine(target).await,
            }
        });
        together(looks).await;
    }

    /// Looks at one machine fully.
    pub(super) async fn look_at_machine(&self, target: &HostTarget) {
        let result = self.hosts.host(target).report().await;
        if let Ok(report) = &result {
            self.try_first_paths(target, report).await;
        }
        let (look, formed) = self.seen(target, result);
        match (look, formed) {
            (true, true) => self.look_at_members().await,
            (true, false) => self.look(Duration::ZERO),
            (false, _) => {}
        }
    }

    /// Takes in what a look at a machine found. Gives back whether it came into a cluster or left
    /// one without a step of ours, which would look by itself, and whether ours stands.
    fn seen(&self, target: &HostTarget, result: Result<HostReport, HostError>) -> (bool, bool) {
        let now = self.clock.now();
        let mut state = self.state();
        let view = state.world.hosts.entry(target.name.clone()).or_default();
        let before = (view.error.clone(), view.report.known().cloned());
        match result {
            Ok(report) => {
                view.report = Seen::Known {
                    value: report,
                    at: now,
                };
                view.error = None;
                view.silent_since = None;
            }
            Err(error) => failed(view, error, now),
        }
        let ovn = |report: Option<&HostReport>| report.map(|r| r.ovn.clone());
        let ovn_changed = ovn(before.1.as_ref()) != ovn(view.report.known());
        let changed = before != (view.error.clone(), view.report.known().cloned());
        let was_in = before.1.as_ref().is_some_and(clustered);
        let moved = in_cluster(view) != was_in && before.1.is_some();
        let disks = |report: Option<&HostReport>| report.map(|r| r.disks.clone());
        let disks_moved =
            before.1.is_some() && disks(before.1.as_ref()) != disks(view.report.known());
        let ceph = |report: Option<&HostReport>| report.map(|r| r.ceph.clone());
        if ceph(before.1.as_ref()) != ceph(view.report.known()) {
            self.wake_ceph(&state);
        }
        if disks_moved {
            // One that was plugged in may be what was waited for, or one more of many.
            let disks = state.desired.resources.keys();
            for object in disks.filter(|o| o.kind == Kind::Disk) {
                self.wake(object, Duration::ZERO);
            }
        }
        if ovn_changed {
            self.tell_chassis(&mut state, &target.name, before.1.as_ref());
            self.wake_ovn(&state);
        }
        if changed {
            // What it carries is shown too.
            self.show();
            self.wake_waiting(&state, &Topic::Host(target.name.clone()));
            self.wake(
                &ObjectRef::new(Kind::Member, target.name.clone()),
                Duration::ZERO,
            );
        }
        let look = moved && !state.in_flight.changes_membership();
        (look, state.world.lxd.clustered() == Some(true))
    }

    async fn beat_of(&self, target: &HostTarget, joined: bool, share: bool) {
        let result = self.hosts.host(target).beat().await;
        let now = self.clock.now();
        let look = {
            let mut state = self.state();
            let ours = state.memory.lease.epoch;
            let trust = state.memory.trust.version;
            let view = state.world.hosts.entry(target.name.clone()).or_default();
            match result {
                Ok(beat) => {
                    if beat.epoch > ours && beat.holder != self.member {
                        drop(state);
                        self.end(super::Ended::Superseded(beat.holder));
                        return;
                    }
                    let (restarted, rebooted) = changes(view.beat.known(), &beat);
                    let ovn_moved = view.beat.known().map_or(0, |b| b.ovn) != beat.ovn;
                    let ceph_moved = view.beat.known().is_some_and(|b| b.ceph != beat.ceph);
                    let disks_moved = view.beat.known().is_some_and(|b| b.disks != beat.disks);
                    let was_silent = view.silent_since.take().is_some() || view.error.is_some();
                    view.error = None;
                    // A machine that is not in the cluster, or does not know it yet, changes
                    // without LXD's events telling.
                    let stranger = !joined || !in_cluster(view);
                    let stale = view.report.at().is_none_or(|at| {
                        stranger && crate::reconcile::clock::age(now, at) >= STRANGER
                    });
                    let needs_trust =
                        beat.trust_version < trust && (share || beat.trust_version == 0);
                    view.beat = Seen::Known {
                        value: beat,
                        at: now,
                    };
                    if joined && (restarted || was_silent) {
                        self.look_twice();
                    }
                    if was_silent {
                        self.wake_waiting(&state, &Topic::Host(target.name.clone()));
                        self.wake(&ObjectRef::new(Kind::Member, &*target.name), Duration::ZERO);
                    }
                    (
                        stale
                            || restarted
                            || rebooted
                            || was_silent
                            || ovn_moved
                            || ceph_moved
                            || disks_moved,
                        needs_trust,
                    )
                }
                Err(error) => {
                    let first = view.silent_since.is_none();
                    let before = view.error.clone();
                    failed(view, error, now);
                    let told = view.error != before;
                    if first && joined {
                        self.look(OFFLINE);
                        state.silent = true;
                    }
                    if first {
                        self.wake_ovn(&state);
                    }
                    if first || told {
                        self.wake_waiting(&state, &Topic::Host(target.name.clone()));
                        self.wake(&ObjectRef::new(Kind::Member, &*target.name), Duration::ZERO);
                    }
                    (false, false)
                }
            }
        };
        let (report, needs_trust) = look;
        if needs_trust {
            let trust = self.state().memory.trust.clone();
            if let Err(error) = self.hosts.host(target).set_trust(trust).await {
                tracing::debug!(member = %target.name, %error, "the trust store was not taken");
            }
        }
        if report {
            self.look_at_machine(target).await;
        }
    }
}

/// Asks machines, so many at once.
async fn together(asking: impl Iterator<Item = impl Future<Output = ()>>) {
    // Gathered first: a stream of what an iterator still makes is not `Send` for all lifetimes.
    let asking: Vec<_> = asking.collect();
    futures_util::stream::iter(asking)
        .buffer_unordered(TOGETHER)
        .collect::<Vec<()>>()
        .await;
}

fn failed(view: &mut HostView, error: HostError, now: jiff::Timestamp) {
    view.silent_since.get_or_insert(now);
    // How a machine is silent changes from look to look; the first says as much.
    if !(view.error.as_ref().is_some_and(HostError::is_silence) && error.is_silence()) {
        view.error = Some(error);
    }
}

fn clustered(report: &HostReport) -> bool {
    matches!(&report.lxd, LxdReport::Running(lxd) if lxd.clustered && !lxd.joining)
}

/// Whether a machine was last seen in a cluster.
fn in_cluster(view: &HostView) -> bool {
    view.report.known().is_some_and(clustered)
}

/// Whether a part of LXD could not be read.
fn unread(lxd: &LxdWorld) -> bool {
    lxd.server.known().is_none()
        || lxd.members.known().is_none()
        || lxd.groups.known().is_none()
        || lxd.pools.known().is_none()
        || lxd.networks.known().is_none()
        || lxd.projects.known().is_none()
        || lxd.profiles.known().is_none()
}

/// Whether the service beside an agent restarted, and whether the machine did.
fn changes(before: Option<&Beat>, now: &Beat) -> (bool, bool) {
    before.map_or((false, false), |b| {
        (b.lxd_started != now.lxd_started, b.boot_id != now.boot_id)
    })
}

/// When agents are given the trust store anew. It names every member, so while members join one
/// after another it is not sent to all of them for every one; who has none gets it at once.
#[derive(Debug, Default)]
struct Sharing {
    seen: u64,
    shared: Option<Instant>,
}

impl Sharing {
    /// Whether it is shared now: it did not change since the last heartbeat, or it was held back
    /// for long.
    fn now(&mut self, version: u64) -> bool {
        let settled = self.seen == version;
        self.seen = version;
        let late = self.shared.is_none_or(|at| at.elapsed() >= TRUST_HELD);
        if settled || late {
            self.shared = Some(Instant::now());
        }
        settled || late
    }
}

/// Asks every machine's agent for its heartbeat.
pub(super) async fn machines(inner: Arc<Inner>) {
    let mut tick = tokio::time::interval(HEARTBEAT);
    tick.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    let mut synced = inner.synced.subscribe();
    let mut sharing = Sharing::default();
    let mut asked_members = Instant::now();
    tokio::select! {
        () = inner.cancel.cancelled() => return,
        ready = synced.wait_for(|ready| *ready) => if ready.is_err() { return },
    }
    loop {
        tokio::select! {
            () = inner.cancel.cancelled() => return,
            _ = tick.tick() => {}
            () = inner.beats.notified() => {}
        }
        let targets = inner.targets();
        let share = sharing.now(inner.state().memory.trust.version);
        // A machine that answers slowly does not hold up the others' next heartbeat for longer
        // than its own deadline.
        let beats = targets.iter();
        together(beats.map(|(target, joined)| inner.beat_of(target, *joined, share))).await;
        // LXD notices that the machine of its database's leader is lost some time after it was asked
        // something: the sooner that is, the shorter it stands still. Nothing is to wait for it.
        if std::mem::take(&mut inner.state().silent) {
            let inner = inner.clone();
            tokio::spawn(async move { inner.store.lease().await.map(drop) });
        }
        // That LXD takes a member for offline passes without any event, such as after its database
        // has elected another leader, who has heard from nobody yet.
        if inner.takes_for_offline() && asked_members.elapsed() >= MEMBERS {
            asked_members = Instant::now();
            inner.look_at_members().await;
        }
    }
}
