//! What `init` and `service add` ask about Ceph and OVN, with the flags that answer it.

use super::ask::Asker;
use super::machines::{self, Share};
use crate::cli::error::CommandError;
use crate::cli::output::tell;
use crate::resources::setup::{DistributedNetwork, DistributedStorage, SetupDisk, SetupMember};
use crate::services::host::HostReport;
use ipnet::IpNet;
use std::collections::BTreeSet;
use std::net::IpAddr;
use std::str::FromStr;

/// Flags about distributed storage.
#[derive(Debug, clap::Args)]
pub struct CephArgs {
    /// A disk for distributed storage
    #[arg(long, value_name = "MEMBER=PATH")]
    pub ceph_disk: Vec<String>,

    /// No distributed storage
    #[arg(long, conflicts_with = "ceph_disk")]
    pub no_ceph: bool,

    /// A file system on the distributed storage
    #[arg(long)]
    pub cephfs: bool,

    /// The subnet of Ceph's clients and monitors
    #[arg(long, value_name = "CIDR")]
    pub ceph_public_network: Option<IpNet>,

    /// The subnet of Ceph's replication
    #[arg(long, value_name = "CIDR")]
    pub ceph_internal_network: Option<IpNet>,
}

/// Flags about distributed networking.
#[derive(Debug, clap::Args)]
pub struct OvnArgs {
    /// The interface that leads outside: for all machines, or MEMBER=NAME
    #[arg(long, value_name = "NAME")]
    pub uplink: Vec<String>,

    /// No distributed networking
    #[arg(long, conflicts_with = "uplink")]
    pub no_ovn: bool,

    /// The gateway outside, with the prefix length
    #[arg(long, value_name = "CIDR")]
    pub ipv4_gateway: Option<String>,

    /// Addresses outside that may be taken
    #[arg(long, value_name = "FIRST-LAST")]
    pub ipv4_range: Option<String>,

    /// The gateway outside, with the prefix length
    #[arg(long, value_name = "CIDR")]
    pub ipv6_gateway: Option<String>,

    /// Name servers
    #[arg(long, value_delimiter = ',', value_name = "IP")]
    pub dns: Vec<IpAddr>,

    /// A subnet of its own for tunnels between the machines
    #[arg(long, value_name = "CIDR")]
    pub underlay: Option<IpNet>,
}

/// Which disks and subnets Ceph is given; none when it is not wanted. `wipe` says that chosen disks may
/// be destroyed.
///
/// # Errors
/// A flag names what there is not, or nobody was asked.
pub async fn ceph(
    args: &CephArgs,
    wipe: bool,
    reports: &[&HostReport],
    taken: Vec<SetupDisk>,
    ask: &mut Asker,
) -> Result<Option<DistributedStorage>, CommandError> {
    let flagged = !args.ceph_disk.is_empty();
    let wanted = if args.no_ceph || ask.silent() || flagged {
        flagged
    } else {
        ask.yes_no("Distributed storage with Ceph?", true).await?
    };
    if !wanted {
        return Ok(None);
    }
    let question = "Disks for distributed storage:";
    let disks = machines::disks(
        question,
        &args.ceph_disk,
        Share::Some,
        wipe,
        reports,
        &taken,
        ask,
    )
    .await?;
    let hosts: BTreeSet<&str> = disks.iter().map(|d| d.member.as_str()).collect();
    if hosts.len() < 3 {
        tell("warning: with disks on fewer than three machines, losing one may lose data\n");
    }
    let quiet = flagged || ask.silent();
    let cephfs = match args.cephfs || quiet {
        true => args.cephfs,
        false => ask.yes_no("A file system (CephFS) on it?", true).await?,
    };
    let subnet = "(CIDR; none: the one of the machines' addresses)";
    let public_network = match args.ceph_public_network {
        None if !quiet => {
            let question = format!("The subnet of its clients and monitors {subnet}");
            ask.text(&question, Some(""), optional).await?
        }
        given => given,
    };
    let cluster_network = match args.ceph_internal_network {
        None if !quiet => {
            let question = format!("The subnet of its replication {subnet}");
            ask.text(&question, Some(""), optional).await?
        }
        given => given,
    };
    Ok(Some(DistributedStorage {
        disks,
        cephfs,
        public_network,
        cluster_network,
    }))
}

