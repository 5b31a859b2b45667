//! `/v1/agent/recovery` on the socket for commands: LXD's database is brought back with this
//! machine alone when most of its servers are lost for good.

use super::api::{Failure, MachineStatus};
use super::office::Office;
use crate::reconcile::placement::ServiceName;
use crate::resources::Spec;
use crate::resources::kinds::MemberState;
use crate::services::host::HostError;
use crate::services::host::local::{Majority, find_lxd_socket, majority, recover};
use axum::extract::State;
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use axum::{Json, Router};
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

/// How long another member's agent may take to say that it is there.
const HEARD: Duration = Duration::from_secs(4);

/// `GET /v1/agent/recovery`: what it would do.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Recovery {
    /// This member.
    pub name: String,
    /// Why it cannot be done now, if so.
    pub refused: Option<String>,
    /// The members that are lost with it.
    pub lost: Vec<String>,
    /// What it does not bring back, a sentence each.
    pub left: Vec<String>,
}

/// The answer to `POST /v1/agent/recovery`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Recovered {
    /// The copy of the database from before.
    pub copy: PathBuf,
}

/// The routes.
pub fn routes(office: Arc<Office>) -> Router {
    Router::new()
        .route("/v1/agent/recovery", get(look).post(work))
        .with_state(office)
}

async fn look(State(office): State<Arc<Office>>) -> Response {
    Json(recovery(&office).await).into_response()
}

async fn work(State(office): State<Arc<Office>>) -> Response {
    let fail = |status, message| (status, Json(Failure { message })).into_response();
    if let Some(reason) = recovery(&office).await.refused {
        return fail(StatusCode::CONFLICT, reason);
    }
    let Some(socket) = find_lxd_socket(office.lxd_socket.as_deref()) else {
        return fail(StatusCode::CONFLICT, "LXD's socket is gone".to_owned());
    };
    // In a task of its own: a command that goes away does not cut it in two.
    let done = tokio::spawn(async move { recover(&socket).await }).await;
    office.consider.notify_one();
    match done {
        Ok(Ok(copy)) => Json(Recovered { copy }).into_response(),
        Ok(Err(error)) => fail(StatusCode::INTERNAL_SERVER_ERROR, error.to_string()),
        Err(error) => fail(StatusCode::INTERNAL_SERVER_ERROR, error.to_string()),
    }
}

/// Whether it can be done, asked anew: of LXD, and of every other member's agent.
async fn recovery(office: &Office) -> Recovery {
    let name = office.name().to_owned();
    let machines = office.kept().machines;
    let others = members(office, &machines);
    let socket = find_lxd_socket(office.lxd_socket.as_deref());
    let asks = others.iter().map(|member| is_there(office, member));
    let (heard, majority) = tokio::join!(futures_util::future::join_all(asks), async {
        match &socket {
            Some(socket) => majority(socket).await,
            None => Majority::Silent,
        }
    });
    let with = |is_there: bool| -> Vec<String> {
        let all = others.iter().zip(&heard);
        all.filter(|(_, heard)| **heard == is_there)
            .map(|(name, _)| (*name).clone())
            .collect()
    };
    let (lost, there) = (with(false), with(true));
    Recovery {
        refused: refusal(majority, &there, &lost),
        left: left(&name, &machines, &lost),
        name,
        lost,
    }
}

/// The other members, from all that this agent knows: one that is left out could be left alive.
fn members(office: &Office, machines: &BTreeMap<String, MachineStatus>) -> BTreeSet<String> {
    let resources = office.known_resources();
    let written = resources.iter().filter_map(|r| match &r.spec {
        // One that has left may be anything by now.
        Spec::Member(spec) if spec.state != MemberState::Absent => Some(r.metadata.name.clone()),
        _ => None,
    });
    let store = office.machine.trust.store();
    let mut all: BTreeSet<String> = store
        .members
        .keys()
        .chain(machines.keys())
        .cloned()
        .collect();
    all.extend(written);
    all.remove(office.name());
    all
}

/// Whether a member's machine is there: whatever comes back from it says so, a refusal as well.
async fn is_there(office: &Office, member: &str) -> bool {
    let Some(target) = office.target(member) else {
        return false;
    };
    let host = office.hosts.host(&target);
    match tokio::time::timeout(HEARD, host.beat()).await {
        Err(_) | Ok(Err(HostError::Unreachable { silent: true, .. })) => false,
        Ok(_) => true,
    }
}

