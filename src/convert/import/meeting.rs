//! How the machines of a MicroCloud preseed meet: what `microcloud preseed` reads of the file
//! before it knows the machines, and what only they can tell whether it holds.

use super::microcloud_file::{DiskFilter, Preseed, Storage, System};
use super::microcloud_rules::{
    ceph_disks, check, filters, forms, initiator, local, wants_ceph, wants_local, wants_ovn,
};
use super::reader::{self, Reader};
use crate::reconcile::plan::disk_field;
use crate::resources::Diagnostic;
use crate::resources::disk_filter::Filter;
use crate::resources::positions::at;
use crate::services::host::{DiskReport, HostReport};
use crate::services::peer::session::Passphrase;
use ipnet::IpNet;
use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::time::Duration;

/// How long the others are looked for unless the file says otherwise, as MicroCloud does.
const LOOKUP: Duration = Duration::from_secs(60);

/// How long the session may last unless the file says otherwise.
const SESSION: Duration = Duration::from_secs(3600);

/// How the machines of a MicroCloud preseed meet.
#[derive(Debug)]
pub struct Meeting {
    /// The machine that the others turn to.
    pub initiator: Initiator,
    /// The subnet of the machines' addresses, where they find each other by multicast.
    pub subnet: Option<IpNet>,
    /// How long the others are looked for.
    pub lookup: Duration,
    /// How long the session may last.
    pub session: Duration,
    /// What all machines know; none only where nobody else takes part.
    pub passphrase: Option<Passphrase>,
    /// The machines by name, with their addresses where the file tells them.
    pub systems: BTreeMap<String, Option<IpAddr>>,
    /// Whether the file forms a cloud; otherwise it adds its machines to one.
    pub forms: bool,
    /// Whether a network over all machines is asked for, which needs a way out of each.
    pub ovn: bool,
    /// Whether storage on each machine's own disk is asked for.
    pub local: bool,
    /// Whether distributed storage is asked for.
    pub ceph: bool,
    /// The interfaces that lead outside, where the file tells them.
    pub interfaces: BTreeMap<String, String>,
    named: Vec<(String, String)>,
    counts: Vec<Count>,
}

/// The machine that the others turn to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Initiator {
    /// The one of this name, found by multicast.
    Name(String),
    /// The one with this address.
    Address(IpAddr),
}

/// How many disks a filter may match.
#[derive(Debug)]
struct Count {
    one_each: bool,
    filter: Filter,
    wipe: bool,
    least: u32,
    most: Option<u32>,
    systems: BTreeSet<String>,
    /// At the filter; its message is written when it is known.
    at: Diagnostic,
}

/// Reads how the machines of a preseed meet.
///
/// # Errors
/// Everything that is wrong with the file, each with its place.
pub fn read(file: &str, bytes: &[u8]) -> Result<Meeting, Vec<Diagnostic>> {
    let tree = reader::tree(file, bytes)?;
    let (preseed, mut reader) = Reader::decode::<Preseed>(tree, "the preseed")?;
    check(&preseed, true, &mut reader);
    let passphrase = passphrase(&preseed, &mut reader);
    if !reader.wrong.is_empty() {
        return Err(reader.wrong);
    }
    let at_address = preseed.initiator_address.map(Initiator::Address);
    let by_name = || Initiator::Name(preseed.initiator.clone().unwrap_or_default());
    let seconds = |given: Option<u64>, usual| given.map_or(usual, Duration::from_secs);
    let of = |system: &System| (system.name.clone(), system.address);
    let mut counts = counts(&preseed, true, &reader);
    counts.extend(self::counts(&preseed, false, &reader));
    Ok(Meeting {
        initiator: at_address.unwrap_or_else(by_name),
        subnet: preseed.lookup_subnet,
        lookup: seconds(preseed.lookup_timeout, LOOKUP),
        session: seconds(preseed.session_timeout, SESSION),
        passphrase,
        systems: preseed.systems.iter().map(of).collect(),
        forms: forms(&preseed),
        ovn: wants_ovn(&preseed),
        local: wants_local(&preseed),
        ceph: wants_ceph(&preseed),
        interfaces: preseed
            .systems
            .iter()
            .filter_map(|s| Some((s.name.clone(), s.ovn_uplink_interface.clone()?)))
            .collect(),
        named: preseed.systems.iter().flat_map(named).collect(),
        counts,
    })
}