/// A value, or nothing for an empty answer.
fn optional<T: FromStr>(answer: &str) -> Result<Option<T>, String>
where
    T::Err: std::fmt::Display,
{
    if answer.is_empty() {
        return Ok(None);
    }
    answer
        .parse()
        .map(Some)
        .map_err(|e: T::Err| format!("`{answer}`: {e}"))
}

/// A gateway with its prefix length, of one family.
fn gateway(answer: &str, ipv4: bool) -> Result<Option<IpNet>, String> {
    let net: Option<IpNet> = optional(answer)?;
    match net {
        Some(net) if net.addr().is_ipv4() != ipv4 => Err(format!("{net} is of the other family")),
        net => Ok(net),
    }
}

/// How OVN goes out; none when it is not wanted. The members get their addresses for tunnels.
///
/// # Errors
/// A flag names what there is not, or nobody was asked.
pub async fn ovn(
    args: &OvnArgs,
    reports: &[&HostReport],
    members: &mut [SetupMember],
    ask: &mut Asker,
) -> Result<Option<DistributedNetwork>, CommandError> {
    let flagged = !args.uplink.is_empty();
    let wanted = if args.no_ovn || ask.silent() || flagged {
        flagged
    } else {
        ask.yes_no("Distributed networking with OVN?", true).await?
    };
    if !wanted {
        return Ok(None);
    }
    let interfaces = machines::uplinks(&args.uplink, reports, ask).await?;
    let quiet = flagged || ask.silent();
    let ipv4 = match &args.ipv4_gateway {
        None if !quiet => {
            let question = "The IPv4 gateway outside with its prefix length (such as 192.0.2.1/24)";
            ask.text(question, Some(""), |a| gateway(a, true)).await?
        }
        given => gateway(given.as_deref().unwrap_or(""), true).map_err(CommandError::Usage)?,
    };
    let ipv4 = match ipv4 {
        None => None,
        Some(net) => {
            let range = match &args.ipv4_range {
                Some(range) => range.clone(),
                None => {
                    let question = "IPv4 addresses outside that may be taken (FIRST-LAST)";
                    ask.text(question, None, |answer| match answer.contains('-') {
                        true => Ok(answer.replace(' ', "")),
                        false => Err("such as 192.0.2.100-192.0.2.200".to_owned()),
                    })
                    .await?
                }
            };
            Some((net, range))
        }
    };
    let ipv6 = match &args.ipv6_gateway {
        None if !quiet => {
            let question = "The IPv6 gateway outside with its prefix length";
            ask.text(question, Some(""), |a| gateway(a, false)).await?
        }
        given => gateway(given.as_deref().unwrap_or(""), false).map_err(CommandError::Usage)?,
    };
    let gateways: Vec<String> = ipv4
        .iter()
        .map(|(net, _)| net.addr())
        .chain(ipv6.iter().map(IpNet::addr))
        .map(|ip| ip.to_string())
        .collect();
    let dns = match args.dns.is_empty() {
        true if !quiet => {
            let parse = |answer: &str| {
                let all = answer.split(',').map(str::trim).filter(|a| !a.is_empty());
                all.map(|a| a.parse::<IpAddr>().map_err(|e| format!("`{a}`: {e}")))
                    .collect()
            };
            let default = gateways.join(",");
            ask.text("Name servers", Some(&default), parse).await?
        }
        _ => args.dns.clone(),
    };
    let underlay = match args.underlay {
        None if !quiet => {
            let question = "A subnet of its own for tunnels between the machines (CIDR)";
            ask.text(question, Some(""), optional::<IpNet>).await?
        }
        given => given,
    };
    if let Some(underlay) = &underlay {
        for (member, report) in members.iter_mut().zip(reports) {
            let address = machines::address_in(report, underlay);
            let missing =
                || CommandError::Usage(format!("{} has no address in {underlay}", report.name));
            member.underlay = Some(address.ok_or_else(missing)?);
        }
    }
    Ok(Some(DistributedNetwork {
        interfaces,
        ipv4,
        ipv6,
        dns,
        underlay,
    }))
}
