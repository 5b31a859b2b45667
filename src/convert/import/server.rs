//! The preseeds of `lxd init` and `incus admin init` to resources: the file of the server that
//! forms a cluster (or stands alone), with those of the servers that join it.

use super::reader::{Reader, Tree};
use super::server_file::{Cluster, MemberKey, Network, Preseed};
use super::sketch::{Sketch, list};
use super::{CLOUD, Format, Options, Sketched};
use crate::catalog::{self, Owner, Scope};
use crate::convert::own;
use crate::resources::positions::{Step, at};
use crate::resources::text::Span;
use crate::resources::value::{Config, ConfigValue, Mode};
use crate::resources::{Diagnostic, Kind};
use base64::Engine as _;
use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};

/// Where LXD looks for OVN's northbound database unless it is told.
const NORTHBOUND: &str = "unix:/run/ovn/ovnnb_db.sock";

/// One file and who it is about.
struct File {
    preseed: Preseed,
    reader: Reader,
    name: String,
    address: Option<IpAddr>,
    joins: bool,
}

/// Reads the preseeds of all servers of one cluster.
///
/// # Errors
/// Everything that is wrong with them.
pub fn import(
    trees: Vec<Tree>,
    format: Format,
    options: &Options,
) -> Result<Vec<Sketched>, Vec<Diagnostic>> {
    let mut wrong = Vec::new();
    let mut files = Vec::new();
    for tree in trees {
        match Reader::decode::<Preseed>(tree, "the preseed") {
            Ok((preseed, reader)) => files.push(File::new(preseed, reader, options)),
            Err(found) => wrong.extend(found),
        }
    }
    let first = files.iter().position(|f| !f.joins);
    for (place, file) in files.iter_mut().enumerate() {
        if !file.joins && first.is_some_and(|first| first != place) {
            file.reader.wrong_key(
                at!["cluster"],
                "a second server that forms a cluster",
                "give the file of one such server, with those of the servers that join it",
            );
        }
        wrong.append(&mut file.reader.wrong);
    }
    if !wrong.is_empty() {
        return Err(wrong);
    }
    let mut made = Vec::new();
    let mut pools: BTreeMap<String, String> = BTreeMap::new();
    let mut sketches = Vec::new();
    if let Some(first) = first {
        let mut file = files.remove(first);
        let mut maker = Maker {
            sketches: Vec::new(),
            format,
        };
        maker.whole(&mut file, options);
        pools = maker.drivers(&file);
        sketches = maker.sketches;
        made.push((file, Vec::new()));
    }
    let alone = made.is_empty();
    for mut file in files {
        let own = joiner(&mut file, &mut sketches, &pools, alone);
        made.push((file, own));
    }
    // What one file says of another's pools stands with the pools: in the first file.
    let mut sketched = Vec::new();
    for (place, (file, own)) in made.into_iter().enumerate() {
        let all = match (place, alone) {
            (0, false) => std::mem::take(&mut sketches),
            _ => own,
        };
        sketched.push(Sketched {
            sketches: all,
            beside: if alone { beside() } else { Vec::new() },
            reader: file.reader,
        });
    }
    Ok(sketched)
}

/// What there is already where only servers that join are given.
fn beside() -> Vec<serde_json::Value> {
    vec![serde_json::json!({
        "apiVersion": crate::resources::object::API_VERSION,
        "kind": "Cluster", "metadata": { "name": CLOUD }, "spec": { "initiator": "first" },
        "origin": { "source": "applied", "file": "the cluster", "line": 1 },
    })]
}

impl File {
    fn new(preseed: Preseed, reader: Reader, options: &Options) -> File {
        let mut file = File {
            joins: preseed.cluster.as_ref().is_some_and(joins),
            preseed,
            reader,
            name: String::new(),
            address: None,
        };
        file.how_it_joins();
        file.find_name(options);
        file.find_address(options);
        file
    }