fn passphrase(preseed: &Preseed, reader: &mut Reader) -> Option<Passphrase> {
    let Some(given) = &preseed.session_passphrase else {
        let own = initiator(preseed).map(|s| &s.name);
        // More than one system is told already.
        if let [only] = preseed.systems.as_slice()
            && own != Some(&only.name)
        {
            reader.wrong_key(
                at!["session_passphrase"],
                format!("`session_passphrase` is missing, and `{}` joins", only.name),
                "write the one that the initiator and the machines that join are to know",
            );
        }
        return None;
    };
    match Passphrase::parse(given) {
        Ok(passphrase) => Some(passphrase),
        Err(error) => {
            reader.wrong_key(at!["session_passphrase"], error.to_string(), "");
            None
        }
    }
}

/// The disks a system names.
fn named(system: &System) -> Vec<(String, String)> {
    let of = local(system).into_iter().chain(ceph_disks(system));
    of.map(|disk| (system.name.clone(), disk.path.clone()))
        .collect()
}

fn counts(preseed: &Preseed, one_each: bool, reader: &Reader) -> Vec<Count> {
    let of = |storage| -> &Vec<DiskFilter> {
        let storage: &Storage = storage;
        match one_each {
            true => &storage.local,
            false => &storage.ceph,
        }
    };
    let names_none = |system: &&System| match one_each {
        true => local(system).is_none(),
        false => ceph_disks(system).is_empty(),
    };
    let systems = preseed.systems.iter().filter(names_none);
    let systems: BTreeSet<String> = systems.map(|s| s.name.clone()).collect();
    let usage = if one_each { "local" } else { "ceph" };
    let all = filters(preseed, of).enumerate();
    all.filter_map(|(place, filter)| {
        Some(Count {
            one_each,
            // One that does not parse was told already.
            filter: Filter::parse(&filter.find).ok()?,
            wipe: filter.wipe,
            least: filter.find_min.unwrap_or(1),
            most: filter.find_max,
            systems: systems.clone(),
            at: reader
                .positions
                .value(at!["storage", usage, place, "find"], ""),
        })
    })
    .collect()
}

impl Meeting {
    /// Whether a machine is the one the others turn to. `has` are its addresses.
    pub fn initiates(&self, name: &str, has: &[IpAddr]) -> bool {
        match (&self.initiator, self.systems.get(name)) {
            (Initiator::Name(initiator), _) => initiator == name,
            (Initiator::Address(initiator), Some(own)) => *own == Some(*initiator),
            // One that is a member already is not among those that are added.
            (Initiator::Address(initiator), None) => has.contains(initiator),
        }
    }

    /// Checks how many disks of the machines each filter matches: those it would be given.
    ///
    /// # Errors
    /// Every filter that matches too few or too many, with its place.
    pub fn check_disks(&self, reports: &[&HostReport]) -> Result<(), Vec<Diagnostic>> {
        let mut taken: BTreeSet<(&str, &str)> = BTreeSet::new();
        let named = |report: &HostReport, disk: &DiskReport| {
            let mut of = self.named.iter().filter(|(name, _)| *name == report.name);
            of.any(|(_, path)| disk.path == *path || disk.links.contains(path))
        };
        let mut wrong = Vec::new();
        for count in &self.counts {
            let mut found = 0;
            for report in reports.iter().filter(|r| count.systems.contains(&r.name)) {
                let fit = report.disks.iter().filter(|disk| {
                    count.fits(disk)
                        && !named(report, disk)
                        && !taken.contains(&(report.name.as_str(), disk.path.as_str()))
                });
                let most = if count.one_each { 1 } else { usize::MAX };
                let fit: Vec<&DiskReport> = fit.take(most).collect();
                found += fit.len();
                let keys = fit.iter().map(|d| (report.name.as_str(), d.path.as_str()));
                taken.extend(keys);
            }
            wrong.extend(count.judge(found));
        }
        if wrong.is_empty() { Ok(()) } else { Err(wrong) }
    }
}

impl Count {
    /// Whether a disk may be given away by it.
    fn fits(&self, disk: &DiskReport) -> bool {
        let mounted = disk.signatures.iter().any(|s| s.starts_with("mounted"));
        !disk.root
            && !disk.read_only
            && !mounted
            && disk.disk_type != "cdrom"
            && (self.wipe || disk.signatures.is_empty())
            && self.filter.matches(&|field| disk_field(disk, field))
    }

