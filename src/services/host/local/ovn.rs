//! OVN on this machine: what is there, and what can be asked for.

use super::{LocalHost, ovn_central, ovn_chassis, ovn_leave, ovn_tls};
use crate::services::host::ovn_types::{ChassisRow, OvnAnswer, OvnReport, OvnRequest};
use crate::services::host::types::HostError;
use crate::services::ovn::rows::{Chassis, Encap};
use crate::services::ovn::{Client, Endpoint, OvsdbError, SOUTHBOUND};
use jiff::Timestamp;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;
use tokio::process::Command;
use tokio::sync::MutexGuard;

/// How long `systemctl` may take: it waits for a unit to start or stop.
const SYSTEMCTL: Duration = Duration::from_secs(60);

/// How long OVN may take to tell what it is: less than a caller waits for the report.
const LOOK: Duration = Duration::from_secs(6);

/// Where the distribution's packages have their files; other places in tests.
#[derive(Debug, Clone)]
pub(crate) struct OvnPaths {
    /// This program's state, with the authority: `/var/lib/microcloud`.
    pub state: PathBuf,
    /// `/etc/ovn`.
    pub etc: PathBuf,
    /// `/etc/default`.
    pub defaults: PathBuf,
    /// `/etc/openvswitch`.
    pub ovs_etc: PathBuf,
    /// `/var/lib/ovn`.
    pub data: PathBuf,
    /// `/run/ovn`.
    pub run: PathBuf,
    /// `/run/openvswitch`.
    pub ovs_run: PathBuf,
    /// `/usr`.
    pub usr: PathBuf,
    /// `/sys`.
    pub sys: PathBuf,
}

impl OvnPaths {
    /// The real places.
    pub(super) fn real(state: &Path) -> OvnPaths {
        OvnPaths {
            state: state.to_owned(),
            etc: "/etc/ovn".into(),
            defaults: "/etc/default".into(),
            ovs_etc: "/etc/openvswitch".into(),
            data: "/var/lib/ovn".into(),
            run: "/run/ovn".into(),
            ovs_run: "/run/openvswitch".into(),
            usr: "/usr".into(),
            sys: "/sys".into(),
        }
    }

    /// Places below a directory.
    #[cfg(test)]
    pub(super) fn below(root: &Path) -> OvnPaths {
        OvnPaths {
            state: root.join("state"),
            etc: root.join("etc/ovn"),
            defaults: root.join("etc/default"),
            ovs_etc: root.join("etc/openvswitch"),
            data: root.join("var/lib/ovn"),
            run: root.join("run/ovn"),
            ovs_run: root.join("run/openvswitch"),
            usr: root.join("usr"),
            sys: root.join("sys"),
        }
    }

    /// The machine's key: where OVN's programs are told to find it, and LXD looks by itself.
    pub(super) fn key(&self) -> PathBuf {
        self.etc.join("key_host")
    }

    /// The machine's certificate.
    pub(super) fn certificate(&self) -> PathBuf {
        self.etc.join("cert_host")
    }

    /// The authority's certificate.
    pub(super) fn authority(&self) -> PathBuf {
        self.etc.join("ovn-central.crt")
    }

    /// Open vSwitch's database.
    pub(super) fn ovs(&self) -> Endpoint {
        Endpoint::Unix(self.ovs_run.join("db.sock"))
    }

    /// The northbound database, when it is on this machine.
    pub(super) fn northbound(&self) -> Endpoint {
        Endpoint::Unix(self.run.join("ovnnb_db.sock"))
    }

    /// The southbound database, when it is on this machine.
    pub(super) fn southbound(&self) -> Endpoint {
        Endpoint::Unix(self.run.join("ovnsb_db.sock"))
    }

    /// Whether the kernel forwards for Open vSwitch.
    pub(super) fn kernel_datapath(&self) -> bool {
        self.sys.join("module/openvswitch").exists()
    }

    fn installed(&self) -> bool {
        [
            "share/ovn/scripts/ovn-ctl",
            "bin/ovn-northd",
            "bin/ovn-controller",
            "share/openvswitch/scripts/ovs-ctl",
        ]
        .iter()
        .all(|file| self.usr.join(file).exists())
    }
}

/// A failure with this reason.
pub(super) fn failed(reason: impl Into<String>) -> HostError {
    HostError::Failed {
        reason: reason.into(),
    }
}

impl From<OvsdbError> for HostError {
    fn from(error: OvsdbError) -> HostError {
        failed(error.to_string())
    }
}

/// Runs `systemctl`.
pub(super) async fn systemctl(words: &[&str]) -> Result<(), HostError> {
    let (good, said) = run_systemctl(words).await?;
    if good {
        return Ok(());
    }
    Err(failed(format!(
        "systemctl {}: {}",
        words.join(" "),
        said.trim()
    )))
}

/// Whether a unit is active.
pub(super) async fn active(unit: &str) -> bool {
    matches!(
        run_systemctl(&["is-active", "--quiet", unit]).await,
        Ok((true, _))
    )
}

async fn run_systemctl(words: &[&str]) -> Result<(bool, String), HostError> {
    let running = Command::new("systemctl")
        .args(words)
        .stdin(Stdio::null())
        .kill_on_drop(true)
        .output();
    match tokio::time::timeout(SYSTEMCTL, running).await {
        Err(_) => Err(failed(format!(
            "systemctl {} took longer than {} s",
            words.join(" "),
            SYSTEMCTL.as_secs()
        ))),
        Ok(Err(e)) => Err(failed(format!("cannot run systemctl: {e}"))),
        Ok(Ok(output)) => Ok((
            output.status.success(),
            String::from_utf8_lossy(&output.stderr).into_owned(),
        )),
    }
}

