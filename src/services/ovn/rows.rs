//! The rows that are looked at, with the columns that are.

use super::value::{Map, RowId, Set};
use serde::Deserialize;
use serde::de::DeserializeOwned;

/// A row of a known table.
pub trait Row: DeserializeOwned {
    /// The table.
    const TABLE: &'static str;
    /// The columns that are read.
    const COLUMNS: &'static [&'static str];
}

macro_rules! rows {
    ($($(#[$doc:meta])* $name:ident = $table:literal { $($(#[$field_doc:meta])* $field:ident : $column:literal => $type:ty,)* })*) => {
        $(
            $(#[$doc])*
            #[derive(Debug, Clone, PartialEq, Deserialize)]
            pub struct $name {
                $($(#[$field_doc])* #[serde(rename = $column)] pub $field: $type,)*
            }

            impl Row for $name {
                const TABLE: &'static str = $table;
                const COLUMNS: &'static [&'static str] = &[$($column),*];
            }
        )*
    };
}

rows! {
    /// `_Server`: a database of the server, and how it stands in its raft.
    Database = "Database" {
        /// Such as `OVN_Northbound`.
        name: "name" => String,
        /// `standalone`, `clustered` or `relay`.
        model: "model" => String,
        /// Whether it is part of a raft that has a majority.
        connected: "connected" => bool,
        /// Whether this server leads it.
        leader: "leader" => bool,
        /// The raft.
        cid: "cid" => Set<RowId>,
        /// This server in the raft.
        sid: "sid" => Set<RowId>,
    }

    /// The whole northbound database.
    NbGlobal = "NB_Global" {
        /// The row.
        id: "_uuid" => RowId,
        /// Where it listens.
        connections: "connections" => Set<RowId>,
        /// Options; northd's version is among them.
        options: "options" => Map,
    }

    /// The whole southbound database.
    SbGlobal = "SB_Global" {
        /// The row.
        id: "_uuid" => RowId,
        /// Where it listens.
        connections: "connections" => Set<RowId>,
        /// Options; northd's version is among them.
        options: "options" => Map,
    }

    /// Where a database listens, besides its command line.
    Connection = "Connection" {
        /// The row.
        id: "_uuid" => RowId,
        /// Such as `pssl:6641`.
        target: "target" => String,
    }

    /// Northbound: a network's switch.
    LogicalSwitch = "Logical_Switch" {
        /// The row.
        id: "_uuid" => RowId,
        /// The name, such as `lxd-net2-ls-int`.
        name: "name" => String,
    }

    /// Northbound: a network's router.
    LogicalRouter = "Logical_Router" {
        /// The row.
        id: "_uuid" => RowId,
        /// The name, such as `lxd-net2-lr`.
        name: "name" => String,
    }

    /// Northbound: what a router is connected by.
    LogicalRouterPort = "Logical_Router_Port" {
        /// The name, such as `lxd-net2-lr-lrp-ext`.
        name: "name" => String,
        /// Its addresses with the lengths of their networks.
        networks: "networks" => Set<String>,
        /// The machines it may be on, when it is a network's way out.
        group: "ha_chassis_group" => Set<RowId>,
    }

    /// Northbound: the machines one of which a network goes out by.
    ChassisGroup = "HA_Chassis_Group" {
        /// The row.
        id: "_uuid" => RowId,
        /// Its machines.
        chassis: "ha_chassis" => Set<RowId>,
    }

    /// Northbound: a machine of such a group.
    GroupChassis = "HA_Chassis" {
        /// The row.
        id: "_uuid" => RowId,
        /// The machine's system-id.
        chassis_name: "chassis_name" => String,
        /// Of those that are heard the one with the highest is it.
        priority: "priority" => i64,
    }

    /// Southbound: a machine that carries traffic.
    Chassis = "Chassis" {
        /// The row.
        id: "_uuid" => RowId,
        /// The machine's system-id.
        name: "name" => String,
        /// The machine's host name.
        hostname: "hostname" => String,
        /// Its tunnel ends.
        encaps: "encaps" => Set<RowId>,
    }

    /// Southbound: what a machine says of itself.
    ChassisPrivate = "Chassis_Private" {
        /// The row.
        id: "_uuid" => RowId,
        /// The machine's system-id.
        name: "name" => String,
        /// Its `Chassis`, while it is there.
        chassis: "chassis" => Set<RowId>,
        /// The last configuration it has put in force.
        nb_cfg: "nb_cfg" => i64,
        /// When, milliseconds since 1970.
        nb_cfg_timestamp: "nb_cfg_timestamp" => i64,
    }

    /// Southbound: a tunnel end.
    Encap = "Encap" {
        /// The row.
        id: "_uuid" => RowId,
        /// `geneve`, `vxlan`.
        encap_type: "type" => String,
        /// The address.
        ip: "ip" => String,
        /// The machine's system-id.
        chassis_name: "chassis_name" => String,
    }

    /// Southbound: where a port of a network is.
    PortBinding = "Port_Binding" {
        /// The row.
        id: "_uuid" => RowId,
        /// The port, such as `cr-lxd-net2-lr-lrp-ext` for a gateway.
        logical_port: "logical_port" => String,
        /// The type, such as `chassisredirect`.
        port_type: "type" => String,
        /// The chassis that carries it.
        chassis: "chassis" => Set<RowId>,
    }

    /// Open vSwitch on one machine.
    OpenVSwitch = "Open_vSwitch" {
        /// The row.
        id: "_uuid" => RowId,
        /// What ovn-controller is told, among other things.
        external_ids: "external_ids" => Map,
        /// The version.
        ovs_version: "ovs_version" => Set<String>,
    }

    /// Open vSwitch: a bridge.
    Bridge = "Bridge" {
        /// The row.
        id: "_uuid" => RowId,
        /// The name.
        name: "name" => String,
        /// `netdev` for the userspace datapath; empty or `system` for the kernel's.
        datapath_type: "datapath_type" => String,
        /// Its ports.
        ports: "ports" => Set<RowId>,
    }

    /// Open vSwitch: what is plugged into a bridge.
    Interface = "Interface" {
        /// The name.
        name: "name" => String,
        /// `geneve` for a tunnel.
        kind: "type" => String,
        /// A tunnel's other end is `remote_ip`.
        options: "options" => Map,
        /// What is heard of the other end of a tunnel, where one listens for it.
        bfd_status: "bfd_status" => Map,
    }

    /// Open vSwitch: a port of a bridge.
    Port = "Port" {
        /// The row.
        id: "_uuid" => RowId,
        /// The name.
        name: "name" => String,
    }
}

/// The chassis that carries a network's way out, by the network's gateway port.
pub const GATEWAY_TYPE: &str = "chassisredirect";