fn refusal(majority: Majority, there: &[String], lost: &[String]) -> Option<String> {
    match majority {
        Majority::There => Some(
            "LXD's database has its majority: nothing is to be brought back. A member that is lost \
             for good is given up with `microcloud remove NAME --force`"
                .to_owned(),
        ),
        Majority::Alone => Some("the LXD of this machine is in no cluster".to_owned()),
        Majority::Silent => Some(
            "the LXD of this machine does not answer: start it (systemctl start lxd.socket) and see \
             its log"
                .to_owned(),
        ),
        Majority::Lost if !there.is_empty() => Some(format!(
            "{} {} there too: the database is brought back with one member alone, and with more than \
             one left the one with the newest copy must be found (`lxd cluster edit`, in LXD's \
             manual). What is to be given up all the same must be switched off for good",
            there.join(", "),
            if there.len() == 1 { "is" } else { "are" },
        )),
        Majority::Lost if lost.is_empty() => Some(
            "no other member is known here, so none is known to be lost: see LXD's log".to_owned(),
        ),
        Majority::Lost => None,
    }
}

/// What has lost its majority too and is not brought back.
fn left(own: &str, machines: &BTreeMap<String, MachineStatus>, lost: &[String]) -> Vec<String> {
    let holders = |service: ServiceName, role: &str| -> (usize, usize, bool) {
        let holds = |machine: &MachineStatus| {
            let mut of = machine.services.iter().filter(|p| p.service == service);
            of.any(|p| p.roles.iter().any(|r| r == role))
        };
        let all: Vec<&String> = machines
            .iter()
            .filter(|(_, m)| holds(m))
            .map(|(n, _)| n)
            .collect();
        let gone = all.iter().filter(|name| lost.contains(name)).count();
        (all.len(), gone, all.iter().any(|name| *name == own))
    };
    let mut all = Vec::new();
    let (of, gone, here) = holders(ServiceName::Ovn, "central");
    if gone * 2 >= of && of > 0 {
        all.push(format!(
            "OVN's databases lost {gone} of {of} servers, and with them their majority. Networks go on \
             as they are and cannot be changed. {}",
            match here {
                true => "This machine has a copy: see \"OVN without a majority\" in docs/members.md",
                false => "This machine has no copy: it is made anew when it is set up anew",
            }
        ));
    }
    let (of, gone, here) = holders(ServiceName::Ceph, "mon");
    if gone * 2 >= of && of > 0 {
        all.push(format!(
            "Ceph lost {gone} of {of} monitors, and with them their majority: nothing on it can be read \
             or written. {}",
            match here {
                true => "This machine has one: see \"Ceph without a majority\" in docs/members.md",
                false => "This machine has none: its monitors must be made from the OSDs (Ceph's manual, \
                          \"recovery using OSDs\")",
            }
        ));
    }
    all
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::reconcile::placement::Placed;

    fn machine(roles: &[(ServiceName, &str)]) -> MachineStatus {
        let of = |(service, role): &(ServiceName, &str)| Placed {
            service: *service,
            roles: vec![(*role).to_owned()],
            ..Placed::default()
        };
        MachineStatus {
            services: roles.iter().map(of).collect(),
            ..MachineStatus::default()
        }
    }

    #[test]
    fn what_is_not_brought_back_is_told() {
        use ServiceName::{Ceph, Ovn};
        let both = [(Ovn, "central"), (Ceph, "mon")];
        let machines: BTreeMap<String, MachineStatus> = ["a", "b", "c", "d"]
            .into_iter()
            .map(|n| (n.to_owned(), machine(if n == "d" { &[] } else { &both })))
            .collect();
        let lost = |names: &[&str]| names.iter().map(|n| (*n).to_owned()).collect::<Vec<_>>();
        assert_eq!(
            left("c", &machines, &lost(&["a", "d"])),
            Vec::<String>::new()
        );
        let told = left("c", &machines, &lost(&["a", "b"]));
        assert!(
            told[0].contains("2 of 3 servers") && told[0].contains("has a copy"),
            "{told:?}"
        );
        assert!(told[1].contains("2 of 3 monitors"), "{told:?}");
        let told = left("d", &machines, &lost(&["a", "b", "c"]));
        assert!(told[1].contains("This machine has none"), "{told:?}");
    }

    #[test]
    fn only_a_majority_that_is_lost_with_everybody_else_is_brought_back() {
        let names = |names: &[&str]| names.iter().map(|n| (*n).to_owned()).collect::<Vec<_>>();
        let (none, other) = (names(&[]), names(&["b"]));
        assert_eq!(refusal(Majority::Lost, &none, &other), None);
        for (majority, there, lost, words) in [
            (Majority::There, &none, &other, "remove NAME --force"),
            (Majority::Alone, &none, &other, "in no cluster"),
            (Majority::Silent, &none, &other, "does not answer"),
            (Majority::Lost, &other, &none, "b is there too"),
            (Majority::Lost, &none, &none, "no other member is known"),
        ] {
            let said = refusal(majority, there, lost).expect("it is refused");
            assert!(said.contains(words), "{said}");
        }
    }
}