/// Looks at OVN on this machine. Never fails: what cannot be read is told in the report.
pub(super) async fn report(paths: &OvnPaths) -> OvnReport {
    if !paths.installed() {
        return OvnReport::default();
    }
    let looked = tokio::time::timeout(LOOK, async {
        tokio::join!(ovn_central::report(paths), ovn_chassis::report(paths))
    });
    let mut report = OvnReport {
        installed: true,
        kernel_datapath: paths.kernel_datapath(),
        authority: ovn_tls::authority_report(paths),
        certificate: ovn_tls::certificate_report(paths),
        ..OvnReport::default()
    };
    match looked.await {
        Ok((central, chassis)) => {
            report.central = central;
            match chassis {
                Ok((version, chassis)) => {
                    report.ovs_version = version;
                    report.chassis = chassis;
                }
                Err(e) => report.problem = Some(e.to_string()),
            }
        }
        Err(_) => {
            report.problem = Some(format!("it did not answer within {} s", LOOK.as_secs()));
        }
    }
    report
}

/// The chassis a southbound database has.
pub(super) async fn chassis_rows(client: &Client) -> Result<Vec<ChassisRow>, OvsdbError> {
    let chassis: Vec<Chassis> = client.rows(SOUTHBOUND).await?;
    let encaps: Vec<Encap> = client.rows(SOUTHBOUND).await?;
    let mut rows: Vec<ChassisRow> = chassis
        .into_iter()
        .map(|c| {
            let mut ends: Vec<String> = encaps
                .iter()
                .filter(|e| c.encaps.0.contains(&e.id))
                .map(|e| format!("{} {}", e.encap_type, e.ip))
                .collect();
            ends.sort();
            ChassisRow {
                name: c.name,
                hostname: c.hostname,
                encaps: ends,
            }
        })
        .collect();
    rows.sort();
    Ok(rows)
}

/// Leave to do what is asked of OVN, until dropped: one change at a time, while what only makes or
/// reads files works beside it.
#[derive(Debug)]
pub struct OvnTurn<'a> {
    _alone: Option<MutexGuard<'a, ()>>,
}

impl LocalHost {
    /// Waits until it is a request's turn. Whether the one who asks may still do so is to be looked
    /// at afterwards: another one may have taken over meanwhile.
    ///
    /// # Errors
    /// The change before it does not end.
    pub async fn ovn_turn(&self, request: &OvnRequest) -> Result<OvnTurn<'_>, HostError> {
        let alone = !matches!(
            request,
            OvnRequest::ShareAuthority | OvnRequest::Sign { .. } | OvnRequest::AwaitChange { .. }
        );
        let _alone = match alone {
            true => Some(self.one_ovn_change().await?),
            false => None,
        };
        Ok(OvnTurn { _alone })
    }

    /// Does what is asked of this machine's OVN. Done already is done.
    ///
    /// # Errors
    /// What was expected does not hold any more, or it failed.
    pub async fn ovn(
        &self,
        _turn: OvnTurn<'_>,
        request: OvnRequest,
    ) -> Result<OvnAnswer, HostError> {
        let paths = &self.ovn_paths();
        let now = Timestamp::now();
        match request {
            OvnRequest::AwaitChange { .. } => {}
            OvnRequest::ShareAuthority => {
                let kept = ovn_tls::read_authority(paths)?;
                let material = kept.ok_or_else(|| HostError::GuardFailed {
                    reason: "the authority for OVN is not kept here".to_owned(),
                })?;
                return Ok(OvnAnswer::Authority(material));
            }
            OvnRequest::Sign {
                request,
                name,
                addresses,
            } => {
                let (certificate, authority) =
                    ovn_tls::sign(paths, &request, &name, &addresses, now)?;
                return Ok(OvnAnswer::Certificate {
                    certificate,
                    authority,
                });
            }
            OvnRequest::MakeAuthority => ovn_tls::make_authority(paths, now)?,
            OvnRequest::TakeAuthority(material) => ovn_tls::keep_authority(paths, &material)?,
            OvnRequest::RequestCertificate { name, addresses } => {
                self.is_meant(&name)?;
                let request = ovn_tls::request(paths, &name, &addresses)?;
                return Ok(OvnAnswer::SigningRequest(request));
            }
            OvnRequest::TakeCertificate {
                certificate,
                authority,
            } => ovn_tls::take(paths, &certificate, &authority)?,
            OvnRequest::Central(config) => ovn_central::hold(paths, &config).await?,
            OvnRequest::Listen(config) => ovn_central::listen_all(paths, &config).await?,
            OvnRequest::LeaveCentral(told) => ovn_leave::leave(paths, &told).await?,
            OvnRequest::Kick { database, server } => {
                ovn_central::kick(paths, database, &server).await?;
            }
            OvnRequest::Chassis(config) => {
                self.is_meant(&config.name)?;
                ovn_chassis::carry(paths, &config).await?;
            }
            OvnRequest::Forget => ovn_chassis::forget(paths).await?,
            OvnRequest::RestartController => systemctl(&["restart", "ovn-controller"]).await?,
            OvnRequest::DeleteChassis { name } => ovn_central::delete_chassis(paths, &name).await?,
        }
        Ok(OvnAnswer::Done)
    }
}