    /// The rules of the section `cluster`.
    fn how_it_joins(&mut self) {
        let Some(cluster) = &self.preseed.cluster else {
            return;
        };
        let reader = &mut self.reader;
        if !self.joins {
            return;
        }
        if !cluster.enabled {
            reader.wrong_key(
                at!["cluster"],
                "the server joins a cluster, and `enabled` is not true",
                "write `enabled: true`",
            );
        }
        if cluster.server_address.is_none() {
            reader.wrong_key(
                at!["cluster"],
                "`server_address` is missing: a server that joins needs it",
                "write the address the other members reach it by",
            );
        }
        if cluster.cluster_token.is_some() && cluster.cluster_password.is_some() {
            reader.wrong_key(
                at!["cluster", "cluster_password"],
                "`cluster_token` and `cluster_password` exclude each other",
                "remove one of them",
            );
        }
        if cluster.cluster_token.is_none() && cluster.cluster_password.is_none() {
            reader.wrong_key(
                at!["cluster"],
                "a server that joins needs `cluster_token` or `cluster_password`",
                "`lxc cluster add NAME` prints a token",
            );
        }
        if cluster.cluster_password.is_some() {
            if cluster.cluster_address.is_none() {
                reader.wrong_key(
                    at!["cluster", "cluster_password"],
                    "`cluster_password` needs `cluster_address`",
                    "write the address of a member of the cluster",
                );
            }
            match (
                &cluster.cluster_certificate,
                &cluster.cluster_certificate_path,
            ) {
                (None, None) => reader.wrong_key(
                    at!["cluster", "cluster_password"],
                    "`cluster_password` needs `cluster_certificate` or `cluster_certificate_path`",
                    "the certificate is `cluster.crt` in LXD's directory on a member",
                ),
                (Some(_), Some(_)) => reader.wrong_key(
                    at!["cluster", "cluster_certificate_path"],
                    "`cluster_certificate` and `cluster_certificate_path` exclude each other",
                    "remove one of them",
                ),
                _ => {}
            }
        }
    }

    fn find_name(&mut self, options: &Options) {
        let cluster = self.preseed.cluster.as_ref();
        let given = cluster.and_then(|c| c.server_name.clone());
        let of_token = match cluster.and_then(|c| c.cluster_token.as_deref()) {
            Some(token) => match name_in_token(token) {
                Some(name) => Some(name),
                None => {
                    self.reader.wrong(
                        at!["cluster", "cluster_token"],
                        "this is no join token",
                        "`lxc cluster add NAME` prints one",
                    );
                    return;
                }
            },
            None => None,
        };
        if let (Some(given), Some(of_token)) = (&given, &of_token)
            && given != of_token
        {
            self.reader.wrong(
                at!["cluster", "server_name"],
                format!("the token is for `{of_token}`, not for `{given}`"),
                "a server joins under the name its token was made for",
            );
        }
        let only = match options.addresses.len() {
            1 => options.addresses.keys().next().cloned(),
            _ => None,
        };
        match given.or(of_token).or(only) {
            Some(name) => self.name = name,
            None => self.reader.wrong_key(
                at!["cluster"],
                "the name of the server is not in the file",
                "run again with --address HOSTNAME=ADDRESS",
            ),
        }
    }

