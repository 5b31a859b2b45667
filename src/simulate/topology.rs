//! Who reaches whom, who leads the database, who has quorum; power and links.

use super::database::{DbId, Raft};
use super::world::World;
use std::time::Duration;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

impl World {
    /// Whether the network between two machines works.
    pub fn linked(&self, a: usize, b: usize) -> bool {
        a == b
            || (!self.machines[a].isolated
                && !self.machines[b].isolated
                && !self.cuts.contains(&(a.min(b), a.max(b))))
    }

    /// Whether the LXD of `a` reaches the LXD of `b`.
    pub fn lxd_reaches(&self, a: usize, b: usize) -> bool {
        let (from, to) = (&self.machines[a], &self.machines[b]);
        let up = self.linked(a, b) && from.lxd_up() && to.lxd_up();
        up && (a == b || (from.lxd.listens() && to.lxd.listens()))
    }

    /// Whether the LXD of a machine can use its database.
    pub fn has_quorum(&self, machine: usize) -> bool {
        let db = self.db(machine);
        if !db.clustered {
            return true;
        }
        let (mut voters, mut reached) = (0, 0);
        for row in db.members.values().filter(|m| m.raft == Raft::Voter) {
            voters += 1;
            reached += usize::from(self.lxd_reaches(machine, row.machine));
        }
        reached * 2 > voters
    }

    /// How long a member may be silent before it counts as offline.
    pub fn offline_threshold(&self, db: DbId) -> Duration {
        let seconds = self
            .dbs
            .get(&db)
            .and_then(|db| db.config.get("cluster.offline_threshold"))
            .and_then(|value| value.parse().ok())
            .unwrap_or(20);
        Duration::from_secs(seconds)
    }

    /// Looks again at who leads a cluster and whom it reaches. To be called after every change of
    /// power, links or membership.
    pub fn refresh(&mut self, id: DbId) {
        let Some(db) = self.dbs.get(&id).filter(|db| db.clustered) else {
            return;
        };
        let mut voters: Vec<(u64, &String, usize)> = db
            .members
            .iter()
            .filter(|(_, m)| m.raft == Raft::Voter)
            .map(|(name, m)| (m.id, name, m.machine))
            .collect();
        voters.sort_unstable();
        let fit = |machine: usize| {
            let reached = voters
                .iter()
                .filter(|(_, _, other)| self.lxd_reaches(machine, *other))
                .count();
            reached * 2 > voters.len()
        };
        let leader = db
            .leader
            .as_ref()
            .and_then(|name| voters.iter().find(|(_, n, _)| *n == name))
            .filter(|(_, _, machine)| fit(*machine))
            .or_else(|| voters.iter().find(|(_, _, machine)| fit(*machine)))
            .map(|(_, name, machine)| ((*name).clone(), *machine));
        let Some((name, leading)) = leader else {
            // Nobody leads: what was known of the members stays as it was.
            if let Some(db) = self.dbs.get_mut(&id) {
                db.leader = None;
            }
            return;
        };
        let lost: Vec<(String, bool)> = db
            .members
            .iter()
            .map(|(name, m)| (name.clone(), !self.lxd_reaches(leading, m.machine)))
            .collect();
        let now = Instant::now();
        let mut newly_lost = false;
        if let Some(db) = self.dbs.get_mut(&id) {
            db.leader = Some(name);
            for (name, lost) in lost {
                if let Some(row) = db.members.get_mut(&name) {
                    match (lost, row.lost_since) {
                        (true, None) => {
                            row.lost_since = Some(now);
                            newly_lost = true;
                        }
                        (false, Some(_)) => row.lost_since = None,
                        _ => {}
                    }
                }
            }
        }
        if newly_lost {
            let threshold = self.offline_threshold(id);
            self.schedule(threshold, move |world| world.replace_lost_voters(id));
        }
    }

