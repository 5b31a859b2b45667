//! Which packets get from one machine to another: asked of the one that sends.

use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::net::IpAddr;

/// Asks a machine which packets get from one of its addresses to other machines.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct PathsRequest {
    /// The machine's own address on the network that is tried.
    pub from: IpAddr,
    /// The other machines' addresses on it; an agent must listen there.
    pub to: Vec<IpAddr>,
}

/// Which packets get through.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct PathsReport {
    /// The MTU of the interface that has the address, or how large a packet is tried at most; 0 when
    /// no interface has it.
    pub mtu: u32,
    /// What gets through, by the other machine's address.
    pub paths: BTreeMap<IpAddr, Reach>,
}

/// What gets to another machine.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum Reach {
    /// Packets of this many bytes that are not taken to pieces on the way, and none larger.
    Packets(u32),
    /// The agent's connections, but not the packets by which the size is found out.
    ConnectionsOnly,
    /// Nothing.
    Nothing,
}