    fn judge(&self, found: usize) -> Option<Diagnostic> {
        let (limit, word) = match self.most {
            Some(most) if found > most as usize => (most, "at most"),
            _ if found < self.least as usize => (self.least, "at least"),
            _ => return None,
        };
        let what = match self.one_each {
            true => "machines have such a disk that is free",
            false => "free disks of the machines match",
        };
        Some(Diagnostic {
            message: format!("{found} {what}, and there must be {word} {limit}"),
            ..self.at.clone()
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const FILE: &str = "
initiator: micro01
lookup_subnet: 10.0.0.0/24
session_passphrase: one two three four
systems:
- name: micro01
  storage: {ceph: [{path: /dev/disk/by-id/a}]}
- name: micro02
- name: micro03
storage:
  local:
  - {find: 'size < 3GiB', find_min: 3, find_max: 3}
  ceph:
  - {find: 'size >= 3GiB', find_min: 2, find_max: 3}
";

    fn machine(name: &str, disks: &[(&str, u64)]) -> HostReport {
        let disk = |(id, gib): &(&str, u64)| DiskReport {
            path: format!("/dev/disk/by-id/{id}"),
            size: gib << 30,
            ..DiskReport::default()
        };
        HostReport {
            name: name.to_owned(),
            agent_version: String::new(),
            fingerprint: String::new(),
            machine_id: String::new(),
            boot_id: String::new(),
            lxd: crate::services::host::LxdReport::NotInstalled,
            ovn: Default::default(),
            disks: disks.iter().map(disk).collect(),
            interfaces: Vec::new(),
            ceph: Default::default(),
        }
    }

    fn messages(found: Result<(), Vec<Diagnostic>>) -> Vec<String> {
        let wrong = found.err().unwrap_or_default();
        wrong.iter().map(ToString::to_string).collect()
    }

    #[test]
    fn filters_are_counted_over_all_machines_that_name_no_disk() {
        let meeting = read("preseed.yaml", FILE.as_bytes()).unwrap();
        let first = machine("micro01", &[("a", 4), ("s", 1), ("b", 4)]);
        let second = machine("micro02", &[("s", 1), ("t", 1), ("b", 4)]);
        let mut third = machine("micro03", &[("s", 1), ("b", 4)]);
        let all = |third: &HostReport| messages(meeting.check_disks(&[&first, &second, third]));
        assert_eq!(all(&third), Vec::<String>::new());
        // One that is not empty is none that could be taken.
        third.disks[1].signatures.push("ext4 filesystem".to_owned());
        assert_eq!(
            all(&third),
            [
                "preseed.yaml:14:12: 1 free disks of the machines match, and there must be at least 2"
            ]
        );
        third = machine("micro03", &[("b", 4), ("c", 4), ("d", 4)]);
        assert_eq!(
            all(&third),
            [
                "preseed.yaml:12:12: 2 machines have such a disk that is free, and there must be at least 3",
                "preseed.yaml:14:12: 4 free disks of the machines match, and there must be at most 3",
            ]
        );
    }

    #[test]
    fn who_initiates_is_told_by_name_or_by_address() {
        let named = read("f", FILE.as_bytes()).unwrap();
        assert!(named.initiates("micro01", &[]));
        assert!(!named.initiates("micro02", &["10.0.0.1".parse().unwrap()]));
        let file = "
initiator_address: 10.0.0.1
session_passphrase: one two three four
systems: [{name: micro02, address: 10.0.0.2}]
";
        let adds = read("f", file.as_bytes()).unwrap();
        let here = ["10.0.0.1".parse().unwrap()];
        assert!(!adds.forms);
        assert!(adds.initiates("micro01", &here));
        assert!(!adds.initiates("micro02", &here), "it is one that joins");
        assert!(!adds.initiates("micro09", &[]));
    }

    #[test]
    fn who_joins_needs_a_passphrase_and_a_secret_is_not_shown() {
        let file = "
initiator_address: 10.0.0.1
systems: [{name: micro02, address: 10.0.0.2}]
";
        let wrong = read("f", file.as_bytes()).unwrap_err();
        assert!(wrong[0].message.contains("`micro02` joins"), "{wrong:?}");
        let read = read("f", FILE.as_bytes()).unwrap();
        assert!(!format!("{read:?}").contains("two three"));
    }
}