    /// Gives the parts in raft after a member came or went: up to three voters, two stand-by;
    /// with two members the second stands by.
    pub fn assign_raft(&mut self, id: DbId) {
        let Some(db) = self.dbs.get_mut(&id) else {
            return;
        };
        let limit = |key: &str, default: usize| {
            db.config
                .get(key)
                .and_then(|v| v.parse().ok())
                .unwrap_or(default)
        };
        let (max_voters, max_standby) = (
            limit("cluster.max_voters", 3),
            limit("cluster.max_standby", 2),
        );
        let wanted_voters = match db.members.len() {
            0..=2 => 1,
            n => max_voters.min(if n % 2 == 0 { n - 1 } else { n }),
        };
        // Those who have a part keep it; free places go by age.
        let mut order: Vec<(u8, u64, String)> = db
            .members
            .iter()
            .map(|(name, m)| {
                let rank = match (m.lost_since.is_some(), m.raft) {
                    (false, Raft::Voter) => 0,
                    (false, Raft::StandBy) => 1,
                    (false, Raft::Spare) => 2,
                    (true, Raft::Voter) => 3,
                    (true, _) => 4,
                };
                (rank, m.id, name.clone())
            })
            .collect();
        order.sort_unstable();
        for (i, (_, _, name)) in order.into_iter().enumerate() {
            if let Some(row) = db.members.get_mut(&name) {
                row.raft = if i < wanted_voters {
                    Raft::Voter
                } else if i < wanted_voters + max_standby {
                    Raft::StandBy
                } else {
                    Raft::Spare
                };
            }
        }
    }

    /// After the threshold members that follow take the places of voters that are lost.
    fn replace_lost_voters(&mut self, id: DbId) {
        let lost = self.dbs.get(&id).is_some_and(|db| {
            db.leader.is_some()
                && db
                    .members
                    .values()
                    .any(|m| m.raft == Raft::Voter && m.lost_since.is_some())
        });
        if lost {
            self.assign_raft(id);
            self.refresh(id);
        }
    }

    /// Looks again at every cluster: links changed.
    pub fn refresh_all(&mut self) {
        let clusters: Vec<DbId> = self
            .dbs
            .iter()
            .filter(|(_, db)| db.clustered)
            .map(|(id, _)| *id)
            .collect();
        for id in clusters {
            self.refresh(id);
        }
        self.ceph_refresh();
    }

    /// Ends the LXD of a machine: its connections break, its operations are gone.
    pub fn stop_lxd(&mut self, machine: usize) {
        let lxd = &mut self.machines[machine].lxd;
        lxd.running = false;
        lxd.ended.cancel();
        let db = lxd.db;
        self.hub.break_streams(machine);
        self.operations.retain(|_, op| op.machine != machine);
        self.refresh(db);
    }

    /// Starts the LXD of a machine, if it is installed and does not run.
    pub fn start_lxd(&mut self, machine: usize) {
        let (gap, ready) = (self.timings.event_gap, self.timings.lxd_ready);
        let m = &mut self.machines[machine];
        // Without an address of its own a member does not come up.
        if m.lxd.running || !m.powered || !m.config.lxd_installed || !m.lxd.listens() {
            return;
        }
        m.lxd.running = true;
        m.lxd.starts += 1;
        m.lxd.ended = CancellationToken::new();
        m.lxd.ready_at = Instant::now() + ready;
        m.lxd.shown_name = None;
        m.lxd.hung = false;
        m.lxd.quiet_until = m.lxd.clustered().then(|| Instant::now() + gap);
        let db = m.lxd.db;
        self.refresh(db);
    }

    /// Takes the power from a machine.
    pub fn power_off(&mut self, machine: usize) {
        self.machines[machine].powered = false;
        self.machines[machine].agent.running = false;
        self.machines[machine].agent.leading = false;
        self.programs.retain(|(on, life)| {
            if *on == machine
                && let Some(life) = life.upgrade()
            {
                life.end();
            }
            *on != machine
        });
        self.machines[machine].booted = false;
        self.machines[machine].ceph.power_off();
        self.stop_lxd(machine);
        self.ceph_refresh();
    }

    /// Gives a machine power again; agent and LXD answer when it has booted.
    pub fn power_on(&mut self, machine: usize) {
        let m = &mut self.machines[machine];
        if m.powered {
            return;
        }
        m.powered = true;
        m.boots += 1;
        let boots = m.boots;
        let after = self.timings.host_boot;
        self.schedule(after, move |world| {
            if world.machines[machine].boots == boots && world.machines[machine].powered {
                world.machines[machine].agent.running = true;
                world.machines[machine].booted = true;
                world.machines[machine].ceph.boot();
                world.start_lxd(machine);
                world.ceph_refresh();
                world.register(machine);
            }
        });
    }
}