    fn find_address(&mut self, options: &Options) {
        if self.name.is_empty() {
            return;
        }
        let of_config = |key: &str| match self.preseed.config.get(key) {
            Some(ConfigValue::Plain(text)) => host_of(text),
            _ => None,
        };
        let cluster = self.preseed.cluster.as_ref();
        let own = cluster.and_then(|c| c.server_address.as_deref());
        let found = options
            .addresses
            .get(&self.name)
            .copied()
            .or_else(|| own.and_then(host_of))
            .or_else(|| of_config("cluster.https_address"))
            .or_else(|| of_config("core.https_address"));
        let path: &[Step<'_>] = match (own, self.preseed.config.contains_key("core.https_address"))
        {
            (Some(_), _) => at!["cluster", "server_address"],
            (None, true) => at!["config", "core.https_address"],
            (None, false) => at!["cluster", "server_name"],
        };
        if found.is_none() && !(self.joins && own.is_none()) {
            self.reader.wrong(
                path,
                format!("the address of `{}` is not in the file", self.name),
                &format!("run again with --address {}=ADDRESS", self.name),
            );
        }
        self.address = found;
    }

    fn address_at(&self) -> Span {
        let own = self.preseed.cluster.as_ref();
        match own.is_some_and(|c| c.server_address.is_some()) {
            true => self.reader.at(at!["cluster", "server_address"]),
            false => self.reader.at(at!["config", "core.https_address"]),
        }
    }

    fn member(&self) -> Sketch {
        let at = self.reader.at(at!["cluster", "server_name"]);
        let mut member = Sketch::new(Kind::Member, &self.name, at);
        if let Some(address) = self.address {
            member.text(&["address"], address.to_string(), self.address_at());
        }
        member
    }
}

/// Whether a server joins a cluster that is there.
fn joins(cluster: &Cluster) -> bool {
    cluster.cluster_token.is_some()
        || cluster.cluster_password.is_some()
        || cluster.cluster_address.is_some()
}

/// The name a token was made for. Nothing else of it is kept.
fn name_in_token(token: &str) -> Option<String> {
    let bytes = base64::engine::general_purpose::STANDARD
        .decode(token.trim())
        .ok()?;
    let json: serde_json::Value = serde_json::from_slice(&bytes).ok()?;
    let name = json.get("server_name")?.as_str()?;
    (!name.is_empty()).then(|| name.to_owned())
}

/// The address in `ADDRESS:PORT`, unless it stands for every address.
fn host_of(text: &str) -> Option<IpAddr> {
    let bare = text.trim_start_matches('[').trim_end_matches(']');
    let address = match text.parse::<SocketAddr>() {
        Ok(socket) => socket.ip(),
        Err(_) => bare.parse().ok()?,
    };
    (!address.is_unspecified()).then_some(address)
}

/// What one server that joins says: itself, and what it gives to the pools and networks.
fn joiner(
    file: &mut File,
    sketches: &mut [Sketch],
    pools: &BTreeMap<String, String>,
    alone: bool,
) -> Vec<Sketch> {
    let mut member = file.member();
    secrets_of_joining(file, &mut member);
    for (section, given) in [
        ("config", !file.preseed.config.is_empty()),
        ("networks", !file.preseed.networks.is_empty()),
        ("storage_pools", !file.preseed.storage_pools.is_empty()),
        ("storage_volumes", !file.preseed.storage_volumes.is_empty()),
        ("profiles", !file.preseed.profiles.is_empty()),
        ("projects", !file.preseed.projects.is_empty()),
        ("certificates", !file.preseed.certificates.is_empty()),
    ] {
        if given {
            file.reader.warn(
                at![section],
                format!("`{section}` is left out: a server that joins takes it from the cluster"),
                "",
            );
        }
    }
    let keys: Vec<MemberKey> = match &mut file.preseed.cluster {
        Some(cluster) => std::mem::take(&mut cluster.member_config),
        None => Vec::new(),
    };
    for (place, key) in keys.iter().enumerate() {
        let path = at!["cluster", "member_config", place];
        member_key(file, key, path, sketches, pools, alone);
    }
    if alone {
        member.note(
            "To be applied beside the resources of the cluster that is there: this file adds a \
             member to it.",
        );
    }
    // The first file's own text holds the trees of pools; a member stands with its own.
    vec![member]
}

/// One entry of `member_config`.
fn member_key(
    file: &mut File,
    key: &MemberKey,
    path: &[Step<'_>],
    sketches: &mut [Sketch],
    pools: &BTreeMap<String, String>,
    alone: bool,
) {
    let value = match &key.value {
        Some(ConfigValue::Plain(text)) => text.clone(),
        None => String::new(),
        Some(_) => {
            let path = [path, at!["value"]].concat();
            return file
                .reader
                .wrong(&path, "`value` must be text", "write the value itself");
        }
    };
    let kinds: &[Kind] = match key.entity.as_str() {
        "storage-pool" => &[Kind::StoragePool],
        "network" => &[Kind::Uplink, Kind::Network],
        _ => {
            let path = [path, at!["entity"]].concat();
            return file.reader.wrong(
                &path,
                format!("`entity` cannot be `{}`", key.entity),
                "one of `storage-pool` and `network`",
            );
        }
    };
    if alone {
        if !value.is_empty() {
            let path = [path, at!["key"]].concat();
            file.reader.warn(
                &path,
                format!(
                    "`{}` of {} `{}` is not written",
                    key.key, key.entity, key.name
                ),
                "give the file of the server that forms the cluster as well, or add it to the \
                 resource that is there",
            );
        }
        return;
    }
    let found = sketches
        .iter_mut()
        .find(|s| kinds.contains(&s.kind) && s.name == key.name);
    let Some(sketch) = found else {
        let path = [path, at!["name"]].concat();
        return file.reader.wrong(
            &path,
            format!("there is no {} `{}`", key.entity, key.name),
            "the server that forms the cluster makes it",
        );
    };
    // The tree of a pool has positions of the first file.
    let at = Span::default();
    match sketch.kind {
        Kind::StoragePool => {
            let driver = pools.get(&key.name).map_or("", String::as_str);
            if key.key == "driver" {
                if value != driver {
                    let path = [path, at!["value"]].concat();
                    file.reader.wrong(
                        &path,
                        format!("the pool `{}` has the driver `{driver}`", key.name),
                        "all members have one driver for a pool",
                    );
                }
                return;
            }
            if own::chosen_by_lxd(driver, &key.name, &key.key, &value) {
                return;
            }
            pool_key(sketch, &file.name, &key.key, &value, at);
        }
        Kind::Uplink if key.key == "parent" => {
            sketch.text(&["interfaces", &file.name], value, at);
        }
        _ if !value.is_empty() => {
            sketch.text(&["members", &file.name, &key.key], value, at);
        }
        _ => {}
    }
}

fn pool_key(pool: &mut Sketch, member: &str, key: &str, value: &str, at: Span) {
    match key {
        "source" | "size" => pool.text(&["members", member, key], value, at),
        _ => pool.text(&["members", member, "config", key], value, at),
    }
}

/// What proves the right to join is never written.
fn secrets_of_joining(file: &mut File, member: &mut Sketch) {
    let Some(cluster) = &file.preseed.cluster else {
        return;
    };
    for (key, given, secret) in [
        ("cluster_token", cluster.cluster_token.is_some(), true),
        ("cluster_password", cluster.cluster_password.is_some(), true),
        (
            "cluster_certificate",
            cluster.cluster_certificate.is_some(),
            false,
        ),
        (
            "cluster_certificate_path",
            cluster.cluster_certificate_path.is_some(),
            false,
        ),
        ("cluster_address", cluster.cluster_address.is_some(), false),
    ] {
        if !given {
            continue;
        }
        let why = match secret {
            true => "it is a secret, and the controller makes its own token",
            false => "the controller knows the cluster it lets members join",
        };
        file.reader.warn(
            at!["cluster", key],
            format!("`{key}` is left out: {why}"),
            "",
        );
        if secret {
            member.note(format!(
                "`{key}` was left out: it is a secret. The controller makes a token of its own \
                 when this member joins; write `fingerprint` (`microcloud agent fingerprint` \
                 prints it there) to admit its agent."
            ));
        }
    }
}

struct Maker {
    sketches: Vec<Sketch>,
    format: Format,
}

impl Maker {
    /// Everything the server that forms the cluster says.
    fn whole(&mut self, file: &mut File, options: &Options) {
        let at = file.reader.at(at![]);
        let mut cluster = Sketch::new(Kind::Cluster, CLOUD, at);
        let name_at = file.reader.at(at!["cluster", "server_name"]);
        cluster.text(&["initiator"], &file.name, name_at);
        if self.format == Format::Incus {
            cluster.text(&["instances"], "incus", at);
        }
        if options.mode.unwrap_or(Mode::Report) == Mode::Report {
            cluster.text(&["mode"], "Report", at);
            cluster.note(
                "`mode: Report`: differences are shown (`microcloud diff`, `microcloud status`) \
                 and nothing is written outside the project `microcloud`. Remove it, or write \
                 Enforce, when they are what you want.",
            );
        }
        let mut member = file.member();
        secrets_of_joining(file, &mut member);
        self.server_keys(file, &mut cluster, &mut member);
        self.below(file, &mut cluster);
        self.sketches.push(cluster);
        self.sketches.push(member);
        self.networks(file);
        self.pools(file);
        self.projects(file);
        self.profiles(file);
        self.left_out(file);
    }

    /// OVN and Ceph that the networks and pools stand on.
    fn below(&self, file: &File, cluster: &mut Sketch) {
        let networks = &file.preseed.networks;
        let key = "network.ovn.northbound_connection";
        let connection = match file.preseed.config.get(key) {
            Some(ConfigValue::Plain(text)) if !text.is_empty() => Some(text.as_str()),
            _ => None,
        };
        let ovn = networks
            .iter()
            .position(|n| n.network_type.as_deref() == Some("ovn"));
        if ovn.is_some() || connection.is_some() {
            let at = match (connection, ovn) {
                (Some(_), _) => file.reader.at(at!["config", key]),
                (None, place) => file.reader.at(at!["networks", place.unwrap_or_default()]),
            };
            cluster.text(&["ovn", "provider"], "external", at);
            let addresses = connection.unwrap_or(NORTHBOUND).split(',');
            let addresses = addresses.map(|a| a.trim().to_owned());
            cluster.set(&["ovn", "northbound"], list(addresses, at));
            cluster.note(
                "`ovn.provider: external`: the file says nothing of who runs OVN. Write `packaged` \
                 (and remove `northbound`) to have it formed here.",
            );
        }
        let ceph = file
            .preseed
            .storage_pools
            .iter()
            .position(|p| matches!(p.driver.as_str(), "ceph" | "cephfs" | "cephobject"));
        if let Some(place) = ceph {
            let at = file.reader.at(at!["storage_pools", place, "driver"]);
            cluster.text(&["ceph", "provider"], "external", at);
            cluster.note(
                "`ceph.provider: external`: the file says nothing of who runs Ceph. Write \
                 `packaged` to have it formed here.",
            );
        }
    }

    fn server_keys(&self, file: &mut File, cluster: &mut Sketch, member: &mut Sketch) {
        for (key, value) in &file.preseed.config {
            let path = at!["config", key];
            let Some(value) = plain(&mut file.reader, path, value) else {
                continue;
            };
            let facts = catalog::facts(Owner::Server, key);
            let at = file.reader.at(path);
            if facts.secret {
                secret(&mut file.reader, path, key, cluster);
            } else if key == "cluster.https_address" {
                if value.parse().ok() != file.address.map(|ip| SocketAddr::new(ip, 8443)) {
                    file.reader.warn(
                        path,
                        format!("`{key}` is left out: it follows from `address` of the Member"),
                        "its port is 8443",
                    );
                }
            } else if key == "network.ovn.northbound_connection" {
                // It is `ovn.northbound` of the Cluster.
            } else if key == "user.microcloud" || key.starts_with("user.microcloud.") {
                let message = format!("`{key}` is left out: it is this program's own");
                file.reader.warn(path, message, "");
            } else if facts.scope == Scope::Member {
                member.text(&["config", key], value, at);
            } else {
                cluster.text(&["config", key], value, at);
            }
        }
    }

    fn networks(&mut self, file: &mut File) {
        let networks = std::mem::take(&mut file.preseed.networks);
        for (place, network) in networks.iter().enumerate() {
            let path = at!["networks", place];
            let kind = network.network_type.as_deref();
            match kind.filter(|k| !k.is_empty()).unwrap_or("bridge") {
                "physical" => self.uplink(file, network, path),
                kind @ ("bridge" | "ovn") => self.network(file, network, kind, path),
                other => {
                    let path = [path, at!["type"]].concat();
                    file.reader.warn(
                        &path,
                        format!("the network `{}` is left out", network.name),
                        &format!("networks of type `{other}` are not managed"),
                    );
                }
            }
        }
        file.preseed.networks = networks;
    }

    fn uplink(&mut self, file: &mut File, network: &Network, path: &[Step<'_>]) {
        let at = file.reader.at(&[path, at!["name"]].concat());
        let mut uplink =
            Sketch::new(Kind::Uplink, &network.name, at).in_project(network.project.as_deref());
        description(&mut uplink, &network.description, at);
        for (key, value) in &network.config {
            let path = &[path, at!["config", key]].concat();
            let Some(value) = plain(&mut file.reader, path, value) else {
                continue;
            };
            let at = file.reader.at(path);
            let items = || value.split(',').map(|v| v.trim().to_owned());
            if catalog::facts(Owner::Network("physical"), key).secret {
                secret(&mut file.reader, path, key, &mut uplink);
                continue;
            }
            match key.as_str() {
                key if own::is_memory(key) || value.is_empty() => {}
                "parent" => uplink.text(&["interfaces", &file.name], value, at),
                "ipv4.gateway" => uplink.text(&["ipv4", "gateway"], value, at),
                "ipv6.gateway" => uplink.text(&["ipv6", "gateway"], value, at),
                "ipv4.ovn.ranges" => uplink.set(&["ipv4", "ranges"], list(items(), at)),
                "ipv6.ovn.ranges" => uplink.set(&["ipv6", "ranges"], list(items(), at)),
                "dns.nameservers" => uplink.set(&["dns"], list(items(), at)),
                "vlan" | "mtu" => uplink.word(&[key.as_str()], value, at),
                _ => uplink.text(&["config", key], value, at),
            }
        }
        self.sketches.push(uplink);
    }

    fn network(&mut self, file: &mut File, network: &Network, kind: &str, path: &[Step<'_>]) {
        let at = file.reader.at(&[path, at!["name"]].concat());
        let mut sketch =
            Sketch::new(Kind::Network, &network.name, at).in_project(network.project.as_deref());
        description(&mut sketch, &network.description, at);
        let mode = network.config.get("bridge.mode");
        let fan = kind == "bridge" && mode == Some(&ConfigValue::Plain("fan".to_owned()));
        sketch.text(&["type"], if fan { "fan" } else { kind }, at);
        for (key, value) in &network.config {
            let path = &[path, at!["config", key]].concat();
            let Some(value) = plain(&mut file.reader, path, value) else {
                continue;
            };
            let at = file.reader.at(path);
            let facts = catalog::facts(Owner::Network(kind), key);
            match key.as_str() {
                key if own::is_memory(key) => {}
                "bridge.mode" if matches!(value, "fan" | "standard" | "") => {}
                "network" if kind == "ovn" => sketch.text(&["uplink"], value, at),
                _ if facts.secret => secret(&mut file.reader, path, key, &mut sketch),
                _ if facts.scope == Scope::Member => {
                    sketch.text(&["members", &file.name, key], value, at);
                }
                _ => sketch.text(&["config", key], value, at),
            }
        }
        self.sketches.push(sketch);
    }

    /// The drivers of the pools.
    fn drivers(&self, file: &File) -> BTreeMap<String, String> {
        let pools = file.preseed.storage_pools.iter();
        pools.map(|p| (p.name.clone(), p.driver.clone())).collect()
    }

    fn pools(&mut self, file: &mut File) {
        let pools = std::mem::take(&mut file.preseed.storage_pools);
        for (place, pool) in pools.iter().enumerate() {
            let path = at!["storage_pools", place];
            let at = file.reader.at(&[path, at!["name"]].concat());
            let mut sketch = Sketch::new(Kind::StoragePool, &pool.name, at);
            let driver_at = file.reader.at(&[path, at!["driver"]].concat());
            sketch.text(&["driver"], &pool.driver, driver_at);
            description(&mut sketch, &pool.description, at);
            for (key, value) in &pool.config {
                let path = &[path, at!["config", key]].concat();
                let Some(value) = plain(&mut file.reader, path, value) else {
                    continue;
                };
                let at = file.reader.at(path);
                let facts = catalog::facts(Owner::Pool(&pool.driver), key);
                if facts.secret {
                    secret(&mut file.reader, path, key, &mut sketch);
                } else if own::chosen_by_lxd(&pool.driver, &pool.name, key, value) {
                    // LXD chooses the same again.
                } else if facts.scope == Scope::Member {
                    pool_key(&mut sketch, &file.name, key, value, at);
                } else {
                    sketch.text(&["config", key], value, at);
                }
            }
            self.sketches.push(sketch);
        }
        file.preseed.storage_pools = pools;
    }

    fn projects(&mut self, file: &mut File) {
        let projects = std::mem::take(&mut file.preseed.projects);
        for (place, project) in projects.iter().enumerate() {
            let path = at!["projects", place];
            let at = file.reader.at(&[path, at!["name"]].concat());
            let mut sketch = Sketch::new(Kind::Project, &project.name, at);
            description(&mut sketch, &project.description, at);
            let path = [path, at!["config"]].concat();
            keys(
                &mut file.reader,
                &path,
                &project.config,
                Owner::Project,
                &["config"],
                &mut sketch,
            );
            self.sketches.push(sketch);
        }
    }

    fn profiles(&mut self, file: &mut File) {
        let profiles = std::mem::take(&mut file.preseed.profiles);
        for (place, profile) in profiles.iter().enumerate() {
            let path = at!["profiles", place];
            let at = file.reader.at(&[path, at!["name"]].concat());
            let mut sketch = Sketch::new(Kind::Profile, &profile.name, at)
                .in_project(profile.project.as_deref());
            description(&mut sketch, &profile.description, at);
            let config = [path, at!["config"]].concat();
            keys(
                &mut file.reader,
                &config,
                &profile.config,
                Owner::Profile,
                &["config"],
                &mut sketch,
            );
            for (name, device) in &profile.devices {
                let path = [path, at!["devices", name]].concat();
                let kind = match device.get("type") {
                    Some(ConfigValue::Plain(kind)) => kind.clone(),
                    _ => String::new(),
                };
                keys(
                    &mut file.reader,
                    &path,
                    device,
                    Owner::Device(&kind),
                    &["devices", name],
                    &mut sketch,
                );
            }
            self.sketches.push(sketch);
        }
    }

    /// What resources do not speak of.
    fn left_out(&self, file: &mut File) {
        for place in 0..file.preseed.storage_volumes.len() {
            let name = &file.preseed.storage_volumes[place].name;
            let message = format!("the volume `{name}` is left out: volumes are not managed");
            file.reader.warn(
                at!["storage_volumes", place],
                message,
                "it stays as it is; on an empty host make it by hand",
            );
        }
        for place in 0..file.preseed.certificates.len() {
            let name = file.preseed.certificates[place].name.clone();
            let name = name.unwrap_or_default();
            file.reader.warn(
                at!["certificates", place],
                format!("the certificate `{name}` is left out: clients are not managed"),
                "add it by hand with `incus config trust add-certificate`",
            );
        }
        let keys = file.preseed.cluster.as_ref();
        if keys.is_some_and(|c| !c.member_config.is_empty()) {
            file.reader.warn(
                at!["cluster", "member_config"],
                "`member_config` is left out: it is for servers that join",
                "",
            );
        }
    }
}

fn description(sketch: &mut Sketch, text: &Option<String>, at: Span) {
    if let Some(text) = text.as_deref().filter(|t| !t.is_empty()) {
        sketch.text(&["description"], text, at);
    }
}

/// Copies a configuration as it is, without the service's own memory and without secrets.
fn keys(
    reader: &mut Reader,
    path: &[Step<'_>],
    config: &Config,
    owner: Owner<'_>,
    to: &[&str],
    sketch: &mut Sketch,
) {
    for (key, value) in config {
        let path = &[path, at![key]].concat();
        let Some(value) = plain(reader, path, value) else {
            continue;
        };
        if catalog::facts(owner, key).secret {
            secret(reader, path, key, sketch);
        } else if !own::is_memory(key) {
            let at = reader.at(path);
            sketch.text(&[to, &[key.as_str()]].concat(), value, at);
        }
    }
}

/// Says that a secret was left out, and how it is given.
fn secret(reader: &mut Reader, path: &[Step<'_>], key: &str, sketch: &mut Sketch) {
    reader.warn(
        path,
        format!("`{key}` is left out: a secret is never written to resources"),
        "write where to read it: {file: PATH} or {credential: NAME}",
    );
    sketch.note(format!(
        "`{key}` was left out: it is a secret. To have it held, write where to read it: `{key}: \
         {{credential: NAME}}` or `{{file: PATH}}`."
    ));
}

/// The value of a key in a file that holds values only.
fn plain<'a>(reader: &mut Reader, path: &[Step<'_>], value: &'a ConfigValue) -> Option<&'a str> {
    match value {
        ConfigValue::Plain(text) => Some(text),
        _ => {
            reader.wrong(
                path,
                "a preseed holds values themselves",
                "references are for resources",
            );
            None
        }
    }
}
